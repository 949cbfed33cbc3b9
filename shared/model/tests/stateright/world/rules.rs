//! What every decision is held against. Keeps an account of its own, so that it does not trust what it checks.
use sexton_model::decide::{Decision, Effect, Event, OrderSpec};
use sexton_model::deletion::{Deletion, RecordStatus};
use sexton_model::job::{Job, JobKind, Phase, Stage};
use sexton_model::step::{Mode, Outcome};
use sexton_model::{Fence, JobId};

use super::World;

/// What has happened, as far as a rule needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Which of the two reversible steps were ordered to be done.
    pub performed: [bool; 2],
    /// Which of them a restore has taken back, and found to be so.
    pub taken_back: [bool; 2],
    /// Holds that were placed and not released.
    pub holds: usize,
    /// A call of a stage landed after the cancel.
    pub late: bool,
    /// The newest fence under which a thing was changed that holds one.
    pub newest: Option<Fence>,
    /// Such a thing has refused a call.
    pub refused: bool,
}

impl Account {
    /// Whether everything that may have been done was taken back.
    pub fn all_taken_back(&self) -> bool {
        self.performed.iter().zip(&self.taken_back).all(|(performed, back)| !performed || *back)
    }
}

impl World {
    /// Note the first rule that is broken.
    fn breaks(&mut self, rule: &'static str) {
        self.broken = self.broken.or(Some(rule));
    }

    /// A cancel is refused only after the end of cancel. Anything else may be: then nothing happens.
    pub(super) fn refused(&mut self, before: &Deletion, event: &Event) -> Option<()> {
        let cancel = matches!(event, Event::Cancel { .. });
        if cancel && before.status == RecordStatus::Live && !before.claimed(Stage::Hard) {
            self.breaks("a cancel before the end of cancel was refused");
            return Some(());
        }
        None
    }

    /// What was decided, before it is written.
    pub(super) fn judge(&mut self, before: &Deletion, after: &Deletion, event: &Event, decision: &Decision) {
        // In a new epoch a person has to see what was done in the one before.
        let destroyed = self.truth.gone[0] && self.epoch == 1;
        if matches!(event, Event::Cancel { .. }) && (before.claimed(Stage::Hard) || destroyed) {
            self.breaks("I5: a cancel after the end of cancel was accepted");
        }
        // What has just happened comes before what was decided on it.
        match event {
            Event::PlaceHold { .. } => self.account.holds += 1,
            Event::ReleaseHold { .. } => self.account.holds = self.account.holds.saturating_sub(1),
            Event::Outcome { job, outcome: Outcome::Done { .. }, .. } => self.looked(before, *job),
            _ => {}
        }
        for stage in Stage::ALL.into_iter().filter(|stage| !before.claimed(*stage) && after.claimed(*stage)) {
            if let Some(rule) = self.stopped(stage) {
                self.breaks(rule);
            }
        }
        for effect in &decision.effects {
            match effect {
                Effect::Order(order) => self.ordered(before, after, order),
                Effect::Extend { .. } if self.review => {
                    self.breaks("I15: an extension before the review was accepted");
                }
                Effect::Extend { .. } | Effect::Happened { .. } => {}
            }
        }
        if after.holds.len() != self.account.holds {
            self.breaks("other holds stand than were placed and not released");
        }
    }

    /// Why nothing of `stage` may begin or be ordered now.
    fn stopped(&self, stage: Stage) -> Option<&'static str> {
        if self.review {
            return Some("I15: a stage went on before the review was accepted");
        }
        if self.account.holds > 0 {
            return Some("a stage went on while a hold stands");
        }
        let paused = self.table.pauses.iter().any(|pause| pause.covers(stage));
        paused.then_some("a stage went on during a pause that covers it")
    }

    fn ordered(&mut self, before: &Deletion, after: &Deletion, order: &OrderSpec) {
        if order.fence.epoch != self.epoch {
            self.breaks("an order of another epoch");
        }
        match order.kind {
            JobKind::Stage(stage) => {
                if before.status != RecordStatus::Live || after.status != RecordStatus::Live {
                    self.breaks("I4: a stage's order after the cancel");
                }
                if let Some(rule) = self.stopped(stage) {
                    self.breaks(rule);
                }
                if stage == Stage::Soft && order.mode == Mode::Perform {
                    let which = self.which(order.step);
                    self.account.performed[which] = true;
                }
            }
            JobKind::Restore if self.review => self.breaks("I15: an undo before the review was accepted"),
            // What the epoch before has ordered, the job table no longer knows: a person has to.
            JobKind::Restore if self.epoch > 1 => {}
            JobKind::Restore => self.ordered_back(order),
        }
    }

    /// An undo comes when no order of a stage can be begun any more, the look whether it holds when no call of one is
    /// under way; and the last step is taken back first. Whoever sleeps nobody can wait for: that is what the fence is for.
    fn ordered_back(&mut self, order: &OrderSpec) {
        if self.orders.iter().any(|other| other.of_a_stage()) {
            self.breaks("I4: a restore went on while an order of a stage could be begun");
        }
        if order.mode == Mode::Verify && self.calls.iter().any(|call| call.order.of_a_stage()) {
            self.breaks("I4: a restore looked while a call of a stage was under way");
        }
        let which = self.which(order.step);
        if !self.account.performed[which] {
            self.breaks("I4: a step was taken back that was never ordered");
        }
        let last_first = !self.account.performed[1] || self.account.taken_back[1];
        if which == 0 && !last_first {
            self.breaks("I4: steps were taken back in another order than the last one first");
        }
    }

    /// A call met the fence that a thing holds, and was let through or not. Which one is newer is said once more here.
    pub(super) fn met(&mut self, fence: Fence, lets: bool) {
        let later = |newest: Fence| (newest.epoch, newest.number) > (fence.epoch, fence.number);
        match (self.account.newest.is_some_and(later), lets) {
            (true, true) => self.breaks("I10: a stale consumer changed what a later order had changed"),
            (true, false) => self.account.refused = true,
            (false, true) => self.account.newest = Some(fence),
            (false, false) => self.breaks("a call was refused that no later order had overtaken"),
        }
    }

    /// A step was seen to be as it was.
    fn looked(&mut self, before: &Deletion, job: JobId) {
        let looks = |job: &&Job| job.kind == JobKind::Restore && job.phase == Phase::Verify;
        let step = before.job(job).filter(looks).and_then(|job| before.step_at(job));
        if let Some((_, index, _)) = step {
            let which = self.which(index);
            self.account.taken_back[which] = true;
        }
    }
}
