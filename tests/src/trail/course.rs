//! What a trail shows of the plan that its record keeps: the steps of a stage come in its order and none is left out (plan),
//! what can be cancelled destroys nothing, and what was taken back was looked at (I4), nothing is released while what uses it
//! may be there (I6), and no record ends while what it describes may be there (I7).
use std::collections::{BTreeMap, BTreeSet};

use sexton_ledger::DeletionView;
use sexton_model::audit::{AuditEvent, What};
use sexton_model::catalogue::Nature;
use sexton_model::deletion::WaiverClaim;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::plan::{Performer, Step};
use sexton_model::step::{Mode, Presence};

use super::Violation;

/// How far the stages of one record have come.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// The place of the last step that was answered or let pass.
    at: BTreeMap<Stage, usize>,
    /// Steps that were seen to be done, by their names, which are unique in a plan.
    done: BTreeSet<String>,
}

fn violated(invariant: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { invariant, what })
}

/// Whether a record can still be cancelled in this stage, so that nothing may be destroyed in it.
pub fn can_be_cancelled(stage: Stage) -> bool {
    match stage {
        Stage::Announce | Stage::Soft => true,
        Stage::Hard | Stage::Purge | Stage::Recycle => false,
    }
}

/// Whether a trail has the same decision twice, which is one about an order: of others two may be the same.
pub fn repeated(before: &AuditEvent, event: &AuditEvent) -> bool {
    (event.ordered.is_some() || event.fence.is_some()) && before == event
}

/// Whatever a restore has taken back was looked at once more.
///
/// # Errors
/// The invariant that does not hold.
pub fn verified(view: &DeletionView) -> Result<(), Violation> {
    let d = &view.deletion;
    if d.waivers.iter().any(|waiver| waiver.passes() && waiver.slot == JobKind::RESTORE_SLOT) {
        return Ok(());
    }
    let seen = |mode: Mode| {
        let rows = view.audit.iter().filter(move |row| {
            row.event.what == What::Settled
                && row.event.mode == Some(mode)
                && row.event.presence == Some(Presence::Present)
        });
        rows.map(|row| (row.event.step.as_deref(), row.seq)).collect::<BTreeMap<_, _>>()
    };
    let looked = seen(Mode::Verify);
    for (step, undone) in seen(Mode::Undo) {
        if looked.get(&step).is_none_or(|looked| *looked < undone) {
            violated("I4", format!("{}: {step:?} was undone, and not looked at again", d.id))?;
        }
    }
    Ok(())
}

impl Course {
    /// Take note of the next event without judging it.
    pub fn note(&mut self, view: &DeletionView, event: &AuditEvent) {
        if let (Some(JobKind::Stage(stage)), Some(step)) = (event.job, event.step.as_deref())
            && let Some((place, step)) = find(view, stage, step)
        {
            self.at.insert(stage, place);
            if event.what == What::Settled && is_done(step, event) {
                self.done.insert(step.name.clone());
            }
        }
    }

    /// Judge the next event of `view`'s trail, and take note of it. `told` is the event in words.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn see(
        &mut self,
        view: &DeletionView,
        event: &AuditEvent,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let Some(JobKind::Stage(stage)) = event.job else { return Ok(()) };
        let before = self.at.get(&stage).copied();
        self.note(view, event);
        in_order(view, event, (stage, before), told)?;
        if let Some(step) = event.step.as_deref()
            && event.mode == Some(Mode::Perform)
            && let Some((_, step)) = find(view, stage, step)
        {
            if step.nature == Nature::Destructive && can_be_cancelled(stage) {
                violated("I4", format!("{}: in {stage}", told()))?;
            }
            self.after_its_users(view, step, told)?;
        }
        for own in &event.own {
            if let Some((_, step)) = find(view, stage, own) {
                self.after_its_users(view, step, told)?;
            }
        }
        if stage == Stage::Recycle && event.state == Some(StateName::Done) {
            self.outlived(view, told)?;
        }
        Ok(())
    }

    /// Everything that a step comes after is gone: seen, or stated by a person. Of what may remain nothing is released.
    fn after_its_users(
        &self,
        view: &DeletionView,
        step: &Step,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let stated = |name: &str| matches!(waived(view, name), Some(WaiverClaim::Absent | WaiverClaim::Told));
        match step.after.iter().find(|before| !self.done.contains(*before) && !stated(before.as_str())) {
            Some(before) => {
                violated("I6", format!("{}: {} comes after {before}, which is not done", told(), step.name))
            }
            None => Ok(()),
        }
    }

    /// All that the plan destroys was seen to be gone, or stated to be: in the end also of what may have remained.
    fn outlived(&self, view: &DeletionView, told: &impl Fn() -> String) -> Result<(), Violation> {
        let d = &view.deletion;
        let end = d.plan.stage(Stage::Recycle).steps.len();
        let nothing_remains = d.waivers.iter().any(|waiver| {
            waiver.slot == Stage::Recycle.index()
                && usize::from(waiver.step) == end
                && waiver.claim == WaiverClaim::Absent
        });
        let destroys = d.plan.stages.iter().flat_map(|stage| &stage.steps);
        for step in destroys.filter(|step| step.nature == Nature::Destructive && !is_own(step)) {
            let gone = match waived(view, &step.name) {
                Some(WaiverClaim::Absent | WaiverClaim::Told) => true,
                Some(WaiverClaim::MayRemain) => nothing_remains,
                Some(WaiverClaim::Belongs | WaiverClaim::Untold | WaiverClaim::Bounced) | None => false,
            };
            if !gone && !self.done.contains(&step.name) {
                violated("I7", format!("{}: nobody saw that {} is done", told(), step.name))?;
            }
        }
        Ok(())
    }
}

/// A stage goes on with the next step of its plan, and ends after the last one.
fn in_order(
    view: &DeletionView,
    event: &AuditEvent,
    (stage, last): (Stage, Option<usize>),
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let place = match event.step.as_deref() {
        None => last,
        Some(step) => {
            let Some((place, _)) = find(view, stage, step) else {
                return violated("plan", format!("{}: there is no such step in {stage}", told()));
            };
            if last.is_some_and(|last| place < last) {
                return violated("plan", format!("{}: a later one was answered before", told()));
            }
            passed(view, stage, (last, place), told)?;
            Some(place)
        }
    };
    if event.state == Some(StateName::Done) {
        passed(view, stage, (place, view.deletion.plan.stage(stage).steps.len()), told)?;
    }
    Ok(())
}

/// Everything between two steps was let pass, or is the coordinator's own.
fn passed(
    view: &DeletionView,
    stage: Stage,
    (last, next): (Option<usize>, usize),
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let first = last.map_or(0, |last| last + 1);
    let steps = &view.deletion.plan.stage(stage).steps;
    match steps.iter().take(next).skip(first).find(|step| !is_own(step) && waived(view, &step.name).is_none())
    {
        Some(step) => violated("plan", format!("{}: {} was left out", told(), step.name)),
        None => Ok(()),
    }
}

fn find<'a>(view: &'a DeletionView, stage: Stage, name: &str) -> Option<(usize, &'a Step)> {
    let steps = &view.deletion.plan.stage(stage).steps;
    steps.iter().enumerate().find(|(_, step)| step.name == name)
}

fn is_own(step: &Step) -> bool {
    matches!(step.performer, Performer::Coordinator(_))
}

/// What was seen is what the step is there for.
fn is_done(step: &Step, event: &AuditEvent) -> bool {
    match (step.nature, event.mode) {
        (Nature::Destructive, Some(Mode::Perform)) => event.presence == Some(Presence::Absent),
        // Before it is performed it is looked at how things are.
        (_, Some(Mode::Capture) | None) => false,
        (_, Some(Mode::Reread)) => event.presence.is_some(),
        (_, Some(Mode::Inspect | Mode::Perform | Mode::Undo | Mode::Verify)) => {
            event.presence == Some(Presence::Present)
        }
    }
}

/// What a person has stated of a step, so that it is let pass.
fn waived(view: &DeletionView, name: &str) -> Option<WaiverClaim> {
    let d = &view.deletion;
    d.waivers.iter().filter(|waiver| waiver.passes()).find_map(|waiver| {
        let Some(JobKind::Stage(stage)) = JobKind::from_slot(waiver.slot) else { return None };
        let step = d.plan.stage(stage).steps.get(usize::from(waiver.step))?;
        (step.name == name).then_some(waiver.claim)
    })
}

#[cfg(test)]
mod tests;
