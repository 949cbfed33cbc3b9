//! Finding what is to be looked at again, credit, pulses and health. All of it are hints: `run` looks again.
use std::collections::BTreeMap;

use sexton_model::decide::{Event, Lane};
use sexton_model::job::StateName;
use sexton_model::{Fence, Instance, JobId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{corrupt, doing};
use super::{PgLedger, admit, due, load, restores};
use crate::view::WAITING_MAX;
use crate::{Alive, Health, InstanceState, Intent, LedgerError, rules};

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// Leases and back-offs that are over. Found among the locked ones, which are few. Of those that have waited longest,
/// restores come first, by priority: their wait for quiet may be over together, and there may not be credit for all.
const LOCKED: &str = "SELECT q.id, q.state, q.fence_epoch, q.fence_number FROM ( \
       SELECT id, resource, state, rank, wake_at, fence_epoch, fence_number FROM jobs \
       WHERE locks AND state IN (3, 4, 5) AND wake_at <= (extract(epoch FROM now()) * 1000000)::bigint \
       ORDER BY wake_at, id LIMIT $1) q \
     ORDER BY q.rank <> 0, CASE WHEN q.rank = 0 THEN \
       (SELECT (x.body::json ->> 'priority')::smallint FROM resources x WHERE x.id = q.resource) END, q.wake_at, q.id";
/// By id, in the order of the index on what is held; and in how many microseconds what ends by itself will have ended.
const HELD: &str = "SELECT id, CASE WHEN reason::json ->> 'by' = 'outage' THEN (reason::json ->> 'until')::bigint \
     - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END FROM jobs WHERE held AND id > $1 ORDER BY id LIMIT $2";
/// Those that were blocked between two steps, and those that have been in line for so long that their instance may be
/// gone. The locked ones are read first, through the lock's index: in the order of their ids the planner would walk
/// over all jobs there ever were.
const STUCK: &str = "WITH stuck AS MATERIALIZED (SELECT id FROM jobs WHERE locks AND state = 2 \
     AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint - CASE WHEN queued THEN $3::bigint ELSE $4::bigint END) \
     SELECT id, NULL::bigint FROM stuck WHERE id > $1 ORDER BY id LIMIT $2";
const PULSES: &str = "SELECT instance, pulsed_at FROM instances ORDER BY instance";
const PULSE: &str = "INSERT INTO instances (instance, pulsed_at) \
     SELECT v.instance, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     FROM unnest($1::text[]) AS v (instance) ORDER BY v.instance \
     ON CONFLICT (instance) DO UPDATE SET pulsed_at = greatest(instances.pulsed_at, excluded.pulsed_at)";
/// A count that has grown says that something was answered since the last pulse; a new copy's says nothing yet.
const COPIES: &str = "INSERT INTO copies (instance, copy, hands, answered, pulsed_at) \
     SELECT v.instance, v.copy, v.hands, v.answered, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[]) AS v (instance, copy, hands, answered) \
     ORDER BY 1, 2 ON CONFLICT (instance, copy) DO UPDATE SET hands = excluded.hands, answered = excluded.answered, \
     pulsed_at = greatest(copies.pulsed_at, excluded.pulsed_at), \
     answered_at = CASE WHEN excluded.answered > copies.answered THEN excluded.pulsed_at ELSE copies.answered_at END";
/// Copies that ended: every process has a name of its own.
const FORGET: &str = "DELETE FROM copies WHERE instance = ANY($1) \
     AND pulsed_at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2";
/// The one statement that reads every job: it is for people, and asked for rarely.
const BY_STATE: &str = "SELECT state, count(*) FROM jobs GROUP BY state";
/// A full count is quicker row by row than through an index.
const COUNT_BY_ROWS: &str = "SET LOCAL enable_seqscan = on";
const OLDEST_DUE: &str = "WITH RECURSIVE lines AS ( \
       (SELECT wants FROM due_jobs ORDER BY wants LIMIT 1) \
       UNION ALL \
       SELECT (SELECT d.wants FROM due_jobs d WHERE d.wants > l.wants ORDER BY d.wants LIMIT 1) \
         FROM lines l WHERE l.wants IS NOT NULL) \
     SELECT min(due_at) FROM ( \
       (SELECT (SELECT d.due_at FROM due_jobs d WHERE d.wants = l.wants AND d.rank = 2 \
          ORDER BY d.due_at LIMIT 1) AS due_at FROM lines l WHERE l.wants IS NOT NULL) \
       UNION ALL (SELECT min(due_at) FROM jobs WHERE held)) q \
     WHERE due_at <= (extract(epoch FROM now()) * 1000000)::bigint";

/// How many are due or in line, per line, counted up to a limit.
const WAITING: &str = "WITH RECURSIVE lines AS ( \
       (SELECT wants FROM due_jobs ORDER BY wants LIMIT 1) \
       UNION ALL \
       SELECT (SELECT d.wants FROM due_jobs d WHERE d.wants > l.wants ORDER BY d.wants LIMIT 1) \
         FROM lines l WHERE l.wants IS NOT NULL) \
     SELECT l.wants, (SELECT sum(n)::bigint FROM unnest(ARRAY[0, 1, 2]::smallint[]) AS r (rank), \
       LATERAL (SELECT count(*) AS n FROM (SELECT 1 FROM due_jobs d WHERE d.wants = l.wants AND d.rank = r.rank \
         AND d.due_at <= (extract(epoch FROM now()) * 1000000)::bigint LIMIT $1) one) counted) \
     FROM lines l WHERE l.wants <> ''";

/// The statements that find what is to be done, each with what it is for.
pub(super) const FINDERS: [(&str, &str); 6] = [
    ("a line of stages", due::NEXT_STAGES),
    ("a line of restores", restores::IN_LINE),
    ("leases and back-offs", LOCKED),
    ("what is held", HELD),
    ("what is stuck", STUCK),
    ("what is admitted together", admit::DUE),
];

/// The store's clock.
pub(super) async fn clock(db: &mut PgConnection) -> Result<Timestamp, LedgerError> {
    sqlx::query_scalar(CLOCK).fetch_one(db).await.map(Timestamp).map_err(doing("reading the clock"))
}

/// Jobs whose lease, back-off or recheck is over.
pub(super) async fn to_wake(ledger: &PgLedger, limit: u32) -> Result<Vec<Intent>, LedgerError> {
    // Room for one of each.
    let limit = limit.clamp(3, 4096);
    let part = || doing("looking what wakes");
    let mut db = ledger.pool.acquire().await.map_err(part())?;
    let over = sqlx::query(LOCKED).bind(i64::from(limit)).fetch_all(&mut *db).await.map_err(part())?;
    let over = over.iter().map(locked).collect::<Result<_, _>>()?;
    let quarter = rules::quarter(limit) as usize;
    let limits = &ledger.options.limits;
    let us = |ms: u64| i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX);
    let mut again = Vec::new();
    for (round, sql) in [(&ledger.held, HELD), (&ledger.stuck, STUCK)] {
        let Some(look) = round.next() else { continue };
        let mut query = sqlx::query(sql).bind(look.after).bind(i64::try_from(quarter).unwrap_or(i64::MAX));
        if sql == STUCK {
            query = query.bind(us(limits.gone_after_ms)).bind(us(limits.look_again_ms));
        }
        let mut ids: Vec<i64> = Vec::with_capacity(quarter);
        for row in query.fetch_all(&mut *db).await.map_err(part())? {
            ids.push(row.try_get(0).map_err(part())?);
            round.wanted_after(row.try_get(1).map_err(part())?);
        }
        round.found(look, &ids, quarter, limits.look_again_ms);
        again.extend(ids.into_iter().map(|id| recheck(JobId(id))));
    }
    Ok(rules::share(limit as usize, over, again))
}

/// The intent to look at a job again.
pub(super) fn recheck(job: JobId) -> Intent {
    Intent { deletion: job.deletion(), event: Event::Recheck { job } }
}

fn locked(row: &PgRow) -> Result<Intent, LedgerError> {
    let part = || doing("reading a job that wakes");
    let job = JobId(row.try_get(0).map_err(part())?);
    let state: i16 = row.try_get(1).map_err(part())?;
    let event = if state == crate::row::code(StateName::Waiting) {
        Event::Proceed { job }
    } else {
        let epoch: i32 = row.try_get(2).map_err(part())?;
        let fence =
            Fence { epoch: u32::try_from(epoch).unwrap_or(0), number: row.try_get(3).map_err(part())? };
        Event::LeaseOver { job, fence }
    };
    Ok(Intent { deletion: job.deletion(), event })
}

/// Known instances with their last pulse.
async fn pulses(db: &mut PgConnection) -> Result<Vec<(Instance, Timestamp)>, LedgerError> {
    let part = || doing("reading pulses");
    let rows = sqlx::query(PULSES).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let name: &str = row.try_get(0).map_err(part())?;
            Ok((load::instance(name)?, Timestamp(row.try_get(1).map_err(part())?)))
        })
        .collect()
}

/// Every instance that ever pulsed or that a job waits for.
pub(super) async fn instances(ledger: &PgLedger) -> Result<BTreeMap<Instance, InstanceState>, LedgerError> {
    let part = || doing("counting what waits");
    let mut db = ledger.pool.acquire().await.map_err(part())?;
    let now = clock(&mut db).await?;
    let most = i64::try_from(WAITING_MAX).unwrap_or(i64::MAX);
    let rows = sqlx::query(WAITING).bind(most).fetch_all(&mut *db).await.map_err(part())?;
    let mut waiting = Vec::new();
    for row in rows {
        let name: &str = row.try_get(0).map_err(part())?;
        let count: i64 = row.try_get(1).map_err(part())?;
        waiting.push((load::instance(name)?, u64::try_from(count).unwrap_or(0)));
    }
    Ok(ledger.options.limits.states(now, pulses(&mut db).await?, waiting))
}

/// Free credit of all instances that ever pulsed; those that are down have none.
pub(super) async fn free_credit(ledger: &PgLedger) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError> {
    let mut db = ledger.pool.acquire().await.map_err(doing("counting credit"))?;
    let now = clock(&mut db).await?;
    let pulses = pulses(&mut db).await?;
    let out = load::orders_out(&mut db).await?;
    let limits = &ledger.options.limits;
    let mut free = BTreeMap::new();
    for (instance, at) in pulses {
        let down = now.ms_since(at) > limits.down_after_ms;
        for lane in [Lane::Stages, Lane::Restores] {
            let key = (instance.clone(), lane);
            let used = out.get(&key).copied().unwrap_or(0);
            let left = if down { 0 } else { limits.of(&instance, lane).saturating_sub(used) };
            free.insert(key, left);
        }
    }
    Ok(free)
}

/// These copies are alive.
pub(super) async fn pulse(ledger: &PgLedger, alive: &[Alive]) -> Result<(), LedgerError> {
    let part = || doing("noting pulses");
    let alive: BTreeMap<(String, &str), &Alive> =
        alive.iter().map(|one| ((one.instance.to_string(), one.copy.as_str()), one)).collect();
    let mut names: Vec<&str> = alive.keys().map(|(instance, _)| instance.as_str()).collect();
    names.dedup();
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    sqlx::query(PULSE).bind(&names).execute(&mut *tx).await.map_err(part())?;
    sqlx::query(COPIES)
        .bind(alive.keys().map(|(instance, _)| instance.as_str()).collect::<Vec<_>>())
        .bind(alive.keys().map(|(_, copy)| *copy).collect::<Vec<_>>())
        .bind(alive.values().map(|one| i32::try_from(one.hands).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(alive.values().map(|one| i64::try_from(one.answered).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    let kept = ledger.options.limits.down_after_us().saturating_mul(2);
    sqlx::query(FORGET).bind(&names).bind(kept).execute(&mut *tx).await.map_err(part())?;
    tx.commit().await.map_err(part())
}

/// How the job table is doing.
pub(super) async fn health(ledger: &PgLedger) -> Result<Health, LedgerError> {
    let part = || doing("reading the job table's health");
    let mut tx = ledger.pool.begin_with(super::SNAPSHOT).await.map_err(part())?;
    let now = clock(&mut tx).await?;
    let oldest: Option<i64> = sqlx::query_scalar(OLDEST_DUE).fetch_one(&mut *tx).await.map_err(part())?;
    let pulses = pulses(&mut tx).await?;
    let out = load::orders_out(&mut tx).await?;
    let pauses = super::pause::pauses(&mut tx).await?;
    let review = super::review::standing(&mut tx).await?.review;
    sqlx::query(COUNT_BY_ROWS).execute(&mut *tx).await.map_err(part())?;
    let rows = sqlx::query(BY_STATE).fetch_all(&mut *tx).await.map_err(part())?;
    tx.commit().await.map_err(part())?;
    let mut jobs = BTreeMap::new();
    for row in rows {
        let code: i16 = row.try_get(0).map_err(part())?;
        let name = usize::try_from(code).ok().and_then(|n| StateName::ALL.get(n).copied());
        let name = name.ok_or_else(|| corrupt("jobs", "by state", format!("{code} is no state")))?;
        let count: i64 = row.try_get(1).map_err(part())?;
        jobs.insert(name, u64::try_from(count).unwrap_or(0));
    }
    let orders = |instance: &Instance| {
        let of = |lane| u64::from(out.get(&(instance.clone(), lane)).copied().unwrap_or(0));
        of(Lane::Stages) + of(Lane::Restores)
    };
    let instances = pulses
        .into_iter()
        .map(|(instance, at)| {
            let orders = orders(&instance);
            (instance, (at, orders))
        })
        .collect();
    Ok(Health { now, jobs, oldest_due: oldest.map(Timestamp), instances, pauses, review })
}
