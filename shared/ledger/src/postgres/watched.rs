//! Finding what may alarm, and what is ahead. All of it are hints: nothing is decided on it.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use sexton_model::alarm::hold;
use sexton_model::audit::AuditEvent;
use sexton_model::deletion::Deletion;
use sexton_model::digest::{Ahead, HeldBy, Still};
use sexton_model::job::{Blocker, JobKind, Stage};
use sexton_model::plan::Plan;
use sexton_model::{DeletionId, JobId, Scope, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::census::texts;
use super::error::{corrupt, doing};
use super::records::Digest;
use super::{PgLedger, SNAPSHOT, find, load};
use crate::alarms::{self, RESTORES_WATCHED, WATCHED_MAX};
use crate::{HELD_READ, HeldJobs, LedgerError, WatchedFrom, WatchedPage, WatchedRecord};

/// The first half by the index of what is watched. Locked jobs are few, and read as a whole: in the order of their ids the
/// planner would walk over all jobs there ever were. They are those that are parked, and announcements (slot 0) of which it was
/// written down that not everybody could be told.
const WATCHED: &str = "WITH announcing AS MATERIALIZED (SELECT deletion_id FROM jobs WHERE locks AND id % 8 = 0), \
     parked AS MATERIALIZED (SELECT deletion_id FROM jobs WHERE locks AND state = $3 \
       UNION SELECT a.deletion_id FROM announcing a JOIN waivers w ON w.deletion_id = a.deletion_id \
         WHERE strpos(w.body, '\"claim\":\"untold\"') > 0) \
     SELECT id FROM ((SELECT r.deletion_id AS id FROM records r JOIN deletions d ON d.id = r.deletion_id \
       WHERE d.live AND r.deletion_id > $1 \
       AND (strpos(r.body, '\"gone_by\":\"') > 0 OR strpos(r.body, '\"criticality\":\"credential\"') > 0) \
       ORDER BY r.deletion_id LIMIT $2) \
     UNION (SELECT deletion_id FROM parked WHERE deletion_id > $1 ORDER BY deletion_id LIMIT $2)) w \
     ORDER BY id LIMIT $2";
/// What comes back: restores (slot 5) and what has an order out yet, in the order in which they were cancelled, since then the recycle
/// (slot 4) is over: each is looked up, since a join might read all jobs.
const RESTORING: &str = "WITH restoring AS MATERIALIZED ( \
       SELECT deletion_id FROM jobs WHERE locks AND (id % 8 = 5 OR state = $1)) \
     SELECT r.deletion_id FROM restoring r \
     ORDER BY (SELECT c.ended_at FROM jobs c WHERE c.id = r.deletion_id * 8 + 4), r.deletion_id LIMIT $2";
const PARKED_AT: &str = "SELECT DISTINCT ON (deletion_id) deletion_id, body FROM audit \
     WHERE deletion_id = ANY($1) AND strpos(body, $2) > 0 ORDER BY deletion_id, seq DESC";
/// Of what has begun, only what follows is ahead. What is overdue is due today. Three parts, each by an index: of jobs that
/// are over there are many. What nobody has asked for is left out before it is cut.
const AHEAD: &str = "SELECT d.scope, d.plan, (j.id % 8)::smallint, j.locks, \
       CASE WHEN j.locks THEN 0 ELSE greatest(0, (j.due_at - $1) / $2) END::integer, count(*) \
     FROM (SELECT id, deletion_id, locks, rank, due_at FROM jobs WHERE queued AND due_at < $1 + $2 * $3 \
       UNION ALL SELECT id, deletion_id, locks, rank, due_at FROM jobs WHERE held \
       UNION ALL SELECT id, deletion_id, locks, rank, due_at FROM jobs \
         WHERE locks AND NOT queued AND state IN (2, 3, 4)) j \
     JOIN deletions d ON d.id = j.deletion_id WHERE j.rank > 0 \
       AND ($5::text[] IS NULL OR EXISTS (SELECT 1 FROM unnest($5::text[]) AS n (scope) \
         WHERE d.scope = n.scope OR starts_with(d.scope, n.scope || '/'))) \
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 LIMIT $4";
const PLANS: &str = "SELECT digest, body FROM plans WHERE digest = ANY($1)";
/// What stands before a stage, and what a belt stopped between two steps. Only of these the reason is JSON. Locked jobs are few,
/// and read as a whole: see [`WATCHED`]. What nobody has asked for is left out before it is cut.
const HELD: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT id, deletion_id, resource, due_at, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT s.id, s.resource, d.scope, s.due_at, s.reason FROM ( \
       SELECT id, deletion_id, resource, due_at, reason FROM jobs WHERE held \
       UNION ALL SELECT id, deletion_id, resource, due_at, reason FROM blocked) s \
     JOIN deletions d ON d.id = s.deletion_id WHERE $2::text[] IS NULL \
       OR EXISTS (SELECT 1 FROM unnest($2::text[]) AS n (scope) \
         WHERE d.scope = n.scope OR starts_with(d.scope, n.scope || '/')) \
     ORDER BY s.due_at, s.id LIMIT $1";
const HELD_BY: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT deletion_id, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT d.scope, s.reason::json ->> 'by', count(*) FROM ( \
       SELECT deletion_id, reason FROM jobs WHERE held UNION ALL SELECT deletion_id, reason FROM blocked) s \
     JOIN deletions d ON d.id = s.deletion_id WHERE $2::text[] IS NULL \
       OR EXISTS (SELECT 1 FROM unnest($2::text[]) AS n (scope) \
         WHERE d.scope = n.scope OR starts_with(d.scope, n.scope || '/')) \
     GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $1";

/// Live records that may alarm, from there on.
pub(super) async fn watched(
    ledger: &PgLedger,
    from: Option<WatchedFrom>,
) -> Result<WatchedPage, LedgerError> {
    let part = || doing("looking for what may alarm");
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let from = match from {
        Some(from) => from,
        None => WatchedFrom { after: DeletionId(0), restoring: restoring(&mut tx).await? },
    };
    let ids: Vec<i64> = sqlx::query_scalar(WATCHED)
        .bind(from.after.0)
        .bind(i64::try_from(WATCHED_MAX).unwrap_or(i64::MAX))
        .bind(alarms::parked())
        .fetch_all(&mut *tx)
        .await
        .map_err(part())?;
    let ids = alarms::merged(ids, &from);
    let mut found = match deletions(&mut tx, ledger, &ids).await {
        Err(error) if error.spoilt() => one_by_one(&mut tx, ledger, &ids).await?,
        other => other?,
    };
    let parked: Vec<i64> =
        found.iter().filter(|(_, d)| hold::parked(d).is_some()).map(|(id, _)| id.0).collect();
    let parked_at = parked_at(&mut tx, &parked).await?;
    tx.commit().await.map_err(part())?;
    let record = |id: &i64| {
        let deletion = found.remove(&DeletionId(*id))?;
        Some(WatchedRecord { deletion, parked_at: parked_at.get(id).copied() })
    };
    Ok(alarms::page(ids.iter().filter_map(record).collect(), &ids, from))
}

/// What comes back, those of the longest cancel.
async fn restoring(db: &mut PgConnection) -> Result<Vec<DeletionId>, LedgerError> {
    let query = sqlx::query_scalar(RESTORING).bind(alarms::cancelling()).bind(RESTORES_WATCHED);
    let ids: Vec<i64> = query.fetch_all(db).await.map_err(doing("looking for what comes back"))?;
    Ok(ids.into_iter().map(DeletionId).collect())
}

/// What is due within so many days, or under way.
pub(super) async fn ahead(
    ledger: &PgLedger,
    days: u8,
    scopes: Option<&[Scope]>,
) -> Result<Vec<Ahead>, LedgerError> {
    let part = || doing("counting what is ahead");
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let now = find::clock(&mut tx).await?;
    let day_us = i64::try_from(ledger.options.day.length_ms().saturating_mul(1000)).unwrap_or(i64::MAX);
    let rows = sqlx::query(AHEAD)
        .bind(now.0)
        .bind(day_us)
        .bind(i64::from(days))
        .bind(alarms::GROUPS_MAX)
        .bind(scopes.map(texts))
        .fetch_all(&mut *tx)
        .await
        .map_err(part())?;
    let digest = |row: &PgRow| row.try_get::<Digest, _>(1).map_err(part());
    let digests: BTreeSet<Digest> = rows.iter().map(digest).collect::<Result<_, _>>()?;
    let plans = offsets(&mut tx, digests).await?;
    tx.commit().await.map_err(part())?;
    rows.iter().map(|row| one_ahead(row, &plans)).collect()
}

/// What is held, also between two steps.
pub(super) async fn held(ledger: &PgLedger, scopes: Option<&[Scope]>) -> Result<HeldJobs, LedgerError> {
    let part = || doing("reading what is held");
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let most = i64::try_from(HELD_READ).unwrap_or(i64::MAX);
    let within = scopes.map(texts);
    let longest = sqlx::query(HELD).bind(most).bind(within.clone());
    let longest = longest.fetch_all(&mut *tx).await.map_err(part())?;
    let by = sqlx::query(HELD_BY).bind(alarms::GROUPS_MAX).bind(within);
    let by = by.fetch_all(&mut *tx).await.map_err(part())?;
    tx.commit().await.map_err(part())?;
    let held_by = |row: &PgRow| {
        let scope: &str = row.try_get(0).map_err(part())?;
        let count: i64 = row.try_get(2).map_err(part())?;
        Ok(HeldBy {
            scope: scope.parse().map_err(|_| corrupt("deletions", scope, "not a scope"))?,
            by: row.try_get::<Option<String>, _>(1).map_err(part())?.unwrap_or_default(),
            count: u64::try_from(count).unwrap_or(0),
        })
    };
    Ok(HeldJobs {
        longest: longest.iter().map(still).collect::<Result<_, _>>()?,
        by: by.iter().map(held_by).collect::<Result<_, LedgerError>>()?,
    })
}

async fn deletions(
    db: &mut PgConnection,
    ledger: &PgLedger,
    ids: &[i64],
) -> Result<HashMap<DeletionId, Deletion>, LedgerError> {
    let statements = ledger.memory.records.read(db, ids).await?;
    let found = load::deletions(db, ids, &statements).await?;
    Ok(found.into_iter().map(|(id, (deletion, _))| (id, deletion)).collect())
}

/// What cannot be read fails alone: the others alarm all the same.
async fn one_by_one(
    db: &mut PgConnection,
    ledger: &PgLedger,
    ids: &[i64],
) -> Result<HashMap<DeletionId, Deletion>, LedgerError> {
    let mut found = HashMap::new();
    for id in ids {
        match deletions(db, ledger, &[*id]).await {
            Err(error) if error.spoilt() => {
                tracing::error!(deletion = %DeletionId(*id), %error, "nobody knows whether it alarms");
            }
            other => found.extend(other?),
        }
    }
    Ok(found)
}

/// When each of these was parked last.
async fn parked_at(db: &mut PgConnection, ids: &[i64]) -> Result<BTreeMap<i64, Timestamp>, LedgerError> {
    let part = || doing("reading since when jobs are parked");
    let query = sqlx::query(PARKED_AT).bind(ids).bind(alarms::PARKED_EVENT);
    let mut found = BTreeMap::new();
    for row in query.fetch_all(db).await.map_err(part())? {
        let id: i64 = row.try_get(0).map_err(part())?;
        let event: AuditEvent = serde_json::from_str(row.try_get(1).map_err(part())?)
            .map_err(|e| corrupt("audit", DeletionId(id), e.to_string()))?;
        found.insert(id, event.at);
    }
    Ok(found)
}

async fn offsets(
    db: &mut PgConnection,
    digests: BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, [i32; 5]>, LedgerError> {
    let part = || doing("reading plans");
    let digests: Vec<Vec<u8>> = digests.into_iter().map(|digest| digest.to_vec()).collect();
    let rows = sqlx::query(PLANS).bind(digests).fetch_all(db).await.map_err(part())?;
    let plan = |row: &PgRow| {
        let plan: Plan = serde_json::from_str(row.try_get(1).map_err(part())?)
            .map_err(|e| corrupt("plans", "?", e.to_string()))?;
        Ok((row.try_get(0).map_err(part())?, plan.stages.map(|stage| stage.offset_days)))
    };
    rows.iter().map(plan).collect()
}

fn one_ahead(row: &PgRow, plans: &BTreeMap<Digest, [i32; 5]>) -> Result<Ahead, LedgerError> {
    let part = || doing("counting what is ahead");
    let (scope, slot): (&str, i16) = (row.try_get(0).map_err(part())?, row.try_get(2).map_err(part())?);
    let digest: Digest = row.try_get(1).map_err(part())?;
    let (day, count): (i32, i64) = (row.try_get(4).map_err(part())?, row.try_get(5).map_err(part())?);
    let stage = usize::try_from(slot).ok().and_then(|slot| Stage::ALL.get(slot).copied());
    Ok(Ahead {
        scope: scope.parse().map_err(|_| corrupt("deletions", scope, "not a scope"))?,
        stage: stage.ok_or_else(|| corrupt("jobs", slot, "not a stage"))?,
        begun: row.try_get(3).map_err(part())?,
        day: u8::try_from(day).unwrap_or(u8::MAX),
        offsets: *plans.get(&digest).ok_or_else(|| corrupt("plans", "?", "is missing"))?,
        count: u64::try_from(count).unwrap_or(0),
    })
}

fn still(row: &PgRow) -> Result<Still, LedgerError> {
    let part = || doing("reading what is held");
    let job = JobId(row.try_get(0).map_err(part())?);
    let (resource, scope): (&str, &str) = (row.try_get(1).map_err(part())?, row.try_get(2).map_err(part())?);
    let why: &str = row.try_get(4).map_err(part())?;
    let why: Blocker = serde_json::from_str(why).map_err(|e| corrupt("jobs", job, e.to_string()))?;
    Ok(Still {
        deletion: job.deletion(),
        resource: resource.parse().map_err(|_| corrupt("jobs", job, "not a resource"))?,
        scope: scope.parse().map_err(|_| corrupt("deletions", job, "not a scope"))?,
        job: JobKind::from_slot(job.slot()).ok_or_else(|| corrupt("jobs", job, "not a job"))?,
        since: row.try_get::<Option<i64>, _>(3).map_err(part())?.map(Timestamp),
        why: why.to_string(),
        undo: String::new(),
    })
}
