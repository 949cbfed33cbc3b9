//! What resources have to themselves, and whoever claims the same. One thread writes, so nothing has to be locked.
use std::sync::Arc;

use rusqlite::params;
use sexton_model::belts::Policy;
use sexton_model::claims::{Leaving, Rival};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId, Scope};

use super::codes;
use super::connection::{Bind, Db, each, execute, rows, store};
use crate::claims::{
    Claims, FILL, Row, Stored, TOLD, agrees, asked, declared, doubtful, of_older, stated, still, tell_shared,
};
use crate::rules::text;
use crate::{LedgerError, NotDone};

const DOING: &str = "reading what is claimed";
const WRITING: &str = "writing what is claimed";
const FILLING: &str = "writing down what those claim that are registered";
/// Of a live record also whether its purge (slot 3) is done, and whether something of it may remain.
const RIVALS: &str = "SELECT c.name, r.id, r.scope, r.presence, d.id, \
       EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = d.id * 8 + 3 AND j.state = 7), \
       EXISTS (SELECT 1 FROM waivers AS w \
         WHERE w.deletion_id = d.id AND instr(w.body, '\"claim\":\"may_remain\"') > 0) \
     FROM json_each(?) AS n \
     CROSS JOIN claims AS c ON c.name = n.value CROSS JOIN resources AS r ON r.id = c.resource \
     LEFT JOIN deletions AS d ON d.resource = r.id AND d.live";
/// How these are registered, and their live records.
const STORED: &str = "SELECT r.id, r.body, c.body FROM json_each(?) AS n \
     CROSS JOIN resources AS r ON r.id = n.value \
     LEFT JOIN deletions AS d ON d.resource = r.id AND d.live \
     LEFT JOIN records AS c ON c.deletion_id = d.id";
/// What others claim besides a live record whose purge is not done.
const SHARED: &str = "SELECT o.name, o.resource, d.id FROM deletions AS d \
     CROSS JOIN claims AS c ON c.resource = d.resource \
     CROSS JOIN claims AS o ON o.name = c.name AND o.resource <> c.resource \
     CROSS JOIN resources AS r ON r.id = o.resource WHERE d.live AND r.presence <> ? \
     AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = d.id * 8 + 3 AND j.state = 7) LIMIT ?";
const DECLARED: &str = "SELECT declared FROM claimable";
const INSERT: &str = "INSERT INTO claims (name, resource) VALUES (?, ?) ON CONFLICT DO NOTHING";

/// Whoever claims what these resources state.
pub(super) fn read(db: &Db, policy: &Arc<Policy>, resources: &[&Resource]) -> Result<Claims, LedgerError> {
    if !asked(policy) || resources.is_empty() {
        return Ok(Claims::of(policy.clone(), Vec::new(), Vec::new()));
    }
    let mut bind = Bind::default();
    bind.add(text(&stated(&policy.claimable, resources.iter().copied()))?);
    let mut rivals = Vec::new();
    for row in rows(db, DOING, RIVALS, bind)? {
        let id: &str = row.try_get(1).map_err(store(DOING))?;
        let resource = id.parse::<ResourceId>().map_err(|e| codes::corrupt("claims", id, e))?;
        let scope: &str = row.try_get(2).map_err(store(DOING))?;
        let scope = scope.parse::<Scope>().map_err(|e| codes::corrupt("resources", id, e))?;
        let presence = codes::presence(row.try_get(3).map_err(store(DOING))?)?;
        let live: Option<i64> = row.try_get(4).map_err(store(DOING))?;
        let purged: bool = row.try_get(5).map_err(store(DOING))?;
        let may_remain: bool = row.try_get(6).map_err(store(DOING))?;
        let leaving = live.map(|record| Leaving { record: DeletionId(record), purged, may_remain });
        let claim: String = row.try_get(0).map_err(store(DOING))?;
        rivals.extend(Rival::of(claim, (resource, scope), presence, leaving));
    }
    let doubtful = doubtful(&policy.claimable, resources, &rivals);
    if !doubtful.is_empty() {
        let mut bind = Bind::default();
        bind.add(text(&doubtful)?);
        let mut stored: Vec<Stored> = Vec::new();
        for row in rows(db, DOING, STORED, bind)? {
            let id: String = row.try_get(0).map_err(store(DOING))?;
            let body: String = row.try_get(1).map_err(store(DOING))?;
            stored.push((id, body, row.try_get(2).map_err(store(DOING))?));
        }
        rivals = still(&policy.claimable, rivals, stored);
    }
    let ids: Vec<String> = resources.iter().map(|resource| resource.id.to_string()).collect();
    let mut bind = Bind::default();
    bind.add(text(&ids)?);
    let sql =
        "SELECT c.name, c.resource FROM json_each(?) AS n CROSS JOIN claims AS c ON c.resource = n.value";
    let mut written: Vec<Row> = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        written.push((row.try_get(0).map_err(store(DOING))?, row.try_get(1).map_err(store(DOING))?));
    }
    Ok(Claims::of(policy.clone(), rivals, written))
}

/// Write down who claims what from now on: behind the resources themselves. Also whoever asks for no claims does it: what it
/// registers is missing.
pub(super) fn write(db: &Db, claims: &Claims) -> Result<(), LedgerError> {
    let (mut gone, new) = claims.changes();
    let found = rows(db, WRITING, DECLARED, Bind::default())?;
    let written: Option<&str> = match found.first() {
        Some(row) => Some(row.try_get(0).map_err(store(WRITING))?),
        None => None,
    };
    if !agrees(written, &claims.declared()?) {
        gone.clear();
        if written.is_some_and(|written| !written.is_empty()) {
            execute(db, WRITING, "UPDATE claimable SET declared = ''", Bind::default())?;
        }
    }
    let forget = "DELETE FROM claims WHERE name = ? AND resource = ?";
    each(db, WRITING, forget, gone, |statement, (name, resource)| {
        statement.execute(params![name, resource])
    })?;
    let wanted = new.len();
    let done = each(db, WRITING, INSERT, new, |statement, (name, resource)| {
        statement.execute(params![name, resource])
    })?;
    codes::all_there("claims", done, wanted)
}

/// Whether a record could be made for a resource, as far as others claim the same.
pub(super) fn uncontested(
    db: &Db,
    policy: &Arc<Policy>,
    resource: &Resource,
) -> Result<Result<(), NotDone>, LedgerError> {
    Ok(read(db, policy, &[resource])?.may_delete(resource))
}

/// Write down what those claim that were registered before anybody asked, or when less was a claim: once.
pub(super) fn fill(db: &Db, policy: &Policy) -> Result<(), LedgerError> {
    if !asked(policy) {
        return Ok(());
    }
    let declared = declared(policy)?;
    let before = rows(db, FILLING, DECLARED, Bind::default())?;
    if let Some(before) = before.first()
        && before.try_get::<&str>(0).map_err(store(FILLING))? == declared
    {
        return Ok(());
    }
    db.transaction("BEGIN IMMEDIATE", || {
        let mut after = String::new();
        while let Some(last) = fill_page(db, policy, &after)? {
            after = last;
        }
        let mut bind = Bind::default();
        bind.add(codes::of_presence(Presence::Recycled)).add(i64::from(TOLD));
        for row in rows(db, FILLING, SHARED, bind)? {
            let claim: &str = row.try_get(0).map_err(store(FILLING))?;
            let by: &str = row.try_get(1).map_err(store(FILLING))?;
            tell_shared(claim, by, row.try_get(2).map_err(store(FILLING))?);
        }
        let sql = "INSERT INTO claimable (one, declared) VALUES (1, ?) \
                   ON CONFLICT (one) DO UPDATE SET declared = excluded.declared";
        let mut bind = Bind::default();
        bind.add(declared);
        execute(db, FILLING, sql, bind).map(drop)
    })
}

/// The same of the resources that come after one; the last of them, if there are any.
fn fill_page(db: &Db, policy: &Policy, after: &str) -> Result<Option<String>, LedgerError> {
    let sql = "SELECT r.id, r.body, c.body FROM resources AS r \
               LEFT JOIN deletions AS d ON d.resource = r.id AND d.live \
               LEFT JOIN records AS c ON c.deletion_id = d.id \
               WHERE r.id > ? AND r.presence <> ? ORDER BY r.id LIMIT ?";
    let mut bind = Bind::default();
    bind.add(after.to_owned()).add(codes::of_presence(Presence::Recycled)).add(i64::from(FILL));
    let (mut last, mut claimed) = (None, Vec::new());
    for row in rows(db, FILLING, sql, bind)? {
        let id: String = row.try_get(0).map_err(store(FILLING))?;
        let body: &str = row.try_get(1).map_err(store(FILLING))?;
        let record: Option<&str> = row.try_get(2).map_err(store(FILLING))?;
        claimed.extend(of_older(&policy.claimable, &id, body, record));
        last = Some(id);
    }
    each(db, FILLING, INSERT, claimed, |statement, (name, resource)| {
        statement.execute(params![name, resource])
    })?;
    Ok(last)
}
