//! Resources and names.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{ListQuery, NameInfo, PAGE_MAX, Page, REGISTER_MAX, Register, Registered, ResourceInfo};
use sexton_ledger::{NotDone, ResourceFilter, ResourceView};
use sexton_model::catalogue::Nature;
use sexton_model::job::Stage;
use sexton_model::plan::{Performer, Plan};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{ResourceId, Subsystem};

use super::problem::{Body, Refused};
use super::{Api, By, Shared};
use crate::plans::Plans;

/// Most characters of a wrong key that an answer repeats.
const KEY_SHOWN_MAX: usize = 80;

pub(super) async fn register(
    State(api): Shared,
    By(by): By,
    Body(body): Body<Register>,
) -> Result<Json<Registered>, Refused> {
    let count = body.resources.len();
    if count == 0 || count > REGISTER_MAX {
        return Err(Refused::field(
            "resources",
            format!("resources: expected 1 to {REGISTER_MAX}, found {count}"),
        ));
    }
    let unfit: Vec<Option<String>> = body.resources.iter().map(|resource| unfit(&api, resource)).collect();
    if body.whole && unfit.iter().any(Option::is_some) {
        let rest = || NotDone::WithTheRest.to_string();
        let results = unfit.into_iter().map(|why| Some(why.unwrap_or_else(rest))).collect();
        return Ok(Json(Registered { results }));
    }
    let fit: Vec<_> =
        body.resources.into_iter().zip(&unfit).filter(|(_, why)| why.is_none()).map(|(r, _)| r).collect();
    let registered =
        if fit.is_empty() { Vec::new() } else { api.engine.ledger.register(fit, &by, body.whole).await? };
    let mut registered = registered.into_iter().map(|result| result.err().map(|e| e.to_string()));
    let results = unfit.into_iter().map(|why| why.or_else(|| registered.next().flatten())).collect();
    Ok(Json(Registered { results }))
}

/// Why nothing could ever be done about a resource: no plan, a part of it at an instance that nobody knows, or a part
/// that is not stated. A typing error there would otherwise be found on the day of the deletion.
fn unfit(api: &Api, resource: &Resource) -> Option<String> {
    let Some(plan) = api.plans.of_kind(&resource.id.kind) else {
        let kinds: Vec<_> = api.plans.kinds().map(ToString::to_string).collect();
        let kind = &resource.id.kind;
        return Some(format!("id: there is no plan for {kind}, only for {}", kinds.join(", ")));
    };
    if let Some(why) = unread(&api.plans, plan, resource).or_else(|| unstated(&api.plans, plan, resource)) {
        return Some(why);
    }
    let subsystem = resource
        .instances
        .keys()
        .find(|subsystem| !api.engine.known().any(|known| *known == resource.instance_of(subsystem)))?;
    let known: Vec<_> = api.engine.known().map(ToString::to_string).collect();
    let instance = resource.instance_of(subsystem);
    Some(format!("instances.{subsystem}: nobody knows {instance}; known are {}", known.join(", ")))
}

/// Which of the attributes no subsystem would ever read.
fn unread(plans: &Plans, plan: &Plan, resource: &Resource) -> Option<String> {
    let known: BTreeSet<&str> =
        plan.subsystems().chain(plans.catalogue().subsystems()).map(Subsystem::as_str).collect();
    let key = resource.attributes.keys().find(|key| !known.contains(key.as_str()))?;
    let short: String = key.chars().take(KEY_SHOWN_MAX).collect();
    let known: Vec<_> = known.into_iter().collect();
    Some(format!("attributes.{short}: no subsystem reads it; known are {}", known.join(", ")))
}

/// Which part is not stated, of those that its subsystem could not find by itself.
fn unstated(plans: &Plans, plan: &Plan, resource: &Resource) -> Option<String> {
    let stated = |subsystem: &Subsystem| {
        resource.attributes.get(subsystem.as_str()).is_some_and(|part| !part.is_null())
    };
    let missing = inspected(plan).find(|s| plans.catalogue().requires_attributes(s) && !stated(s))?;
    Some(format!(
        "attributes.{missing}: missing, and the plan asks {missing}; state its part, or {{\"none\": true}} if {missing} \
         holds nothing for it"
    ))
}

/// The subsystems that are asked at announce what they hold.
fn inspected(plan: &Plan) -> impl Iterator<Item = &Subsystem> {
    let steps = &plan.stage(Stage::Announce).steps;
    steps.iter().filter(|step| step.nature == Nature::Inspect).filter_map(|step| match &step.performer {
        Performer::Subsystem { subsystem, .. } => Some(subsystem),
        Performer::Coordinator(_) => None,
    })
}

fn info(view: ResourceView) -> ResourceInfo {
    ResourceInfo { resource: view.resource, presence: view.presence, live: view.live }
}

pub(super) async fn list(
    State(api): Shared,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ResourceInfo>>, Refused> {
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let filter = ResourceFilter { kind: query.kind, scope: query.scope, after: query.after, limit };
    let page = api.engine.ledger.resources(&filter).await?;
    Ok(Json(Page { items: page.items.into_iter().map(info).collect(), next: page.next }))
}

pub(super) fn id_of(kind: &str, name: &str) -> Result<ResourceId, Refused> {
    format!("{kind}/{name}")
        .parse()
        .map_err(|e: sexton_model::InvalidId| Refused::field("resource", e.to_string()))
}

pub(super) async fn show(
    State(api): Shared,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<ResourceInfo>, Refused> {
    let id = id_of(&kind, &name)?;
    let view = api.engine.ledger.resource(&id).await?.ok_or_else(|| Refused::absent(&id))?;
    Ok(Json(info(view)))
}

pub(super) async fn name(
    State(api): Shared,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<NameInfo>, Refused> {
    let id = id_of(&kind, &name)?;
    if api.plans.of_kind(&id.kind).is_none() {
        return Err(Refused::new(StatusCode::NOT_FOUND, format!("there is no plan for {}", id.kind)));
    }
    let view = api.engine.ledger.resource(&id).await?;
    let taken_by = view.and_then(|view| match (view.live, view.presence) {
        (Some(deletion), _) => Some(format!("deletion record {deletion}")),
        (None, Presence::Registered) => Some("a registered resource".to_owned()),
        (None, Presence::Tombstone) => Some("a resource that is not recycled yet".to_owned()),
        (None, Presence::Recycled) => None,
    });
    Ok(Json(NameInfo { resource: id, free: taken_by.is_none(), taken_by }))
}
