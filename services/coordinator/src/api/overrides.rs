//! One-shot overrides: one stage of one deletion passes one belt.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sexton_api::OverrideRequest;
use sexton_ledger::{Intent, Note};
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::one_shot::{NewOneShot, OneShot};
use sexton_model::decide::Event;
use sexton_model::{DeletionId, JobId, Scope};

use super::access::hidden;
use super::in_force::reasonable;
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};

/// Those of records that the caller sees.
pub(super) async fn list(State(api): Shared, asker: Asker) -> Result<Json<Vec<OneShot>>, Refused> {
    Ok(Json(seen(&api, &asker, api.engine.ledger.one_shots().await?).await?))
}

/// Those for which the glass was broken, taken back or not, of records that the caller sees.
pub(super) async fn broken_glass(api: &Api, asker: &Asker) -> Result<Vec<OneShot>, Refused> {
    seen(api, asker, api.engine.ledger.broken_glass().await?).await
}

/// Those of `all` whose record the caller sees. Each record is looked at once, however many overrides it has.
async fn seen(api: &Api, asker: &Asker, mut all: Vec<OneShot>) -> Result<Vec<OneShot>, Refused> {
    let extent = asker.extent();
    if extent.is_everywhere() {
        return Ok(all);
    }
    let records: BTreeSet<DeletionId> = all.iter().map(|one| one.deletion).collect();
    let mut inside = BTreeSet::new();
    for record in records {
        if scope_of(api, record).await?.is_some_and(|scope| extent.contains(&scope)) {
            inside.insert(record);
        }
    }
    all.retain(|one| inside.contains(&one.deletion));
    Ok(all)
}

/// Of which scope a record is stands in it. One that was archived is of none any more.
async fn scope_of(api: &Api, deletion: DeletionId) -> Result<Option<Scope>, Refused> {
    let view = api.engine.ledger.deletion(deletion).await?;
    Ok(view.map(|view| view.deletion.record.resource.scope.clone()))
}

/// Of which scope the record is that the override `id` is about: of none, if there is no such override.
pub(super) async fn scope_of_override(api: &Api, id: i64) -> Result<Option<Scope>, Refused> {
    let all = api.engine.ledger.one_shots().await?;
    match all.into_iter().find(|one| one.id == id) {
        Some(one) => scope_of(api, one.deletion).await,
        None => Ok(None),
    }
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
    hidden(asker.extent(), scope_of(&api, deletion).await?.as_ref(), &deletion)?;
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
