//! Random events on random small plans; [`super::watch`] judges every decision.
use proptest::prelude::*;

use super::super::{Capacity, Event};
use super::kit::{Bench, DAY_MS, actor, cancel, good, pause, place_hold, plan, plan_that_rereads, rescue};
use crate::belts::PauseSelector;
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::id::{DeletionId, Fence, JobId};
use crate::job::{JobState, Stage};
use crate::plan::{Plan, Step};
use crate::step::{Outcome, Presence};

/// Something that happens; made concrete by where the deletion stands.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// What has to come next: a claim, a good answer, the end of a wait.
    Forward,
    Claim(u8),
    Proceed(u8),
    Recheck(u8),
    /// An answer to an order: 0 is the last one, 1 the one before it, …
    Answer(usize, Outcome),
    /// By an instance that was not asked.
    Foreign,
    Progress(u64),
    LeaseOver,
    Cancel,
    Hold,
    Release,
    Park,
    Retry,
    Waive(WaiverClaim),
    Acknowledge,
    Bounced,
    Rescue,
    Pause(Option<Stage>),
    Resume,
    Protect(bool),
    Capacity(Capacity),
    Elsewhere(Capacity),
    WaitMs(u64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::done(Presence::Absent, "")),
        2 => Just(Outcome::done(Presence::Present, "")),
        1 => Just(Outcome::done(Presence::Unknown, "")),
        1 => Just(good(crate::step::Mode::Capture, Stage::Soft)),
        2 => prop::sample::select(vec!["volumes", "snapshots", "records"]).prop_map(|key| Outcome::Done {
            presence: Presence::Present,
            evidence: String::new(),
            finding: Some(serde_json::json!({ key: ["new"] })),
        }),
        2 => Just(Outcome::failed("busy")),
        1 => Just(Outcome::spared("an outage")),
        2 => Just(Outcome::refused("another one")),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let stage = prop_oneof![Just(None), (0..5usize).prop_map(|i| Some(Stage::ALL[i]))];
    let capacity = prop_oneof![2 => Just(Capacity::Free), 1 => Just(Capacity::Full), 1 => prop_oneof![Just(Capacity::Down), Just(Capacity::Gone)]];
    let claim = prop::sample::select(vec![WaiverClaim::Absent, WaiverClaim::MayRemain, WaiverClaim::Belongs]);
    prop_oneof![
        40 => Just(Op::Forward),
        3 => (0..7u8).prop_map(Op::Claim),
        3 => (0..6u8).prop_map(Op::Proceed),
        3 => (0..6u8).prop_map(Op::Recheck),
        6 => (0..3usize, outcome()).prop_map(|(which, outcome)| Op::Answer(which, outcome)),
        1 => Just(Op::Foreign),
        3 => (0..2u64).prop_map(Op::Progress),
        4 => Just(Op::LeaseOver),
        1 => Just(Op::Cancel),
        1 => Just(Op::Hold),
        2 => Just(Op::Release),
        2 => Just(Op::Park),
        3 => Just(Op::Retry),
        2 => claim.prop_map(Op::Waive),
        2 => Just(Op::Acknowledge),
        1 => Just(Op::Bounced),
        1 => Just(Op::Rescue),
        1 => stage.prop_map(Op::Pause),
        2 => Just(Op::Resume),
        1 => any::<bool>().prop_map(Op::Protect),
        2 => capacity.clone().prop_map(Op::Capacity),
        2 => capacity.prop_map(Op::Elsewhere),
        6 => (0..2 * DAY_MS).prop_map(Op::WaitMs),
    ]
}

/// A sequence long enough to reach every stage's end.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 20..140)
}

/// The plan of the kit, with some of its steps and few attempts.
pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let quarter = || prop::bool::weighted(0.25);
    let parts = (prop::collection::vec(prop::bool::weighted(0.7), 16), 1..4u16, quarter(), quarter());
    parts.prop_map(|(keep, attempts, rereads, notice)| {
        let mut plan = if rereads { plan_that_rereads() } else { plan() };
        for step in plan.stages[0].steps.iter_mut().filter(|step| step.name == "hypervisor.tell") {
            step.notice = notice;
        }
        let mut keep = keep.into_iter().cycle();
        for stage in &mut plan.stages {
            stage.steps.retain(|_| keep.next() == Some(true));
            for step in &mut stage.steps {
                step.max_attempts = attempts;
            }
        }
        // Something always depends on something before it, in a reversible stage too.
        for stage in &mut plan.stages {
            let names: Vec<_> = stage.steps.iter().map(|s| s.name.clone()).collect();
            for (step, before) in stage.steps.iter_mut().skip(1).zip(names).step_by(2) {
                step.after.push(before);
            }
        }
        // The name may have steps of its own to wait for.
        let last = plan.stage(Stage::Purge).steps.iter().filter(|s| s.name != "hypervisor.wipe").cloned();
        plan.stages[usize::from(Stage::Recycle.index())].steps = last
            .filter(|_| keep.next() == Some(true))
            .map(|step| Step { name: format!("{} at last", step.name), ..step })
            .collect();
        plan
    })
}

fn job(slot: u8) -> JobId {
    JobId::of(DeletionId(1), slot)
}

/// The next thing that must happen for the deletion to get on.
fn forward(bench: &mut Bench) -> Option<Event> {
    let next = bench.deletion.jobs.iter().find(|j| !j.state.name().over())?.clone();
    match next.state {
        JobState::Scheduled { due_at } => {
            bench.now = bench.now.max(due_at?);
            Some(Event::Claim { job: next.id })
        }
        JobState::Held { .. } => Some(Event::Recheck { job: next.id }),
        JobState::Waiting { until, .. } => {
            bench.now = bench.now.max(until);
            Some(Event::Proceed { job: next.id })
        }
        JobState::Ready { .. } => Some(Event::Proceed { job: next.id }),
        JobState::Running(_) | JobState::Cancelling(_) => {
            let order = bench.out();
            Some(bench.answer_event(good(order.mode, order.stage)))
        }
        JobState::Parked { .. } | JobState::Done | JobState::Cancelled | JobState::Rescued => None,
    }
}

/// Make an operation concrete; what only changes the surroundings is done at once.
pub(super) fn event(bench: &mut Bench, op: &Op) -> Option<Event> {
    let ops = actor("ops");
    match op {
        Op::Forward => forward(bench),
        Op::Claim(slot) => Some(Event::Claim { job: job(*slot) }),
        Op::Proceed(slot) => Some(Event::Proceed { job: job(*slot) }),
        Op::Recheck(slot) => Some(Event::Recheck { job: job(*slot) }),
        Op::Answer(back, outcome) => {
            let order = bench.orders.iter().rev().nth(*back)?.clone();
            let outcome = outcome.clone();
            Some(Event::Outcome { job: order.job, from: order.instance, fence: order.fence, outcome })
        }
        Op::Foreign => {
            let order = bench.last.clone()?;
            let from = "dns.main".parse().ok()?;
            let outcome = Outcome::done(Presence::Absent, "");
            Some(Event::Outcome { job: order.job, from, fence: order.fence, outcome })
        }
        Op::Progress(performer) => {
            let order = bench.last.clone()?;
            let (from, fence) = (order.instance, order.fence);
            Some(Event::Progress { job: order.job, from, fence, performer: *performer })
        }
        Op::LeaseOver => {
            let order = bench.last.clone()?;
            let lease = bench.job(order.job).state.out().map(|out| out.lease_until);
            bench.now = bench.now.max(lease.unwrap_or_default());
            Some(Event::LeaseOver { job: order.job, fence: order.fence })
        }
        Op::Cancel => Some(cancel()),
        Op::Hold => Some(place_hold()),
        Op::Release => {
            let hold = bench.deletion.holds.first().map_or(99, |h| h.id);
            Some(Event::ReleaseHold { hold, by: ops })
        }
        Op::Park => Some(Event::Park { by: ops, reason: "gone".into() }),
        Op::Retry => Some(Event::Retry { by: ops }),
        Op::Waive(claim) => {
            Some(Event::Waive { by: ops, claim: *claim, mark: bench.mark(), evidence: "seen".into() })
        }
        Op::Acknowledge => Some(bench.looked(super::notice::acknowledge())),
        Op::Bounced => Some(super::notice::bounced()),
        Op::Rescue => Some(rescue()),
        Op::Pause(stage) => {
            bench.in_force.pauses = vec![pause(PauseSelector { stage: *stage, ..PauseSelector::default() })];
            None
        }
        Op::Resume => {
            bench.in_force.pauses.clear();
            None
        }
        Op::Protect(protected) => {
            bench.deletion.protected = *protected;
            None
        }
        Op::Capacity(capacity) => {
            bench.capacity = *capacity;
            None
        }
        Op::Elsewhere(capacity) => {
            bench.elsewhere = *capacity;
            None
        }
        Op::WaitMs(ms) => {
            bench.wait_ms(*ms);
            None
        }
    }
}

/// After any history, with the obstacles gone and a person who retries, the record comes to an end (I13).
fn ends(bench: &mut Bench) {
    bench.in_force.pauses.clear();
    bench.deletion.protected = false;
    (bench.capacity, bench.elsewhere) = (Capacity::Free, Capacity::Free);
    while let Some(hold) = bench.deletion.holds.first().map(|h| h.id) {
        bench.must(&Event::ReleaseHold { hold, by: actor("ops") });
    }
    // Somebody tells everybody otherwise.
    let came_back = crate::decide::notice::came_back_since(&bench.deletion);
    if let Some(since) = came_back.filter(|_| bench.deletion.status == RecordStatus::Live) {
        bench.now = bench.now.max(crate::decide::notice::patience_ends(&bench.deletion, since, bench.day));
        bench.must(&bench.looked(super::notice::acknowledge()));
    }
    for _ in 0..200 {
        if !bench.deletion.status.live() {
            break;
        }
        let event = forward(bench).unwrap_or_else(|| {
            // At the end of recycle there is nothing to try again: somebody has to have looked.
            let by = actor("ops");
            match bench.deletion.locking_job() {
                Some(job) if bench.deletion.step_at(job).is_none() => Event::Waive {
                    by,
                    claim: WaiverClaim::Absent,
                    mark: bench.mark(),
                    evidence: "seen in the rack".into(),
                },
                _ => Event::Retry { by },
            }
        });
        bench.must(&event);
    }
    assert!(!bench.deletion.status.live(), "I13: stuck: {:?}", bench.deletion.jobs);
    let fence = Fence { epoch: 1, number: bench.fence };
    assert_ne!(bench.deletion.status, RecordStatus::Live);
    // Nothing moves a record that is over.
    for slot in 0..6 {
        assert!(bench.go(&Event::Claim { job: job(slot) }).is_err());
        assert!(bench.go(&Event::Proceed { job: job(slot) }).is_err());
        assert!(bench.go(&Event::LeaseOver { job: job(slot), fence }).is_err());
    }
    for event in [cancel(), place_hold(), rescue(), Event::Retry { by: actor("ops") }] {
        assert!(bench.go(&event).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_invariants_hold_whatever_happens(plan in plans(), ops in ops()) {
        let mut bench = Bench::with(plan);
        for op in &ops {
            if let Some(event) = event(&mut bench, op) {
                drop(bench.go(&event));
            }
        }
        ends(&mut bench);
    }
}
