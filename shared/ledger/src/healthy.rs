//! Healthy time, as both footings keep it: heartbeats come with checkpoints, and what nobody could have cancelled in is
//! read only for what may begin a stage that has a grace.
use sexton_model::belts::healthy::{binds, tolerance_ms};
use sexton_model::time::Day;

use crate::{Intent, Limits, budget};

/// Whether a batch of intents has to know it.
pub(crate) fn asked(intents: &[Intent]) -> bool {
    let mut beginning = intents.iter().filter_map(|intent| intent.event.begins());
    beginning.any(|job| budget::stage(job).is_some_and(binds))
}

impl Limits {
    /// How far apart two heartbeats may be without an outage, in milliseconds.
    pub(crate) fn silent_ms(&self, day: Day) -> u64 {
        self.outage_after_ms.unwrap_or_else(|| tolerance_ms(day))
    }
}
