//! Resources: registered, read, and their names.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::deletion::Hold;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId};

/// Most resources in one registration.
pub const REGISTER_MAX: usize = 10_000;
/// Largest body that registers resources, in bytes: as many with generous attributes.
pub const REGISTER_MAX_BYTES: usize = 32 << 20;

/// Register resources, or update those that are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// 1 to [`REGISTER_MAX`].
    pub resources: Vec<Resource>,
    /// All of them or none.
    #[serde(default)]
    pub whole: bool,
    /// Only check them: what would be said of each, and nothing is registered.
    // Left out if it is false: coordinators that do not know it refuse what they do not know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What became of each, in the request's order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Nothing if it is registered, or could be if it was only checked; else why not.
    pub results: Vec<Option<String>>,
    /// Places in `results`, from 0, of those that nothing is wrong with: they are not registered because another one was
    /// refused, and it was to be all or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with_the_rest: Vec<usize>,
}

impl Registered {
    /// What is wrong with each, in order: nothing with those that were not registered only because of others.
    pub fn wrong(self) -> Vec<Option<String>> {
        let mut wrong = self.results;
        for place in self.with_the_rest {
            if let Some(why) = wrong.get_mut(place) {
                *why = None;
            }
        }
        wrong
    }
}

/// A resource and its record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ResourceInfo {
    /// As it is registered.
    pub resource: Resource,
    /// Whether its name may be used.
    pub presence: Presence,
    /// Its live record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<DeletionId>,
    /// Holds on it: they stop any deletion of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
}

/// Whether a name may be used.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NameInfo {
    /// The name.
    pub resource: ResourceId,
    /// Nothing stands in the way of registering it.
    pub free: bool,
    /// What does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by: Option<String>,
}
