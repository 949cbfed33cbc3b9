//! The deletion record and everything decided on together with it: its jobs, holds and waivers.
mod due;
mod steps;
mod waiver;

use std::sync::Arc;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::due::{Due, NoZone, Zone};
pub use self::steps::UndoStep;
pub use self::waiver::{Waiver, WaiverClaim};

use crate::id::{Actor, DeletionId, JobId};
use crate::job::{Blocker, Job, JobKind, JobState, Stage};
use crate::plan::Plan;
use crate::rebuilt::{self, Unproven};
use crate::resource::{Criticality, Resource};
use crate::time::{self, Day, Timestamp};

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
}
