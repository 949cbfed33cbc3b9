//! The state machine: `decide(deletion, event, context) → changes + effects | refusal`.
//!
//! Contract: pure and exhaustive. Every event on every deletion either yields a [`Decision`], whose changes
//! are written in one transaction together with its one audit event and whose effects happen after the
//! commit, or a [`Refusal`], after which nothing has changed. Whoever calls it holds the lock on the deletion
//! and has read it under that lock.
//!
//! What is about many deletions, or about none, is decided beside it, as purely: admissions to budgets, and approvals
//! ([`crate::belts::budget`]), ceilings, overrides, holds on resources and censuses ([`crate::belts`]), whether a record may
//! be made ([`Deletion::draw_up`]).
//!
//! ```mermaid
#![doc = include_str!("decide/states.mmd")]
//! ```
mod context;
mod decision;
mod dispatch;
mod drift;
mod event;
pub(crate) mod notice;
mod person;
mod refusal;
mod seen;
mod settle;

pub use dispatch::mode_of;
pub(crate) use settle::unbelievable;

use std::ops::Deref;
use std::sync::Arc;

use crate::audit::AuditEvent;
use crate::deletion::Deletion;
use crate::id::JobId;
use crate::job::{Job, JobKind, Stage};
use crate::plan::{Plan, Step};
use crate::time::Timestamp;

pub use context::{Capacity, Context, Lane};
pub use decision::{Change, Decision, Effect, OrderSpec};
pub use event::Event;
pub use refusal::Refusal;
pub use seen::mark;

impl Event {
    /// Whether it may be decided while the ledger is under review: what a person says against a deletion, and takes
    /// back of that, since nothing is dispatched yet. What
    /// a machine says is about another state of the ledger, and what a person says for going on, or about what
    /// was done, presumes a state that can be trusted.
    fn allowed_under_review(&self) -> bool {
        match self {
            Self::Cancel { .. }
            | Self::PlaceHold { .. }
            | Self::ReleaseHold { .. }
            | Self::Park { .. }
            | Self::Bounced { .. } => true,
            Self::Claim { .. }
            | Self::Proceed { .. }
            | Self::Recheck { .. }
            | Self::Outcome { .. }
            | Self::Progress { .. }
            | Self::LeaseOver { .. }
            | Self::Retry { .. }
            | Self::Waive { .. }
            | Self::Acknowledge { .. }
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
        Event::Waive { by, claim, mark, evidence } => {
            person::waive(&mut draft, by, (*claim, mark.as_str()), evidence)?
        }
        Event::Acknowledge { by, mark, reason } => notice::acknowledge(&mut draft, by, mark, reason)?,
        Event::Bounced { by, reason } => notice::bounced(&mut draft, by, reason)?,
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
        unannounced: None,
        detail: String::new(),
    }
}

/// Who the coordinator is in the audit trail.
const COORDINATOR: &str = "coordinator";

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{all_ceilings as test_ceiling, before_anything as test_deletion, plan as test_plan};
