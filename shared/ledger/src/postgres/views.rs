//! Looking at deletions and their trails.
use std::collections::BTreeMap;

use serde_json::Value;
use sexton_model::audit::{self, Broken, Hash};
use sexton_model::deletion::Deletion;
use sexton_model::job::StateName;
use sexton_model::{DeletionId, Instance, ResourceId};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, QueryBuilder, Row as _};

use super::error::{corrupt, doing};
use super::resources::page;
use super::{PgLedger, SNAPSHOT, below, codes, load};
use crate::view::Through;
use crate::{AuditRow, DeletionFilter, DeletionRow, DeletionView, LedgerError, Page};

const TARGETS: &str = "SELECT instance, body FROM targets WHERE deletion_id = $1 ORDER BY instance";
const TRAIL: &str = "SELECT seq, body, hash FROM audit WHERE deletion_id = $1 ORDER BY seq";
const HEAD: &str = "SELECT audit_seq, audit_head FROM deletions WHERE id = $1";
const OF_RESOURCE: &str = "SELECT id FROM (SELECT id, live FROM deletions WHERE resource = $1 \
     UNION ALL SELECT deletion_id, false FROM stubs WHERE resource = $1) r ORDER BY live DESC, id DESC LIMIT 1";
const LIST: &str = "SELECT d.id FROM deletions d WHERE ";
const NEWEST: &str = "d.id DESC";
const IN_A_SCOPE: &str = "d.scope DESC, d.id DESC";
/// States in which jobs are few: found from the jobs. Others: every deletion has such a job or it is found soon.
const WITH_LOCKED: &str = " AND d.id = ANY(ARRAY(SELECT deletion_id FROM jobs WHERE locks AND state = ";
/// Held before a stage, or stopped by a belt between two steps: then it is ready, and not in line.
const WITH_HELD: &str = " AND d.id = ANY(ARRAY(SELECT deletion_id FROM jobs WHERE held \
     UNION ALL SELECT deletion_id FROM jobs WHERE locks AND reason IS NOT NULL AND state = ";
const WITH_JOB: &str =
    " AND EXISTS (SELECT 1 FROM jobs j WHERE j.id BETWEEN d.id * 8 AND d.id * 8 + 7 AND j.state = ";

/// Everything about one deletion, as of one moment.
pub(super) async fn deletion(ledger: &PgLedger, id: DeletionId) -> Result<Option<DeletionView>, LedgerError> {
    let part = || doing("reading a deletion");
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let statements = ledger.memory.records.read(&mut tx, &[id.0]).await?;
    let found: Option<(Deletion, Hash)> = load::deletions(&mut tx, &[id.0], &statements).await?.remove(&id);
    let Some((deletion, _)) = found else { return Ok(None) };
    let targets = targets(&mut tx, id).await?;
    let audit = trail(&mut tx, id)
        .await?
        .into_iter()
        .map(|(seq, body, hash)| {
            let event = serde_json::from_str(&body)
                .map_err(|e| corrupt("audit", format!("{id} {seq}"), e.to_string()))?;
            Ok(AuditRow { seq, event, body, hash })
        })
        .collect::<Result<_, LedgerError>>()?;
    tx.commit().await.map_err(part())?;
    Ok(Some(DeletionView { deletion, targets, audit }))
}

pub(super) async fn targets(
    db: &mut PgConnection,
    id: DeletionId,
) -> Result<BTreeMap<Instance, Value>, LedgerError> {
    let part = || doing("reading targets");
    let rows = sqlx::query(TARGETS).bind(id.0).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let instance = load::instance(row.try_get(0).map_err(part())?)?;
            let value = serde_json::from_str(row.try_get(1).map_err(part())?)
                .map_err(|e| corrupt("targets", id, e.to_string()))?;
            Ok((instance, value))
        })
        .collect()
}

async fn trail(db: &mut PgConnection, id: DeletionId) -> Result<Vec<(i64, String, Hash)>, LedgerError> {
    let part = || doing("reading an audit trail");
    let rows = sqlx::query(TRAIL).bind(id.0).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            Ok((
                row.try_get(0).map_err(part())?,
                row.try_get(1).map_err(part())?,
                row.try_get(2).map_err(part())?,
            ))
        })
        .collect()
}

/// Check a chain against its head; a deletion that does not exist has an empty one.
pub(super) async fn verify_chain(
    ledger: &PgLedger,
    id: DeletionId,
) -> Result<Result<(), Broken>, LedgerError> {
    let part = || doing("checking an audit trail");
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let head = sqlx::query(HEAD).bind(id.0).fetch_optional(&mut *tx).await.map_err(part())?;
    let head = match head {
        Some(row) => (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?),
        None => (0, audit::GENESIS),
    };
    let events = trail(&mut tx, id).await?;
    tx.commit().await.map_err(part())?;
    Ok(audit::verify(events.iter().map(|(seq, body, hash)| (*seq, body.as_bytes(), *hash)), head))
}

/// The live record of a resource, else its latest one, which may be archived.
pub(super) async fn deletion_of(
    ledger: &PgLedger,
    resource: &ResourceId,
) -> Result<Option<DeletionId>, LedgerError> {
    let id: Option<i64> = sqlx::query_scalar(OF_RESOURCE)
        .bind(resource.to_string())
        .fetch_optional(&ledger.pool)
        .await
        .map_err(doing("looking for a resource's record"))?;
    Ok(id.map(DeletionId))
}

/// A page of deletions, newest first.
pub(super) async fn deletions(
    ledger: &PgLedger,
    filter: &DeletionFilter,
) -> Result<Page<DeletionRow>, LedgerError> {
    let part = || doing("listing deletions");
    let limit = filter.limit.clamp(1, 1000);
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let rows = listing(filter, limit).build().fetch_all(&mut *tx).await.map_err(part())?;
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>().map_err(part())?;
    let page = page(ids, limit, |id| DeletionId(*id).to_string());
    let statements = ledger.memory.records.read(&mut tx, &page.items).await?;
    let mut found = load::deletions(&mut tx, &page.items, &statements).await?;
    tx.commit().await.map_err(part())?;
    let row = |id: &i64| found.remove(&DeletionId(*id)).map(|(deletion, _)| DeletionRow::of(deletion));
    let items = page.items.iter().filter_map(row).collect();
    Ok(Page { items, next: page.next })
}

pub(super) fn listing(filter: &DeletionFilter, limit: u32) -> QueryBuilder<Postgres> {
    // An `after` that is no deletion's id is behind all of them.
    let before = match filter.after.as_deref() {
        None => i64::MAX,
        Some(text) => text.parse::<DeletionId>().map_or(0, |id| id.0),
    };
    let most = i64::from(limit) + 1;
    let through = Through::of(filter.scope.as_ref(), filter.scopes.as_deref());
    let mut query = QueryBuilder::new("");
    if let Through::Below(scopes) = through {
        below::own(&mut query, "deletions", scopes);
        query.push("SELECT o.id FROM ").push(below::EACH).push(" CROSS JOIN LATERAL (");
    }
    query.push(LIST);
    // Scopes by their place in the index on them and ids (see `below`), and not by those on status and kind: they have others', too.
    let (order, status, kind) = match through {
        Through::Everything => {
            query.push("d.id < ").push_bind(before);
            (NEWEST, "d.status", "d.kind")
        }
        Through::One(scope) => {
            query.push("d.scope >= ").push_bind(scope.to_string());
            query.push(" AND (d.scope, d.id) < (").push_bind(scope.to_string());
            query.push(", ").push_bind(before).push(")");
            (IN_A_SCOPE, "d.status + 0", "d.kind || ''")
        }
        Through::Below(_) => {
            query.push("d.scope >= s.scope AND (d.scope, d.id) < (s.scope, ").push_bind(before).push(")");
            (IN_A_SCOPE, "d.status + 0", "d.kind || ''")
        }
        Through::Nothing => {
            query.push("false");
            (NEWEST, "d.status", "d.kind")
        }
    };
    if let Some(is) = filter.status {
        query.push(" AND ").push(status).push(" = ").push_bind(codes::of_status(is));
    }
    if let Some(is) = &filter.kind {
        query.push(" AND ").push(kind).push(" = ").push_bind(is.to_string());
    }
    if let Some(state) = filter.state {
        let (clause, state, end) = match state {
            StateName::Held => (WITH_HELD, StateName::Ready, "))"),
            StateName::Scheduled | StateName::Done | StateName::Cancelled | StateName::Rescued => {
                (WITH_JOB, state, ")")
            }
            StateName::Ready
            | StateName::Running
            | StateName::Waiting
            | StateName::Cancelling
            | StateName::Parked => (WITH_LOCKED, state, "))"),
        };
        query.push(clause).push_bind(crate::row::code(state)).push(end);
    }
    query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(most);
    if let Through::Below(_) = through {
        query.push(") o ORDER BY o.id DESC LIMIT ").push_bind(most);
    }
    query
}
