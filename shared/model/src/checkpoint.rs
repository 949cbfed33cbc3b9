//! Whether a ledger has gone back in time: restored from a copy, or taken over by a replica that had not
//! received everything.
//!
//! Contract: what was once seen of a ledger (a [`Checkpoint`], kept outside it by whoever works with it) is
//! compared with what the ledger shows now ([`behind`]). Everything compared only ever grows while the epoch
//! stays the same, so a smaller value, or a decision that is missing, proves that the ledger is an older one.
//! It then enters a new epoch, the highest known plus one, and is under [`Review`]: nothing is dispatched until
//! a person has accepted it. A ledger in a *higher* epoch than the checkpoint's is not behind: that epoch was
//! entered because it had gone back, and a person reviews it or has done so.
//!
//! Why decisions besides counters: a database's sequence may be ahead of what was committed, and counters may
//! be overtaken on another line of time. A decision with its hash is either there or it is not. Why counters besides decisions: a
//! batch compares them at no cost, and of what is no record's it compares nothing else.
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{DeletionId, Fence};
use crate::time::Timestamp;

/// Landmarks kept: as many as one process has transactions under way at once, so that the one that was
/// committed last is among them, whatever order their answers came in.
pub const LANDMARKS: usize = 16;

/// How far ahead of its ledger's epoch an epoch may be that somebody names, and still be believed. An epoch
/// moves on by one for each time a ledger goes back; more than this is a mistake or a lie.
pub const EPOCHS_AHEAD: u32 = 1000;

/// How far ahead of its ledger a number of a record may be that somebody knows of, and still be believed: as many as are made in
/// years. More is a mistake or a lie.
pub const RECORDS_AHEAD: i64 = 10_000_000;

/// The highest number, fence or revision that anybody is believed to have seen: half of what there is. A ledger that is behind it
/// goes on counting from there, and nobody counts so far.
pub const COUNT_MAX: i64 = i64::MAX / 2;

/// The same of epochs: half of what a database keeps, 32 bits with a sign.
pub const EPOCH_MAX: u32 = u32::MAX / 4;

/// Where a ledger stands. All but `at` only grow while the epoch is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its epoch.
    pub epoch: u32,
    /// How many checkpoints were written, and decisions committed that are no record's: whoever loses one of these shows a smaller
    /// number, though no order was given and no pause placed.
    pub number: i64,
    /// The highest number of a fence.
    pub fence: i64,
    /// The pause revision.
    pub revision: i64,
    /// When the last checkpoint was written, by the store's clock.
    pub at: Timestamp,
}

/// A committed decision: it is in the audit trail for good, unless the ledger is an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Landmark {
    /// Whose chain.
    pub deletion: DeletionId,
    /// Number of the event.
    pub seq: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// A committed decision that is no record's: a ceiling, a hold on a resource, what is registered, a token that is revoked. It is in a
/// chain of the ledger's own for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The ledger's number with it ([`Mark::number`]): of two, the one with the greater number was committed later.
    pub number: i64,
    /// Whose chain: that of pauses, of tokens, or a resource's.
    pub chain: String,
    /// Number of the event in it.
    pub seq: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// What was seen of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The ledger's name, drawn when it was made.
    pub ledger: String,
    /// Where it stood.
    pub mark: Mark,
    /// Decisions that were committed lately, oldest first; at most [`LANDMARKS`].
    pub landmarks: Vec<Landmark>,
    /// The highest number of a record that was given, in whatever epoch; 0 if that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records: i64,
    /// The last decision that is no record's: all before it were committed before. None where numbers alone tell enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What nobody can have seen of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeverSeen {
    /// More than anybody counts.
    #[error(
        "{what} {found}: expected {most} at the most, for a ledger that is behind it has to count on from there"
    )]
    TooHigh {
        /// Of what.
        what: &'static str,
        /// What it says.
        found: i64,
        /// The most that it may say.
        most: i64,
    },
    /// Fewer than none.
    #[error("{what} {found}: expected 0 or more, for a ledger counts from there")]
    Negative {
        /// Of what.
        what: &'static str,
        /// What it says.
        found: i64,
    },
    /// A decision behind the number that the ledger had with it.
    #[error("decision.number {found}: expected {number} at the most, which is the ledger's")]
    Uncounted {
        /// The decision's number.
        found: i64,
        /// The ledger's.
        number: i64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// How far back a ledger has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Behind {
    /// What was known of it.
    pub known: Mark,
    /// Where it stands.
    pub found: Mark,
    /// Decisions that were seen and are missing: some of them, not all.
    pub missing: Vec<Landmark>,
    /// One that is no record's, if that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// A ledger that went back in time, until a person has accepted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// The epoch that was entered.
    pub epoch: u32,
    /// When it was noticed, by the store's clock.
    pub since: Timestamp,
    /// What was noticed.
    pub behind: Behind,
}

impl Review {
    /// The same for whoever may not know what there is in every scope: without the records, or the resource, whose decisions are
    /// missing.
    #[must_use]
    pub fn unnamed(mut self) -> Self {
        self.behind.missing.clear();
        self.behind.decision = None;
        self
    }
}

/// Of a landmark that is an order instead of an event: events count from 1.
const ORDER: i64 = 0;

impl Landmark {
    /// An order that somebody has answered, and that the ledger does not know: the decision to give it is missing.
    pub fn never_given(deletion: DeletionId, fence: Fence) -> Self {
        Self { deletion, seq: ORDER, hash: fence.to_string() }
    }

    /// Whether it is such an order.
    pub fn is_order(&self) -> bool {
        self.seq == ORDER
    }
}

impl fmt::Display for Landmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deletion, seq, hash } = self;
        if self.is_order() {
            write!(f, "{deletion} order {hash}")
        } else {
            write!(f, "{deletion} event {seq}")
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, found) = (&self.known, &self.found);
        write!(
            f,
            "the ledger went back in time: seen were checkpoint {} of {} and fence {}:{}; it stands at checkpoint \
             {} of {} and fence {}:{}",
            known.number,
            known.at,
            known.epoch,
            known.fence,
            found.number,
            found.at,
            found.epoch,
            found.fence
        )?;
        for (n, lost) in self.missing.iter().enumerate() {
            let lead = if n == 0 { "; decisions that were seen and are missing: " } else { ", " };
            write!(f, "{lead}{lost}")?;
        }
        if let Some(Decision { chain, seq, .. }) = &self.decision {
            write!(f, "; one that is no record's is missing: event {seq} of {chain}")?;
        }
        Ok(())
    }
}

impl Behind {
    /// The epoch to enter.
    pub fn next_epoch(&self) -> u32 {
        self.known.epoch.max(self.found.epoch).saturating_add(1)
    }
}

/// Whether a ledger that shows `found`, and lacks `missing` of the landmarks of `known`, or its `decision`, is older than it was.
pub fn behind(
    known: &Checkpoint,
    found: Mark,
    missing: Vec<Landmark>,
    decision: Option<Decision>,
) -> Option<Behind> {
    let seen = known.mark;
    let older = match found.epoch.cmp(&seen.epoch) {
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => {
            found.number < seen.number
                || found.fence < seen.fence
                || found.revision < seen.revision
                || !missing.is_empty()
                || decision.is_some()
        }
    };
    older.then_some(Behind { known: seen, found, missing, decision })
}

/// Behind which number a ledger goes on to number records that went back and has given `found`, if somebody outside knows that
/// `known` was given. A record that is lost was told of, signed and perhaps receipted under its number: nothing else may be called so.
/// What is too far ahead to be true moves nothing.
pub fn numbered_behind(found: i64, known: i64) -> i64 {
    if known.saturating_sub(found) > RECORDS_AHEAD { found } else { found.max(known) }
}

impl Checkpoint {
    /// Whether somebody can have seen this. Of what comes from outside it is asked before a ledger is compared with it: one that
    /// went on behind the last number there is could count no further, and would stay as it is, reviewed or not.
    ///
    /// # Errors
    /// What cannot be.
    pub fn can_be(&self) -> Result<(), NeverSeen> {
        let Mark { epoch, number, fence, revision, at: _ } = self.mark;
        let counts = [
            ("epoch", i64::from(epoch), i64::from(EPOCH_MAX)),
            ("number", number, COUNT_MAX),
            ("fence", fence, COUNT_MAX),
            ("revision", revision, COUNT_MAX),
        ];
        if let Some((what, found, most)) = counts.into_iter().find(|(_, found, most)| found > most) {
            return Err(NeverSeen::TooHigh { what, found, most });
        }
        // Each decision has the ledger's number of when it was committed, and that only grows within an epoch: of another epoch
        // none is kept.
        let decided = self.decision.as_ref();
        if let Some(decision) = decided.filter(|decision| decision.number > number) {
            return Err(NeverSeen::Uncounted { found: decision.number, number });
        }
        let counted = [
            ("number", number),
            ("fence", fence),
            ("revision", revision),
            ("records", self.records),
            ("decision.number", decided.map_or(0, |decision| decision.number)),
            ("decision.seq", decided.map_or(0, |decision| decision.seq)),
        ];
        let negative = counted.into_iter().find(|(_, found)| *found < 0);
        negative.map_or(Ok(()), |(what, found)| Err(NeverSeen::Negative { what, found }))
    }

    /// Take note of more: marks go up, and a new decision pushes out the oldest. What belongs to an epoch that
    /// is over says nothing any more.
    pub fn note(&mut self, mark: Mark, landmark: Option<Landmark>) {
        match mark.epoch.cmp(&self.mark.epoch) {
            std::cmp::Ordering::Less => return,
            std::cmp::Ordering::Greater => {
                self.mark = mark;
                self.landmarks.clear();
                self.decision = None;
            }
            std::cmp::Ordering::Equal => {
                self.mark.number = self.mark.number.max(mark.number);
                self.mark.fence = self.mark.fence.max(mark.fence);
                self.mark.revision = self.mark.revision.max(mark.revision);
                self.mark.at = self.mark.at.max(mark.at);
            }
        }
        if let Some(landmark) = landmark {
            if self.landmarks.len() >= LANDMARKS {
                self.landmarks.remove(0);
            }
            self.landmarks.push(landmark);
        }
    }

    /// The same of a decision that is no record's. Answers may come in another order than what they answer was committed in.
    pub fn note_decision(&mut self, mark: Mark, decision: Decision) {
        self.note(mark, None);
        let later = self.decision.as_ref().is_none_or(|known| known.number < decision.number);
        if mark.epoch == self.mark.epoch && later {
            self.decision = Some(decision);
        }
    }
}

/// What is done with a witness at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// There was none, and none is needed: it is made.
    Make,
    /// The ledger is compared with it.
    Compare,
}

/// Why one does not start: a person has to say what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStart {
    /// The ledger has decided things, and nothing here tells whether it has gone back since.
    #[error(
        "it is missing, and the ledger has decided things already: whether it went back in time cannot be told. \
         If this coordinator is new here, or if you know that the ledger is the latest one, start it once with \
         --new-witness"
    )]
    Missing,
    /// The witness saw another ledger.
    #[error("it is about the ledger {seen}, and this is {ledger}: either of them is the wrong one")]
    AnotherLedger {
        /// What the witness saw.
        seen: String,
        /// What is there.
        ledger: String,
    },
    /// A new witness was asked for where there is one.
    #[error("--new-witness was given, but there is one: leave it out")]
    AlreadyThere,
}

/// What to do at the start with the witness that was found, of a ledger of this name that has (or has not)
/// ever `decided` anything.
///
/// # Errors
/// Why a person has to look first.
pub fn start(
    witness: Option<&Checkpoint>,
    ledger: &str,
    decided: bool,
    new_witness: bool,
) -> Result<Start, NoStart> {
    match witness {
        None if decided && !new_witness => Err(NoStart::Missing),
        None => Ok(Start::Make),
        Some(_) if new_witness => Err(NoStart::AlreadyThere),
        Some(seen) if seen.ledger != ledger => {
            Err(NoStart::AnotherLedger { seen: seen.ledger.clone(), ledger: ledger.to_owned() })
        }
        Some(_) => Ok(Start::Compare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Mark = Mark { epoch: 2, number: 10, fence: 100, revision: 3, at: Timestamp(5) };

    fn seen() -> Checkpoint {
        Checkpoint {
            ledger: "l".into(),
            mark: SEEN,
            landmarks: vec![landmark(1)],
            records: 1,
            decision: Some(decision(9)),
        }
    }

    fn decision(number: i64) -> Decision {
        Decision { number, chain: "pauses".into(), seq: number, hash: "00".into() }
    }

    fn landmark(seq: i64) -> Landmark {
        Landmark { deletion: DeletionId(1), seq, hash: "00".into() }
    }

    #[test]
    fn whatever_is_smaller_or_missing_is_behind() {
        assert_eq!(behind(&seen(), SEEN, vec![], None), None);
        let newer = Mark { number: 11, fence: 101, revision: 4, at: Timestamp(9), ..SEEN };
        assert_eq!(behind(&seen(), newer, vec![], None), None);
        for older in [
            Mark { number: 9, ..newer },
            Mark { fence: 99, ..newer },
            Mark { revision: 2, ..newer },
            Mark { epoch: 1, ..newer },
        ] {
            let found = behind(&seen(), older, vec![], None).unwrap_or_else(|| panic!("{older:?}"));
            assert_eq!((found.known, found.found, found.next_epoch()), (SEEN, older, 3));
        }
        assert!(behind(&seen(), newer, vec![landmark(1)], None).is_some(), "another line of time");
        let found = behind(&seen(), newer, vec![], Some(decision(9))).unwrap();
        assert!(
            found.to_string().ends_with("one that is no record's is missing: event 9 of pauses"),
            "{found}"
        );
        let review = Review { epoch: 3, since: Timestamp(9), behind: found }.unnamed();
        assert_eq!(review.behind.decision, None, "it may be a resource of any scope");
    }

    #[test]
    fn a_higher_epoch_was_entered_because_it_went_back() {
        let later = Mark { epoch: 3, number: 1, fence: 1, revision: 1, at: Timestamp(1) };
        assert_eq!(behind(&seen(), later, vec![landmark(1)], Some(decision(9))), None);
    }

    #[test]
    fn a_checkpoint_only_grows_and_keeps_the_latest_landmarks() {
        let mut known = seen();
        for seq in 2..=40 {
            known.note(Mark { fence: 100 + seq, number: 0, ..SEEN }, Some(landmark(seq)));
        }
        assert_eq!((known.mark.fence, known.mark.number), (140, 10));
        assert_eq!(known.landmarks.len(), LANDMARKS);
        assert_eq!(known.landmarks.last(), Some(&landmark(40)));
        known.note(Mark { epoch: 1, fence: 999, ..SEEN }, Some(landmark(41)));
        assert_eq!(
            (known.mark.fence, known.landmarks.last()),
            (140, Some(&landmark(40))),
            "from an epoch before"
        );
        let next = Mark { epoch: 3, fence: 7, ..SEEN };
        known.note(next, None);
        assert_eq!((known.mark, known.landmarks.len(), &known.decision), (next, 0, &None));
    }

    #[test]
    fn of_decisions_that_are_no_records_the_last_one_is_kept() {
        let mut known = seen();
        let at = |number: i64| Mark { number, ..SEEN };
        known.note_decision(at(12), decision(12));
        // Committed before it, and answered after it.
        known.note_decision(at(11), decision(11));
        assert_eq!((known.mark.number, &known.decision), (12, &Some(decision(12))));
        known.note_decision(Mark { epoch: 1, ..at(13) }, decision(13));
        assert_eq!((known.mark.number, &known.decision), (12, &Some(decision(12))), "from an epoch before");
        known.note_decision(Mark { epoch: 3, ..at(4) }, decision(4));
        assert_eq!((known.mark.number, &known.decision), (4, &Some(decision(4))), "of a later one");
    }

    #[test]
    fn numbers_go_on_behind_what_is_known_unless_that_cannot_be() {
        assert_eq!([numbered_behind(17, 0), numbered_behind(17, 17), numbered_behind(17, 40)], [17, 17, 40]);
        assert_eq!(numbered_behind(17, 17 + RECORDS_AHEAD), 17 + RECORDS_AHEAD);
        assert_eq!([numbered_behind(17, 18 + RECORDS_AHEAD), numbered_behind(0, i64::MAX)], [17, 0]);
    }

    /// Counting goes on behind what is believed, and the next time, too.
    #[test]
    fn what_nobody_can_have_seen_is_named() {
        let most =
            Mark { epoch: EPOCH_MAX, number: COUNT_MAX, fence: COUNT_MAX, revision: COUNT_MAX, ..SEEN };
        let of = |mark: Mark| Checkpoint { mark, ..seen() };
        assert_eq!((of(SEEN).can_be(), of(most).can_be()), (Ok(()), Ok(())));
        for (what, mark) in [
            ("epoch", Mark { epoch: EPOCH_MAX + 1, ..SEEN }),
            ("epoch", Mark { epoch: u32::MAX, ..SEEN }),
            ("number", Mark { number: COUNT_MAX + 1, ..SEEN }),
            ("fence", Mark { fence: i64::MAX, ..SEEN }),
            ("revision", Mark { revision: i64::MAX, ..SEEN }),
        ] {
            let said = of(mark).can_be().unwrap_err().to_string();
            assert!(said.starts_with(what), "{said}");
        }
        let decided = |decision: Decision| Checkpoint { decision: Some(decision), ..seen() };
        assert_eq!([decision(0), decision(SEEN.number)].map(|one| decided(one).can_be()), [Ok(()), Ok(())]);
        let said = decided(decision(SEEN.number + 1)).can_be().unwrap_err().to_string();
        assert_eq!(said, "decision.number 11: expected 10 at the most, which is the ledger's");
        for (what, known) in [
            ("number", Checkpoint { decision: None, ..of(Mark { number: -1, ..SEEN }) }),
            ("fence", of(Mark { fence: -1, ..SEEN })),
            ("revision", of(Mark { revision: i64::MIN, ..SEEN })),
            ("records", Checkpoint { records: -1, ..seen() }),
            ("decision.number", decided(decision(-1))),
            ("decision.seq", decided(Decision { seq: -1, ..decision(9) })),
        ] {
            let said = known.can_be().unwrap_err().to_string();
            assert!(said.starts_with(what) && said.contains("expected 0 or more"), "{said}");
        }
    }

    /// A witness of an older version does not say which numbers were given, nor what was decided beside records.
    #[test]
    fn what_is_not_said_of_records_is_not_known() {
        let known = Checkpoint { records: 0, decision: None, ..seen() };
        let text = serde_json::to_string(&known).unwrap();
        assert!(!text.contains("records") && !text.contains("decision"), "{text}");
        assert_eq!(serde_json::from_str::<Checkpoint>(&text).unwrap(), known);
    }

    #[test]
    fn nobody_starts_on_a_guess() {
        assert_eq!(start(None, "l", false, false), Ok(Start::Make));
        assert_eq!(start(None, "l", true, false), Err(NoStart::Missing));
        assert_eq!(start(None, "l", true, true), Ok(Start::Make));
        assert_eq!(start(Some(&seen()), "l", true, false), Ok(Start::Compare));
        assert_eq!(start(Some(&seen()), "l", false, false), Ok(Start::Compare));
        assert_eq!(start(Some(&seen()), "l", true, true), Err(NoStart::AlreadyThere));
        let other = NoStart::AnotherLedger { seen: "l".into(), ledger: "m".into() };
        assert_eq!(start(Some(&seen()), "m", false, false), Err(other));
    }
}
