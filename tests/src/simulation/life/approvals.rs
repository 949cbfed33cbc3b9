//! Batches that wait: a person looks at one, and approves what was seen.
use std::collections::BTreeSet;

use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Approval, BatchView, Ledger};

use super::OF_NO_SET;
use crate::simulation::check::Violation;
use crate::simulation::check::budgets::Seen;
use crate::simulation::script::Person;
use crate::simulation::tally::APPROVAL_REFUSED;
use crate::simulation::world::World;

impl World {
    /// Whether there is a batch to be looked at.
    ///
    /// # Errors
    /// If somebody may approve it who must not.
    pub(super) async fn look_at_oldest_batch(&mut self) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        match ledger.batches().await.unwrap().first() {
            Some(oldest) => self.look_at_batch(oldest.batch).await,
            None => Ok(false),
        }
    }

    async fn look_at_batch(&mut self, batch: i64) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        let Some(view) = ledger.batch(batch).await.unwrap() else { return Ok(false) };
        self.approve_as_nobody_may(&ledger, &view).await?;
        let members = view.members.iter().map(|member| member.job).collect();
        self.seen = Some(Seen { batch, digest: view.digest(), members });
        Ok(true)
    }

    /// A batch that waits is approved neither by anybody who requested one of it, nor by who has looked at another set. No dice
    /// are thrown for that: it is tried whenever somebody looks at one.
    ///
    /// # Errors
    /// If it is.
    async fn approve_as_nobody_may(&self, ledger: &SqliteLedger, view: &BatchView) -> Result<(), Violation> {
        if view.members.is_empty() {
            return Ok(());
        }
        let (batch, seen) = (view.row.batch, view.digest());
        let (auditor, none) = (Person::Auditor.actor(), OF_NO_SET.to_owned());
        let own: BTreeSet<_> = view.members.iter().map(|member| &member.requested_by).collect();
        let own = own.into_iter().map(|by| (by, &seen, "who requested one of it"));
        for (by, digest, how) in [(&auditor, &none, "as another set")].into_iter().chain(own) {
            let (digest, reason) = (digest.clone(), "nobody may".to_owned());
            let approval = Approval { batch, digest, by: by.clone(), reason };
            if ledger.approve(approval).await.unwrap().is_ok() {
                let what = format!("{by} approves batch {batch} of {}, {how}", view.members.len());
                return Err(Violation { invariant: "approval", what });
            }
        }
        self.dice.count(APPROVAL_REFUSED);
        Ok(())
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
            if self.look_at_batch(batch).await? {
                let done = self.approve(Person::Auditor).await?;
                self.say(format!("batch {batch} is approved: {done}"));
            }
        }
        Ok(())
    }
}
