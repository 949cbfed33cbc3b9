//! The columns of the job table.
use std::sync::LazyLock;

use sexton_model::JobId;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::chunk::{Bind, Chunked};
use super::codes;
use crate::LedgerError;
use crate::row::JobRow;

/// All columns of a [`JobRow`], in its order.
pub(super) const COLUMNS: &str = "j.id, j.state, j.locks, j.queued, j.held, j.wants, j.rank, j.due_at, j.cursor, \
     j.phase, j.touched, j.attempts, j.unstarted, j.quiet_after, j.ended_at, j.fence_epoch, j.fence_number, \
     j.deadline, j.wake_at, j.started, j.performer, j.out_at, j.reason";

static INSERT: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO jobs (id, state, locks, queued, held, wants, rank, due_at, cursor, phase, touched, \
         attempts, unstarted, quiet_after, ended_at, fence_epoch, fence_number, deadline, wake_at, started, \
         performer, out_at, reason, deletion_id, resource) VALUES",
        25,
        "",
    )
});

static UPDATE: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::padded(
        "WITH v (id, state, locks, queued, held, wants, rank, due_at, cursor, phase, touched, attempts, \
         unstarted, quiet_after, ended_at, fence_epoch, fence_number, deadline, wake_at, started, performer, \
         out_at, reason) AS (VALUES",
        23,
        ") UPDATE jobs SET state = v.state, locks = v.locks, queued = v.queued, held = v.held, \
         wants = v.wants, rank = v.rank, due_at = v.due_at, cursor = v.cursor, phase = v.phase, \
         touched = v.touched, attempts = v.attempts, unstarted = v.unstarted, quiet_after = v.quiet_after, \
         ended_at = v.ended_at, fence_epoch = v.fence_epoch, fence_number = v.fence_number, \
         deadline = v.deadline, wake_at = v.wake_at, started = v.started, performer = v.performer, \
         out_at = v.out_at, reason = v.reason FROM v WHERE jobs.id = v.id",
    )
});

/// From one order to the next: no column of any index is named, so none is touched.
static STEP: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::padded(
        "WITH v (id, cursor, phase, touched, attempts, unstarted, quiet_after, fence_epoch, fence_number, \
         deadline, wake_at, started, performer, out_at) AS (VALUES",
        14,
        ") UPDATE jobs SET cursor = v.cursor, phase = v.phase, touched = v.touched, attempts = v.attempts, \
         unstarted = v.unstarted, quiet_after = v.quiet_after, fence_epoch = v.fence_epoch, \
         fence_number = v.fence_number, deadline = v.deadline, wake_at = v.wake_at, started = v.started, \
         performer = v.performer, out_at = v.out_at FROM v WHERE jobs.id = v.id",
    )
});

/// Insert jobs with their resource.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    rows: Vec<(&JobRow, String)>,
) -> Result<(), LedgerError> {
    INSERT
        .execute(db, "inserting jobs", rows.into_iter(), |(row, resource), bind| {
            all(row, bind);
            bind.add(row.deletion().0).add(resource);
        })
        .await?;
    Ok(())
}

/// Write jobs that exist.
pub(super) async fn update(db: &mut SqliteConnection, rows: &[&JobRow]) -> Result<(), LedgerError> {
    let changed = UPDATE.execute(db, "writing jobs", rows.iter(), |row, bind| all(row, bind)).await?;
    codes::all_there("jobs", changed, rows.len())
}

/// Write jobs that were running and still are.
pub(super) async fn step(db: &mut SqliteConnection, rows: &[&JobRow]) -> Result<(), LedgerError> {
    let changed = STEP
        .execute(db, "writing steps", rows.iter(), |row, bind| {
            bind.add(row.id.0)
                .add(row.cursor)
                .add(row.phase)
                .add(row.touched)
                .add(row.attempts)
                .add(row.unstarted)
                .add(row.quiet_after)
                .add(row.fence_epoch)
                .add(row.fence_number)
                .add(row.deadline)
                .add(row.wake_at)
                .add(row.started)
                .add(row.performer)
                .add(row.out_at.clone());
        })
        .await?;
    codes::all_there("jobs", changed, rows.len())
}

fn all(row: &JobRow, bind: &mut Bind) {
    bind.add(row.id.0)
        .add(row.state)
        .add(row.locks)
        .add(row.queued)
        .add(row.held)
        .add(row.wants.clone())
        .add(row.rank)
        .add(row.due_at)
        .add(row.cursor)
        .add(row.phase)
        .add(row.touched)
        .add(row.attempts)
        .add(row.unstarted)
        .add(row.quiet_after)
        .add(row.ended_at)
        .add(row.fence_epoch)
        .add(row.fence_number)
        .add(row.deadline)
        .add(row.wake_at)
        .add(row.started)
        .add(row.performer)
        .add(row.out_at.clone())
        .add(row.reason.clone());
}

/// Read a row that was selected as [`COLUMNS`].
pub(super) fn read(row: &SqliteRow) -> Result<JobRow, sqlx::Error> {
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
