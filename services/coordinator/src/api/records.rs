//! Deletion records.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{
    Acknowledge, Created, Delete, DeletionInfo, DeletionLine, ListQuery, Outcome, PAGE_MAX, Page,
    PreviewInfo, PreviewRequest, Reason, Rescue, Waive,
};
use sexton_ledger::{
    ANNOUNCED_MAX, DeletionFilter, Facts, Intent, Ledger, LedgerError, NewDeletion, NotDone, Note,
};
use sexton_model::belts::budget::{self, Budgets, Group};
use sexton_model::belts::census::Population;
use sexton_model::belts::{InForce, Policy};
use sexton_model::decide::Event;
use sexton_model::deletion::{Deletion, Due, Record};
use sexton_model::job::Stage;
use sexton_model::outlook::{Foresight, late};
use sexton_model::preview::Sight;
use sexton_model::resource::Presence;
use sexton_model::time::add_days;
use sexton_model::{Actor, DeletionId, Instance, ResourceId, preview, undo};
use sexton_service::trace::Span;

use super::problem::{Body, Refused};
use super::resources::id_of;
use super::{Api, Asker, By, Caller, Once, Shared, archived, claims, in_force, receipts, views};

/// Farthest due date, in days from today: a typing error in the year is more likely than such a plan.
const FARTHEST_DAYS: i64 = 3660;

pub(super) async fn create(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    Caller(caller): Caller,
    once: Once,
    Body(body): Body<Delete>,
) -> Result<(StatusCode, Json<Created>), Refused> {
    let facts = api.engine.ledger.facts().await?;
    // Before it is made: nothing is counted twice, however soon it begins.
    let begun = api.engine.ledger.begun().await?;
    let made = once.noted(|note| if let Note::Created(id) = note { Some(id) } else { None })?;
    let deletion = match made {
        Some(deletion) => deletion,
        None => {
            asker.sees(&api, &body.resource).await?;
            let began = SystemTime::now();
            let reason = body.reason.clone();
            let new = wanted(&api, &facts, body.into(), by, reason).await?;
            let mut results = once.ledger.create(vec![new]).await?;
            let deletion = match results.pop().ok_or_else(|| Refused::absent("result"))? {
                Ok(deletion) => deletion,
                Err(why) => return Err(claims::refused(&api, &asker, why).await),
            };
            api.engine.noted();
            api.engine.follow.made(&*api.engine.ledger, deletion, began, caller).await;
            deletion
        }
    };
    let policy = api.engine.ledger.policy();
    // It is made: what cannot be read at the moment is only left out of what lies ahead.
    let made = match (api.engine.ledger.deletion(deletion).await, in_force::all(&api).await) {
        (Ok(Some(view)), Ok(in_force)) => Created {
            crowd: crowd(&api, &facts, (&view.deletion, &begun)).await.unwrap_or_default(),
            ..Created::of(&view.deletion, &in_force, &foresight(&policy, &facts))
        },
        (Ok(_) | Err(_), _) => Created::unread(deletion),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// What a record would do; nothing is made. Refused for the reasons for which the record would be.
pub(super) async fn preview(
    State(api): Shared,
    asker: Asker,
    Body(body): Body<PreviewRequest>,
) -> Result<Json<PreviewInfo>, Refused> {
    let (d, facts) = would_be(&api, &asker, body).await?;
    let ledger = &api.engine.ledger;
    let mut groups = ledger.groups_of(&d.record.resource.id).await?;
    // As if there were a record: it may be the one that the rest of a group has waited for.
    groups.note(&d);
    let in_force =
        InForce { pauses: ledger.pauses().await?, ceilings: ledger.ceilings().await?, one_shots: Vec::new() };
    let states = ledger.instances().await?;
    let down = |instance: &Instance| states.get(instance).is_none_or(|state| state.down);
    let silent: BTreeSet<_> = d.plan.needs(&d.record.resource).filter(down).collect();
    let policy = ledger.policy();
    let begun = ledger.begun().await?;
    let population = population(ledger, &policy.budgets(facts.day), &facts).await?;
    let sight = Sight {
        in_force: &in_force,
        policy: &policy,
        groups: &groups,
        begun: &begun,
        population: &population,
    };
    Ok(Json(PreviewInfo {
        zone: Some(d.record.due.zone),
        resource: d.record.resource.id.clone(),
        identity: d.record.resource.identity.clone(),
        stages: preview::preview(&d, sight, facts.day, facts.now),
        // By dates alone: nothing is promised here that the record does not keep.
        cancel_until: undo::undo(&d, facts.day, facts.now).until,
        data_until: undo::data_until(&d, facts.day, facts.now),
        late: late(&d, &foresight(&policy, &facts)).iter().map(ToString::to_string).collect(),
        silent: silent.into_iter().collect(),
        crowd: crowd(&api, &facts, (&d, &begun)).await?,
        unannounced: d.plan.untold(),
        review: ledger.review().await?.map(|review| review.epoch),
    }))
}

/// The record that would be made, drawn up and kept nowhere.
pub(super) async fn would_be(
    api: &Api,
    asker: &Asker,
    body: PreviewRequest,
) -> Result<(Deletion, Facts), Refused> {
    asker.sees(api, &body.resource).await?;
    let ledger = &api.engine.ledger;
    let facts = ledger.facts().await?;
    let nobody =
        "preview".parse().map_err(|e: sexton_model::InvalidId| Refused::field("by", e.to_string()))?;
    let new = wanted(api, &facts, body, nobody, "a preview".to_owned()).await?;
    let view = ledger.resource(&new.resource).await?;
    let view = view.filter(|view| view.presence == Presence::Registered);
    let view = view.ok_or_else(|| NotDone::NotRegistered(new.resource.clone()))?;
    if let Some(deletion) = view.live {
        return Err(NotDone::AlreadyLive { resource: new.resource, deletion }.into());
    }
    ledger.policy().lets_go(&new.resource).map_err(NotDone::from)?;
    let record = Record {
        resource: view.resource,
        due: new.due,
        gone_by: new.gone_by,
        requested_by: new.by,
        reason: new.reason,
        created_at: facts.now,
    };
    let mut d = Deletion::draw_up(DeletionId(0), record, new.plan, facts.day).map_err(NotDone::from)?;
    d.resource_holds = view.holds;
    if let Err(why) = ledger.uncontested(&d.record.resource).await? {
        return Err(claims::refused(api, asker, why).await);
    }
    Ok((d, facts))
}

/// By what it is said when something is due.
fn foresight<'a>(policy: &'a Policy, facts: &Facts) -> Foresight<'a> {
    Foresight { day: facts.day, hours: policy.windows.as_ref(), now: facts.now }
}

/// Whether its announcement is one of too many within a day, as far as records are made by now.
async fn crowd(
    api: &Api,
    facts: &Facts,
    (d, begun): (&Deletion, &BTreeMap<Group, u64>),
) -> Result<Option<String>, LedgerError> {
    let ledger = &api.engine.ledger;
    let policy = ledger.policy();
    let budgets = policy.budgets(facts.day);
    let resource = &d.record.resource;
    let (scope, kind) = (resource.scope.clone(), resource.id.kind.clone());
    let group = Group { scope, kind, stage: Stage::Announce };
    if !budgets.bind(group.stage) {
        return Ok(None);
    }
    let at = d.date_of(Stage::Announce, facts.day).max(facts.now);
    let (from, to) = budget::foretold_span(&budgets, at, facts.day);
    let announced = ledger.announced(&group.kind, from, to).await?;
    let more = announced.len() > ANNOUNCED_MAX as usize;
    // Once it is made, it is one of them itself.
    let others = announced.into_iter().filter(|(id, ..)| *id != d.id);
    let others: Vec<_> = others.map(|(_, scope, due_at)| (scope, due_at)).collect();
    let population = population(ledger, &budgets, facts).await?;
    let none = BTreeMap::new();
    // What has begun by now no longer counts for what begins some day.
    let begun = if at <= facts.now { begun } else { &none };
    let found = budget::foretell((&budgets, &population), &group, at, &others, begun, facts.day);
    Ok(foretold(found.map(|exceeded| exceeded.to_string()), more))
}

/// How many there are, if budgets are by percent of that.
pub(super) async fn population(
    ledger: &Arc<dyn Ledger>,
    budgets: &Budgets,
    facts: &Facts,
) -> Result<Population, LedgerError> {
    Ok(match budgets.by_percent() {
        true => Population::frozen(ledger.censuses().await?, budgets.counted_from(facts.now, facts.day)),
        false => Population::default(),
    })
}

/// What is said of a crowd, of which there may be more than were read.
fn foretold(found: Option<String>, more: bool) -> Option<String> {
    match found {
        found if !more => found,
        Some(found) => Some(format!(
            "{found}; at least so many: more than {ANNOUNCED_MAX} are announced around that day"
        )),
        None => Some(format!(
            "more than {ANNOUNCED_MAX} of its kind are announced around that day, and not all were looked at: it may be \
             one of too many"
        )),
    }
}

/// What is asked of the ledger, if its date can be one and everybody whom the plan needs is known.
async fn wanted(
    api: &Api,
    facts: &Facts,
    PreviewRequest { resource, on, zone, gone_by }: PreviewRequest,
    by: Actor,
    reason: String,
) -> Result<NewDeletion, Refused> {
    let plan = api.plans.of_kind(&resource.kind).ok_or_else(|| {
        Refused::field("resource", format!("resource: there is no plan for {}", resource.kind))
    })?;
    let zone = zone.unwrap_or(api.engine.ledger.policy().zone);
    let today = facts.now.utc().with_timezone(&zone.0).date_naive();
    let ahead = (on - today).num_days();
    if ahead < 0 {
        return Err(Refused::field("on", format!("on: {on} is past; today is {today} in {}", zone.0)));
    }
    if ahead > FARTHEST_DAYS {
        return Err(Refused::field("on", format!("on: {on} is more than {FARTHEST_DAYS} days ahead")));
    }
    if gone_by.is_some_and(|gone_by| gone_by < on) {
        return Err(Refused::field("gone_by", "gone_by: before the date it is due"));
    }
    if let Some(view) = api.engine.ledger.resource(&resource).await?
        && let Some(missing) = plan.needs(&view.resource).find(|i| !api.engine.known().any(|k| k == i))
    {
        let detail = format!("resource: its plan needs {missing}, of which nobody knows: it has no key here");
        return Err(Refused::field("resource", detail));
    }
    // In a rehearsal a date so many days ahead is so many of its days ahead.
    let moment = facts
        .day
        .is_rehearsal()
        .then(|| add_days(facts.now, i32::try_from(ahead).unwrap_or(i32::MAX), zone.0, facts.day));
    Ok(NewDeletion { resource, due: Due { date: on, zone, moment }, gone_by, by, reason, plan: plan.clone() })
}

pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<DeletionLine>>, Refused> {
    let filter = DeletionFilter {
        status: query.status,
        state: query.state,
        scope: query.scope,
        scopes: asker.extent().limits(),
        kind: query.kind,
        after: query.after,
        limit: query.limit.unwrap_or(100).clamp(1, PAGE_MAX),
    };
    let page = api.engine.ledger.deletions(&filter).await?;
    let (facts, policy) = (api.engine.ledger.facts().await?, api.engine.ledger.policy());
    let (in_force, by) = (in_force::all(&api).await?, foresight(&policy, &facts));
    let line = |row| views::line(row, &in_force, &by);
    Ok(Json(Page { items: page.items.into_iter().map(line).collect(), next: page.next }))
}

pub(super) fn parse(api: &Api, id: &str) -> Result<DeletionId, Refused> {
    id.parse().map_err(|e: sexton_model::InvalidId| {
        let named = api.plans.kinds().map(|kind| format!("{kind}/{id}"));
        let named: Vec<_> = named.filter(|name| name.parse::<ResourceId>().is_ok()).collect();
        let meant = if named.is_empty() { String::new() } else { format!(": {}?", named.join(" or ")) };
        Refused::field("deletion", format!("{e}; a resource is named together with its kind{meant}"))
    })
}

/// Why there is no record of a resource: nobody asked for one, or nobody knows the resource.
async fn no_record(api: &Api, resource: &ResourceId) -> Result<Refused, Refused> {
    let why = match api.engine.ledger.resource(resource).await? {
        Some(_) => format!("{resource} is registered, and there is no deletion record of it"),
        None => {
            format!("there is no deletion record of {resource}, and no such resource was ever registered")
        }
    };
    Ok(Refused::new(StatusCode::NOT_FOUND, why))
}

async fn info(api: &Api, id: DeletionId) -> Result<Json<DeletionInfo>, Refused> {
    let facts = api.engine.ledger.facts().await?;
    let instances = api.engine.ledger.instances().await?;
    let Some(view) = api.engine.ledger.deletion(id).await? else {
        return Err(archived::missing(api, id).await?);
    };
    let chain = api.engine.ledger.verify_chain(id).await?;
    let receipt = receipts::sentence(api, &view.deletion).await?;
    let healthy = api.engine.ledger.healthy().await?;
    let policy = api.engine.ledger.policy();
    let in_force = in_force::all(api).await?;
    let around = views::Around {
        by: foresight(&policy, &facts),
        in_force: &in_force,
        instances: &instances,
        healthy: &healthy,
    };
    Ok(Json(DeletionInfo { receipt, ..views::deletion(view, &around, chain) }))
}

pub(super) async fn show(State(api): Shared, Path(id): Path<String>) -> Result<Json<DeletionInfo>, Refused> {
    info(&api, parse(&api, &id)?).await
}

pub(super) async fn show_of(
    State(api): Shared,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<DeletionInfo>, Refused> {
    let resource = id_of(&kind, &name)?;
    match api.engine.ledger.deletion_of(&resource).await? {
        Some(id) => info(&api, id).await,
        None => Err(no_record(&api, &resource).await?),
    }
}

async fn decide(
    api: &Api,
    id: &str,
    (caller, once): (Caller, Once),
    event: Event,
) -> Result<Json<Outcome>, Refused> {
    let decided = once.noted(|note| if let Note::Decided(status) = note { Some(status) } else { None })?;
    if let Some(status) = decided {
        return Ok(Json(Outcome { status }));
    }
    let intent = Intent { deletion: parse(api, id)?, event };
    let asked = api.engine.follow.asked(&*api.engine.ledger, &intent, caller.0).await;
    let cause = asked.as_ref().map(Span::at);
    // A caller who hangs up between decision and publishing does not end it there: the request is a task of its own (`once`).
    let mut results = api.engine.run_by(&*once.ledger, vec![intent], vec![cause]).await?;
    let decided = match results.pop().ok_or_else(|| Refused::absent("result"))? {
        Err(NotDone::NoSuchDeletion(id)) => return Err(archived::missing(api, id).await?),
        decided => decided?,
    };
    Ok(Json(Outcome { status: decided.status }))
}

pub(super) async fn cancel(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Cancel { by, reason }).await
}

pub(super) async fn hold(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::PlaceHold { by, reason }).await
}

pub(super) async fn release(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path((id, hold)): Path<(String, String)>,
) -> Result<Json<Outcome>, Refused> {
    let hold =
        hold.parse().map_err(|_| Refused::field("hold", format!("hold {hold:?}: expected a number")))?;
    decide(&api, &id, (caller, once), Event::ReleaseHold { hold, by }).await
}

pub(super) async fn park(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Park { by, reason }).await
}

pub(super) async fn retry(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Retry { by }).await
}

pub(super) async fn waive(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Waive { claim, mark, evidence }): Body<Waive>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Waive { by, claim, mark, evidence }).await
}

pub(super) async fn acknowledge(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Acknowledge { mark, reason }): Body<Acknowledge>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Acknowledge { by, mark, reason }).await
}

pub(super) async fn bounced(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Bounced { by, reason }).await
}

pub(super) async fn rescue(
    State(api): Shared,
    By(by): By,
    caller: Caller,
    once: Once,
    Path(id): Path<String>,
    Body(Rescue { evidence }): Body<Rescue>,
) -> Result<Json<Outcome>, Refused> {
    decide(&api, &id, (caller, once), Event::Rescue { by, evidence }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_is_said() {
        assert_eq!(foretold(None, false), None);
        assert_eq!(foretold(Some("x".into()), false).as_deref(), Some("x"));
        let more = foretold(Some("x".into()), true).unwrap();
        assert!(more.starts_with("x; ") && more.contains("more than 2000"), "{more}");
        let unknown = foretold(None, true).unwrap();
        assert!(
            unknown.contains("more than 2000") && unknown.contains("may be one of too many"),
            "{unknown}"
        );
    }
}
