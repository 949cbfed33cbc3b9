//! Redundancy groups and their members. One thread writes, so nothing has to be locked.
use std::collections::HashMap;

use rusqlite::params;
use sexton_model::belts::redundancy::{Going, Groups};
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId};

use super::codes;
use super::connection::{Bind, Db, each, list, rows, store};
use super::load::{Bodies, Headed, load};
use super::memory::{Memory, Staged};
use crate::LedgerError;
use crate::groups::{LiveRow, MemberRow, groups};
use crate::rules::{Requesters, text};

const DOING: &str = "reading redundancy groups";

/// The groups that these deletions' resources state to belong to, with all members. `decided` are deletions that were taken for the
/// batch.
pub(super) fn of_deletions(
    db: &Db,
    deletions: &[i64],
    memory: &mut Memory,
    (staged, decided): (&mut Staged, &HashMap<DeletionId, Headed>),
) -> Result<Groups, LedgerError> {
    if deletions.is_empty() {
        return Ok(Groups::default());
    }
    let sql = "SELECT DISTINCT g.name FROM json_each(?) AS n CROSS JOIN deletions AS d ON d.id = n.value \
               CROSS JOIN redundancy_groups AS g ON g.resource = d.resource";
    let members = named(db, sql, list(deletions.iter().copied()))?;
    let mut going = HashMap::new();
    let mut unknown = Vec::new();
    for id in live(&members) {
        // What was decided and is being written is not in the table yet.
        let known = decided.get(&id).or_else(|| staged.deletions.get(&id));
        match known.or_else(|| memory.deletions.peek(&id)) {
            Some((deletion, _)) => going.extend(Going::of_record(deletion).map(|stands| (id, stands))),
            None => unknown.push(id),
        }
    }
    let read = all(db, &unknown, &mut memory.bodies)?;
    going.extend(stand(&read));
    staged.deletions.extend(read);
    Ok(groups(members, &going))
}

/// The groups of one resource, as the table has them.
pub(super) fn of_resource(db: &Db, resource: &str) -> Result<Groups, LedgerError> {
    let sql = "SELECT name FROM redundancy_groups WHERE resource = ?";
    let members = named(db, sql, resource.to_owned())?;
    let ids = live(&members);
    let read = all(db, &ids, &mut Bodies::new(ids.len().max(1)))?;
    Ok(groups(members, &stand(&read).collect()))
}

/// The live deletions of these members, each once.
fn live(members: &[MemberRow]) -> Vec<DeletionId> {
    let mut ids: Vec<DeletionId> =
        members.iter().filter_map(|member| Some(member.live.as_ref()?.deletion)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// These deletions. One that were left out would read as over.
fn all(db: &Db, ids: &[DeletionId], bodies: &mut Bodies) -> Result<HashMap<DeletionId, Headed>, LedgerError> {
    let read = load(db, ids, bodies)?;
    match ids.iter().find(|id| !read.contains_key(id)) {
        Some(id) => Err(codes::corrupt("deletions", id, "is missing")),
        None => Ok(read),
    }
}

fn stand(deletions: &HashMap<DeletionId, Headed>) -> impl Iterator<Item = (DeletionId, Going)> {
    deletions.iter().filter_map(|(id, (deletion, _))| Some((*id, Going::of_record(deletion)?)))
}

fn named(db: &Db, sql: &'static str, of: String) -> Result<Vec<MemberRow>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(of);
    let mut names: Vec<String> = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        names.push(row.try_get(0).map_err(store(DOING))?);
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    members(db, &names)
}

/// Where the record stands is decided of the record itself; here is what no record says.
fn members(db: &Db, names: &[String]) -> Result<Vec<MemberRow>, LedgerError> {
    let sql = "SELECT g.name, r.id, r.presence, d.id, \
               r.protected OR EXISTS (SELECT 1 FROM resource_holds AS h WHERE h.resource = r.id), \
               EXISTS (SELECT 1 FROM batch_members AS m JOIN batches AS b ON b.id = m.batch AND b.waits \
               WHERE m.job = d.id * 8 + 1) \
               FROM json_each(?) AS n CROSS JOIN redundancy_groups AS g ON g.name = n.value \
               JOIN resources AS r ON r.id = g.resource LEFT JOIN deletions AS d ON d.resource = r.id AND d.live \
               ORDER BY g.name, r.id";
    let mut bind = Bind::default();
    bind.add(text(&names)?);
    let mut members = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        let resource: &str = row.try_get(1).map_err(store(DOING))?;
        let deletion: Option<i64> = row.try_get(3).map_err(store(DOING))?;
        let live = match deletion {
            None => None,
            Some(id) => Some(LiveRow {
                deletion: DeletionId(id),
                kept: row.try_get(4).map_err(store(DOING))?,
                frozen: row.try_get(5).map_err(store(DOING))?,
            }),
        };
        members.push(MemberRow {
            group: row.try_get(0).map_err(store(DOING))?,
            resource: resource.parse().map_err(|e| codes::corrupt("resources", resource, e))?,
            presence: codes::presence(row.try_get(2).map_err(store(DOING))?)?,
            live,
        });
    }
    Ok(members)
}

/// Who asked for the live records of these groups' members.
pub(super) fn requesters(db: &Db, names: &[String]) -> Result<Requesters, LedgerError> {
    let mut requesters = Requesters::new();
    if names.is_empty() {
        return Ok(requesters);
    }
    let sql = "SELECT g.name, min(d.id), c.body ->> 'requested_by' FROM json_each(?) AS n \
               CROSS JOIN redundancy_groups AS g ON g.name = n.value \
               CROSS JOIN deletions AS d ON d.resource = g.resource AND d.live \
               CROSS JOIN records AS c ON c.deletion_id = d.id GROUP BY 1, 3";
    let mut bind = Bind::default();
    bind.add(text(&names)?);
    for row in rows(db, DOING, sql, bind)? {
        let group: String = row.try_get(0).map_err(store(DOING))?;
        let id = DeletionId(row.try_get(1).map_err(store(DOING))?);
        let by: &str = row.try_get(2).map_err(store(DOING))?;
        let by: Actor = by.parse().map_err(|_| codes::corrupt("records", id, "not an actor"))?;
        requesters.entry(group).or_default().push(by);
    }
    Ok(requesters)
}

/// Write down what these resources state.
pub(super) fn write(db: &Db, resources: &[&Resource]) -> Result<(), LedgerError> {
    let doing = "writing redundancy groups";
    let forget = "DELETE FROM redundancy_groups WHERE resource = ?";
    each(db, doing, forget, resources, |statement, resource| {
        statement.execute(params![resource.id.to_string()])
    })?;
    let stated =
        resources.iter().flat_map(|resource| resource.groups.iter().map(move |name| (resource, name)));
    let insert = "INSERT INTO redundancy_groups (resource, name) VALUES (?, ?) ON CONFLICT DO NOTHING";
    each(db, doing, insert, stated, |statement, (resource, name)| {
        statement.execute(params![resource.id.to_string(), name])
    })?;
    Ok(())
}
