//! What only one resource at a time may be registered for. One thread writes, so nothing has to be locked.
use std::collections::HashMap;

use rusqlite::params;
use sexton_model::exclusive::{Holder, Leaving};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId};

use super::codes;
use super::connection::{Bind, Db, each, list, rows, store};
use super::memory::{Memory, Staged};
use crate::LedgerError;
use crate::exclusive::{Holders, contested, stated};
use crate::rules::text;

const DOING: &str = "reading what is stated to be exclusive";

/// Who has what these resources state.
pub(super) fn holders(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    resources: &[Resource],
) -> Result<Holders, LedgerError> {
    let names = stated(resources);
    if names.is_empty() {
        return Ok(Holders::default());
    }
    let mut bind = Bind::default();
    bind.add(text(&names)?);
    let sql =
        "SELECT x.name, x.resource FROM json_each(?) AS n CROSS JOIN exclusives AS x ON x.name = n.value";
    let mut read: Vec<(String, ResourceId)> = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        let resource: &str = row.try_get(1).map_err(store(DOING))?;
        let id = resource.parse().map_err(|e| codes::corrupt("exclusives", resource, e))?;
        read.push((row.try_get(0).map_err(store(DOING))?, id));
    }
    let found = found(db, memory, staged, &contested(resources, &read))?;
    let holder = |(name, resource): (String, ResourceId)| {
        // Of one that nobody else asks for it does not matter.
        let (presence, leaving) =
            found.get(&resource.to_string()).cloned().unwrap_or((Presence::Registered, None));
        (name, Holder { resource, presence, leaving })
    };
    Ok(Holders::of(read.into_iter().map(holder)))
}

fn found(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    ids: &[String],
) -> Result<HashMap<String, (Presence, Option<Leaving>)>, LedgerError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut bind = Bind::default();
    bind.add(text(&ids)?).add(codes::of_presence(Presence::Recycled));
    // Of what was recycled, the record that says so, as long as it was not archived: its receipt may not be signed yet.
    let sql = "SELECT r.id, r.presence, \
               coalesce(d.id, (SELECT max(o.id) FROM deletions AS o WHERE o.resource = r.id AND r.presence = ?2)) \
               FROM json_each(?1) AS n CROSS JOIN resources AS r ON r.id = n.value \
               LEFT JOIN deletions AS d ON d.resource = r.id AND d.live";
    let mut found = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        let id: String = row.try_get(0).map_err(store(DOING))?;
        let presence = codes::presence(row.try_get(1).map_err(store(DOING))?)?;
        let record: Option<i64> = row.try_get(2).map_err(store(DOING))?;
        found.push((id, presence, record.map(DeletionId)));
    }
    let records: Vec<DeletionId> = found.iter().filter_map(|(_, _, record)| *record).collect();
    let mut leaving: HashMap<DeletionId, Leaving> = HashMap::new();
    if !records.is_empty() {
        let mut signed = Vec::new();
        let sql =
            "SELECT r.deletion_id FROM json_each(?) AS n CROSS JOIN receipts AS r ON r.deletion_id = n.value";
        let mut bind = Bind::default();
        bind.add(list(records.iter().map(|id| id.0)));
        for row in rows(db, DOING, sql, bind)? {
            signed.push(DeletionId(row.try_get(0).map_err(store(DOING))?));
        }
        let deletions = memory.deletions(db, staged, records.iter().copied())?;
        for (id, (deletion, _)) in &deletions {
            leaving.insert(*id, Leaving::of(deletion, signed.contains(id)));
        }
        staged.deletions.extend(deletions);
    }
    let mut all = HashMap::with_capacity(found.len());
    for (id, presence, record) in found {
        let of = record.map(|record| {
            leaving.remove(&record).ok_or_else(|| codes::corrupt("deletions", record, "is missing"))
        });
        all.insert(id, (presence, of.transpose()?));
    }
    Ok(all)
}

/// Write down who has what from now on.
pub(super) fn write(db: &Db, holders: &Holders) -> Result<(), LedgerError> {
    let doing = "writing what is stated to be exclusive";
    let sql = "INSERT INTO exclusives (name, resource) VALUES (?, ?) \
               ON CONFLICT (name) DO UPDATE SET resource = excluded.resource";
    each(db, doing, sql, holders.changed(), |statement, (name, resource)| {
        statement.execute(params![name, resource.to_string()])
    })?;
    Ok(())
}
