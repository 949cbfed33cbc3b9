//! How bad everything around Sexton is, and the dice.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// What goes wrong by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// A message is lost, although it was confirmed.
    Lose,
    /// A message comes twice.
    Repeat,
    /// A message is delayed, behind others.
    Delay,
    /// A message is not confirmed; whether it was published nobody knows.
    Unconfirmed,
    /// A subsystem answers with an error before it did anything.
    FailBefore,
    /// The answer of a subsystem is lost after it did it.
    FailAfter,
    /// A subsystem says that it did it, and did nothing.
    Lie,
    /// A subsystem shows what was true before its last change.
    Stale,
    /// A subsystem does not know.
    Unknown,
    /// A call hangs for longer than its order's deadline.
    Hang,
    /// A subsystem leaves out the end of what it lists for a census, or lies about how many there are.
    Truncate,
    /// A handler is stopped at a moment at which it could be.
    Stop,
}

impl Trouble {
    /// All of it.
    pub const ALL: [Self; 12] = [
        Self::Lose,
        Self::Repeat,
        Self::Delay,
        Self::Unconfirmed,
        Self::FailBefore,
        Self::FailAfter,
        Self::Lie,
        Self::Stale,
        Self::Unknown,
        Self::Hang,
        Self::Truncate,
        Self::Stop,
    ];

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lose => "message lost",
            Self::Repeat => "message repeated",
            Self::Delay => "message delayed",
            Self::Unconfirmed => "message not confirmed",
            Self::FailBefore => "error before",
            Self::FailAfter => "answer lost after",
            Self::Lie => "lie",
            Self::Stale => "the past shown",
            Self::Unknown => "unknown",
            Self::Hang => "hang",
            Self::Truncate => "listing cut short",
            Self::Stop => "stop",
        }
    }
}

/// Chances, each out of a thousand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Weather([u32; Trouble::ALL.len()]);

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self([0; Trouble::ALL.len()]);

    /// That of one trouble.
    pub fn chance(&self, of: Trouble) -> u32 {
        self.0[of as usize]
    }

    /// The same with another chance of one trouble.
    #[must_use]
    pub fn with(mut self, of: Trouble, chance: u32) -> Self {
        self.0[of as usize] = chance;
        self
    }
}

impl fmt::Debug for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bad = Trouble::ALL.into_iter().filter(|of| self.chance(*of) > 0);
        f.debug_map().entries(bad.map(|of| (of, self.chance(of)))).finish()
    }
}

/// The dice of a run: everything that is left to chance is drawn here, so that a seed plays the same run again.
#[derive(Debug)]
pub struct Dice {
    rng: Mutex<StdRng>,
    weather: Mutex<Weather>,
    happened: Mutex<BTreeMap<&'static str, u64>>,
    /// What it did to whom, in words, and nobody has asked for yet.
    told: Mutex<Vec<String>>,
}

impl Dice {
    /// Those of a seed.
    pub fn new(seed: u64, weather: Weather) -> Self {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let weather = Mutex::new(weather);
        Self { rng, weather, happened: Mutex::default(), told: Mutex::default() }
    }

    /// Below `end`.
    pub fn below(&self, end: usize) -> usize {
        held(&self.rng).random_range(0..end.max(1))
    }

    /// Whether this happens now; then it is counted.
    pub fn happens(&self, trouble: Trouble) -> bool {
        let chance = held(&self.weather).chance(trouble);
        let happens = chance > 0 && self.below(1000) < chance as usize;
        if happens {
            self.count(trouble.word());
        }
        happens
    }

    /// Whether this happens now; then it is counted, and told with what it happens to.
    pub fn happens_to(&self, trouble: Trouble, what: impl FnOnce() -> String) -> bool {
        let happens = self.happens(trouble);
        if happens {
            self.tell(trouble, &what());
        }
        happens
    }

    /// This is what it happened to.
    pub fn tell(&self, trouble: Trouble, what: &str) {
        held(&self.told).push(format!("{}: {what}", trouble.word()));
    }

    /// What was told since this was asked last.
    pub fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.told))
    }

    /// A number.
    pub fn number(&self) -> u64 {
        held(&self.rng).next_u64()
    }

    /// The weather changes.
    pub fn set(&self, weather: Weather) {
        *held(&self.weather) = weather;
    }

    /// This happened.
    pub fn count(&self, what: &'static str) {
        *held(&self.happened).entry(what).or_default() += 1;
    }

    /// How often each thing happened.
    pub fn counted(&self) -> BTreeMap<&'static str, u64> {
        held(&self.happened).clone()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_is_counted_and_told_once() {
        let dice = Dice::new(1, Weather::FAIR.with(Trouble::Lie, 1_000));
        assert!(!dice.happens_to(Trouble::Lose, || "a message".to_owned()));
        assert!(dice.happens_to(Trouble::Lie, || "process 3".to_owned()));
        assert_eq!(dice.take_told(), ["lie: process 3"]);
        assert!(dice.take_told().is_empty());
        assert_eq!(dice.counted(), BTreeMap::from([("lie", 1)]));
    }
}
