//! Locking a batch's rows in the one order, and reading what is decided on afterwards.
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use sexton_model::audit::Hash;
use sexton_model::belts::Policy;
use sexton_model::belts::healthy::Healthy;
use sexton_model::checkpoint::{self, Checkpoint, Mark};
use sexton_model::decide::{Event, Lane};
use sexton_model::deletion::{Deletion, Hold, RecordStatus, Waiver};
use sexton_model::job::{Job, JobKind};
use sexton_model::plan::{OwnStep, Performer, Plan};
use sexton_model::{DeletionId, Instance, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{corrupt, doing};
use super::memory::Headed;
use super::records::Statement;
use super::{PgLedger, admit, codes, groups, healthy, jobs, pause, resource_holds, review};
use crate::batch::Loaded;
use crate::{Intent, LedgerError, Pulsed, budget};

/// Names the gate among the database's advisory locks.
pub(super) const GATE: i64 = 0x5345_5854_4f4e;

/// How every transaction that dispatches begins: with the gate, which a pause takes alone. In one go, since it is the
/// first of all locks and takes no answer.
pub(super) fn begin() -> &'static str {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("BEGIN; SELECT pg_advisory_xact_lock_shared({GATE})"));
    SQL.as_str()
}

const LOCK_RESOURCES: &str = "SELECT 1 FROM resources WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
/// A deletion's lock covers its jobs, holds and waivers: nothing writes them without it. What is returned of a locked
/// row is its newest version, even if it had to be waited for.
const LOCK_DELETIONS: &str = "SELECT id, status, audit_seq, audit_head, created_at FROM deletions WHERE id = ANY($1) \
     ORDER BY id FOR NO KEY UPDATE";
/// `$1` are names of resources, which are known of records that never change: a way to them by the deletions would read each
/// of those once more.
const FACTS: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, nextval('fence'), epoch, \
     revision, pause_head, \
     ARRAY(SELECT to_json(p)::text FROM (SELECT i.instance, i.pulsed_at, c.hands, c.answered_at FROM instances i \
       LEFT JOIN (SELECT instance, sum(hands) AS hands, max(answered_at) AS answered_at FROM copies \
         WHERE pulsed_at >= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2 GROUP BY instance) c \
       ON c.instance = i.instance) p), \
     ARRAY(SELECT r.id FROM resources r WHERE r.protected AND r.id = ANY($1)), \
     o.instances, o.restores, o.orders, checkpoints, checkpoint_at, review IS NOT NULL, \
     ARRAY(SELECT k.n FROM unnest($3::bigint[], $4::bigint[], $5::text[]) \
       WITH ORDINALITY AS k (deletion, seq, hash, n) WHERE NOT EXISTS (SELECT 1 FROM audit a \
       WHERE a.deletion_id = k.deletion AND a.seq = k.seq AND encode(a.hash, 'hex') = k.hash) \
       AND NOT EXISTS (SELECT 1 FROM stubs s WHERE s.deletion_id = k.deletion AND k.seq BETWEEN 1 AND s.events \
       AND (k.seq < s.events OR encode(s.head, 'hex') = k.hash))), \
     ARRAY(SELECT h.resource || ' ' || h.body FROM resource_holds h WHERE h.resource = ANY($1) \
       ORDER BY h.resource, h.id), beat_at, outages_change, EXISTS (SELECT 1 FROM batches WHERE waits) FROM ledger, \
     (SELECT coalesce(array_agg(c.out_at), '{}') AS instances, coalesce(array_agg(c.restores), '{}') AS restores, \
      coalesce(array_agg(c.orders), '{}') AS orders FROM \
      (SELECT out_at, rank = 0 AS restores, count(*) AS orders FROM jobs WHERE locks AND out_at IS NOT NULL \
       GROUP BY 1, 2) AS c) AS o";
/// Counted without a lock between coordinators, here and in [`FACTS`]: two that decide at the same moment may both
/// use what is left. So credit may be exceeded, by less than one batch for each further coordinator.
const ORDERS_OUT: &str = "SELECT out_at, rank = 0, count(*) FROM jobs WHERE locks AND out_at IS NOT NULL \
     GROUP BY 1, 2";
const DELETIONS: &str = "SELECT d.id, d.status, d.audit_seq, d.audit_head, d.created_at, r.protected FROM deletions d \
     JOIN resources r ON r.id = d.resource WHERE d.id = ANY($1)";
const HOLDS_AND_WAIVERS: &str = "SELECT true, deletion_id, id, body FROM holds WHERE deletion_id = ANY($1) \
     UNION ALL SELECT false, deletion_id, number, body FROM waivers WHERE deletion_id = ANY($1) ORDER BY 1, 2, 3";

/// What was read besides [`Loaded`].
pub(super) struct Facts {
    /// Where the ledger stands, with the fences before this batch's own.
    pub(super) mark: Mark,
}

/// A locked deletion's own row.
pub(super) struct Head {
    pub(super) id: i64,
    status: RecordStatus,
    pub(super) seq: i64,
    pub(super) hash: Hash,
    /// When its record was made.
    pub(super) created_at: Timestamp,
}

/// From a row that begins with it.
pub(super) fn head(row: &PgRow) -> Result<Head, LedgerError> {
    let part = || doing("reading a deletion");
    let id: i64 = row.try_get(0).map_err(part())?;
    let status = codes::status(row.try_get(1).map_err(part())?)
        .ok_or_else(|| corrupt("deletions", id, "unknown status"))?;
    Ok(Head {
        id,
        status,
        seq: row.try_get(2).map_err(part())?,
        hash: row.try_get(3).map_err(part())?,
        created_at: Timestamp(row.try_get(4).map_err(part())?),
    })
}

/// Behind the gate: resources, then deletions, each ascending. The heads of the deletions, as they are now.
pub(super) async fn lock(
    db: &mut PgConnection,
    batch: &[Intent],
    ids: &[i64],
    statements: &HashMap<i64, Statement>,
) -> Result<Vec<Head>, LedgerError> {
    let resources: BTreeSet<String> = batch
        .iter()
        .filter_map(|intent| {
            let (record, plan) = statements.get(&intent.deletion.0)?;
            changes_inventory(&intent.event, plan).then(|| record.resource.id.to_string())
        })
        .collect();
    if !resources.is_empty() {
        let resources: Vec<String> = resources.into_iter().collect();
        sqlx::query(LOCK_RESOURCES)
            .bind(resources)
            .execute(&mut *db)
            .await
            .map_err(doing("locking resources"))?;
    }
    let rows =
        sqlx::query(LOCK_DELETIONS).bind(ids).fetch_all(db).await.map_err(doing("locking deletions"))?;
    rows.iter().map(head).collect()
}

/// Whether deciding this may write the resource's row.
fn changes_inventory(event: &Event, plan: &Plan) -> bool {
    let job = match event {
        Event::Claim { job }
        | Event::Proceed { job }
        | Event::Outcome { job, .. }
        | Event::LeaseOver { job, .. } => *job,
        Event::Retry { .. } | Event::Waive { .. } | Event::Acknowledge { .. } | Event::Rescue { .. } => {
            return true;
        }
        Event::Recheck { .. }
        | Event::Progress { .. }
        | Event::Cancel { .. }
        | Event::PlaceHold { .. }
        | Event::Park { .. }
        | Event::Bounced { .. }
        | Event::ReleaseHold { .. } => return false,
    };
    let Some(JobKind::Stage(stage)) = JobKind::from_slot(job.slot()) else { return false };
    let removes = |performer: &Performer| match performer {
        Performer::Coordinator(OwnStep::RemoveFromInventory) => true,
        Performer::Coordinator(OwnStep::Receipt) | Performer::Subsystem { .. } => false,
    };
    stage == sexton_model::job::Stage::Recycle
        || plan.stage(stage).steps.iter().any(|step| removes(&step.performer))
}

/// Everything that the batch is decided on, by this policy; `seen` is what was seen of the ledger before the batch
/// began, `names` are the redundancy groups that are locked, and `graces` says whether something may begin a stage
/// that has a grace.
pub(super) async fn load(
    db: &mut PgConnection,
    (batch, policy): (&[Intent], &Policy),
    (names, graces): (&[String], bool),
    heads: Vec<Head>,
    statements: &HashMap<i64, Statement>,
    ledger: &PgLedger,
    seen: &Checkpoint,
) -> Result<(Loaded, Facts), LedgerError> {
    let (of, seqs, hashes) = review::columns(&seen.landmarks);
    // One that is left out would read as neither protected nor held.
    let named = |head: &Head| match statements.get(&head.id) {
        Some((record, _)) => Ok(record.resource.id.to_string()),
        None => Err(corrupt("deletions", head.id, "its record is missing")),
    };
    let mut resources: Vec<String> = heads.iter().map(named).collect::<Result<_, _>>()?;
    resources.sort_unstable();
    resources.dedup();
    let facts = sqlx::query(FACTS)
        .bind(resources)
        .bind(ledger.options.limits.down_after_us())
        .bind(of)
        .bind(seqs)
        .bind(hashes)
        .fetch_one(&mut *db)
        .await
        .map_err(doing("reading the ledger"))?;
    let mark = mark(&facts)?;
    let places: Vec<i64> = facts.try_get(13).map_err(doing("reading the ledger"))?;
    let missing = review::at_places(&seen.landmarks, &places);
    if let Some(behind) = checkpoint::behind(seen, mark, missing, None) {
        return Err(LedgerError::WentBack(Box::new(behind)));
    }
    let part = || doing("reading the ledger");
    let instances: Vec<String> = facts.try_get(7).map_err(part())?;
    let restores: Vec<bool> = facts.try_get(8).map_err(part())?;
    let counts: Vec<i64> = facts.try_get(9).map_err(part())?;
    let counted = instances.iter().zip(restores).zip(counts);
    let out = counted.map(|((at, restores), count)| orders(at, restores, count)).collect::<Result<_, _>>()?;
    let protected: HashSet<String> =
        facts.try_get::<Vec<String>, _>(6).map_err(part())?.into_iter().collect();
    let holds: Vec<String> = facts.try_get(14).map_err(part())?;
    let holds = resource_holds::from_facts(&holds)?;
    let mut deletions = ledger.memory.unchanged(&heads);
    let others: Vec<Head> =
        heads.into_iter().filter(|h| !deletions.contains_key(&DeletionId(h.id))).collect();
    deletions.extend(rest(db, others, statements).await?);
    for (deletion, _) in deletions.values_mut() {
        let none = protected.is_empty() && holds.is_empty();
        let resource = if none { String::new() } else { deletion.record.resource.id.to_string() };
        deletion.protected = protected.contains(&resource);
        deletion.resource_holds = holds.get(&resource).cloned().unwrap_or_default();
    }
    let head: Vec<u8> = facts.try_get(4).map_err(part())?;
    let in_force = match ledger.memory.in_force(&head) {
        Some(in_force) => in_force,
        None => ledger.memory.keep_in_force(head, pause::in_force(db).await?),
    };
    let now = Timestamp(facts.try_get(0).map_err(part())?);
    let (beat, outages) = (facts.try_get(15).map_err(part())?, facts.try_get(16).map_err(part())?);
    let healthy = match graces {
        true => healthy::of(db, ledger, Timestamp(beat), (mark.epoch, outages)).await?,
        false => Healthy::default(),
    };
    let frozen: bool = facts.try_get(17).map_err(part())?;
    let asked = budget::asked(batch, &deletions, (policy, frozen), (now, ledger.options.day));
    let loaded = Loaded {
        now,
        standing: admit::standing(db, &asked, now).await?,
        groups: groups::members(db, names, (&ledger.memory, &deletions)).await?,
        healthy,
        day: ledger.options.day,
        epoch: mark.epoch,
        review: facts.try_get::<bool, _>(12).map_err(part())?.then_some(mark.epoch),
        first_fence: facts.try_get(1).map_err(part())?,
        deletions,
        in_force,
        out,
        pulses: pulses(&facts.try_get::<Vec<String>, _>(5).map_err(part())?)?,
        pinned: HashMap::new(),
    };
    Ok((loaded, Facts { mark }))
}

fn mark(facts: &PgRow) -> Result<Mark, LedgerError> {
    let part = || doing("reading the ledger");
    let first_fence: i64 = facts.try_get(1).map_err(part())?;
    Ok(Mark {
        epoch: review::epoch(facts, 2)?,
        number: facts.try_get(10).map_err(part())?,
        fence: first_fence - 1,
        revision: facts.try_get(3).map_err(part())?,
        at: Timestamp(facts.try_get(11).map_err(part())?),
    })
}

/// What is known of an instance, as the database says it.
#[derive(serde::Deserialize)]
struct PulsedRow {
    instance: Instance,
    pulsed_at: i64,
    hands: Option<u32>,
    answered_at: Option<i64>,
}

/// What is known of instances.
pub(super) fn pulses(rows: &[String]) -> Result<HashMap<Instance, Pulsed>, LedgerError> {
    let parse = |row: &String| {
        let row: PulsedRow =
            serde_json::from_str(row).map_err(|e| corrupt("instances", row.as_str(), e.to_string()))?;
        let pulsed = Pulsed {
            at: Timestamp(row.pulsed_at),
            hands: row.hands.unwrap_or(0),
            answered_at: row.answered_at.map(Timestamp),
        };
        Ok((row.instance, pulsed))
    };
    rows.iter().map(parse).collect()
}

pub(super) fn instance(text: &str) -> Result<Instance, LedgerError> {
    text.parse().map_err(|_| corrupt("instances", text, "not an instance"))
}

/// Orders out by instance and lane.
pub(super) async fn orders_out(db: &mut PgConnection) -> Result<HashMap<(Instance, Lane), u32>, LedgerError> {
    let part = || doing("counting orders");
    let rows = sqlx::query(ORDERS_OUT).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let at: &str = row.try_get(0).map_err(part())?;
            orders(at, row.try_get(1).map_err(part())?, row.try_get(2).map_err(part())?)
        })
        .collect()
}

fn orders(at: &str, restores: bool, count: i64) -> Result<((Instance, Lane), u32), LedgerError> {
    let lane = if restores { Lane::Restores } else { Lane::Stages };
    Ok(((instance(at)?, lane), u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Deletions with the heads of their chains.
pub(super) async fn deletions(
    db: &mut PgConnection,
    ids: &[i64],
    statements: &HashMap<i64, Statement>,
) -> Result<HashMap<DeletionId, Headed>, LedgerError> {
    let part = || doing("reading deletions");
    let rows = sqlx::query(DELETIONS).bind(ids).fetch_all(&mut *db).await.map_err(part())?;
    let heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>()?;
    let mut protected = Vec::new();
    for (row, head) in rows.iter().zip(&heads) {
        if row.try_get(5).map_err(part())? {
            protected.push(head.id);
        }
    }
    let mut found = rest(db, heads, statements).await?;
    let mut holds = resource_holds::of_deletions(db, ids).await?;
    for (id, (deletion, _)) in &mut found {
        deletion.protected = protected.contains(&id.0);
        deletion.resource_holds = holds.remove(&id.0).unwrap_or_default();
    }
    Ok(found)
}

/// What belongs to these heads: jobs, holds, waivers. What stands on their resources is not among it.
pub(super) async fn rest(
    db: &mut PgConnection,
    heads: Vec<Head>,
    statements: &HashMap<i64, Statement>,
) -> Result<HashMap<DeletionId, Headed>, LedgerError> {
    let mut found = HashMap::with_capacity(heads.len());
    if heads.is_empty() {
        return Ok(found);
    }
    let ids: Vec<i64> = heads.iter().map(|head| head.id).collect();
    for head in heads {
        let headed = deletion(head, statements)?;
        found.insert(headed.0.id, headed);
    }
    for row in jobs::read(db, &ids).await? {
        if let Some((deletion, _)) = found.get_mut(&row.deletion()) {
            let job: Job = row.job()?;
            deletion.jobs.push(job);
        }
    }
    let rows =
        sqlx::query(HOLDS_AND_WAIVERS).bind(&ids).fetch_all(db).await.map_err(doing("reading holds"))?;
    for row in &rows {
        attach(row, &mut found)?;
    }
    Ok(found)
}

fn deletion(head: Head, statements: &HashMap<i64, Statement>) -> Result<Headed, LedgerError> {
    let Head { id, status, seq, hash, .. } = head;
    let missing = || corrupt("deletions", id, "its record is missing");
    let (record, plan) = statements.get(&id).cloned().ok_or_else(missing)?;
    let deletion = Deletion {
        id: DeletionId(id),
        record,
        plan,
        status,
        protected: false,
        resource_holds: Vec::new(),
        audit_seq: seq,
        jobs: Vec::with_capacity(6),
        holds: Vec::new(),
        waivers: Vec::new(),
    };
    Ok((deletion, hash))
}

fn attach(row: &PgRow, found: &mut HashMap<DeletionId, Headed>) -> Result<(), LedgerError> {
    let part = || doing("reading a hold or waiver");
    let id = DeletionId(row.try_get(1).map_err(part())?);
    let Some((deletion, _)) = found.get_mut(&id) else { return Ok(()) };
    let body: &str = row.try_get(3).map_err(part())?;
    if row.try_get(0).map_err(part())? {
        let hold: Hold = serde_json::from_str(body).map_err(|e| corrupt("holds", id, e.to_string()))?;
        deletion.holds.push(hold);
    } else {
        let waiver: Waiver = serde_json::from_str(body).map_err(|e| corrupt("waivers", id, e.to_string()))?;
        deletion.waivers.push(waiver);
    }
    Ok(())
}
