//! Batches that exceed a budget, and overrides of single belts.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::belts::budget::Group;
use sexton_model::belts::one_shot::Passable;
use sexton_model::job::Stage;
use sexton_model::{Actor, DeletionId, ResourceId, Timestamp};

/// Most members of a batch, or of a crowd, that are shown; its digest is of all.
pub const MEMBERS_SHOWN: usize = 1000;

/// A batch that may not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchInfo {
    /// Its number.
    pub batch: i64,
    /// What its members have in common: scope, kind and the stage that they would begin.
    #[serde(flatten)]
    pub group: Group,
    /// Since when.
    pub since: Timestamp,
    /// Members that still wait.
    pub waiting: u64,
    /// Whether somebody has to approve it, or so many others of its scope, kind and stage that the rest may begin; otherwise
    /// it begins by itself when there is room.
    pub needs_approval: bool,
    /// Which budget it exceeds, in a sentence, as it was when it was frozen.
    pub why: String,
    /// The pauses and the ceiling that keep it where it is, approved or not, each in a line; those that are in force now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped_by: Vec<String>,
}

/// One that waits in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchMember {
    /// Its record.
    pub deletion: DeletionId,
    /// What would be deleted.
    pub resource: ResourceId,
    /// Who asked for that, and may not approve it.
    pub requested_by: Actor,
    /// What a cancel would restore, in a sentence.
    #[serde(default)]
    pub undo: String,
    /// Until when that is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// Set if nobody is told in time to say no: why not, as its plan says, or that it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
}

/// A batch, and who waits in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchDetails {
    /// The batch.
    #[serde(flatten)]
    pub info: BatchInfo,
    /// What is approved: SHA-256 over the stage and all members, hexadecimal.
    pub digest: String,
    /// The members, ascending by record; the first thousand.
    pub members: Vec<BatchMember>,
}

/// What would go on if a pause were lifted, or a ceiling raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoppedDetails {
    /// By scope, kind and stage.
    pub groups: Vec<StoppedInfo>,
    /// Set if somebody has to approve that some of them begin at once: who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<CrowdInfo>,
}

/// All that would begin at once and are too many for that: those of each group with a [`StoppedInfo::crowd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdInfo {
    /// What is approved: SHA-256 over the stages and all members, hexadecimal.
    pub digest: String,
    /// How many they are.
    pub total: u64,
    /// Who they are, in the order of the groups and ascending by record; the first thousand.
    pub members: Vec<CrowdMember>,
}

/// One that would begin, or go on, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrowdMember {
    /// Its record.
    pub deletion: DeletionId,
    /// What would be deleted.
    pub resource: ResourceId,
    /// The stage that it would begin, or go on with.
    pub stage: Stage,
    /// Who asked for that, and may not approve it.
    pub requested_by: Actor,
    /// What a cancel would restore, in a sentence.
    #[serde(default)]
    pub undo: String,
    /// Until when that is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// Set if nobody is told in time to say no: why not, as its plan says, or that it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
}

/// What of one scope, kind and stage would go on if a pause were lifted, or a ceiling raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoppedInfo {
    /// Its scope, kind and stage.
    #[serde(flatten)]
    pub group: Group,
    /// Deletions that would begin that stage.
    pub held: u64,
    /// Deletions that have begun it, and would go on with it.
    pub midway: u64,
    /// Of both, how many would do so at once, since nothing counts them first.
    #[serde(default)]
    pub at_once: u64,
    /// Set if those that would begin, or of a stage that no budget counts what has piled up before it, are too
    /// many: they would be a batch, and this is the budget that it exceeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Set if those of `at_once` are of a stage that no budget counts, and more than a number lets begin: somebody has to
    /// approve that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<String>,
}

/// How a pause is lifted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeQuery {
    /// Approve that exactly these begin, or go on, at once: [`CrowdInfo::digest`] of those that were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Approve a batch.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// Of the set that was looked at.
    pub digest: String,
    /// Why.
    pub reason: String,
}

/// Let one stage of one deletion pass one belt.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Whose.
    pub deletion: DeletionId,
    /// Which stage.
    pub stage: Stage,
    /// Which belt.
    pub belt: Passable,
    /// Why.
    pub reason: String,
    /// Whoever asks has requested the deletion, and nobody else can be asked.
    #[serde(default)]
    pub break_glass: bool,
}

/// It was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approved {
    /// Which.
    pub batch: i64,
    /// How many go on.
    pub members: u64,
}
