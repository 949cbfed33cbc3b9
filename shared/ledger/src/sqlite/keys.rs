//! Keys of requests.
use std::sync::Arc;

use async_trait::async_trait;
use sexton_model::Timestamp;
use sexton_model::request_key::{
    ANSWER_MAX_BYTES, Attempt, HELD_US, KEPT_US, KEYS_MAX, KeptAnswer, Keyed, SWEPT_MAX, Standing, Verdict,
    judge,
};

use super::connection::{Bind, Db, Row, change_one, execute, rows, store};
use super::writer::{Answer, Work};
use super::{SqliteLedger, access, alarms, codes, mixed_up};
use crate::bounds::within;
use crate::keys::{Held, Keys, Note, stored, was_sent_before};
use crate::{AlarmSeen, Ledger, LedgerError, Revocation};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Hold(Keyed),
    Keep(Attempt, KeptAnswer),
    LetGo(Attempt),
    Forget,
}

/// What it answers, in the same order.
#[expect(clippy::large_enum_variant, reason = "there is one of a request, and it is taken apart at once")]
#[derive(Debug)]
pub(super) enum Done {
    Hold(Held),
    Keep(bool),
    LetGo,
    Forget(u64),
}

const STANDING: &str = "SELECT request, attempt, first_sent, held_until, note, status, answer FROM request_keys \
     WHERE actor = ? AND key = ?";
const SET: &str = "INSERT INTO request_keys (actor, key, request, attempt, first_sent, held_until) \
     VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (actor, key) DO UPDATE SET request = excluded.request, \
     attempt = excluded.attempt, first_sent = excluded.first_sent, held_until = excluded.held_until, note = NULL, \
     status = NULL, answer = NULL";
const AGAIN: &str = "UPDATE request_keys SET attempt = ?, held_until = ? WHERE actor = ? AND key = ?";
const COUNTED: &str = "SELECT keys FROM request_actors WHERE actor = ?";
const COUNT: &str = "INSERT INTO request_actors (actor, keys) VALUES (?, 1) \
     ON CONFLICT (actor) DO UPDATE SET keys = keys + 1";
const NOTE: &str = "UPDATE request_keys SET note = ? \
     WHERE actor = ? AND key = ? AND attempt = ? AND note IS NULL AND answer IS NULL";
const ANSWER: &str = "UPDATE request_keys SET status = ?, answer = ? \
     WHERE actor = ? AND key = ? AND attempt = ? AND answer IS NULL";
const LET_GO: &str = "UPDATE request_keys SET held_until = 0 \
     WHERE actor = ? AND key = ? AND attempt = ? AND answer IS NULL";
const OLD: &str = "SELECT actor, key FROM request_keys \
     WHERE first_sent <= ? AND (answer IS NOT NULL OR held_until <= ?) ORDER BY first_sent LIMIT ?";
const FORGET: &str = "DELETE FROM request_keys WHERE actor = ? AND key = ?";
const FEWER: &str = "UPDATE request_actors SET keys = keys - 1 WHERE actor = ?";
const FORGET_ACTOR: &str = "DELETE FROM request_actors WHERE actor = ? AND keys = 0";

/// Whoever held a key was of a process that has ended: for whoever has just locked the file.
pub(super) fn let_all_go(db: &Db) -> Result<(), LedgerError> {
    let sql = "UPDATE request_keys SET held_until = 0 WHERE answer IS NULL AND held_until > 0";
    execute(db, "letting go of the keys of requests", sql, Bind::default()).map(drop)
}

/// Do it, at `now`.
pub(super) fn carry_out(db: &Db, now: Timestamp, ask: &Ask) -> Result<Done, LedgerError> {
    Ok(match ask {
        Ask::Hold(keyed) => Done::Hold(hold(db, now, keyed)?),
        Ask::Keep(attempt, answer) => {
            let mut bind = Bind::default();
            bind.add(i64::from(answer.status)).add(answer.body.clone());
            of(&mut bind, attempt).add(attempt.number);
            Done::Keep(execute(db, "keeping the answer to a request", ANSWER, bind)? == 1)
        }
        Ask::LetGo(attempt) => {
            let mut bind = Bind::default();
            of(&mut bind, attempt).add(attempt.number);
            execute(db, "letting go of a request's key", LET_GO, bind)?;
            Done::LetGo
        }
        Ask::Forget => Done::Forget(forget(db, now)?),
    })
}

fn of<'a>(bind: &'a mut Bind, attempt: &Attempt) -> &'a mut Bind {
    bind.add(attempt.actor.to_string()).add(attempt.key.to_string())
}

/// Note at the key of an attempt what its transaction does.
///
/// # Errors
/// [`LedgerError::Overtaken`] if it may not be committed.
pub(super) fn note(db: &Db, attempt: Option<&Attempt>, answer: &Answer) -> Result<(), LedgerError> {
    let Some(attempt) = attempt else { return Ok(()) };
    let Some(note) = note_of(answer) else { return Ok(()) };
    let mut bind = Bind::default();
    bind.add(stored(&note)?);
    of(&mut bind, attempt).add(attempt.number);
    match execute(db, "noting a change at its request's key", NOTE, bind)? {
        1 => Ok(()),
        _ => Err(LedgerError::Overtaken),
    }
}

fn done_of<T: Clone, E>(done: &Result<T, E>) -> Option<T> {
    done.as_ref().ok().cloned()
}

/// What a command has changed; nothing if it was refused, or is no request's.
fn note_of(answer: &Answer) -> Option<Note> {
    match answer {
        Answer::Run(results) => Note::of_run(results),
        Answer::Register(results) => Note::of_register(results),
        Answer::Create(results) => Note::of_create(results),
        Answer::Pause(paused) => {
            paused.as_ref().ok().map(|paused| Note::Paused(paused.pause.clone(), paused.orders_out))
        }
        Answer::Resume(lifted) => matches!(lifted, Ok(Some(_))).then_some(Note::Resumed),
        Answer::Ceiling(done) => done.as_ref().ok().map(|()| Note::CeilingSet),
        Answer::Census(done) => done_of(done).map(Note::CensusTaken),
        Answer::GiveOneShot(done) => done_of(done).map(Note::Overridden),
        Answer::TakeBackOneShot(done) => done.then_some(Note::TakenBack),
        Answer::HoldResource(done) => done_of(done).map(Note::Held),
        Answer::ReleaseResource(done) => {
            let released = done.as_ref().ok().filter(|(holds, _)| !holds.is_empty());
            released.map(|(holds, _)| Note::Released(holds.clone()))
        }
        Answer::Approve(done) => done.as_ref().ok().map(|members| Note::Approved(members.len() as u64)),
        Answer::Accept(accepted) => accepted.then_some(Note::Accepted),
        Answer::Access(access::Done::Issue(issued)) => {
            issued.as_ref().ok().map(|token| Note::TokenIssued(token.name.clone()))
        }
        Answer::Access(access::Done::Revoke(Revocation::Done(token))) => {
            Some(Note::TokenRevoked(Box::new(token.clone())))
        }
        Answer::Prioritize(done) => done.as_ref().ok().map(|()| Note::Prioritized),
        Answer::Alarms(alarms::Done::Acknowledged(AlarmSeen::Done(_))) => Some(Note::AlarmSeen),
        Answer::Access(access::Done::Revoke(_) | access::Done::Refused)
        | Answer::CheckResources(_)
        | Answer::Alarms(_)
        | Answer::Admit(_)
        | Answer::Pulse
        | Answer::Checkpoint(_)
        | Answer::Confront(..)
        | Answer::Attest(_)
        | Answer::Archive(_)
        | Answer::Receipts(_)
        | Answer::Keys(_)
        | Answer::Canary(_)
        | Answer::TryCanary(_)
        | Answer::Drill(_)
        | Answer::Survey(_)
        | Answer::Listing(_)
        | Answer::Listed(_)
        | Answer::Compare(_) => None,
    }
}

/// What is there under a key.
fn there(db: &Db, keyed: &Keyed) -> Result<Option<(Standing, Option<Note>)>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(keyed.actor.to_string()).add(keyed.key.to_string());
    rows(db, "looking for a request's key", STANDING, bind)?.first().map(parse).transpose()
}

fn hold(db: &Db, now: Timestamp, keyed: &Keyed) -> Result<Held, LedgerError> {
    let doing = "holding a request's key";
    let found = there(db, keyed)?;
    let (standing, note) = found.map_or((None, None), |(standing, note)| (Some(standing), note));
    let (known, sent) = (standing.is_some(), standing.as_ref().map_or(now, |there| there.first_sent));
    let until = now.0.saturating_add(HELD_US);
    let attempt = |number, first_sent| Attempt {
        actor: keyed.actor.clone(),
        key: keyed.key.clone(),
        number,
        first_sent,
    };
    Ok(match judge(standing, &keyed.request, now) {
        Verdict::Answered(answer) => Held::Answered(answer),
        Verdict::Busy => Held::Busy,
        Verdict::Other => Held::Other,
        Verdict::Again { attempt: number } => {
            let mut bind = Bind::default();
            bind.add(number).add(until).add(keyed.actor.to_string()).add(keyed.key.to_string());
            change_one(db, (doing, "request_keys"), AGAIN, bind)?;
            Held::By(attempt(number, sent), note)
        }
        Verdict::First { attempt: number } => {
            if !known {
                let mut bind = Bind::default();
                bind.add(keyed.actor.to_string());
                let found = rows(db, doing, COUNTED, bind)?;
                let keys = found.first().map(|row| row.try_get(0).map_err(store(doing))).transpose()?;
                if keys.unwrap_or(0_i64) >= KEYS_MAX {
                    return Ok(Held::TooMany);
                }
                let mut bind = Bind::default();
                bind.add(keyed.actor.to_string());
                change_one(db, (doing, "request_actors"), COUNT, bind)?;
            }
            let mut bind = Bind::default();
            bind.add(keyed.actor.to_string()).add(keyed.key.to_string()).add(keyed.request.to_vec());
            bind.add(number).add(now.0).add(until);
            change_one(db, (doing, "request_keys"), SET, bind)?;
            Held::By(attempt(number, now), None)
        }
    })
}

fn parse(row: &Row) -> Result<(Standing, Option<Note>), LedgerError> {
    let part = || store("reading a request's key");
    let note: Option<String> = row.try_get(4).map_err(part())?;
    let status: Option<i64> = row.try_get(5).map_err(part())?;
    let body: Option<String> = row.try_get(6).map_err(part())?;
    let standing = Standing {
        request: codes::hash("request_keys", "request", row.try_get(0).map_err(part())?)?,
        attempt: row.try_get(1).map_err(part())?,
        first_sent: Timestamp(row.try_get(2).map_err(part())?),
        held_until: Timestamp(row.try_get(3).map_err(part())?),
        answer: status
            .zip(body)
            .map(|(status, body)| KeptAnswer { status: u16::try_from(status).unwrap_or(500), body }),
    };
    Ok((standing, note.map(|note| codes::body("request_keys", "note", &note)).transpose()?))
}

fn forget(db: &Db, now: Timestamp) -> Result<u64, LedgerError> {
    let doing = "forgetting keys of requests";
    let mut bind = Bind::default();
    bind.add(now.0.saturating_sub(KEPT_US)).add(now.0).add(i64::from(SWEPT_MAX));
    let old = rows(db, doing, OLD, bind)?;
    for row in &old {
        let actor: String = row.try_get(0).map_err(store(doing))?;
        let key: String = row.try_get(1).map_err(store(doing))?;
        let mut bind = Bind::default();
        bind.add(actor.clone()).add(key);
        change_one(db, (doing, "request_keys"), FORGET, bind)?;
        let mut bind = Bind::default();
        bind.add(actor.clone());
        change_one(db, (doing, "request_actors"), FEWER, bind)?;
        let mut bind = Bind::default();
        bind.add(actor);
        execute(db, doing, FORGET_ACTOR, bind)?;
    }
    Ok(old.len() as u64)
}

impl SqliteLedger {
    async fn ask_keys(&self, ask: Ask) -> Result<Answer, LedgerError> {
        self.itself().ask(Work::Keys(ask)).await
    }

    /// The ledger itself: for what follows from the change that an attempt has made.
    pub(super) fn itself(&self) -> Self {
        Self { attempt: None, ..self.clone() }
    }
}

#[async_trait]
impl Keys for SqliteLedger {
    async fn hold_key(&self, keyed: Keyed) -> Result<Held, LedgerError> {
        match self.ask_keys(Ask::Hold(keyed)).await? {
            Answer::Keys(Done::Hold(held)) => Ok(held),
            other => Err(mixed_up(&other)),
        }
    }

    async fn sent_before(&self, keyed: &Keyed) -> Result<bool, LedgerError> {
        let (keyed, now) = (keyed.clone(), self.clock.now());
        self.reads.read(move |db| Ok(was_sent_before(there(db, &keyed)?, &keyed, now))).await
    }

    fn under(&self, attempt: Attempt) -> Arc<dyn Ledger> {
        Arc::new(Self { attempt: Some(attempt), ..self.clone() })
    }

    async fn keep_answer(&self, attempt: &Attempt, answer: KeptAnswer) -> Result<bool, LedgerError> {
        within("bytes of an answer", answer.body.len(), ANSWER_MAX_BYTES)?;
        match self.ask_keys(Ask::Keep(attempt.clone(), answer)).await? {
            Answer::Keys(Done::Keep(kept)) => Ok(kept),
            other => Err(mixed_up(&other)),
        }
    }

    async fn let_go(&self, attempt: &Attempt) -> Result<(), LedgerError> {
        match self.ask_keys(Ask::LetGo(attempt.clone())).await? {
            Answer::Keys(Done::LetGo) => Ok(()),
            other => Err(mixed_up(&other)),
        }
    }

    async fn forget_keys(&self) -> Result<u64, LedgerError> {
        match self.ask_keys(Ask::Forget).await? {
            Answer::Keys(Done::Forget(gone)) => Ok(gone),
            other => Err(mixed_up(&other)),
        }
    }
}
