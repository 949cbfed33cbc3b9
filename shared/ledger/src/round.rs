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
    /// Grows when it is begun anew: what a look that was under way found then says nothing about the new round.
    round: u64,
}

/// A look to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Behind this id.
    pub after: i64,
    round: u64,
}

impl Round {
    /// The next look; none while it rests.
    pub fn next(&self) -> Option<Look> {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.rests_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        standing.rests_until = None;
        Some(Look { after: standing.after, round: standing.round })
    }

    /// What a look for up to `wanted` jobs found, ascending. At the end of the round it rests.
    pub fn found(&self, look: Look, ids: &[i64], wanted: usize, rest_ms: u64) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.round != look.round {
            return;
        }
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
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = Standing { round: standing.round + 1, ..Standing::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_all_and_then_rests() {
        let round = Round::default();
        let look = |ids: &[i64], wanted, rest_ms| {
            let look = round.next().unwrap();
            round.found(look, ids, wanted, rest_ms);
            look.after
        };
        assert_eq!(look(&[3, 5], 2, 3_600_000), 0);
        assert_eq!(look(&[9], 2, 3_600_000), 5, "there may be more behind a full piece");
        assert_eq!(round.next(), None, "it rests");
        round.again();
        assert_eq!(look(&[], 2, 0), 0, "woken");
        assert_eq!(look(&[], 2, 0), 0, "after its rest it begins anew");
    }

    #[test]
    fn a_look_that_was_under_way_does_not_end_the_new_round() {
        let round = Round::default();
        let old = round.next().unwrap();
        round.again();
        round.found(old, &[7], 2, 3_600_000);
        assert_eq!(round.next().map(|look| look.after), Some(0));
    }
}
