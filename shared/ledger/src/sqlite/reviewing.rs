//! Checkpoints, and what happens to a ledger that has gone back in time.
use sexton_model::Actor;
use sexton_model::checkpoint::{Behind, Checkpoint, Mark, Review, behind};

use super::connection::{Bind, Db, change_one, row, rows, store};
use super::load::moment;
use super::memory::{Memory, Staged};
use super::writer::{Answer, Work};
use super::{SqliteLedger, access, codes, mixed_up, pausing};
use crate::{LedgerError, Revocation, known};

/// Where the ledger stands, and whether a person has to review it. In this file fences are committed with what
/// they are given to, and what takes none raises the number ([`raise`]), so these alone tell a state from an earlier one: no landmarks
/// are needed, as nobody else writes it.
pub(super) fn standing(db: &Db) -> Result<(Mark, Option<Review>), LedgerError> {
    let doing = "reading the ledger";
    let sql = "SELECT epoch, checkpoints, last_fence, revision, checkpoint_at, review FROM ledger";
    let found = rows(db, doing, sql, Bind::default())?;
    let row = found.first().ok_or_else(|| codes::corrupt("ledger", 1, "is missing"))?;
    let mark = Mark {
        epoch: row.try_get(0).map_err(store(doing))?,
        number: row.try_get(1).map_err(store(doing))?,
        fence: row.try_get(2).map_err(store(doing))?,
        revision: row.try_get(3).map_err(store(doing))?,
        at: moment(row, 4)?,
    };
    Ok((mark, known::parse(row.try_get(5).map_err(store(doing))?)?))
}

/// The highest number of a record that this file has given.
fn last_record(db: &Db) -> Result<i64, LedgerError> {
    let doing = "reading how far records are numbered";
    row(db, doing, "SELECT last_deletion FROM ledger", Bind::default())?.try_get(0).map_err(store(doing))
}

/// Number records behind those that are `known` to be lost.
fn number_behind(db: &Db, known: i64) -> Result<(), LedgerError> {
    let left_out = known::left_out(last_record(db)?, known);
    if left_out == 0 {
        return Ok(());
    }
    let mut bind = Bind::default();
    bind.add(left_out);
    let sql = "UPDATE ledger SET last_deletion = last_deletion + ?";
    change_one(db, ("numbering records behind lost ones", "ledger"), sql, bind)
}

/// Write a checkpoint, unless the file is older than what was seen of it. How far records are numbered, too.
pub(super) fn checkpoint(
    db: &Db,
    staged: &Staged,
    seen: &Checkpoint,
) -> Result<Result<(Mark, i64), Behind>, LedgerError> {
    let (found, _) = standing(db)?;
    if let Some(behind) = behind(seen, found, Vec::new(), None) {
        return Ok(Err(behind));
    }
    let mark = Mark { number: found.number + 1, at: staged.now, ..found };
    let mut bind = Bind::default();
    bind.add(mark.number).add(mark.at.0);
    let doing = ("writing a checkpoint", "ledger");
    change_one(db, doing, "UPDATE ledger SET checkpoints = ?, checkpoint_at = ?", bind)?;
    Ok(Ok((mark, last_record(db)?)))
}

/// Whether it answers a decision that takes no fence, so that nothing would show if a copy without it was put back.
pub(super) fn takes_no_fence(answer: &Answer) -> bool {
    match answer {
        Answer::Register(results) => results.iter().any(Result::is_ok),
        Answer::Create(results) => results.iter().any(Result::is_ok),
        Answer::Pause(done) => done.is_ok(),
        Answer::Resume(done) => matches!(done, Ok(Some(_))),
        Answer::Ceiling(done) | Answer::Prioritize(done) => done.is_ok(),
        Answer::Census(_) => true,
        Answer::Listed(done) => done.is_some(),
        Answer::GiveOneShot(done) => done.is_ok(),
        Answer::TakeBackOneShot(done) => *done,
        Answer::HoldResource(done) => done.is_ok(),
        Answer::ReleaseResource(done) => done.as_ref().is_ok_and(|(holds, _)| !holds.is_empty()),
        Answer::Approve(done) => done.is_ok(),
        Answer::Access(access::Done::Issue(done)) => done.is_ok(),
        Answer::Access(access::Done::Revoke(done)) => matches!(done, Revocation::Done(_)),
        // Each intent takes a fence, a look takes one, and a checkpoint and an epoch have numbers of their own. The others tell
        // people something, or would be found or done anew: nothing goes on because they are lost. A canary that pauses raises it
        // by itself.
        Answer::Run(_)
        | Answer::Access(access::Done::Refused)
        | Answer::CheckResources(_)
        | Answer::Admit(_)
        | Answer::Pulse
        | Answer::Checkpoint(_)
        | Answer::Confront(..)
        | Answer::Accept(_)
        | Answer::Attest(_)
        | Answer::Alarms(_)
        | Answer::Canary(_)
        | Answer::TryCanary(_)
        | Answer::Drill(_)
        | Answer::Survey(_)
        | Answer::Listing(_)
        | Answer::Archive(_)
        | Answer::Receipts(_)
        | Answer::Keys(_)
        | Answer::Compare(_) => false,
    }
}

/// Raise the number with such a decision: what it is then.
pub(super) fn raise(db: &Db) -> Result<i64, LedgerError> {
    let doing = "counting a decision";
    let sql = "UPDATE ledger SET checkpoints = checkpoints + 1";
    change_one(db, (doing, "ledger"), sql, Bind::default())?;
    row(db, doing, "SELECT checkpoints FROM ledger", Bind::default())?.try_get(0).map_err(store(doing))
}

/// Compare the file with what was known of it, and enter a new epoch if it is behind. Where it stands then.
pub(super) fn confront(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    known: &Checkpoint,
) -> Result<(Option<Review>, Mark), LedgerError> {
    let (found, review) = standing(db)?;
    let orders = known.landmarks.iter().filter(|landmark| landmark.is_order()).cloned().collect();
    let Some(behind) = behind(known, found, orders, None) else {
        if review.is_some() {
            number_behind(db, known.records)?;
        }
        return Ok((review, found));
    };
    number_behind(db, known.records)?;
    let (review, mark, event) = known::enter(behind, staged.now)?;
    let mut bind = Bind::default();
    bind.add(i64::from(mark.epoch)).add(mark.number).add(mark.revision).add(known::stored(&review)?);
    let sql = "UPDATE ledger SET epoch = ?, checkpoints = ?, revision = ?, review = ?";
    change_one(db, ("entering an epoch", "ledger"), sql, bind)?;
    memory.standing = None;
    pausing::link(db, &event)?;
    Ok((Some(review), mark))
}

/// A person accepts the file as it is.
pub(super) fn accept(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (epoch, by, reason): (u32, &Actor, &str),
) -> Result<bool, LedgerError> {
    let (_, review) = standing(db)?;
    let Some(review) = review.filter(|review| review.epoch == epoch) else { return Ok(false) };
    let doing = ("accepting a review", "ledger");
    change_one(db, doing, "UPDATE ledger SET review = NULL", Bind::default())?;
    memory.standing = None;
    pausing::link(db, &known::accepted(&review, by, reason, staged.now)?)?;
    Ok(true)
}

impl SqliteLedger {
    /// Write a checkpoint, with a heartbeat if whoever asks serves the API.
    pub(super) async fn checkpoint_by(&self, serves: bool) -> Result<Checkpoint, LedgerError> {
        match self.ask(Work::Checkpoint { serves }).await? {
            Answer::Checkpoint(Ok((mark, records))) => {
                self.known.note(mark, None);
                self.known.note_records(records);
                Ok(self.known.seen())
            }
            Answer::Checkpoint(Err(behind)) => Err(LedgerError::WentBack(Box::new(behind))),
            other => Err(mixed_up(&other)),
        }
    }
}
