//! Findings: read only.
use axum::Json;
use axum::extract::{Query, State};
use sexton_api::{FindingsInfo, FindingsQuery, PAGE_MAX};
use sexton_ledger::Mark;

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
    let found = page(&*api.engine.ledger, &api.plans, wanted).await?;
    let next = found.next.as_ref().map(written);
    Ok(Json(FindingsInfo { items: found.items, censuses: found.censuses, next }))
}

/// As the `next` of a page says it: a resource without a name begins with the first one of its kind.
fn written(Mark { scope, kind, name }: &Mark) -> String {
    let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{scope},{kind}/{name}")
}

/// What the `next` of a page has said.
fn behind(text: &str) -> Result<Mark, Refused> {
    let parsed = text.split_once(',').and_then(|(scope, resource)| {
        let (kind, name) = resource.split_once('/')?;
        let name = if name.is_empty() { None } else { Some(name.parse().ok()?) };
        Some(Mark { scope: scope.parse().ok()?, kind: kind.parse().ok()?, name })
    });
    parsed.ok_or_else(|| Refused::field("after", "after: expected the next of the page before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_is_where_the_next_one_begins() {
        for text in ["tenants/acme,vm/web01", "tenants/acme,vm/"] {
            assert_eq!(behind(text).ok().as_ref().map(written).as_deref(), Some(text));
        }
        for text in
            ["", "tenants/acme", "tenants/acme,vm", ",vm/", "tenants/acme,/web01", "tenants/acme,vm/a b"]
        {
            assert!(behind(text).is_err(), "{text}");
        }
    }
}
