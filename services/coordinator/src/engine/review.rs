//! The job table is under review: whoever noticed it first, this coordinator goes on with nothing, and says once which records it
//! knows to be lost.
use std::error::Error;
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
                let why = chain(&*error);
                tracing::error!(why, "records are numbered behind those that are lost at a later checkpoint");
            }
        }
        Ok(())
    }

    /// A review was opened, by this coordinator or another: no record that is made from now on is called as one that this one
    /// knows to be lost, because it has seen it, or because it was signed. What it has seen counts also if what was signed cannot
    /// be read.
    async fn number_behind_lost(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut known = self.ledger.known();
        let signed = match &self.attester {
            Some(attester) => attester.highest_record().await,
            None => Ok(0),
        };
        known.records = known.records.max(*signed.as_ref().unwrap_or(&0));
        self.ledger.confront(&known).await?;
        signed?;
        Ok(())
    }
}
