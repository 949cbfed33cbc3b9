//! The section `[census]`, as it is written.
use serde::Deserialize;

use super::{Rules, SCOPES_MAX, Sentinel};

/// Longest age that is believed, in minutes: a day.
const AGE_MAX_MINUTES: u32 = 24 * 60;

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    #[serde(default)]
    age_max_minutes: Option<u32>,
    #[serde(default)]
    shrinks_percent: Option<u8>,
    #[serde(default)]
    sentinels: Vec<Sentinel>,
}

/// Why a section cannot be used. Each names its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// No age, or one of days.
    #[error("age_max_minutes = {0}: expected 1 to {AGE_MAX_MINUTES}")]
    Age(u32),
    /// Nothing would ever be too few.
    #[error("shrinks_percent = {0}: expected 0 to 99")]
    Shrinks(u8),
    /// More sentinels than scopes are counted.
    #[error("sentinels: {0} of them: expected at most {SCOPES_MAX}")]
    TooMany(usize),
}

impl Written {
    /// What is asked of censuses.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn rules(self) -> Result<Rules, Mistake> {
        let default = Rules::default();
        let age_max_ms = match self.age_max_minutes {
            None => default.age_max_ms,
            Some(minutes @ 1..=AGE_MAX_MINUTES) => u64::from(minutes) * 60_000,
            Some(minutes) => return Err(Mistake::Age(minutes)),
        };
        let shrinks_percent = match self.shrinks_percent {
            None => default.shrinks_percent,
            Some(percent @ 0..=99) => percent,
            Some(percent) => return Err(Mistake::Shrinks(percent)),
        };
        if self.sentinels.len() > SCOPES_MAX {
            return Err(Mistake::TooMany(self.sentinels.len()));
        }
        Ok(Rules { age_max_ms, shrinks_percent, sentinels: self.sentinels })
    }
}
