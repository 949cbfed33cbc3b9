//! Going round over jobs that stay as they are until somebody lifts what stops them. A look that finds the same writes
//! nothing, so the same ones would be found again: they are gone through by id, in pieces, and then there is a rest.
//!
//! Only a net below what lifts a hold or a pause, which looks at once; so where the round stands is kept in memory,
//! and every process has its own.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a round stands.
#[derive(Debug, Default)]
pub struct Round(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// Behind this id it goes on.
    after: i64,
    /// The next round begins then.
    rests_until: Option<Instant>,
}

impl Round {
    /// Behind which id to look next; none while it rests.
    pub fn next(&self) -> Option<i64> {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.rests_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        standing.rests_until = None;
        Some(standing.after)
    }

    /// What a look for up to `wanted` jobs behind [`Round::next`] found, ascending. At the end of the round it rests.
    pub fn found(&self, ids: &[i64], wanted: usize, rest_ms: u64) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ids.last() {
            Some(last) if ids.len() >= wanted => standing.after = *last,
            Some(_) | None => {
                standing.after = 0;
                standing.rests_until = Some(Instant::now() + Duration::from_millis(rest_ms));
            }
        }
    }

    /// Begin anew at once: something was lifted.
    pub fn again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Standing::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_all_and_then_rests() {
        let round = Round::default();
        assert_eq!(round.next(), Some(0));
        round.found(&[3, 5], 2, 3_600_000);
        assert_eq!(round.next(), Some(5), "there may be more behind a full piece");
        round.found(&[9], 2, 3_600_000);
        assert_eq!(round.next(), None, "it rests");
        round.again();
        assert_eq!(round.next(), Some(0), "woken");
        round.found(&[], 2, 0);
        assert_eq!(round.next(), Some(0), "after its rest it begins anew");
    }
}
