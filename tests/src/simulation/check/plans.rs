//! A record keeps the plan that it was made with: its steps are carried out, in its order, whatever plans say since.
use std::collections::BTreeMap;
use std::sync::Arc;

use sexton_ledger::DeletionView;
use sexton_model::DeletionId;
use sexton_model::audit::AuditEvent;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::plan::{Performer, Plan, Step};
use sexton_protocol::Order;

use super::{Violation, violated};
use crate::simulation::platform::Act;

/// The plans that records were made with, and how far each stage has come.
#[derive(Debug, Default)]
pub struct Pinned {
    plans: BTreeMap<DeletionId, Arc<Plan>>,
    /// The last step that was answered or let pass.
    at: BTreeMap<(DeletionId, Stage), usize>,
}

impl Pinned {
    /// A record was made.
    pub fn created(&mut self, id: DeletionId, plan: Arc<Plan>) {
        self.plans.insert(id, plan);
    }

    /// The job table went back in time: how far stages have come will be noted anew.
    pub fn went_back(&mut self) {
        self.at.clear();
    }

    /// Take note of how far a stage has come.
    pub fn note(&mut self, view: &DeletionView, event: &AuditEvent) {
        if let (Some(JobKind::Stage(stage)), Some(step)) = (event.job, event.step.as_deref())
            && let Some(place) = self.place(view, stage, step)
        {
            self.at.insert((view.deletion.id, stage), place);
        }
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

    /// Something was decided: a stage goes on with the next step of its plan, and ends after the last one.
    ///
    /// # Errors
    /// If a step is none of the plan's, or out of its order, or left out.
    pub fn decided(
        &mut self,
        view: &DeletionView,
        event: &AuditEvent,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let (id, Some(JobKind::Stage(stage))) = (view.deletion.id, event.job) else { return Ok(()) };
        let Some(plan) = self.plans.get(&id) else { return Ok(()) };
        let steps = &plan.stage(stage).steps;
        let last = self.at.get(&(id, stage)).copied();
        let place = match event.step.as_deref() {
            None => last,
            Some(step) => {
                let Some(place) = self.place(view, stage, step) else {
                    return violated("plan", format!("{}: there is no such step in {stage}", told()));
                };
                if last.is_some_and(|last| place < last) {
                    return violated("plan", format!("{}: a later one was answered before", told()));
                }
                self.passed(view, stage, (last, place), told)?;
                Some(place)
            }
        };
        if event.state == Some(StateName::Done) {
            self.passed(view, stage, (place, steps.len()), told)?;
        }
        self.note(view, event);
        Ok(())
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
                let reversible = Stage::ALL.into_iter().filter(|stage| stage.reversible());
                reversible.flat_map(|stage| &plan.stage(stage).steps).any(is)
            }
        };
        if fits { Ok(()) } else { violated("plan", format!("{}: its plan has no such step there", told())) }
    }

    /// Everything between two steps was let pass, or is the coordinator's own.
    fn passed(
        &self,
        view: &DeletionView,
        stage: Stage,
        (last, next): (Option<usize>, usize),
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let Some(plan) = self.plans.get(&view.deletion.id) else { return Ok(()) };
        let first = last.map_or(0, |last| last + 1);
        for (index, step) in plan.stage(stage).steps.iter().enumerate().take(next).skip(first) {
            let own = matches!(step.performer, Performer::Coordinator(_));
            let waived = view.deletion.waivers.iter().any(|waiver| {
                waiver.passes() && waiver.slot == stage.index() && usize::from(waiver.step) == index
            });
            if !own && !waived {
                return violated("plan", format!("{}: {} was left out", told(), step.name));
            }
        }
        Ok(())
    }

    fn place(&self, view: &DeletionView, stage: Stage, step: &str) -> Option<usize> {
        let plan = self.plans.get(&view.deletion.id)?;
        plan.stage(stage).steps.iter().position(|one| one.name == step)
    }
}
