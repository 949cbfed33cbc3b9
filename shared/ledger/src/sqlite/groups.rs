//! Redundancy groups and their members. One thread writes, so nothing has to be locked.
use rusqlite::params;
use sexton_model::belts::redundancy::Groups;
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId};

use super::codes;
use super::connection::{Bind, Db, each, list, rows, store};
use crate::LedgerError;
use crate::groups::{LiveRow, MemberRow, groups};
use crate::rules::{Requesters, text};

const DOING: &str = "reading redundancy groups";

/// The groups that these deletions' resources state to belong to, with all members, as the table has them.
pub(super) fn of_deletions(db: &Db, deletions: &[i64]) -> Result<Groups, LedgerError> {
    if deletions.is_empty() {
        return Ok(Groups::default());
    }
    let sql = "SELECT DISTINCT g.name FROM json_each(?) AS n CROSS JOIN deletions AS d ON d.id = n.value \
               CROSS JOIN redundancy_groups AS g ON g.resource = d.resource";
    named(db, sql, list(deletions.iter().copied()))
}

/// The groups of one resource.
pub(super) fn of_resource(db: &Db, resource: &str) -> Result<Groups, LedgerError> {
    named(db, "SELECT name FROM redundancy_groups WHERE resource = ?", resource.to_owned())
}

fn named(db: &Db, sql: &'static str, of: String) -> Result<Groups, LedgerError> {
    let mut bind = Bind::default();
    bind.add(of);
    let mut names: Vec<String> = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        names.push(row.try_get(0).map_err(store(DOING))?);
    }
    if names.is_empty() {
        return Ok(Groups::default());
    }
    members(db, &names)
}

/// What has begun is neither scheduled nor held, nor cancelled before anything of it was done. And due: whose soft stage
/// nothing holds but redundancy. Only a blocker is JSON, so the reason is read as such under that state alone. Of what was
/// said of a notice that was sent the last counts: that it came back, or that everybody was told otherwise. In what people
/// write quotes are escaped, so no text of theirs reads like a claim.
fn members(db: &Db, names: &[String]) -> Result<Groups, LedgerError> {
    let sql = "SELECT g.name, r.id, r.presence, d.id, d.status, \
               (SELECT max(j.id % 8) FROM jobs AS j WHERE j.id >= d.id * 8 AND j.id < d.id * 8 + 5 \
               AND (j.state NOT IN (0, 1, 8) OR j.cursor > 0 OR j.touched)), \
               CASE s.state WHEN 0 THEN s.due_at \
               WHEN 1 THEN iif(json_extract(s.reason, '$.by') = 'redundancy', s.due_at, NULL) END, \
               r.protected OR EXISTS (SELECT 1 FROM holds AS h WHERE h.deletion_id = d.id) \
               OR EXISTS (SELECT 1 FROM resource_holds AS h WHERE h.resource = r.id), \
               c.scope, c.body ->> 'requested_by', \
               coalesce(s.state = 7, 0), coalesce(s.state = 6 OR (s.state = 2 AND s.reason IS NOT NULL), 0) \
               OR coalesce((SELECT instr(w.body, '\"claim\":\"bounced\"') > 0 FROM waivers AS w \
               WHERE w.deletion_id = d.id AND (instr(w.body, '\"claim\":\"bounced\"') > 0 \
               OR instr(w.body, '\"claim\":\"told\"') > 0) ORDER BY w.number DESC LIMIT 1), 0), \
               EXISTS (SELECT 1 FROM batch_members AS m JOIN batches AS b ON b.id = m.batch AND b.waits \
               WHERE m.job = d.id * 8 + 1) \
               FROM json_each(?) AS n CROSS JOIN redundancy_groups AS g ON g.name = n.value \
               JOIN resources AS r ON r.id = g.resource LEFT JOIN deletions AS d ON d.resource = r.id AND d.live \
               LEFT JOIN records AS c ON c.deletion_id = d.id \
               LEFT JOIN jobs AS s ON s.id = d.id * 8 + 1 ORDER BY g.name, r.id";
    let mut bind = Bind::default();
    bind.add(text(&names)?);
    let mut members = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        let resource: &str = row.try_get(1).map_err(store(DOING))?;
        let deletion: Option<i64> = row.try_get(3).map_err(store(DOING))?;
        let live = match deletion {
            None => None,
            Some(id) => {
                let status = codes::status(row.try_get(4).map_err(store(DOING))?)?;
                let (scope, by): (&str, &str) =
                    (row.try_get(8).map_err(store(DOING))?, row.try_get(9).map_err(store(DOING))?);
                Some(LiveRow {
                    deletion: DeletionId(id),
                    status,
                    reached: row.try_get(5).map_err(store(DOING))?,
                    soft_due: row.try_get(6).map_err(store(DOING))?,
                    kept: row.try_get(7).map_err(store(DOING))?,
                    scope: scope.parse().map_err(|e| codes::corrupt("records", id, e))?,
                    requested_by: by.to_owned(),
                    off: row.try_get(10).map_err(store(DOING))?,
                    stopped: row.try_get(11).map_err(store(DOING))?,
                    frozen: row.try_get(12).map_err(store(DOING))?,
                })
            }
        };
        members.push(MemberRow {
            group: row.try_get(0).map_err(store(DOING))?,
            resource: resource.parse().map_err(|e| codes::corrupt("resources", resource, e))?,
            presence: codes::presence(row.try_get(2).map_err(store(DOING))?)?,
            live,
        });
    }
    Ok(groups(members))
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
