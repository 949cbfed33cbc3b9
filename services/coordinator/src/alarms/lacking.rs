//! Says of which purges this coordinator can draw up no receipt.
//!
//! Each says it by a name of its own for that, since it knows of it otherwise than of its other troubles: by a round over all records,
//! which an attester goes through at its start and then as often as heads are signed. Until the first one is over nothing is said, so
//! a restart ends no alarm that still holds; and what was said before is believed for a day of such silence. Of several coordinators that find the same the alarm is one, since it is about the record.
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use sexton_ledger::{Found, Ledger, LedgerError};
use sexton_model::DeletionId;
use sexton_model::alarm::Holding;

use super::{Alarmer, Said, answered, log};
use crate::notary::Due;

/// Purges of which one asks at once whether they have a receipt by now, or are not there any more: each is two questions, and as many
/// as are remembered would be two thousand a minute. The round settles the others.
const ASKED_MAX: usize = 100;

impl Alarmer {
    /// Note what `due` has found, unless that was said lately.
    ///
    /// # Errors
    /// If the job table did not answer; the next tick tries again.
    pub async fn say_lacking(&self, ledger: &dyn Ledger, due: &Due) -> Result<(), LedgerError> {
        let Some(lacking) = due.lacking() else { return Ok(()) };
        let found: BTreeSet<String> = lacking.keys().map(DeletionId::to_string).collect();
        if self.said_lacking.lock().unwrap_or_else(PoisonError::into_inner).suffices(&found) {
            return Ok(());
        }
        let since = answered(ledger.facts()).await?.now;
        let (mut holding, mut holds) = (Holding::default(), BTreeSet::new());
        for (number, (id, alarm)) in lacking.into_iter().enumerate() {
            if number < ASKED_MAX && settled(ledger, id).await? {
                due.settled([id]);
            } else {
                holding.add(alarm);
                holds.insert(id.to_string());
            }
        }
        let owner = format!("{} (receipts)", self.options.name);
        log(&answered(ledger.note_alarms(Found { owner, since, hold: holding.finish() })).await?);
        let said = Said { at: Some(Instant::now()), holds };
        *self.said_lacking.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(())
    }
}

/// Whether another coordinator has signed it since, or an archive has taken it with its receipt.
async fn settled(ledger: &dyn Ledger, id: DeletionId) -> Result<bool, LedgerError> {
    Ok(answered(ledger.receipt(id)).await?.is_some() || answered(ledger.stub(id)).await?.is_some())
}
