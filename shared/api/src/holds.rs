//! Holds on resources.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::Actor;
use sexton_model::deletion::Hold;

/// Hold a resource, whether or not it has a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Who or what holds, such as `legal`; whoever asks, if it is left out. It can be released by this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Actor>,
    /// Why.
    pub reason: String,
}

/// Which holds of a resource are released: all of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseQuery {
    /// Whose.
    pub origin: Actor,
}

/// Holds that were released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// As they stood.
    pub released: Vec<Hold>,
}
