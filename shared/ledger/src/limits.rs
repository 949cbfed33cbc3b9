//! Credit: how many orders may be out.
use std::collections::BTreeMap;

use sexton_model::decide::Lane;
use sexton_model::{Instance, Timestamp};

use crate::view::InstanceState;

/// How many orders may be out per instance, and when an instance counts as down.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most orders out per instance; below 512, latency limits the throughput rather than work, and beyond 2048 nothing
    /// is gained. What its consumers can do in time bounds it further; see [`sexton_model::credit`].
    pub credit: u32,
    /// Further orders for restores, so that no backlog delays them, nor they each other: of a thousand machines that are
    /// cancelled together none waits for another, as far as their consumers' hands go.
    pub restore_credit: u32,
    /// Other credit for some instances, such as those with few and slow steps.
    pub per_instance: BTreeMap<Instance, u32>,
    /// No pulse for this long (protocol time, milliseconds) means down: three pulses of three seconds.
    pub down_after_ms: u64,
    /// No pulse for this long (protocol time, milliseconds) means gone: what has been in line at it for as long
    /// parks. A day: whoever maintains it for an evening finds its jobs still in line.
    pub gone_after_ms: u64,
    /// How long the rounds over jobs that are held, blocked or stuck in line rest (milliseconds), and so how late a
    /// protection that was lifted is seen. What lifts a hold or a pause looks at once.
    pub look_again_ms: u64,
    /// No heartbeat of a coordinator that serves the API for this long (protocol time, milliseconds): nobody could have
    /// cancelled. `None`: as long as [`sexton_model::belts::healthy::tolerance_ms`] says of the ledger's day.
    pub outage_after_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            credit: 2048,
            restore_credit: 1024,
            per_instance: BTreeMap::new(),
            down_after_ms: 9_000,
            gone_after_ms: 86_400_000,
            look_again_ms: 60_000,
            outage_after_ms: None,
        }
    }
}

impl Limits {
    /// After how many microseconds without a pulse an instance, or a copy, is down.
    pub(crate) fn down_after_us(&self) -> i64 {
        i64::try_from(self.down_after_ms.saturating_mul(1000)).unwrap_or(i64::MAX)
    }

    /// The credit of an instance in a lane.
    pub fn of(&self, instance: &Instance, lane: Lane) -> u32 {
        match lane {
            Lane::Restores => self.restore_credit,
            Lane::Stages => self.per_instance.get(instance).copied().unwrap_or(self.credit),
        }
    }

    /// Pulses and what waits, put together.
    pub(crate) fn states(
        &self,
        now: Timestamp,
        pulses: impl IntoIterator<Item = (Instance, Timestamp)>,
        waiting: impl IntoIterator<Item = (Instance, u64)>,
    ) -> BTreeMap<Instance, InstanceState> {
        let mut states: BTreeMap<Instance, InstanceState> = BTreeMap::new();
        for (instance, at) in pulses {
            let down = now.ms_since(at) > self.down_after_ms;
            states.insert(instance, InstanceState { pulse_at: Some(at), down, waiting: 0 });
        }
        let never = InstanceState { down: true, ..InstanceState::default() };
        for (instance, waiting) in waiting.into_iter().filter(|(_, waiting)| *waiting > 0) {
            states.entry(instance).or_insert(never).waiting = waiting;
        }
        states
    }
}
