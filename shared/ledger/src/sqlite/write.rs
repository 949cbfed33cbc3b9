//! Writing what a batch decided.
use std::collections::{HashMap, HashSet};

use rusqlite::params;
use serde_json::Value;
use sexton_model::{DeletionId, JobId, Timestamp};

use super::connection::{Bind, Db, change_one, each, execute, rows, store};
use super::decided::Found;
use super::{codes, jobs};
use crate::batch::{AuditWrite, Writes};
use crate::row::JobRow;
use crate::{LedgerError, rules};

const HEAD: &str =
    "UPDATE deletions SET audit_seq = ?, audit_head = ?, status = ?, live = ?, ended_at = ? WHERE id = ?";

/// Between two steps only the chain grows: the partial index on `live` is not touched.
const CHAIN: &str = "UPDATE deletions SET audit_seq = ?, audit_head = ? WHERE id = ?";

/// `OR ROLLBACK`, as its triggers say, too: what cannot be appended fails the whole transaction, and no page is copied
/// in order to take back the statement alone.
const AUDIT: &str = "INSERT OR ROLLBACK INTO audit (deletion_id, seq, body, hash) VALUES (?, ?, ?, ?)";

const MANIFEST: &str =
    "INSERT INTO manifests (job_id, step, body) VALUES (?, ?, ?) ON CONFLICT (job_id, step) DO NOTHING";

const PRESENCE: &str = "UPDATE resources SET presence = ? WHERE id = ?";

const TARGET: &str = "INSERT INTO targets (deletion_id, instance, body) VALUES (?, ?, ?) \
     ON CONFLICT (deletion_id, instance) DO UPDATE SET body = excluded.body";

/// Write everything. `begun`: the restores that are new, with their resources; `statuses`: records whose status
/// this batch changed.
pub(super) fn write(
    db: &Db,
    writes: Writes,
    found: &Found,
    begun: &HashMap<JobId, String>,
    statuses: &HashSet<DeletionId>,
) -> Result<(), LedgerError> {
    write_jobs(db, &writes, found, begun)?;
    write_heads(db, &writes, (statuses, found.now))?;
    audit(db, writes.audit)?;
    each(db, "writing manifests", MANIFEST, writes.manifests, |statement, (id, slot, step, value)| {
        statement.execute(params![JobId::of(id, slot).0, step, value.to_string()])
    })?;
    write_targets(db, writes.targets)?;
    for (id, hold) in &writes.holds {
        let mut bind = Bind::default();
        bind.add(id.0).add(hold.id).add(rules::text(hold)?);
        execute(db, "placing a hold", "INSERT INTO holds (deletion_id, id, body) VALUES (?, ?, ?)", bind)?;
    }
    for (id, hold) in &writes.released {
        let mut bind = Bind::default();
        bind.add(id.0).add(*hold);
        let doing = ("releasing a hold", "holds");
        change_one(db, doing, "DELETE FROM holds WHERE deletion_id = ? AND id = ?", bind)?;
    }
    for (id, waiver) in &writes.waivers {
        let mut bind = Bind::default();
        bind.add(id.0).add(rules::text(waiver)?).add(id.0);
        let sql = "INSERT INTO waivers (deletion_id, body, number) \
                   SELECT ?, ?, coalesce(max(number), 0) + 1 FROM waivers WHERE deletion_id = ?";
        execute(db, "writing a waiver", sql, bind)?;
    }
    // One after the other, so the last one stays.
    let done =
        each(db, "writing the inventory", PRESENCE, &writes.resources, |statement, (id, presence)| {
            statement.execute(params![codes::of_presence(*presence), id.to_string()])
        })?;
    codes::all_there("resources", done, writes.resources.len())
}

fn write_jobs(
    db: &Db,
    writes: &Writes,
    found: &Found,
    begun: &HashMap<JobId, String>,
) -> Result<(), LedgerError> {
    let mut steps: Vec<&JobRow> = Vec::with_capacity(writes.jobs.len());
    let mut others: Vec<&JobRow> = Vec::new();
    let mut new: Vec<(&JobRow, String)> = Vec::new();
    let running = crate::row::code(sexton_model::job::StateName::Running);
    for row in writes.jobs.values() {
        if let Some(resource) = begun.get(&row.id) {
            new.push((row, resource.clone()));
        } else if row.state == running && found.running.contains(&row.id) {
            steps.push(row);
        } else {
            others.push(row);
        }
    }
    // Locks are given up before restores take them: the unique index looks at every row as it is written.
    jobs::step(db, &steps)?;
    jobs::update(db, &others)?;
    jobs::insert(db, new)
}

fn write_heads(
    db: &Db,
    writes: &Writes,
    (statuses, now): (&HashSet<DeletionId>, Timestamp),
) -> Result<(), LedgerError> {
    let (changed, grown): (Vec<_>, Vec<_>) = writes.heads.iter().partition(|(id, _)| statuses.contains(id));
    let doing = "writing records' heads";
    let mut count = each(db, doing, HEAD, changed, |statement, (id, (seq, head, status))| {
        let ended_at = (!status.live()).then_some(now.0);
        statement.execute(params![seq, head, codes::of_status(*status), status.live(), ended_at, id.0])
    })?;
    count += each(db, doing, CHAIN, grown, |statement, (id, (seq, head, _))| {
        statement.execute(params![seq, head, id.0])
    })?;
    codes::all_there("deletions", count, writes.heads.len())
}

/// Append events.
pub(super) fn audit(db: &Db, events: Vec<AuditWrite>) -> Result<(), LedgerError> {
    each(db, "appending to the audit trail", AUDIT, events, |statement, event| {
        statement.execute(params![event.deletion.0, event.seq, event.body, event.hash])
    })?;
    Ok(())
}

/// Pin targets: what is joined is read first, all in order.
fn write_targets(
    db: &Db,
    targets: Vec<(DeletionId, sexton_model::Instance, Value, bool)>,
) -> Result<(), LedgerError> {
    if targets.is_empty() {
        return Ok(());
    }
    let joins: Vec<_> = targets.iter().filter(|t| t.3).map(|t| (t.0, t.1.to_string())).collect();
    let mut pinned = if joins.is_empty() { Default::default() } else { read_targets(db, &joins)? };
    for (id, instance, value, join) in targets {
        let key = (id, instance.to_string());
        let value = match pinned.remove(&key) {
            Some(old) if join => sexton_model::targets::join(old, value),
            Some(_) | None => value,
        };
        pinned.insert(key, value);
    }
    each(db, "pinning targets", TARGET, pinned, |statement, ((id, instance), value)| {
        statement.execute(params![id.0, instance, value.to_string()])
    })?;
    Ok(())
}

/// Pairs as the JSON object that `json_each` takes apart into key and value, without parsing each again.
fn pairs<V: serde::Serialize>(of: impl Iterator<Item = (i64, V)>) -> Result<String, LedgerError> {
    let mut text = String::from("{");
    for (number, value) in of {
        let comma = if text.len() > 1 { "," } else { "" };
        text += &format!("{comma}\"{number}\":{}", rules::text(&value)?);
    }
    text.push('}');
    Ok(text)
}

/// Pinned targets, by deletion and instance.
pub(super) fn read_targets(
    db: &Db,
    wanted: &[(DeletionId, String)],
) -> Result<HashMap<(DeletionId, String), Value>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(pairs(wanted.iter().map(|(id, instance)| (id.0, instance)))?);
    let sql = "SELECT t.deletion_id, t.instance, t.body FROM json_each(?) AS n CROSS JOIN targets AS t \
               ON t.deletion_id = CAST(n.key AS INTEGER) AND t.instance = n.value";
    let doing = "reading targets";
    let mut found = HashMap::new();
    for row in rows(db, doing, sql, bind)? {
        let id: i64 = row.try_get(0).map_err(store(doing))?;
        let instance: String = row.try_get(1).map_err(store(doing))?;
        let text: &str = row.try_get(2).map_err(store(doing))?;
        found.insert((DeletionId(id), instance), codes::body("targets", id, text)?);
    }
    Ok(found)
}

/// Manifests, by the stage's job and the step.
pub(super) fn read_manifests(
    db: &Db,
    wanted: &[(JobId, u16)],
) -> Result<HashMap<(JobId, u16), Value>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(pairs(wanted.iter().map(|(id, step)| (id.0, step)))?);
    let sql = "SELECT m.job_id, m.step, m.body FROM json_each(?) AS n CROSS JOIN manifests AS m \
               ON m.job_id = CAST(n.key AS INTEGER) AND m.step = n.value";
    let doing = "reading manifests";
    let mut found = HashMap::new();
    for row in rows(db, doing, sql, bind)? {
        let id: i64 = row.try_get(0).map_err(store(doing))?;
        let step: u16 = row.try_get(1).map_err(store(doing))?;
        let text: &str = row.try_get(2).map_err(store(doing))?;
        found.insert((JobId(id), step), codes::body("manifests", id, text)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::sqlite::SqliteLedger;
    use crate::sqlite::connection::Row;
    use sexton_model::belts::Policy;

    /// A table of its own for each row would cost more than the row: a list in a CHECK is enough to make one.
    #[tokio::test]
    async fn writing_a_row_makes_no_temporary_table() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let options = Options {
            day: sexton_model::time::Day::Calendar,
            limits: crate::Limits::default(),
            policy: Policy::default(),
        };
        SqliteLedger::open(&file, options).await.unwrap();
        let db = Db::open(&file, "").unwrap();
        let explained = |sql: &str| -> Vec<String> {
            let mut bind = Bind::default();
            for _ in 0..32 {
                bind.add(None::<i64>);
            }
            let sql = Box::leak(format!("EXPLAIN {sql}").into_boxed_str());
            let name = |row: Row| row.try_get(1).unwrap();
            rows(&db, "explaining", sql, bind).unwrap().into_iter().map(name).collect()
        };
        for sql in [jobs::STEP, jobs::UPDATE, jobs::INSERT, HEAD, CHAIN, AUDIT, PRESENCE] {
            let steps = explained(sql);
            assert!(steps.iter().any(|step| step == "Transaction"), "{steps:?}");
            assert!(!steps.iter().any(|step| step == "OpenEphemeral"), "{steps:?}");
        }
    }
}
