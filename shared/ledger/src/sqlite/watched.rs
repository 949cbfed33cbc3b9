//! Finding what may alarm, and what is ahead. All of it are hints: nothing is decided on it.
use std::collections::BTreeMap;

use sexton_model::alarm::hold;
use sexton_model::audit::AuditEvent;
use sexton_model::deletion::Deletion;
use sexton_model::digest::{Ahead, HeldBy, Still};
use sexton_model::job::{Blocker, JobKind, Stage};
use sexton_model::plan::Plan;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Scope, Timestamp};

use super::codes::{self, corrupt};
use super::connection::{Bind, Db, Row, rows, store};
use super::load::{Bodies, load};
use crate::alarms::{self, RESTORES_WATCHED, WATCHED_MAX};
use crate::rules::text;
use crate::{HELD_READ, HeldJobs, LedgerError, WatchedFrom, WatchedPage, WatchedRecord};

/// The first half by the index of what is watched: without its name the planner would read every live record. The second one through
/// the lock's: what is parked, and announcements (slot 0) of which it was written down that not everybody could be told.
pub(super) const WATCHED: &str = "SELECT id FROM ( \
       SELECT id FROM (SELECT r.deletion_id AS id FROM records AS r INDEXED BY records_watched \
         CROSS JOIN deletions AS d ON d.id = r.deletion_id AND d.live WHERE r.deletion_id > ?1 \
         AND (instr(r.body, '\"gone_by\":\"') > 0 OR instr(r.body, '\"criticality\":\"credential\"') > 0) \
         ORDER BY r.deletion_id LIMIT ?2) \
       UNION SELECT id FROM (SELECT j.deletion_id AS id FROM jobs AS j INDEXED BY the_lock \
         WHERE j.locks AND j.deletion_id > ?1 AND (j.state = ?3 OR (j.id % 8 = 0 AND EXISTS (SELECT 1 FROM waivers AS w \
           WHERE w.deletion_id = j.deletion_id AND instr(w.body, '\"claim\":\"untold\"') > 0))) \
         ORDER BY j.deletion_id LIMIT ?2)) \
     ORDER BY id LIMIT ?2";
/// What comes back: restores (slot 5) and what has an order out yet, in the order in which they were cancelled, since then the recycle
/// (slot 4) is over.
pub(super) const RESTORING: &str = "SELECT j.deletion_id FROM jobs AS j INDEXED BY the_lock \
     WHERE j.locks AND (j.id % 8 = 5 OR j.state = ?1) \
     ORDER BY (SELECT c.ended_at FROM jobs AS c WHERE c.id = j.deletion_id * 8 + 4), j.id LIMIT ?2";
const PARKED_AT: &str = "SELECT body FROM audit WHERE deletion_id = ?1 AND instr(body, ?2) > 0 \
     ORDER BY seq DESC LIMIT 1";
/// Of what has begun, only what follows is ahead. What is overdue is due today. Three parts, each by an index: of jobs that
/// are over there are many. What nobody has asked for is left out before it is cut.
const AHEAD: &str = "SELECT r.scope, d.plan, j.id % 8, j.locks, \
       CASE WHEN j.locks THEN 0 ELSE max(0, (j.due_at - ?1) / ?2) END, count(*) \
     FROM (SELECT id, deletion_id, locks, rank, due_at FROM jobs WHERE queued AND due_at < ?1 + ?2 * ?3 \
       UNION ALL SELECT id, deletion_id, locks, rank, due_at FROM jobs WHERE held \
       UNION ALL SELECT id, deletion_id, locks, rank, due_at FROM jobs \
         WHERE locks AND NOT queued AND state IN (2, 3, 4)) AS j \
     JOIN deletions AS d ON d.id = j.deletion_id JOIN records AS r ON r.deletion_id = d.id WHERE j.rank > 0 \
       AND (?5 IS NULL OR EXISTS (SELECT 1 FROM json_each(?5) AS n WHERE r.scope = n.value \
         OR substr(r.scope, 1, length(n.value) + 1) = n.value || '/')) \
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 LIMIT ?4";
/// What stands before a stage, and what a belt stopped between two steps: of that only the lock tells it from what is in line. By
/// the partial indexes. What nobody has asked for is left out before it is cut.
pub(super) const HELD: &str = "SELECT s.id, s.resource, r.scope, s.due_at, s.reason FROM ( \
       SELECT id, deletion_id, resource, due_at, reason FROM jobs INDEXED BY jobs_held WHERE held \
       UNION ALL \
       SELECT id, deletion_id, resource, due_at, reason FROM jobs INDEXED BY the_lock \
         WHERE locks AND state = 2 AND queued = 0) AS s \
     CROSS JOIN records AS r ON r.deletion_id = s.deletion_id \
     WHERE ?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(?2) AS n WHERE r.scope = n.value \
       OR substr(r.scope, 1, length(n.value) + 1) = n.value || '/') \
     ORDER BY s.due_at, s.id LIMIT ?1";
pub(super) const HELD_BY: &str = "SELECT r.scope, json_extract(s.reason, '$.by'), count(*) FROM ( \
       SELECT deletion_id, reason FROM jobs INDEXED BY jobs_held WHERE held \
       UNION ALL \
       SELECT deletion_id, reason FROM jobs INDEXED BY the_lock WHERE locks AND state = 2 AND queued = 0) AS s \
     CROSS JOIN records AS r ON r.deletion_id = s.deletion_id \
     WHERE ?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(?2) AS n WHERE r.scope = n.value \
       OR substr(r.scope, 1, length(n.value) + 1) = n.value || '/') \
     GROUP BY 1, 2 ORDER BY 1, 2 LIMIT ?1";

/// Live records that may alarm, from there on.
pub(super) fn watched(db: &Db, from: Option<WatchedFrom>) -> Result<WatchedPage, LedgerError> {
    let doing = "looking for what may alarm";
    let from = match from {
        Some(from) => from,
        None => WatchedFrom { after: DeletionId(0), restoring: restoring(db)? },
    };
    let mut bind = Bind::default();
    bind.add(from.after.0).add(WATCHED_MAX as i64).add(i64::from(alarms::parked()));
    let mut ids: Vec<i64> = Vec::new();
    for row in rows(db, doing, WATCHED, bind)? {
        ids.push(row.try_get(0).map_err(store(doing))?);
    }
    let ids = alarms::merged(ids, &from);
    let all: Vec<DeletionId> = ids.iter().copied().map(DeletionId).collect();
    let found = match deletions(db, &all) {
        Err(error) if error.spoilt() => one_by_one(db, &all)?,
        other => other?,
    };
    let mut records = Vec::with_capacity(found.len());
    for deletion in found.into_values() {
        let parked = hold::parked(&deletion).is_some();
        let parked_at = if parked { parked_at(db, deletion.id)? } else { None };
        records.push(WatchedRecord { deletion, parked_at });
    }
    Ok(alarms::page(records, &ids, from))
}

/// What comes back, those of the longest cancel.
fn restoring(db: &Db) -> Result<Vec<DeletionId>, LedgerError> {
    let doing = "looking for what comes back";
    let mut bind = Bind::default();
    bind.add(i64::from(alarms::cancelling())).add(RESTORES_WATCHED);
    let id = |row: &Row| row.try_get(0).map(DeletionId).map_err(store(doing));
    rows(db, doing, RESTORING, bind)?.iter().map(id).collect()
}

fn deletions(db: &Db, ids: &[DeletionId]) -> Result<BTreeMap<DeletionId, Deletion>, LedgerError> {
    let found = load(db, ids, &mut Bodies::new(ids.len()))?;
    Ok(found.into_iter().map(|(id, (deletion, _))| (id, deletion)).collect())
}

/// What cannot be read fails alone: the others alarm all the same.
fn one_by_one(db: &Db, ids: &[DeletionId]) -> Result<BTreeMap<DeletionId, Deletion>, LedgerError> {
    let mut found = BTreeMap::new();
    for id in ids {
        match deletions(db, std::slice::from_ref(id)) {
            Err(error) if error.spoilt() => {
                tracing::error!(deletion = %id, %error, "nobody knows whether it alarms");
            }
            other => found.extend(other?),
        }
    }
    Ok(found)
}

/// When it was parked last.
fn parked_at(db: &Db, id: DeletionId) -> Result<Option<Timestamp>, LedgerError> {
    let doing = "reading since when a job is parked";
    let mut bind = Bind::default();
    bind.add(id.0).add(alarms::PARKED_EVENT.to_owned());
    let event = |row: &Row| {
        let text: &str = row.try_get(0).map_err(store(doing))?;
        codes::body::<AuditEvent>("audit", id, text).map(|event| event.at)
    };
    rows(db, doing, PARKED_AT, bind)?.first().map(event).transpose()
}

/// What is due within so many days, or under way.
pub(super) fn ahead(
    db: &Db,
    now: Timestamp,
    (day, days): (Day, u8),
    scopes: Option<&[Scope]>,
) -> Result<Vec<Ahead>, LedgerError> {
    let doing = "counting what is ahead";
    let mut bind = Bind::default();
    bind.add(now.0).add(i64::try_from(day.length_ms().saturating_mul(1000)).unwrap_or(i64::MAX));
    bind.add(i64::from(days)).add(alarms::GROUPS_MAX).add(scopes.map(|of| text(&of)).transpose()?);
    let mut plans: BTreeMap<i64, [i32; 5]> = BTreeMap::new();
    let mut found = Vec::new();
    for row in rows(db, doing, AHEAD, bind)? {
        let plan: i64 = row.try_get(1).map_err(store(doing))?;
        let offsets = match plans.get(&plan) {
            Some(offsets) => *offsets,
            None => *plans.entry(plan).or_insert(offsets(db, plan)?),
        };
        let scope: &str = row.try_get(0).map_err(store(doing))?;
        let slot: i64 = row.try_get(2).map_err(store(doing))?;
        let stage = usize::try_from(slot).ok().and_then(|slot| Stage::ALL.get(slot).copied());
        let (day, count): (i64, i64) =
            (row.try_get(4).map_err(store(doing))?, row.try_get(5).map_err(store(doing))?);
        found.push(Ahead {
            scope: scope.parse().map_err(|_| corrupt("records", scope, "not a scope"))?,
            stage: stage.ok_or_else(|| corrupt("jobs", slot, "not a stage"))?,
            begun: row.try_get(3).map_err(store(doing))?,
            day: u8::try_from(day).unwrap_or(u8::MAX),
            offsets,
            count: u64::try_from(count).unwrap_or(0),
        });
    }
    Ok(found)
}

fn offsets(db: &Db, plan: i64) -> Result<[i32; 5], LedgerError> {
    let doing = "reading a plan";
    let mut bind = Bind::default();
    bind.add(plan);
    let row = super::connection::row(db, doing, "SELECT body FROM plans WHERE number = ?", bind)?;
    let plan: Plan = codes::body("plans", plan, row.try_get(0).map_err(store(doing))?)?;
    Ok(plan.stages.map(|stage| stage.offset_days))
}

/// What is held, also between two steps.
pub(super) fn held(db: &Db, scopes: Option<&[Scope]>) -> Result<HeldJobs, LedgerError> {
    let doing = "reading what is held";
    let within = scopes.map(|of| text(&of)).transpose()?;
    let mut bind = Bind::default();
    bind.add(HELD_READ as i64).add(within.clone());
    let longest = rows(db, doing, HELD, bind)?.iter().map(still).collect::<Result<_, _>>()?;
    let mut bind = Bind::default();
    bind.add(alarms::GROUPS_MAX).add(within);
    let held_by = |row: &Row| {
        let scope: &str = row.try_get(0).map_err(store(doing))?;
        let by: Option<String> = row.try_get(1).map_err(store(doing))?;
        let count: i64 = row.try_get(2).map_err(store(doing))?;
        Ok(HeldBy {
            scope: scope.parse().map_err(|_| corrupt("records", scope, "not a scope"))?,
            by: by.unwrap_or_default(),
            count: u64::try_from(count).unwrap_or(0),
        })
    };
    let by = rows(db, doing, HELD_BY, bind)?.iter().map(held_by).collect::<Result<_, LedgerError>>()?;
    Ok(HeldJobs { longest, by })
}

fn still(row: &Row) -> Result<Still, LedgerError> {
    let doing = "reading what is held";
    let job = JobId(row.try_get(0).map_err(store(doing))?);
    let resource: &str = row.try_get(1).map_err(store(doing))?;
    let scope: &str = row.try_get(2).map_err(store(doing))?;
    let why: Blocker = codes::body("jobs", job, row.try_get(4).map_err(store(doing))?)?;
    Ok(Still {
        deletion: job.deletion(),
        resource: resource.parse().map_err(|_| corrupt("jobs", job, "not a resource"))?,
        scope: scope.parse().map_err(|_| corrupt("records", job, "not a scope"))?,
        job: JobKind::from_slot(job.slot()).ok_or_else(|| corrupt("jobs", job, "not a job"))?,
        since: row.try_get::<Option<i64>>(3).map_err(store(doing))?.map(Timestamp),
        why: why.to_string(),
        undo: String::new(),
    })
}
