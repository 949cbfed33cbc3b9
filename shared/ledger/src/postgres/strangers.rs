//! What the last censuses have listed and nobody has registered: exchanged with each census that is believed.
use std::collections::BTreeMap;

use async_trait::async_trait;
use sexton_model::belts::census::findings::{self, Kept, Known};
use sexton_model::belts::census::{Stranger, Taken};
use sexton_model::{Kind, Scope, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, SNAPSHOT, census};
use crate::LedgerError;
use crate::census::{LATEST_MAX, PAGE_MAX};
use crate::findings::{Findings, StrangerFilter, StrangerView, Strangers, behind, page};
use crate::rules::text;

const KEPT: &str = "SELECT scope, census, first_seen, body FROM strangers WHERE kind = $1 AND scope = $2";
const FORGET: &str = "DELETE FROM strangers WHERE kind = $1 AND scope = $2";
const KEEP: &str = "INSERT INTO strangers (scope, resource, kind, census, first_seen, body) \
     SELECT $2, v.resource, $1, $3, v.first_seen, v.body \
     FROM unnest($4::text[], $5::bigint[], $6::text[]) AS v (resource, first_seen, body)";
const LAST: &str = "SELECT body FROM censuses WHERE id IN (SELECT max(id) FROM censuses GROUP BY kind, scope) \
     ORDER BY id DESC LIMIT $1";
const COUNTS: &str = "SELECT kind, scope, count(*) FROM strangers GROUP BY kind, scope";
const PAGE: &str = "SELECT s.scope, s.census, s.first_seen, s.body, \
       EXISTS (SELECT 1 FROM resources r WHERE r.id = s.resource AND r.presence = 0) \
         OR EXISTS (SELECT 1 FROM deletions d WHERE d.resource = s.resource AND d.live) \
     FROM strangers s WHERE ($1::text IS NULL OR s.kind = $1) \
       AND ($2::text IS NULL OR s.scope = $2 OR starts_with(s.scope, $2 || '/') OR starts_with($2, s.scope || '/')) \
       AND ($6::text[] IS NULL OR EXISTS (SELECT 1 FROM unnest($6::text[]) AS n (scope) WHERE s.scope = n.scope \
         OR starts_with(s.scope, n.scope || '/') OR starts_with(n.scope, s.scope || '/'))) \
       AND (s.scope, s.resource) > ($3, $4) ORDER BY s.scope, s.resource LIMIT $5";

/// Those of a census that is believed, in the place of those of the one before it.
pub(super) async fn keep(
    db: &mut PgConnection,
    taken: &Taken,
    strangers: Vec<Stranger>,
) -> Result<(), LedgerError> {
    let part = || doing("keeping what nobody has registered");
    let (kind, scope) = (taken.kind.to_string(), taken.scope.to_string());
    let before = sqlx::query(KEPT).bind(&kind).bind(&scope).fetch_all(&mut *db).await.map_err(part())?;
    let before = before.iter().map(kept).collect::<Result<Vec<Kept>, _>>()?;
    sqlx::query(FORGET).bind(&kind).bind(&scope).execute(&mut *db).await.map_err(part())?;
    let now = findings::kept(taken, strangers, &before);
    let ids: Vec<String> = now.iter().map(|one| one.stranger.id.to_string()).collect();
    let seen: Vec<i64> = now.iter().map(|one| one.first_seen.0).collect();
    let bodies = now.iter().map(|one| text(&one.stranger)).collect::<Result<Vec<String>, _>>()?;
    let query = sqlx::query(KEEP).bind(&kind).bind(&scope).bind(taken.census);
    let done = query.bind(&ids).bind(&seen).bind(&bodies).execute(&mut *db).await.map_err(part())?;
    all_there("strangers", done.rows_affected(), now.len())
}

fn kept(row: &PgRow) -> Result<Kept, LedgerError> {
    let part = || doing("reading what nobody has registered");
    let scope: &str = row.try_get(0).map_err(part())?;
    let body: &str = row.try_get(3).map_err(part())?;
    Ok(Kept {
        stranger: serde_json::from_str(body).map_err(|e| corrupt("strangers", scope, e.to_string()))?,
        listed_in: scope.parse().map_err(|_| corrupt("strangers", scope, "not a scope"))?,
        census: row.try_get(1).map_err(part())?,
        first_seen: Timestamp(row.try_get(2).map_err(part())?),
    })
}

#[async_trait]
impl Findings for PgLedger {
    async fn strangers(&self, filter: &StrangerFilter) -> Result<Strangers, LedgerError> {
        let part = || doing("listing what nobody has registered");
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let (scope, resource) = behind(filter);
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(part())?;
        let rows = sqlx::query(PAGE)
            .bind(filter.kind.as_ref().map(ToString::to_string))
            .bind(filter.scope.as_ref().map(ToString::to_string))
            .bind(scope)
            .bind(resource)
            .bind(i64::from(limit) + 1)
            .bind(filter.scopes.as_deref().map(census::texts))
            .fetch_all(&mut *tx)
            .await
            .map_err(part())?;
        let view =
            |row: &PgRow| Ok(StrangerView { kept: kept(row)?, registered: row.try_get(4).map_err(part())? });
        let views = rows.iter().map(view).collect::<Result<Vec<StrangerView>, LedgerError>>()?;
        let known = known(&mut tx).await?;
        tx.commit().await.map_err(part())?;
        Ok(page(known, views, limit))
    }
}

async fn known(db: &mut PgConnection) -> Result<Known, LedgerError> {
    let part = || doing("reading the last censuses");
    let last: Vec<String> =
        sqlx::query_scalar(LAST).bind(LATEST_MAX).fetch_all(&mut *db).await.map_err(part())?;
    let counts = sqlx::query(COUNTS).fetch_all(&mut *db).await.map_err(part())?;
    let count = |row: &PgRow| {
        let kind: &str = row.try_get(0).map_err(part())?;
        let scope: &str = row.try_get(1).map_err(part())?;
        let count: i64 = row.try_get(2).map_err(part())?;
        let kind: Kind = kind.parse().map_err(|_| corrupt("strangers", kind, "not a kind"))?;
        let scope: Scope = scope.parse().map_err(|_| corrupt("strangers", scope, "not a scope"))?;
        Ok(((kind, scope), u64::try_from(count).unwrap_or(0)))
    };
    let kept = counts.iter().map(count).collect::<Result<BTreeMap<(Kind, Scope), u64>, LedgerError>>()?;
    let last = last.iter().map(|body| census::parse(body)).collect::<Result<Vec<Taken>, LedgerError>>()?;
    Ok(Known { latest: census::latest(db).await?, last, kept })
}
