//! Canaries: what must be refused, and whether it is.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::canary::Canary;

/// The last run of canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanariesInfo {
    /// Why the coordinator that answers sends none, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// All of them, ascending by number; while one is open, what came of the one before it stands.
    pub canaries: Vec<Canary>,
}
