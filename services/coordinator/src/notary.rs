//! Draws up and signs receipts: what proves that a purge is complete (the form is [`sexton_model::receipt`]).
//!
//! Contract: the decision that ends a purge only tells that one is due (`Due::note`, which may be lost); a round over
//! the job table finds whatever has none. Each is drawn up of what the job table holds, after the record's chain was
//! checked against its head, and kept once: whoever comes second finds that it is there. One may die between any two
//! lines. Under review nothing is signed, because the job table may be put back yet.
//!
//! What has no receipt, because something in it was not seen to be gone or its audit chain is broken, stays in the job table: only
//! with its receipt may what was purged leave for the archive. It is told in the log each time, and is an alarm
//! ([`Due::lacking`], told by [`crate::alarms::Alarmer::say_lacking`]) until it has one.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use sexton_ledger::{Decided, Ledger, LedgerError, NewReceipt, RECEIPTS_MAX};
use sexton_model::alarm::{Alarm, receipt as without};
use sexton_model::audit::Broken;
use sexton_model::decide::Effect;
use sexton_model::job::Stage;
use sexton_model::receipt::{NoReceipt, draw_up};
use sexton_model::{DeletionId, ResourceId, Scope};
use tokio::sync::Notify;

use crate::attester::Attester;

/// Most records that are remembered to have ended their purge: some seconds of a busy coordinator. The round finds the
/// others.
const NOTED_MAX: usize = 16_384;
/// Most records that are remembered to have no receipt: more than anybody looks at one by one. The log names all.
const LACKING_MAX: usize = 1000;

/// Of which no receipt can be drawn up, as far as this coordinator has tried.
#[derive(Debug, Default)]
struct Lacking {
    of: BTreeMap<DeletionId, Alarm>,
    /// Those of them that were found since the present round began: the others have a receipt by somebody else once it is over.
    found: BTreeSet<DeletionId>,
    /// Whether it has gone through all records once: before that it would end alarms of what it has yet to find.
    whole: bool,
}

/// Records whose purge this coordinator has ended since somebody looked, and those of which no receipt can be drawn up.
#[derive(Debug, Default)]
pub struct Due {
    noted: Mutex<BTreeSet<DeletionId>>,
    lacking: Mutex<Lacking>,
    /// Woken when there are some.
    pub(crate) some: Notify,
}

impl Due {
    /// Note those of these decisions that ended a purge.
    pub(crate) fn note(&self, decided: &[&Decided]) {
        let purged = |effect: &Effect| matches!(effect, Effect::Happened { what: "stage_done", detail } if detail == Stage::Purge.word());
        let mut ended = decided.iter().filter(|one| one.effects.iter().any(purged)).peekable();
        if ended.peek().is_none() {
            return;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let room = NOTED_MAX.saturating_sub(noted.len());
        noted.extend(ended.take(room).map(|one| one.deletion));
        drop(noted);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<DeletionId> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| noted.pop_first()).take(RECEIPTS_MAX).collect()
    }

    /// Purges of which no receipt can be drawn up, each with its alarm. `None` until a round has gone through all records.
    pub fn lacking(&self) -> Option<BTreeMap<DeletionId, Alarm>> {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.whole.then(|| lacking.of.clone())
    }

    /// These have their receipt, or are not in the job table any more.
    pub(crate) fn settled(&self, ids: impl IntoIterator<Item = DeletionId>) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            lacking.of.remove(&id);
        }
    }

    fn lacks(&self, id: DeletionId, alarm: Alarm) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if lacking.of.len() < LACKING_MAX || lacking.of.contains_key(&id) {
            lacking.of.insert(id, alarm);
            lacking.found.insert(id);
        }
    }

    fn begin_round(&self) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).found.clear();
    }

    fn end_round(&self) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let Lacking { of, found, whole } = &mut *lacking;
        of.retain(|id, _| found.contains(id));
        *whole = true;
    }
}

/// Why one record has no receipt.
#[derive(Debug, thiserror::Error)]
enum NotSigned {
    #[error(transparent)]
    Receipt(#[from] NoReceipt),
    #[error("its audit chain is broken: {0}")]
    Broken(#[from] Broken),
    #[error("it cannot be written down")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Sign receipts of what was noted, some at a time. Whether there may be more.
///
/// # Errors
/// If the job table did not answer; the round finds what was noted.
pub async fn sign_noted(due: &Due, attester: &Attester, ledger: &dyn Ledger) -> Result<bool, LedgerError> {
    let noted = due.take();
    if noted.is_empty() || ledger.review().await?.is_some() {
        return Ok(false);
    }
    sign(due, attester, ledger, &noted).await?;
    Ok(noted.len() >= RECEIPTS_MAX)
}

/// One part of a round over all records: sign what is due behind `after`. Where the round goes on, unless it is over.
///
/// # Errors
/// If the job table did not answer; the next round tries again.
pub async fn go_on(
    due: &Due,
    attester: &Attester,
    ledger: &dyn Ledger,
    after: DeletionId,
) -> Result<Option<DeletionId>, LedgerError> {
    if ledger.review().await?.is_some() {
        return Ok(None);
    }
    if after == DeletionId(0) {
        due.begin_round();
    }
    let page = ledger.receipts_due(after).await?;
    sign(due, attester, ledger, &page.deletions).await?;
    if page.next.is_none() {
        due.end_round();
    }
    Ok(page.next)
}

async fn sign(
    due: &Due,
    attester: &Attester,
    ledger: &dyn Ledger,
    ids: &[DeletionId],
) -> Result<(), LedgerError> {
    let name = ledger.facts().await?.ledger;
    let mut signed = Vec::with_capacity(ids.len());
    for id in ids {
        match one(attester, ledger, &name, *id).await {
            Ok(receipt) => signed.extend(receipt),
            Err(NotSigned::Ledger(error)) if !matches!(error, LedgerError::Corrupt { .. }) => {
                return Err(error);
            }
            Err(error) => {
                let alarm = without::lacking(*id, whose(ledger, *id).await?, &error.to_string());
                let error = &error as &dyn std::error::Error;
                tracing::error!(deletion = %id, error, "no receipt can be drawn up: a person has to look");
                due.lacks(*id, alarm);
            }
        }
    }
    let drawn_up: Vec<DeletionId> = signed.iter().map(|one| one.deletion).collect();
    keep(ledger, signed).await?;
    due.settled(drawn_up);
    Ok(())
}

/// What it purged, if that can be read.
async fn whose(ledger: &dyn Ledger, id: DeletionId) -> Result<Option<(ResourceId, Scope)>, LedgerError> {
    match ledger.deletion(id).await {
        Ok(view) => Ok(view.map(|view| {
            let resource = &view.deletion.record.resource;
            (resource.id.clone(), resource.scope.clone())
        })),
        Err(LedgerError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All at once, or, if that is refused, each alone: one that does not fit must not keep the others from their receipts.
async fn keep(ledger: &dyn Ledger, signed: Vec<NewReceipt>) -> Result<(), LedgerError> {
    if signed.is_empty() {
        return Ok(());
    }
    match ledger.keep_receipts(signed.clone()).await {
        Ok(kept) => tracing::debug!(kept, "receipts are signed"),
        Err(error) if signed.len() == 1 => return Err(error),
        Err(_) => {
            for one in signed {
                let deletion = one.deletion;
                if let Err(error) = ledger.keep_receipts(vec![one]).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(%deletion, error, "a receipt was not kept");
                }
            }
        }
    }
    Ok(())
}

async fn one(
    attester: &Attester,
    ledger: &dyn Ledger,
    name: &str,
    id: DeletionId,
) -> Result<Option<NewReceipt>, NotSigned> {
    let Some(view) = ledger.deletion(id).await? else { return Ok(None) };
    ledger.verify_chain(id).await??;
    let trail: Vec<_> = view.audit.into_iter().map(|row| (row.seq, row.event, row.hash)).collect();
    let receipt = draw_up(name, ledger.day(), &view.deletion, view.targets, &trail)?;
    let rests_on = receipt.rests_on.clone();
    Ok(Some(NewReceipt { deletion: id, rests_on, signed: attester.receipt(&receipt)? }))
}
