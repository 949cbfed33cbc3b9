//! What is due, read through the one view that the scheduler's role may see.
use async_trait::async_trait;
use sexton_model::decide::Lane;
use sexton_model::{Instance, JobId};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::error::doing;
use super::{open, restores};
use crate::{DueReader, LedgerError};

/// Line by line (a skip scan over the queue index), and in each the due of both ranks of stages: nothing that is not due
/// is touched, however much is stored. Restores in line are not among them: they are read by priority, which this view
/// does not show.
const DUE: &str = "WITH RECURSIVE lines AS ( \
       (SELECT wants FROM due_jobs ORDER BY wants LIMIT 1) \
       UNION ALL \
       SELECT (SELECT d.wants FROM due_jobs d WHERE d.wants > l.wants ORDER BY d.wants LIMIT 1) \
         FROM lines l WHERE l.wants IS NOT NULL) \
     SELECT j.id FROM lines l CROSS JOIN LATERAL (SELECT q.id, q.rank, q.due_at FROM ( \
         (SELECT id, rank, due_at FROM due_jobs WHERE wants = l.wants AND rank = 1 \
            AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint ORDER BY due_at, id LIMIT $1) \
         UNION ALL \
         (SELECT id, rank, due_at FROM due_jobs WHERE wants = l.wants AND rank = 2 \
            AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint ORDER BY due_at, id LIMIT $1) \
       ) q ORDER BY q.rank, q.due_at, q.id LIMIT $1) j \
     WHERE l.wants IS NOT NULL ORDER BY j.rank, j.due_at, j.id";

/// One line of stages: what is under way first.
pub(super) const NEXT_STAGES: &str = "SELECT q.id FROM ( \
         (SELECT id, rank, due_at FROM due_jobs WHERE wants = $1 AND rank = 1 \
            AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint ORDER BY due_at, id LIMIT $2) \
         UNION ALL \
         (SELECT id, rank, due_at FROM due_jobs WHERE wants = $1 AND rank = 2 \
            AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint ORDER BY due_at, id LIMIT $2) \
     ) q ORDER BY q.rank, q.due_at, q.id LIMIT $2";

/// Most jobs that are read per instance at once: more would be stale before they are claimed.
const LIMIT_MAX: u32 = 4096;
/// Connections of a reader: it asks one question at a time; one more for the health check.
const CONNECTIONS_MAX: u32 = 2;

/// Reads what is due, with no more rights than that takes.
#[derive(Debug, Clone)]
pub struct PgDueReader {
    pool: PgPool,
}

impl PgDueReader {
    /// Connect, best as a member of the role `sexton_scheduler`. Changes nothing and needs a ledger to be there.
    ///
    /// # Errors
    /// If the database cannot be reached or the view cannot be read.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(open::connection(url)?)
            .await
            .map_err(doing("connecting to the database"))?;
        due(&pool, 1).await?;
        Ok(Self { pool })
    }

    /// The statement that finds what is due, for tests of its plan; its parameter is the limit.
    pub fn statement() -> &'static str {
        DUE
    }
}

#[async_trait]
impl DueReader for PgDueReader {
    async fn due(&self, limit: u32) -> Result<Vec<JobId>, LedgerError> {
        due(&self.pool, limit).await
    }
}

/// What may be claimed now.
pub(super) async fn due(pool: &PgPool, limit: u32) -> Result<Vec<JobId>, LedgerError> {
    let ids: Vec<i64> = sqlx::query_scalar(DUE)
        .bind(i64::from(limit.clamp(1, LIMIT_MAX)))
        .fetch_all(pool)
        .await
        .map_err(doing("reading what is due"))?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// The line of one instance.
pub(super) async fn next_for(
    pool: &PgPool,
    instance: Option<&Instance>,
    lane: Lane,
    limit: u32,
) -> Result<Vec<JobId>, LedgerError> {
    let statement = match lane {
        Lane::Restores => return restores::in_line(pool, instance, limit.clamp(1, LIMIT_MAX)).await,
        Lane::Stages => NEXT_STAGES,
    };
    let ids: Vec<i64> = sqlx::query_scalar(statement)
        .bind(instance.map(ToString::to_string).unwrap_or_default())
        .bind(i64::from(limit.clamp(1, LIMIT_MAX)))
        .fetch_all(pool)
        .await
        .map_err(doing("reading a line"))?;
    Ok(ids.into_iter().map(JobId).collect())
}
