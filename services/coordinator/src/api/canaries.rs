//! Canaries: what stands, and a run of them now. What makes a request for one run is when that has begun, as it is with
//! drills: nothing is noted at its key.
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sexton_api::CanariesInfo;
use sexton_model::canary::{Canary, Judged};

use super::problem::Refused;
use super::{Api, Asker, By, Once, Shared};

/// The last run.
pub(super) async fn list(State(api): Shared) -> Result<Json<CanariesInfo>, Refused> {
    Ok(Json(info(&api).await?))
}

/// Begin a run, unless the last one is still open, or is what was asked for: that one is told then.
pub(super) async fn run(
    State(api): Shared,
    By(by): By,
    once: Once,
) -> Result<(StatusCode, Json<CanariesInfo>), Refused> {
    match api.engine.run_canaries(&by, once.first_sent()).await? {
        Some(begun) => {
            let status = if begun { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(info(&api).await?)))
        }
        None => Err(refused("no canaries are sent", off(&api).as_deref())),
    }
}

/// Why nobody is asked: because of what is configured; or, if that is no reason, of the review, and that is written down.
pub(super) fn refused(what: &str, off: Option<&str>) -> Refused {
    let because = |why: &str| Refused::new(StatusCode::CONFLICT, format!("{what}: {why}"));
    match off {
        Some(off) => because(off),
        None => because("the job table is under review").noted(),
    }
}

async fn info(api: &Api) -> Result<CanariesInfo, Refused> {
    let canaries = api.engine.ledger.canaries().await?.into_iter().map(Canary::told).collect();
    Ok(CanariesInfo { off: off(api), canaries })
}

/// Why none are sent by the coordinator that answers.
pub(super) fn off(api: &Api) -> Option<String> {
    match api.engine.canaries() {
        Some(canaries) => canaries.off().map(str::to_owned),
        None => Some("this coordinator has none".to_owned()),
    }
}

/// Those that a person has to look at.
pub(super) async fn alarming(api: &Api, asker: &Asker) -> Result<Vec<Canary>, Refused> {
    if !asker.extent().is_everywhere() {
        return Ok(Vec::new());
    }
    let mut all = api.engine.ledger.canaries().await?;
    all.retain(|canary| canary.standing().is_some_and(|Judged { verdict, .. }| verdict.alarms()));
    Ok(all.into_iter().map(Canary::told).collect())
}
