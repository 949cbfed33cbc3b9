//! Pauses and pulses.
use std::sync::LazyLock;

use sexton_model::audit::{self, Hash};
use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::job::JobKind;
use sexton_model::{Actor, DeletionId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::chunk::{Bind, Chunked, change_one, execute, rows, store};
use super::codes;
use super::inventory::append;
use super::memory::{Memory, Staged, pauses};
use crate::chains::PAUSES;
use crate::rules::{self, LedgerEvent};
use crate::{Alive, LedgerError, Paused, known};

/// Pause. The writer does one transaction after the other, so nothing that dispatches overlaps it.
pub(super) async fn pause(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    (covers, by, reason): (&PauseSelector, &Actor, &str),
) -> Result<Paused, LedgerError> {
    let doing = "pausing";
    let id: i64 = sqlx::query_scalar("SELECT last_pause + 1 FROM ledger")
        .fetch_one(&mut *db)
        .await
        .map_err(store(doing))?;
    let pause =
        Pause { id, covers: covers.clone(), by: by.clone(), reason: reason.to_owned(), since: staged.now };
    let mut bind = Bind::default();
    bind.add(id).add(rules::text(&pause)?);
    execute(db, doing, "INSERT INTO pauses (id, body) VALUES (?, ?)", bind).await?;
    let sql = "UPDATE ledger SET last_pause = last_pause + 1, revision = revision + 1";
    change_one(db, (doing, "ledger"), sql, Bind::default()).await?;
    memory.pauses = None;
    memory.standing = None;
    link(db, &event(staged, "paused", by, &pause)?).await?;
    let orders_out = orders_out(db, memory, staged, &pause).await?;
    Ok(Paused { pause, orders_out })
}

/// Lift a pause; the pause that was, if there is one of that number.
pub(super) async fn resume(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &Staged,
    (id, by): (i64, &Actor),
) -> Result<Option<Pause>, LedgerError> {
    let Some(pause) = pauses(db).await?.into_iter().find(|pause| pause.id == id) else { return Ok(None) };
    let mut bind = Bind::default();
    bind.add(id);
    change_one(db, ("lifting a pause", "pauses"), "DELETE FROM pauses WHERE id = ?", bind).await?;
    memory.pauses = None;
    link(db, &event(staged, "resumed", by, &pause)?).await?;
    Ok(Some(pause))
}

fn event(staged: &Staged, what: &str, by: &Actor, pause: &Pause) -> Result<LedgerEvent, LedgerError> {
    Ok(LedgerEvent { at: staged.now, what: what.into(), by: by.to_string(), body: known::value(pause)? })
}

/// One more event of the ledger's own chain.
pub(super) async fn link(db: &mut SqliteConnection, event: &LedgerEvent) -> Result<(), LedgerError> {
    let doing = "writing down a pause";
    let row = sqlx::query("SELECT pause_seq, pause_head FROM ledger")
        .fetch_one(&mut *db)
        .await
        .map_err(store(doing))?;
    let seq: i64 = row.try_get(0).map_err(store(doing))?;
    let head: &[u8] = row.try_get(1).map_err(store(doing))?;
    let head: Hash = codes::hash("ledger", PAUSES, head)?;
    let text = rules::text(event)?;
    let head = audit::link(&head, seq + 1, text.as_bytes());
    append(db, vec![(PAUSES.to_owned(), seq + 1, text, head)]).await?;
    let mut bind = Bind::default();
    bind.add(seq + 1).add(head.to_vec());
    change_one(db, (doing, "ledger"), "UPDATE ledger SET pause_seq = ?, pause_head = ?", bind).await
}

/// Orders that are out and that the pause covers, in pieces so that no more deletions than one batch has are
/// held at once.
async fn orders_out(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    pause: &Pause,
) -> Result<u64, LedgerError> {
    let doing = "counting orders out";
    let sql = "SELECT deletion_id FROM jobs WHERE locks AND out_at IS NOT NULL";
    let mut ids = Vec::new();
    for row in rows(db, doing, sql, Bind::default()).await? {
        ids.push(DeletionId(row.try_get(0).map_err(store(doing))?));
    }
    let mut count = 0;
    for chunk in ids.chunks(1024) {
        let deletions = memory.deletions(db, staged, chunk.iter().copied()).await?;
        for (deletion, _) in deletions.values() {
            let out = deletion.jobs.iter().filter(|job| job.state.out().is_some());
            count += out
                .filter(|job| job.kind != JobKind::Restore && pause.covers.covers(deletion, job))
                .count() as u64;
        }
        staged.deletions.extend(deletions);
    }
    Ok(count)
}

static PULSES: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO instances (instance, pulsed_at) VALUES",
        2,
        "ON CONFLICT (instance) DO UPDATE SET pulsed_at = excluded.pulsed_at",
    )
});

/// A count that has grown says that something was answered since the last pulse; a new copy's says nothing yet.
static COPIES: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO copies (instance, copy, hands, answered, pulsed_at) VALUES",
        5,
        "ON CONFLICT (instance, copy) DO UPDATE SET hands = excluded.hands, answered = excluded.answered, \
         pulsed_at = excluded.pulsed_at, \
         answered_at = iif(excluded.answered > copies.answered, excluded.pulsed_at, copies.answered_at)",
    )
});

/// These copies are alive; those that ended are forgotten, since every process has a name of its own.
pub(super) async fn pulse(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &Staged,
    (alive, down_after_us): (&[Alive], i64),
) -> Result<(), LedgerError> {
    let doing = "noting pulses";
    memory.pulses = None;
    PULSES
        .execute(db, doing, alive.iter(), |one, bind| {
            bind.add(one.instance.to_string()).add(staged.now.0);
        })
        .await?;
    COPIES
        .execute(db, doing, alive.iter(), |one, bind| {
            bind.add(one.instance.to_string())
                .add(one.copy.clone())
                .add(one.hands)
                .add(i64::try_from(one.answered).unwrap_or(i64::MAX))
                .add(staged.now.0);
        })
        .await?;
    let mut bind = Bind::default();
    bind.add(staged.now.0.saturating_sub(down_after_us.saturating_mul(2)));
    execute(db, doing, "DELETE FROM copies WHERE pulsed_at < ?", bind).await?;
    Ok(())
}
