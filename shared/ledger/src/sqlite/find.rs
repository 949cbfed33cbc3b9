//! Finding what may go on. What is found are hints: `run` looks again.
use std::collections::BTreeMap;

use sexton_model::decide::{Event, Lane};
use sexton_model::job::StateName;
use sexton_model::{Fence, Instance, JobId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::chunk::{Bind, rows, store};
use super::codes::corrupt;
use super::memory::{OutCounts, pulses};
use crate::row::code;
use crate::{Intent, LedgerError, Limits};

/// How long a job in line may be blocked before somebody looks again, in milliseconds: the same net as for
/// held jobs.
const BLOCKED_RECHECK_MS: i64 = 60_000;

/// The lines there are, by skipping from one to the next in the queue's index.
const LINES: &str = "WITH RECURSIVE line (wants) AS ( \
       SELECT min(wants) FROM jobs WHERE queued \
       UNION ALL \
       SELECT (SELECT min(j.wants) FROM jobs AS j WHERE j.queued AND j.wants > line.wants) FROM line \
       WHERE line.wants IS NOT NULL) \
     SELECT wants FROM line WHERE wants IS NOT NULL";

/// One rank of one line, the oldest first.
const IN_LINE: &str = "SELECT id, due_at FROM jobs WHERE queued AND wants = ? AND rank = ? AND due_at <= ? \
     ORDER BY due_at, id LIMIT ?";

/// Jobs that may be claimed now.
pub(super) async fn due(
    db: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<JobId>, LedgerError> {
    let doing = "reading the queue";
    let mut found = Vec::new();
    for line in rows(db, doing, LINES, Bind::default()).await? {
        let wants: String = line.try_get(0).map_err(store(doing))?;
        let mut left = limit.clamp(1, 4096);
        for rank in 0..=2i64 {
            let ids = in_line(db, &wants, rank, now, left).await?;
            left -= u32::try_from(ids.len()).unwrap_or(left).min(left);
            found.extend(ids.into_iter().map(|(id, due_at)| (rank, due_at, id)));
            if left == 0 {
                break;
            }
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, _, id)| id).collect())
}

async fn in_line(
    db: &mut SqliteConnection,
    wants: &str,
    rank: i64,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(JobId, i64)>, LedgerError> {
    let doing = "reading the queue";
    let mut bind = Bind::default();
    bind.add(wants.to_owned()).add(rank).add(now.0).add(i64::from(limit));
    let mut found = Vec::new();
    for row in rows(db, doing, IN_LINE, bind).await? {
        found.push((
            JobId(row.try_get(0).map_err(store(doing))?),
            row.try_get(1).map_err(store(doing))?,
        ));
    }
    Ok(found)
}

/// Jobs in line or due for one instance.
pub(super) async fn next_for(
    db: &mut SqliteConnection,
    now: Timestamp,
    (instance, lane, limit): (Option<&Instance>, Lane, u32),
) -> Result<Vec<JobId>, LedgerError> {
    let wants = instance.map_or_else(String::new, ToString::to_string);
    let ranks = match lane {
        Lane::Restores => 0..=0,
        Lane::Stages => 1..=2,
    };
    let mut found = Vec::new();
    let mut left = limit;
    for rank in ranks {
        if left == 0 {
            break;
        }
        let ids = in_line(db, &wants, rank, now, left).await?;
        left -= u32::try_from(ids.len()).unwrap_or(left).min(left);
        found.extend(ids.into_iter().map(|(id, _)| id));
    }
    Ok(found)
}

/// Free credit of every instance that was ever heard of.
pub(super) async fn free_credit(
    db: &mut SqliteConnection,
    now: Timestamp,
    limits: &Limits,
    out: &OutCounts,
) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError> {
    let mut free = BTreeMap::new();
    for (instance, pulsed_at) in pulses(db).await? {
        let up = now.ms_since(pulsed_at) <= limits.down_after_ms;
        for lane in [Lane::Stages, Lane::Restores] {
            let key = (instance.clone(), lane);
            let used = out.get(&key).copied().unwrap_or(0);
            let left = if up { limits.of(&instance, lane).saturating_sub(used) } else { 0 };
            free.insert(key, left);
        }
    }
    Ok(free)
}

/// Whose time is over: leases and back-offs among the locked jobs, rechecks among the held ones, and those
/// blocked in line for long.
const TO_WAKE: &str = "SELECT id, state, fence_epoch, fence_number, wake_at AS at FROM jobs \
       WHERE locks AND wake_at <= ?1 \
     UNION ALL \
     SELECT * FROM (SELECT id, state, NULL, NULL, wake_at FROM jobs \
       WHERE held AND wake_at <= ?1 ORDER BY wake_at, id LIMIT ?3) \
     UNION ALL \
     SELECT id, state, NULL, NULL, due_at FROM jobs \
       WHERE locks AND state = 2 AND queued = 0 AND due_at <= ?2 \
     ORDER BY at, id LIMIT ?3";

/// Jobs whose time is over, with the event to try.
pub(super) async fn to_wake(
    db: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Intent>, LedgerError> {
    let doing = "reading what is to wake";
    let mut bind = Bind::default();
    bind.add(now.0).add(now.0 - BLOCKED_RECHECK_MS * 1000).add(i64::from(limit));
    let mut found = Vec::new();
    for row in rows(db, doing, TO_WAKE, bind).await? {
        let job = JobId(row.try_get(0).map_err(store(doing))?);
        let state: i16 = row.try_get(1).map_err(store(doing))?;
        let name = StateName::ALL.into_iter().find(|name| code(*name) == state);
        let event = match name {
            Some(StateName::Running | StateName::Cancelling) => {
                let epoch = row.try_get(2).map_err(store(doing))?;
                let number = row.try_get(3).map_err(store(doing))?;
                Event::LeaseOver { job, fence: Fence { epoch, number } }
            }
            Some(StateName::Waiting) => Event::Proceed { job },
            Some(StateName::Held | StateName::Ready) => Event::Recheck { job },
            Some(
                StateName::Scheduled
                | StateName::Parked
                | StateName::Done
                | StateName::Cancelled
                | StateName::Rescued,
            )
            | None => return Err(corrupt("jobs", job, "wakes up although nothing is to be done")),
        };
        found.push(Intent { deletion: job.deletion(), event });
    }
    Ok(found)
}

/// What a pause stopped, behind `after`: held jobs and those blocked in line.
pub(super) async fn stopped_by(
    db: &mut SqliteConnection,
    pause: i64,
    after: JobId,
    limit: u32,
) -> Result<Vec<JobId>, LedgerError> {
    let doing = "reading what a pause stopped";
    let sql = "SELECT id FROM ( \
                 SELECT id, reason FROM jobs WHERE held \
                 UNION ALL SELECT id, reason FROM jobs WHERE locks AND state = 2 AND queued = 0) \
               WHERE id > ? AND json_extract(reason, '$.by') = 'pause' \
                 AND json_extract(reason, '$.pause') = ? \
               ORDER BY id LIMIT ?";
    let mut bind = Bind::default();
    bind.add(after.0).add(pause).add(i64::from(limit));
    let mut found = Vec::new();
    for row in rows(db, doing, sql, bind).await? {
        found.push(JobId(row.try_get(0).map_err(store(doing))?));
    }
    Ok(found)
}
