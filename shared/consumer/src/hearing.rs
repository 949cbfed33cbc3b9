//! What was last heard from the coordinators, and whether one may act on it.
//!
//! A beacon's age counts from the ledger *read* it tells of, and what it took to get here is part of it. How long
//! that was nobody here knows exactly, so the age is the longest of three: what the steady clock says since it
//! was *first* heard (one that is played again makes nothing fresher), what the wall clock says since then (a
//! steady clock may stand still while a machine sleeps), and what the wall clock says since the read.
//!
//! So the ledger's time is never taken for earlier than this clock says, nor earlier than the beacon proves. It
//! may be later only if this clock is slow *and* the beacon was on its way for long, and then by no more than
//! the smaller of the two. A slow clock is off by at most [`beacon::SKEW_MS`], or nothing is done; the same
//! time lies between an order's deadline and what the coordinators build on it.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_model::Timestamp;
use sexton_model::beacon::{self, Beacon, NotNow};

use crate::clock::Clock;

#[derive(Debug, Clone, Copy)]
struct Heard {
    beacon: Beacon,
    local: Timestamp,
    steady_ms: u64,
}

/// The last beacon and when it was heard.
pub struct Hearing {
    clock: Arc<dyn Clock>,
    heard: Mutex<Option<Heard>>,
}

impl std::fmt::Debug for Hearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing").field("heard", &*self.held()).finish_non_exhaustive()
    }
}

impl Hearing {
    /// Nothing heard yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, heard: Mutex::new(None) }
    }

    /// Hear an authenticated beacon. Says whether it was newer than all before.
    pub fn hear(&self, heard: Beacon) -> bool {
        let now = Heard { beacon: heard, local: self.clock.now(), steady_ms: self.clock.steady_ms() };
        let mut held = self.held();
        let before = held.map(|h| h.beacon);
        if before == Some(heard) || beacon::newer(before, heard) != heard {
            return false;
        }
        *held = Some(now);
        true
    }

    /// The ledger's time, as far as the last beacon and this clock tell; `None` if none was heard.
    pub fn ledger_now(&self) -> Option<Timestamp> {
        let held = *self.held();
        held.map(|heard| heard.beacon.read_at.plus_ms(self.age_ms(&heard)))
    }

    /// Milliseconds since the read that the newest beacon tells of, for the health page.
    pub fn beacon_age_ms(&self) -> Option<u64> {
        let held = *self.held();
        held.map(|heard| self.age_ms(&heard))
    }

    /// Whether an order of `epoch`, given under pause `revision`, may be carried out now.
    ///
    /// # Errors
    /// Why not; it spends no attempt.
    pub fn judge(&self, epoch: u32, revision: i64, undoing: bool) -> Result<(), NotNow> {
        let held = *self.held();
        let age_ms = held.map_or(0, |heard| self.age_ms(&heard));
        let local = held.map_or(Timestamp::default(), |heard| heard.local);
        beacon::judge(held.map(|h| h.beacon), age_ms, local, epoch, revision, undoing)
    }

    fn age_ms(&self, heard: &Heard) -> u64 {
        let steady = self.clock.steady_ms().saturating_sub(heard.steady_ms);
        let now = self.clock.now();
        steady.max(now.ms_since(heard.local)).max(now.ms_since(heard.beacon.read_at))
    }

    fn held(&self) -> MutexGuard<'_, Option<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// The ledger's clock in these tests, in milliseconds.
    const READ_AT_MS: i64 = 1_000_000;

    #[derive(Default)]
    struct Hands {
        wall_ms: AtomicI64,
        steady_ms: AtomicU64,
    }

    #[async_trait]
    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp(self.wall_ms.load(Ordering::Relaxed) * 1_000)
        }
        fn steady_ms(&self) -> u64 {
            self.steady_ms.load(Ordering::Relaxed)
        }
        async fn sleep(&self, _: u64) {
            std::future::pending().await
        }
        fn random(&self) -> u64 {
            0
        }
    }

    /// A beacon that took `way_ms`, heard by a clock that is `fast_ms` fast.
    fn heard(way_ms: i64, fast_ms: i64) -> (Arc<Hands>, Hearing) {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(READ_AT_MS + way_ms + fast_ms, Ordering::Relaxed);
        let hearing = Hearing::new(hands.clone());
        let read_at = Timestamp(READ_AT_MS * 1_000);
        assert!(hearing.hear(Beacon { epoch: 1, revision: 1, read_at }));
        (hands, hearing)
    }

    /// How much earlier than it is the ledger's time is taken for, in milliseconds.
    fn lag_ms(hearing: &Hearing, real_ms: i64) -> i64 {
        real_ms - hearing.ledger_now().unwrap().0 / 1_000
    }

    fn pass(hands: &Hands, ms: i64) {
        hands.wall_ms.fetch_add(ms, Ordering::Relaxed);
        hands.steady_ms.fetch_add(ms.unsigned_abs(), Ordering::Relaxed);
    }

    #[test]
    fn the_way_of_a_beacon_makes_no_deadline_later() {
        let (hands, hearing) = heard(2_900, 0);
        assert_eq!(lag_ms(&hearing, READ_AT_MS + 2_900), 0);
        pass(&hands, 1_000);
        assert_eq!(lag_ms(&hearing, READ_AT_MS + 3_900), 0);
    }

    #[test]
    fn a_beacon_is_as_old_as_its_read() {
        let (hands, hearing) = heard(2_900, 0);
        pass(&hands, 2_100);
        assert_eq!(hearing.judge(1, 1, false), Ok(()));
        pass(&hands, 1);
        assert_eq!(hearing.judge(1, 1, false), Err(NotNow::Stale { age_ms: 5_001 }));
    }

    #[test]
    fn with_every_clock_and_way_that_is_let_through_a_deadline_is_late_by_the_skew_at_most() {
        for slow_ms in 0..=3_000_i64 {
            for way_ms in [0, 1, 500, 2_999, 3_000, 4_500, 6_000, 9_000] {
                let (hands, hearing) = heard(way_ms, -slow_ms);
                pass(&hands, 700);
                if hearing.judge(1, 1, false).is_ok() {
                    let lag = lag_ms(&hearing, READ_AT_MS + way_ms + 700);
                    assert!((0..=3_000).contains(&lag), "{slow_ms} slow, {way_ms} on the way: {lag}");
                }
            }
        }
    }

    #[test]
    fn neither_a_sleep_nor_a_clock_that_was_set_back_makes_it_younger() {
        let (hands, hearing) = heard(0, 0);
        hands.wall_ms.fetch_add(60_000, Ordering::Relaxed);
        assert_eq!(hearing.beacon_age_ms(), Some(60_000), "the machine slept");
        let (hands, hearing) = heard(0, 0);
        pass(&hands, 4_000);
        hands.wall_ms.fetch_sub(3_600_000, Ordering::Relaxed);
        assert_eq!(hearing.beacon_age_ms(), Some(4_000));
        assert_eq!(lag_ms(&hearing, READ_AT_MS + 4_000), 0);
    }
}
