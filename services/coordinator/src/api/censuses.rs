//! Censuses.
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sexton_api::{CensusInfo, CensusRequest};
use sexton_ledger::{Counted, Note};
use sexton_model::Timestamp;
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::census::{Census, Latest, Taken};

use super::problem::{Body, Refused};
use super::{Asker, By, Once, Shared};

/// Those that are kept, the newest first.
pub(super) async fn list(State(api): Shared, asker: Asker) -> Result<Json<Vec<Taken>>, Refused> {
    let mut all = api.engine.ledger.censuses().await?;
    all.retain(|taken| asker.extent().contains(&taken.scope));
    all.reverse();
    Ok(Json(all))
}

/// What came last of each kind and scope, believed or refused.
pub(super) async fn latest(State(api): Shared, asker: Asker) -> Result<Json<Vec<Latest>>, Refused> {
    let mut all = api.engine.ledger.latest_censuses().await?;
    all.retain(|latest| asker.extent().contains(&latest.scope));
    Ok(Json(all))
}

pub(super) async fn take(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<CensusRequest>,
) -> Result<(StatusCode, Json<CensusInfo>), Refused> {
    let noted = |note| if let Note::CensusTaken(counted) = note { Some(counted) } else { None };
    if let Some(Counted { taken, paused }) = once.noted(noted)? {
        return Ok((StatusCode::CREATED, Json(CensusInfo { taken, paused })));
    }
    let CensusRequest { kind, scope, credential, new_credential, fewer, taken_at, total, listed } = body;
    asker.may(Permission::Register, Reach::Scope(&scope))?;
    let taken_at = Timestamp::from(taken_at);
    let census = Census { kind, scope, credential, new_credential, fewer, taken_at, total, listed };
    let (kind, scope) = (census.kind.clone(), census.scope.clone());
    let counted = match once.ledger.take_census(census, &by).await? {
        Ok(counted) => counted,
        Err(why) => {
            tracing::warn!(%kind, %scope, %by, %why, "a census is not believed");
            return Err(why.into());
        }
    };
    let taken = counted.taken;
    if taken.missing > 0 || taken.unknown > 0 {
        let (missing, unknown, newly) = (taken.missing, taken.unknown, taken.newly_missing);
        tracing::warn!(census = taken.census, %kind, %scope, missing, newly, unknown, "the inventory and a census differ");
    }
    api.engine.noted();
    if counted.paused.is_some()
        && let Err(error) = api.engine.beacon().await
    {
        tracing::warn!(%error, "the pause is in force, its beacon follows");
    }
    Ok((StatusCode::CREATED, Json(CensusInfo { taken, paused: counted.paused })))
}
