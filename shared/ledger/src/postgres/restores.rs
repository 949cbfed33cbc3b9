//! Restoring many, in the database.
use async_trait::async_trait;
use sexton_model::{Actor, DeletionId, Instance, JobId, ResourceId, Scope};
use sqlx::{PgPool, Row as _};

use super::error::{corrupt, doing};
use super::{PgLedger, codes, resources};
use crate::restores::{COMPARED, LiveRecord, Restores, WITHIN_MAX, below, few};
use crate::{LedgerError, NotDone};

const WITHIN: &str = "SELECT d.id, d.resource, d.status, (x.body::json ->> 'priority')::smallint AS priority \
     FROM deletions d JOIN resources x ON x.id = d.resource \
     WHERE d.live AND (d.scope = $1 OR (d.scope >= $2 AND d.scope < $3)) ORDER BY priority, d.id LIMIT $4";
/// The oldest restores of one line, by priority.
pub(super) const IN_LINE: &str = "SELECT q.id FROM (SELECT id, resource, due_at FROM jobs \
     WHERE queued AND wants = $1 AND rank = 0 AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint \
     ORDER BY due_at, id LIMIT $2) q JOIN resources x ON x.id = q.resource \
     ORDER BY (x.body::json ->> 'priority')::smallint, q.due_at, q.id LIMIT $3";

/// The live records of a scope and of those below it.
async fn within(pool: &PgPool, scope: &Scope) -> Result<Vec<LiveRecord>, LedgerError> {
    let part = || doing("reading the live records of a scope");
    let ((from, to), most) = (below(scope), i64::try_from(WITHIN_MAX).unwrap_or(i64::MAX));
    let rows = sqlx::query(WITHIN)
        .bind(scope.to_string())
        .bind(from)
        .bind(to)
        .bind(most.saturating_add(1))
        .fetch_all(pool)
        .await
        .map_err(part())?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = DeletionId(row.try_get(0).map_err(part())?);
        let resource: &str = row.try_get(1).map_err(part())?;
        found.push(LiveRecord {
            deletion: id,
            resource: resource.parse().map_err(|_| corrupt("deletions", id, "not a resource"))?,
            status: codes::status(row.try_get(2).map_err(part())?)
                .ok_or_else(|| corrupt("deletions", id, "unknown status"))?,
            priority: row.try_get(3).map_err(part())?,
        });
    }
    few(found)
}

/// Restores in one line: whose resource has the lower priority first, then the oldest.
pub(super) async fn in_line(
    pool: &PgPool,
    instance: Option<&Instance>,
    limit: u32,
) -> Result<Vec<JobId>, LedgerError> {
    let ids: Vec<i64> = sqlx::query_scalar(IN_LINE)
        .bind(instance.map(ToString::to_string).unwrap_or_default())
        .bind(COMPARED)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(doing("reading a line of restores"))?;
    Ok(ids.into_iter().map(JobId).collect())
}

#[async_trait]
impl Restores for PgLedger {
    async fn live_within(&self, scope: &Scope) -> Result<Vec<LiveRecord>, LedgerError> {
        within(&self.pool, scope).await
    }

    async fn prioritize(
        &self,
        resource: &ResourceId,
        priority: i16,
        by: &Actor,
    ) -> Result<Result<(), NotDone>, LedgerError> {
        resources::prioritize(self, resource, priority, by).await
    }
}
