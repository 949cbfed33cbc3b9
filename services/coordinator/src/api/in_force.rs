//! What people say that holds for many deletions at once: pauses and ceilings.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{
    CeilingInfo, CeilingQuery, CeilingRequest, CrowdInfo, CrowdMember, MEMBERS_SHOWN, PauseRequest,
    PauseResponse, ResumeQuery, StoppedDetails, StoppedInfo,
};
use sexton_ledger::{DeletionFilter, LedgerError, Member, NotDone, Note, Stopped};
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::ceiling::{NewCeiling, ScopeCeiling};
use sexton_model::belts::covered::Covered;
use sexton_model::belts::{InForce, Pause, PauseSelector};
use sexton_model::deletion::REASON_MAX;
use sexton_model::job::Stage;
use sexton_model::{Actor, InvalidId, Kind, Scope};

use super::batches::{Looked, looked};
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};

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
) -> Result<Json<StoppedDetails>, Refused> {
    let id = number(&pause)?;
    let ledger = &api.engine.ledger;
    if !ledger.pauses().await?.iter().any(|pause| pause.id == id) {
        return Err(Refused::absent(format_args!("pause {id}")));
    }
    Ok(Json(told(&api, ledger.stopped_by(id).await?).await?))
}

/// What would go on, what keeps it from going on at once, and who has to be looked at before it does.
async fn told(api: &Api, stopped: Vec<Stopped>) -> Result<StoppedDetails, Refused> {
    let crowd = match Stopped::digest(&stopped) {
        Some(digest) => Some(crowd(api, digest, &stopped).await?),
        None => None,
    };
    let info = |stopped: Stopped| StoppedInfo {
        at_once: stopped.at_once(),
        group: stopped.group,
        held: stopped.held,
        midway: stopped.midway,
        batch: stopped.exceeded.map(|exceeded| exceeded.to_string()),
        crowd: stopped.crowd.map(|crowd| crowd.why.to_string()),
    };
    Ok(StoppedDetails { groups: stopped.into_iter().map(info).collect(), crowd })
}

/// Who has to be looked at, with what a cancel of each would restore.
async fn crowd(api: &Api, digest: String, stopped: &[Stopped]) -> Result<CrowdInfo, Refused> {
    let crowds = Stopped::crowds(stopped);
    let total = crowds.iter().map(|crowd| crowd.why.members).fold(0, u64::saturating_add);
    let all = crowds.iter().flat_map(|crowd| crowd.members.iter().map(move |one| (crowd.group.stage, one)));
    let shown: Vec<(Stage, &Member)> = all.take(MEMBERS_SHOWN).collect();
    let facts = api.engine.ledger.facts().await?;
    let mut members = Vec::with_capacity(shown.len());
    for (stage, one) in shown {
        let deletion = one.job.deletion();
        let Looked { undo, cancel_until, unannounced } = looked(api, deletion, &facts).await?;
        let (resource, requested_by) = (one.resource.clone(), one.requested_by.clone());
        members.push(CrowdMember {
            deletion,
            resource,
            stage,
            requested_by,
            undo,
            cancel_until,
            unannounced,
        });
    }
    Ok(CrowdInfo { digest, total, members })
}

/// That what stops this may be lifted: a crowd that would begin at once takes the approval of somebody who requested none of
/// it, and may approve in its scopes. The digest for whoever lifts it, and compares it with what is held by then; none if
/// there is no crowd here, since then nobody has looked at its scopes.
fn may_lift(
    (asker, by): (&Asker, &Actor),
    stopped: &[Stopped],
    approved: Option<String>,
) -> Result<Option<String>, Refused> {
    Stopped::may_resume(stopped, by, approved.as_deref()).map_err(NotDone::from)?;
    let crowds = Stopped::crowds(stopped);
    for crowd in &crowds {
        asker.may(Permission::Approve, Reach::Scope(&crowd.group.scope))?;
    }
    Ok(approved.filter(|_| !crowds.is_empty()))
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
    Query(ResumeQuery { digest }): Query<ResumeQuery>,
) -> Result<Json<serde_json::Value>, Refused> {
    let id = number(&pause)?;
    let lifted = once.noted(|note| (note == Note::Resumed).then_some(()))?.is_some();
    if !lifted {
        let approved = may_lift((&asker, &by), &api.engine.ledger.stopped_by(id).await?, digest)?;
        if !once.ledger.resume(id, &by, approved.as_deref()).await?? {
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
) -> Result<Json<StoppedDetails>, Refused> {
    one_or_all(scope.as_ref(), everywhere)?;
    asker.may(Permission::See, reach(scope.as_ref()))?;
    let by = "preview".parse().map_err(|e: InvalidId| Refused::field("by", e.to_string()))?;
    let new = NewCeiling { scope, to: to.0, by, reason: "a preview".to_owned() };
    Ok(Json(told(&api, api.engine.ledger.stopped_below(&new).await??).await?))
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
    Body(CeilingRequest { scope, everywhere, to, reason, digest }): Body<CeilingRequest>,
) -> Result<Json<Vec<CeilingInfo>>, Refused> {
    if once.noted(|note| (note == Note::CeilingSet).then_some(()))?.is_some() {
        return told_of_ceiling(&api, &asker, scope.as_ref()).await;
    }
    reasonable(&reason)?;
    one_or_all(scope.as_ref(), everywhere)?;
    asker.may(Permission::Ceiling, reach(scope.as_ref()))?;
    let new = NewCeiling { scope: scope.clone(), to: to.0, by, reason };
    let stopped = api.engine.ledger.stopped_below(&new).await??;
    let approved = may_lift((&asker, &new.by), &stopped, digest)?;
    once.ledger.set_ceiling(new, approved.as_deref()).await??;
    api.engine.noted();
    told_of_ceiling(&api, &asker, scope.as_ref()).await
}

pub(super) fn reasonable(reason: &str) -> Result<(), Refused> {
    if reason.trim().is_empty() || reason.chars().count() > REASON_MAX {
        return Err(Refused::field("reason", format!("reason: expected 1 to {REASON_MAX} characters")));
    }
    Ok(())
}
