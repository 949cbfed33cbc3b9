//! What resources have to themselves: a lock on each claim, behind those of resources, and whoever claims the same.
//!
//! Whoever makes a record, or registers, holds the locks of all that its resources claim until it commits: of two that share a
//! claim the one sees what the other did. So no lock on the other resource is needed.
//!
//! By which files the rows are written has a lock, too, behind those of claims: shared by whoever writes rows, taken alone by
//! whoever begins to fill the table. Why not by locking the row that says it: whoever shares that and then has to change it waits
//! for whoever else shares it, who may do the same; and as long as there is no row, there is nothing to lock.
use std::collections::BTreeSet;
use std::sync::Arc;

use sexton_model::audit;
use sexton_model::belts::Policy;
use sexton_model::claims::{Leaving, Rival};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId, Scope};
use sqlx::PgPool;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::codes;
use super::error::{all_there, corrupt, doing};
use crate::claims::{
    Claims, FILL, Row, Stored, TOLD, agrees, asked, being_filled, declared, doubtful, of_older, stated,
    still, tell_shared,
};
use crate::{LedgerError, NotDone};

/// Claims' locks among the advisory ones that have two keys: groups have another class.
const CLASS: i32 = 0x5343;
/// In the order that is given, so that two transactions do not wait for each other.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock($1, k.key) FROM unnest($2::integer[]) WITH ORDINALITY AS k (key, n)";
/// Of a live record also whether its purge (slot 3) is done, and whether something of it may remain.
const RIVALS: &str = "SELECT c.name, r.id, r.scope, r.presence, d.id, \
       EXISTS (SELECT 1 FROM jobs j WHERE j.id = d.id * 8 + 3 AND j.state = 7), \
       EXISTS (SELECT 1 FROM waivers w WHERE w.deletion_id = d.id AND strpos(w.body, '\"claim\":\"may_remain\"') > 0) \
     FROM claims c JOIN resources r ON r.id = c.resource \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE c.name = ANY($1)";
/// How these are registered, and their live records.
const STORED: &str = "SELECT r.id, r.body, c.body FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live LEFT JOIN records c ON c.deletion_id = d.id \
     WHERE r.id = ANY($1)";
const ROWS: &str = "SELECT name, resource FROM claims WHERE resource = ANY($1)";
const FORGET: &str = "DELETE FROM claims c USING unnest($1::text[], $2::text[]) AS v (name, resource) \
     WHERE c.name = v.name AND c.resource = v.resource";
const INSERT: &str = "INSERT INTO claims (name, resource) SELECT * FROM unnest($1::text[], $2::text[]) \
     ON CONFLICT DO NOTHING";
const PAGE: &str = "SELECT r.id, r.body, c.body FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live LEFT JOIN records c ON c.deletion_id = d.id \
     WHERE r.id > $1 AND r.presence <> $2 ORDER BY r.id LIMIT $3 FOR NO KEY UPDATE OF r";
/// What others claim besides a live record whose purge is not done.
const SHARED: &str = "SELECT o.name, o.resource, d.id FROM deletions d JOIN claims c ON c.resource = d.resource \
     JOIN claims o ON o.name = c.name AND o.resource <> c.resource JOIN resources r ON r.id = o.resource \
     WHERE d.live AND r.presence <> $1 \
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = d.id * 8 + 3 AND j.state = 7) LIMIT $2";
const DECLARED: &str = "SELECT declared FROM claimable";
/// The lock of what says by which files the rows are written, among those of [`CLASS`]: the others' keys are bytes.
const FILES: i32 = 256;
/// Until the end of the transaction: nobody begins to fill the table in between, and does not see its rows.
const FILES_SHARED: &str = "SELECT pg_advisory_xact_lock_shared($1, $2)";
/// Whoever has written by other files is through with it, and is seen.
const FILES_ALONE: &str = "SELECT pg_advisory_xact_lock($1, $2)";
/// Whoever else would do it meanwhile waits for the first one, and then finds it done.
const EMPTY: &str = "UPDATE claimable SET declared = '' WHERE declared <> ''";
/// Unless somebody has written by other files in between. Another coordinator may have filled it by the same ones.
const FILLED: &str = "UPDATE claimable SET declared = $1 WHERE declared = $1 OR declared = $2";
const DECLARE: &str = "INSERT INTO claimable (declared) VALUES ($1) ON CONFLICT (one) DO UPDATE SET declared = excluded.declared";

/// Whoever claims what these resources state, each claim locked until the end of the transaction.
pub(super) async fn locked(
    db: &mut PgConnection,
    policy: Arc<Policy>,
    resources: &[&Resource],
) -> Result<Claims, LedgerError> {
    // As many locks as there are keys at most, however much is claimed: a server has room for so many. Two claims of one key
    // share a lock, which is only slower.
    let names = stated(&policy.claimable, resources.iter().copied());
    let keys: BTreeSet<i32> = names.iter().map(|name| key(name)).collect();
    if !keys.is_empty() {
        let keys: Vec<i32> = keys.into_iter().collect();
        let query = sqlx::query(LOCK).bind(CLASS).bind(keys);
        query.execute(&mut *db).await.map_err(doing("locking what is claimed"))?;
    }
    read(db, policy, resources).await
}

fn key(name: &str) -> i32 {
    let [first, ..] = audit::link(&audit::GENESIS, 0, name.as_bytes());
    i32::from(first)
}

/// The same without locks: as it is now.
pub(super) async fn read(
    db: &mut PgConnection,
    policy: Arc<Policy>,
    resources: &[&Resource],
) -> Result<Claims, LedgerError> {
    let part = || doing("reading what is claimed");
    if !asked(&policy) || resources.is_empty() {
        return Ok(Claims::of(policy, Vec::new(), Vec::new()));
    }
    let names = stated(&policy.claimable, resources.iter().copied());
    let mut rivals = Vec::new();
    if !names.is_empty() {
        let found = sqlx::query(RIVALS).bind(names).fetch_all(&mut *db).await.map_err(part())?;
        for row in &found {
            let id: &str = row.try_get(1).map_err(part())?;
            let resource = id.parse::<ResourceId>().map_err(|_| corrupt("claims", id, "not a resource"))?;
            let scope: &str = row.try_get(2).map_err(part())?;
            let scope = scope.parse::<Scope>().map_err(|_| corrupt("resources", id, "not a scope"))?;
            let presence = codes::presence(row.try_get(3).map_err(part())?)
                .ok_or_else(|| corrupt("resources", id, "unknown presence"))?;
            let purged: bool = row.try_get(5).map_err(part())?;
            let may_remain: bool = row.try_get(6).map_err(part())?;
            let live = row.try_get::<Option<i64>, _>(4).map_err(part())?.map(DeletionId);
            let leaving = live.map(|record| Leaving { record, purged, may_remain });
            let claim: String = row.try_get(0).map_err(part())?;
            rivals.extend(Rival::of(claim, (resource, scope), presence, leaving));
        }
    }
    // Whoever comes to state one of these meanwhile, or gets a record that does, waits for its lock.
    let doubtful = doubtful(&policy.claimable, resources, &rivals);
    if !doubtful.is_empty() {
        let query = sqlx::query_as(STORED).bind(doubtful);
        let stored: Vec<Stored> = query.fetch_all(&mut *db).await.map_err(part())?;
        rivals = still(&policy.claimable, rivals, stored);
    }
    let ids: Vec<String> = resources.iter().map(|resource| resource.id.to_string()).collect();
    let rows: Vec<Row> = sqlx::query_as(ROWS).bind(ids).fetch_all(&mut *db).await.map_err(part())?;
    Ok(Claims::of(policy, rivals, rows))
}

/// Write down who claims what from now on: behind the resources themselves. Also whoever asks for no claims does it: what it
/// registers is missing.
pub(super) async fn write(db: &mut PgConnection, claims: &Claims) -> Result<(), LedgerError> {
    let part = || doing("writing what is claimed");
    let (mut gone, new) = claims.changes();
    sqlx::query(FILES_SHARED).bind(CLASS).bind(FILES).execute(&mut *db).await.map_err(part())?;
    // Read behind the lock: from now on others only empty it, or say of a table that was being filled that it is.
    let query = sqlx::query_scalar(DECLARED);
    let written: Option<String> = query.fetch_optional(&mut *db).await.map_err(part())?;
    if !agrees(written.as_deref(), &claims.declared()?) {
        gone.clear();
        if written.is_some_and(|written| !written.is_empty()) {
            sqlx::query(EMPTY).execute(&mut *db).await.map_err(part())?;
        }
    }
    let wanted = new.len();
    for (sql, rows) in [(FORGET, gone), (INSERT, new)] {
        if rows.is_empty() {
            continue;
        }
        let (names, resources): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
        let done = sqlx::query(sql).bind(names).bind(resources).execute(&mut *db).await.map_err(part())?;
        if sql == INSERT {
            all_there("claims", done.rows_affected(), wanted)?;
        }
    }
    Ok(())
}

/// Whether a record could be made for a resource, as far as others claim the same.
pub(super) async fn uncontested(
    pool: &PgPool,
    policy: Arc<Policy>,
    resource: &Resource,
) -> Result<Result<(), NotDone>, LedgerError> {
    let mut db = pool.acquire().await.map_err(doing("reading what is claimed"))?;
    let claims = read(&mut db, policy, &[resource]).await?;
    Ok(claims.may_delete(resource))
}

/// Write down what those claim that were registered before anybody asked, or by other files: once, by whichever coordinator
/// comes first.
pub(super) async fn fill(pool: &PgPool, policy: &Policy) -> Result<(), LedgerError> {
    let part = || doing("writing down what those claim that are registered");
    if !asked(policy) {
        return Ok(());
    }
    let declared = declared(policy)?;
    let before: Option<String> = sqlx::query_scalar(DECLARED).fetch_optional(pool).await.map_err(part())?;
    if before.as_ref() == Some(&declared) {
        return Ok(());
    }
    // Whoever does it by other files from now on empties this.
    let filling = being_filled(&declared);
    let mut tx = pool.begin().await.map_err(part())?;
    sqlx::query(FILES_ALONE).bind(CLASS).bind(FILES).execute(&mut *tx).await.map_err(part())?;
    sqlx::query(DECLARE).bind(&filling).execute(&mut *tx).await.map_err(part())?;
    tx.commit().await.map_err(part())?;
    let mut after = String::new();
    loop {
        // Each page with the locks of its resources, so that none of them is registered otherwise meanwhile.
        let mut tx = pool.begin().await.map_err(part())?;
        let page: Vec<(String, String, Option<String>)> = sqlx::query_as(PAGE)
            .bind(&after)
            .bind(codes::of_presence(Presence::Recycled))
            .bind(i64::from(FILL))
            .fetch_all(&mut *tx)
            .await
            .map_err(part())?;
        let Some((last, ..)) = page.last() else { break };
        after.clone_from(last);
        let mut rows = Vec::new();
        for (id, body, record) in &page {
            rows.extend(of_older(&policy.claimable, id, body, record.as_deref()));
        }
        let (names, resources): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
        sqlx::query(INSERT).bind(names).bind(resources).execute(&mut *tx).await.map_err(part())?;
        tx.commit().await.map_err(part())?;
    }
    let query = sqlx::query_as(SHARED).bind(codes::of_presence(Presence::Recycled)).bind(i64::from(TOLD));
    let shared: Vec<(String, String, i64)> = query.fetch_all(pool).await.map_err(part())?;
    for (claim, by, record) in &shared {
        tell_shared(claim, by, *record);
    }
    let done = sqlx::query(FILLED).bind(declared).bind(filling).execute(pool).await.map_err(part())?;
    if done.rows_affected() == 0 {
        tracing::warn!(
            "another coordinator goes by other files of subsystems (claims): what it registers claims only what these say, \
             until a coordinator is started again"
        );
    }
    Ok(())
}
