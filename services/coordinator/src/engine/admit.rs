//! Budgets: what is refused because nobody has looked at it is admitted, or frozen, and tried again at once.
use std::sync::atomic::Ordering;

use sexton_ledger::{Approval, BatchRow, Decided, Intent, Ledger, LedgerError, NotDone};
use sexton_model::JobId;
use sexton_model::decide::{Event, Refusal};

use super::{BATCH_MAX, Engine, claim};

impl Engine {
    /// Claim jobs. Those that have to be admitted first are, and are tried again: what is frozen is held then.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) async fn claim(&self, jobs: Vec<JobId>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        let mut results = self.run(jobs.into_iter().map(claim).collect()).await?;
        let refused = |(place, result): (usize, &Result<Decided, NotDone>)| match result {
            Err(NotDone::Refused(Refusal::NotAdmitted(job))) => Some((place, *job)),
            _ => None,
        };
        let (places, jobs): (Vec<usize>, Vec<JobId>) = results.iter().enumerate().filter_map(refused).unzip();
        if jobs.is_empty() {
            return Ok(results);
        }
        for jobs in jobs.chunks(BATCH_MAX) {
            let admitted = self.ledger.admit(jobs.to_vec()).await?;
            told(&admitted.frozen);
            self.look_again(admitted.again).await?;
        }
        let again = self.run(jobs.into_iter().map(claim).collect()).await?;
        for (place, result) in places.into_iter().zip(again) {
            if let Some(there) = results.get_mut(place) {
                *there = result;
            }
        }
        Ok(results)
    }

    /// Let go the batches that fit by now.
    ///
    /// # Errors
    /// If the ledger did not do it; the next tick tries again.
    pub async fn admit_what_waits(&self) -> Result<(), LedgerError> {
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let admitted = self.ledger.admit(Vec::new()).await?;
        self.look_again(admitted.again).await
    }

    /// Let a batch go, beside the budget: how many members went.
    ///
    /// # Errors
    /// If the ledger did not do it. That it may not be approved so is the inner result.
    pub async fn approve(&self, approval: Approval) -> Result<Result<usize, NotDone>, LedgerError> {
        self.approve_by(&*self.ledger, approval).await
    }

    /// The same, by this handle of the job table: for the one change of an attempt at a request.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub async fn approve_by(
        &self,
        ledger: &dyn Ledger,
        approval: Approval,
    ) -> Result<Result<usize, NotDone>, LedgerError> {
        let (batch, by) = (approval.batch, approval.by.clone());
        let members = match ledger.approve(approval).await? {
            Ok(members) => members,
            Err(why) => return Ok(Err(why)),
        };
        let count = members.len();
        tracing::warn!(batch, %by, members = count, "a batch that exceeds its budget was approved");
        // It is approved whatever comes of this; what an error leaves out is looked at within a minute.
        if let Err(error) = self.look_again(members).await {
            tracing::warn!(%error, batch, "approved; its members are looked at later");
        }
        Ok(Ok(count))
    }

    async fn look_again(&self, members: Vec<JobId>) -> Result<(), LedgerError> {
        let recheck = |job: JobId| Intent { deletion: job.deletion(), event: Event::Recheck { job } };
        // A refusal means that it is not held by now, or by something else.
        self.run(members.into_iter().map(recheck).collect()).await.map(drop)
    }
}

fn told(frozen: &[BatchRow]) {
    for BatchRow { batch, group, exceeded, .. } in frozen {
        let next = if exceeded.alone() {
            "nothing of it begins before somebody who requested none of it approves it"
        } else {
            "it begins when there is room"
        };
        tracing::warn!(batch, scope = %group.scope, kind = %group.kind, stage = %group.stage, why = %exceeded, next, "a batch is frozen");
    }
}
