//! Pauses, ceilings and pulses.
use rusqlite::params;
use serde::Serialize;
use sexton_model::audit::{self, Hash};
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::belts::pauses::{TooManyPauses, room};
use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::decide::Event;
use sexton_model::job::JobKind;
use sexton_model::{Actor, DeletionId, JobId};

use super::connection::{Bind, Db, change_one, each, execute, row, rows, store};
use super::inventory::append;
use super::memory::{Memory, Staged, ceilings, pauses};
use super::run::Setting;
use super::{SqliteLedger, admitting, codes, find};
use crate::budget::{self, Lifting, Stopped};
use crate::chains::PAUSES;
use crate::rules::{self, LedgerEvent};
use crate::{Alive, Intent, Ledger, LedgerError, NotDone, Paused, known};

/// Jobs that one batch looks at again after a pause.
const RECHECKS: u32 = 512;

/// Pause, if there is room for one more.
pub(super) fn asked_for(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (covers, by, reason): (&PauseSelector, &Actor, &str),
) -> Result<Result<Paused, TooManyPauses>, LedgerError> {
    let doing = "counting pauses";
    let standing: i64 =
        row(db, doing, "SELECT count(*) FROM pauses", Bind::default())?.try_get(0).map_err(store(doing))?;
    match room(covers, usize::try_from(standing).unwrap_or(usize::MAX)) {
        Ok(()) => pause(db, memory, staged, (covers, by, reason)).map(Ok),
        Err(full) => Ok(Err(full)),
    }
}

/// Pause. The writer does one transaction after the other, so nothing that dispatches overlaps it.
pub(super) fn pause(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (covers, by, reason): (&PauseSelector, &Actor, &str),
) -> Result<Paused, LedgerError> {
    let doing = "pausing";
    let id: i64 = row(db, doing, "SELECT last_pause + 1 FROM ledger", Bind::default())?
        .try_get(0)
        .map_err(store(doing))?;
    let pause =
        Pause { id, covers: covers.clone(), by: by.clone(), reason: reason.to_owned(), since: staged.now };
    let mut bind = Bind::default();
    bind.add(id).add(rules::text(&pause)?);
    execute(db, doing, "INSERT INTO pauses (id, body) VALUES (?, ?)", bind)?;
    let sql = "UPDATE ledger SET last_pause = last_pause + 1, revision = revision + 1";
    change_one(db, (doing, "ledger"), sql, Bind::default())?;
    memory.in_force = None;
    memory.standing = None;
    link(db, &event(staged, "paused", by, &pause)?)?;
    let orders_out = orders_out(db, memory, staged, &pause)?;
    Ok(Paused { pause, orders_out })
}

/// Lift a pause; the pause that was, if there is one of that number. The writer does one transaction after the other, so
/// nobody holds one more by it between the look at those whose begin is approved, and its end.
pub(super) fn resume(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (setting, id, by, approved): (&Setting, i64, &Actor, Option<&str>),
) -> Result<Result<Option<Pause>, NotDone>, LedgerError> {
    let Some(pause) = pauses(db)?.into_iter().find(|pause| pause.id == id) else { return Ok(Ok(None)) };
    let stopped = admitting::stopped(db, setting, staged.now, Lifting::Pause(id))?;
    if let Err(why) = Stopped::may_resume(&stopped, by, approved) {
        return Ok(Err(why.into()));
    }
    let mut bind = Bind::default();
    bind.add(id);
    change_one(db, ("lifting a pause", "pauses"), "DELETE FROM pauses WHERE id = ?", bind)?;
    memory.in_force = None;
    link(db, &event(staged, "resumed", by, &budget::lifted(&pause, &stopped)?)?)?;
    Ok(Ok(Some(pause)))
}

/// One event of the ledger's own chain.
pub(super) fn event<T: Serialize>(
    staged: &Staged,
    what: &str,
    by: &Actor,
    body: &T,
) -> Result<LedgerEvent, LedgerError> {
    Ok(LedgerEvent { at: staged.now, what: what.into(), by: by.to_string(), body: known::value(body)? })
}

/// Set a ceiling, or take it back.
pub(super) fn set_ceiling(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (setting, new, approved): (&Setting, &NewCeiling, Option<&str>),
) -> Result<Result<(), NotDone>, LedgerError> {
    let before = ceilings(db)?;
    if let Err(why) = before.check(new) {
        return Ok(Err(why.into()));
    }
    let then = before.with(new, staged.now);
    // Whoever lowers one waits for no look at what is held.
    let stopped = match before.raised(&then, new.scope.as_ref()) {
        true => admitting::stopped(db, setting, staged.now, Lifting::Ceilings(&before, &then))?,
        false => Vec::new(),
    };
    if let Err(why) = Stopped::may_resume(&stopped, &new.by, approved) {
        return Ok(Err(why.into()));
    }
    let doing = "setting a ceiling";
    let mut bind = Bind::default();
    bind.add(new.key().to_owned());
    let sql = match new.from(staged.now) {
        Some(ceiling) => {
            bind.add(rules::text(&ceiling)?);
            "INSERT INTO ceilings (scope, body) VALUES (?, ?) \
             ON CONFLICT (scope) DO UPDATE SET body = excluded.body"
        }
        None => "DELETE FROM ceilings WHERE scope = ?",
    };
    change_one(db, (doing, "ceilings"), sql, bind)?;
    memory.in_force = None;
    link(db, &event(staged, "ceiling", &new.by, &budget::lifted(new, &stopped)?)?)?;
    Ok(Ok(()))
}

/// One more event of the ledger's own chain.
pub(super) fn link(db: &Db, event: &LedgerEvent) -> Result<(), LedgerError> {
    let doing = "writing down a pause";
    let row = row(db, doing, "SELECT pause_seq, pause_head FROM ledger", Bind::default())?;
    let seq: i64 = row.try_get(0).map_err(store(doing))?;
    let head: &[u8] = row.try_get(1).map_err(store(doing))?;
    let head: Hash = codes::hash("ledger", PAUSES, head)?;
    let text = rules::text(event)?;
    let head = audit::link(&head, seq + 1, text.as_bytes());
    append(db, vec![(PAUSES.to_owned(), seq + 1, text, head)])?;
    let mut bind = Bind::default();
    bind.add(seq + 1).add(head.to_vec());
    change_one(db, (doing, "ledger"), "UPDATE ledger SET pause_seq = ?, pause_head = ?", bind)
}

/// Orders that are out and that the pause covers, in pieces so that no more deletions than one batch has are
/// held at once.
fn orders_out(db: &Db, memory: &mut Memory, staged: &mut Staged, pause: &Pause) -> Result<u64, LedgerError> {
    let doing = "counting orders out";
    let sql = "SELECT deletion_id FROM jobs WHERE locks AND out_at IS NOT NULL";
    let mut ids = Vec::new();
    for row in rows(db, doing, sql, Bind::default())? {
        ids.push(DeletionId(row.try_get(0).map_err(store(doing))?));
    }
    let mut count = 0;
    for chunk in ids.chunks(1024) {
        let deletions = memory.deletions(db, staged, chunk.iter().copied())?;
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

const PULSE: &str = "INSERT INTO instances (instance, pulsed_at) VALUES (?, ?) \
     ON CONFLICT (instance) DO UPDATE SET pulsed_at = excluded.pulsed_at";

/// A count that has grown says that something was answered since the last pulse; a new copy's says nothing yet.
const COPY: &str = "INSERT INTO copies (instance, copy, hands, answered, pulsed_at) VALUES (?, ?, ?, ?, ?) \
     ON CONFLICT (instance, copy) DO UPDATE SET hands = excluded.hands, answered = excluded.answered, \
     pulsed_at = excluded.pulsed_at, \
     answered_at = iif(excluded.answered > copies.answered, excluded.pulsed_at, copies.answered_at)";

/// These copies are alive; those that ended are forgotten, since every process has a name of its own.
pub(super) fn pulse(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (alive, down_after_us): (&[Alive], i64),
) -> Result<(), LedgerError> {
    let doing = "noting pulses";
    memory.pulses = None;
    each(db, doing, PULSE, alive, |statement, one| {
        statement.execute(params![one.instance.to_string(), staged.now.0])
    })?;
    each(db, doing, COPY, alive, |statement, one| {
        let answered = i64::try_from(one.answered).unwrap_or(i64::MAX);
        statement.execute(params![one.instance.to_string(), one.copy, one.hands, answered, staged.now.0])
    })?;
    let mut bind = Bind::default();
    bind.add(staged.now.0.saturating_sub(down_after_us.saturating_mul(2)));
    execute(db, doing, "DELETE FROM copies WHERE pulsed_at < ?", bind)?;
    Ok(())
}

impl SqliteLedger {
    /// Look again at everything that a pause stopped.
    pub(super) async fn look_again(&self, pause: i64) -> Result<(), LedgerError> {
        let mut after = JobId(0);
        loop {
            let found =
                self.reads.read_to_ask(move |db| find::stopped_by(db, pause, after, RECHECKS)).await?;
            let Some(last) = found.last() else { return Ok(()) };
            after = *last;
            let batch = found
                .iter()
                .map(|job| Intent { deletion: job.deletion(), event: Event::Recheck { job: *job } })
                .collect();
            // A refusal means that something else has moved it on.
            self.run(batch).await?;
        }
    }
}
