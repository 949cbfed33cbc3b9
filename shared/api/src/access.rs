//! Tokens, who one is, and who was refused.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::access::{Extent, Role, Token};
use sexton_model::{Actor, Scope, Timestamp};

/// Issue a token.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose: what it does is written down under this name. A name is given once.
    pub name: Actor,
    /// What for.
    pub role: Role,
    /// To which scopes, and those below them, it is limited.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Instead: to none.
    #[serde(default)]
    pub everywhere: bool,
    /// How long it is good, in seconds: at most 366 days; 90 days if this is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_for_s: Option<u64>,
}

/// It was issued. Not printed for debugging, because of the secret.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// What its bearer shows. It is said here, and nowhere and never again.
    pub secret: String,
}

/// Which tokens, or which events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenQuery {
    /// Behind this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Actor>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// The token's name; none for whoever says who they are in the header `sexton-actor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Actor>,
    /// What they are there for.
    pub role: Role,
    /// Where.
    pub extent: Extent,
}

/// Which events of tokens and refusals.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessQuery {
    /// Behind this number; the latest thousand if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// A token was issued or revoked, or somebody was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessEvent {
    /// Its number in the chain.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// `token_issued`, `token_revoked` or `refused`.
    pub what: String,
    /// Who did it, or was refused.
    pub by: String,
    /// The token, or what was refused and why.
    pub body: serde_json::Value,
}

/// Some of them, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessEvents {
    /// The events.
    pub events: Vec<AccessEvent>,
    /// Give this as `after` for the next ones; none if these are the last.
    pub next: Option<i64>,
}
