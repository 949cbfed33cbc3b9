//! A record keeps the plan that it was made with: its steps are carried out, in its order, whatever plans say since.
use std::collections::BTreeMap;
use std::sync::Arc;

use sexton_ledger::DeletionView;
use sexton_model::DeletionId;
use sexton_model::audit::AuditEvent;
use sexton_model::job::{JobKind, Stage};
use sexton_model::plan::{Performer, Plan, Step};
use sexton_protocol::Order;

use super::{Violation, violated};
use crate::simulation::platform::Act;
use crate::trail::course::{Course, can_be_cancelled};

/// The plans that records were made with, and how far each has come.
#[derive(Debug, Default)]
pub struct Pinned {
    plans: BTreeMap<DeletionId, Arc<Plan>>,
    courses: BTreeMap<DeletionId, Course>,
}

impl Pinned {
    /// A record was made.
    pub fn created(&mut self, id: DeletionId, plan: Arc<Plan>) {
        self.plans.insert(id, plan);
    }

    /// The job table went back in time: how far stages have come will be noted anew.
    pub fn went_back(&mut self) {
        self.courses.clear();
    }

    /// Take note of how far a stage has come.
    pub fn note(&mut self, view: &DeletionView, event: &AuditEvent) {
        self.courses.entry(view.deletion.id).or_default().note(view, event);
    }

    /// The record still has the plan that it was made with.
    ///
    /// # Errors
    /// If it has another one.
    pub fn kept(&self, view: &DeletionView) -> Result<(), Violation> {
        let d = &view.deletion;
        match self.plans.get(&d.id) {
            Some(plan) if *plan != d.plan => {
                let (made, has) = (plan.version, d.plan.version);
                violated("plan", format!("{}: it was made with version {made}, and has {has}", d.id))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Something was decided, by the plan that the record has, which is the one it was made with ([`Self::kept`]).
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn decided(
        &mut self,
        view: &DeletionView,
        event: &AuditEvent,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        self.courses.entry(view.deletion.id).or_default().see(view, event, told)
    }

    /// Something was changed.
    ///
    /// # Errors
    /// If the plan says nothing of it there.
    pub fn acted(&self, act: &Act, order: &Order, told: &impl Fn() -> String) -> Result<(), Violation> {
        let Some(plan) = self.plans.get(&order.deletion) else { return Ok(()) };
        let is = |step: &Step| match &step.performer {
            Performer::Subsystem { subsystem, action } => {
                subsystem.as_str() == act.deed.subsystem && action.as_str() == act.deed.action
            }
            Performer::Coordinator(_) => false,
        };
        let fits = match order.kind {
            JobKind::Stage(stage) => plan.stage(stage).steps.get(usize::from(order.step)).is_some_and(is),
            JobKind::Restore => {
                let taken_back = Stage::ALL.into_iter().filter(|stage| can_be_cancelled(*stage));
                taken_back.flat_map(|stage| &plan.stage(stage).steps).any(is)
            }
        };
        if fits { Ok(()) } else { violated("plan", format!("{}: its plan has no such step there", told())) }
    }
}
