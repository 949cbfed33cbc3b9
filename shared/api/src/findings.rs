//! Findings: what is there, by the last complete listing, and nobody has registered.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::belts::census::findings::{Finding, Source};
use sexton_model::{Kind, Scope};

/// Which findings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingsQuery {
    /// Only of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Only of this scope and those below it; of what is of no known scope, that of its census counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Behind this item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1000; 100 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One page of findings. Nothing was made of any of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FindingsInfo {
    /// They, ascending by the scope of their census and by id.
    pub items: Vec<Finding>,
    /// The last census of each kind and scope that was asked for: whether there are findings by it, and why not. None:
    /// nobody has handed in any, so nothing is known.
    pub censuses: Vec<Source>,
    /// Give this as `after` for the next page. A page may be empty and have one: what comes first may be of other scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
