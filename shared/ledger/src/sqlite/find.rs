//! Finding what may go on. What is found are hints: `run` looks again.
use std::collections::BTreeMap;
use std::sync::LazyLock;

use sexton_model::decide::{Event, Lane};
use sexton_model::job::StateName;
use sexton_model::{Fence, Instance, JobId, Timestamp};

use super::codes::corrupt;
use super::connection::{Bind, Db, Row, WrongColumn, rows, store};
use super::memory::{OutCounts, pulses};
use super::restores;
use crate::round::{Round, Steady};
use crate::row::code;
use crate::view::WAITING_MAX;
use crate::{InstanceState, Intent, LedgerError, Limits, rules};

/// The lines there are, by skipping from one to the next in the queue's index.
pub(super) const LINES_WITH: &str = "WITH RECURSIVE line (wants) AS ( \
       SELECT min(wants) FROM jobs WHERE queued \
       UNION ALL \
       SELECT (SELECT min(j.wants) FROM jobs AS j WHERE j.queued AND j.wants > line.wants) FROM line \
       WHERE line.wants IS NOT NULL)";

fn lines() -> &'static str {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("{LINES_WITH} SELECT wants FROM line WHERE wants IS NOT NULL"));
    SQL.as_str()
}

/// One rank of one line, the oldest first.
const IN_LINE: &str = "SELECT id, due_at FROM jobs WHERE queued AND wants = ? AND rank = ? AND due_at <= ? \
     ORDER BY due_at, id LIMIT ?";

/// Stages that may be claimed now. Restores in line are not among them: they are read by priority.
pub(super) fn due(db: &Db, now: Timestamp, limit: u32) -> Result<Vec<JobId>, LedgerError> {
    let doing = "reading the queue";
    let mut found = Vec::new();
    for line in rows(db, doing, lines(), Bind::default())? {
        let wants: String = line.try_get(0).map_err(store(doing))?;
        let mut left = limit.clamp(1, 4096);
        for rank in 1..=2i64 {
            let ids = in_line(db, &wants, rank, now, left)?;
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

fn in_line(
    db: &Db,
    wants: &str,
    rank: i64,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(JobId, i64)>, LedgerError> {
    let doing = "reading the queue";
    let mut bind = Bind::default();
    bind.add(wants.to_owned()).add(rank).add(now.0).add(i64::from(limit));
    let mut found = Vec::new();
    for row in rows(db, doing, IN_LINE, bind)? {
        found.push((JobId(row.try_get(0).map_err(store(doing))?), row.try_get(1).map_err(store(doing))?));
    }
    Ok(found)
}

/// Jobs in line or due for one instance.
pub(super) fn next_for(
    db: &Db,
    now: Timestamp,
    (instance, lane, limit): (Option<&Instance>, Lane, u32),
) -> Result<Vec<JobId>, LedgerError> {
    let wants = instance.map_or_else(String::new, ToString::to_string);
    let ranks = match lane {
        Lane::Restores => return restores::in_line(db, now, instance, limit),
        Lane::Stages => 1..=2,
    };
    let mut found = Vec::new();
    let mut left = limit;
    for rank in ranks {
        if left == 0 {
            break;
        }
        let ids = in_line(db, &wants, rank, now, left)?;
        left -= u32::try_from(ids.len()).unwrap_or(left).min(left);
        found.extend(ids.into_iter().map(|(id, _)| id));
    }
    Ok(found)
}

/// Free credit of every instance that was ever heard of.
pub(super) fn free_credit(
    db: &Db,
    now: Timestamp,
    limits: &Limits,
    out: &OutCounts,
) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError> {
    let mut free = BTreeMap::new();
    for (instance, pulsed) in pulses(db, now, limits.down_after_us())? {
        let up = now.ms_since(pulsed.at) <= limits.down_after_ms;
        for lane in [Lane::Stages, Lane::Restores] {
            let key = (instance.clone(), lane);
            let used = out.get(&key).copied().unwrap_or(0);
            let left = if up { limits.of(&instance, lane).saturating_sub(used) } else { 0 };
            free.insert(key, left);
        }
    }
    Ok(free)
}

/// How many are due or in line, per line, counted up to a limit.
fn waiting_sql() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let one = |rank: i64| {
            format!(
                "(SELECT count(*) FROM (SELECT 1 FROM jobs AS j WHERE j.queued AND j.wants = line.wants \
                 AND j.rank = {rank} AND j.due_at <= ?1 LIMIT ?2))"
            )
        };
        let all = [one(0), one(1), one(2)].join(" + ");
        format!("{LINES_WITH} SELECT wants, {all} FROM line WHERE wants <> ''")
    });
    SQL.as_str()
}

/// Every instance that ever pulsed or that a job waits for.
pub(super) fn instances(
    db: &Db,
    now: Timestamp,
    limits: &Limits,
) -> Result<BTreeMap<Instance, InstanceState>, LedgerError> {
    let doing = "counting what waits";
    let mut bind = Bind::default();
    bind.add(now.0).add(i64::try_from(WAITING_MAX).unwrap_or(i64::MAX));
    let mut waiting = Vec::new();
    for row in rows(db, doing, waiting_sql(), bind)? {
        let name: String = row.try_get(0).map_err(store(doing))?;
        let count: i64 = row.try_get(1).map_err(store(doing))?;
        let instance = name.parse().map_err(|e| corrupt("jobs", &name, e))?;
        waiting.push((instance, u64::try_from(count).unwrap_or(0)));
    }
    let pulses = pulses(db, now, limits.down_after_us())?.into_iter().map(|(i, pulsed)| (i, pulsed.at));
    Ok(limits.states(now, pulses, waiting))
}

/// Leases and back-offs that are over, among the locked jobs: they are few. Of those that have waited longest, restores
/// come first, by priority: their wait for quiet may be over together, and there may not be credit for all.
const OVER: &str = "SELECT q.id, q.state, q.fence_epoch, q.fence_number FROM ( \
       SELECT id, resource, state, rank, wake_at, fence_epoch, fence_number FROM jobs \
       WHERE locks AND wake_at <= ?1 ORDER BY wake_at, id LIMIT ?2) AS q \
     ORDER BY q.rank <> 0, iif(q.rank = 0, (SELECT json_extract(x.body, '$.priority') FROM resources AS x \
       WHERE x.id = q.resource), NULL), q.wake_at, q.id";

/// Held jobs that are to be looked at again, by id; and when what ends by itself will have ended.
const HELD: &str = "SELECT id, iif(json_extract(reason, '$.by') = 'outage', json_extract(reason, '$.until'), NULL) \
     FROM jobs WHERE held AND id > ?1 ORDER BY id LIMIT ?2";

/// Jobs that were blocked between two steps long ago, and those that have been in line for so long that their instance
/// may be gone; by id. Through the lock's index, and that is said: in the order of their ids the planner would walk over
/// all jobs there ever were.
const STUCK: &str = "SELECT id, NULL FROM jobs INDEXED BY the_lock \
     WHERE locks AND state = 2 AND due_at <= iif(queued, ?3, ?4) AND id > ?1 ORDER BY id LIMIT ?2";

/// What a pause stopped, by both partial indexes.
const STOPPED: &str = "SELECT id FROM ( \
       SELECT id, reason FROM jobs INDEXED BY jobs_held WHERE held \
       UNION ALL \
       SELECT id, reason FROM jobs INDEXED BY the_lock WHERE locks AND state = 2 AND queued = 0) \
     WHERE id > ? AND json_extract(reason, '$.by') = 'pause' AND json_extract(reason, '$.pause') = ? \
     ORDER BY id LIMIT ?";

/// The rounds over what stays as it is.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) held: Round,
    pub(super) stuck: Round,
}

impl Rounds {
    /// Those that rest by this clock.
    pub(super) fn by(steady: Steady) -> Self {
        Self { held: Round::by(steady.clone()), stuck: Round::by(steady) }
    }
}

/// Jobs whose time is over, with the event to try.
pub(super) fn to_wake(
    db: &Db,
    now: Timestamp,
    limit: u32,
    (limits, rounds): (&Limits, &Rounds),
) -> Result<Vec<Intent>, LedgerError> {
    let doing = "reading what is to wake";
    // Room for one of each.
    let limit = limit.clamp(3, 4096);
    let mut bind = Bind::default();
    bind.add(now.0).add(i64::from(limit));
    let mut over = Vec::new();
    for row in &rows(db, doing, OVER, bind)? {
        over.push(wake(row).map_err(store(doing))??);
    }
    let quarter = rules::quarter(limit) as usize;
    let ago = |ms: u64| now.0.saturating_sub(i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX));
    let mut again = Vec::new();
    for (round, sql) in [(&rounds.held, HELD), (&rounds.stuck, STUCK)] {
        let Some(look) = round.next() else { continue };
        let mut bind = Bind::default();
        bind.add(look.after).add(quarter as i64);
        if sql == STUCK {
            bind.add(ago(limits.gone_after_ms)).add(ago(limits.look_again_ms));
        }
        let mut ids = Vec::new();
        for row in rows(db, doing, sql, bind)? {
            ids.push(row.try_get(0).map_err(store(doing))?);
            let until: Option<i64> = row.try_get(1).map_err(store(doing))?;
            round.wanted_after(until.map(|until| until.saturating_sub(now.0)));
        }
        round.found(look, &ids, quarter, limits.look_again_ms);
        again.extend(ids.into_iter().map(JobId).map(recheck));
    }
    Ok(rules::share(limit as usize, over, again))
}

/// The intent to look at a job again.
fn recheck(job: JobId) -> Intent {
    Intent { deletion: job.deletion(), event: Event::Recheck { job } }
}

fn wake(row: &Row) -> Result<Result<Intent, LedgerError>, WrongColumn> {
    let job = JobId(row.try_get(0)?);
    let state: i16 = row.try_get(1)?;
    let event = match StateName::ALL.into_iter().find(|name| code(*name) == state) {
        Some(StateName::Running | StateName::Cancelling) => {
            Event::LeaseOver { job, fence: Fence { epoch: row.try_get(2)?, number: row.try_get(3)? } }
        }
        Some(StateName::Waiting) => Event::Proceed { job },
        Some(
            StateName::Scheduled
            | StateName::Held
            | StateName::Ready
            | StateName::Parked
            | StateName::Done
            | StateName::Cancelled
            | StateName::Rescued,
        )
        | None => return Ok(Err(corrupt("jobs", job, "wakes up although nothing is to be done"))),
    };
    Ok(Ok(Intent { deletion: job.deletion(), event }))
}

/// What a pause stopped, behind `after`: held jobs and those blocked in line.
pub(super) fn stopped_by(db: &Db, pause: i64, after: JobId, limit: u32) -> Result<Vec<JobId>, LedgerError> {
    let doing = "reading what a pause stopped";
    let mut bind = Bind::default();
    bind.add(after.0).add(pause).add(i64::from(limit));
    let mut found = Vec::new();
    for row in rows(db, doing, STOPPED, bind)? {
        found.push(JobId(row.try_get(0).map_err(store(doing))?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
