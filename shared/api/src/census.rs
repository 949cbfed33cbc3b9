//! Censuses: complete listings of what is there.
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::belts::census::{Listed, Taken};
use sexton_model::{Kind, Scope};

/// A listing of all resources of a kind in a scope and those below it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CensusRequest {
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// The name of the credential that it was listed with; never the credential itself.
    pub credential: String,
    /// That another credential than last time is meant. Takes the role operator.
    #[serde(default)]
    pub new_credential: bool,
    /// That so many fewer than last time is meant; of the first one, that nothing is listed of a scope in which something is registered.
    /// Takes the role operator.
    #[serde(default)]
    pub fewer: bool,
    /// That so many more than last time, or than within a day, is meant. Takes the role operator.
    #[serde(default)]
    pub more: bool,
    /// When it was begun.
    #[schemars(with = "String")]
    pub taken_at: DateTime<Utc>,
    /// How many there are, as the platform counts them itself, and not how many were listed.
    pub total: u64,
    /// All of them, ascending by id, as pages that are cut by that key give them.
    pub listed: Vec<Listed>,
}

/// A census that the coordinator is to take itself, from every instance that lists the kind.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeCensus {
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// That another credential than last time is meant, or that other places are asked.
    #[serde(default)]
    pub new_credential: bool,
    /// That so many fewer than last time is meant; of the first one, that nothing is there of a scope in which something is registered.
    #[serde(default)]
    pub fewer: bool,
    /// How long the instances may take to list everything, in seconds, 1 to 25; 20 unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_secs: Option<u64>,
}

/// Which censuses.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CensusesQuery {
    /// Behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// At most so many, 1 to 1000; 100 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A census was believed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CensusInfo {
    /// What is kept of it.
    #[serde(flatten)]
    pub taken: Taken,
    /// The pause of its scope that so many deletions by others led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<i64>,
    /// The pause of its kind everywhere that so many in all scopes together led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_everywhere: Option<i64>,
}
