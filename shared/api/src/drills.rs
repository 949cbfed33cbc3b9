//! Drills: whether a cancel brings back what was switched off.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::drill::Drill;

/// The last drill with each resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillsInfo {
    /// Why the coordinator that answers begins none, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// Ascending by resource; while one goes on, what came of the one before it stands.
    pub drills: Vec<Drill>,
}
