//! Targets are read again before each later stage: the steps for it, which no plan file writes down.
//!
//! They stand in the record's own copy of the plan, before the stage's first step, so that nothing of a stage is touched
//! before all of its subsystems have been looked at. A copy that was made before there were such steps has none.
use super::{Performer, PlanStage, Step};
use crate::catalogue::Nature;
use crate::job::Stage;

/// Stands in the names of such steps, and in no others.
pub(super) const MARK: char = '@';

/// Put them into the stages after announce: for each subsystem that is inspected at announce and has a step in the
/// stage, its inspection.
pub(super) fn before_later_stages(stages: &mut [PlanStage]) {
    let Some((announce, later)) = stages.split_first_mut() else { return };
    for (stage, plan) in Stage::ALL.into_iter().skip(1).zip(later) {
        let again: Vec<Step> = last_inspections(&announce.steps)
            .filter(|inspection| plan.steps.iter().any(|step| same_subsystem(step, inspection)))
            .map(|inspection| again(inspection, stage))
            .collect();
        plan.steps.splice(0..0, again);
    }
}

/// Nothing is pinned where the inspection was waived as "may remain", so there is nothing to compare with.
fn again(inspection: &Step, stage: Stage) -> Step {
    let name = format!("{}{MARK}{stage}", inspection.name);
    Step { name, after: vec![inspection.name.clone()], ..inspection.clone() }
}

/// Of each subsystem the last one: what it saw is what is pinned.
fn last_inspections(steps: &[Step]) -> impl Iterator<Item = &Step> {
    let inspects = |step: &&Step| step.nature == Nature::Inspect;
    steps.iter().enumerate().filter(move |(_, step)| inspects(step)).filter_map(move |(index, step)| {
        let later = steps.get(index + 1..).unwrap_or_default();
        (!later.iter().filter(inspects).any(|other| same_subsystem(other, step))).then_some(step)
    })
}

fn same_subsystem(one: &Step, other: &Step) -> bool {
    match (&one.performer, &other.performer) {
        (Performer::Subsystem { subsystem: a, .. }, Performer::Subsystem { subsystem: b, .. }) => a == b,
        (Performer::Subsystem { .. } | Performer::Coordinator(_), _) => false,
    }
}
