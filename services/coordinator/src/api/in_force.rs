//! What people say that holds for many deletions at once: pauses and ceilings.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{
    CeilingInfo, CeilingQuery, CeilingRequest, PAGE_MAX, PauseRequest, PauseResponse, ResumeQuery,
    StoppedInfo,
};
use sexton_ledger::{DeletionFilter, LedgerError, NotDone, Note, Stopped};
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::budget::{self, Exceeded, Group};
use sexton_model::belts::ceiling::{Ceilings, NewCeiling, ScopeCeiling};
use sexton_model::belts::covered::Covered;
use sexton_model::belts::{InForce, Pause, PauseSelector};
use sexton_model::deletion::REASON_MAX;
use sexton_model::job::{Blocker, StateName};
use sexton_model::{Actor, InvalidId, Kind, Scope};

use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared, records};

pub(super) async fn pauses(State(api): Shared, asker: Asker) -> Result<Json<Vec<Pause>>, Refused> {
    let mut pauses = api.engine.ledger.pauses().await?;
    pauses.retain(|pause| matters(&asker, pause.covers.scope.as_ref()));
    Ok(Json(pauses))
}

/// All that people have said, with the overrides that are good.
pub(super) async fn all(api: &Api) -> Result<InForce, LedgerError> {
    let ledger = &api.engine.ledger;
    Ok(InForce {
        pauses: ledger.pauses().await?,
        ceilings: ledger.ceilings().await?,
        one_shots: ledger.one_shots().await?,
    })
}

/// Whether what is said of a scope, or of all, matters to anything that the caller sees.
pub(super) fn matters(asker: &Asker, scope: Option<&Scope>) -> bool {
    scope.is_none_or(|scope| asker.extent().meets(scope))
}

/// What is done to a scope, or to all of them.
fn reach(scope: Option<&Scope>) -> Reach<'_> {
    scope.map_or(Reach::Everything, Reach::Scope)
}

pub(super) async fn pause(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<PauseRequest>,
) -> Result<(StatusCode, Json<PauseResponse>), Refused> {
    let noted = |note| if let Note::Paused(pause, out) = note { Some((pause, out)) } else { None };
    if let Some((pause, orders_out)) = once.noted(noted)? {
        return Ok(told_of_pause(&api, pause, orders_out).await);
    }
    asker.may(Permission::Pause, reach(body.covers.scope.as_ref()))?;
    reasonable(&body.reason)?;
    covers_something(&api, &body.covers).await?;
    let paused = once.ledger.pause(body.covers, &by, &body.reason).await?;
    api.engine.noted();
    // Consumers hear of it at once rather than with the next tick; the ledger holds it either way.
    if let Err(error) = api.engine.beacon().await {
        tracing::warn!(%error, "the pause is in force, its beacon follows");
    }
    Ok(told_of_pause(&api, paused.pause, paused.orders_out).await)
}

/// That it is in force, and how much it covers.
async fn told_of_pause(api: &Api, pause: Pause, orders_out: u64) -> (StatusCode, Json<PauseResponse>) {
    let (covered, warning) = covered(api, pause.covers.kind.as_ref(), pause.covers.scope.as_ref()).await;
    (StatusCode::CREATED, Json(PauseResponse { pause, orders_out, covered, warning }))
}

/// How much there is of a kind, and in a scope, and what to warn of. It is asked once what was said is in force:
/// that it cannot be counted refuses nothing.
async fn covered(api: &Api, kind: Option<&Kind>, scope: Option<&Scope>) -> (Option<Covered>, Option<String>) {
    match api.engine.ledger.covered(kind, scope).await {
        Ok(covered) => (Some(covered), covered.warning(kind, scope)),
        Err(error) => {
            tracing::warn!(%error, "it is in force; how much it covers could not be counted");
            (None, None)
        }
    }
}

/// Refuse a pause of a kind or a subsystem that nobody knows: somebody who mistyped its name would believe that
/// everything had stopped. What only records know of counts as known, since their copy of a plan outlives the plan.
async fn covers_something(api: &Api, covers: &PauseSelector) -> Result<(), Refused> {
    if let Some(kind) = &covers.kind
        && api.plans.of_kind(kind).is_none()
    {
        let filter = DeletionFilter { kind: Some(kind.clone()), limit: 1, ..DeletionFilter::default() };
        if api.engine.ledger.deletions(&filter).await?.items.is_empty() {
            let known: Vec<_> = api.plans.kinds().map(ToString::to_string).collect();
            let detail = format!("covers.kind: nobody knows {kind}; known are {}", known.join(", "));
            return Err(Refused::field("covers.kind", detail));
        }
    }
    if let Some(subsystem) = &covers.subsystem {
        let heard = api.engine.ledger.instances().await?;
        let instances = api.engine.known().chain(heard.keys()).map(|instance| &instance.subsystem);
        let known: BTreeSet<_> = api.plans.subsystems().chain(instances).collect();
        if !known.contains(subsystem) {
            let known: Vec<_> = known.into_iter().map(ToString::to_string).collect();
            let detail =
                format!("covers.subsystem: nobody knows {subsystem}; known are {}", known.join(", "));
            return Err(Refused::field("covers.subsystem", detail));
        }
    }
    Ok(())
}

/// What would go on if it were lifted.
pub(super) async fn stopped(
    State(api): Shared,
    Path(pause): Path<String>,
) -> Result<Json<Vec<StoppedInfo>>, Refused> {
    let id = number(&pause)?;
    let ledger = &api.engine.ledger;
    if !ledger.pauses().await?.iter().any(|pause| pause.id == id) {
        return Err(Refused::absent(format_args!("pause {id}")));
    }
    let stopped = ledger.stopped_by(id).await?;
    Ok(Json(told(&api, stopped).await?))
}

/// What would go on, and what keeps it from going on at once.
async fn told(api: &Api, stopped: Vec<Stopped>) -> Result<Vec<StoppedInfo>, LedgerError> {
    let crowds = crowds(api, &stopped).await?;
    let info = |stopped: Stopped| StoppedInfo {
        at_once: stopped.at_once(),
        crowd: crowds.iter().find(|(group, _)| *group == stopped.group).map(|(_, why)| why.to_string()),
        group: stopped.group,
        held: stopped.held,
        midway: stopped.midway,
        batch: stopped.exceeded.map(|exceeded| exceeded.to_string()),
    };
    Ok(stopped.into_iter().map(info).collect())
}

/// What would begin, or go on, at once, of stages that no budget counts, and is too many for that.
async fn crowds(api: &Api, stopped: &[Stopped]) -> Result<Vec<(Group, Exceeded)>, LedgerError> {
    let ledger = &api.engine.ledger;
    let (facts, policy) = (ledger.facts().await?, ledger.policy());
    let budgets = policy.budgets(facts.day);
    let population = records::population(ledger, &budgets, &facts).await?;
    let held = stopped.iter().map(|stopped| (stopped.group.clone(), stopped.at_once()));
    Ok(budget::at_once((&budgets, &population), held))
}

/// Whether a scope's blocker goes.
type Lifted<'a> = dyn Fn(&Scope, &Blocker) -> bool + Sync + 'a;

/// That what stops this may be lifted: a crowd that would begin at once takes the approval of somebody who requested none of
/// it.
async fn may_lift(
    api: &Api,
    (asker, by): (&Asker, &Actor),
    (stopped, lifted): (&[Stopped], &Lifted<'_>),
    approved: Option<u64>,
) -> Result<(), Refused> {
    let crowds = crowds(api, stopped).await?;
    budget::may_resume(&crowds, approved)
        .map_err(|why| Refused::new(StatusCode::CONFLICT, why.to_string()))?;
    for (group, _) in &crowds {
        asker.may(Permission::Approve, Reach::Scope(&group.scope))?;
    }
    if crowds.is_empty() {
        return Ok(());
    }
    for state in [StateName::Held, StateName::Ready] {
        let mut filter = DeletionFilter { state: Some(state), limit: PAGE_MAX, ..DeletionFilter::default() };
        loop {
            let page = api.engine.ledger.deletions(&filter).await?;
            let held = page.items.iter().map(|row| &row.deletion);
            // It is so because of who asks.
            budget::may_approve(&crowds, by, held, lifted).map_err(Refused::denied)?;
            match page.next {
                Some(next) => filter.after = Some(next),
                None => break,
            }
        }
    }
    Ok(())
}

fn number(pause: &str) -> Result<i64, Refused> {
    pause.parse().map_err(|_| Refused::field("pause", format!("pause {pause:?}: expected a number")))
}

pub(super) async fn resume(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Path(pause): Path<String>,
    Query(ResumeQuery { at_once }): Query<ResumeQuery>,
) -> Result<Json<serde_json::Value>, Refused> {
    let id = number(&pause)?;
    let lifted = once.noted(|note| (note == Note::Resumed).then_some(()))?.is_some();
    if !lifted {
        let stopped = api.engine.ledger.stopped_by(id).await?;
        let lifted = |_: &Scope, by: &Blocker| matches!(by, Blocker::Pause { pause, .. } if *pause == id);
        may_lift(&api, (&asker, &by), (&stopped, &lifted), at_once).await?;
        if !once.ledger.resume(id, &by).await? {
            return Err(Refused::absent(format_args!("pause {id}")));
        }
    }
    Ok(Json(serde_json::json!({ "resumed": id })))
}

pub(super) async fn ceilings(State(api): Shared, asker: Asker) -> Result<Json<Vec<ScopeCeiling>>, Refused> {
    let ceilings = api.engine.ledger.ceilings().await?;
    let matters = |ceiling: &&ScopeCeiling| matters(&asker, ceiling.scope.as_ref());
    Ok(Json(ceilings.iter().filter(matters).cloned().collect()))
}

/// What setting a ceiling would do: all of them now and then, and what would go on.
struct Raised {
    now: Ceilings,
    then: Ceilings,
    stopped: Vec<Stopped>,
}

impl Raised {
    /// Whether what stops something of a scope would not any more.
    fn lifts(&self, scope: &Scope, by: &Blocker) -> bool {
        matches!(by, Blocker::Ceiling { stage, .. } if self.now.frees(&self.then, scope, *stage))
    }
}

/// What would go on if it were set.
async fn raised(api: &Api, new: &NewCeiling) -> Result<Raised, Refused> {
    let ledger = &api.engine.ledger;
    let now = ledger.ceilings().await?;
    now.check(new).map_err(NotDone::from)?;
    let then = now.with(new, ledger.facts().await?.now);
    let mut stopped = ledger.stopped_by_ceilings().await?;
    stopped.retain(|stopped| now.frees(&then, &stopped.group.scope, stopped.group.stage));
    Ok(Raised { now, then, stopped })
}

/// Whoever forgets the scope must not have meant all of them.
fn one_or_all(scope: Option<&Scope>, everywhere: bool) -> Result<(), Refused> {
    if scope.is_some() == everywhere {
        let detail = "scope: expected a scope, or everywhere = true, and not both";
        return Err(Refused::field("scope", detail));
    }
    Ok(())
}

/// What would go on under another ceiling.
pub(super) async fn stopped_below(
    State(api): Shared,
    asker: Asker,
    Query(CeilingQuery { scope, everywhere, to }): Query<CeilingQuery>,
) -> Result<Json<Vec<StoppedInfo>>, Refused> {
    one_or_all(scope.as_ref(), everywhere)?;
    asker.may(Permission::See, reach(scope.as_ref()))?;
    let by = "preview".parse().map_err(|e: InvalidId| Refused::field("by", e.to_string()))?;
    let new = NewCeiling { scope, to: to.0, by, reason: "a preview".to_owned() };
    let Raised { stopped, .. } = raised(&api, &new).await?;
    Ok(Json(told(&api, stopped).await?))
}

/// All ceilings, and how much there is of the scope whose was set.
async fn told_of_ceiling(
    api: &Api,
    asker: &Asker,
    scope: Option<&Scope>,
) -> Result<Json<Vec<CeilingInfo>>, Refused> {
    let ceilings = api.engine.ledger.ceilings().await?;
    let (covered, warning) = covered(api, None, scope).await;
    let info = |said: &ScopeCeiling| match said.scope.as_ref() == scope {
        true => CeilingInfo { said: said.clone(), covered, warning: warning.clone() },
        false => CeilingInfo { said: said.clone(), covered: None, warning: None },
    };
    Ok(Json(ceilings.iter().filter(|said| matters(asker, said.scope.as_ref())).map(info).collect()))
}

/// Answers with all ceilings as they are then.
pub(super) async fn set_ceiling(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(CeilingRequest { scope, everywhere, to, reason, at_once }): Body<CeilingRequest>,
) -> Result<Json<Vec<CeilingInfo>>, Refused> {
    if once.noted(|note| (note == Note::CeilingSet).then_some(()))?.is_some() {
        return told_of_ceiling(&api, &asker, scope.as_ref()).await;
    }
    reasonable(&reason)?;
    one_or_all(scope.as_ref(), everywhere)?;
    asker.may(Permission::Ceiling, reach(scope.as_ref()))?;
    let new = NewCeiling { scope: scope.clone(), to: to.0, by, reason };
    let raised = raised(&api, &new).await?;
    let lifted = |scope: &Scope, by: &Blocker| raised.lifts(scope, by);
    may_lift(&api, (&asker, &new.by), (&raised.stopped, &lifted), at_once).await?;
    once.ledger.set_ceiling(new).await??;
    api.engine.noted();
    told_of_ceiling(&api, &asker, scope.as_ref()).await
}

pub(super) fn reasonable(reason: &str) -> Result<(), Refused> {
    if reason.trim().is_empty() || reason.chars().count() > REASON_MAX {
        return Err(Refused::field("reason", format!("reason: expected 1 to {REASON_MAX} characters")));
    }
    Ok(())
}
