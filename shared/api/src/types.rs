//! What travels over the API.
use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_model::audit::AuditEvent;
use sexton_model::belts::ceiling::{Ceiling, NoCeiling, ScopeCeiling};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::belts::{InForce, Pause, PauseSelector};
use sexton_model::canary::Canary;
use sexton_model::checkpoint::Review;
use sexton_model::deletion::{Deletion, Hold, RecordStatus, Waiver, WaiverClaim, Zone};
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::outlook::Foresight;
use sexton_model::preview::StagePreview;
use sexton_model::resource::{Identity, Presence, Resource};
use sexton_model::undo::undo;
use sexton_model::{DeletionId, Instance, ResourceId, Scope, Timestamp, outlook};

use crate::alarms::AlarmsInfo;
use crate::batches::BatchInfo;
use crate::date;

/// Most resources in one registration.
pub const REGISTER_MAX: usize = 10_000;
/// Largest page of a listing.
pub const PAGE_MAX: u32 = 1000;
/// Most hashes in one request: as many as a signed checkpoint has heads.
pub const HASHES_MAX: usize = sexton_model::attest::HEADS_MAX;

/// Register resources, or update those that are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// 1 to [`REGISTER_MAX`].
    pub resources: Vec<Resource>,
    /// All of them or none.
    #[serde(default)]
    pub whole: bool,
}

/// What became of each, in the request's order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Nothing if it is registered, else why not.
    pub results: Vec<Option<String>>,
}

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
    /// Whose calendar; UTC if not given.
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
    /// Whose calendar; UTC if not given.
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
}

/// A record was made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// Its id.
    pub deletion: DeletionId,
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

/// Why something is done: for cancel, hold and pause.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// 1 to 1000 characters.
    pub reason: String,
}

/// Let the parked step pass, or state that what has appeared belongs to the deletion.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waive {
    /// What is stated.
    pub claim: WaiverClaim,
    /// For "belongs": the mark of what has appeared, as the reason of the park shows it in brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// On what evidence.
    pub evidence: String,
}

/// The resource was saved by hand.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rescue {
    /// How.
    pub evidence: String,
}

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
}

/// What became of a decision on a deletion.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Where the record stands now.
    pub status: RecordStatus,
}

/// One page of a listing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which deletions.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only those in this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RecordStatus>,
    /// Only those with a job in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
    /// Only this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<sexton_model::Kind>,
    /// Behind this item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
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
    /// When.
    pub created_at: Timestamp,
    /// Its jobs in order.
    pub jobs: Vec<JobInfo>,
    /// Holds that stand.
    pub holds: Vec<Hold>,
    /// Holds on the resource, whatever record it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_holds: Vec<Hold>,
    /// Steps that were let pass.
    pub waivers: Vec<WaiverInfo>,
    /// What can still be undone, in a sentence.
    pub undo: String,
    /// Until when a cancel is certain to be taken: the earliest the hard stage can begin. Once it has begun: the earliest
    /// that purge can, until which the data is there to be rescued by hand.
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

/// One instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InstanceInfo {
    /// Which one.
    pub instance: Instance,
    /// Its last pulse; none if no consumer of it was ever heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse_at: Option<Timestamp>,
    /// No pulse for so long that nothing is asked of it.
    pub down: bool,
    /// Orders out.
    pub orders_out: u64,
    /// Jobs that are due or in line for it, at most 10,000.
    pub waiting: u64,
    /// Whether the coordinator that answers has a key of it. What needs one without is refused.
    #[serde(default)]
    pub known: bool,
}

/// Working hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowsInfo {
    /// In words.
    pub hours: String,
    /// When they begin next; none if they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<Timestamp>,
    /// The last holiday that is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub holidays_until: Option<NaiveDate>,
    /// Set if that has passed: what is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlived: Option<String>,
    /// Set if the calendar was changed and cannot be used, so that the one before it still counts: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// How it is going.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HealthInfo {
    /// The ledger's id.
    pub ledger: String,
    /// Its epoch.
    pub epoch: u32,
    /// Set if this is a rehearsal: how long a day is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_day_ms: Option<u64>,
    /// The store's clock.
    pub now: Timestamp,
    /// Jobs by state.
    pub jobs: BTreeMap<StateName, u64>,
    /// Since when the oldest unclaimed job is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due: Option<Timestamp>,
    /// Instances.
    pub instances: Vec<InstanceInfo>,
    /// The hours in which hard, purge and recycle begin; none if they do at any hour, as in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsInfo>,
    /// The last time in which nobody could have cancelled, if that was within a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageInfo>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// How far deletions may go: of every scope that is not listed, and of those that have a ceiling of their own.
    pub ceilings: Vec<ScopeCeiling>,
    /// Batches that exceed a budget, and wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchInfo>,
    /// Alarms that are open, and whether anybody hears of them.
    #[serde(default)]
    pub alarms: AlarmsInfo,
    /// Overrides of the last week for which the glass was broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_glass: Vec<OneShot>,
    /// How many may begin within a day, in a sentence; none if any number may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<String>,
    /// Set if the coordinator that answers sends no canaries: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries_off: Option<String>,
    /// What nobody finds out because the coordinator that answers has nothing configured for it: canaries of identity,
    /// drills. It works all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries_lack: Vec<String>,
    /// Canaries that were accepted, that nobody answered, or that prove nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
    /// Set if the ledger went back in time: nothing is dispatched before somebody has accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// Set if this coordinator orders nothing because its witness could not be kept: for how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_stale_s: Option<u64>,
    /// Set if this coordinator signs nothing more of the audit trail: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<String>,
    /// Counters of this coordinator since its start.
    pub counters: BTreeMap<String, u64>,
}

/// A time in which nobody could have cancelled: graces that it was a part of end as much later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutageInfo {
    /// The last heartbeat before it.
    pub began: Timestamp,
    /// The first one after it.
    pub ended: Timestamp,
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
    /// Approve that so many begin at once: all of which [`crate::StoppedInfo::crowd`] says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u64>,
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

/// Whether the ledger went back in time and has to be reviewed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReviewInfo {
    /// What a person has to accept; nothing is dispatched until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
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

/// An error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// What sort of error.
    pub title: String,
    /// What exactly, to which resource, and what can be done.
    pub detail: String,
    /// The field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
