//! Batches: what was frozen together, who is in it, and how it ends.
use sexton_model::belts::budget::{Budgets, CannotApprove};
use sexton_model::{JobId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::{group, insert, lock, member};
use crate::budget::{self, Approval, BatchRow, BatchView, Body, Ended, Member};
use crate::keys::Note;
use crate::postgres::error::{all_there, corrupt, doing};
use crate::postgres::{PgLedger, find, pause, review};
use crate::rules::text;
use crate::{LedgerError, NotDone};

const WAITING: &str = "SELECT b.id, b.kind, b.scope, b.slot, b.frozen_at, b.body, \
     (SELECT count(*) FROM batch_members m JOIN jobs j ON j.id = m.job AND j.state IN (0, 1) WHERE m.batch = b.id) \
     FROM batches b WHERE b.waits ORDER BY b.id";
const ONE: &str = "SELECT b.id, b.kind, b.scope, b.slot, b.frozen_at, b.body, 0::bigint FROM batches b \
     WHERE b.waits AND b.id = $1";
const MEMBERS: &str = "SELECT j.id, j.resource, r.body::json ->> 'requested_by' FROM batch_members m \
     JOIN jobs j ON j.id = m.job AND j.state IN (0, 1) JOIN records r ON r.deletion_id = j.deletion_id \
     WHERE m.batch = $1 ORDER BY j.id";
const FREEZE: &str = "INSERT INTO batches (id, kind, scope, slot, frozen_at, waits, body) \
     SELECT coalesce(max(id), 0) + 1, $1, $2, $3, $4, true, $5 FROM batches RETURNING id";
const JOIN: &str =
    "INSERT INTO batch_members (job, batch) SELECT k.job, $2 FROM unnest($1::bigint[]) AS k (job)";
const END: &str = "UPDATE batches SET waits = false, body = $2 WHERE id = $1 AND waits";
const LEAVE: &str = "DELETE FROM batch_members WHERE batch = $1";

/// Batches that wait.
pub(in crate::postgres) async fn waiting(db: &mut PgConnection) -> Result<Vec<BatchRow>, LedgerError> {
    let rows = sqlx::query(WAITING).fetch_all(db).await.map_err(doing("reading batches"))?;
    rows.iter().map(batch).collect()
}

/// One that waits, with its members.
pub(in crate::postgres) async fn view(
    db: &mut PgConnection,
    id: i64,
) -> Result<Option<BatchView>, LedgerError> {
    let row = sqlx::query(ONE).bind(id).fetch_optional(&mut *db).await.map_err(doing("reading a batch"))?;
    let Some(row) = row else { return Ok(None) };
    let members = members(db, id).await?;
    let row = BatchRow { waiting: members.len() as u64, ..batch(&row)? };
    Ok(Some(BatchView { row, members }))
}

/// Let a batch go, beside the budget; its members are looked at again by whoever asked.
pub(in crate::postgres) async fn approve(
    ledger: &PgLedger,
    approval: &Approval,
) -> Result<Result<Vec<JobId>, NotDone>, LedgerError> {
    let part = || doing("approving a batch");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    lock(&mut tx).await?;
    let Some(view) = view(&mut tx, approval.batch).await? else {
        return Ok(Err(CannotApprove::NoSuchBatch(approval.batch).into()));
    };
    if let Err(why) = view.check(approval) {
        return Ok(Err(why.into()));
    }
    let now = find::clock(&mut tx).await?;
    let jobs: Vec<JobId> = view.members.iter().map(|member| member.job).collect();
    insert(&mut tx, &jobs, None, Budgets::approved_until(now, ledger.options.day)).await?;
    end(&mut tx, &view.row, Ended::of(approval, now), Some(&approval.digest)).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::Approved(jobs.len() as u64))).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(Ok(jobs))
}

/// Freeze these jobs as a batch, whose number is put into `row`.
pub(super) async fn freeze(
    db: &mut PgConnection,
    row: &mut BatchRow,
    jobs: &[JobId],
) -> Result<(), LedgerError> {
    let part = || doing("freezing a batch");
    let body = text(&Body { exceeded: row.exceeded.clone(), ended: None })?;
    row.batch = sqlx::query_scalar(FREEZE)
        .bind(row.group.kind.to_string())
        .bind(row.group.scope.to_string())
        .bind(i16::from(row.group.stage.index()))
        .bind(row.frozen_at.0)
        .bind(body)
        .fetch_one(&mut *db)
        .await
        .map_err(part())?;
    let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
    let done = sqlx::query(JOIN).bind(ids).bind(row.batch).execute(&mut *db).await.map_err(part())?;
    all_there("batch_members", done.rows_affected(), jobs.len())?;
    pause::append_alone(db, &budget::frozen(row, jobs, row.frozen_at)).await
}

/// A batch waits no more.
pub(super) async fn end(
    db: &mut PgConnection,
    row: &BatchRow,
    how: Ended,
    digest: Option<&str>,
) -> Result<(), LedgerError> {
    let part = || doing("ending a batch");
    let event = budget::ended(row.batch, &how, digest)?;
    let body = text(&Body { exceeded: row.exceeded.clone(), ended: Some(how) })?;
    let done = sqlx::query(END).bind(row.batch).bind(body).execute(&mut *db).await.map_err(part())?;
    all_there("batches", done.rows_affected(), 1)?;
    sqlx::query(LEAVE).bind(row.batch).execute(&mut *db).await.map_err(part())?;
    pause::append_alone(db, &event).await
}

/// Who is in a batch and has not begun.
pub(super) async fn members(db: &mut PgConnection, batch: i64) -> Result<Vec<Member>, LedgerError> {
    let part = || doing("reading the members of a batch");
    let rows = sqlx::query(MEMBERS).bind(batch).fetch_all(db).await.map_err(part())?;
    rows.iter().map(|row| member(row, 0)).collect()
}

fn batch(row: &PgRow) -> Result<BatchRow, LedgerError> {
    let part = || doing("reading a batch");
    let id: i64 = row.try_get(0).map_err(part())?;
    let waiting: i64 = row.try_get(6).map_err(part())?;
    Ok(BatchRow {
        batch: id,
        group: group(row, 1)?,
        frozen_at: Timestamp(row.try_get(4).map_err(part())?),
        exceeded: body(id, row.try_get(5).map_err(part())?)?.exceeded,
        waiting: u64::try_from(waiting).unwrap_or(0),
    })
}

pub(super) fn body(batch: i64, text: &str) -> Result<Body, LedgerError> {
    serde_json::from_str(text).map_err(|e| corrupt("batches", batch, e.to_string()))
}
