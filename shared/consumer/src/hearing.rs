//! What was last heard from the coordinators, and whether one may act on it.
//!
//! The newest beacon counts from the moment it was *first* heard: one that is played again makes nothing
//! fresher. A steady clock may stand still while a machine sleeps, so the age is the longer of what the steady
//! and the wall clock say.
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

    /// Milliseconds since the newest beacon was heard, for the health page.
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
        steady.max(self.clock.now().ms_since(heard.local))
    }

    fn held(&self) -> MutexGuard<'_, Option<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
