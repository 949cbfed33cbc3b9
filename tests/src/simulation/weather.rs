//! How bad everything around Sexton is, and the dice.
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// Chances, each out of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// A message is lost, although it was confirmed.
    pub lose: u32,
    /// A message comes twice.
    pub repeat: u32,
    /// A message is delayed, behind others.
    pub delay: u32,
    /// A message is not confirmed; whether it was published nobody knows.
    pub unconfirmed: u32,
    /// A subsystem answers with an error before it did anything.
    pub fail_before: u32,
    /// The answer of a subsystem is lost after it did it.
    pub fail_after: u32,
    /// A subsystem says that it did it, and did nothing.
    pub lie: u32,
    /// A subsystem shows what was true before its last change.
    pub stale: u32,
    /// A subsystem does not know.
    pub unknown: u32,
    /// A call hangs for longer than its order's deadline.
    pub hang: u32,
    /// A handler is stopped at a moment at which it could be.
    pub stop: u32,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self {
        lose: 0,
        repeat: 0,
        delay: 0,
        unconfirmed: 0,
        fail_before: 0,
        fail_after: 0,
        lie: 0,
        stale: 0,
        unknown: 0,
        hang: 0,
        stop: 0,
    };
}

/// The dice of a run: everything that is left to chance is drawn here, so that a seed plays the same run again.
#[derive(Debug)]
pub struct Dice {
    rng: Mutex<StdRng>,
    weather: Mutex<Weather>,
}

impl Dice {
    /// Those of a seed.
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self { rng: Mutex::new(StdRng::seed_from_u64(seed)), weather: Mutex::new(weather) }
    }

    /// Below `end`.
    pub fn below(&self, end: usize) -> usize {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..end.max(1))
    }

    /// Whether something happens that the weather gives this chance.
    pub fn happens(&self, chance: impl Fn(&Weather) -> u32) -> bool {
        let chance = chance(&self.weather.lock().unwrap_or_else(PoisonError::into_inner));
        chance > 0 && self.below(1000) < chance as usize
    }

    /// A number.
    pub fn number(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// The weather changes.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }
}
