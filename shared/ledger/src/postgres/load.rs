//! Locking a batch's rows in the one order, and reading what is decided on afterwards.
use std::collections::{BTreeSet, HashMap};

use sexton_model::audit::Hash;
use sexton_model::belts::Pause;
use sexton_model::checkpoint::{self, Checkpoint, Mark};
use sexton_model::decide::{Event, Lane};
use sexton_model::deletion::{Deletion, Hold, Waiver};
use sexton_model::job::{Job, JobKind};
use sexton_model::plan::{OwnStep, Performer, Plan};
use sexton_model::time::Day;
use sexton_model::{DeletionId, Instance, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{corrupt, doing};
use super::records::Statement;
use super::{codes, jobs, review};
use crate::batch::Loaded;
use crate::{Intent, LedgerError};

/// Names the gate among the database's advisory locks.
pub(super) const GATE: i64 = 0x5345_5854_4f4e;

/// Taken by every transaction that dispatches; a pause takes the same one alone.
const GATE_SHARED: &str = "SELECT pg_advisory_xact_lock_shared($1)";
const LOCK_RESOURCES: &str = "SELECT 1 FROM resources WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
/// A deletion's lock covers its jobs, holds and waivers: nothing writes them without it.
const LOCK_DELETIONS: &str = "SELECT 1 FROM deletions WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
const FACTS: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, nextval('fence'), epoch, \
     revision, ARRAY(SELECT body FROM pauses WHERE NOT lifted ORDER BY id), \
     ARRAY(SELECT instance FROM instances ORDER BY instance), \
     ARRAY(SELECT pulsed_at FROM instances ORDER BY instance), checkpoints, checkpoint_at, review IS NOT NULL, \
     ARRAY(SELECT k.n FROM unnest($1::bigint[], $2::bigint[], $3::text[]) \
       WITH ORDINALITY AS k (deletion, seq, hash, n) WHERE NOT EXISTS (SELECT 1 FROM audit a \
       WHERE a.deletion_id = k.deletion AND a.seq = k.seq AND encode(a.hash, 'hex') = k.hash)) FROM ledger";
/// Counted without a lock between coordinators: two that decide at the same moment may both use what is left.
/// So credit may be exceeded, by less than one batch for each further coordinator.
const ORDERS_OUT: &str = "SELECT out_at, rank = 0, count(*) FROM jobs WHERE locks AND out_at IS NOT NULL \
     GROUP BY 1, 2";
const DELETIONS: &str = "SELECT d.id, d.status, d.audit_seq, d.audit_head, r.protected FROM deletions d \
     JOIN resources r ON r.id = d.resource WHERE d.id = ANY($1)";
const HOLDS_AND_WAIVERS: &str = "SELECT true, deletion_id, id, body FROM holds WHERE deletion_id = ANY($1) \
     UNION ALL SELECT false, deletion_id, number, body FROM waivers WHERE deletion_id = ANY($1) ORDER BY 1, 2, 3";

/// What was read besides [`Loaded`].
pub(super) struct Facts {
    /// Where the ledger stands, with the fences before this batch's own.
    pub(super) mark: Mark,
}

/// Gate, then resources, then deletions, each ascending.
pub(super) async fn lock(
    db: &mut PgConnection,
    batch: &[Intent],
    ids: &[i64],
    statements: &HashMap<i64, Statement>,
) -> Result<(), LedgerError> {
    sqlx::query(GATE_SHARED).bind(GATE).execute(&mut *db).await.map_err(doing("passing the gate"))?;
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
    sqlx::query(LOCK_DELETIONS).bind(ids).execute(&mut *db).await.map_err(doing("locking deletions"))?;
    Ok(())
}

/// Whether deciding this may write the resource's row.
fn changes_inventory(event: &Event, plan: &Plan) -> bool {
    let job = match event {
        Event::Claim { job }
        | Event::Proceed { job }
        | Event::Outcome { job, .. }
        | Event::LeaseOver { job, .. } => *job,
        Event::Retry { .. } | Event::Waive { .. } | Event::Rescue { .. } => return true,
        Event::Recheck { .. }
        | Event::Progress { .. }
        | Event::Cancel { .. }
        | Event::PlaceHold { .. }
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

/// Everything that the batch is decided on; `seen` is what was seen of the ledger before the batch began.
pub(super) async fn load(
    db: &mut PgConnection,
    ids: &[i64],
    statements: HashMap<i64, Statement>,
    day: Day,
    seen: &Checkpoint,
) -> Result<(Loaded, Facts), LedgerError> {
    let (of, seqs, hashes) = review::columns(&seen.landmarks);
    let facts = sqlx::query(FACTS)
        .bind(of)
        .bind(seqs)
        .bind(hashes)
        .fetch_one(&mut *db)
        .await
        .map_err(doing("reading the ledger"))?;
    let mark = mark(&facts)?;
    let places: Vec<i64> = facts.try_get(10).map_err(doing("reading the ledger"))?;
    let missing = review::at_places(&seen.landmarks, &places);
    if let Some(behind) = checkpoint::behind(seen, mark, missing) {
        return Err(LedgerError::WentBack(Box::new(behind)));
    }
    let out = orders_out(db).await?;
    let deletions = deletions(db, ids, statements).await?;
    let part = || doing("reading the ledger");
    let loaded = Loaded {
        now: Timestamp(facts.try_get(0).map_err(part())?),
        day,
        epoch: mark.epoch,
        review: facts.try_get::<bool, _>(9).map_err(part())?.then_some(mark.epoch),
        first_fence: facts.try_get(1).map_err(part())?,
        deletions,
        pauses: pauses(&facts.try_get::<Vec<String>, _>(4).map_err(part())?)?,
        out,
        pulses: pulses(facts.try_get(5).map_err(part())?, facts.try_get::<Vec<i64>, _>(6).map_err(part())?)?,
    };
    Ok((loaded, Facts { mark }))
}

fn mark(facts: &PgRow) -> Result<Mark, LedgerError> {
    let part = || doing("reading the ledger");
    let first_fence: i64 = facts.try_get(1).map_err(part())?;
    Ok(Mark {
        epoch: review::epoch(facts, 2)?,
        number: facts.try_get(7).map_err(part())?,
        fence: first_fence - 1,
        revision: facts.try_get(3).map_err(part())?,
        at: Timestamp(facts.try_get(8).map_err(part())?),
    })
}

/// Pauses from their bodies.
pub(super) fn pauses(bodies: &[String]) -> Result<Vec<Pause>, LedgerError> {
    let parse = |body: &String| serde_json::from_str(body);
    bodies.iter().map(parse).collect::<Result<_, _>>().map_err(|e| corrupt("pauses", "?", e.to_string()))
}

/// Last pulses from two columns.
pub(super) fn pulses(
    instances: Vec<String>,
    at: Vec<i64>,
) -> Result<HashMap<Instance, Timestamp>, LedgerError> {
    instances.iter().zip(at).map(|(name, at)| Ok((instance(name)?, Timestamp(at)))).collect()
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
            let restores: bool = row.try_get(1).map_err(part())?;
            let lane = if restores { Lane::Restores } else { Lane::Stages };
            let count: i64 = row.try_get(2).map_err(part())?;
            Ok(((instance(row.try_get(0).map_err(part())?)?, lane), u32::try_from(count).unwrap_or(u32::MAX)))
        })
        .collect()
}

/// Deletions with the heads of their chains.
pub(super) async fn deletions(
    db: &mut PgConnection,
    ids: &[i64],
    mut statements: HashMap<i64, Statement>,
) -> Result<HashMap<DeletionId, (Deletion, Hash)>, LedgerError> {
    let rows =
        sqlx::query(DELETIONS).bind(ids).fetch_all(&mut *db).await.map_err(doing("reading deletions"))?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (deletion, head) = deletion(row, &mut statements)?;
        found.insert(deletion.id, (deletion, head));
    }
    for row in jobs::read(db, ids).await? {
        if let Some((deletion, _)) = found.get_mut(&row.deletion()) {
            let job: Job = row.job()?;
            deletion.jobs.push(job);
        }
    }
    let rows =
        sqlx::query(HOLDS_AND_WAIVERS).bind(ids).fetch_all(db).await.map_err(doing("reading holds"))?;
    for row in &rows {
        attach(row, &mut found)?;
    }
    Ok(found)
}

fn deletion(row: &PgRow, statements: &mut HashMap<i64, Statement>) -> Result<(Deletion, Hash), LedgerError> {
    let part = || doing("reading a deletion");
    let id: i64 = row.try_get(0).map_err(part())?;
    let (record, plan) =
        statements.remove(&id).ok_or_else(|| corrupt("deletions", id, "its record is missing"))?;
    let status = codes::status(row.try_get(1).map_err(part())?)
        .ok_or_else(|| corrupt("deletions", id, "unknown status"))?;
    let deletion = Deletion {
        id: DeletionId(id),
        record,
        plan,
        status,
        protected: row.try_get(4).map_err(part())?,
        audit_seq: row.try_get(2).map_err(part())?,
        jobs: Vec::with_capacity(6),
        holds: Vec::new(),
        waivers: Vec::new(),
    };
    Ok((deletion, row.try_get(3).map_err(part())?))
}

fn attach(row: &PgRow, found: &mut HashMap<DeletionId, (Deletion, Hash)>) -> Result<(), LedgerError> {
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
