//! Cancelling all of a scope, and who is restored first.
//!
//! A request takes one page, so that it may be repeated: what was cancelled before is being restored and says so, and
//! what fails fails alone. So a key of such a request has nothing noted: what is cancelled twice is cancelled once, and
//! what was made since it was first sent is left alone. The order is that of the restores: by priority, then by number.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sexton_api::{
    CANCEL_MAX, CancelCursor, CancelScope, Cancellation, Cancellations, Prioritize, ResourceInfo,
};
use sexton_ledger::{Intent, LedgerError, LiveRecord, Note, WITHIN_MAX};
use sexton_model::access::{Permission, Reach};
use sexton_model::decide::Event;
use sexton_model::{Actor, Timestamp, undo};

use super::in_force::reasonable;
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared, resources};

pub(super) async fn cancel(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(CancelScope { scope, reason, dry_run, after }): Body<CancelScope>,
) -> Result<Json<Cancellations>, Refused> {
    asker.may(Permission::Cancel, Reach::Scope(&scope))?;
    reasonable(&reason)?;
    let all = match api.engine.ledger.live_within(&scope).await {
        Err(LedgerError::TooMany { .. }) => {
            let detail =
                format!("scope: more than {WITHIN_MAX} records of {scope} are live: cancel scopes below it");
            return Err(Refused::field("scope", detail));
        }
        other => other?,
    };
    let live = all.len() as u64;
    let cursor = |one: &LiveRecord| CancelCursor { priority: one.priority, deletion: one.deletion };
    let mut left = all.into_iter().filter(|one| after.is_none_or(|after| cursor(one) > after));
    let page: Vec<LiveRecord> = left.by_ref().take(CANCEL_MAX).collect();
    let next = page.last().map(cursor).filter(|_| left.next().is_some());
    let mut items = Vec::with_capacity(page.len());
    for one in page {
        items.push(preview(&api, one, once.first_sent()).await?);
    }
    if !dry_run {
        items = decide(&api, items, &by, &reason).await?;
    }
    Ok(Json(Cancellations { items, live, next }))
}

/// What a cancel would do to one.
async fn preview(api: &Api, one: LiveRecord, first_sent: Option<Timestamp>) -> Result<Cancellation, Refused> {
    let ledger = &api.engine.ledger;
    let mut item = Cancellation {
        deletion: one.deletion,
        resource: one.resource,
        priority: one.priority,
        status: one.status,
        cancelled: false,
        restores: Vec::new(),
        until: None,
        why: String::new(),
    };
    match ledger.deletion(one.deletion).await {
        Ok(Some(view)) => {
            let facts = ledger.facts().await?;
            let said = undo::undo(&view.deletion, facts.day, facts.now);
            item.status = view.deletion.status;
            (item.cancelled, item.restores, item.until) = (said.possible, said.steps, said.until);
            if !said.possible {
                item.why = said.words;
            }
            // Whoever asked did not mean what was made while the answer was lost.
            if first_sent.is_some_and(|sent| view.deletion.record.created_at > sent) {
                item.cancelled = false;
                item.why = "it was made after this was first asked for under its key".to_owned();
            }
        }
        Ok(None) => item.why = "it is over, and was archived".to_owned(),
        // It fails alone.
        Err(error @ LedgerError::Corrupt { .. }) => item.why = error.to_string(),
        Err(error) => return Err(error.into()),
    }
    Ok(item)
}

/// Cancel those of which the preview says that it is possible; the decision counts.
async fn decide(
    api: &Api,
    items: Vec<Cancellation>,
    by: &Actor,
    reason: &str,
) -> Result<Vec<Cancellation>, Refused> {
    let cancel = |item: &Cancellation| Intent {
        deletion: item.deletion,
        event: Event::Cancel { by: by.clone(), reason: reason.to_owned() },
    };
    let batch: Vec<Intent> = items.iter().filter(|item| item.cancelled).map(cancel).collect();
    let engine = api.engine.clone();
    // Of its own: a caller who hangs up between decision and publishing does not end it there.
    let running = tokio::spawn(async move { engine.run(batch).await });
    let results = running
        .await
        .map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect: see the log"))??;
    let mut results = results.into_iter();
    let settled = |mut item: Cancellation| {
        if !item.cancelled {
            return item;
        }
        match results.next() {
            Some(Ok(decided)) => item.status = decided.status,
            Some(Err(why)) => (item.cancelled, item.why) = (false, why.to_string()),
            None => (item.cancelled, item.why) = (false, "it was not answered".to_owned()),
        }
        item
    };
    Ok(items.into_iter().map(settled).collect())
}

pub(super) async fn prioritize(
    State(api): Shared,
    By(by): By,
    once: Once,
    Path((kind, name)): Path<(String, String)>,
    Body(Prioritize { priority }): Body<Prioritize>,
) -> Result<Json<ResourceInfo>, Refused> {
    let id = resources::id_of(&kind, &name)?;
    if once.noted(|note| (note == Note::Prioritized).then_some(()))?.is_none() {
        once.ledger.prioritize(&id, priority, &by).await??;
        api.engine.noted();
    }
    resources::show(State(api), Path((kind, name))).await
}
