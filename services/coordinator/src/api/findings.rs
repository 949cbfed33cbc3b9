//! Findings: read only.
use axum::Json;
use axum::extract::{Query, State};
use sexton_api::{FindingsInfo, FindingsQuery, PAGE_MAX};
use sexton_model::{ResourceId, Scope};

use super::problem::Refused;
use super::{Asker, Shared};
use crate::findings::{Wanted, page};

/// What is there, by the last complete listings, and nobody has registered.
pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<FindingsQuery>,
) -> Result<Json<FindingsInfo>, Refused> {
    let FindingsQuery { kind, scope, after, limit } = query;
    let after = after.as_deref().map(behind).transpose()?;
    let limit = limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let wanted = Wanted { extent: asker.extent(), kind, scope, after, limit };
    let Some(found) = page(&*api.engine.ledger, &api.plans, wanted).await? else {
        let extent = asker.extent();
        let detail =
            format!("scope: there are too many of other scopes to look through: name one of {extent}");
        return Err(Refused::field("scope", detail));
    };
    let next = found.next.map(|(scope, id)| format!("{scope},{id}"));
    Ok(Json(FindingsInfo { items: found.items, censuses: found.censuses, next }))
}

/// What the `next` of a page has said.
fn behind(text: &str) -> Result<(Scope, ResourceId), Refused> {
    let parsed: Option<(Scope, ResourceId)> =
        text.split_once(',').and_then(|(scope, id)| Some((scope.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| Refused::field("after", "after: expected the next of the page before"))
}
