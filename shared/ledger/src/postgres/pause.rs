//! Pauses and ceilings: in force when the call returns, because the gate is taken alone.
use serde::Serialize;
use sexton_model::belts::ceiling::{Ceilings, NewCeiling, ScopeCeiling};
use sexton_model::belts::pauses::room;
use sexton_model::belts::{InForce, Pause, PauseSelector};
use sexton_model::{Actor, JobId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::chain::{Appended, Head};
use super::error::{all_there, corrupt, doing};
use super::{PgLedger, admit, find, load, one_shots, review, run};
use crate::budget::{self, Lifting, Stopped};
use crate::chains::PAUSES;
use crate::keys::Note;
use crate::rules::{LedgerEvent, text};
use crate::{LedgerError, NotDone, Paused, known};

/// Waits for every transaction that dispatches, and keeps new ones out until the pause is committed.
const GATE_ALONE: &str = "SELECT pg_advisory_xact_lock($1)";
/// The ledger's row orders pauses among each other.
const LOCK: &str = "SELECT 1 FROM ledger FOR UPDATE";
const HEAD: &str = "SELECT pause_seq, pause_head FROM ledger";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM pauses";
const STANDING: &str = "SELECT count(*) FROM pauses WHERE NOT lifted";
const INSERT: &str = "INSERT INTO pauses (id, body) VALUES ($1, $2)";
const REVISE: &str = "UPDATE ledger SET revision = revision + 1";
const ADVANCE: &str = "UPDATE ledger SET pause_seq = $1, pause_head = $2";
const IN_FORCE: &str = "SELECT body FROM pauses WHERE NOT lifted ORDER BY id";
const ONE: &str = "SELECT body FROM pauses WHERE id = $1 AND NOT lifted";
const LIFT: &str = "UPDATE pauses SET lifted = true WHERE id = $1 AND NOT lifted";
const CEILINGS: &str = "SELECT scope, body FROM ceilings ORDER BY scope";
const SET_CEILING: &str = "INSERT INTO ceilings (scope, body) VALUES ($1, $2) \
     ON CONFLICT (scope) DO UPDATE SET body = excluded.body";
const TAKE_BACK: &str = "DELETE FROM ceilings WHERE scope = $1";
const ORDERS_OUT: &str = "SELECT count(*) FROM jobs j JOIN deletions d ON d.id = j.deletion_id \
     WHERE j.locks AND j.out_at IS NOT NULL AND j.rank > 0 \
     AND ($1::bigint IS NULL OR j.id % 8 = $1) AND ($2::text IS NULL OR d.kind = $2) \
     AND ($3::text IS NULL OR d.scope = $3 OR starts_with(d.scope, $3 || '/')) \
     AND ($4::text IS NULL OR split_part(j.out_at, '.', 1) = $4)";
/// Only a blocker is JSON, so the reason is read as such under the right state alone.
/// Both halves by their partial indexes: in the order of the ids of all jobs the planner would walk over those that
/// are over, too.
const STOPPED_BY: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT id, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT id FROM (SELECT id, reason FROM jobs WHERE held AND id > $2 \
       UNION ALL SELECT id, reason FROM blocked WHERE id > $2) s \
     WHERE (reason::json ->> 'pause')::bigint = $1 ORDER BY id LIMIT $3";

/// Jobs looked at again in one transaction when a pause is lifted.
const RECHECKS: i64 = 512;

/// Pause, if there is room for one more; waits for transactions that dispatch right now.
pub(super) async fn pause(
    ledger: &PgLedger,
    covers: PauseSelector,
    by: &Actor,
    reason: &str,
) -> Result<Paused, LedgerError> {
    let part = || doing("pausing");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    lock(&mut tx).await?;
    let standing: i64 = sqlx::query_scalar(STANDING).fetch_one(&mut *tx).await.map_err(part())?;
    room(&covers, usize::try_from(standing).unwrap_or(usize::MAX))?;
    let paused = locked(&mut tx, covers, by, reason).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::Paused(paused.pause.clone(), paused.orders_out))).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(paused)
}

/// The same for whoever has the [`lock`]. It is known once it was decided ([`review::decide`]) and is committed: not by the revision
/// alone, which may be that of another job table, or of an older one.
pub(super) async fn locked(
    db: &mut PgConnection,
    covers: PauseSelector,
    by: &Actor,
    reason: &str,
) -> Result<Paused, LedgerError> {
    let part = || doing("pausing");
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *db).await.map_err(part())?;
    let since = find::clock(db).await?;
    let pause = Pause { id: last + 1, covers, by: by.clone(), reason: reason.to_owned(), since };
    sqlx::query(INSERT).bind(pause.id).bind(text(&pause)?).execute(&mut *db).await.map_err(part())?;
    append(db, &event("paused", by, since, &pause)?).await?;
    let done = sqlx::query(REVISE).execute(&mut *db).await.map_err(part())?;
    all_there("ledger", done.rows_affected(), 1)?;
    let orders_out = orders_out(db, &pause.covers).await?;
    Ok(Paused { pause, orders_out })
}

/// The gate alone, then the ledger's row.
pub(super) async fn lock(db: &mut PgConnection) -> Result<(), LedgerError> {
    let part = || doing("taking the gate alone");
    gate_alone(db).await?;
    sqlx::query(LOCK).execute(&mut *db).await.map_err(part())?;
    Ok(())
}

/// The gate alone: no batch overlaps this transaction.
pub(super) async fn gate_alone(db: &mut PgConnection) -> Result<(), LedgerError> {
    let taken = sqlx::query(GATE_ALONE).bind(load::GATE).execute(&mut *db).await;
    taken.map(drop).map_err(doing("taking the gate alone"))
}

/// Lift a pause and look again at what it stopped. With the gate alone: nobody holds one more by it between the look at
/// those whose begin is approved, and its end.
pub(super) async fn resume(
    ledger: &PgLedger,
    (id, by): (i64, &Actor),
    approved: Option<&str>,
) -> Result<Result<bool, NotDone>, LedgerError> {
    let part = || doing("lifting a pause");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    lock(&mut tx).await?;
    let found: Option<String> =
        sqlx::query_scalar(ONE).bind(id).fetch_optional(&mut *tx).await.map_err(part())?;
    let Some(body) = found else {
        tx.rollback().await.map_err(part())?;
        return Ok(Ok(false));
    };
    let stopped = admit::stopped(&mut tx, ledger, Lifting::Pause(id)).await?;
    if let Err(why) = Stopped::may_resume(&stopped, by, approved) {
        tx.rollback().await.map_err(part())?;
        return Ok(Err(why.into()));
    }
    let pause: Pause = serde_json::from_str(&body).map_err(|e| corrupt("pauses", id, e.to_string()))?;
    let now = find::clock(&mut tx).await?;
    let done = sqlx::query(LIFT).bind(id).execute(&mut *tx).await.map_err(part())?;
    all_there("pauses", done.rows_affected(), 1)?;
    append(&mut tx, &event("resumed", by, now, &budget::lifted(&pause, &stopped)?)?).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::Resumed)).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    // The pause is lifted whatever comes of this; what an error leaves out is found by the next round, which begins
    // at once.
    ledger.held.again();
    ledger.stuck.again();
    if let Err(error) = recheck(&ledger.itself(), id).await {
        tracing::warn!(error = %error, pause = id, "lifted; what it stopped is looked at later");
    }
    Ok(Ok(true))
}

/// Look at everything a pause stopped, in the order of its ids.
async fn recheck(ledger: &PgLedger, pause: i64) -> Result<(), LedgerError> {
    let mut after = 0;
    loop {
        let ids: Vec<i64> = sqlx::query_scalar(STOPPED_BY)
            .bind(pause)
            .bind(after)
            .bind(RECHECKS)
            .fetch_all(&ledger.pool)
            .await
            .map_err(doing("looking what a pause stopped"))?;
        let Some(last) = ids.last().copied() else { return Ok(()) };
        after = last;
        // What does not go on now was stopped by something else or has gone on already.
        let _ = run::run(ledger, ids.into_iter().map(|id| find::recheck(JobId(id))).collect()).await?;
    }
}

/// One event of the ledger's own chain.
pub(super) fn event<T: Serialize>(
    what: &str,
    by: &Actor,
    at: Timestamp,
    body: &T,
) -> Result<LedgerEvent, LedgerError> {
    Ok(LedgerEvent { at, what: what.to_owned(), by: by.to_string(), body: known::value(body)? })
}

/// One more event of the ledger's own chain. Whoever calls it has locked the ledger's row.
pub(super) async fn append(db: &mut PgConnection, event: &LedgerEvent) -> Result<(), LedgerError> {
    let part = || doing("writing the chain of pauses");
    let row = sqlx::query(HEAD).fetch_one(&mut *db).await.map_err(part())?;
    let head = Head { seq: row.try_get(0).map_err(part())?, hash: row.try_get(1).map_err(part())? };
    let mut events = Appended::default();
    let head = events.add(PAUSES.to_owned(), head, event)?;
    events.write(db).await?;
    let done = sqlx::query(ADVANCE).bind(head.seq).bind(head.hash).execute(db).await.map_err(part())?;
    all_there("ledger", done.rows_affected(), 1)
}

/// The same, for whoever has not locked the ledger's row.
pub(super) async fn append_alone(db: &mut PgConnection, event: &LedgerEvent) -> Result<(), LedgerError> {
    sqlx::query(LOCK).execute(&mut *db).await.map_err(doing("locking the ledger"))?;
    append(db, event).await
}

async fn orders_out(db: &mut PgConnection, covers: &PauseSelector) -> Result<u64, LedgerError> {
    let count: i64 = sqlx::query_scalar(ORDERS_OUT)
        .bind(covers.stage.map(|stage| i64::from(stage.index())))
        .bind(covers.kind.as_ref().map(ToString::to_string))
        .bind(covers.scope.as_ref().map(ToString::to_string))
        .bind(covers.subsystem.as_ref().map(ToString::to_string))
        .fetch_one(db)
        .await
        .map_err(doing("counting orders under a pause"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Set a ceiling, or take it back; waits for transactions that dispatch right now.
pub(super) async fn set_ceiling(
    ledger: &PgLedger,
    new: &NewCeiling,
    approved: Option<&str>,
) -> Result<Result<(), NotDone>, LedgerError> {
    let part = || doing("setting a ceiling");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    lock(&mut tx).await?;
    let before = ceilings(&mut tx).await?;
    if let Err(why) = before.check(new) {
        tx.rollback().await.map_err(part())?;
        return Ok(Err(why.into()));
    }
    let now = find::clock(&mut tx).await?;
    let then = before.with(new, now);
    // Whoever lowers one waits for no look at what is held.
    let stopped = match before.raised(&then, new.scope.as_ref()) {
        true => admit::stopped(&mut tx, ledger, Lifting::Ceilings(&before, &then)).await?,
        false => Vec::new(),
    };
    if let Err(why) = Stopped::may_resume(&stopped, &new.by, approved) {
        tx.rollback().await.map_err(part())?;
        return Ok(Err(why.into()));
    }
    let done = match new.from(now) {
        Some(ceiling) => {
            sqlx::query(SET_CEILING).bind(new.key()).bind(text(&ceiling)?).execute(&mut *tx).await
        }
        None => sqlx::query(TAKE_BACK).bind(new.key()).execute(&mut *tx).await,
    };
    all_there("ceilings", done.map_err(part())?.rows_affected(), 1)?;
    append(&mut tx, &event("ceiling", &new.by, now, &budget::lifted(new, &stopped)?)?).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::CeilingSet)).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    // The next round looks at what it lets go on, and begins at once.
    ledger.held.again();
    ledger.stuck.again();
    Ok(Ok(()))
}

/// How far deletions may go.
pub(super) async fn ceilings(db: &mut PgConnection) -> Result<Ceilings, LedgerError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as(CEILINGS).fetch_all(db).await.map_err(doing("reading ceilings"))?;
    let parse = |(scope, body): (String, String)| {
        serde_json::from_str::<ScopeCeiling>(&body).map_err(|e| corrupt("ceilings", scope, e.to_string()))
    };
    rows.into_iter().map(parse).collect()
}

/// Pauses and ceilings.
pub(super) async fn in_force(db: &mut PgConnection) -> Result<InForce, LedgerError> {
    Ok(InForce {
        pauses: pauses(db).await?,
        ceilings: ceilings(db).await?,
        one_shots: one_shots::good(db).await?,
    })
}

/// Pauses in force.
pub(super) async fn pauses(db: &mut PgConnection) -> Result<Vec<Pause>, LedgerError> {
    let bodies: Vec<String> =
        sqlx::query_scalar(IN_FORCE).fetch_all(db).await.map_err(doing("reading pauses"))?;
    let parse = |body: &String| serde_json::from_str(body);
    bodies.iter().map(parse).collect::<Result<_, _>>().map_err(|e| corrupt("pauses", "?", e.to_string()))
}
