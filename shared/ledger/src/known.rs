//! What this process has seen of its ledger: compared with the ledger again and again, so that one that goes
//! back in time behind a living process is noticed (invariant I15).
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;
use sexton_model::Timestamp;
use sexton_model::checkpoint::{Behind, Checkpoint, Decision, Landmark, Mark, Review, numbered_behind};

use crate::batch::AuditWrite;
use crate::rules::LedgerEvent;
use crate::{LedgerError, rules};

/// See the module. Only what is committed is noted.
#[derive(Debug)]
pub(crate) struct Known(Mutex<Checkpoint>);

impl Known {
    /// Nothing but what the ledger shows now.
    pub(crate) fn new(ledger: String, mark: Mark) -> Self {
        Self(Mutex::new(Checkpoint { ledger, mark, ..Checkpoint::default() }))
    }

    pub(crate) fn seen(&self) -> Checkpoint {
        self.lock().clone()
    }

    /// More was committed, or read from what was.
    pub(crate) fn note(&self, mark: Mark, landmark: Option<Landmark>) {
        self.lock().note(mark, landmark);
    }

    /// One more decision was committed.
    pub(crate) fn note_landmark(&self, landmark: Option<Landmark>) {
        let mut seen = self.lock();
        let mark = seen.mark;
        seen.note(mark, landmark);
    }

    /// Fences up to this one were committed, in the epoch that is known.
    pub(crate) fn note_fence(&self, fence: i64) {
        let mut seen = self.lock();
        let mark = Mark { fence, ..seen.mark };
        seen.note(mark, None);
    }

    /// The same of numbers ([`Mark::number`]).
    pub(crate) fn note_number(&self, number: i64) {
        let mut seen = self.lock();
        let mark = Mark { number, ..seen.mark };
        seen.note(mark, None);
    }

    /// A decision that is no record's was committed, if one was that is to be known.
    pub(crate) fn note_decision(&self, decided: Option<(Mark, Decision)>) {
        if let Some((mark, decision)) = decided {
            self.lock().note_decision(mark, decision);
        }
    }

    /// Records up to this number were made.
    pub(crate) fn note_records(&self, number: i64) {
        let mut seen = self.lock();
        seen.records = seen.records.max(number);
    }

    /// What somebody else has seen of the ledger, which it fulfils.
    pub(crate) fn adopt(&self, other: Checkpoint) {
        let mut seen = self.lock();
        seen.note(other.mark, None);
        for landmark in other.landmarks {
            if other.mark.epoch == seen.mark.epoch && !seen.landmarks.contains(&landmark) {
                seen.note(other.mark, Some(landmark));
            }
        }
        if let Some(decision) = other.decision {
            seen.note_decision(other.mark, decision);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Checkpoint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision that a batch is known by: its last, as all of it was committed together.
pub(crate) fn landmark(audit: &[AuditWrite]) -> Option<Landmark> {
    let last = audit.last()?;
    Some(Landmark { deletion: last.deletion, seq: last.seq, hash: sexton_model::audit::hex(&last.hash) })
}

/// That a checkpoint is about this ledger.
pub(crate) fn same_ledger(known: &Checkpoint, ledger: &str) -> Result<(), LedgerError> {
    if known.ledger == ledger {
        return Ok(());
    }
    Err(LedgerError::Unfit(format!(
        "what was seen is about the ledger {}, and this is {ledger}",
        known.ledger
    )))
}

/// What a ledger that is behind becomes, and the event that says so.
pub(crate) fn enter(behind: Behind, now: Timestamp) -> Result<(Review, Mark, LedgerEvent), LedgerError> {
    let (known, found) = (behind.known, behind.found);
    let mark = Mark {
        epoch: behind.next_epoch(),
        number: known.number.max(found.number).saturating_add(1),
        fence: found.fence,
        // Greater than any that was ever announced, so that consumers hear of it at once.
        revision: known.revision.max(found.revision).saturating_add(1),
        at: now,
    };
    let review = Review { epoch: mark.epoch, since: now, behind };
    let event = LedgerEvent {
        at: now,
        what: "went_back".to_owned(),
        by: "coordinator".to_owned(),
        body: value(&review)?,
    };
    tracing::error!(epoch = review.epoch, behind = %review.behind, "nothing is dispatched until this is reviewed");
    Ok((review, mark, event))
}

/// How many numbers of records a ledger under review leaves out that has given `found`, if `known` was given before it went back.
pub(crate) fn left_out(found: i64, known: i64) -> i64 {
    let behind = numbered_behind(found, known);
    if behind < known {
        tracing::error!(found, known, "what is known of numbers of records cannot be, and is left alone");
    } else if behind > found {
        tracing::warn!(found, known, "records are numbered behind those that are lost");
    }
    behind - found
}

/// The event that says that a person has accepted the ledger as it is.
pub(crate) fn accepted(
    review: &Review,
    by: &sexton_model::Actor,
    reason: &str,
    now: Timestamp,
) -> Result<LedgerEvent, LedgerError> {
    let body = serde_json::json!({ "review": value(review)?, "reason": reason });
    Ok(LedgerEvent { at: now, what: "reviewed".to_owned(), by: by.to_string(), body })
}

/// A value as an event's body.
pub(crate) fn value(what: &impl Serialize) -> Result<Value, LedgerError> {
    serde_json::to_value(what)
        .map_err(|e| LedgerError::Store { doing: "writing down an event", source: Box::new(e) })
}

/// A review as it is stored.
pub(crate) fn stored(review: &Review) -> Result<String, LedgerError> {
    rules::text(review)
}

/// A review from what is stored.
pub(crate) fn parse(text: Option<&str>) -> Result<Option<Review>, LedgerError> {
    text.map(serde_json::from_str).transpose().map_err(|e| LedgerError::Corrupt {
        table: "ledger",
        key: "review".to_owned(),
        reason: e.to_string(),
    })
}
