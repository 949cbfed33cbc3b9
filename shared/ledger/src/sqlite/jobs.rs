//! The columns of the job table.
use rusqlite::{CachedStatement, params};
use sexton_model::JobId;

use super::codes;
use super::connection::{Db, Row, WrongColumn, each};
use crate::LedgerError;
use crate::row::JobRow;

/// All columns of a [`JobRow`], in its order.
pub(super) const COLUMNS: &str = "j.id, j.state, j.locks, j.queued, j.held, j.wants, j.rank, j.due_at, j.cursor, \
     j.phase, j.touched, j.attempts, j.unstarted, j.quiet_after, j.ended_at, j.fence_epoch, j.fence_number, \
     j.deadline, j.wake_at, j.started, j.performer, j.out_at, j.reason";

pub(super) const INSERT: &str = "INSERT INTO jobs (state, locks, queued, held, wants, rank, due_at, cursor, phase, \
     touched, attempts, unstarted, quiet_after, ended_at, fence_epoch, fence_number, deadline, wake_at, started, \
     performer, out_at, reason, id, deletion_id, resource) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(super) const UPDATE: &str = "UPDATE jobs SET state = ?, locks = ?, queued = ?, held = ?, wants = ?, rank = ?, \
     due_at = ?, cursor = ?, phase = ?, touched = ?, attempts = ?, unstarted = ?, quiet_after = ?, ended_at = ?, \
     fence_epoch = ?, fence_number = ?, deadline = ?, wake_at = ?, started = ?, performer = ?, out_at = ?, \
     reason = ? WHERE id = ?";

/// From one order to the next: no column of any index is named, so none is touched.
pub(super) const STEP: &str = "UPDATE jobs SET cursor = ?, phase = ?, touched = ?, attempts = ?, unstarted = ?, \
     quiet_after = ?, fence_epoch = ?, fence_number = ?, deadline = ?, wake_at = ?, started = ?, performer = ?, \
     out_at = ? WHERE id = ?";

/// Insert jobs with their resource.
pub(super) fn insert(db: &Db, rows: Vec<(&JobRow, String)>) -> Result<(), LedgerError> {
    each(db, "inserting jobs", INSERT, rows, |statement, (row, resource)| {
        bind(statement, row)?;
        statement.raw_bind_parameter(24, row.deletion().0)?;
        statement.raw_bind_parameter(25, resource)?;
        statement.raw_execute()
    })?;
    Ok(())
}

/// Write jobs that exist.
pub(super) fn update(db: &Db, rows: &[&JobRow]) -> Result<(), LedgerError> {
    let changed = each(db, "writing jobs", UPDATE, rows, |statement, row| {
        bind(statement, row)?;
        statement.raw_execute()
    })?;
    codes::all_there("jobs", changed, rows.len())
}

/// Write jobs that were running and still are.
pub(super) fn step(db: &Db, rows: &[&JobRow]) -> Result<(), LedgerError> {
    let changed = each(db, "writing steps", STEP, rows, |statement, row| {
        statement.execute(params![
            row.cursor,
            row.phase,
            row.touched,
            row.attempts,
            row.unstarted,
            row.quiet_after,
            row.fence_epoch,
            row.fence_number,
            row.deadline,
            row.wake_at,
            row.started,
            row.performer,
            row.out_at,
            row.id.0,
        ])
    })?;
    codes::all_there("jobs", changed, rows.len())
}

/// Bind all columns, the id as the last of them.
fn bind(statement: &mut CachedStatement<'_>, row: &JobRow) -> rusqlite::Result<()> {
    let columns = params![
        row.state,
        row.locks,
        row.queued,
        row.held,
        row.wants,
        row.rank,
        row.due_at,
        row.cursor,
        row.phase,
        row.touched,
        row.attempts,
        row.unstarted,
        row.quiet_after,
        row.ended_at,
        row.fence_epoch,
        row.fence_number,
        row.deadline,
        row.wake_at,
        row.started,
        row.performer,
        row.out_at,
        row.reason,
        row.id.0,
    ];
    for (number, column) in (1..).zip(columns) {
        statement.raw_bind_parameter(number, column)?;
    }
    Ok(())
}

/// Read a row that was selected as [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<JobRow, WrongColumn> {
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
