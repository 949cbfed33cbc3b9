//! Says of which purges this coordinator can draw up no receipt.
//!
//! Each says it by a name of its own for that, since it knows of it otherwise than of its other troubles: by a round over all records,
//! which an attester goes through at its start and then as often as heads are signed. Until the first one is over nothing is said, so
//! a restart ends no alarm that still holds; and what was said before is believed for a day of such silence. Of several coordinators that find the same the alarm is one, since it is about the record.
//!
//! Whoever looks for alarms in the job table asks of those that are open, too, whether they have their receipt by now ([`over`]): who
//! has said them may be gone for good.
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use sexton_ledger::{Found, Ledger, LedgerError};
use sexton_model::DeletionId;
use sexton_model::alarm::{AlarmKind, Holding, Standing, Subject};

use super::route::chain;
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
        let by_now = settled(ledger, lacking.keys().copied().collect()).await;
        due.settled(by_now.iter().copied());
        let (mut holding, mut holds) = (Holding::default(), BTreeSet::new());
        for (id, alarm) in lacking.into_iter().filter(|(id, _)| !by_now.contains(id)) {
            holding.add(alarm);
            holds.insert(id.to_string());
        }
        let owner = format!("{} (receipts)", self.options.name);
        let found = Found { owner, since, hold: holding.finish(), over: BTreeSet::new() };
        log(&answered(ledger.note_alarms(found)).await?);
        let said = Said { at: Some(Instant::now()), holds };
        *self.said_lacking.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(())
    }
}

/// Which of the `open` alarms, the newest first, are about single purges and hold no more, whoever has said them: of those that have
/// stood longest, as many as are asked about at once.
pub(super) async fn over(ledger: &dyn Ledger, open: &[Standing]) -> BTreeSet<i64> {
    let purges: Vec<(i64, DeletionId)> = open.iter().rev().filter_map(purge).collect();
    let by_now = settled(ledger, purges.iter().map(|(_, id)| *id).collect()).await;
    purges.into_iter().filter(|(_, id)| by_now.contains(id)).map(|(alarm, _)| alarm).collect()
}

/// The number of one that is about a purge without a receipt, and which purge that is.
fn purge(standing: &Standing) -> Option<(i64, DeletionId)> {
    let Subject::Deletion { deletion, .. } = &standing.alarm.subject else { return None };
    (standing.alarm.kind == AlarmKind::NoReceipt).then_some((standing.id, *deletion))
}

/// Which of the first of these are settled. What cannot be read, or not soon, counts as not settled, and keeps nobody from hearing of
/// anything else: an alarm that stands for too long does less harm than one that is not raised.
async fn settled(ledger: &dyn Ledger, purges: Vec<DeletionId>) -> BTreeSet<DeletionId> {
    let mut by_now = BTreeSet::new();
    let asked = async {
        for id in purges.into_iter().take(ASKED_MAX) {
            match is_settled(ledger, id).await {
                Ok(true) => {
                    by_now.insert(id);
                }
                Ok(false) => {}
                Err(error) => {
                    let why = chain(&error);
                    tracing::warn!(deletion = %id, why, "whether it has a receipt by now cannot be read");
                }
            }
        }
        Ok::<(), LedgerError>(())
    };
    // Of all of them together: one after the other, a job table that hangs would keep whoever looks for an hour.
    if let Err(error) = answered(asked).await {
        let why = chain(&error);
        tracing::warn!(why, "which purges have a receipt by now is not known of all");
    }
    by_now
}

/// Whether another coordinator has signed it since, or an archive has taken it with its receipt.
async fn is_settled(ledger: &dyn Ledger, id: DeletionId) -> Result<bool, LedgerError> {
    Ok(ledger.receipt(id).await?.is_some() || ledger.stub(id).await?.is_some())
}
