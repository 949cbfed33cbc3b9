//! Redundancy groups: a lock on each, and their members.
use sexton_model::audit;
use sexton_model::belts::redundancy::Groups;
use sexton_model::{Actor, DeletionId, ResourceId};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::codes;
use super::error::{corrupt, doing};
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
/// What has begun: neither scheduled nor held, nor cancelled before anything of it was done. And due: whose soft stage
/// nothing holds but redundancy. Only a blocker is JSON, so the reason is read as such under that state alone. Of what was
/// said of a notice that was sent the last counts: that it came back, or that everybody was told otherwise. In what people
/// write quotes are escaped, so no text of theirs reads like a claim.
const MEMBERS: &str = "SELECT g.name, r.id, r.presence, d.id, d.status, \
     (SELECT max(j.id % 8) FROM jobs j WHERE j.id BETWEEN d.id * 8 AND d.id * 8 + 4 \
       AND (j.state NOT IN (0, 1, 8) OR j.cursor > 0 OR j.touched)), \
     CASE s.state WHEN 0 THEN s.due_at \
       WHEN 1 THEN CASE s.reason::json ->> 'by' WHEN 'redundancy' THEN s.due_at END END, \
     r.protected OR EXISTS (SELECT 1 FROM holds h WHERE h.deletion_id = d.id) \
       OR EXISTS (SELECT 1 FROM resource_holds h WHERE h.resource = r.id), \
     d.scope, (SELECT c.body::json ->> 'requested_by' FROM records c WHERE c.deletion_id = d.id), \
     coalesce(s.state = 7, false), coalesce(s.state = 6 OR (s.state = 2 AND s.reason IS NOT NULL), false) \
       OR coalesce((SELECT strpos(w.body, '\"claim\":\"bounced\"') > 0 FROM waivers w WHERE w.deletion_id = d.id \
         AND (strpos(w.body, '\"claim\":\"bounced\"') > 0 OR strpos(w.body, '\"claim\":\"told\"') > 0) \
         ORDER BY w.number DESC LIMIT 1), false), \
     coalesce((SELECT b.waits FROM batch_members m JOIN batches b ON b.id = m.batch WHERE m.job = d.id * 8 + 1), false) \
     FROM redundancy_groups g JOIN resources r ON r.id = g.resource \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live \
     LEFT JOIN LATERAL (SELECT state, due_at, reason FROM jobs WHERE id = d.id * 8 + 1 OFFSET 0) s ON true \
     WHERE g.name = ANY($1) ORDER BY g.name, r.id";

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

/// All members of these groups, as of now.
pub(super) async fn members(db: &mut PgConnection, names: &[String]) -> Result<Groups, LedgerError> {
    let part = || doing("reading redundancy groups");
    if names.is_empty() {
        return Ok(Groups::default());
    }
    let rows = sqlx::query(MEMBERS).bind(names).fetch_all(db).await.map_err(part())?;
    let mut members = Vec::with_capacity(rows.len());
    for row in &rows {
        let resource: &str = row.try_get(1).map_err(part())?;
        let bad = |what: &'static str| corrupt("resources", resource, what);
        let deletion: Option<i64> = row.try_get(3).map_err(part())?;
        let live = match deletion {
            None => None,
            Some(id) => {
                let status = codes::status(row.try_get(4).map_err(part())?);
                let status = status.ok_or_else(|| corrupt("deletions", id, "unknown status"))?;
                let scope: &str = row.try_get(8).map_err(part())?;
                Some(LiveRow {
                    deletion: DeletionId(id),
                    status,
                    reached: row.try_get::<Option<i64>, _>(5).map_err(part())?,
                    soft_due: row.try_get(6).map_err(part())?,
                    kept: row.try_get(7).map_err(part())?,
                    scope: scope.parse().map_err(|_| corrupt("deletions", id, "not a scope"))?,
                    requested_by: row.try_get(9).map_err(part())?,
                    off: row.try_get(10).map_err(part())?,
                    stopped: row.try_get(11).map_err(part())?,
                    frozen: row.try_get(12).map_err(part())?,
                })
            }
        };
        members.push(MemberRow {
            group: row.try_get(0).map_err(part())?,
            resource: resource.parse().map_err(|_| bad("not a resource"))?,
            presence: codes::presence(row.try_get(2).map_err(part())?)
                .ok_or_else(|| bad("unknown presence"))?,
            live,
        });
    }
    Ok(groups(members))
}

/// The groups of one resource.
pub(super) async fn of_resource(db: &mut PgConnection, resource: &ResourceId) -> Result<Groups, LedgerError> {
    let names: Vec<String> = sqlx::query_scalar(OF_RESOURCE)
        .bind(resource.to_string())
        .fetch_all(&mut *db)
        .await
        .map_err(doing("reading redundancy groups"))?;
    members(db, &names).await
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
