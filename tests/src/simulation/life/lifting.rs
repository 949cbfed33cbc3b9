//! Pauses are lifted, by whoever may.
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, NotDone, Stopped};
use sexton_model::belts::budget::CannotResume;

use super::{OF_NO_SET, events, somebody};
use crate::simulation::check::Violation;
use crate::simulation::script::{Covers, Person};
use crate::simulation::tally::LIFTING_REFUSED;
use crate::simulation::world::World;

impl World {
    /// Pauses are lifted, and what was reviewed is accepted. Whether there was a job table to tell.
    ///
    /// # Errors
    /// If somebody may lift one who must not.
    pub(super) async fn resume(&mut self) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        if let Some(review) = ledger.review().await.unwrap() {
            self.checker.reviewed = false;
            let before = events::of(&ledger, events::PAUSES).await;
            ledger.accept_review(review.epoch, &somebody(), "looked").await.unwrap();
            events::left(&ledger, (events::PAUSES, before), 1..=1, "an accepted review").await?;
        }
        for pause in ledger.pauses().await.unwrap() {
            self.lift_one(&ledger, pause.id).await?;
        }
        self.checker.pauses.all_lifted();
        Ok(true)
    }

    /// Pauses of just so much are lifted; all others stand, and so does a review. Whether there was one.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub(super) async fn lift(&mut self, covers: Covers) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        let (selector, mut any) = (covers.selector(), false);
        for pause in ledger.pauses().await.unwrap() {
            if pause.covers == selector {
                self.lift_one(&ledger, pause.id).await?;
                any = true;
            }
        }
        Ok(any)
    }

    async fn lift_one(&mut self, ledger: &SqliteLedger, pause: i64) -> Result<(), Violation> {
        self.lift_as_nobody_may(ledger, pause).await?;
        self.checker.pauses.lifted(pause);
        let before = events::of(ledger, events::PAUSES).await;
        // Whoever lifts it has requested nothing, and looks again if it is another set by then. Nobody else does
        // anything meanwhile, so it is the same set at the second look.
        let (by, mut lifts) = (Person::Auditor.actor(), 0);
        for looks in 1.. {
            let approved = Stopped::digest(&ledger.stopped_by(pause).await.unwrap());
            match ledger.resume(pause, &by, approved.as_deref()).await.unwrap() {
                Ok(lifted) => {
                    lifts = i64::from(lifted);
                    break;
                }
                Err(NotDone::Resume(CannotResume::OtherSet { .. } | CannotResume::NeedsApproval { .. }))
                    if looks < 3 => {}
                Err(why) => panic!("{why}"),
            }
        }
        events::left(ledger, (events::PAUSES, before), lifts..=lifts, "a pause that is lifted").await
    }

    /// If a crowd would begin at once without this pause, nobody lifts it who has not looked at just that crowd, nor who
    /// requested one of it. No dice are thrown for that: it is tried whenever a pause is lifted.
    ///
    /// # Errors
    /// If somebody does.
    async fn lift_as_nobody_may(&self, ledger: &SqliteLedger, pause: i64) -> Result<(), Violation> {
        let stopped = ledger.stopped_by(pause).await.unwrap();
        let Some(digest) = Stopped::digest(&stopped) else { return Ok(()) };
        let crowds = Stopped::crowds(&stopped);
        let own = crowds.iter().flat_map(|crowd| &crowd.members).map(|member| &member.requested_by).next();
        let auditor = Person::Auditor.actor();
        let others = [(&auditor, None, "without a look"), (&auditor, Some(OF_NO_SET), "as another crowd")];
        let own = own.map(|by| (by, Some(digest.as_str()), "who requested one of it"));
        for (by, approved, how) in others.into_iter().chain(own) {
            if ledger.resume(pause, by, approved).await.unwrap().is_ok() {
                let what = format!("{by} lifts pause {pause}, which keeps a crowd back, {how}");
                return Err(Violation { invariant: "approval", what });
            }
        }
        self.dice.count(LIFTING_REFUSED);
        Ok(())
    }
}
