//! Batches that wait: a person looks at one, and approves what was seen.
use sexton_ledger::{Approval, Ledger};

use crate::simulation::check::Violation;
use crate::simulation::check::budgets::Seen;
use crate::simulation::script::Person;
use crate::simulation::world::World;

impl World {
    /// Whether there is a batch to be looked at.
    pub(super) async fn look_at_oldest_batch(&mut self) -> bool {
        let Some(ledger) = self.ledger.clone() else { return false };
        match ledger.batches().await.unwrap().first() {
            Some(oldest) => self.look_at_batch(oldest.batch).await,
            None => false,
        }
    }

    async fn look_at_batch(&mut self, batch: i64) -> bool {
        let Some(ledger) = self.ledger.clone() else { return false };
        let Some(view) = ledger.batch(batch).await.unwrap() else { return false };
        let members = view.members.iter().map(|member| member.job).collect();
        self.seen = Some(Seen { batch, digest: view.digest(), members });
        true
    }

    /// Approve what was looked at last.
    ///
    /// # Errors
    /// If it is approved and must not be, or refused and must not be.
    pub(super) async fn approve(&mut self, by: Person) -> Result<bool, Violation> {
        let Some(seen) = self.seen.clone() else { return Ok(false) };
        let engine = self.coordinators.iter().flatten().map(|one| one.engine.clone()).next();
        let Some(engine) = engine else { return Ok(false) };
        let approval = Approval {
            batch: seen.batch,
            digest: seen.digest.clone(),
            by: by.actor(),
            reason: "that many are meant".into(),
        };
        let at = self.store.shown();
        let went = engine.approve(approval).await.unwrap().ok();
        self.quiet().await;
        if went.is_some() {
            self.checker.approved += 1;
        }
        if let Some(budgets) = &mut self.checker.budgets {
            budgets.approval(&seen, by, (at, went))?;
        }
        Ok(went.is_some())
    }

    /// What no time makes room for is approved by somebody who asked for none of it; or all that waits.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub(super) async fn approve_what_waits(&mut self, all: bool) -> Result<(), Violation> {
        let now = self.store.shown();
        let waiting =
            self.checker.budgets.as_ref().map(|budgets| budgets.waiting(all, now)).unwrap_or_default();
        for batch in waiting {
            if self.look_at_batch(batch).await {
                let done = self.approve(Person::Auditor).await?;
                self.say(format!("batch {batch} is approved: {done}"));
            }
        }
        Ok(())
    }
}
