//! What is looked at after everything that happens.
use std::sync::atomic::Ordering;

use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Canaries as _, Ledger as _};

use super::{Round, World, held};
use crate::simulation::HUNG;
use crate::simulation::check::{Violation, addresses};

/// What was signed is looked at each so many steps.
const SIGNED_EVERY: u64 = 64;
/// While nothing speaks for it that a canary was accepted, they are looked at each so many steps.
const CANARIES_EVERY: u64 = 64;

impl World {
    /// Check what was decided and done since the last look.
    ///
    /// # Errors
    /// The invariant that does not hold any more.
    pub(in crate::simulation) async fn look(&mut self) -> Result<(), Violation> {
        self.say_what_chance_did();
        let attended = self.coordinators.iter().any(Result::is_ok);
        self.checker.at(self.store.shown(), attended);
        if let Some(what) = held(&self.defects).pop() {
            return Err(Violation { invariant: "defect", what });
        }
        if let Some(what) = held(&self.hung).clone() {
            return Err(Violation { invariant: HUNG, what });
        }
        self.nothing_is_forgotten()?;
        self.look_at_calls().await?;
        let acts = std::mem::take(&mut held(&self.truth).acts);
        for act in acts {
            let order = held(&self.traffic.orders).get(&act.fence).cloned();
            let view = match (&self.ledger, &order) {
                (Some(ledger), Some(order)) => ledger.deletion(order.deletion).await.unwrap(),
                _ => None,
            };
            let order_of = order.as_ref().map(|order| format!("{} of {}", order.mode.word(), order.kind));
            self.say(format!(
                "process {} does {} of {}: {:?} -> {:?}, {} ({})",
                act.process,
                act.thing,
                act.vm,
                act.was.state,
                act.now,
                act.fence,
                order_of.unwrap_or_default()
            ));
            let (truth, traffic) = (self.truth.clone(), self.traffic.clone());
            let (truth, orders) = (held(&truth), held(&traffic.orders));
            self.checker.acted(&act, (order.as_ref(), &*orders), view.as_ref(), &truth)?;
        }
        addresses::held_once(&held(&self.truth))?;
        let decided = std::mem::take(&mut *held(&self.decided));
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        let commits = self.commits.load(Ordering::SeqCst);
        let committed = commits != self.looked;
        if committed {
            self.looked = commits;
            self.see_created(&ledger).await;
            self.look_at_batches(&ledger).await?;
            if self.checker.canaries.doubtful() || self.step.is_multiple_of(CANARIES_EVERY) {
                self.look_at_canaries(&ledger).await?;
            }
        }
        if self.script.tends && self.step.is_multiple_of(SIGNED_EVERY) {
            self.look_at_signed(&ledger).await?;
        }
        // Nobody else begins a listing because it is due, has one judged, or pauses by what came of it.
        let tended = committed && self.tending;
        self.tending = self.coordinators.iter().flatten().any(|one| one.is_at(Round::Censuses));
        if tended {
            self.look_at_those_due(&ledger).await?;
        }
        for id in decided {
            let Some(view) = ledger.deletion(id).await.unwrap() else { continue };
            let truth = self.truth.clone();
            let words = self.checker.decided(&view, &held(&truth))?;
            for words in words {
                self.say(words);
            }
        }
        if tended || (committed && self.pause_was_asked_for()) {
            let pauses = ledger.pauses().await.unwrap();
            self.checker.pauses.stand(&pauses, self.time.now());
        }
        self.checker.beside()
    }

    /// What consumers went on to change.
    async fn look_at_calls(&mut self) -> Result<(), Violation> {
        let calls = std::mem::take(&mut held(&self.truth).calls);
        for call in calls {
            let order = held(&self.traffic.orders).get(&call.fence).cloned();
            let view = match (&self.ledger, &order) {
                // Only pauses ask how the record stands.
                (Some(ledger), Some(order)) if self.checker.pauses.any() => {
                    ledger.deletion(order.deletion).await.unwrap()
                }
                _ => None,
            };
            self.checker.called(&call, order.as_ref(), view.as_ref())?;
        }
        Ok(())
    }

    /// Which batches wait, and for whom.
    async fn look_at_batches(&mut self, ledger: &SqliteLedger) -> Result<(), Violation> {
        let Some(budgets) = &self.checker.budgets else { return Ok(()) };
        let mut waiting = Vec::new();
        for row in ledger.batches().await.unwrap() {
            let Some(view) = ledger.batch(row.batch).await.unwrap() else { continue };
            let mut records = Vec::new();
            if !budgets.knows(row.batch) {
                for member in &view.members {
                    records.extend(ledger.deletion(member.job.deletion()).await.unwrap());
                }
            }
            waiting.push((view, records));
        }
        self.see_approved(&waiting)?;
        if let Some(budgets) = &mut self.checker.budgets {
            self.checker.frozen += budgets.see(&waiting)?;
        }
        Ok(())
    }

    /// Whether canaries were refused as they must be, and whether one has paused everything.
    pub(in crate::simulation) async fn look_at_canaries(
        &mut self,
        ledger: &SqliteLedger,
    ) -> Result<(), Violation> {
        if self.script.canaries {
            let (sent, pauses) = (ledger.canaries().await.unwrap(), ledger.pauses().await.unwrap());
            self.checker.canaries.see(&sent, &pauses)?;
            self.checker.pauses.stand(&pauses, self.time.now());
        }
        Ok(())
    }
}
