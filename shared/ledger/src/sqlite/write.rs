//! Writing what a batch decided.
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;
use sexton_model::{DeletionId, JobId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::chunk::{Bind, Chunked, execute, rows, store};
use super::decided::Found;
use super::{codes, jobs};
use crate::batch::{AuditWrite, Writes};
use crate::row::JobRow;
use crate::{LedgerError, rules};

static HEADS: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::padded(
        "WITH v (id, status, live, seq, head) AS (VALUES",
        5,
        ") UPDATE deletions SET audit_seq = v.seq, audit_head = v.head, status = v.status, live = v.live \
         FROM v WHERE deletions.id = v.id",
    )
});

/// Between two steps only the chain grows: the partial index on `live` is not touched.
static CHAINS: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::padded(
        "WITH v (id, seq, head) AS (VALUES",
        3,
        ") UPDATE deletions SET audit_seq = v.seq, audit_head = v.head FROM v WHERE deletions.id = v.id",
    )
});

static AUDIT: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::padded(
        "INSERT INTO audit (deletion_id, seq, body, hash) SELECT * FROM (VALUES",
        4,
        ") WHERE column1 IS NOT NULL",
    )
});

static MANIFESTS: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO manifests (job_id, step, body) VALUES",
        3,
        "ON CONFLICT (job_id, step) DO NOTHING",
    )
});

static PRESENCE: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "WITH v (id, presence) AS (VALUES",
        2,
        ") UPDATE resources SET presence = v.presence FROM v WHERE resources.id = v.id",
    )
});

static TARGETS: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO targets (deletion_id, instance, body) VALUES",
        3,
        "ON CONFLICT (deletion_id, instance) DO UPDATE SET body = excluded.body",
    )
});

/// Write everything. `begun`: the restores that are new, with their resources; `statuses`: records whose status
/// this batch changed.
pub(super) async fn write(
    db: &mut SqliteConnection,
    writes: Writes,
    found: &Found,
    begun: &HashMap<JobId, String>,
    statuses: &HashSet<DeletionId>,
) -> Result<(), LedgerError> {
    write_jobs(db, &writes, found, begun).await?;
    write_heads(db, &writes, statuses).await?;
    audit(db, writes.audit).await?;
    MANIFESTS
        .execute(db, "writing manifests", writes.manifests.into_iter(), |(id, slot, step, value), bind| {
            bind.add(JobId::of(id, slot).0).add(i64::from(step)).add(value.to_string());
        })
        .await?;
    write_targets(db, writes.targets).await?;
    for (id, hold) in &writes.holds {
        let mut bind = Bind::default();
        bind.add(id.0).add(hold.id).add(rules::text(hold)?);
        execute(db, "placing a hold", "INSERT INTO holds (deletion_id, id, body) VALUES (?, ?, ?)", bind)
            .await?;
    }
    for (id, hold) in &writes.released {
        let mut bind = Bind::default();
        bind.add(id.0).add(*hold);
        execute(db, "releasing a hold", "DELETE FROM holds WHERE deletion_id = ? AND id = ?", bind).await?;
    }
    for (id, waiver) in &writes.waivers {
        let mut bind = Bind::default();
        bind.add(id.0).add(rules::text(waiver)?).add(id.0);
        let sql = "INSERT INTO waivers (deletion_id, body, number) \
                   SELECT ?, ?, coalesce(max(number), 0) + 1 FROM waivers WHERE deletion_id = ?";
        execute(db, "writing a waiver", sql, bind).await?;
    }
    PRESENCE
        .execute(
            db,
            "writing the inventory",
            last_of(&writes.resources).into_iter(),
            |(id, presence), bind| {
                bind.add(id.to_string()).add(codes::of_presence(*presence));
            },
        )
        .await?;
    Ok(())
}

/// The last value of each key: an update from a list with a key twice would take any of them.
fn last_of<K: Ord, V>(pairs: &[(K, V)]) -> Vec<(&K, &V)> {
    let last: std::collections::BTreeMap<&K, &V> = pairs.iter().map(|(k, v)| (k, v)).collect();
    last.into_iter().collect()
}

async fn write_jobs(
    db: &mut SqliteConnection,
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
    jobs::step(db, &steps).await?;
    jobs::update(db, &others).await?;
    jobs::insert(db, new).await
}

async fn write_heads(
    db: &mut SqliteConnection,
    writes: &Writes,
    statuses: &HashSet<DeletionId>,
) -> Result<(), LedgerError> {
    let (changed, grown): (Vec<_>, Vec<_>) = writes.heads.iter().partition(|(id, _)| statuses.contains(id));
    let mut count = HEADS
        .execute(db, "writing records' heads", changed.into_iter(), |(id, (seq, head, status)), bind| {
            bind.add(id.0).add(codes::of_status(*status)).add(status.live()).add(*seq).add(head.to_vec());
        })
        .await?;
    count += CHAINS
        .execute(db, "writing records' heads", grown.into_iter(), |(id, (seq, head, _)), bind| {
            bind.add(id.0).add(*seq).add(head.to_vec());
        })
        .await?;
    if count != writes.heads.len() as u64 {
        let reason = format!("{} were to be written, {count} are there", writes.heads.len());
        return Err(codes::corrupt("deletions", "heads", reason));
    }
    Ok(())
}

/// Append events.
pub(super) async fn audit(db: &mut SqliteConnection, events: Vec<AuditWrite>) -> Result<(), LedgerError> {
    AUDIT
        .execute(db, "appending to the audit trail", events.into_iter(), |event, bind| {
            bind.add(event.deletion.0).add(event.seq).add(event.body).add(event.hash.to_vec());
        })
        .await?;
    Ok(())
}

/// Pin targets: what is joined is read first, all in order.
async fn write_targets(
    db: &mut SqliteConnection,
    targets: Vec<(DeletionId, sexton_model::Instance, Value, bool)>,
) -> Result<(), LedgerError> {
    if targets.is_empty() {
        return Ok(());
    }
    let joins: Vec<_> = targets.iter().filter(|t| t.3).map(|t| (t.0, t.1.to_string())).collect();
    let mut pinned = if joins.is_empty() { Default::default() } else { read_targets(db, &joins).await? };
    for (id, instance, value, join) in targets {
        let key = (id, instance.to_string());
        let value = match pinned.remove(&key) {
            Some(old) if join => sexton_model::targets::join(old, value),
            Some(_) | None => value,
        };
        pinned.insert(key, value);
    }
    TARGETS
        .execute(db, "pinning targets", pinned.into_iter(), |((id, instance), value), bind| {
            bind.add(id.0).add(instance).add(value.to_string());
        })
        .await?;
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
pub(super) async fn read_targets(
    db: &mut SqliteConnection,
    wanted: &[(DeletionId, String)],
) -> Result<HashMap<(DeletionId, String), Value>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(pairs(wanted.iter().map(|(id, instance)| (id.0, instance)))?);
    let sql = "SELECT t.deletion_id, t.instance, t.body FROM json_each(?) AS n CROSS JOIN targets AS t \
               ON t.deletion_id = CAST(n.key AS INTEGER) AND t.instance = n.value";
    let doing = "reading targets";
    let mut found = HashMap::new();
    for row in rows(db, doing, sql, bind).await? {
        let id: i64 = row.try_get(0).map_err(store(doing))?;
        let instance: String = row.try_get(1).map_err(store(doing))?;
        let text: &str = row.try_get(2).map_err(store(doing))?;
        found.insert((DeletionId(id), instance), codes::body("targets", id, text)?);
    }
    Ok(found)
}

/// Manifests, by the stage's job and the step.
pub(super) async fn read_manifests(
    db: &mut SqliteConnection,
    wanted: &[(JobId, u16)],
) -> Result<HashMap<(JobId, u16), Value>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(pairs(wanted.iter().map(|(id, step)| (id.0, step)))?);
    let sql = "SELECT m.job_id, m.step, m.body FROM json_each(?) AS n CROSS JOIN manifests AS m \
               ON m.job_id = CAST(n.key AS INTEGER) AND m.step = n.value";
    let doing = "reading manifests";
    let mut found = HashMap::new();
    for row in rows(db, doing, sql, bind).await? {
        let id: i64 = row.try_get(0).map_err(store(doing))?;
        let step: u16 = row.try_get(1).map_err(store(doing))?;
        let text: &str = row.try_get(2).map_err(store(doing))?;
        found.insert((JobId(id), step), codes::body("manifests", id, text)?);
    }
    Ok(found)
}
