//! Reading deletions: record, plan, jobs, holds, waivers, and the head of the chain.
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use sexton_model::audit::Hash;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::job::{Job, JobKind};
use sexton_model::plan::Plan;
use sexton_model::{DeletionId, JobId, Timestamp};

use super::connection::{Bind, Db, Row, list, rows, store};
use super::{codes, jobs};
use crate::LedgerError;
use crate::recent::Recent;

/// Records and plans that were used lately; they never change, so there is nothing to keep in step.
#[derive(Debug)]
pub(super) struct Bodies {
    records: Recent<i64, Arc<Record>>,
    plans: Recent<i64, Arc<Plan>>,
}

impl Bodies {
    /// Room for at least `records` records; of plans there are few.
    pub(super) fn new(records: usize) -> Self {
        Self { records: Recent::new(records), plans: Recent::new(256) }
    }
}

/// A deletion with the head of its chain.
pub(super) type Headed = (Deletion, Hash);

const DOING: &str = "reading deletions";

/// Read these deletions, with what is in the table now. Those that do not exist are left out.
pub(super) fn load(
    db: &Db,
    ids: &[DeletionId],
    bodies: &mut Bodies,
) -> Result<HashMap<DeletionId, Headed>, LedgerError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let wanted = list(ids.iter().map(|id| id.0));
    let heads = by_list(
        db,
        "SELECT d.id, d.status, d.audit_seq, d.audit_head, d.plan, r.protected FROM json_each(?) AS n \
         CROSS JOIN deletions AS d ON d.id = n.value JOIN resources AS r ON r.id = d.resource",
        &wanted,
    )?;
    let mut found = HashMap::with_capacity(heads.len());
    let heads: Vec<Head> = heads.iter().map(Head::read).collect::<Result<_, _>>()?;
    fetch_bodies(db, &heads, bodies)?;
    for head in heads {
        let missing = |table| codes::corrupt(table, head.id, "is missing");
        let record = bodies.records.get(&head.id).ok_or_else(|| missing("records"))?;
        let plan = bodies.plans.get(&head.plan).ok_or_else(|| missing("plans"))?;
        let deletion = Deletion {
            id: DeletionId(head.id),
            record,
            plan,
            status: codes::status(head.status)?,
            protected: head.protected,
            resource_holds: Vec::new(),
            audit_seq: head.audit_seq,
            jobs: Vec::new(),
            holds: Vec::new(),
            waivers: Vec::new(),
        };
        found.insert(deletion.id, (deletion, head.hash));
    }
    fill(db, &wanted, &mut found)?;
    Ok(found)
}

struct Head {
    id: i64,
    status: i64,
    audit_seq: i64,
    hash: Hash,
    plan: i64,
    protected: bool,
}

impl Head {
    fn read(row: &Row) -> Result<Self, LedgerError> {
        let id: i64 = row.try_get(0).map_err(store(DOING))?;
        let hash: &[u8] = row.try_get(3).map_err(store(DOING))?;
        Ok(Self {
            id,
            status: row.try_get(1).map_err(store(DOING))?,
            audit_seq: row.try_get(2).map_err(store(DOING))?,
            hash: codes::hash("deletions", id, hash)?,
            plan: row.try_get(4).map_err(store(DOING))?,
            protected: row.try_get(5).map_err(store(DOING))?,
        })
    }
}

fn fetch_bodies(db: &Db, heads: &[Head], bodies: &mut Bodies) -> Result<(), LedgerError> {
    let missing = list(heads.iter().map(|h| h.id).filter(|id| bodies.records.get(id).is_none()));
    if missing != "[]" {
        let sql = "SELECT r.deletion_id, r.body FROM json_each(?) AS n CROSS JOIN records AS r \
                   ON r.deletion_id = n.value";
        for row in by_list(db, sql, &missing)? {
            let (id, text) = text(&row)?;
            bodies.records.put(id, Arc::new(codes::body("records", id, text)?));
        }
    }
    let missing = list(heads.iter().map(|h| h.plan).filter(|id| bodies.plans.get(id).is_none()));
    if missing != "[]" {
        let sql = "SELECT p.number, p.body FROM plans AS p \
                   WHERE p.number IN (SELECT n.value FROM json_each(?) AS n)";
        for row in by_list(db, sql, &missing)? {
            let (number, text) = text(&row)?;
            bodies.plans.put(number, Arc::new(codes::body("plans", number, text)?));
        }
    }
    Ok(())
}

fn fill(db: &Db, wanted: &str, found: &mut HashMap<DeletionId, Headed>) -> Result<(), LedgerError> {
    for row in by_list(db, touched_sql(), wanted)? {
        let job = jobs::read(&row).map_err(store("reading jobs"))?;
        if let Some((deletion, _)) = found.get_mut(&job.deletion()) {
            deletion.jobs.push(job.job()?);
        }
    }
    for row in by_list(db, new_sql(), wanted)? {
        let id = JobId(row.try_get(0).map_err(store("reading jobs"))?);
        let kind = JobKind::from_slot(id.slot()).ok_or_else(|| codes::corrupt("jobs", id, "unknown slot"))?;
        if let Some((deletion, _)) = found.get_mut(&id.deletion()) {
            deletion.jobs.push(Job::new(id, kind, None));
        }
    }
    for (deletion, _) in found.values_mut() {
        deletion.jobs.sort_unstable_by_key(|job| job.id);
    }
    let sql = "SELECT h.deletion_id, h.body FROM json_each(?) AS n CROSS JOIN holds AS h \
               ON h.deletion_id = n.value ORDER BY h.deletion_id, h.id";
    for row in by_list(db, sql, wanted)? {
        let (id, text) = text(&row)?;
        if let Some((deletion, _)) = found.get_mut(&DeletionId(id)) {
            deletion.holds.push(codes::body("holds", id, text)?);
        }
    }
    let sql = "SELECT d.id, h.body FROM json_each(?) AS n CROSS JOIN deletions AS d ON d.id = n.value \
               CROSS JOIN resource_holds AS h ON h.resource = d.resource ORDER BY d.id, h.id";
    for row in by_list(db, sql, wanted)? {
        let (id, text) = text(&row)?;
        if let Some((deletion, _)) = found.get_mut(&DeletionId(id)) {
            deletion.resource_holds.push(codes::body("resource_holds", id, text)?);
        }
    }
    let sql = "SELECT w.deletion_id, w.body FROM json_each(?) AS n CROSS JOIN waivers AS w \
               ON w.deletion_id = n.value ORDER BY w.deletion_id, w.number";
    for row in by_list(db, sql, wanted)? {
        let (id, text) = text(&row)?;
        if let Some((deletion, _)) = found.get_mut(&DeletionId(id)) {
            deletion.waivers.push(codes::body("waivers", id, text)?);
        }
    }
    Ok(())
}

/// A job as [`Job::new`] makes it, not due yet: most of a deletion's jobs, most of the time. Their ids are
/// enough, and reading two dozen columns of each would be half the cost of a claim.
const NEW: &str = "(j.state = 0 AND j.due_at IS NULL AND j.cursor = 0 AND j.phase = 0 AND NOT j.touched \
     AND j.attempts = 0 AND j.unstarted = 0 AND j.quiet_after = 0 AND j.ended_at IS NULL)";

const OF_DELETIONS: &str = "FROM json_each(?) AS n CROSS JOIN jobs AS j \
     ON j.id >= n.value * 8 AND j.id < n.value * 8 + 8";

fn touched_sql() -> &'static str {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} {OF_DELETIONS} WHERE NOT {NEW}", jobs::COLUMNS));
    SQL.as_str()
}

fn new_sql() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT j.id {OF_DELETIONS} WHERE {NEW}"));
    SQL.as_str()
}

fn by_list(db: &Db, sql: &'static str, wanted: &str) -> Result<Vec<Row>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(wanted.to_owned());
    rows(db, DOING, sql, bind)
}

fn text(row: &Row) -> Result<(i64, &str), LedgerError> {
    Ok((row.try_get(0).map_err(store(DOING))?, row.try_get(1).map_err(store(DOING))?))
}

/// One number from a row, as a moment.
pub(super) fn moment(row: &Row, column: usize) -> Result<Timestamp, LedgerError> {
    row.try_get(column).map(Timestamp).map_err(store(DOING))
}
