//! The deletion record and everything decided on together with it: its jobs, holds and waivers.
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Actor, DeletionId, Instance, JobId};
use crate::job::{Blocker, Job, JobKind, JobState, Stage};
use crate::plan::{Plan, Step};
use crate::rebuilt::{self, Unproven};
use crate::resource::{Criticality, Resource};
use crate::time::{self, Day, Timestamp};

/// An IANA time zone, such as `Europe/Berlin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(pub Tz);

/// The text is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zone {0:?}: expected an IANA time zone, such as Europe/Berlin")]
pub struct NoZone(pub String);

impl FromStr for Zone {
    type Err = NoZone;
    fn from_str(text: &str) -> Result<Self, NoZone> {
        text.parse().map(Self).map_err(|_| NoZone(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Zone {
    type Error = NoZone;
    fn try_from(text: String) -> Result<Self, NoZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.0.name().to_owned()
    }
}

/// When a resource is to go: the date of its soft stage, in its record's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// The date.
    #[schemars(with = "String")]
    pub date: NaiveDate,
    /// Whose calendar.
    pub zone: Zone,
    /// In a rehearsal: the moment that counts as the date's midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
}

impl Due {
    /// The moment `days` after the due date.
    fn at(&self, days: i32, day: Day) -> Timestamp {
        match (day, self.moment) {
            (Day::Rehearsal { .. }, Some(moment)) => time::add_days(moment, days, self.zone.0, day),
            (Day::Rehearsal { .. }, None) | (Day::Calendar, _) => {
                let date = if days >= 0 {
                    self.date.checked_add_days(chrono::Days::new(u64::from(days.unsigned_abs())))
                } else {
                    self.date.checked_sub_days(chrono::Days::new(u64::from(days.unsigned_abs())))
                };
                date.map_or(Timestamp::MAX, |date| time::start_of(date, self.zone.0))
            }
        }
    }
}

/// The statement itself; never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The resource as it was registered when the record was made; its identity is what counts from now on.
    pub resource: Resource,
    /// When.
    pub due: Due,
    /// By when it must be gone; shown with the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_by: Option<NaiveDate>,
    /// Who asked for it.
    pub requested_by: Actor,
    /// Why.
    pub reason: String,
    /// When the record was made.
    pub created_at: Timestamp,
}

/// Where the record as a whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// Under way; the name is protected.
    Live,
    /// Cancelled, the restore is not over yet; still live for everybody else.
    Restoring,
    /// Over: cancelled and restored.
    Cancelled,
    /// Over: nothing is left, the name is free.
    Recycled,
    /// Over: saved by hand.
    Rescued,
}

impl RecordStatus {
    /// Whether the record is live: at most one such per resource.
    pub fn live(self) -> bool {
        match self {
            Self::Live | Self::Restoring => true,
            Self::Cancelled | Self::Recycled | Self::Rescued => false,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restoring => "restoring",
            Self::Cancelled => "cancelled",
            Self::Recycled => "recycled",
            Self::Rescued => "rescued",
        }
    }
}

/// A named reason not to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Unique within its deletion, or its resource.
    pub id: i64,
    /// Who or what holds: `legal`, `billing`, a person.
    pub origin: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl Hold {
    /// What it is to a job that it keeps from going on.
    pub fn blocker(&self) -> Blocker {
        Blocker::Hold { what: format!("{}: {}", self.origin, self.reason) }
    }
}

/// What a person states about a step that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaiverClaim {
    /// It is gone: what depends on it runs.
    Absent,
    /// It may still be there: what depends on it is waived too.
    MayRemain,
    /// What has appeared since the targets were pinned belongs to the deletion: it joins them, if it is still exactly
    /// what the person was shown when they are read again.
    Belongs,
    /// Not everybody could be told: the coordinator states it of a notice, once, when it fails for the first time. It
    /// lets nothing pass.
    Untold,
    /// Everybody was told otherwise, after the notice had failed for days: it counts as delivered from then on.
    Told,
    /// A notice that was sent came back: it does not count as delivered until [`WaiverClaim::Told`] is stated. It lets
    /// nothing pass.
    Bounced,
}

impl WaiverClaim {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::MayRemain => "may remain",
            Self::Belongs => "belongs to it",
            Self::Untold => "untold",
            Self::Told => "told otherwise",
            Self::Bounced => "came back",
        }
    }
}

/// A step that a person let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiver {
    /// The job's slot.
    pub slot: u8,
    /// The step's index in its job; at the end of recycle, the number of its steps.
    pub step: u16,
    /// What is stated.
    pub claim: WaiverClaim,
    /// Who stated it.
    pub by: Actor,
    /// On what evidence.
    pub evidence: String,
    /// When.
    pub at: Timestamp,
    /// Nothing that changes anything had been ordered for the step, so a cancel has nothing to take back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// Of [`WaiverClaim::Belongs`]: why the job was parked, which names what had appeared. It holds for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

impl Waiver {
    /// Whether the step is let pass by it.
    pub fn passes(&self) -> bool {
        match self.claim {
            WaiverClaim::Absent | WaiverClaim::MayRemain | WaiverClaim::Told => true,
            WaiverClaim::Belongs | WaiverClaim::Untold | WaiverClaim::Bounced => false,
        }
    }
}

/// Everything that is decided on together.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    /// Its id.
    pub id: DeletionId,
    /// The statement.
    pub record: Arc<Record>,
    /// The record's own copy of the plan.
    pub plan: Arc<Plan>,
    /// Where it stands.
    pub status: RecordStatus,
    /// The resource's protection flag as it is now.
    pub protected: bool,
    /// Those that stand on the resource as it is now, ascending.
    pub resource_holds: Vec<Hold>,
    /// Number of its last audit event.
    pub audit_seq: i64,
    /// Ascending by slot; one per stage, and the restore if there is one.
    pub jobs: Vec<Job>,
    /// Those that stand.
    pub holds: Vec<Hold>,
    /// All that were given.
    pub waivers: Vec<Waiver>,
}

/// One step that a restore takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoStep {
    /// The stage it was done in.
    pub stage: Stage,
    /// Its index in that stage.
    pub index: u16,
}

/// Why a record cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotDelete {
    /// The plan is for another kind.
    #[error("the plan is for {plan}, the resource is a {kind}")]
    OtherKind {
        /// The plan's kind.
        plan: String,
        /// The resource's kind.
        kind: String,
    },
    /// The plan is for less critical resources.
    #[error("{resource} is {critical:?}, but its plan only grants the grace for {plan:?}")]
    TooCritical {
        /// The resource.
        resource: String,
        /// How critical it is.
        critical: Criticality,
        /// What the plan is for.
        plan: Criticality,
    },
    /// It says that it can be rebuilt, and nothing proves it.
    #[error(
        "{resource} is reproducible, but {why}, so it counts as irreplaceable, and its plan only grants the grace for \
         {plan:?}"
    )]
    Unproven {
        /// The resource.
        resource: String,
        /// What is missing.
        why: Unproven,
        /// What the plan is for.
        plan: Criticality,
    },
    /// It is protected.
    #[error("{0} is protected; lift the protection first")]
    Protected(String),
    /// It is protected by the configuration.
    #[error("{0} is protected by [protect] in the coordinator's configuration")]
    Configured(String),
    /// No reason was given.
    #[error("reason: expected 1 to 1000 characters")]
    Reason,
}

/// Longest reason, in characters.
pub const REASON_MAX: usize = 1000;

impl Deletion {
    /// Draw up a new record, as [`Self::begin`] has it.
    ///
    /// # Errors
    /// If the plan does not fit the resource and what it is proved to be when the record is made, the resource is
    /// protected, or no reason is given.
    pub fn draw_up(id: DeletionId, record: Record, plan: Arc<Plan>, day: Day) -> Result<Self, CannotDelete> {
        let resource = &record.resource;
        if plan.kind != resource.id.kind {
            let kind = resource.id.kind.to_string();
            return Err(CannotDelete::OtherKind { plan: plan.kind.to_string(), kind });
        }
        let unproven = rebuilt::unproven(resource, record.created_at);
        let critical = unproven.as_ref().map_or(resource.criticality, |_| Criticality::Irreplaceable);
        if critical > plan.criticality {
            let (resource, plan) = (resource.id.to_string(), plan.criticality);
            return Err(match unproven {
                Some(why) => CannotDelete::Unproven { resource, why, plan },
                None => CannotDelete::TooCritical { resource, critical, plan },
            });
        }
        if resource.protected {
            return Err(CannotDelete::Protected(resource.id.to_string()));
        }
        if record.reason.trim().is_empty() || record.reason.chars().count() > REASON_MAX {
            return Err(CannotDelete::Reason);
        }
        Ok(Self::begin(id, record, plan, day))
    }

    /// A record as it began. Announce is due on its date (at once, if that has passed); every later stage has no due time
    /// until its predecessor is done. Asks nothing: whoever makes a record draws it up, by the rules of that day.
    pub fn begin(id: DeletionId, record: Record, plan: Arc<Plan>, day: Day) -> Self {
        let jobs = Stage::ALL
            .into_iter()
            .map(|stage| {
                let kind = JobKind::Stage(stage);
                let due_at = (stage == Stage::Announce)
                    .then(|| record.due.at(plan.stage(stage).offset_days, day).max(record.created_at));
                Job::new(JobId::of(id, kind.slot()), kind, due_at)
            })
            .collect();
        Self {
            id,
            record: Arc::new(record),
            plan,
            status: RecordStatus::Live,
            protected: false,
            resource_holds: Vec::new(),
            audit_seq: 0,
            jobs,
            holds: Vec::new(),
            waivers: Vec::new(),
        }
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// The job of a stage.
    pub fn stage_job(&self, stage: Stage) -> Option<&Job> {
        self.jobs.iter().find(|job| job.kind == JobKind::Stage(stage))
    }

    /// The job that holds the lock.
    pub fn locking_job(&self) -> Option<&Job> {
        self.jobs.iter().find(|job| job.state.name().locks())
    }

    /// When `stage` is due by its date alone.
    pub fn date_of(&self, stage: Stage, day: Day) -> Timestamp {
        self.record.due.at(self.plan.stage(stage).offset_days, day)
    }

    /// When `stage` is due if its predecessor ended at `ended_at`: the later of its date and that moment plus
    /// the difference of the offsets, so that a late stage never shortens the next one's grace.
    pub fn due_after(&self, stage: Stage, ended_at: Timestamp, day: Day) -> Timestamp {
        let index = usize::from(stage.index());
        let before = index.checked_sub(1).map_or(0, |i| self.plan.stages[i].offset_days);
        // A copy of a plan that was never linted here may count further apart than days are counted.
        let grace = self.plan.stages[index].offset_days.saturating_sub(before);
        let earliest = time::add_days(ended_at, grace, self.record.due.zone.0, day);
        self.date_of(stage, day).max(earliest)
    }

    /// Whether a stage was claimed: something of it has run or may run.
    pub fn claimed(&self, stage: Stage) -> bool {
        self.stage_job(stage).is_some_and(|job| match job.state {
            JobState::Scheduled { .. } | JobState::Held { .. } | JobState::Cancelled => false,
            JobState::Ready { .. }
            | JobState::Running(_)
            | JobState::Waiting { .. }
            | JobState::Cancelling(_)
            | JobState::Parked { .. }
            | JobState::Done
            | JobState::Rescued => true,
        })
    }

    /// The latest moment at which anything that was ordered for it may still change something.
    pub fn quiet_after(&self) -> Timestamp {
        self.jobs.iter().map(|job| job.quiet_after).max().unwrap_or_default()
    }

    /// What a restore takes back, in its order: exactly the reversible steps that were done or may have been,
    /// the last one first.
    pub fn undo_list(&self) -> Vec<UndoStep> {
        let mut list = Vec::new();
        for stage in Stage::ALL.into_iter().filter(|s| s.reversible()) {
            let Some(job) = self.stage_job(stage) else { continue };
            for (index, step) in (0u16..).zip(&self.plan.stage(stage).steps) {
                let passed = self
                    .waivers
                    .iter()
                    .any(|w| w.passes() && w.slot == stage.index() && w.step == index && w.untouched);
                let maybe_done = index < job.cursor && !passed || (index == job.cursor && job.touched);
                if maybe_done && step.nature.captures() {
                    list.push(UndoStep { stage, index });
                }
            }
        }
        list.reverse();
        list
    }

    /// The step that a waiver let pass, or whose undo it let pass; none for the end of recycle.
    pub fn step_of(&self, waiver: &Waiver) -> Option<&Step> {
        match JobKind::from_slot(waiver.slot)? {
            JobKind::Stage(_) => self.waived_step(waiver),
            JobKind::Restore => {
                let undo = *self.undo_list().get(usize::from(waiver.step))?;
                self.plan.stage(undo.stage).steps.get(usize::from(undo.index))
            }
        }
    }

    /// The step that a waiver let pass; none for one of a restore, or for the end of recycle.
    fn waived_step(&self, waiver: &Waiver) -> Option<&Step> {
        match JobKind::from_slot(waiver.slot)? {
            JobKind::Stage(stage) => self.plan.stage(stage).steps.get(usize::from(waiver.step)),
            JobKind::Restore => None,
        }
    }

    /// The steps that were waived as "may remain": what they were about may still use the name. None any more once
    /// a person has stated at the end of recycle, with evidence, that all of it is gone.
    pub fn may_remain(&self) -> Vec<&str> {
        let recycle = Stage::Recycle;
        let end = self.plan.stage(recycle).steps.len();
        let seen_gone = self.waivers.iter().any(|w| {
            w.slot == recycle.index() && usize::from(w.step) == end && w.claim == WaiverClaim::Absent
        });
        if seen_gone {
            return Vec::new();
        }
        let remaining = self.waivers.iter().filter(|w| w.claim == WaiverClaim::MayRemain);
        remaining.filter_map(|w| self.waived_step(w)).map(|step| step.name.as_str()).collect()
    }

    /// The plan's step under a job's cursor, with its index in its stage; none once all are done.
    pub fn step_at(&self, job: &Job) -> Option<(Stage, u16, &Step)> {
        let (stage, index) = match job.kind {
            JobKind::Stage(stage) => (stage, job.cursor),
            JobKind::Restore => {
                let undo = *self.undo_list().get(usize::from(job.cursor))?;
                (undo.stage, undo.index)
            }
        };
        self.plan.stage(stage).steps.get(usize::from(index)).map(|step| (stage, index, step))
    }

    /// The instance that carries out a step; none for the coordinator's own.
    pub fn instance_for(&self, step: &Step) -> Option<Instance> {
        step.instance_at(&self.record.resource)
    }

    /// The instance a job needs next, behind the coordinator's own steps; none if it needs no other.
    pub fn wants(&self, job: &Job) -> Option<Instance> {
        self.wanted(job).map(|(_, instance)| instance)
    }

    /// The same with its step. Steps that will be passed because of a waiver need nobody.
    pub fn wanted(&self, job: &Job) -> Option<(&Step, Instance)> {
        match job.kind {
            JobKind::Restore => {
                self.step_at(job).and_then(|(_, _, step)| Some((step, self.instance_for(step)?)))
            }
            JobKind::Stage(_) => self.left(job).next(),
        }
    }

    /// All that is left of a stage's job, in order: each step that needs somebody, and whom. Nothing of a restore.
    pub fn left<'a>(&'a self, job: &Job) -> impl Iterator<Item = (&'a Step, Instance)> + use<'a> {
        let (slot, cursor) = (job.kind.slot(), job.cursor);
        let steps = match job.kind {
            JobKind::Stage(stage) => self.plan.stage(stage).steps.get(usize::from(cursor)..),
            JobKind::Restore => None,
        };
        let mut remaining: Vec<&'a str> = Vec::new();
        (cursor..).zip(steps.unwrap_or_default()).filter_map(move |(index, step)| {
            match self.waived(slot, index, step, &remaining) {
                Some(WaiverClaim::MayRemain) => {
                    remaining.push(&step.name);
                    None
                }
                Some(
                    WaiverClaim::Absent
                    | WaiverClaim::Belongs
                    | WaiverClaim::Untold
                    | WaiverClaim::Told
                    | WaiverClaim::Bounced,
                ) => None,
                None => Some((step, self.instance_for(step)?)),
            }
        })
    }

    /// Whether the step was waived, or will be by what it depends on: what may still be there keeps what it uses.
    /// `remaining`: names of further steps that will be waived as "may remain" before it is reached.
    fn waived(&self, slot: u8, index: u16, step: &Step, remaining: &[&str]) -> Option<WaiverClaim> {
        if let Some(own) = self.waivers.iter().find(|w| w.passes() && w.slot == slot && w.step == index) {
            return Some(own.claim);
        }
        let follows = self.cause_of_passing(step).is_some()
            || step.after.iter().any(|before| remaining.contains(&before.as_str()));
        follows.then_some(WaiverClaim::MayRemain)
    }

    /// The waiver of something that may remain and that the step depends on.
    pub fn cause_of_passing(&self, step: &Step) -> Option<&Waiver> {
        self.waivers.iter().find(|w| {
            let waived = self.waived_step(w);
            w.claim == WaiverClaim::MayRemain
                && waived.is_some_and(|waived| step.after.contains(&waived.name))
        })
    }
}
