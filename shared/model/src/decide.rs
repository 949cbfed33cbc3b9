//! The state machine: `decide(deletion, event, context) → changes + effects | refusal`.
//!
//! Contract: pure and exhaustive. Every event on every deletion either yields a [`Decision`], whose changes
//! are written in one transaction together with its one audit event and whose effects happen after the
//! commit, or a [`Refusal`], after which nothing has changed. Whoever calls it holds the lock on the deletion
//! and has read it under that lock.
//!
//! ```mermaid
#![doc = include_str!("decide/states.mmd")]
//! ```
mod dispatch;
mod drift;
mod person;
mod settle;

use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use crate::audit::AuditEvent;
use crate::belts::Pause;
use crate::credit::Draw;
use crate::deletion::{Deletion, Hold, RecordStatus, Waiver, WaiverClaim};
use crate::id::{Actor, Fence, Instance, JobId};
use crate::job::{Job, JobKind, Stage, StateName};
use crate::plan::{Plan, Step};
use crate::resource::Presence as ResourcePresence;
use crate::step::{Mode, Outcome};
use crate::time::{Day, Timestamp};

/// Something that happened, or that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A job is due: take the lock, unless a belt says not now. If it is in line already, it goes on.
    Claim {
        /// Which one.
        job: JobId,
    },
    /// A locked job may go on: credit came free, its back-off is over, or what blocked it is gone.
    Proceed {
        /// Which one.
        job: JobId,
    },
    /// Look again whether what held a job is gone.
    Recheck {
        /// Which one.
        job: JobId,
    },
    /// A consumer answered.
    Outcome {
        /// Which job.
        job: JobId,
        /// Who answers, as its key and broker user prove: it can answer for itself only.
        from: Instance,
        /// The fence of the order that is answered.
        fence: Fence,
        /// The answer.
        outcome: Outcome,
    },
    /// A consumer said that it began, or that it goes on.
    Progress {
        /// Which job.
        job: JobId,
        /// Whose consumer it is, as its key and broker user prove.
        from: Instance,
        /// The fence of its order.
        fence: Fence,
        /// Which copy of it.
        performer: u64,
    },
    /// The lease of the order that is out ran out.
    LeaseOver {
        /// Which job.
        job: JobId,
        /// The fence of that order.
        fence: Fence,
    },
    /// Somebody wants the resource back.
    Cancel {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Somebody has a reason not to go on.
    PlaceHold {
        /// Who or what.
        by: Actor,
        /// The reason.
        reason: String,
    },
    /// That reason is gone.
    ReleaseHold {
        /// Which hold.
        hold: i64,
        /// Who says so.
        by: Actor,
    },
    /// A person wants to decide about a job that is in line or backs off: it parks.
    Park {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// A person wants a parked job tried again.
    Retry {
        /// Who.
        by: Actor,
    },
    /// A person lets the step of a parked job pass.
    Waive {
        /// Who.
        by: Actor,
        /// What is stated.
        claim: WaiverClaim,
        /// On what evidence.
        evidence: String,
    },
    /// A person saved the resource by hand.
    Rescue {
        /// Who.
        by: Actor,
        /// How.
        evidence: String,
    },
}

/// Which credit an order draws on: restores have their own, so that no backlog delays them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Deletions.
    Stages,
    /// Restores.
    Restores,
}

/// Whether an instance can take an order now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// It has credit.
    Free,
    /// Its credit is used up.
    Full,
    /// No consumer of it pulses.
    Down,
    /// None has for so long that a person has to look, or none ever did.
    Gone,
}

/// What a decision needs to know besides the deletion.
pub struct Context<'a> {
    /// The store's clock.
    pub now: Timestamp,
    /// What a policy's day is here.
    pub day: Day,
    /// All pauses in force.
    pub pauses: &'a [Pause],
    /// The epoch whose ledger a person has to review first: it went back in time, so nothing is dispatched.
    pub review: Option<u32>,
    /// The fence an order given by this decision has.
    pub fence: Fence,
    /// Credit, as counted from the table.
    pub capacity: &'a dyn Fn(&Instance, Lane, Draw) -> Capacity,
    /// When consumers of an instance last answered or reported anything, as their pulses tell.
    pub answered: &'a dyn Fn(&Instance) -> Option<Timestamp>,
}

/// One thing to be written, in the transaction that decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The job is this now (inserted if it is new).
    Job(Job),
    /// The record stands there now.
    Status(RecordStatus),
    /// A hold was placed.
    HoldPlaced(Hold),
    /// A hold is gone.
    HoldReleased(i64),
    /// A step was let pass.
    Waived(Waiver),
    /// Targets of an instance: pinned anew, or joined by what a step created.
    Targets {
        /// Whose.
        instance: Instance,
        /// What.
        value: Value,
        /// Merge by key into what is there, rather than replace it.
        join: bool,
    },
    /// The manifest of a step; the first one written stays.
    Manifest {
        /// The stage's slot.
        slot: u8,
        /// The step's index in it.
        step: u16,
        /// What an exact undo needs.
        value: Value,
    },
    /// The resource in the inventory.
    Resource(ResourcePresence),
}

/// One order to give after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderSpec {
    /// The job it is for.
    pub job: JobId,
    /// The job's kind.
    pub kind: JobKind,
    /// The stage whose step it is: in a restore, the one that is taken back.
    pub stage: Stage,
    /// The step's index in that stage.
    pub step: u16,
    /// What is asked.
    pub mode: Mode,
    /// Who is asked.
    pub instance: Instance,
    /// Its number.
    pub fence: Fence,
    /// After this nothing more is done for it.
    pub deadline: Timestamp,
    /// Attempts spent before it.
    pub attempts: u16,
}

/// What is to happen after the commit. All of it may be lost: the lease repairs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Give an order.
    Order(OrderSpec),
    /// Tell the performer that it may go on until then.
    Extend {
        /// Which job.
        job: JobId,
        /// Under which fence.
        fence: Fence,
        /// Who.
        performer: u64,
        /// Until when.
        deadline: Timestamp,
    },
    /// Tell whoever listens.
    Happened {
        /// What, in one word: `stage_done`, `parked`, `drift`, `restored`, …
        what: &'static str,
        /// The stage or the reason.
        detail: String,
    },
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Written together, in this order.
    pub changes: Vec<Change>,
    /// Happen afterwards.
    pub effects: Vec<Effect>,
    /// Written with the changes.
    pub audit: AuditEvent,
}

/// Why nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("{0} is no job of this deletion")]
    NoSuchJob(JobId),
    /// The event is about an order that is no longer out: it came late, or twice.
    #[error("the order {fence} of {job} is not out any more")]
    Stale {
        /// The job.
        job: JobId,
        /// The fence that was named.
        fence: Fence,
    },
    /// The ledger went back in time, and nobody has accepted it yet.
    #[error("the ledger went back in time: nothing goes on in epoch {0} before a person has reviewed it")]
    UnderReview(u32),
    /// An order is answered that this ledger has never given: it must have been a later state of it.
    #[error("the order {fence} of {job} was never given here: the ledger went back in time")]
    NeverGiven {
        /// The job.
        job: JobId,
        /// The fence that was named.
        fence: Fence,
    },
    /// Somebody else was asked: an instance answers for itself only.
    #[error("{from} answers for {job}, but was not asked")]
    NotAsked {
        /// The job.
        job: JobId,
        /// Who answered.
        from: Instance,
    },
    /// The job is not in a state for this.
    #[error("{job} is {state}")]
    NotInState {
        /// The job.
        job: JobId,
        /// Its state.
        state: StateName,
    },
    /// It is not time yet, or nothing has changed.
    #[error("{0}: not yet")]
    NotYet(JobId),
    /// The instance that is needed next has no credit or is down.
    #[error("no credit at {0}")]
    NoCredit(Instance),
    /// An earlier job of the deletion is not over.
    #[error("{0} has to wait for an earlier stage")]
    NotItsTurn(JobId),
    /// The end of cancel is over.
    #[error("{}", TooLate::text(*.rescue_until_purge, *.reached))]
    TooLate {
        /// The stage it has reached.
        reached: Stage,
        /// Whether a person can still save it by hand.
        rescue_until_purge: bool,
    },
    /// The record is over, or being cancelled already.
    #[error("the record is {}", .0.word())]
    NotLive(RecordStatus),
    /// Nothing can be parked.
    #[error(
        "only a job that is in line or backs off can be parked; an order that is out is answered, or its lease \
         runs out"
    )]
    NothingToPark,
    /// Only what has appeared since the targets were pinned can be stated to belong to the deletion.
    #[error(
        "the step that is parked reads no targets again, so nothing was shown that could belong to the deletion"
    )]
    NothingAppeared,
    /// Nothing is parked.
    #[error("no job of this deletion is parked")]
    NothingParked,
    /// At the end of recycle: the name is not given away while what used it may still exist.
    #[error(
        "the name stays taken while something may remain: {0}. Have it removed by hand; once it was seen to be \
         gone, waive it as absent, with the evidence"
    )]
    NameInUse(String),
    /// There is no such hold.
    #[error("there is no hold {0} on this deletion")]
    NoSuchHold(i64),
    /// A rescue has to wait until the last order can do nothing any more.
    #[error("an order may still be carried out until {0}: try again after that")]
    OrderMayRun(Timestamp),
    /// Only between the end of cancel and the point of no return.
    #[error("rescue is for records between hard and purge; {0}")]
    NoRescue(&'static str),
    /// No evidence or reason was given.
    #[error("{0}: expected 1 to 1000 characters")]
    Missing(&'static str),
}

struct TooLate;
impl TooLate {
    fn text(rescue: bool, reached: Stage) -> String {
        if rescue {
            format!(
                "too late to cancel: {reached} has begun. The data is still there until purge begins: save it \
                 by hand, pause the purge, then `rescue`"
            )
        } else {
            format!("too late to cancel: {reached} has begun, which cannot be undone. Backups may be left")
        }
    }
}

impl Event {
    /// Whether it may be decided while the ledger is under review: what a person says against a deletion. What
    /// a machine says is about another state of the ledger, and what a person says for going on, or about what
    /// was done, presumes a state that can be trusted.
    fn allowed_under_review(&self) -> bool {
        match self {
            Self::Cancel { .. } | Self::PlaceHold { .. } | Self::ReleaseHold { .. } | Self::Park { .. } => {
                true
            }
            Self::Claim { .. }
            | Self::Proceed { .. }
            | Self::Recheck { .. }
            | Self::Outcome { .. }
            | Self::Progress { .. }
            | Self::LeaseOver { .. }
            | Self::Retry { .. }
            | Self::Waive { .. }
            | Self::Rescue { .. } => false,
        }
    }
}

impl Deletion {
    /// Take over one change. Changes of other tables (targets, manifests, the resource) leave it as it is.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Job(job) => match self.jobs.iter_mut().find(|j| j.id == job.id) {
                Some(old) => *old = job.clone(),
                None => self.jobs.push(job.clone()),
            },
            Change::Status(status) => self.status = *status,
            Change::HoldPlaced(hold) => self.holds.push(hold.clone()),
            Change::HoldReleased(id) => self.holds.retain(|h| h.id != *id),
            Change::Waived(waiver) => self.waivers.push(waiver.clone()),
            Change::Targets { .. } | Change::Manifest { .. } | Change::Resource(_) => {}
        }
    }
}

/// Decide what `event` means for `deletion`.
///
/// # Errors
/// A [`Refusal`] if it means nothing now; then nothing may be written.
pub fn decide(deletion: &Deletion, event: &Event, context: &Context<'_>) -> Result<Decision, Refusal> {
    if let Some(epoch) = context.review.filter(|_| !event.allowed_under_review()) {
        return Err(Refusal::UnderReview(epoch));
    }
    let mut draft = Draft::new(deletion, context);
    match event {
        Event::Claim { job } => dispatch::claim(&mut draft, *job)?,
        Event::Proceed { job } => dispatch::proceed(&mut draft, *job)?,
        Event::Recheck { job } => dispatch::recheck(&mut draft, *job)?,
        Event::Outcome { job, from, fence, outcome } => {
            settle::outcome(&mut draft, *job, from, *fence, outcome)?
        }
        Event::Progress { job, from, fence, performer } => {
            settle::progress(&mut draft, *job, from, *fence, *performer)?;
        }
        Event::LeaseOver { job, fence } => settle::lease_over(&mut draft, *job, *fence)?,
        Event::Cancel { by, reason } => person::cancel(&mut draft, by, reason)?,
        Event::PlaceHold { by, reason } => person::place_hold(&mut draft, by, reason)?,
        Event::ReleaseHold { hold, by } => person::release_hold(&mut draft, *hold, by)?,
        Event::Park { by, reason } => person::park(&mut draft, by, reason)?,
        Event::Retry { by } => person::retry(&mut draft, by)?,
        Event::Waive { by, claim, evidence } => person::waive(&mut draft, by, *claim, evidence)?,
        Event::Rescue { by, evidence } => person::rescue(&mut draft, by, evidence)?,
    }
    draft.finish()
}

/// A decision in the making: the deletion as it will be, and what has been collected so far.
struct Draft<'a> {
    deletion: Deletion,
    context: &'a Context<'a>,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    /// The coordinator's own steps that were carried out.
    own: Vec<String>,
    audit: Option<AuditEvent>,
}

impl<'a> Draft<'a> {
    fn new(deletion: &Deletion, context: &'a Context<'a>) -> Self {
        Self {
            deletion: deletion.clone(),
            context,
            changes: Vec::new(),
            effects: Vec::new(),
            own: Vec::new(),
            audit: None,
        }
    }

    fn now(&self) -> Timestamp {
        self.context.now
    }

    /// The plan's step under a job's cursor, with its index in its stage; none once all are done.
    fn step_at(&self, job: &Job) -> Option<(Stage, u16, PlanStep)> {
        let (stage, index, _) = self.deletion.step_at(job)?;
        Some((stage, index, PlanStep { plan: self.deletion.plan.clone(), stage, index }))
    }

    fn job(&self, id: JobId) -> Result<Job, Refusal> {
        self.deletion.job(id).cloned().ok_or(Refusal::NoSuchJob(id))
    }

    /// Write a change, over an earlier one of the same job.
    fn change(&mut self, change: Change) {
        self.deletion.apply(&change);
        if let Change::Job(job) = &change {
            self.changes.retain(|c| !matches!(c, Change::Job(old) if old.id == job.id));
        }
        self.changes.push(change);
    }

    fn put(&mut self, job: Job) {
        self.change(Change::Job(job));
    }

    fn happened(&mut self, what: &'static str, detail: impl Into<String>) {
        self.effects.push(Effect::Happened { what, detail: detail.into() });
    }

    /// Begin the one audit event; what the decision orders is filled in at its end.
    fn record(&mut self, audit: AuditEvent) {
        self.audit = Some(audit);
    }

    fn finish(self) -> Result<Decision, Refusal> {
        let Self { changes, effects, audit, own, deletion, .. } = self;
        // Every path above records its event; a path that forgot is a defect a property test would find.
        debug_assert!(audit.is_some(), "a decision without an audit event");
        let mut audit = audit.ok_or(Refusal::NotLive(deletion.status))?;
        audit.ordered = effects.iter().find_map(|e| match e {
            Effect::Order(order) => Some(order.fence),
            Effect::Extend { .. } | Effect::Happened { .. } => None,
        });
        audit.own = own;
        if audit.state.is_none()
            && let Some(kind) = audit.job
        {
            audit.state = deletion.jobs.iter().find(|j| j.kind == kind).map(|j| j.state.name());
        }
        Ok(Decision { changes, effects, audit })
    }
}

/// A step of the plan that does not borrow the draft: a decision changes the draft while it looks at the step, and
/// a copy of the step would be most of its cost.
struct PlanStep {
    plan: Arc<Plan>,
    stage: Stage,
    index: u16,
}

impl Deref for PlanStep {
    type Target = Step;
    /// It was found there when this was made, and a record's plan never changes.
    fn deref(&self) -> &Step {
        &self.plan.stage(self.stage).steps[usize::from(self.index)]
    }
}

/// An audit event with nothing but its heading.
fn heading(at: Timestamp, what: crate::audit::What, by: &str, job: Option<JobKind>) -> AuditEvent {
    AuditEvent {
        at,
        what,
        by: by.to_owned(),
        job,
        step: None,
        mode: None,
        fence: None,
        presence: None,
        state: None,
        ordered: None,
        own: Vec::new(),
        drift: Vec::new(),
        detail: String::new(),
    }
}

/// Who the coordinator is in the audit trail.
const COORDINATOR: &str = "coordinator";

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::plan as test_plan;
