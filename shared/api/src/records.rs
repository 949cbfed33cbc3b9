//! Deletion records: made, foreseen, decided about, and shown.
use std::collections::BTreeMap;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_model::audit::AuditEvent;
use sexton_model::belts::{InForce, Pause};
use sexton_model::deletion::{Deletion, Hold, RecordStatus, Waiver, WaiverClaim, Zone};
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::outlook::Foresight;
use sexton_model::preview::StagePreview;
use sexton_model::resource::{Identity, Resource};
use sexton_model::undo::undo;
use sexton_model::{DeletionId, Instance, ResourceId, Scope, Timestamp, decide, outlook};

use crate::date;

/// Make a deletion record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// What is to go.
    pub resource: ResourceId,
    /// On which date its soft stage is due. There is no default.
    #[serde(deserialize_with = "date::required")]
    #[schemars(with = "String")]
    pub on: NaiveDate,
    /// Whose calendar; that of the coordinator's configuration if not given, and UTC if that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// By when it must be gone; shown with the record.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date::optional")]
    #[schemars(with = "Option<String>")]
    pub gone_by: Option<NaiveDate>,
    /// Why.
    pub reason: String,
}

/// What would a record do? Nothing is made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// What would go.
    pub resource: ResourceId,
    /// On which date its soft stage would be due. There is no default.
    #[serde(deserialize_with = "date::required")]
    #[schemars(with = "String")]
    pub on: NaiveDate,
    /// Whose calendar; that of the coordinator's configuration if not given, and UTC if that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// By when it would have to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "date::optional")]
    #[schemars(with = "Option<String>")]
    pub gone_by: Option<NaiveDate>,
}

impl From<Delete> for PreviewRequest {
    fn from(Delete { resource, on, zone, gone_by, reason: _ }: Delete) -> Self {
        Self { resource, on, zone, gone_by }
    }
}

/// What a record would do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PreviewInfo {
    /// What would go.
    pub resource: ResourceId,
    /// Which one of that name.
    pub identity: Identity,
    /// Whose calendar the date is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Its stages, in order. What each subsystem holds of it is not looked up for this: a survey does.
    pub stages: Vec<StagePreview>,
    /// Until when a cancel is certain to be taken, as the record will say: its stages may begin later, when hours let them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// Until when its data is certain to be there, so that a rescue by hand is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_until: Option<Timestamp>,
    /// What is asked for and cannot be met, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
    /// Set if it would be one of too many that are announced within a day: which budget that exceeds, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<String>,
    /// Instances that it needs and of which no consumer is there at present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<Instance>,
    /// Set if nobody would be told in time to say no: why not, as its plan says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
    /// Set while the job table is under review, as it went back in time: the epoch of that. Until a person has accepted it nothing
    /// goes on, whatever the belts say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<u32>,
}

/// A record was made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// Its id.
    pub deletion: DeletionId,
    /// On which date its soft stage is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub on: Option<NaiveDate>,
    /// Whose calendar that is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// When its soft stage is due, with which it is switched off, as far as one can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_at: Option<Timestamp>,
    /// When its purge is due, with which its data is destroyed, as far as one can say: never earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<Timestamp>,
    /// Until when a cancel is certain to be taken: when its hard stage is due, as far as one can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// What was asked for and cannot be met, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
    /// How far it may go as things stand, in a sentence, if not all the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<String>,
    /// Pauses in force that cover any of it, and which stages, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<String>,
    /// Set if it is one of too many that are announced within a day: which budget that exceeds, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<String>,
}

impl Created {
    /// The answer to whoever made the record `d`, as far as one can say.
    pub fn of(d: &Deletion, in_force: &InForce, by: &Foresight<'_>) -> Self {
        let estimates = outlook::estimates(d, by);
        let due = |stage| estimates.get(&stage).map(|estimate| estimate.at);
        let late = outlook::late(d, by).iter().map(ToString::to_string).collect();
        let ceiling = in_force.ceilings.limits(&d.record.resource.scope);
        let stopped = |pause: &Pause| {
            let stages: Vec<&str> = pause.stages_of(d).into_iter().map(Stage::word).collect();
            let Pause { id, by, reason, .. } = pause;
            (!stages.is_empty()).then(|| format!("pause {id} stops {} ({by}: {reason})", stages.join(", ")))
        };
        Self {
            deletion: d.id,
            on: Some(d.record.due.date),
            zone: Some(d.record.due.zone),
            soft_at: due(Stage::Soft),
            purge_at: due(Stage::Purge),
            cancel_until: undo(d, by.day, by.now).until,
            late,
            ceiling,
            pauses: in_force.pauses.iter().filter_map(stopped).collect(),
            crowd: None,
        }
    }

    /// The answer if nothing can be said of what lies ahead.
    pub fn unread(deletion: DeletionId) -> Self {
        Self {
            deletion,
            on: None,
            zone: None,
            soft_at: None,
            purge_at: None,
            cancel_until: None,
            late: Vec::new(),
            ceiling: None,
            pauses: Vec::new(),
            crowd: None,
        }
    }
}

/// Let the parked step pass, or state that what has appeared belongs to the deletion.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waive {
    /// What is stated.
    pub claim: WaiverClaim,
    /// The mark of what was looked at: [`DeletionInfo::mark`]. It is stated of that alone, and refused if anything else stands
    /// there by now.
    pub mark: String,
    /// On what evidence.
    pub evidence: String,
}

/// Everybody was told otherwise, whom a notice did not reach.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The mark of what was looked at, as of [`Waive::mark`].
    pub mark: String,
    /// Who was told, and how.
    pub reason: String,
}

/// The resource was saved by hand.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rescue {
    /// How.
    pub evidence: String,
}

/// What became of a decision on a deletion.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Where the record stands now.
    pub status: RecordStatus,
}

/// One line of a listing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeletionLine {
    /// The record.
    pub id: DeletionId,
    /// Its resource.
    pub resource: ResourceId,
    /// Its scope.
    pub scope: Scope,
    /// Where the record stands.
    pub status: RecordStatus,
    /// The first job that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobKind>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
    /// When it is or was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The mark of what a person has to look at, as of [`DeletionInfo::mark`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Whether a cancel would still be taken.
    #[serde(default)]
    pub cancel: bool,
    /// What can still be undone, in a sentence.
    #[serde(default)]
    pub undo: String,
    /// Until when that is certain: a cancel, or once hard has begun, a rescue by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
}

/// One job of a record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobInfo {
    /// Stage or restore.
    pub job: JobKind,
    /// Its state.
    pub state: StateName,
    /// When it is due: by its date alone while an earlier stage is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Whether `due_at` can still move because an earlier stage is not done.
    pub estimated: bool,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Steps done and steps in all.
    pub steps: (u16, u16),
    /// The step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// One event of the trail.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TrailLine {
    /// Its number.
    pub seq: i64,
    /// What happened.
    pub event: AuditEvent,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// A step that a person let pass.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WaiverInfo {
    /// Stage or restore.
    pub job: JobKind,
    /// The step; none at the end of recycle, where everything is meant that may remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What was stated.
    pub claim: WaiverClaim,
    /// Who stated it.
    pub by: String,
    /// On what evidence.
    pub evidence: String,
    /// When.
    pub at: Timestamp,
}

impl WaiverInfo {
    /// What a waiver of `d` says; none if it is of a job that there is not.
    pub fn of(d: &Deletion, waiver: &Waiver) -> Option<Self> {
        Some(Self {
            job: JobKind::from_slot(waiver.slot)?,
            step: d.step_of(waiver).map(|step| step.name.clone()),
            claim: waiver.claim,
            by: waiver.by.to_string(),
            evidence: waiver.evidence.clone(),
            at: waiver.at,
        })
    }
}

/// Everything about a record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeletionInfo {
    /// Its id.
    pub id: DeletionId,
    /// The resource as it was when the record was made.
    pub resource: Resource,
    /// Where it stands.
    pub status: RecordStatus,
    /// The date it is due, and whose calendar that is.
    #[schemars(with = "String")]
    pub due: NaiveDate,
    /// The zone.
    pub zone: Zone,
    /// By when it must be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gone_by: Option<NaiveDate>,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// Set if nobody is told in time to say no: why not, as its plan says, or that it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Its jobs in order.
    pub jobs: Vec<JobInfo>,
    /// Holds that stand.
    pub holds: Vec<Hold>,
    /// Holds on the resource, whatever record it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_holds: Vec<Hold>,
    /// The mark of what a person has to look at: the step that is parked, and why; or of whom it was said that the notice
    /// came back. Whoever waives or acknowledges names it, so that it is stated of nothing else. None if there is no such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Steps that were let pass.
    pub waivers: Vec<WaiverInfo>,
    /// What can still be undone, in a sentence.
    pub undo: String,
    /// Until when a cancel is certain to be taken: the earliest the hard stage can begin. Once it has begun: the earliest
    /// that purge can, until which the data is there to be rescued by hand; none once that has passed, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_until: Option<Timestamp>,
    /// What its receipt says, in a sentence; none before purge is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Pinned targets.
    pub targets: BTreeMap<Instance, Value>,
    /// The audit trail.
    pub trail: Vec<TrailLine>,
    /// Whether the trail's chain holds.
    pub chain: String,
}

impl DeletionInfo {
    /// What the record itself says. How its jobs are, what can be undone, and what is kept beside it (receipt, targets,
    /// trail and chain) says whoever shows it: here it is empty.
    pub fn of(d: &Deletion) -> Self {
        let record = &d.record;
        Self {
            id: d.id,
            resource: record.resource.clone(),
            status: d.status,
            due: record.due.date,
            zone: record.due.zone,
            gone_by: record.gone_by,
            requested_by: record.requested_by.to_string(),
            reason: record.reason.clone(),
            unannounced: d.plan.untold(),
            created_at: record.created_at,
            jobs: Vec::new(),
            holds: d.holds.clone(),
            resource_holds: d.resource_holds.clone(),
            mark: decide::mark(d),
            waivers: d.waivers.iter().filter_map(|waiver| WaiverInfo::of(d, waiver)).collect(),
            undo: String::new(),
            cancel_until: None,
            receipt: None,
            targets: BTreeMap::new(),
            trail: Vec::new(),
            chain: String::new(),
        }
    }
}

/// What stays of a record that was archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedInfo {
    /// The record.
    pub id: DeletionId,
    /// Its resource.
    pub resource: ResourceId,
    /// How it ended.
    pub status: RecordStatus,
    /// When.
    pub ended_at: Timestamp,
    /// When it was archived.
    pub archived_at: Timestamp,
    /// The file, relative to the archive's folder.
    pub file: String,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// How many events its chain has.
    pub events: i64,
    /// Hash of the last one, in hexadecimal.
    pub head: String,
    /// The key that this was signed with.
    pub key_id: String,
    /// The signature over all of it but the key, with the ledger's name, in base64.
    pub signature: String,
    /// `verified`, or why that is not known.
    pub signed: String,
}
