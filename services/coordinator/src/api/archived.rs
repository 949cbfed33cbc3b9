//! What stays of records that were archived.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{ArchivedInfo, ListQuery, PAGE_MAX, Page};
use sexton_ledger::StubFilter;
use sexton_model::DeletionId;
use sexton_model::archive::Stub;
use sexton_model::audit::hex;

use super::problem::Refused;
use super::records::parse;
use super::resources::id_of;
use super::{Api, Shared};

pub(super) async fn list(
    State(api): Shared,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ArchivedInfo>>, Refused> {
    for (field, given) in [("scope", query.scope.is_some()), ("state", query.state.is_some())] {
        if given {
            let detail = format!("{field}: the archive is listed by kind and status only");
            return Err(Refused::field(field, detail));
        }
    }
    let filter = StubFilter {
        status: query.status,
        kind: query.kind,
        after: query.after,
        limit: query.limit.unwrap_or(100).clamp(1, PAGE_MAX),
    };
    let page = api.engine.ledger.stubs(&filter).await?;
    let items = page.items.into_iter().map(|stub| info(&api, stub)).collect();
    Ok(Json(Page { items, next: page.next }))
}

async fn one(api: &Api, id: DeletionId) -> Result<Json<ArchivedInfo>, Refused> {
    let stub = api.engine.ledger.stub(id).await?;
    let stub = stub.ok_or_else(|| Refused::absent(format_args!("archived deletion {id}")))?;
    Ok(Json(info(api, stub)))
}

pub(super) async fn show(State(api): Shared, Path(id): Path<String>) -> Result<Json<ArchivedInfo>, Refused> {
    one(&api, parse(&api, &id)?).await
}

pub(super) async fn show_of(
    State(api): Shared,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<ArchivedInfo>, Refused> {
    let resource = id_of(&kind, &name)?;
    let id = api.engine.ledger.deletion_of(&resource).await?;
    let id = id.ok_or_else(|| Refused::absent(format_args!("deletion record of {resource}")))?;
    one(&api, id).await
}

/// Why there is no such record: it was archived, or there never was one.
pub(super) async fn missing(api: &Api, id: DeletionId) -> Result<Refused, Refused> {
    let Some(stub) = api.engine.ledger.stub(id).await? else {
        return Ok(Refused::absent(format_args!("deletion {id}")));
    };
    let entry = &stub.entry;
    let detail = format!(
        "deletion {id} of {} is over ({}), and was archived at {} in {}, whose SHA-256 is {}",
        entry.resource,
        entry.status.word(),
        entry.archived_at,
        entry.file,
        hex(&entry.sha256),
    );
    Ok(Refused::new(StatusCode::GONE, detail))
}

fn info(api: &Api, stub: Stub) -> ArchivedInfo {
    let signed = match api.engine.archiver().map(|archiver| archiver.verify(&stub)) {
        Some(Ok(())) => "verified".to_owned(),
        Some(Err(error)) => format!("NOT VERIFIED: {error}"),
        None => "not checked: no archive is configured here".to_owned(),
    };
    let Stub { entry, key_id, signature } = stub;
    ArchivedInfo {
        id: entry.deletion,
        resource: entry.resource,
        status: entry.status,
        ended_at: entry.ended_at,
        archived_at: entry.archived_at,
        file: entry.file,
        sha256: hex(&entry.sha256),
        events: entry.events,
        head: hex(&entry.head),
        key_id,
        signature,
        signed,
    }
}
