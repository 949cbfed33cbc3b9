//! Registering resources, and listing them.
use std::collections::{BTreeMap, BTreeSet};

use sexton_model::access::Registrar;
use sexton_model::audit::Hash;
use sexton_model::belts::covered::Covered;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{Actor, DeletionId, Kind, ResourceId, Scope, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};

use super::chain::{Appended, Head};
use super::error::{all_there, collision, corrupt, doing};
use super::{PgLedger, below, claims, codes, exclusive, groups, pause, resource_holds, review};
use crate::claims::Claims;
use crate::exclusive::Holders;
use crate::keys::Note;
use crate::rules::{LedgerEvent, Registering, Requesters, registering, regrouping, text};
use crate::view::Through;
use crate::{LedgerError, NotDone, Page, ResourceFilter, ResourceView};

const LOCK: &str = "SELECT 1 FROM resources WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
const THERE: &str = "SELECT r.id, r.body, r.presence, d.id, r.audit_seq, r.audit_head FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE r.id = ANY($1)";
/// A name that somebody else inserted since it was looked for is left out, which the count shows.
const INSERT: &str = "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[], $6::text[], \
     $7::bigint[], $8::bytea[]) ON CONFLICT (id) DO NOTHING";
const UPDATE: &str = "UPDATE resources SET scope = v.scope, presence = v.presence, protected = v.protected, \
     body = v.body, audit_seq = v.seq, audit_head = v.head \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[], $6::text[], $7::bigint[], \
     $8::bytea[]) AS v (id, kind, scope, presence, protected, body, seq, head) WHERE resources.id = v.id";
const VIEW: &str = "SELECT r.id, r.body, r.presence, d.id, r.audit_seq, r.audit_head FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE ";
const COVERED: &str = "SELECT \
     (SELECT count(*) FROM deletions d WHERE d.live AND ($1::text IS NULL OR d.kind = $1) \
       AND ($2::text IS NULL OR d.scope = $2 OR starts_with(d.scope, $2 || '/'))), \
     (SELECT count(*) FROM resources r WHERE r.presence = 0 AND ($1::text IS NULL OR r.kind = $1) \
       AND ($2::text IS NULL OR r.scope = $2 OR starts_with(r.scope, $2 || '/')))";

/// Resources written in one transaction, unless the list is all or nothing.
const CHUNK: usize = 1024;
/// Tries of one list that collides with other transactions.
const TRIES: u32 = 5;

type Results = Vec<Result<(), NotDone>>;

/// Resources as they are stated, and who registers them over what is there.
type Stated<'a> = (&'a [Resource], &'a Registrar);

/// Register or update, all or nothing if `whole`.
pub(super) async fn register(
    ledger: &PgLedger,
    (resources, registrar): Stated<'_>,
    by: &Actor,
    whole: bool,
) -> Result<Results, LedgerError> {
    // What a request's key is noted with is one transaction, too.
    let chunk = if whole || ledger.attempt.is_some() { resources.len().max(1) } else { CHUNK };
    let mut results = Vec::with_capacity(resources.len());
    for chunk in resources.chunks(chunk) {
        let mut tried = 1;
        loop {
            match attempt(ledger, (chunk, registrar), by, whole).await {
                Err(error) if tried < TRIES && collided(&error) => tried += 1,
                other => break results.extend(other?),
            }
        }
    }
    Ok(results)
}

/// How much there is of a kind, and in a scope and those below it.
pub(super) async fn covered(
    pool: &PgPool,
    kind: Option<&Kind>,
    scope: Option<&Scope>,
) -> Result<Covered, LedgerError> {
    let (records, resources): (i64, i64) = sqlx::query_as(COVERED)
        .bind(kind.map(ToString::to_string))
        .bind(scope.map(ToString::to_string))
        .fetch_one(pool)
        .await
        .map_err(doing("counting what there is of a scope"))?;
    let many = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Covered { records: many(records), resources: many(resources) })
}

/// What [`register`] would say of each, each for itself. Neither gate nor resources are locked: nothing follows from it that
/// a change in between could make wrong.
pub(super) async fn check(ledger: &PgLedger, stated: Stated<'_>, by: &Actor) -> Result<Results, LedgerError> {
    let mut tried = 1;
    loop {
        match check_once(ledger, stated, by).await {
            Err(error) if tried < TRIES && collided(&error) => tried += 1,
            other => return other,
        }
    }
}

async fn check_once(
    ledger: &PgLedger,
    (resources, registrar): Stated<'_>,
    by: &Actor,
) -> Result<Results, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("beginning to check resources"))?;
    let stated: Vec<&Resource> = resources.iter().collect();
    let claims = claims::read(&mut tx, ledger.policy.get(), &stated).await?;
    let (holders, _) = exclusive::holders(&mut tx, ledger, resources).await?;
    let mut beside = Beside { holders, claims, ..Beside::default() };
    let (_, results, _) = judge(&mut tx, (resources, registrar), by, &mut beside).await?;
    tx.rollback().await.map_err(doing("ending a check of resources"))?;
    Ok(results)
}

/// Somebody else was faster: a lock, or a name that was free a moment ago.
fn collided(error: &LedgerError) -> bool {
    collision(error).is_some()
        || matches!(error, LedgerError::Corrupt { table: "resources" | "exclusives" | "claims", .. })
}

/// A resource as it is found under its lock, and as the list leaves it.
struct There {
    resource: Resource,
    presence: Presence,
    live: Option<DeletionId>,
    head: Head,
    new: bool,
    changed: bool,
}

/// What a list is judged by besides its own resources: who else is registered for the same, and who claims the same; and of the
/// redundancy groups that would be left, who asked for their members' live records.
#[derive(Default)]
struct Beside {
    holders: Holders,
    claims: Claims,
    requesters: Requesters,
}

async fn attempt(
    ledger: &PgLedger,
    stated: Stated<'_>,
    by: &Actor,
    whole: bool,
) -> Result<Results, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("beginning to register"))?;
    let (results, end) = write_down(&mut tx, ledger, stated, by, whole).await?;
    if whole && results.iter().any(Result::is_err) {
        tx.rollback().await.map_err(doing("undoing a list"))?;
        let unless_refused = |result: Result<(), NotDone>| result.and(Err(NotDone::WithTheRest));
        return Ok(results.into_iter().map(unless_refused).collect());
    }
    let decided = match end {
        Some(end) => review::decide(&mut tx, ledger, Some(end)).await?,
        // They are as they were.
        None => None,
    };
    ledger.note(&mut tx, || Note::of_register(&results)).await?;
    tx.commit().await.map_err(doing("committing resources"))?;
    ledger.known.note_decision(decided);
    Ok(results)
}

/// Register in this transaction. If `whole`, one that is refused means that nothing is written. With the end of the chain that was
/// appended to last, if any was.
pub(super) async fn write_down(
    db: &mut PgConnection,
    ledger: &PgLedger,
    (resources, registrar): Stated<'_>,
    by: &Actor,
    whole: bool,
) -> Result<(Results, Option<(String, Head)>), LedgerError> {
    let ids = ids(resources);
    if resources.iter().any(|resource| resource.protected || !resource.groups.is_empty()) {
        // As with a pause: once this has returned, nothing that did not see the protection, or the groups, is still to
        // be claimed.
        pause::gate_alone(db).await?;
    }
    sqlx::query(LOCK).bind(&ids).execute(&mut *db).await.map_err(doing("locking resources"))?;
    let stated: Vec<&Resource> = resources.iter().collect();
    let claims = claims::locked(db, ledger.policy.get(), &stated).await?;
    let (holders, known) = exclusive::holders(db, ledger, resources).await?;
    let mut beside = Beside { holders, claims, ..Beside::default() };
    let (there, results, events) = judge(db, (resources, registrar), by, &mut beside).await?;
    if whole && results.iter().any(Result::is_err) {
        return Ok((results, None));
    }
    write(db, &there, true).await?;
    write(db, &there, false).await?;
    write_groups(db, &there).await?;
    exclusive::write(db, &beside.holders, &known).await?;
    claims::write(db, &beside.claims).await?;
    let end = events.end();
    events.write(db).await?;
    Ok((results, end))
}

/// Their names, ascending: in this order they are locked.
fn ids(resources: &[Resource]) -> Vec<String> {
    let ids: BTreeSet<String> = resources.iter().map(|resource| resource.id.to_string()).collect();
    ids.into_iter().collect()
}

/// Go through the list, as what stands there is now: how it leaves that, what is said of each, and the events of it.
async fn judge(
    db: &mut PgConnection,
    (resources, registrar): Stated<'_>,
    by: &Actor,
    beside: &mut Beside,
) -> Result<(BTreeMap<ResourceId, There>, Results, Appended), LedgerError> {
    let mut there = read(db, &ids(resources)).await?;
    let left = crate::groups::left(resources, |id| Some(&there.get(id)?.resource));
    beside.requesters = groups::requesters(db, &left).await?;
    let now = super::find::clock(db).await?;
    let mut events = Appended::default();
    let mut results = Vec::with_capacity(resources.len());
    for resource in resources {
        let found = there.get(&resource.id).map(|there| (&there.resource, there.presence));
        results.push(match registrar.over(found, resource) {
            Ok(judged) => one(&judged, by, now, (&mut there, &mut *beside), &mut events)?,
            Err(refused) => Err(refused.into()),
        });
    }
    Ok((there, results, events))
}

/// Change the priority of one that is registered, as it is found under its lock.
pub(super) async fn prioritize(
    ledger: &PgLedger,
    id: &ResourceId,
    priority: i16,
    by: &Actor,
) -> Result<Result<(), NotDone>, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("beginning to change a priority"))?;
    let ids = [id.to_string()];
    sqlx::query(LOCK).bind(&ids[..]).execute(&mut *tx).await.map_err(doing("locking a resource"))?;
    let mut there = read(&mut tx, &ids).await?;
    let found = there.get(id).filter(|there| there.presence == Presence::Registered);
    let Some(found) = found else { return Ok(Err(NotDone::NotRegistered(id.clone()))) };
    let resource = Resource { priority, ..found.resource.clone() };
    let now = super::find::clock(&mut tx).await?;
    let mut events = Appended::default();
    let done = one(&resource, by, now, (&mut there, &mut Beside::default()), &mut events)?;
    write(&mut tx, &there, false).await?;
    let end = events.end();
    events.write(&mut tx).await?;
    let decided = match end {
        Some(end) => review::decide(&mut tx, ledger, Some(end)).await?,
        None => None,
    };
    ledger.note(&mut tx, || done.is_ok().then_some(Note::Prioritized)).await?;
    tx.commit().await.map_err(doing("committing a priority"))?;
    ledger.known.note_decision(decided);
    Ok(done)
}

fn one(
    resource: &Resource,
    by: &Actor,
    now: Timestamp,
    (there, beside): (&mut BTreeMap<ResourceId, There>, &mut Beside),
    events: &mut Appended,
) -> Result<Result<(), NotDone>, LedgerError> {
    let old = there.get(&resource.id);
    let known = old.map(|t| (&t.resource, t.presence));
    let live = old.and_then(|t| t.live);
    let verdict = registering(known, live, resource)
        .and_then(|what| regrouping((known, resource), &beside.requesters, by).map(|()| what));
    let verdict = verdict.and_then(|what| beside.holders.check(known, resource).map(|()| what));
    let stated = (old.map(|t| &t.resource), resource);
    let what = match verdict.and_then(|what| beside.claims.may_be(what, stated, live)) {
        Err(refused) => return Ok(Err(refused)),
        Ok(Registering::Same) => {
            beside.claims.note(resource, live);
            return Ok(Ok(()));
        }
        Ok(Registering::Anew) => "registered",
        Ok(Registering::Update) => "updated",
    };
    let body = serde_json::to_value(resource)
        .map_err(|e| LedgerError::Store { doing: "writing down a resource", source: Box::new(e) })?;
    let event = LedgerEvent { at: now, what: what.to_owned(), by: by.to_string(), body };
    let head = events.add(resource.id.to_string(), old.map_or(Head::NEW, |t| t.head), &event)?;
    let after = There {
        resource: resource.clone(),
        presence: Presence::Registered,
        live,
        head,
        new: old.is_none_or(|t| t.new),
        changed: true,
    };
    there.insert(resource.id.clone(), after);
    beside.holders.note(resource);
    beside.claims.note(resource, live);
    Ok(Ok(()))
}

async fn read(db: &mut PgConnection, ids: &[String]) -> Result<BTreeMap<ResourceId, There>, LedgerError> {
    let rows = sqlx::query(THERE).bind(ids).fetch_all(db).await.map_err(doing("reading resources"))?;
    rows.iter().map(|row| parse(row).map(|there| (there.resource.id.clone(), there))).collect()
}

fn parse(row: &PgRow) -> Result<There, LedgerError> {
    let part = || doing("reading a resource");
    let id: &str = row.try_get(0).map_err(part())?;
    let resource = serde_json::from_str(row.try_get(1).map_err(part())?)
        .map_err(|e| corrupt("resources", id, e.to_string()))?;
    let presence = codes::presence(row.try_get(2).map_err(part())?)
        .ok_or_else(|| corrupt("resources", id, "unknown presence"))?;
    let hash: Hash = row.try_get(5).map_err(part())?;
    Ok(There {
        resource,
        presence,
        live: row.try_get::<Option<i64>, _>(3).map_err(part())?.map(DeletionId),
        head: Head { seq: row.try_get(4).map_err(part())?, hash },
        new: false,
        changed: false,
    })
}

async fn write(
    db: &mut PgConnection,
    there: &BTreeMap<ResourceId, There>,
    new: bool,
) -> Result<(), LedgerError> {
    let rows: Vec<&There> = there.values().filter(|t| t.changed && t.new == new).collect();
    if rows.is_empty() {
        return Ok(());
    }
    fn all<T>(rows: &[&There], column: impl Fn(&There) -> T) -> Vec<T> {
        rows.iter().map(|row| column(row)).collect()
    }
    let bodies: Vec<String> = rows.iter().map(|t| text(&t.resource)).collect::<Result<_, _>>()?;
    let done = sqlx::query(if new { INSERT } else { UPDATE })
        .bind(all(&rows, |t| t.resource.id.to_string()))
        .bind(all(&rows, |t| t.resource.id.kind.to_string()))
        .bind(all(&rows, |t| t.resource.scope.to_string()))
        .bind(all(&rows, |t| codes::of_presence(t.presence)))
        .bind(all(&rows, |t| t.resource.protected))
        .bind(bodies)
        .bind(all(&rows, |t| t.head.seq))
        .bind(all(&rows, |t| t.head.hash))
        .execute(db)
        .await
        .map_err(doing("writing resources"))?;
    all_there("resources", done.rows_affected(), rows.len())
}

async fn write_groups(db: &mut PgConnection, there: &BTreeMap<ResourceId, There>) -> Result<(), LedgerError> {
    let changed: Vec<&Resource> = there.values().filter(|t| t.changed).map(|t| &t.resource).collect();
    let ids: Vec<String> = changed.iter().map(|resource| resource.id.to_string()).collect();
    let stated = |resource: &&Resource| {
        let id = resource.id.to_string();
        resource.groups.iter().map(|name| (id.clone(), name.clone())).collect::<Vec<_>>()
    };
    groups::write(db, &ids, changed.iter().flat_map(stated).collect()).await
}

fn view(there: There) -> ResourceView {
    let There { resource, presence, live, .. } = there;
    ResourceView { resource, presence, live, holds: Vec::new() }
}

/// With their holds.
async fn views(db: &mut PgConnection, all: Vec<There>) -> Result<Vec<ResourceView>, LedgerError> {
    let ids: Vec<String> = all.iter().map(|there| there.resource.id.to_string()).collect();
    let mut holds = resource_holds::of_resources(db, &ids).await?;
    let with = |(there, id)| ResourceView { holds: holds.remove(&id).unwrap_or_default(), ..view(there) };
    Ok(all.into_iter().zip(ids).map(with).collect())
}

/// One resource.
pub(super) async fn resource(
    ledger: &PgLedger,
    id: &ResourceId,
) -> Result<Option<ResourceView>, LedgerError> {
    let mut db = ledger.pool.acquire().await.map_err(doing("reading a resource"))?;
    as_seen(&mut db, id).await
}

/// The same, as a transaction sees it.
pub(super) async fn as_seen(
    db: &mut PgConnection,
    id: &ResourceId,
) -> Result<Option<ResourceView>, LedgerError> {
    let found = read(db, &[id.to_string()]).await?.into_values().collect();
    Ok(views(db, found).await?.pop())
}

/// A page of resources.
pub(super) async fn resources(
    ledger: &PgLedger,
    filter: &ResourceFilter,
) -> Result<Page<ResourceView>, LedgerError> {
    let limit = filter.limit.clamp(1, 1000);
    let part = || doing("listing resources");
    let mut db = ledger.pool.acquire().await.map_err(part())?;
    let rows = listing(filter, limit).build().fetch_all(&mut *db).await.map_err(part())?;
    let items = rows.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let items = views(&mut db, items).await?;
    Ok(page(items, limit, |item| item.resource.id.to_string()))
}

pub(super) fn listing(filter: &ResourceFilter, limit: u32) -> QueryBuilder<Postgres> {
    let (after, most) = (filter.after.clone().unwrap_or_default(), i64::from(limit) + 1);
    let mut query = QueryBuilder::new("");
    // Scopes by their place in the index on them and ids (see `below`), and not by the one on kinds: it has others', too.
    let (order, kind) = match Through::of(filter.scope.as_ref(), filter.scopes.as_deref()) {
        Through::Everything => {
            query.push(VIEW).push("r.id > ").push_bind(after);
            ("r.id", "r.kind")
        }
        Through::One(scope) => {
            query.push(VIEW).push("r.scope <= ").push_bind(scope.to_string());
            query.push(" AND (r.scope, r.id) > (").push_bind(scope.to_string());
            query.push(", ").push_bind(after).push(")");
            ("r.scope, r.id", "r.kind || ''")
        }
        Through::Below(scopes) => {
            below::own(&mut query, "resources", scopes);
            query.push(VIEW).push("r.id = ANY(ARRAY(SELECT x.id FROM ").push(below::EACH);
            query.push(" CROSS JOIN LATERAL (SELECT x.id FROM resources x WHERE x.scope <= s.scope ");
            query.push("AND (x.scope, x.id) > (s.scope, ").push_bind(after).push(")");
            if let Some(kind) = &filter.kind {
                query.push(" AND x.kind || '' = ").push_bind(kind.to_string());
            }
            query.push(" ORDER BY x.scope, x.id LIMIT ").push_bind(most);
            query.push(") x ORDER BY x.id LIMIT ").push_bind(most).push("))");
            ("r.id", "r.kind || ''")
        }
        Through::Nothing => {
            query.push(VIEW).push("false");
            ("r.id", "r.kind")
        }
    };
    if let Some(is) = &filter.kind {
        query.push(" AND ").push(kind).push(" = ").push_bind(is.to_string());
    }
    query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(most);
    query
}

/// A page from one item more than it holds: whether there is a next one.
pub(super) fn page<T>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(key) } else { None };
    Page { items, next }
}
