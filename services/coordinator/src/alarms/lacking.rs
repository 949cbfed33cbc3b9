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

use super::{Alarmer, Said, answered, gather, log};
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
        let found = Found { owner, since, hold: holding.finish(), over: BTreeSet::new() };
        log(&answered(ledger.note_alarms(found)).await?);
        let said = Said { at: Some(Instant::now()), holds };
        *self.said_lacking.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(())
    }
}

/// Which alarms about single purges hold no more, whoever has said them: of those that have stood longest, as many as are asked about at
/// once.
pub(super) async fn over(ledger: &dyn Ledger) -> Result<BTreeSet<i64>, LedgerError> {
    let mut over = BTreeSet::new();
    for (alarm, id) in gather::open(ledger).await?.iter().rev().filter_map(purge).take(ASKED_MAX) {
        match settled(ledger, id).await {
            // It fails alone: the others are looked for all the same.
            Ok(false) | Err(LedgerError::Corrupt { .. }) => {}
            Ok(true) => {
                over.insert(alarm);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(over)
}

/// The number of one that is about a purge without a receipt, and which purge that is.
fn purge(standing: &Standing) -> Option<(i64, DeletionId)> {
    let Subject::Deletion { deletion, .. } = &standing.alarm.subject else { return None };
    (standing.alarm.kind == AlarmKind::NoReceipt).then_some((standing.id, *deletion))
}

/// Whether another coordinator has signed it since, or an archive has taken it with its receipt.
async fn settled(ledger: &dyn Ledger, id: DeletionId) -> Result<bool, LedgerError> {
    Ok(answered(ledger.receipt(id)).await?.is_some() || answered(ledger.stub(id)).await?.is_some())
}
