//! One-shot overrides: one stage of one deletion passes one belt.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sexton_api::OverrideRequest;
use sexton_ledger::{Intent, Note};
use sexton_model::JobId;
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::one_shot::{NewOneShot, OneShot};
use sexton_model::decide::Event;

use super::access::hidden;
use super::in_force::reasonable;
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};

pub(super) async fn list(State(api): Shared) -> Result<Json<Vec<OneShot>>, Refused> {
    Ok(Json(api.engine.ledger.one_shots().await?))
}

/// Those for which the glass was broken, of records that the caller sees. There are few: see `ONE_SHOTS_MAX`.
pub(super) async fn broken_glass(api: &Api, asker: &Asker) -> Result<Vec<OneShot>, Refused> {
    let ledger = &api.engine.ledger;
    let mut seen = Vec::new();
    for one in ledger.one_shots().await?.into_iter().filter(|one| one.break_glass) {
        // Of which scope a record is stands in it. One that was archived is of none any more.
        let inside = asker.extent().is_everywhere()
            || ledger
                .deletion(one.deletion)
                .await?
                .is_some_and(|view| asker.extent().contains(&view.deletion.record.resource.scope));
        if inside {
            seen.push(one);
        }
    }
    Ok(seen)
}

pub(super) async fn give(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(OverrideRequest { deletion, stage, belt, reason, break_glass }): Body<OverrideRequest>,
) -> Result<(StatusCode, Json<OneShot>), Refused> {
    if let Some(given) =
        once.noted(|note| if let Note::Overridden(given) = note { Some(given) } else { None })?
    {
        return Ok((StatusCode::CREATED, Json(given)));
    }
    reasonable(&reason)?;
    let what = if break_glass { Permission::BreakGlass } else { Permission::Override };
    asker.may(what, Reach::Filtered)?;
    let scope =
        api.engine.ledger.deletion(deletion).await?.map(|view| view.deletion.record.resource.scope.clone());
    hidden(asker.extent(), scope.as_ref(), &deletion)?;
    let new = NewOneShot { deletion, stage, belt, by, reason, break_glass };
    let given = once.ledger.give_one_shot(new).await??;
    tracing::warn!(override_ = given.id, %deletion, %stage, %belt, by = %given.by, break_glass, "a belt is overridden");
    // It stands whatever comes of this: what is held is looked at within a minute anyway.
    let job = JobId::of(deletion, stage.index());
    if let Err(error) = api.engine.run(vec![Intent { deletion, event: Event::Recheck { job } }]).await {
        tracing::warn!(%error, %deletion, "overridden; it is looked at later");
    }
    api.engine.noted();
    Ok((StatusCode::CREATED, Json(given)))
}

pub(super) async fn take_back(
    By(by): By,
    once: Once,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Refused> {
    let wrong = || Refused::field("override", format!("override {id:?}: expected a number"));
    let number: i64 = id.parse().map_err(|_| wrong())?;
    let done = once.noted(|note| (note == Note::TakenBack).then_some(()))?.is_some();
    if !done && !once.ledger.take_back_one_shot(number, &by).await? {
        return Err(Refused::absent(format_args!("override {number}")));
    }
    Ok(Json(serde_json::json!({ "taken_back": number })))
}
