//! Which steps a deletion has yet to do, which pass because of a waiver, and which a restore takes back.
use super::{Deletion, Waiver, WaiverClaim};
use crate::id::Instance;
use crate::job::{Job, JobKind, Stage};
use crate::plan::Step;

/// One step that a restore takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoStep {
    /// The stage it was done in.
    pub stage: Stage,
    /// Its index in that stage.
    pub index: u16,
}

impl Deletion {
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

    /// Whether the step was waived, or will be by what it depends on: what may still be there keeps what it uses. The notice
    /// never will.
    /// `remaining`: names of further steps that will be waived as "may remain" before it is reached.
    fn waived(&self, slot: u8, index: u16, step: &Step, remaining: &[&str]) -> Option<WaiverClaim> {
        if let Some(own) = self.waivers.iter().find(|w| w.passes() && w.slot == slot && w.step == index) {
            return Some(own.claim);
        }
        let follows = self.cause_of_passing(slot, step).is_some()
            || passes_with_others(slot, step)
                && step.after.iter().any(|before| remaining.contains(&before.as_str()));
        follows.then_some(WaiverClaim::MayRemain)
    }

    /// The waiver of something that may remain and that the step, of the job of this slot, depends on.
    pub fn cause_of_passing(&self, slot: u8, step: &Step) -> Option<&Waiver> {
        if !passes_with_others(slot, step) {
            return None;
        }
        self.waivers.iter().find(|w| {
            let waived = self.waived_step(w);
            w.claim == WaiverClaim::MayRemain
                && waived.is_some_and(|waived| step.after.contains(&waived.name))
        })
    }
}

/// Whether a step is let pass with what it depends on. The notice that starts the clock is not, whatever its plan says: what
/// may remain has told nobody.
fn passes_with_others(slot: u8, step: &Step) -> bool {
    !(step.notice && slot == Stage::Announce.index())
}
