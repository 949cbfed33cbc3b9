//! What people do that is about no record leaves an event, too, in the chain of pauses and reviews or in that of a resource: one, not
//! none and not two (I12).
use std::ops::RangeInclusive;

use sexton_ledger::Ledger;
use sexton_ledger::sqlite::SqliteLedger;

use crate::simulation::check::Violation;

/// The chain of pauses and reviews.
pub(super) const PAUSES: &str = "pauses";

/// Events that are asked for at once.
const ASKED: i64 = 64;

/// How many events this chain has.
pub(super) async fn of(ledger: &SqliteLedger, chain: &str) -> i64 {
    let mut known = 0;
    loop {
        let next = (known + 1..=known + ASKED).map(|seq| (chain.to_owned(), seq)).collect();
        let there = ledger.event_hashes(next).await.unwrap().iter().take_while(|hash| hash.is_some()).count();
        known += i64::try_from(there).unwrap();
        if known % ASKED != 0 || there == 0 {
            return known;
        }
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
