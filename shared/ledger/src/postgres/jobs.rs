//! The columns of the job table, as rows and as arrays.
use std::collections::BTreeSet;

use sexton_model::JobId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};

use super::error::{all_there, doing};
use crate::LedgerError;
use crate::row::JobRow;

/// One descent of the index per deletion, whatever the planner thinks: a limit keeps the look in its place.
const READ: &str = "SELECT j.* FROM unnest($1::bigint[]) AS d (deletion) CROSS JOIN LATERAL ( \
       SELECT id, state, locks, queued, held, wants, rank, due_at, cursor, phase, touched, attempts, unstarted, \
       quiet_after, ended_at, fence_epoch, fence_number, deadline, wake_at, started, performer, out_at, reason \
       FROM jobs WHERE id >= d.deletion * 8 AND id < d.deletion * 8 + 8 ORDER BY id LIMIT 8) j";

const UPDATE: &str = "UPDATE jobs SET state = v.state, locks = v.locks, queued = v.queued, held = v.held, \
     wants = v.wants, rank = v.rank, due_at = v.due_at, cursor = v.cursor, phase = v.phase, touched = v.touched, \
     attempts = v.attempts, unstarted = v.unstarted, quiet_after = v.quiet_after, ended_at = v.ended_at, \
     fence_epoch = v.fence_epoch, fence_number = v.fence_number, deadline = v.deadline, wake_at = v.wake_at, \
     started = v.started, performer = v.performer, out_at = v.out_at, reason = v.reason \
     FROM unnest($1::bigint[], $2::smallint[], $3::boolean[], $4::boolean[], $5::boolean[], $6::text[], \
     $7::smallint[], $8::bigint[], $9::smallint[], $10::smallint[], $11::boolean[], $12::smallint[], \
     $13::smallint[], $14::bigint[], $15::bigint[], $16::integer[], $17::bigint[], $18::bigint[], $19::bigint[], \
     $20::boolean[], $21::bigint[], $22::text[], $23::text[]) AS v (id, state, locks, queued, held, wants, rank, \
     due_at, cursor, phase, touched, attempts, unstarted, quiet_after, ended_at, fence_epoch, fence_number, \
     deadline, wake_at, started, performer, out_at, reason) WHERE jobs.id = v.id";

/// From one order to the next. What it does not name is the same in every running job of one kind.
const STEP: &str = "UPDATE jobs SET cursor = v.cursor, phase = v.phase, touched = v.touched, \
     attempts = v.attempts, unstarted = v.unstarted, quiet_after = v.quiet_after, fence_epoch = v.fence_epoch, \
     fence_number = v.fence_number, deadline = v.deadline, wake_at = v.wake_at, started = v.started, \
     performer = v.performer, out_at = v.out_at \
     FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::boolean[], $5::smallint[], $6::smallint[], \
     $7::bigint[], $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[], $13::bigint[], \
     $14::text[]) AS v (id, cursor, phase, touched, attempts, unstarted, quiet_after, fence_epoch, \
     fence_number, deadline, wake_at, started, performer, out_at) WHERE jobs.id = v.id AND jobs.state = 3";

const INSERT: &str = "INSERT INTO jobs (id, state, locks, queued, held, wants, rank, due_at, cursor, phase, \
     touched, attempts, unstarted, quiet_after, ended_at, fence_epoch, fence_number, deadline, wake_at, started, \
     performer, out_at, reason, deletion_id, resource) \
     SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::boolean[], $4::boolean[], $5::boolean[], $6::text[], \
     $7::smallint[], $8::bigint[], $9::smallint[], $10::smallint[], $11::boolean[], $12::smallint[], \
     $13::smallint[], $14::bigint[], $15::bigint[], $16::integer[], $17::bigint[], $18::bigint[], $19::bigint[], \
     $20::boolean[], $21::bigint[], $22::text[], $23::text[], $24::bigint[], $25::text[])";

/// All jobs of these deletions, ascending by id within each.
pub(super) async fn read(db: &mut PgConnection, deletions: &[i64]) -> Result<Vec<JobRow>, LedgerError> {
    let rows = sqlx::query(READ).bind(deletions).fetch_all(db).await.map_err(doing("reading jobs"))?;
    rows.iter().map(row).collect::<Result<_, _>>().map_err(doing("reading a job"))
}

/// Write jobs that exist. Those that let a lock go are written before those that take one: the lock's index
/// looks at every row as it comes.
pub(super) async fn update(db: &mut PgConnection, rows: &[&JobRow]) -> Result<(), LedgerError> {
    let free: BTreeSet<_> = rows.iter().filter(|row| !row.locks).map(|row| row.deletion()).collect();
    if rows.iter().any(|row| row.locks && free.contains(&row.deletion())) {
        let (take, let_go): (Vec<_>, Vec<_>) = rows.iter().copied().partition(|row| row.locks);
        write(db, &let_go).await?;
        write(db, &take).await
    } else {
        write(db, rows).await
    }
}

async fn write(db: &mut PgConnection, rows: &[&JobRow]) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = bind(sqlx::query(UPDATE), rows).execute(db).await.map_err(doing("writing jobs"))?;
    all_there("jobs", done.rows_affected(), rows.len())
}

/// Write jobs that were running and still are.
pub(super) async fn step(db: &mut PgConnection, rows: &[&JobRow]) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = sqlx::query(STEP)
        .bind(all(rows, |r| r.id.0))
        .bind(all(rows, |r| r.cursor))
        .bind(all(rows, |r| r.phase))
        .bind(all(rows, |r| r.touched))
        .bind(all(rows, |r| r.attempts))
        .bind(all(rows, |r| r.unstarted))
        .bind(all(rows, |r| r.quiet_after))
        .bind(all(rows, |r| r.fence_epoch))
        .bind(all(rows, |r| r.fence_number))
        .bind(all(rows, |r| r.deadline))
        .bind(all(rows, |r| r.wake_at))
        .bind(all(rows, |r| r.started))
        .bind(all(rows, |r| r.performer))
        .bind(all(rows, |r| r.out_at.clone()))
        .execute(db)
        .await
        .map_err(doing("writing steps"))?;
    all_there("jobs", done.rows_affected(), rows.len())
}

/// Insert jobs, each with the resource of its deletion.
pub(super) async fn insert(
    db: &mut PgConnection,
    rows: &[&JobRow],
    resources: Vec<String>,
) -> Result<(), LedgerError> {
    if rows.is_empty() {
        return Ok(());
    }
    let deletions: Vec<i64> = rows.iter().map(|row| row.deletion().0).collect();
    bind(sqlx::query(INSERT), rows)
        .bind(deletions)
        .bind(resources)
        .execute(db)
        .await
        .map_err(doing("inserting jobs"))?;
    Ok(())
}

type Statement<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// One column of all rows.
fn all<T>(rows: &[&JobRow], column: impl Fn(&JobRow) -> T) -> Vec<T> {
    rows.iter().map(|row| column(row)).collect()
}

fn bind<'q>(query: Statement<'q>, rows: &[&JobRow]) -> Statement<'q> {
    query
        .bind(all(rows, |r| r.id.0))
        .bind(all(rows, |r| r.state))
        .bind(all(rows, |r| r.locks))
        .bind(all(rows, |r| r.queued))
        .bind(all(rows, |r| r.held))
        .bind(all(rows, |r| r.wants.clone()))
        .bind(all(rows, |r| r.rank))
        .bind(all(rows, |r| r.due_at))
        .bind(all(rows, |r| r.cursor))
        .bind(all(rows, |r| r.phase))
        .bind(all(rows, |r| r.touched))
        .bind(all(rows, |r| r.attempts))
        .bind(all(rows, |r| r.unstarted))
        .bind(all(rows, |r| r.quiet_after))
        .bind(all(rows, |r| r.ended_at))
        .bind(all(rows, |r| r.fence_epoch))
        .bind(all(rows, |r| r.fence_number))
        .bind(all(rows, |r| r.deadline))
        .bind(all(rows, |r| r.wake_at))
        .bind(all(rows, |r| r.started))
        .bind(all(rows, |r| r.performer))
        .bind(all(rows, |r| r.out_at.clone()))
        .bind(all(rows, |r| r.reason.clone()))
}

fn row(row: &PgRow) -> Result<JobRow, sqlx::Error> {
    Ok(JobRow {
        id: JobId(row.try_get(0)?),
        state: row.try_get(1)?,
        locks: row.try_get(2)?,
        queued: row.try_get(3)?,
        held: row.try_get(4)?,
        wants: row.try_get(5)?,
        rank: row.try_get(6)?,
        due_at: row.try_get(7)?,
        cursor: row.try_get(8)?,
        phase: row.try_get(9)?,
        touched: row.try_get(10)?,
        attempts: row.try_get(11)?,
        unstarted: row.try_get(12)?,
        quiet_after: row.try_get(13)?,
        ended_at: row.try_get(14)?,
        fence_epoch: row.try_get(15)?,
        fence_number: row.try_get(16)?,
        deadline: row.try_get(17)?,
        wake_at: row.try_get(18)?,
        started: row.try_get(19)?,
        performer: row.try_get(20)?,
        out_at: row.try_get(21)?,
        reason: row.try_get(22)?,
    })
}
