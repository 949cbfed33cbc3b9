//! Receipts: what proves that a purge is complete.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use sexton_model::DeletionId;
use sexton_model::deletion::Deletion;
use sexton_model::job::{Stage, StateName};
use sexton_model::receipt::Receipt;

use super::problem::Refused;
use super::{Api, Shared, archived, records};

pub(super) async fn show(State(api): Shared, Path(id): Path<String>) -> Result<Response, Refused> {
    if is_a_kind(&api, &id) {
        let named = Path((id, "receipt".to_owned()));
        return Ok(records::show_of(State(api), named).await?.into_response());
    }
    let id = records::parse(&api, &id)?;
    let ledger = &api.engine.ledger;
    if let Some(receipt) = ledger.receipt(id).await? {
        return Ok(Json(receipt).into_response());
    }
    let Some(view) = ledger.deletion(id).await? else { return Err(archived::missing(&api, id).await?) };
    let why = if purged(&view.deletion) {
        waits(&api)
    } else {
        format!(
            "deletion {id} is {}, and its purge is not over: there is no receipt",
            view.deletion.status.word()
        )
    };
    Err(Refused::new(StatusCode::NOT_FOUND, why))
}

/// Whether a path names no record, but the resource of this kind that is called `receipt`.
pub(super) fn is_a_kind(api: &Api, id: &str) -> bool {
    id.parse::<DeletionId>().is_err() && api.plans.kinds().any(|kind| kind.to_string() == id)
}

/// What a record's receipt says; none before its purge is over.
pub(super) async fn sentence(api: &Api, deletion: &Deletion) -> Result<Option<String>, Refused> {
    if !purged(deletion) {
        return Ok(None);
    }
    let Some(signed) = api.engine.ledger.receipt(deletion.id).await? else { return Ok(Some(waits(api))) };
    Ok(Some(match serde_json::from_str::<Receipt>(&signed.body) {
        Ok(receipt) => receipt.sentence(),
        Err(error) => format!("it cannot be read: {error}"),
    }))
}

fn purged(deletion: &Deletion) -> bool {
    deletion.stage_job(Stage::Purge).is_some_and(|job| job.state.name() == StateName::Done)
}

fn waits(api: &Api) -> String {
    match api.engine.attester() {
        Some(_) => {
            "its purge is over, its receipt is not signed yet: if it stays so, the log says why".to_owned()
        }
        None => "its purge is over, but nothing is signed here: see [audit]".to_owned(),
    }
}
