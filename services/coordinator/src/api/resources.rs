//! Resources and names.
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use sexton_api::{ListQuery, NameInfo, PAGE_MAX, Page, REGISTER_MAX, Register, Registered, ResourceInfo};
use sexton_ledger::{LedgerError, NotDone, Note, ResourceFilter, ResourceView};
use sexton_model::access::Registrar;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{ResourceId, statement};

use super::problem::{Body, Denial, Refused, by_a_belt};
use super::{Api, Asker, By, Once, Shared, claims};

/// What is said of each line; and that some were refused because of who asks, or by a belt, to be written down.
type Lines = (Option<Extension<Denial>>, Json<Registered>);

pub(super) async fn register(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<Register>,
) -> Result<Lines, Refused> {
    let count = body.resources.len();
    if count == 0 || count > REGISTER_MAX {
        return Err(Refused::field(
            "resources",
            format!("resources: expected 1 to {REGISTER_MAX}, found {count}"),
        ));
    }
    let unfit: Vec<_> = body.resources.iter().map(|resource| unfit(&api, resource)).collect();
    let nothing = body.dry_run || body.whole && unfit.iter().any(Option::is_some);
    let fit: Vec<_> =
        body.resources.into_iter().zip(&unfit).filter(|(_, why)| why.is_none()).map(|(r, _)| r).collect();
    let ids: Vec<_> = fit.iter().map(|resource| resource.id.clone()).collect();
    if !nothing && let Some((results, denied)) = done_before(&once, &unfit, &ids)? {
        return Ok((denial(denied), Json(Registered { results, with_the_rest: Vec::new() })));
    }
    let registrar = registrar(&api, &asker);
    let by_the_ledger = match fit.is_empty() {
        true => Vec::new(),
        // What the job table would refuse is said at once with what is refused here, and not only the next time.
        false if nothing => api.engine.ledger.check_resources(&registrar, fit, &by).await?,
        false => once.ledger.register_with(&registrar, fit, &by, body.whole).await?,
    };
    let refused = ids.iter().zip(&by_the_ledger).filter_map(|(id, line)| Some((id, line.as_ref().err()?)));
    let denied = refused.filter(|(_, why)| is_denied(why, body.dry_run));
    let denied = denied.map(|(id, why)| of_line(id, &why.to_string())).collect();
    let (mut words, mut dates) = (Vec::with_capacity(by_the_ledger.len()), claims::Dates::default());
    for line in by_the_ledger {
        words.push(in_words(&api, &asker, line, &mut dates).await?);
    }
    Ok((denial(denied), Json(said(unfit, words, body.whole))))
}

/// Whether it is written down that the job table has refused a line so. Of one that was only asked about it is if whoever asked may
/// not.
fn is_denied(why: &NotDone, dry_run: bool) -> bool {
    matches!(why, NotDone::Register(_)) || !dry_run && by_a_belt(why)
}

/// Why a line was refused, with what it was about.
fn of_line(id: &ResourceId, why: &str) -> String {
    let id = id.to_string();
    if why.contains(&id) { why.to_owned() } else { format!("{id}: {why}") }
}

/// That so many lines were refused, and the first of them.
fn denial(denied: Vec<String>) -> Option<Extension<Denial>> {
    let lines = denied.len();
    denied.into_iter().next().map(|first| Extension(Denial(format!("{lines} refused: {first}"))))
}

/// What the job table says of one, for this caller; nothing if it was done, or only with the rest.
async fn in_words(
    api: &Api,
    asker: &Asker,
    line: Result<(), NotDone>,
    dates: &mut claims::Dates,
) -> Result<Option<String>, LedgerError> {
    match line {
        Ok(()) | Err(NotDone::WithTheRest) => Ok(None),
        Err(NotDone::Contested(why)) => claims::in_words(api, asker, &why, dates).await.map(Some),
        Err(why) => Ok(Some(why.to_string())),
    }
}

/// What is said of each: of those that did not fit, why; of the others, what the job table says, in order.
fn said(unfit: Vec<Option<String>>, by_the_ledger: Vec<Option<String>>, whole: bool) -> Registered {
    let mut by_the_ledger = by_the_ledger.into_iter();
    let mut wrong = || by_the_ledger.next().flatten();
    let mut results: Vec<_> = unfit.into_iter().map(|why| why.or_else(&mut wrong)).collect();
    let mut with_the_rest = Vec::new();
    if whole && results.iter().any(Option::is_some) {
        for (place, result) in results.iter_mut().enumerate().filter(|(_, result)| result.is_none()) {
            *result = Some(NotDone::WithTheRest.to_string());
            with_the_rest.push(place);
        }
    }
    Registered { results, with_the_rest }
}

/// What is said of each line, and what was refused.
type Before = (Vec<Option<String>>, Vec<String>);

/// What became of each line before, if that is noted: of those that `fit`, of which the others are known. What was refused then is
/// to be written down, for whoever has refused it may have died before that was. If some were registered, the job table has refused
/// the others by belts alone, or because of who asked.
fn done_before(once: &Once, unfit: &[Option<String>], fit: &[ResourceId]) -> Result<Option<Before>, Refused> {
    let noted = once.noted(|note| if let Note::Registered(results) = note { Some(results) } else { None })?;
    let Some(noted) = noted else { return Ok(None) };
    if noted.len() != fit.len() {
        let denied: Vec<&String> = noted.iter().flatten().collect();
        let why = "this was registered under this key, and its answer lost; meanwhile other lines are fit than were \
                   then, so which is which is not known any more: look, and send what is missing under another key";
        // What refuses lines is written down with this: nothing else of the answer is.
        return Err(match denied.first() {
            Some(first) => {
                let why = format!("{why} ({} refused: {first})", denied.len());
                Refused::key(StatusCode::CONFLICT, why).noted()
            }
            None => Refused::key(StatusCode::CONFLICT, why),
        });
    }
    let denied = fit.iter().zip(&noted).filter_map(|(id, why)| Some(of_line(id, why.as_ref()?))).collect();
    let mut noted = noted.into_iter();
    let results = unfit.iter().map(|why| why.clone().or_else(|| noted.next().flatten())).collect();
    Ok(Some((results, denied)))
}

/// Who registers, by which the job table judges each line as it finds what is there ([`Registrar::over`]).
fn registrar(api: &Api, asker: &Asker) -> Registrar {
    match asker {
        Asker::Known(bearer) => {
            let telling = api.plans.catalogue().telling().cloned().collect();
            Registrar::Known { bearer: bearer.clone(), telling }
        }
        Asker::Trusted => Registrar::Trusted,
    }
}

/// Why nothing could ever be done about a resource: no plan, a part of it at an instance that nobody knows, or a part
/// that is not stated. A typing error there would otherwise be found on the day of the deletion.
fn unfit(api: &Api, resource: &Resource) -> Option<String> {
    let Some(plan) = api.plans.of_kind(&resource.id.kind) else {
        let kinds: Vec<_> = api.plans.kinds().map(ToString::to_string).collect();
        let kind = &resource.id.kind;
        return Some(format!("id: there is no plan for {kind}, only for {}", kinds.join(", ")));
    };
    if let Err(why) = statement::check(api.plans.catalogue(), plan, resource) {
        return Some(why.to_string());
    }
    let subsystem = resource
        .instances
        .keys()
        .find(|subsystem| !api.engine.known().any(|known| *known == resource.instance_of(subsystem)))?;
    let known: Vec<_> = api.engine.known().map(ToString::to_string).collect();
    let instance = resource.instance_of(subsystem);
    Some(format!("instances.{subsystem}: nobody knows {instance}; known are {}", known.join(", ")))
}

fn info(view: ResourceView) -> ResourceInfo {
    ResourceInfo { resource: view.resource, presence: view.presence, live: view.live, holds: view.holds }
}

pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ResourceInfo>>, Refused> {
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let filter = ResourceFilter {
        kind: query.kind,
        scope: query.scope,
        scopes: asker.extent().limits(),
        after: query.after,
        limit,
    };
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
