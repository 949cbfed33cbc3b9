//! What stands behind the first piece of a crowd: see [`sexton_model::belts::budget::goes_on`].
use std::collections::BTreeSet;

use sexton_model::belts::budget::Group;
use sexton_model::{JobId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::doing;
use super::{PgLedger, admit};
use crate::LedgerError;
use crate::budget::DueJob;

/// What of these groups a pause, a ceiling or working hours held when somebody looked last, and is neither admitted nor in a
/// batch; of stages that are not counted (`$4` are those that are) only the backlog. By the partial index; only of what is held
/// the reason is JSON. Of each its deletion is found by its key, as where what is due is read. `IS TRUE` keeps the groups in a hash that is asked for each row: else all that is
/// held would be gone through once for each group.
const KEPT: &str = "WITH kept AS MATERIALIZED (SELECT id, deletion_id, reason FROM jobs WHERE held \
       AND id % 8 = ANY($3) AND (id % 8 = ANY($4) OR due_at <= $5)) \
     SELECT j.id, d.kind, d.scope, (j.id % 8)::smallint, a.bucket, coalesce((j.reason::json ->> 'pause')::bigint, 0) \
     FROM kept j \
     CROSS JOIN LATERAL (SELECT kind, scope, status FROM deletions WHERE id = j.deletion_id OFFSET 0) d \
     LEFT JOIN LATERAL (SELECT bucket, good_until FROM admissions WHERE job = j.id OFFSET 0) a ON true \
     WHERE d.status = 0 AND ((d.kind, d.scope, j.id % 8) IN ( \
         SELECT p.kind, p.scope, p.slot FROM unnest($1::text[], $2::text[], $3::bigint[]) AS p (kind, scope, slot))) IS TRUE \
       AND j.reason::json ->> 'by' IN ('pause', 'ceiling', 'window') AND (a.good_until IS NULL OR a.good_until <= $6) \
       AND NOT EXISTS (SELECT 1 FROM batch_members m JOIN batches b ON b.id = m.batch AND b.waits WHERE m.job = j.id) \
     ORDER BY j.id";

/// By the order of the partial index, of which the first entry is enough.
pub(super) const ANY_HELD: &str = "SELECT id FROM jobs WHERE held ORDER BY id LIMIT 1";

/// Both in one go.
const NOW_AND_ANY_HELD: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     (SELECT id FROM jobs WHERE held ORDER BY id LIMIT 1) IS NOT NULL";

/// The store's clock, and whether anything is held at all by then.
pub(super) async fn now_and_any_held(db: &mut PgConnection) -> Result<(Timestamp, bool), LedgerError> {
    let part = || doing("looking whether anything is held");
    let (now, held): (i64, bool) = sqlx::query_as(NOW_AND_ANY_HELD).fetch_one(db).await.map_err(part())?;
    Ok((Timestamp(now), held))
}

/// Whether anything is held at all. Where nothing is, nothing stands behind a piece, and what is due need not be read twice.
pub(super) async fn any_held(db: &mut PgConnection) -> Result<bool, LedgerError> {
    let found = sqlx::query(ANY_HELD).fetch_optional(db).await;
    found.map(|row| row.is_some()).map_err(doing("looking whether anything is held"))
}

/// All that is held of these groups by a pause (its number), or by a ceiling or working hours (0), as far as anybody has looked.
pub(super) async fn kept(
    db: &mut PgConnection,
    ledger: &PgLedger,
    pieces: &BTreeSet<Group>,
    now: Timestamp,
) -> Result<Vec<(DueJob, i64)>, LedgerError> {
    let part = || doing("reading what stands behind a piece");
    let (policy, day) = (ledger.policy.get(), ledger.options.day);
    let budgets = policy.budgets(day);
    let rows = sqlx::query(KEPT)
        .bind(pieces.iter().map(|group| group.kind.to_string()).collect::<Vec<_>>())
        .bind(pieces.iter().map(|group| group.scope.to_string()).collect::<Vec<_>>())
        .bind(pieces.iter().map(|group| i64::from(group.stage.index())).collect::<Vec<_>>())
        .bind(budgets.stages().map(|stage| i64::from(stage.index())).collect::<Vec<_>>())
        .bind(budgets.backlog_until(now, day).0)
        .bind(now.0)
        .fetch_all(db)
        .await
        .map_err(part())?;
    let one = |row: &PgRow| {
        let charged: Option<i64> = row.try_get(4).map_err(part())?;
        let job = JobId(row.try_get(0).map_err(part())?);
        let pause: i64 = row.try_get(5).map_err(part())?;
        Ok((DueJob { job, group: admit::group(row, 1)?, charged: charged.map(Timestamp) }, pause))
    };
    rows.iter().map(one).collect()
}
