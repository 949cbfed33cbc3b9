//! Records that are over leave the database for the archive, and stubs stay.
//!
//! [`PgArchive`] connects as a member of the role `sexton_archiver`, which may read, insert stubs, and remove what has
//! one. It takes no locks of its own: the DELETE takes the deletion's row, and removes it only as the stub says it is.
use async_trait::async_trait;
use serde_json::Value;
use sexton_model::archive::{Document, EVENTS_MAX, Entry, FORMAT, Link, Manifest, Stub};
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{PgPool, Row as _};

use super::error::{all_there, corrupt, doing};
use super::resources::page;
use super::{SNAPSHOT, codes, jobs, open, receipts, views};
use crate::archive::{Archive, Ended, StubFilter, readable};
use crate::{LedgerError, Page};

const ENDED: &str = "SELECT ended_at, id FROM deletions WHERE NOT live AND ended_at < $1 AND (ended_at, id) > ($2, $3) \
     AND EXISTS (SELECT 1 FROM attested a WHERE a.chain = 'd-' || id AND a.seq = audit_seq) \
     AND (EXISTS (SELECT 1 FROM receipts r WHERE r.deletion_id = id) \
     OR NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = deletions.id * 8 + 3 AND j.state = 7)) \
     ORDER BY ended_at, id LIMIT $4";
const RECORD: &str = "SELECT d.resource, d.status, d.ended_at, d.audit_seq, d.audit_head, r.body, p.body, l.ledger \
     FROM ledger l, deletions d JOIN records r ON r.deletion_id = d.id JOIN plans p ON p.digest = d.plan \
     WHERE d.id = $1";
const HOLDS: &str = "SELECT body FROM holds WHERE deletion_id = $1 ORDER BY id";
const WAIVERS: &str = "SELECT body FROM waivers WHERE deletion_id = $1 ORDER BY number";
const MANIFESTS: &str = "SELECT job_id, step, body FROM manifests WHERE job_id BETWEEN $1 * 8 AND $1 * 8 + 7 \
     ORDER BY job_id, step";
const EVENTS: &str = "SELECT seq, body, hash FROM audit WHERE deletion_id = $1 ORDER BY seq LIMIT $2";
const THERE: &str = "SELECT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = $1)";
const STUB: &str = "INSERT INTO stubs (deletion_id, resource, status, ended_at, events, head, archived_at, file, sha256, \
     key_id, signature) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
/// With all that belongs to it: see the trigger `b_go_whole`.
const REMOVE: &str =
    "DELETE FROM deletions WHERE id = $1 AND NOT live AND audit_seq = $2 AND audit_head = $3";
const STUBS: &str = "SELECT s.deletion_id, s.resource, s.status, s.ended_at, s.events, s.head, s.archived_at, s.file, \
     s.sha256, s.key_id, s.signature, l.ledger FROM ledger l, stubs s WHERE s.deletion_id BETWEEN $1 AND $2 \
     AND ($3::smallint IS NULL OR s.status = $3) \
     AND ($4::text IS NULL OR left(s.resource, length($4)) = $4) ORDER BY s.deletion_id DESC LIMIT $5";

/// One reads while another may look.
const CONNECTIONS: u32 = 2;

/// The archive's side of a database: see the module.
pub struct PgArchive {
    pool: PgPool,
}

impl PgArchive {
    /// Connect and check that the ledger may be used. The rights of the role `sexton_archiver` are enough.
    ///
    /// # Errors
    /// As [`super::PgLedger::open`].
    pub async fn open(url: &str, day: Day) -> Result<Self, LedgerError> {
        let (pool, _) = open::open(url, day, CONNECTIONS).await?;
        Ok(Self { pool })
    }
}

#[async_trait]
impl Archive for PgArchive {
    async fn ended(
        &self,
        before: Timestamp,
        after: Option<Ended>,
        limit: u32,
    ) -> Result<Vec<Ended>, LedgerError> {
        let part = || doing("looking for records that ended");
        let after = after.unwrap_or(Ended { at: Timestamp(i64::MIN), deletion: DeletionId(0) });
        let rows = sqlx::query(ENDED)
            .bind(before.0)
            .bind(after.at.0)
            .bind(after.deletion.0)
            .bind(i64::from(limit.clamp(1, 1000)))
            .fetch_all(&self.pool)
            .await
            .map_err(part())?;
        rows.iter()
            .map(|row| {
                let at = Timestamp(row.try_get(0).map_err(part())?);
                Ok(Ended { at, deletion: DeletionId(row.try_get(1).map_err(part())?) })
            })
            .collect()
    }

    async fn whole(&self, id: DeletionId) -> Result<Option<Document>, LedgerError> {
        let part = || doing("reading a record for the archive");
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(part())?;
        let Some(head) = sqlx::query(RECORD).bind(id.0).fetch_optional(&mut *tx).await.map_err(part())?
        else {
            return Ok(None);
        };
        let document = document(&mut tx, id, &head).await?;
        tx.commit().await.map_err(part())?;
        Ok(Some(document))
    }

    async fn archive(&self, stub: &Stub) -> Result<bool, LedgerError> {
        let done = exchange(&self.pool, stub).await;
        match done {
            // Another archiver may have been quicker: then its stub is there, and the record is gone.
            Err(error) => {
                let mut db = self.pool.acquire().await.map_err(doing("archiving a record"))?;
                if there(&mut db, stub.entry.deletion).await? { Ok(false) } else { Err(error) }
            }
            done => done,
        }
    }
}

async fn exchange(pool: &PgPool, stub: &Stub) -> Result<bool, LedgerError> {
    let part = || doing("archiving a record");
    let entry = &stub.entry;
    let mut tx = pool.begin().await.map_err(part())?;
    if there(&mut tx, entry.deletion).await? {
        return Ok(false);
    }
    sqlx::query(STUB)
        .bind(entry.deletion.0)
        .bind(entry.resource.to_string())
        .bind(codes::of_status(entry.status))
        .bind(entry.ended_at.0)
        .bind(entry.events)
        .bind(entry.head)
        .bind(entry.archived_at.0)
        .bind(&entry.file)
        .bind(entry.sha256)
        .bind(&stub.key_id)
        .bind(&stub.signature)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    let removed = sqlx::query(REMOVE)
        .bind(entry.deletion.0)
        .bind(entry.events)
        .bind(entry.head)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    all_there("deletions", removed.rows_affected(), 1)?;
    tx.commit().await.map_err(part())?;
    Ok(true)
}

async fn there(db: &mut PgConnection, id: DeletionId) -> Result<bool, LedgerError> {
    sqlx::query_scalar(THERE).bind(id.0).fetch_one(db).await.map_err(doing("looking for a stub"))
}

async fn document(db: &mut PgConnection, id: DeletionId, head: &PgRow) -> Result<Document, LedgerError> {
    let part = || doing("reading a record for the archive");
    readable(head.try_get(3).map_err(part())?)?;
    let text = |column: usize| head.try_get::<&str, _>(column).map_err(part());
    let body = |table, text: &str| -> Result<Value, LedgerError> {
        serde_json::from_str(text).map_err(|e| corrupt(table, id, e.to_string()))
    };
    let jobs = jobs::read(db, &[id.0]).await?;
    let ended_at: Option<i64> = head.try_get(2).map_err(part())?;
    Ok(Document {
        format: FORMAT,
        ledger: text(7)?.to_owned(),
        deletion: id,
        resource: text(0)?.parse().map_err(|_| corrupt("deletions", id, "not a resource"))?,
        status: codes::status(head.try_get(1).map_err(part())?)
            .ok_or_else(|| corrupt("deletions", id, "unknown status"))?,
        // One that goes on has none, and is not archived.
        ended_at: Timestamp(ended_at.unwrap_or_default()),
        record: body("records", text(5)?)?,
        plan: body("plans", text(6)?)?,
        jobs: jobs.iter().map(crate::row::JobRow::job).collect::<Result<_, _>>()?,
        holds: bodies(db, id, ("holds", HOLDS)).await?,
        waivers: bodies(db, id, ("waivers", WAIVERS)).await?,
        targets: views::targets(db, id).await?,
        manifests: manifests(db, id).await?,
        events: events(db, id).await?,
        head: head.try_get(4).map_err(part())?,
        receipt: receipts::read(db, id).await?,
    })
}

async fn bodies(
    db: &mut PgConnection,
    id: DeletionId,
    (table, sql): (&'static str, &'static str),
) -> Result<Vec<Value>, LedgerError> {
    let part = || doing("reading holds and waivers for the archive");
    let bodies: Vec<String> = sqlx::query_scalar(sql).bind(id.0).fetch_all(db).await.map_err(part())?;
    let parse = |body: &String| serde_json::from_str(body);
    bodies.iter().map(parse).collect::<Result<_, _>>().map_err(|e| corrupt(table, id, e.to_string()))
}

async fn manifests(db: &mut PgConnection, id: DeletionId) -> Result<Vec<Manifest>, LedgerError> {
    let part = || doing("reading manifests for the archive");
    let rows = sqlx::query(MANIFESTS).bind(id.0).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let step: i16 = row.try_get(1).map_err(part())?;
            Ok(Manifest {
                job: JobId(row.try_get(0).map_err(part())?),
                step: u16::try_from(step).map_err(|_| corrupt("manifests", id, "step below zero"))?,
                value: serde_json::from_str(row.try_get(2).map_err(part())?)
                    .map_err(|e| corrupt("manifests", id, e.to_string()))?,
            })
        })
        .collect()
}

async fn events(db: &mut PgConnection, id: DeletionId) -> Result<Vec<Link>, LedgerError> {
    let part = || doing("reading an audit trail for the archive");
    // One more than may be, so that a chain that is longer than its head says is noticed.
    let rows = sqlx::query(EVENTS).bind(id.0).bind(EVENTS_MAX + 1).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            Ok(Link {
                seq: row.try_get(0).map_err(part())?,
                body: row.try_get(1).map_err(part())?,
                hash: row.try_get(2).map_err(part())?,
            })
        })
        .collect()
}

/// What stays of an archived record.
pub(super) async fn stub(db: &mut PgConnection, id: DeletionId) -> Result<Option<Stub>, LedgerError> {
    Ok(select(db, (id.0, id.0), &StubFilter::default(), 1).await?.pop())
}

/// Stubs, newest record first.
pub(super) async fn stubs(db: &mut PgConnection, filter: &StubFilter) -> Result<Page<Stub>, LedgerError> {
    let limit = filter.limit.clamp(1, 1000);
    // An `after` that is no deletion's id is behind all of them.
    let last = match filter.after.as_deref() {
        None => i64::MAX,
        Some(text) => text.parse::<DeletionId>().map_or(0, |id| id.0.saturating_sub(1)),
    };
    let items = select(db, (1, last), filter, i64::from(limit) + 1).await?;
    Ok(page(items, limit, |stub| stub.entry.deletion.to_string()))
}

async fn select(
    db: &mut PgConnection,
    (first, last): (i64, i64),
    filter: &StubFilter,
    limit: i64,
) -> Result<Vec<Stub>, LedgerError> {
    let rows = sqlx::query(STUBS)
        .bind(first)
        .bind(last)
        .bind(filter.status.map(codes::of_status))
        .bind(filter.kind.as_ref().map(|kind| format!("{kind}/")))
        .bind(limit)
        .fetch_all(db)
        .await
        .map_err(doing("reading stubs"))?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Stub, LedgerError> {
    let part = || doing("reading a stub");
    let id: i64 = row.try_get(0).map_err(part())?;
    let resource: &str = row.try_get(1).map_err(part())?;
    let entry = Entry {
        ledger: row.try_get(11).map_err(part())?,
        deletion: DeletionId(id),
        resource: resource.parse().map_err(|_| corrupt("stubs", id, "not a resource"))?,
        status: codes::status(row.try_get(2).map_err(part())?)
            .ok_or_else(|| corrupt("stubs", id, "unknown status"))?,
        ended_at: Timestamp(row.try_get(3).map_err(part())?),
        events: row.try_get(4).map_err(part())?,
        head: row.try_get(5).map_err(part())?,
        archived_at: Timestamp(row.try_get(6).map_err(part())?),
        file: row.try_get(7).map_err(part())?,
        sha256: row.try_get(8).map_err(part())?,
    };
    Ok(Stub { entry, key_id: row.try_get(9).map_err(part())?, signature: row.try_get(10).map_err(part())? })
}
