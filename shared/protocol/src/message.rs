//! The messages themselves. All but the beacon are closed: an unknown field is an error, a change of form is a new version.
//!
//! A field may be added to a version if it is left out where it says nothing and older messages are read without it: then
//! only a reader of an older version refuses, and names it. What version 1 says is frozen in `tests/written`. A beacon
//! may say more than its hearer knows: whoever heard none would stand still.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::Nature;
use sexton_model::job::JobKind;
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome};
use sexton_model::{ActionName, DeletionId, Fence, Instance, JobId, ResourceId, Timestamp};

/// Most jobs in one wake-up: a batch that one claiming transaction can still take.
pub const STAGE_DUE_MAX: usize = 1024;
/// Bytes of a rejected body that are kept: enough to see what it was, too few to fill a broker.
pub const REJECTED_BODY_MAX_BYTES: usize = 4096;
/// Most orders that one copy of a consumer carries out at once.
pub const CONCURRENCY_MAX: u32 = 256;
/// Longest free text in a message, in bytes.
pub const TEXT_MAX_BYTES: usize = 2048;

/// Asks one consumer for one part of one step. Made by the coordinator, sealed with the key of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The job whose step it is.
    pub job: JobId,
    /// Its deletion record.
    pub deletion: DeletionId,
    /// The resource the record is about.
    pub resource: ResourceId,
    /// Which stage, or a restore.
    pub kind: JobKind,
    /// Index of the step in its stage.
    pub step: u16,
    /// The instance that is asked; a consumer refuses what names another.
    pub instance: Instance,
    /// What to do.
    pub action: ActionName,
    /// Which part of it.
    pub mode: Mode,
    /// What the plan took the action for; a consumer whose catalogue says otherwise refuses.
    pub nature: Nature,
    /// What makes the resource this one.
    pub identity: Identity,
    /// What the platform registered for the subsystem, if anything.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub attributes: Value,
    /// What is pinned for the instance, once it is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub targets: Value,
    /// What was captured for this step, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// The plan's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// Numbers this dispatch.
    pub fence: Fence,
    /// The pause revision when it was dispatched.
    pub revision: i64,
    /// When it was dispatched.
    pub issued_at: Timestamp,
    /// Nothing is begun for it after this.
    pub deadline: Timestamp,
    /// Longest single call to the subsystem, in milliseconds.
    pub longest_call_ms: u64,
    /// May be extended beyond its deadline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long: bool,
    /// How many attempts were spent before.
    pub attempt: u16,
}

/// Answers one order. Sealed with the key of the instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeReport {
    /// The job.
    pub job: JobId,
    /// The order's number; under any other than the job's own the answer is stale.
    pub fence: Fence,
    /// Who answers.
    pub instance: Instance,
    /// The answer.
    pub outcome: Outcome,
}

/// Says that an order was begun (`done` 0) or goes on. Sealed with the key of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// The order's number.
    pub fence: Fence,
    /// Who performs it.
    pub instance: Instance,
    /// Drawn by the performer when it began; an extension names it.
    pub nonce: u64,
    /// Units done.
    pub done: u64,
    /// Units in all; 0 if nobody knows.
    pub total: u64,
}

/// Lets one performer of a long step go on. Signed by a coordinator, on the beacon's fanout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The job.
    pub job: JobId,
    /// The order's number.
    pub fence: Fence,
    /// The performer that is meant, by the nonce of its first progress.
    pub nonce: u64,
    /// The new deadline.
    pub deadline: Timestamp,
}

/// Says that these jobs are due. Made by the scheduler; decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageDue {
    /// At most [`STAGE_DUE_MAX`].
    #[schemars(length(min = 1, max = 1024))]
    pub jobs: Vec<JobId>,
}

/// Says that one copy of a consumer lives. Sealed with the key of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pulse {
    /// Whose consumer it is.
    pub instance: Instance,
    /// Which copy of it; different for every process.
    pub consumer: String,
    /// Its version.
    pub version: String,
    /// Orders it carries out at once; credit is derived from it. One, of a consumer of 0.1.0, which does not say it.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: u32,
    /// Orders it has answered or reported on since it began: whether it works, or only lives. 0.1.0 does not say it.
    #[serde(default)]
    pub answered: u64,
    /// Its own clock.
    pub at: Timestamp,
}

fn one() -> u32 {
    1
}

/// The state of a ledger read, once a second. Signed by a coordinator.
pub type BeaconMessage = Beacon;

/// At which check a consumer rejected a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Before anything else: it has more bytes than such messages may have.
    Oversized,
    /// Its proof is missing or wrong, so it was not read.
    Unauthenticated,
    /// It is authentic, and not what such messages are.
    Malformed,
    /// It is authentic, and came after its deadline.
    Expired,
    /// It is authentic, and a later one for the same resource is known.
    Stale,
}

impl Check {
    /// Its word, as metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Unauthenticated => "unauthenticated",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Stale => "stale",
        }
    }
}

/// A message that was not accepted, and why. For people, and for coordinators who look for canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// Why.
    pub reason: String,
    /// At which check, if a consumer rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Where it came from.
    pub queue: String,
    /// The id it carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The broker user who published it, if the broker vouches for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The first [`REJECTED_BODY_MAX_BYTES`] of it, in base64.
    pub body_base64: String,
}

impl Rejected {
    /// Rejects `body`, cutting what is too long.
    pub fn new(reason: &str, queue: &str, message_id: Option<&str>, user: Option<&str>, body: &[u8]) -> Self {
        use base64::Engine;
        let kept = &body[..body.len().min(REJECTED_BODY_MAX_BYTES)];
        Self {
            reason: cut(reason, TEXT_MAX_BYTES),
            check: None,
            queue: cut(queue, 256),
            message_id: message_id.map(|id| cut(id, 128)),
            user: user.map(|user| cut(user, 256)),
            body_base64: base64::engine::general_purpose::STANDARD.encode(kept),
        }
    }
}

/// Something that happened to a deletion, for whoever listens (dashboards, billing, chat). Signed by a
/// coordinator. Never a reason for a consumer to do anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Happened {
    /// The record.
    pub deletion: DeletionId,
    /// Its resource.
    pub resource: ResourceId,
    /// The event's name, such as `stage.done` or `cancelled`.
    pub what: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Its place in the record's audit chain; with the deletion it names the event once and for all.
    pub sequence: i64,
    /// The job it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// More, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// `text`, cut to `max` bytes at a character's boundary.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}
