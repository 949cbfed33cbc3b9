//! Redundancy groups: a lock on each, and their members.
use std::collections::HashMap;

use sexton_model::audit;
use sexton_model::belts::redundancy::{Going, Groups};
use sexton_model::{Actor, DeletionId, ResourceId};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{corrupt, doing};
use super::load::Head;
use super::memory::{Headed, Memory};
use super::{PgLedger, SNAPSHOT, codes, load};
use crate::LedgerError;
use crate::groups::{LiveRow, MemberRow, groups};
use crate::rules::Requesters;

/// Groups' locks among the advisory ones that have two keys: the gate has one.
const CLASS: i32 = 0x5347;
const NAMES: &str = "SELECT DISTINCT g.name FROM deletions d JOIN redundancy_groups g ON g.resource = d.resource \
     WHERE d.id = ANY($1)";
/// In the order that is given, so that two batches do not wait for each other.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock($1, k.key) FROM unnest($2::integer[]) WITH ORDINALITY AS k (key, n)";
const OF_RESOURCE: &str = "SELECT name FROM redundancy_groups WHERE resource = $1";
const REQUESTERS: &str = "SELECT g.name, min(d.id), c.body::json ->> 'requested_by' FROM redundancy_groups g \
     JOIN deletions d ON d.resource = g.resource AND d.live JOIN records c ON c.deletion_id = d.id \
     WHERE g.name = ANY($1) GROUP BY 1, 3";
/// Where the record stands is decided of the record itself; here is what no record says. One that is in no batch has no row there.
const MEMBERS: &str = "SELECT d.id, d.status, d.audit_seq, d.audit_head, d.created_at, g.name, r.id, r.presence, \
     r.protected OR EXISTS (SELECT 1 FROM resource_holds h WHERE h.resource = r.id), \
     coalesce((SELECT b.waits FROM batch_members m JOIN batches b ON b.id = m.batch WHERE m.job = d.id * 8 + 1), false) \
     FROM redundancy_groups g JOIN resources r ON r.id = g.resource \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE g.name = ANY($1) ORDER BY g.name, r.id";

/// The groups that these deletions' resources state to belong to, each locked until the end of the transaction: whoever
/// claims another member waits, and then sees what was claimed here. Behind the gate and before all rows.
pub(super) async fn lock(db: &mut PgConnection, deletions: &[i64]) -> Result<Vec<String>, LedgerError> {
    let part = || doing("locking redundancy groups");
    if deletions.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> =
        sqlx::query_scalar(NAMES).bind(deletions).fetch_all(&mut *db).await.map_err(part())?;
    if names.is_empty() {
        return Ok(names);
    }
    // Two names of one key share a lock, which is only slower.
    let mut keys: Vec<i32> = names.iter().map(|name| key(name)).collect();
    keys.sort_unstable();
    keys.dedup();
    sqlx::query(LOCK).bind(CLASS).bind(keys).execute(db).await.map_err(part())?;
    Ok(names)
}

fn key(name: &str) -> i32 {
    let [a, b, c, d, ..] = audit::link(&audit::GENESIS, 0, name.as_bytes());
    i32::from_be_bytes([a, b, c, d])
}

/// All members of these groups, as of now. `locked` are deletions that are known already.
pub(super) async fn members(
    db: &mut PgConnection,
    names: &[String],
    (memory, locked): (&Memory, &HashMap<DeletionId, Headed>),
) -> Result<Groups, LedgerError> {
    let part = || doing("reading redundancy groups");
    if names.is_empty() {
        return Ok(Groups::default());
    }
    let rows = sqlx::query(MEMBERS).bind(names).fetch_all(&mut *db).await.map_err(part())?;
    let mut members = Vec::with_capacity(rows.len());
    let mut heads = HashMap::new();
    for row in &rows {
        let resource: &str = row.try_get(6).map_err(part())?;
        let bad = |what: &'static str| corrupt("resources", resource, what);
        let deletion: Option<i64> = row.try_get(0).map_err(part())?;
        let live = match deletion {
            None => None,
            Some(id) => {
                // Who is in two groups is read twice.
                heads.insert(DeletionId(id), load::head(row)?);
                Some(LiveRow {
                    deletion: DeletionId(id),
                    kept: row.try_get(8).map_err(part())?,
                    frozen: row.try_get(9).map_err(part())?,
                })
            }
        };
        members.push(MemberRow {
            group: row.try_get(5).map_err(part())?,
            resource: resource.parse().map_err(|_| bad("not a resource"))?,
            presence: codes::presence(row.try_get(7).map_err(part())?)
                .ok_or_else(|| bad("unknown presence"))?,
            live,
        });
    }
    Ok(groups(members, &going(db, heads, (memory, locked)).await?))
}

/// Where these deletions stand, of which none is over. Who is not locked may have moved on since its head was read; what is read of
/// it now is then as good, and is not remembered.
async fn going(
    db: &mut PgConnection,
    mut heads: HashMap<DeletionId, Head>,
    (memory, locked): (&Memory, &HashMap<DeletionId, Headed>),
) -> Result<HashMap<DeletionId, Going>, LedgerError> {
    let mut going = HashMap::with_capacity(heads.len());
    heads.retain(|id, _| match locked.get(id) {
        Some((deletion, _)) => {
            going.extend(Going::of_record(deletion).map(|stands| (*id, stands)));
            false
        }
        None => true,
    });
    for (id, stands) in memory.going(heads.values()) {
        heads.remove(&id);
        going.extend(stands.map(|stands| (id, stands)));
    }
    if heads.is_empty() {
        return Ok(going);
    }
    let (ids, heads): (Vec<i64>, Vec<Head>) = heads.into_values().map(|head| (head.id, head)).unzip();
    let statements = memory.records.of(&mut *db, &ids).await?;
    memory.records.confirm(&heads, &statements)?;
    let read = load::rest(db, heads, &statements).await?;
    going.extend(read.iter().filter_map(|(id, (deletion, _))| Some((*id, Going::of_record(deletion)?))));
    Ok(going)
}

/// The groups of one resource.
pub(super) async fn of_resource(ledger: &PgLedger, resource: &ResourceId) -> Result<Groups, LedgerError> {
    let part = || doing("reading redundancy groups");
    // Of one moment: what ends meanwhile would be missing.
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let names: Vec<String> = sqlx::query_scalar(OF_RESOURCE)
        .bind(resource.to_string())
        .fetch_all(&mut *tx)
        .await
        .map_err(part())?;
    members(&mut tx, &names, (&ledger.memory, &HashMap::new())).await
}

/// Who asked for the live records of these groups' members. None of them is locked: a record that is made meanwhile is as if it
/// had been made after what this is asked for.
pub(super) async fn requesters(db: &mut PgConnection, names: &[String]) -> Result<Requesters, LedgerError> {
    let part = || doing("reading who asked for a redundancy group's records");
    let mut requesters = Requesters::new();
    if names.is_empty() {
        return Ok(requesters);
    }
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as(REQUESTERS).bind(names).fetch_all(db).await.map_err(part())?;
    for (group, id, by) in rows {
        let by: Actor = by.parse().map_err(|_| corrupt("records", id, "not an actor"))?;
        requesters.entry(group).or_default().push(by);
    }
    Ok(requesters)
}

/// Write down what these resources state: (resource, group) pairs, and all of the resources.
pub(super) async fn write(
    db: &mut PgConnection,
    resources: &[String],
    stated: Vec<(String, String)>,
) -> Result<(), LedgerError> {
    let part = || doing("writing redundancy groups");
    let forget = "DELETE FROM redundancy_groups WHERE resource = ANY($1)";
    sqlx::query(forget).bind(resources).execute(&mut *db).await.map_err(part())?;
    if stated.is_empty() {
        return Ok(());
    }
    let (of, names): (Vec<String>, Vec<String>) = stated.into_iter().unzip();
    let insert = "INSERT INTO redundancy_groups (resource, name) SELECT * FROM unnest($1::text[], $2::text[]) \
         ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(of).bind(names).execute(db).await.map_err(part())?;
    Ok(())
}
