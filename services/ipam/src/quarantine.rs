//! How long a released address rests before it may be given out again.
//!
//! Others believe in an address for longer than its machine lives: caches of names, firewalls, peers, clients that were told it. A
//! new machine that got it at once would be taken for the old one.
//!
//! In days of 24 hours of real time, also in a rehearsal: a consumer does not know how long a day is there.
use serde::Deserialize;

/// Longest, in days. An address that nobody is ever to have again is taken out of what the server gives out.
const MAX_DAYS: u16 = 365;
/// Unless it is configured. Longer than names and leases are usually remembered.
const DEFAULT_DAYS: u16 = 7;
const SECONDS_PER_DAY: u32 = 86_400;

/// A whole number of days, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct Quarantine {
    days: u16,
}

impl Quarantine {
    /// In days.
    pub fn days(self) -> u16 {
        self.days
    }

    /// In seconds, as Kea counts.
    pub(crate) fn seconds(self) -> u32 {
        u32::from(self.days) * SECONDS_PER_DAY
    }

    /// In milliseconds.
    pub(crate) fn ms(self) -> u64 {
        u64::from(self.seconds()) * 1_000
    }
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { days: DEFAULT_DAYS }
    }
}

impl TryFrom<u16> for Quarantine {
    type Error = String;
    fn try_from(days: u16) -> Result<Self, String> {
        if (1..=MAX_DAYS).contains(&days) {
            return Ok(Self { days });
        }
        Err(format!("quarantine_days: expected 1 to {MAX_DAYS} days, found {days}"))
    }
}
