//! What only one resource at a time may be registered for: its row is the lock, behind those of resources.
use std::collections::{HashMap, HashSet};

use sexton_model::exclusive::{Holder, Leaving};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, codes, load};
use crate::LedgerError;
use crate::exclusive::{Holders, contested, stated};

const LOCK: &str = "SELECT name, resource FROM exclusives WHERE name = ANY($1) ORDER BY name FOR UPDATE";
/// Of what was recycled, the record that says so, as long as it was not archived: its receipt may not be signed yet.
const FOUND: &str = "SELECT r.id, r.presence, \
     coalesce(d.id, (SELECT max(o.id) FROM deletions o WHERE o.resource = r.id AND r.presence = $2)) FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE r.id = ANY($1)";
/// What is read of a deletion is of one moment.
const STILL: &str = "SELECT id FROM deletions WHERE id = ANY($1) ORDER BY id FOR SHARE";
const RECEIPTS: &str = "SELECT deletion_id FROM receipts WHERE deletion_id = ANY($1)";
const INSERT: &str = "INSERT INTO exclusives (name, resource) SELECT * FROM unnest($1::text[], $2::text[]) \
     ON CONFLICT (name) DO UPDATE SET resource = excluded.resource \
     WHERE exclusives.name = ANY($3)";

/// Who has what these resources state, each locked until the end of the transaction.
pub(super) async fn holders(
    db: &mut PgConnection,
    ledger: &PgLedger,
    resources: &[Resource],
) -> Result<(Holders, Vec<String>), LedgerError> {
    let part = || doing("reading what is stated to be exclusive");
    let names = stated(resources);
    if names.is_empty() {
        return Ok((Holders::default(), Vec::new()));
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as(LOCK).bind(names).fetch_all(&mut *db).await.map_err(part())?;
    let parse = |(name, resource): (String, String)| {
        let id = resource.parse().map_err(|_| corrupt("exclusives", &name, "not a resource"))?;
        Ok((name, id))
    };
    let read: Vec<(String, ResourceId)> = rows.into_iter().map(parse).collect::<Result<_, LedgerError>>()?;
    let found = found(db, ledger, &contested(resources, &read)).await?;
    let known = read.iter().map(|(name, _)| name.clone()).collect();
    let holder = |(name, resource): (String, ResourceId)| {
        // Of one that nobody else asks for it does not matter.
        let (presence, leaving) =
            found.get(&resource.to_string()).cloned().unwrap_or((Presence::Registered, None));
        (name, Holder { resource, presence, leaving })
    };
    Ok((Holders::of(read.into_iter().map(holder)), known))
}

/// How far these are: with their locks, so that it is one moment's.
async fn found(
    db: &mut PgConnection,
    ledger: &PgLedger,
    ids: &[String],
) -> Result<HashMap<String, (Presence, Option<Leaving>)>, LedgerError> {
    let part = || doing("reading how far a deletion is");
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let recycled = codes::of_presence(Presence::Recycled);
    let rows = sqlx::query(FOUND).bind(ids).bind(recycled).fetch_all(&mut *db).await.map_err(part())?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: String = row.try_get(0).map_err(part())?;
        let presence = codes::presence(row.try_get(1).map_err(part())?)
            .ok_or_else(|| corrupt("resources", &id, "unknown presence"))?;
        let record: Option<i64> = row.try_get(2).map_err(part())?;
        found.push((id, presence, record));
    }
    let records: Vec<i64> = found.iter().filter_map(|(_, _, record)| *record).collect();
    let mut leaving = leaving(db, ledger, &records).await?;
    let mut all = HashMap::with_capacity(found.len());
    for (id, presence, record) in found {
        // One whose record was archived meanwhile is asked for again.
        let of = record.map(|record| {
            leaving.remove(&record).ok_or_else(|| corrupt("exclusives", &id, "its record left meanwhile"))
        });
        all.insert(id, (presence, of.transpose()?));
    }
    Ok(all)
}

async fn leaving(
    db: &mut PgConnection,
    ledger: &PgLedger,
    live: &[i64],
) -> Result<HashMap<i64, Leaving>, LedgerError> {
    let part = || doing("reading how far a deletion is");
    if live.is_empty() {
        return Ok(HashMap::new());
    }
    sqlx::query(STILL).bind(live).execute(&mut *db).await.map_err(part())?;
    let statements = ledger.memory.records.read(&mut *db, live).await?;
    let deletions = load::deletions(&mut *db, live, &statements).await?;
    let signed: Vec<i64> =
        sqlx::query_scalar(RECEIPTS).bind(live).fetch_all(&mut *db).await.map_err(part())?;
    let signed: HashSet<i64> = signed.into_iter().collect();
    let leaving =
        |(id, (deletion, _)): (DeletionId, _)| (id.0, Leaving::of(&deletion, signed.contains(&id.0)));
    Ok(deletions.into_iter().map(leaving).collect())
}

/// Write down who has what from now on. Of what nobody had (it is not among `known`) somebody else may have become the
/// holder a moment ago: then the count shows it.
pub(super) async fn write(
    db: &mut PgConnection,
    holders: &Holders,
    known: &[String],
) -> Result<(), LedgerError> {
    let (names, resources): (Vec<String>, Vec<String>) =
        holders.changed().map(|(name, resource)| (name.clone(), resource.to_string())).unzip();
    if names.is_empty() {
        return Ok(());
    }
    let wanted = names.len();
    let query = sqlx::query(INSERT).bind(names).bind(resources).bind(known);
    let done = query.execute(db).await.map_err(doing("writing what is stated to be exclusive"))?;
    all_there("exclusives", done.rows_affected(), wanted)
}
