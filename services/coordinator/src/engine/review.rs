//! The job table is under review: whoever noticed it first, this coordinator goes on with nothing, and says once which records it
//! knows to be lost.
use std::sync::atomic::Ordering;

use sexton_ledger::LedgerError;

use super::Engine;
use crate::alarms::route::chain;

impl Engine {
    /// Look whether there is a review. That records could not be numbered behind those that are lost is told in the log, and tried
    /// again at the next checkpoint.
    ///
    /// # Errors
    /// If the ledger does not say.
    pub(super) async fn notice_review(&self) -> Result<(), LedgerError> {
        let review = self.ledger.review().await?;
        // First: whatever becomes of the rest, nothing is to be gone on with.
        self.reviewing.store(review.is_some(), Ordering::Relaxed);
        let Some(epoch) = review.map(|review| review.epoch) else { return Ok(()) };
        if self.numbered.load(Ordering::Relaxed) == epoch {
            return Ok(());
        }
        match self.number_behind_lost().await {
            Ok(()) => self.numbered.store(epoch, Ordering::Relaxed),
            Err(error) => {
                let why = chain(&error);
                tracing::error!(why, "records are numbered behind those that are lost at a later checkpoint");
            }
        }
        Ok(())
    }

    /// A review was opened, by this coordinator or another: no record that is made from now on is called as one that this one
    /// knows to be lost, because it has seen it, or because it was signed.
    async fn number_behind_lost(&self) -> Result<(), LedgerError> {
        let mut known = self.ledger.known();
        if let Some(attester) = &self.attester {
            known.records = known.records.max(attester.highest_record().await);
        }
        self.ledger.confront(&known).await.map(|_| ())
    }
}
