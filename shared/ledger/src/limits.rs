//! Credit: how many orders may be out.
use std::collections::BTreeMap;

use sexton_model::Instance;
use sexton_model::decide::Lane;

/// How many orders may be out per instance, and when an instance counts as down.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Orders out per instance; below 256, latency limits the throughput rather than work.
    pub credit: u32,
    /// Further orders for restores, so that no backlog delays them.
    pub restore_credit: u32,
    /// Other credit for some instances, such as those with few and slow steps.
    pub per_instance: BTreeMap<Instance, u32>,
    /// No pulse for this long (protocol time, milliseconds) means down: three pulses of three seconds.
    pub down_after_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { credit: 512, restore_credit: 256, per_instance: BTreeMap::new(), down_after_ms: 9_000 }
    }
}

impl Limits {
    /// The credit of an instance in a lane.
    pub fn of(&self, instance: &Instance, lane: Lane) -> u32 {
        match lane {
            Lane::Restores => self.restore_credit,
            Lane::Stages => self.per_instance.get(instance).copied().unwrap_or(self.credit),
        }
    }
}
