//! What people do that is about no record leaves an event, too, in the chain of pauses and reviews or in that of a resource: one, not
//! none and not two (I12).
use std::ops::RangeInclusive;

use sexton_ledger::Ledger;
use sexton_ledger::sqlite::SqliteLedger;

use crate::simulation::check::Violation;

/// The chain of pauses and reviews.
pub(super) const PAUSES: &str = "pauses";

/// How many events this chain has. Nobody signs checkpoints here, so whatever has any is among what has grown since.
pub(super) async fn of(ledger: &SqliteLedger, chain: &str) -> i64 {
    let mut after: Option<String> = None;
    loop {
        let page = ledger.grown(after.as_deref()).await.unwrap();
        if let Some(head) = page.heads.iter().find(|head| head.chain == chain) {
            return head.seq;
        }
        let Some(next) = page.next else { return 0 };
        after = Some(next);
    }
}

/// This chain had so many events `before` somebody did `what`, and nobody else does anything meanwhile: now it has so `many` more.
///
/// # Errors
/// If it has not.
pub(super) async fn left(
    ledger: &SqliteLedger,
    (chain, before): (&str, i64),
    many: RangeInclusive<i64>,
    what: &str,
) -> Result<(), Violation> {
    let came = of(ledger, chain).await - before;
    if many.contains(&came) {
        return Ok(());
    }
    Err(Violation { invariant: "I12", what: format!("{what} leaves {came} events in the chain {chain}") })
}
