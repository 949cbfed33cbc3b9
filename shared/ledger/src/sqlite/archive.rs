//! Records that are over leave the file for the archive, and stubs stay.
use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;
use sexton_model::archive::{Document, EVENTS_MAX, Entry, FORMAT, Link, Manifest, Stub};
use sexton_model::{DeletionId, JobId, ResourceId, Timestamp};

use super::connection::{Bind, Db, Row, change_one, execute, row, rows, store};
use super::counts::Counts;
use super::load::{Bodies, load, moment};
use super::memory::{Memory, Staged};
use super::writer::{Answer, Work};
use super::{SqliteLedger, codes, mixed_up, receipts};
use crate::archive::{Archive, Ended, StubFilter, readable};
use crate::{LedgerError, Page};

/// Longest page.
const PAGE_MAX: u32 = 1000;

/// Records that ended before that moment.
fn ended(db: &Db, before: Timestamp, after: Option<Ended>, limit: u32) -> Result<Vec<Ended>, LedgerError> {
    let doing = "looking for records that ended";
    let after = after.unwrap_or(Ended { at: Timestamp(i64::MIN), deletion: DeletionId(0) });
    let mut bind = Bind::default();
    bind.add(before.0).add(after.at.0).add(after.deletion.0).add(i64::from(limit.clamp(1, PAGE_MAX)));
    let sql = "SELECT ended_at, id FROM deletions WHERE NOT live AND ended_at < ?1 AND (ended_at, id) > (?2, ?3) \
               AND EXISTS (SELECT 1 FROM attested_deletions AS a WHERE a.id = deletions.id AND a.seq = audit_seq) \
               AND (EXISTS (SELECT 1 FROM receipts AS r WHERE r.deletion_id = deletions.id) \
               OR NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = deletions.id * 8 + 3 AND j.state = 7)) \
               ORDER BY ended_at, id LIMIT ?4";
    rows(db, doing, sql, bind)?
        .iter()
        .map(|row| {
            let deletion = DeletionId(row.try_get(1).map_err(store(doing))?);
            Ok(Ended { at: moment(row, 0)?, deletion })
        })
        .collect()
}

/// All of one record. The caller reads in one transaction.
fn whole(db: &Db, id: DeletionId) -> Result<Option<Document>, LedgerError> {
    let doing = "reading a record for the archive";
    let sql = "SELECT d.resource, d.status, d.ended_at, d.audit_seq, d.audit_head, r.body, p.body, l.ledger \
               FROM ledger AS l CROSS JOIN deletions AS d JOIN records AS r ON r.deletion_id = d.id \
               JOIN plans AS p ON p.number = d.plan WHERE d.id = ?";
    let found = rows(db, doing, sql, Bind::of([id.0]))?;
    let Some(head) = found.first() else { return Ok(None) };
    readable(head.try_get(3).map_err(store(doing))?)?;
    let Some((deletion, _)) = load(db, &[id], &mut Bodies::new(1))?.remove(&id) else { return Ok(None) };
    let text = |column| head.try_get::<&str>(column).map_err(store(doing));
    let resource: ResourceId = text(0)?.parse().map_err(|e| codes::corrupt("deletions", id, e))?;
    let ended_at: Option<i64> = head.try_get(2).map_err(store(doing))?;
    Ok(Some(Document {
        format: FORMAT,
        ledger: text(7)?.to_owned(),
        deletion: id,
        resource,
        status: codes::status(head.try_get(1).map_err(store(doing))?)?,
        // One that goes on has none, and is not archived.
        ended_at: Timestamp(ended_at.unwrap_or_default()),
        record: codes::body("records", id, text(5)?)?,
        plan: codes::body("plans", id, text(6)?)?,
        jobs: deletion.jobs,
        holds: bodies(db, id, "SELECT body FROM holds WHERE deletion_id = ? ORDER BY id")?,
        waivers: bodies(db, id, "SELECT body FROM waivers WHERE deletion_id = ? ORDER BY number")?,
        targets: targets(db, id)?,
        manifests: manifests(db, id)?,
        events: events(db, id)?,
        head: codes::hash("deletions", id, head.try_get(4).map_err(store(doing))?)?,
        receipt: receipts::read(db, id)?,
    }))
}

fn bodies(db: &Db, id: DeletionId, sql: &'static str) -> Result<Vec<Value>, LedgerError> {
    let doing = "reading holds and waivers for the archive";
    let parse = |row: &Row| codes::body("holds and waivers", id, row.try_get(0).map_err(store(doing))?);
    rows(db, doing, sql, Bind::of([id.0]))?.iter().map(parse).collect()
}

fn targets(db: &Db, id: DeletionId) -> Result<BTreeMap<sexton_model::Instance, Value>, LedgerError> {
    let doing = "reading targets for the archive";
    let found =
        rows(db, doing, "SELECT instance, body FROM targets WHERE deletion_id = ?", Bind::of([id.0]))?;
    found
        .iter()
        .map(|row| {
            let name: &str = row.try_get(0).map_err(store(doing))?;
            let instance = name.parse().map_err(|e| codes::corrupt("targets", name, e))?;
            Ok((instance, codes::body("targets", id, row.try_get(1).map_err(store(doing))?)?))
        })
        .collect()
}

fn manifests(db: &Db, id: DeletionId) -> Result<Vec<Manifest>, LedgerError> {
    let doing = "reading manifests for the archive";
    let sql = "SELECT job_id, step, body FROM manifests WHERE job_id >= ?1 * 8 AND job_id < ?1 * 8 + 8 \
               ORDER BY job_id, step";
    rows(db, doing, sql, Bind::of([id.0]))?
        .iter()
        .map(|row| {
            Ok(Manifest {
                job: JobId(row.try_get(0).map_err(store(doing))?),
                step: row.try_get(1).map_err(store(doing))?,
                value: codes::body("manifests", id, row.try_get(2).map_err(store(doing))?)?,
            })
        })
        .collect()
}

fn events(db: &Db, id: DeletionId) -> Result<Vec<Link>, LedgerError> {
    let doing = "reading an audit trail for the archive";
    let mut bind = Bind::of([id.0]);
    // One more than may be, so that a chain that is longer than its head says is noticed.
    bind.add(EVENTS_MAX + 1);
    let sql = "SELECT seq, body, hash FROM audit WHERE deletion_id = ? ORDER BY seq LIMIT ?";
    rows(db, doing, sql, bind)?
        .iter()
        .map(|row| {
            Ok(Link {
                seq: row.try_get(0).map_err(store(doing))?,
                body: row.try_get(1).map_err(store(doing))?,
                hash: codes::hash("audit", id, row.try_get(2).map_err(store(doing))?)?,
            })
        })
        .collect()
}

/// Exchange a record's rows for its stub; `false` if that was done before. What is remembered follows.
pub(super) fn archive(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    stub: &Stub,
) -> Result<bool, LedgerError> {
    let (doing, id) = ("archiving a record", stub.entry.deletion);
    let sql = "SELECT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = ?)";
    if row(db, doing, sql, Bind::of([id.0]))?.try_get(0).map_err(store(doing))? {
        return Ok(false);
    }
    let gone = load(db, &[id], &mut Bodies::new(1))?;
    insert(db, stub)?;
    let mut bind = Bind::default();
    bind.add(id.0).add(stub.entry.events).add(stub.entry.head.to_vec());
    // With all that belongs to it: see the trigger `deletions_go_whole`.
    let sql = "DELETE FROM deletions WHERE id = ? AND NOT live AND audit_seq = ? AND audit_head = ?";
    change_one(db, (doing, "deletions"), sql, bind)?;
    let before = Counts::of(gone.values().map(|(deletion, _)| deletion));
    staged.grown.grow((before, Counts::default()));
    staged.deletions.remove(&id);
    memory.deletions.take(&id);
    Ok(true)
}

fn insert(db: &Db, stub: &Stub) -> Result<(), LedgerError> {
    let entry = &stub.entry;
    let mut bind = Bind::default();
    bind.add(entry.deletion.0)
        .add(entry.resource.to_string())
        .add(codes::of_status(entry.status))
        .add(entry.ended_at.0)
        .add(entry.events)
        .add(entry.head.to_vec())
        .add(entry.archived_at.0)
        .add(entry.file.clone())
        .add(entry.sha256.to_vec())
        .add(stub.key_id.clone())
        .add(stub.signature.clone());
    let sql = "INSERT INTO stubs (deletion_id, resource, status, ended_at, events, head, archived_at, file, sha256, \
               key_id, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    execute(db, "writing a stub", sql, bind).map(drop)
}

/// What stays of an archived record.
pub(super) fn stub(db: &Db, id: DeletionId) -> Result<Option<Stub>, LedgerError> {
    Ok(select(db, (id.0, id.0), &StubFilter::default(), 1)?.pop())
}

/// Stubs, newest record first.
pub(super) fn stubs(db: &Db, filter: &StubFilter) -> Result<Page<Stub>, LedgerError> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let last = match filter.after.as_deref().map(str::parse::<DeletionId>) {
        None => i64::MAX,
        Some(Ok(id)) => id.0.saturating_sub(1),
        // Behind what is no id there is nothing.
        Some(Err(_)) => 0,
    };
    let mut items = select(db, (1, last), filter, i64::from(limit) + 1)?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|stub| stub.entry.deletion.to_string());
    Ok(Page { items, next })
}

fn select(
    db: &Db,
    (first, last): (i64, i64),
    filter: &StubFilter,
    limit: i64,
) -> Result<Vec<Stub>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(first)
        .add(last)
        .add(filter.status.map(codes::of_status))
        .add(filter.kind.as_ref().map(|kind| format!("{kind}/")))
        .add(limit);
    let sql = "SELECT s.deletion_id, s.resource, s.status, s.ended_at, s.events, s.head, s.archived_at, s.file, \
               s.sha256, s.key_id, s.signature, l.ledger FROM ledger AS l CROSS JOIN stubs AS s \
               WHERE s.deletion_id BETWEEN ?1 AND ?2 AND (?3 IS NULL OR s.status = ?3) \
               AND (?4 IS NULL OR substr(s.resource, 1, length(?4)) = ?4) ORDER BY s.deletion_id DESC LIMIT ?5";
    rows(db, "reading stubs", sql, bind)?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Stub, LedgerError> {
    let doing = "reading a stub";
    let text = |column| row.try_get::<String>(column).map_err(store(doing));
    let id: i64 = row.try_get(0).map_err(store(doing))?;
    let hash = |column| codes::hash("stubs", id, row.try_get(column).map_err(store(doing))?);
    let entry = Entry {
        ledger: text(11)?,
        deletion: DeletionId(id),
        resource: text(1)?.parse().map_err(|e| codes::corrupt("stubs", id, e))?,
        status: codes::status(row.try_get(2).map_err(store(doing))?)?,
        ended_at: moment(row, 3)?,
        events: row.try_get(4).map_err(store(doing))?,
        head: hash(5)?,
        archived_at: moment(row, 6)?,
        file: text(7)?,
        sha256: hash(8)?,
    };
    Ok(Stub { entry, key_id: text(9)?, signature: text(10)? })
}

/// One process writes the file, so its writer archives, too; the triggers hold what a role holds elsewhere.
#[async_trait]
impl Archive for SqliteLedger {
    async fn ended(
        &self,
        before: Timestamp,
        after: Option<Ended>,
        limit: u32,
    ) -> Result<Vec<Ended>, LedgerError> {
        self.reads.read(move |db| ended(db, before, after, limit)).await
    }

    async fn whole(&self, id: DeletionId) -> Result<Option<Document>, LedgerError> {
        self.reads.read(move |db| whole(db, id)).await
    }

    async fn archive(&self, stub: &Stub) -> Result<bool, LedgerError> {
        match self.ask(Work::Archive(Box::new(stub.clone()))).await? {
            Answer::Archive(archived) => Ok(archived),
            other => Err(mixed_up(&other)),
        }
    }
}
