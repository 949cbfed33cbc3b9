//! Holds on resources: in force when the call returns, because the gate is taken alone. They are read anew with every
//! batch, like protection: the chain that tells whether a remembered deletion is still right does not know them.
use std::collections::HashMap;

use serde_json::json;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::deletion::Hold;
use sexton_model::{Actor, DeletionId, ResourceId};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::chain::{Appended, Head};
use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find, pause, review};
use crate::keys::Note;
use crate::rules::{LedgerEvent, releasing, text};
use crate::{LedgerError, NotDone, known};

const HEAD: &str = "SELECT audit_seq, audit_head FROM resources WHERE id = $1 FOR NO KEY UPDATE";
const ADVANCE: &str = "UPDATE resources SET audit_seq = $2, audit_head = $3 WHERE id = $1";
const STANDING: &str = "SELECT body FROM resource_holds WHERE resource = $1 ORDER BY id";
const OF_RESOURCES: &str =
    "SELECT resource, body FROM resource_holds WHERE resource = ANY($1) ORDER BY resource, id";
const INSERT: &str = "INSERT INTO resource_holds (resource, id, body) VALUES ($1, $2, $3)";
const DELETE: &str = "DELETE FROM resource_holds WHERE resource = $1 AND id = ANY($2)";
const LIVE: &str = "SELECT id FROM deletions WHERE resource = $1 AND live";
const REQUESTERS: &str =
    "SELECT deletion_id, body::json ->> 'requested_by' FROM records WHERE deletion_id = ANY($1)";
const OF_DELETIONS: &str = "SELECT d.id, h.body FROM resource_holds h JOIN deletions d ON d.resource = h.resource \
     WHERE d.id = ANY($1) ORDER BY d.id, h.id";

fn parse(resource: &str, body: &str) -> Result<Hold, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("resource_holds", resource, e.to_string()))
}

async fn standing(db: &mut PgConnection, resource: &str) -> Result<Vec<Hold>, LedgerError> {
    let part = || doing("reading the holds of a resource");
    let bodies: Vec<String> =
        sqlx::query_scalar(STANDING).bind(resource).fetch_all(db).await.map_err(part())?;
    bodies.iter().map(|body| parse(resource, body)).collect()
}

/// Hold a resource; waits for transactions that dispatch right now.
pub(super) async fn place(ledger: &PgLedger, new: &NewHold) -> Result<Result<Hold, NotDone>, LedgerError> {
    let part = || doing("holding a resource");
    let resource = new.resource.to_string();
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::gate_alone(&mut tx).await?;
    let Some(head) = head(&mut tx, &resource).await? else {
        return Ok(Err(NotDone::NotRegistered(new.resource.clone())));
    };
    let now = find::clock(&mut tx).await?;
    let hold = match new.place(head.seq, standing(&mut tx, &resource).await?.len(), now) {
        Ok(hold) => hold,
        Err(why) => return Ok(Err(why.into())),
    };
    let query = sqlx::query(INSERT).bind(&resource).bind(hold.id).bind(text(&hold)?);
    query.execute(&mut *tx).await.map_err(part())?;
    let body = known::value(&hold)?;
    let event = LedgerEvent { at: now, what: "hold_placed".into(), by: new.by.to_string(), body };
    let end = append(&mut tx, resource, head, &event).await?;
    let decided = review::decide(&mut tx, ledger, Some(end)).await?;
    ledger.note(&mut tx, || Some(Note::Held(hold.clone()))).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(Ok(hold))
}

/// Holds that were released, and the resource's live record.
type Released = Result<(Vec<Hold>, Option<DeletionId>), NotDone>;

/// Who asked for these deletions.
async fn requesters(
    db: &mut PgConnection,
    deletions: &[DeletionId],
) -> Result<HashMap<DeletionId, Actor>, LedgerError> {
    if deletions.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<i64> = deletions.iter().map(|deletion| deletion.0).collect();
    let part = || doing("reading who asked for deletions");
    let rows: Vec<(i64, String)> = sqlx::query_as(REQUESTERS).bind(ids).fetch_all(db).await.map_err(part())?;
    let one = |(id, by): (i64, String)| {
        Ok((DeletionId(id), by.parse().map_err(|_| corrupt("records", id, "not an actor"))?))
    };
    rows.into_iter().map(one).collect()
}

/// Release holds of a resource. Records of it are made under the same lock.
pub(super) async fn release(
    ledger: &PgLedger,
    (resource, which, by): (&ResourceId, &Which, &Actor),
) -> Result<Released, LedgerError> {
    let part = || doing("releasing a resource");
    let resource = resource.to_string();
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    let Some(head) = head(&mut tx, &resource).await? else { return Ok(Ok((Vec::new(), None))) };
    let mut released = standing(&mut tx, &resource).await?;
    released.retain(|hold| which.covers(hold));
    if released.is_empty() {
        return Ok(Ok((released, None)));
    }
    let live: Option<i64> =
        sqlx::query_scalar(LIVE).bind(&resource).fetch_optional(&mut *tx).await.map_err(part())?;
    let live = live.map(DeletionId);
    let requested_by = requesters(&mut tx, live.as_slice()).await?.into_values().next();
    if let Err(why) = releasing(&released, requested_by.as_ref(), by) {
        return Ok(Err(why));
    }
    let ids: Vec<i64> = released.iter().map(|hold| hold.id).collect();
    let done = sqlx::query(DELETE).bind(&resource).bind(&ids).execute(&mut *tx).await.map_err(part())?;
    all_there("resource_holds", done.rows_affected(), ids.len())?;
    let (at, body) = (find::clock(&mut tx).await?, json!({ "holds": known::value(&released)? }));
    let event = LedgerEvent { at, what: "hold_released".into(), by: by.to_string(), body };
    let end = append(&mut tx, resource, head, &event).await?;
    let decided = review::decide(&mut tx, ledger, Some(end)).await?;
    ledger.note(&mut tx, || Some(Note::Released(released.clone()))).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(Ok((released, live)))
}

/// The end of a resource's chain; its row is locked.
async fn head(db: &mut PgConnection, resource: &str) -> Result<Option<Head>, LedgerError> {
    let part = || doing("locking a resource");
    let row = sqlx::query(HEAD).bind(resource).fetch_optional(db).await.map_err(part())?;
    let head = |row: sqlx::postgres::PgRow| {
        Ok(Head { seq: row.try_get(0).map_err(part())?, hash: row.try_get(1).map_err(part())? })
    };
    row.map(head).transpose()
}

/// One more event of a resource's chain; that chain, and its new end.
async fn append(
    db: &mut PgConnection,
    resource: String,
    head: Head,
    event: &LedgerEvent,
) -> Result<(String, Head), LedgerError> {
    let mut events = Appended::default();
    let head = events.add(resource.clone(), head, event)?;
    events.write(db).await?;
    let query = sqlx::query(ADVANCE).bind(&resource).bind(head.seq).bind(head.hash);
    let done = query.execute(db).await.map_err(doing("writing a resource's chain"))?;
    all_there("resources", done.rows_affected(), 1)?;
    Ok((resource, head))
}

/// The holds of these resources.
pub(super) async fn of_resources(
    db: &mut PgConnection,
    resources: &[String],
) -> Result<HashMap<String, Vec<Hold>>, LedgerError> {
    let part = || doing("reading the holds of resources");
    let rows: Vec<(String, String)> =
        sqlx::query_as(OF_RESOURCES).bind(resources).fetch_all(db).await.map_err(part())?;
    let mut holds: HashMap<String, Vec<Hold>> = HashMap::new();
    for (resource, body) in rows {
        let hold = parse(&resource, &body)?;
        holds.entry(resource).or_default().push(hold);
    }
    Ok(holds)
}

/// The same of a batch's deletions, as its facts have them: the deletion, a space, and the hold.
pub(super) fn from_facts(rows: &[String]) -> Result<HashMap<String, Vec<Hold>>, LedgerError> {
    let mut holds: HashMap<String, Vec<Hold>> = HashMap::new();
    for row in rows {
        let bad = || corrupt("resource_holds", row.as_str(), "expected a resource and a hold");
        // No name of a resource has a space in it.
        let (resource, body) = row.split_once(' ').ok_or_else(bad)?;
        holds.entry(resource.to_owned()).or_default().push(parse(resource, body)?);
    }
    Ok(holds)
}

/// The holds of these deletions' resources, as they are now.
pub(super) async fn of_deletions(
    db: &mut PgConnection,
    deletions: &[i64],
) -> Result<HashMap<i64, Vec<Hold>>, LedgerError> {
    let part = || doing("reading the holds of resources");
    let rows: Vec<(i64, String)> =
        sqlx::query_as(OF_DELETIONS).bind(deletions).fetch_all(db).await.map_err(part())?;
    let mut holds: HashMap<i64, Vec<Hold>> = HashMap::new();
    for (deletion, body) in rows {
        holds.entry(deletion).or_default().push(parse("of a deletion", &body)?);
    }
    Ok(holds)
}
