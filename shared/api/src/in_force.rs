//! What is in force for many deletions at once: pauses and ceilings.
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::Scope;
use sexton_model::belts::ceiling::{Ceiling, NoCeiling, ScopeCeiling};
use sexton_model::belts::covered::Covered;
use sexton_model::belts::{Pause, PauseSelector};

/// Pause.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// What; nothing given covers everything.
    #[serde(default)]
    pub covers: PauseSelector,
    /// Why.
    pub reason: String,
}

/// It is in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PauseResponse {
    /// The pause.
    pub pause: Pause,
    /// Orders still out when it came into force.
    pub orders_out: u64,
    /// How much there is of what it covers by kind and scope, whatever its stage and its subsystem; not there if it
    /// could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Covered>,
    /// Set if there is nothing of the kind, or the scope, that it names: in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// One ceiling of those that are answered when one was set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CeilingInfo {
    /// What was said.
    #[serde(flatten)]
    pub said: ScopeCeiling,
    /// Of the one that was set: how much there is of its scope; not there if it could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Covered>,
    /// Of the one that was set: set if there is nothing of its scope, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// How far deletions of a scope may go from now on, or whether the scope around it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CeilingTo(pub Option<Ceiling>);

/// The word for "as the scope around it".
const INHERIT: &str = "inherit";

impl FromStr for CeilingTo {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        if word == INHERIT {
            return Ok(Self(None));
        }
        let ceiling = word.parse().map_err(|e: NoCeiling| format!("{e}, or {INHERIT}"))?;
        Ok(Self(Some(ceiling)))
    }
}

impl TryFrom<String> for CeilingTo {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

impl From<CeilingTo> for String {
    fn from(to: CeilingTo) -> Self {
        to.0.map_or(INHERIT, Ceiling::word).to_owned()
    }
}

/// Say how far deletions of a scope, or of every scope, may go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingRequest {
    /// Which scope, with those below it that have no ceiling of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Instead of a scope: every scope that has no ceiling of its own.
    #[serde(default)]
    pub everywhere: bool,
    /// `observe`, `announce`, `soft`, `hard`, `purge`, or `inherit`: as the scope around it. Raised by one stage at most.
    pub to: CeilingTo,
    /// Why. 1 to 1000 characters.
    pub reason: String,
    /// Approve that exactly these begin at once: [`crate::CrowdInfo::digest`] of those that were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What would go on under another ceiling.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CeilingQuery {
    /// As in [`CeilingRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// As in [`CeilingRequest`].
    #[serde(default)]
    pub everywhere: bool,
    /// As in [`CeilingRequest`].
    pub to: CeilingTo,
}
