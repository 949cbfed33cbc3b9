//! Healthy time, as both footings keep it: heartbeats come with checkpoints, and what nobody could have cancelled in is
//! read only for what may begin a stage that has a grace.
use sexton_model::belts::healthy::{binds, tolerance_ms};
use sexton_model::decide::Event;
use sexton_model::time::Day;

use crate::{Intent, Limits, budget};

/// Whether a batch of intents has to know it.
pub(crate) fn asked(intents: &[Intent]) -> bool {
    intents.iter().any(|intent| match &intent.event {
        Event::Claim { job } | Event::Recheck { job } => budget::stage(*job).is_some_and(binds),
        Event::Proceed { .. }
        | Event::Outcome { .. }
        | Event::Progress { .. }
        | Event::LeaseOver { .. }
        | Event::Cancel { .. }
        | Event::PlaceHold { .. }
        | Event::ReleaseHold { .. }
        | Event::Park { .. }
        | Event::Retry { .. }
        | Event::Acknowledge { .. }
        | Event::Bounced { .. }
        | Event::Waive { .. }
        | Event::Rescue { .. } => false,
    })
}

impl Limits {
    /// How far apart two heartbeats may be without an outage, in milliseconds.
    pub(crate) fn silent_ms(&self, day: Day) -> u64 {
        self.outage_after_ms.unwrap_or_else(|| tolerance_ms(day))
    }
}
