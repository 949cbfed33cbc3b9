//! Whether the job table can be believed: its chains, their hashes, and the review of one that went back in time.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::attest::Lost;
use sexton_model::checkpoint::Review;

/// Most hashes in one request: as many as a signed checkpoint has heads.
pub const HASHES_MAX: usize = sexton_model::attest::HEADS_MAX;

/// Whether the ledger went back in time and has to be reviewed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReviewInfo {
    /// What a person has to accept; nothing is dispatched until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// While one is open: what was signed of the audit trail, and is not in the job table. Only for whoever sees all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostInfo>,
}

/// Most chains that are named.
pub const LOST_SHOWN: usize = 1000;

/// What the signed checkpoints of the coordinator that answers know, and the job table does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostInfo {
    /// How many chains have lost events.
    pub total: u64,
    /// Which ones, ascending by name; the first thousand.
    pub chains: Vec<Lost>,
    /// Set if nothing of that is known: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
}

/// Accept the ledger as it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptReview {
    /// The epoch of the review that was looked at: another one is not accepted by it.
    pub epoch: u32,
    /// What was compared, and why it may go on. 1 to 1000 characters.
    pub reason: String,
}

/// Which chains of the audit trail to check.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Some chains of the audit trail, checked against their heads.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditInfo {
    /// How many.
    pub checked: u64,
    /// Those that do not hold: `pauses`, a resource, or a record.
    pub broken: Vec<BrokenChain>,
    /// Give this as `after` for the next page; none if this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A chain that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokenChain {
    /// Which one: `pauses`, a resource, or a record.
    pub chain: String,
    /// Where it is broken.
    pub why: String,
}

/// Ask for the hashes of some events of the audit trail.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashesQuery {
    /// 1 to [`HASHES_MAX`].
    pub events: Vec<EventName>,
}

/// One event of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventName {
    /// Its chain: `pauses`, a resource, or a record.
    pub chain: String,
    /// Its number in the chain, from 1.
    pub seq: i64,
}

/// What the job table holds for some events of the audit trail.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Hashes {
    /// The ledger's id.
    pub ledger: String,
    /// Their hashes, in hexadecimal and in the request's order; none for an event that is not there.
    pub hashes: Vec<Option<String>>,
}
