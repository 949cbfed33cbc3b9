//! Alarms.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::Timestamp;
use sexton_model::alarm::{Phase, Standing};

/// Which alarms.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmQuery {
    /// Those that are over, too.
    #[serde(default)]
    pub all: bool,
    /// Behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// At most so many, 1 to 1000; 100 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What was told of an alarm by one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldInfo {
    /// What was told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How often it failed since.
    pub failures: u16,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmInfo {
    /// The alarm.
    #[serde(flatten)]
    pub standing: Standing,
    /// Who was told, by route.
    pub told: BTreeMap<String, ToldInfo>,
}

/// How many alarms are open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmsInfo {
    /// All of them.
    pub open: u64,
    /// Those that somebody has to look at now.
    pub critical: u64,
    /// Those that nobody has acknowledged.
    pub unseen: u64,
    /// The routes of the coordinator that answers.
    pub routes: Vec<String>,
    /// Set if there are not two of different kinds: what is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}
