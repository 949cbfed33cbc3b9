//! Going round over jobs that stay as they are until somebody lifts what stops them. A look that finds the same writes
//! nothing, so the same ones would be found again: they are gone through by id, in pieces, and then there is a rest.
//!
//! Only a net below what lifts a hold or a pause, which looks at once; so where the round stands is kept in memory,
//! and every process has its own.
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::{Decided, NotDone};

/// The furthest moment that is remembered, in milliseconds from now: rounds come much more often.
const LONGEST_MS: u64 = 86_400_000;

/// What rests are measured by: milliseconds that only ever go on, whatever the store's clock is set to.
#[derive(Clone)]
pub struct Steady(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Steady {
    /// What this says it is.
    pub fn of(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Steady {
    /// The machine's.
    fn default() -> Self {
        let began = Instant::now();
        Self::of(move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steady({} ms)", self.now_ms())
    }
}

/// Where a round stands.
#[derive(Debug, Default)]
pub struct Round {
    steady: Steady,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    /// Behind this id it goes on.
    after: i64,
    /// The next round begins then, in steady milliseconds.
    rests_until: Option<u64>,
    /// Something is to be looked at then: the next round begins no later.
    wanted_at: Option<u64>,
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
    /// One that rests by this clock.
    pub fn by(steady: Steady) -> Self {
        Self { steady, standing: Mutex::default() }
    }

    /// The next look; none while it rests.
    pub fn next(&self) -> Option<Look> {
        let now = self.steady.now_ms();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = standing.rests_until {
            if now < standing.wanted_at.map_or(until, |wanted| wanted.min(until)) {
                return None;
            }
            // This round finds it. One that was under way may have been past it: that one leaves the moment as it is.
            standing.wanted_at = standing.wanted_at.filter(|wanted| *wanted > now);
        }
        standing.rests_until = None;
        Some(Look { after: standing.after, round: standing.round })
    }

    /// What a look for up to `wanted` jobs found, ascending. At the end of the round it rests.
    pub fn found(&self, look: Look, ids: &[i64], wanted: usize, rest_ms: u64) {
        let now = self.steady.now_ms();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.round != look.round {
            return;
        }
        match ids.last() {
            Some(last) if ids.len() >= wanted => standing.after = *last,
            Some(_) | None => {
                standing.after = 0;
                standing.rests_until = Some(now.saturating_add(rest_ms));
            }
        }
    }

    /// Something is to be looked at in so many milliseconds, and not only when the round comes by.
    pub fn wanted_in(&self, ms: u64) {
        let at = self.steady.now_ms().saturating_add(ms.min(LONGEST_MS));
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.wanted_at = Some(standing.wanted_at.map_or(at, |wanted| wanted.min(at)));
    }

    /// The same of what was found, and will have ended in so many microseconds; if it has by now, it is looked at anyway.
    pub fn wanted_after(&self, us: Option<i64>) {
        if let Some(us) = us.and_then(|us| u64::try_from(us).ok()).filter(|us| *us > 0) {
            self.wanted_in(us.div_ceil(1000));
        }
    }

    /// The same of all that a batch has held and that is to be looked at again at a known moment.
    pub(crate) fn wanted_by(&self, decided: &[Result<Decided, NotDone>]) {
        let waits = decided.iter().flatten().filter_map(|one| Some(one.again_at?.ms_since(one.at)));
        // A millisecond more: what is looked at before its moment would have to be found once more.
        if let Some(ms) = waits.min() {
            self.wanted_in(ms.saturating_add(1));
        }
    }

    /// Begin anew at once: something was lifted.
    pub fn again(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let (round, wanted_at) = (standing.round + 1, standing.wanted_at);
        *standing = Standing { round, wanted_at, ..Standing::default() };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

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
    fn what_is_wanted_at_a_moment_ends_the_rest() {
        let round = Round::default();
        let look = round.next().unwrap();
        round.wanted_in(3_600_000);
        round.found(look, &[], 2, 7_200_000);
        assert_eq!(round.next(), None, "not yet");
        round.wanted_in(0);
        let look = round.next().unwrap();
        // What is wanted while a round is under way may lie behind where that stands.
        round.wanted_in(0);
        round.found(look, &[7], 1, 7_200_000);
        let look = round.next().unwrap();
        assert_eq!(look.after, 7, "it goes on");
        round.found(look, &[], 1, 7_200_000);
        let look = round.next().unwrap();
        assert_eq!(look.after, 0, "and begins anew");
        round.found(look, &[], 1, 7_200_000);
        assert_eq!(round.next(), None);
        round.again();
        assert!(round.next().is_some());
    }

    #[test]
    fn it_rests_by_the_clock_it_was_given() {
        let now_ms = Arc::new(AtomicU64::new(7));
        let clock = now_ms.clone();
        let round = Round::by(Steady::of(move || clock.load(Ordering::SeqCst)));
        let look = round.next().unwrap();
        round.found(look, &[], 2, 1_000);
        round.wanted_in(500);
        now_ms.store(506, Ordering::SeqCst);
        assert_eq!(round.next(), None, "a millisecond too early");
        now_ms.store(507, Ordering::SeqCst);
        let look = round.next().unwrap();
        round.found(look, &[], 2, 1_000);
        now_ms.store(1_506, Ordering::SeqCst);
        assert_eq!(round.next(), None, "it rests again");
        now_ms.store(1_507, Ordering::SeqCst);
        assert!(round.next().is_some());
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
