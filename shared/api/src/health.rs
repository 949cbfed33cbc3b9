//! How it is going.
use std::collections::BTreeMap;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::belts::Pause;
use sexton_model::belts::ceiling::ScopeCeiling;
use sexton_model::belts::one_shot::OneShot;
use sexton_model::canary::Canary;
use sexton_model::checkpoint::Review;
use sexton_model::job::StateName;
use sexton_model::{Instance, Timestamp};

use crate::alarms::AlarmsInfo;
use crate::batches::BatchInfo;

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InstanceInfo {
    /// Which one.
    pub instance: Instance,
    /// Its last pulse; none if no consumer of it was ever heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse_at: Option<Timestamp>,
    /// No pulse for so long that nothing is asked of it.
    pub down: bool,
    /// Orders out.
    pub orders_out: u64,
    /// Jobs that are due or in line for it, at most 10,000.
    pub waiting: u64,
    /// Whether the coordinator that answers has a key of it. What needs one without is refused.
    #[serde(default)]
    pub known: bool,
}

/// Working hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowsInfo {
    /// In words.
    pub hours: String,
    /// When they begin next; none if they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<Timestamp>,
    /// The last holiday that is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub holidays_until: Option<NaiveDate>,
    /// Set if that has passed: what is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlived: Option<String>,
    /// Set if the calendar was changed and cannot be used, so that the one before it still counts: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// How it is going.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HealthInfo {
    /// The ledger's id.
    pub ledger: String,
    /// Its epoch.
    pub epoch: u32,
    /// Set if this is a rehearsal: how long a day is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_day_ms: Option<u64>,
    /// The store's clock.
    pub now: Timestamp,
    /// Jobs by state.
    pub jobs: BTreeMap<StateName, u64>,
    /// Since when the oldest unclaimed job is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due: Option<Timestamp>,
    /// Instances.
    pub instances: Vec<InstanceInfo>,
    /// The hours in which hard, purge and recycle begin; none if they do at any hour, as in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsInfo>,
    /// The last time in which nobody could have cancelled, if that was within a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageInfo>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// How far deletions may go: of every scope that is not listed, and of those that have a ceiling of their own.
    pub ceilings: Vec<ScopeCeiling>,
    /// Batches that exceed a budget, and wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchInfo>,
    /// Alarms that are open, and whether anybody hears of them.
    #[serde(default)]
    pub alarms: AlarmsInfo,
    /// Overrides of the last week for which the glass was broken; those that were taken back as long as they would have been good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_glass: Vec<OneShot>,
    /// How many may begin within a day, in a sentence; none if any number may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<String>,
    /// Set if the coordinator that answers sends no canaries: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries_off: Option<String>,
    /// What nobody finds out because the coordinator that answers has nothing configured for it: canaries of identity,
    /// drills. It works all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries_lack: Vec<String>,
    /// Canaries that were accepted, that nobody answered, or that prove nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
    /// Which censuses are configured to be taken and do not come: no complete one for two intervals, or never one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub censuses_lack: Vec<String>,
    /// Set if the coordinator that answers has no resource configured to be protected, in a sentence. It works all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unprotected: Option<String>,
    /// Set if the ledger went back in time: nothing is dispatched before somebody has accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// Set if this coordinator orders nothing because its witness could not be kept: for how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_stale_s: Option<u64>,
    /// Set if this coordinator signs nothing more of the audit trail: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<String>,
    /// Counters of this coordinator since its start.
    pub counters: BTreeMap<String, u64>,
}

/// A time in which nobody could have cancelled: graces that it was a part of end as much later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutageInfo {
    /// The last heartbeat before it.
    pub began: Timestamp,
    /// The first one after it.
    pub ended: Timestamp,
}
