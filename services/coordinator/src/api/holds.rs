//! Holds on resources.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{HoldRequest, ReleaseQuery, Released};
use sexton_ledger::Note;
use sexton_model::Actor;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::deletion::Hold;

use super::problem::{Body, Refused};
use super::resources::id_of;
use super::{Api, By, Once, Shared};

pub(super) async fn place(
    By(by): By,
    once: Once,
    Path((kind, name)): Path<(String, String)>,
    Body(HoldRequest { origin, reason }): Body<HoldRequest>,
) -> Result<(StatusCode, Json<Hold>), Refused> {
    let resource = id_of(&kind, &name)?;
    let new = NewHold { resource, origin: origin.unwrap_or_else(|| by.clone()), reason, by };
    let hold = match once.noted(|note| if let Note::Held(hold) = note { Some(hold) } else { None })? {
        Some(hold) => hold,
        None => once.ledger.hold_resource(new).await??,
    };
    Ok((StatusCode::CREATED, Json(hold)))
}

pub(super) async fn release(
    State(api): Shared,
    By(by): By,
    once: Once,
    Path((kind, name, hold)): Path<(String, String, String)>,
) -> Result<Json<Released>, Refused> {
    let number =
        hold.parse().map_err(|_| Refused::field("hold", format!("hold {hold:?}: expected a number")))?;
    lift(&api, (&by, once), (&kind, &name), Which::Number(number)).await
}

pub(super) async fn release_of(
    State(api): Shared,
    By(by): By,
    once: Once,
    Path((kind, name)): Path<(String, String)>,
    Query(ReleaseQuery { origin }): Query<ReleaseQuery>,
) -> Result<Json<Released>, Refused> {
    lift(&api, (&by, once), (&kind, &name), Which::Origin(origin)).await
}

async fn lift(
    api: &Api,
    (by, once): (&Actor, Once),
    (kind, name): (&str, &str),
    which: Which,
) -> Result<Json<Released>, Refused> {
    if let Some(released) =
        once.noted(|note| if let Note::Released(holds) = note { Some(holds) } else { None })?
    {
        return Ok(Json(Released { released }));
    }
    let resource = id_of(kind, name)?;
    let of = match &which {
        Which::Number(number) => format!("hold {number} on {resource}"),
        Which::Origin(origin) => format!("hold of {origin} on {resource}"),
    };
    let released = once.ledger.release_resource(&resource, which, by).await??;
    if released.is_empty() {
        return Err(Refused::absent(of));
    }
    api.engine.noted();
    Ok(Json(Released { released }))
}
