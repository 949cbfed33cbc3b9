//! The invariants, held against every single decision. Keeps its own account of what was ordered and answered,
//! so that it does not trust the fields it checks.
use std::collections::BTreeMap;

use super::super::{Change, Decision, Effect, Event, OrderSpec, Refusal};
use super::kit::{DAY_MS, MOMENT};
use crate::catalogue::Nature;
use crate::deletion::{Deletion, RecordStatus, UndoStep, WaiverClaim};
use crate::id::Fence;
use crate::job::{JobKind, Stage};
use crate::step::{Mode, Outcome, Presence};
use crate::time::Timestamp;

#[derive(Clone, Default)]
pub(super) struct Watch {
    fence: Fence,
    /// All orders, by fence.
    orders: BTreeMap<Fence, OrderSpec>,
    /// Until when anything the stages ordered may begin.
    stages_quiet: Timestamp,
    /// When each stage ended.
    ended: BTreeMap<Stage, Timestamp>,
    /// Reversible steps for which a perform went out, in that order, each once.
    touched: Vec<(Stage, u16)>,
    /// What the restore has to take back, since the cancel.
    owed: Option<Vec<(Stage, u16)>>,
    /// What it was ordered to take back so far, each once.
    undone: Vec<(Stage, u16)>,
    hard: bool,
    /// A person said that something may remain, and nobody has said since that all of it is gone.
    remains: bool,
}

impl Watch {
    /// After a refusal nothing may have changed (the caller writes nothing), and it must be one that is due.
    pub(super) fn refused(&self, deletion: &Deletion, event: &Event, refusal: &Refusal) {
        assert_ne!(*refusal, Refusal::NotLive(RecordStatus::Live), "I12: {event:?} recorded no audit event");
        if let Event::Cancel { .. } = event
            && deletion.status == RecordStatus::Live
            && !matches!(refusal, Refusal::Missing(_))
        {
            assert!(self.hard, "a cancel before the end of cancel was refused: {refusal}");
            assert!(matches!(refusal, Refusal::TooLate { .. }), "{refusal:?}");
        }
    }

    pub(super) fn decided(
        &mut self,
        before: &Deletion,
        after: &Deletion,
        event: &Event,
        decision: &Decision,
        (now, fence): (Timestamp, Fence),
    ) {
        assert_eq!(decision.audit.at, now);
        self.answers(before, after, event);
        self.pins(before, event, decision);
        if let Event::Cancel { .. } = event {
            assert!(!self.hard, "I5: a cancel was accepted after the end of cancel");
            let owed: Vec<_> = self.touched.iter().rev().copied().collect();
            let list: Vec<_> =
                after.undo_list().iter().map(|UndoStep { stage, index }| (*stage, *index)).collect();
            assert_eq!(list, owed, "I4: the restore would take back something else than what was touched");
            self.owed = Some(owed);
        }
        if let Event::Claim { job } = event {
            let kind = before.job(*job).unwrap().kind;
            let first = after.jobs.iter().filter(|j| j.kind < kind).all(|j| j.state.name().over());
            assert!(first, "{kind} was claimed before an earlier stage was over");
        }
        for stage in Stage::ALL {
            let is_done = |d: &Deletion| d.stage_job(stage).unwrap().state == crate::job::JobState::Done;
            if is_done(after) && !is_done(before) {
                self.ended.insert(stage, now);
            }
        }
        let orders: Vec<_> = decision
            .effects
            .iter()
            .filter_map(|e| match e {
                Effect::Order(order) => Some(order),
                Effect::Extend { .. } | Effect::Happened { .. } => None,
            })
            .collect();
        assert!(orders.len() <= 1, "one decision, {} orders", orders.len());
        assert_eq!(decision.audit.ordered, orders.first().map(|o| o.fence));
        for order in orders {
            self.ordered(after, order, now, fence);
        }
        for effect in &decision.effects {
            if let Effect::Extend { fence, deadline, .. } = effect
                && self.orders[fence].kind != JobKind::Restore
                && self.orders[fence].mode.changes()
            {
                self.stages_quiet = self.stages_quiet.max(*deadline);
            }
        }
        self.hard |= after.claimed(Stage::Hard);
        self.stated(before, event);
        self.ends(before, after, decision);
    }

    /// I9 and I10: only a current answer of whom was asked counts, and only "absent" ends a destructive step.
    fn answers(&self, before: &Deletion, after: &Deletion, event: &Event) {
        let Event::Outcome { job, from, fence, outcome } = event else { return };
        let (old, new) = (before.job(*job).unwrap(), after.job(*job).unwrap());
        assert_eq!(old.state.out().map(|o| o.fence), Some(*fence), "I10: a stale answer counted");
        let order = &self.orders[fence];
        assert_eq!(order.instance, *from, "I10: somebody else's answer counted");
        let (_, _, step) = before.step_at(old).unwrap();
        let absent = matches!(outcome, Outcome::Done { presence: Presence::Absent, .. });
        let on = old.cursor != new.cursor || old.phase != new.phase && old.kind != JobKind::Restore;
        if step.nature == Nature::Destructive {
            assert!(!on || absent, "I9: {outcome:?} counted as absent");
        } else {
            let present = matches!(outcome, Outcome::Done { presence: Presence::Present, .. });
            let gone = absent && order.mode == Mode::Reread;
            assert!(!on || present || gone, "I9: {outcome:?} counted as present");
        }
        let looks = matches!(order.mode, Mode::Inspect | Mode::Reread | Mode::Capture);
        let found = matches!(outcome, Outcome::Done { finding: Some(_), .. });
        assert!(!on || !looks || found, "{:?} went on with nothing pinned", order.mode);
    }

    /// By itself nothing irreplaceable joins the targets, and nothing goes on past it.
    fn pins(&self, before: &Deletion, event: &Event, decision: &Decision) {
        let Event::Outcome { fence, outcome: Outcome::Done { finding: Some(appeared), .. }, .. } = event
        else {
            return;
        };
        let order = &self.orders[fence];
        if order.mode != Mode::Reread {
            return;
        }
        let stated = before.waivers.iter().any(|w| w.claim == WaiverClaim::Belongs);
        let pinned: Vec<_> = decision
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Targets { value, join, .. } => Some((value, *join)),
                _ => None,
            })
            .collect();
        for (value, join) in &pinned {
            assert!(join, "what was read again replaced what was pinned");
            for key in value.as_object().unwrap().keys() {
                let rolls = key == "snapshots" && order.stage == Stage::Hard;
                assert!(rolls || key == "volumes" && stated, "{key} joined the targets by itself");
            }
        }
        if appeared.get("volumes").is_some() && !stated {
            let on = decision.effects.iter().any(|effect| matches!(effect, Effect::Order(_)));
            assert!(!on, "it went on past a new volume");
        }
    }

    fn ordered(&mut self, deletion: &Deletion, order: &OrderSpec, now: Timestamp, fence: Fence) {
        assert_eq!(order.fence, fence);
        assert!(order.fence > self.fence, "fences must increase");
        self.fence = order.fence;
        self.orders.insert(order.fence, order.clone());
        let out =
            deletion.job(order.job).unwrap().state.out().copied().expect("an order without a running job");
        assert_eq!((out.fence, out.deadline), (order.fence, order.deadline));
        let step = &deletion.plan.stage(order.stage).steps[usize::from(order.step)];
        assert!(out.lease_until >= order.deadline.plus_ms(step.longest_call_ms), "the lease ends too early");
        let at = (order.stage, order.step);
        match order.kind {
            JobKind::Stage(stage) => {
                assert!(self.owed.is_none(), "I4: {order:?} was given after the cancel");
                assert!(deletion.status == RecordStatus::Live && order.stage == stage);
                self.not_too_early(deletion, stage, now);
                if order.mode.changes() {
                    self.stages_quiet = self.stages_quiet.max(order.deadline);
                }
                if step.nature == Nature::Destructive {
                    assert!(stage >= Stage::Hard, "a destructive step before the end of cancel");
                    self.nothing_uses_it(deletion, order);
                }
                if order.mode == Mode::Perform
                    && step.nature == Nature::Reversible
                    && !self.touched.contains(&at)
                {
                    self.touched.push(at);
                }
            }
            JobKind::Restore => {
                let owed = self.owed.as_ref().expect("I4: an undo without a cancel");
                assert!(now >= self.stages_quiet, "an undo while {} is not over", self.stages_quiet);
                if order.mode == Mode::Verify {
                    let landed = self.stages_quiet.plus_ms(step.longest_call_ms);
                    assert!(now >= landed, "verified before every call has ended");
                }
                if self.undone.last() != Some(&at) {
                    self.undone.push(at);
                }
                let mut rest = owed.iter();
                assert!(self.undone.iter().all(|u| rest.any(|o| o == u)), "I4: undone in another order");
            }
        }
    }

    /// I1: by its date, and by the grace since the stage before it ended.
    fn not_too_early(&self, deletion: &Deletion, stage: Stage, now: Timestamp) {
        let offset = |s: Stage| i64::from(deletion.plan.stage(s).offset_days);
        let days = |n: i64| n * i64::try_from(DAY_MS).unwrap() * 1000;
        assert!(now.0 >= MOMENT.0 + days(offset(stage)), "I1: {stage} before its date");
        if let Some(before) = Stage::ALL.into_iter().rfind(|s| *s < stage) {
            let ended =
                self.ended.get(&before).unwrap_or_else(|| panic!("I1: {stage} before {before} is done"));
            assert!(now.0 >= ended.0 + days(offset(stage) - offset(before)), "I1: {stage} within its grace");
        }
    }

    /// I6: what a step depends on is not waived as "may remain". The notice uses nothing up.
    fn nothing_uses_it(&self, deletion: &Deletion, order: &OrderSpec) {
        let step = &deletion.plan.stage(order.stage).steps[usize::from(order.step)];
        if step.notice && order.stage == Stage::Announce {
            return;
        }
        for waiver in deletion.waivers.iter().filter(|w| w.claim == WaiverClaim::MayRemain) {
            let Some(JobKind::Stage(stage)) = JobKind::from_slot(waiver.slot) else { continue };
            let waived = &deletion.plan.stage(stage).steps[usize::from(waiver.step)];
            assert!(!step.after.contains(&waived.name), "I6: {} while {} may remain", step.name, waived.name);
        }
    }

    /// What people said about what they let pass.
    fn stated(&mut self, before: &Deletion, event: &Event) {
        let Event::Waive { claim, .. } = event else { return };
        let parked = before.locking_job().expect("what is waived is parked");
        match claim {
            WaiverClaim::MayRemain => self.remains |= parked.kind != JobKind::Restore,
            WaiverClaim::Absent if parked.kind == JobKind::Stage(Stage::Recycle) => {
                let steps = before.plan.stage(Stage::Recycle).steps.len();
                self.remains &= usize::from(parked.cursor) < steps;
            }
            WaiverClaim::Absent
            | WaiverClaim::Belongs
            | WaiverClaim::Untold
            | WaiverClaim::Told
            | WaiverClaim::Bounced => {}
        }
    }

    /// I7, I8, I13: the record lives until all its jobs are over, and ends in one of three ways.
    fn ends(&self, before: &Deletion, after: &Deletion, decision: &Decision) {
        if !before.status.live() {
            let only = decision.changes.iter().all(|c| matches!(c, Change::HoldReleased(_)));
            assert!(only, "a record that is over was changed: {decision:?}");
        }
        if after.status.live() {
            assert!(after.jobs.iter().any(|j| !j.state.name().over()), "live, but nothing is left to do");
        } else {
            assert!(after.jobs.iter().all(|j| j.state.name().over()), "over, but a job is not");
        }
        match after.status {
            RecordStatus::Cancelled => {
                let waived = after.waivers.iter().any(|w| w.slot == JobKind::RESTORE_SLOT);
                assert!(waived || self.owed.as_ref() == Some(&self.undone), "I4: not everything was undone");
            }
            RecordStatus::Recycled => {
                assert_eq!(self.ended.len(), Stage::ALL.len());
                assert!(!self.remains, "I6: the name was freed while something may remain");
            }
            RecordStatus::Rescued => assert!(self.hard && self.owed.is_none()),
            RecordStatus::Restoring => assert!(self.owed.is_some()),
            RecordStatus::Live => assert!(self.owed.is_none()),
        }
    }
}
