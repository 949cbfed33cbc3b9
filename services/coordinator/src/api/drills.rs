//! Drills: what came of the last ones, and one now.
//!
//! A request makes many changes, and none of them is noted at its key: what makes it one is the row of each drill, which
//! says when it began. With a resource whose last one has begun since the request was first sent, none is begun again.
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sexton_api::DrillsInfo;

use super::problem::Refused;
use super::{Api, By, Once, Shared, canaries};

/// The last one with each resource.
pub(super) async fn list(State(api): Shared) -> Result<Json<DrillsInfo>, Refused> {
    Ok(Json(info(&api).await?))
}

/// Begin one with each resource, unless the last one with it is not over, or is what was asked for: that one is told then.
pub(super) async fn run(
    State(api): Shared,
    By(by): By,
    once: Once,
) -> Result<(StatusCode, Json<DrillsInfo>), Refused> {
    match api.engine.run_drills(&by, once.first_sent()).await? {
        Some(begun) => {
            let status = if begun > 0 { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(info(&api).await?)))
        }
        None => Err(canaries::refused("no drills are held", off(&api).as_deref())),
    }
}

async fn info(api: &Api) -> Result<DrillsInfo, Refused> {
    Ok(DrillsInfo { off: off(api), drills: api.engine.ledger.drills().await? })
}

/// Why none are begun by the coordinator that answers.
fn off(api: &Api) -> Option<String> {
    let none = || api.engine.canaries().is_none_or(|canaries| canaries.drills().is_empty());
    canaries::off(api).or_else(|| none().then(|| "[canaries] drill names no resource".to_owned()))
}
