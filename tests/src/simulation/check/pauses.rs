//! Pauses, by rules written down once more: nothing that one of them covers begins or goes on, and nothing else waits for it.
use std::collections::BTreeMap;

use sexton_ledger::DeletionView;
use sexton_model::audit::{AuditEvent, What};
use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::deletion::Deletion;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage, StateName};
use sexton_model::plan::{Performer, Step};
use sexton_model::{Fence, Timestamp};
use sexton_protocol::Order;

use super::censuses::within;
use super::{Violation, violated};

/// After this many milliseconds no consumer goes by what it heard before a pause: what it heard is too old by then, by the
/// worst clock that there is.
const HEARD_MS: u64 = 20_000;
/// How an order is counted that was given while there was a pause that does not cover it.
pub const BESIDE: &str = "order beside a pause";

/// All that was seen of them.
#[derive(Debug, Default)]
pub struct Pauses {
    /// Those that stand, each with since when, truly.
    in_force: BTreeMap<i64, (PauseSelector, Timestamp)>,
    /// All that there ever were: what one of them has stopped is looked at again a while after it was lifted.
    ever: BTreeMap<i64, PauseSelector>,
    /// Why each was placed, as far as the job table knows of it: those that were lifted, too.
    why: BTreeMap<i64, String>,
    /// Orders that were given while there was one that does not cover them.
    pub beside: u64,
}

/// What is done, as far as a pause asks: for which stage, and by which subsystem if that is known.
type Doing<'a> = (Stage, Option<&'a str>);

fn covers(pause: &PauseSelector, d: &Deletion, (stage, subsystem): Doing<'_>) -> bool {
    let PauseSelector { stage: only, kind, scope, subsystem: by } = pause;
    let resource = &d.record.resource;
    only.is_none_or(|only| only == stage)
        && kind.as_ref().is_none_or(|kind| *kind == resource.id.kind)
        && scope.as_ref().is_none_or(|scope| within(resource.scope.as_str(), scope.as_str()))
        && by.as_ref().is_none_or(|by| subsystem == Some(by.as_str()))
}

fn subsystem_of(step: &Step) -> Option<&str> {
    match &step.performer {
        Performer::Subsystem { subsystem, .. } => Some(subsystem.as_str()),
        Performer::Coordinator(_) => None,
    }
}

/// Who was asked under this fence, unless something else was decided about the record since.
fn asked(d: &Deletion, fence: Fence) -> Option<&str> {
    let job = d.jobs.iter().find(|job| job.state.out().is_some_and(|out| out.fence == fence))?;
    d.step_at(job).and_then(|(_, _, step)| subsystem_of(step))
}

impl Pauses {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.in_force.is_empty()
    }

    /// This one was placed at that moment.
    pub fn placed(&mut self, pause: &Pause, now: Timestamp) {
        self.ever.insert(pause.id, pause.covers.clone());
        self.why.insert(pause.id, pause.reason.clone());
        self.in_force.entry(pause.id).or_insert_with(|| (pause.covers.clone(), now));
    }

    /// This one was lifted.
    pub fn lifted(&mut self, pause: i64) {
        self.in_force.remove(&pause);
    }

    /// All were lifted.
    pub fn all_lifted(&mut self) {
        self.in_force.clear();
    }

    /// These stand by the job table: so does, all the same, what it has lost meanwhile and nobody has lifted.
    pub fn stand(&mut self, pauses: &[Pause], now: Timestamp) {
        for pause in pauses {
            self.placed(pause, now);
        }
    }

    /// The job table went back in time: these are in force, and no others.
    pub fn are(&mut self, pauses: &[Pause], now: Timestamp) {
        self.in_force.retain(|id, _| pauses.iter().any(|pause| pause.id == *id));
        self.why.clear();
        self.stand(pauses, now);
    }

    /// How many were placed for this reason.
    pub fn placed_because(&self, reason: &str) -> usize {
        self.why.values().filter(|why| *why == reason).count()
    }

    /// Something was decided: no stage begins or goes on that is paused.
    ///
    /// # Errors
    /// What does.
    pub(super) fn decided(
        &mut self,
        view: &DeletionView,
        event: &AuditEvent,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let d = &view.deletion;
        let Some(JobKind::Stage(stage)) = event.job else { return Ok(()) };
        let ordered = event.ordered.filter(|_| event.state != Some(StateName::Cancelled));
        if ordered.is_none() && event.what != What::Claimed {
            return Ok(());
        }
        let doing = (stage, ordered.and_then(|fence| asked(d, fence)));
        for (id, (pause, since)) in &self.in_force {
            if covers(pause, d, doing) {
                violated("pause", format!("{}: pause {id} of {pause} stands since {since}", told()))?;
            }
        }
        if ordered.is_some() && self.any() {
            self.beside += 1;
        }
        Ok(())
    }

    /// What waits for a pause is covered by it. One that nobody has told of yet is not asked about.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn stopped(&self, d: &Deletion) -> Result<(), Violation> {
        for job in &d.jobs {
            let (JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. }) = &job.state else {
                continue;
            };
            if let (Blocker::Pause { pause, .. }, JobKind::Stage(stage)) = (by, job.kind)
                && let Some(selector) = self.ever.get(pause)
                && !ahead(d, job, stage).any(|subsystem| covers(selector, d, (stage, subsystem)))
            {
                violated("pause", format!("{}: {stage} waits for pause {pause} of {selector}", d.id))?;
            }
        }
        Ok(())
    }

    /// Something was changed by this subsystem: a consumer does nothing once it must have heard of a pause.
    ///
    /// # Errors
    /// If it does.
    pub(super) fn acted(
        &self,
        (at, subsystem): (Timestamp, &str),
        order: &Order,
        d: &Deletion,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let JobKind::Stage(stage) = order.kind else { return Ok(()) };
        for (id, (pause, since)) in &self.in_force {
            let heard = at > since.plus_ms(HEARD_MS);
            if heard && covers(pause, d, (stage, Some(subsystem))) {
                violated("pause", format!("{}: pause {id} of {pause} stands since {since}", told()))?;
            }
        }
        Ok(())
    }
}

/// Whom a job asks from its cursor on, and nobody: that is what a pause covers that names no subsystem.
fn ahead<'a>(d: &'a Deletion, job: &Job, stage: Stage) -> impl Iterator<Item = Option<&'a str>> {
    let steps = d.plan.stage(stage).steps.get(usize::from(job.cursor)..).unwrap_or_default();
    steps.iter().map(subsystem_of).chain([None])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_known_for_as_long_as_something_may_wait_for_it() {
        let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
        let (by, since) = ("ops".parse().unwrap(), Timestamp(7));
        let pause = Pause { id: 3, covers: covers.clone(), by, reason: "look".to_owned(), since };
        let other = Pause { id: 4, covers: PauseSelector::default(), ..pause.clone() };
        let mut pauses = Pauses::default();
        pauses.placed(&pause, Timestamp(10));
        pauses.stand(&[], Timestamp(15));
        assert!(pauses.any(), "the job table has lost it");
        pauses.stand(std::slice::from_ref(&other), Timestamp(16));
        pauses.lifted(other.id);
        assert_eq!(pauses.placed_because("look"), 2, "the one that was lifted, too");
        pauses.are(&[pause], Timestamp(20));
        assert_eq!(pauses.in_force.get(&3), Some(&(covers.clone(), Timestamp(10))), "since it was placed");
        assert_eq!(pauses.placed_because("look"), 1, "the job table knows nothing of the other one");
        pauses.are(&[], Timestamp(30));
        assert!(!pauses.any());
        assert_eq!(pauses.ever.get(&3), Some(&covers));
    }
}
