//! Writing what a batch decided: one statement per table.
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sexton_model::job::StateName;
use sexton_model::{DeletionId, JobId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{all_there, corrupt, doing};
use super::{codes, jobs};
use crate::LedgerError;
use crate::batch::{AuditWrite, Loaded, Writes};
use crate::rules::text;

const HEADS: &str = "UPDATE deletions SET audit_seq = v.seq, audit_head = v.head, status = v.status, live = v.live, \
     ended_at = CASE WHEN v.live THEN NULL ELSE coalesce(ended_at, $6) END \
     FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::smallint[], $5::boolean[]) \
     AS v (id, seq, head, status, live) WHERE deletions.id = v.id AND deletions.audit_seq < v.seq";
const AUDIT: &str = "INSERT INTO audit (deletion_id, seq, body, hash) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])";
const HOLD: &str = "INSERT INTO holds (deletion_id, id, body) SELECT * FROM unnest($1::bigint[], $2::bigint[], \
     $3::text[])";
const RELEASE: &str = "DELETE FROM holds USING unnest($1::bigint[], $2::bigint[]) AS v (deletion_id, id) \
     WHERE holds.deletion_id = v.deletion_id AND holds.id = v.id";
/// The number grows in the order of the array.
const WAIVE: &str = "INSERT INTO waivers (deletion_id, body) SELECT v.deletion_id, v.body \
     FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS v (deletion_id, body, place) ORDER BY v.place";
const TARGETS_THERE: &str = "SELECT t.deletion_id, t.instance, t.body FROM targets t \
     JOIN unnest($1::bigint[], $2::text[]) AS v (deletion_id, instance) \
     ON t.deletion_id = v.deletion_id AND t.instance = v.instance";
const PIN: &str = "INSERT INTO targets (deletion_id, instance, body) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) \
     ON CONFLICT (deletion_id, instance) DO UPDATE SET body = excluded.body";
const MANIFEST: &str = "INSERT INTO manifests (job_id, step, body) \
     SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::text[]) ON CONFLICT (job_id, step) DO NOTHING";
const PRESENCE: &str = "UPDATE resources SET presence = v.presence \
     FROM unnest($1::text[], $2::smallint[]) AS v (id, presence) WHERE resources.id = v.id";

/// Write everything. `there`: the jobs that exist already, as they were before.
pub(super) async fn write(
    db: &mut PgConnection,
    writes: Writes,
    loaded: &Loaded,
    there: &HashMap<JobId, StateName>,
) -> Result<(), LedgerError> {
    if writes.heads.is_empty() {
        return Ok(());
    }
    presence(db, &writes).await?;
    heads(db, &writes, loaded.now).await?;
    let running = |state: Option<&StateName>| state == Some(&StateName::Running);
    let (known, new): (Vec<_>, Vec<_>) = writes.jobs.values().partition(|row| there.contains_key(&row.id));
    let (steps, others): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|row| running(there.get(&row.id)) && row.state == crate::row::code(StateName::Running));
    jobs::step(db, &steps).await?;
    jobs::update(db, &others).await?;
    if !new.is_empty() {
        let resource =
            |id: DeletionId| loaded.deletions.get(&id).map(|(d, _)| d.record.resource.id.to_string());
        let resources = new.iter().map(|row| resource(row.deletion()).unwrap_or_default()).collect();
        jobs::insert(db, &new, resources).await?;
    }
    holds(db, &writes).await?;
    targets(db, writes.targets).await?;
    manifests(db, &writes.manifests).await?;
    audit(db, writes.audit).await
}

async fn heads(db: &mut PgConnection, writes: &Writes, now: Timestamp) -> Result<(), LedgerError> {
    let mut columns = (vec![], vec![], vec![], vec![], vec![]);
    for (id, (seq, head, status)) in &writes.heads {
        columns.0.push(id.0);
        columns.1.push(*seq);
        columns.2.push(*head);
        columns.3.push(codes::of_status(*status));
        columns.4.push(status.live());
    }
    let done = sqlx::query(HEADS)
        .bind(columns.0)
        .bind(columns.1)
        .bind(columns.2)
        .bind(columns.3)
        .bind(columns.4)
        .bind(now.0)
        .execute(db)
        .await
        .map_err(doing("writing deletions"))?;
    all_there("deletions", done.rows_affected(), writes.heads.len())
}

/// Append events to chains.
pub(super) async fn audit(db: &mut PgConnection, events: Vec<AuditWrite>) -> Result<(), LedgerError> {
    let mut columns = (vec![], vec![], vec![], vec![]);
    for event in events {
        columns.0.push(event.deletion.0);
        columns.1.push(event.seq);
        columns.2.push(event.body);
        columns.3.push(event.hash);
    }
    sqlx::query(AUDIT)
        .bind(columns.0)
        .bind(columns.1)
        .bind(columns.2)
        .bind(columns.3)
        .execute(db)
        .await
        .map_err(doing("writing the audit trail"))?;
    Ok(())
}

async fn holds(db: &mut PgConnection, writes: &Writes) -> Result<(), LedgerError> {
    if !writes.holds.is_empty() {
        let mut columns = (vec![], vec![], vec![]);
        for (id, hold) in &writes.holds {
            columns.0.push(id.0);
            columns.1.push(hold.id);
            columns.2.push(text(hold)?);
        }
        sqlx::query(HOLD)
            .bind(columns.0)
            .bind(columns.1)
            .bind(columns.2)
            .execute(&mut *db)
            .await
            .map_err(doing("placing holds"))?;
    }
    if !writes.released.is_empty() {
        let (ids, holds): (Vec<i64>, Vec<i64>) =
            writes.released.iter().map(|(id, hold)| (id.0, *hold)).unzip();
        let done = sqlx::query(RELEASE)
            .bind(ids)
            .bind(holds)
            .execute(&mut *db)
            .await
            .map_err(doing("releasing holds"))?;
        all_there("holds", done.rows_affected(), writes.released.len())?;
    }
    if !writes.waivers.is_empty() {
        let mut columns = (vec![], vec![]);
        for (id, waiver) in &writes.waivers {
            columns.0.push(id.0);
            columns.1.push(text(waiver)?);
        }
        sqlx::query(WAIVE)
            .bind(columns.0)
            .bind(columns.1)
            .execute(db)
            .await
            .map_err(doing("writing waivers"))?;
    }
    Ok(())
}

async fn targets(
    db: &mut PgConnection,
    changes: Vec<(DeletionId, sexton_model::Instance, Value, bool)>,
) -> Result<(), LedgerError> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys = changes.iter().filter(|(_, _, _, join)| *join).map(|(id, at, _, _)| (id.0, at.to_string()));
    let mut pinned = targets_of(db, keys.unzip()).await?;
    let mut written = BTreeMap::new();
    for (id, instance, value, join) in changes {
        let key = (id.0, instance.to_string());
        let value = match written.remove(&key).or_else(|| pinned.remove(&key)) {
            Some(old) if join => sexton_model::targets::join(old, value),
            Some(_) | None => value,
        };
        written.insert(key, value);
    }
    let mut columns = (vec![], vec![], vec![]);
    for ((id, instance), value) in written {
        columns.0.push(id);
        columns.1.push(instance);
        columns.2.push(text(&value)?);
    }
    sqlx::query(PIN)
        .bind(columns.0)
        .bind(columns.1)
        .bind(columns.2)
        .execute(db)
        .await
        .map_err(doing("pinning targets"))?;
    Ok(())
}

/// What is pinned at these instances of these deletions.
pub(super) async fn targets_of(
    db: &mut PgConnection,
    (ids, instances): (Vec<i64>, Vec<String>),
) -> Result<BTreeMap<(i64, String), Value>, LedgerError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let part = || doing("reading targets");
    let rows = sqlx::query(TARGETS_THERE).bind(ids).bind(instances).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let key: (i64, String) = (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?);
            let value = serde_json::from_str(row.try_get(2).map_err(part())?)
                .map_err(|e| corrupt("targets", key.0, e.to_string()))?;
            Ok((key, value))
        })
        .collect()
}

async fn manifests(
    db: &mut PgConnection,
    manifests: &[(DeletionId, u8, u16, Value)],
) -> Result<(), LedgerError> {
    if manifests.is_empty() {
        return Ok(());
    }
    let mut columns = (vec![], vec![], vec![]);
    for (id, slot, step, value) in manifests {
        columns.0.push(JobId::of(*id, *slot).0);
        columns.1.push(i16::try_from(*step).unwrap_or(i16::MAX));
        columns.2.push(text(value)?);
    }
    sqlx::query(MANIFEST)
        .bind(columns.0)
        .bind(columns.1)
        .bind(columns.2)
        .execute(db)
        .await
        .map_err(doing("writing manifests"))?;
    Ok(())
}

async fn presence(db: &mut PgConnection, writes: &Writes) -> Result<(), LedgerError> {
    if writes.resources.is_empty() {
        return Ok(());
    }
    // The last word counts if one batch says it twice.
    let last: BTreeMap<_, _> = writes.resources.iter().cloned().collect();
    let (ids, codes): (Vec<_>, Vec<_>) =
        last.iter().map(|(id, presence)| (id.to_string(), codes::of_presence(*presence))).unzip();
    let done = sqlx::query(PRESENCE)
        .bind(ids)
        .bind(codes)
        .execute(db)
        .await
        .map_err(doing("writing the inventory"))?;
    all_there("resources", done.rows_affected(), last.len())
}
