//! Answers: each kind in each mode, and those that do not count.
use super::super::{Change, Event, Refusal};
use super::kit::{Bench, RESTORE, cancel, findings, good, plan_that_rereads, stage};
use crate::beacon::SKEW_MS;
use crate::id::Fence;
use crate::job::{JobState, Phase, Stage, StateName};
use crate::retry::ATTEMPTS;
use crate::step::{Mode, Outcome, Presence};

/// Each mode, by an order of that mode that is out.
fn each_mode() -> Vec<(Mode, Bench)> {
    let mut undo = Bench::at(Stage::Soft, 0, Mode::Perform);
    undo.must(&cancel());
    undo.now = undo.out().deadline.plus_ms(SKEW_MS);
    undo.comply();
    let mut verify = undo.clone();
    verify.comply();
    verify.wait_ms(60_000);
    verify.must(&Event::Proceed { job: RESTORE });
    vec![
        (Mode::Inspect, Bench::at(Stage::Announce, 0, Mode::Inspect)),
        (Mode::Reread, Bench::with(plan_that_rereads()).run_to(Stage::Soft, 0, Mode::Reread)),
        (Mode::Capture, Bench::at(Stage::Soft, 0, Mode::Capture)),
        (Mode::Perform, Bench::at(Stage::Soft, 0, Mode::Perform)),
        (Mode::Undo, undo),
        (Mode::Verify, verify),
    ]
}

#[test]
fn done_goes_on() {
    for (mode, mut bench) in each_mode() {
        let (id, old) = (bench.out().job, bench.job(bench.out().job).clone());
        assert_eq!(bench.out().mode, mode);
        let decision = bench.comply();
        let new = bench.job(id).clone();
        let (moved, phase) = match mode {
            Mode::Inspect | Mode::Reread | Mode::Perform => (1, Phase::Capture),
            Mode::Verify => (1, Phase::Act),
            Mode::Capture => (0, Phase::Act),
            Mode::Undo => (0, Phase::Verify),
        };
        assert_eq!((new.cursor - old.cursor, new.phase), (moved, phase), "{mode:?}");
        match (mode, &findings(&decision)[..]) {
            (Mode::Inspect, [Change::Targets { join: false, .. }]) => {}
            (Mode::Capture, [Change::Manifest { slot: 1, step: 0, .. }]) => {}
            (Mode::Reread | Mode::Perform | Mode::Undo | Mode::Verify, []) => {}
            (_, other) => panic!("{mode:?}: {other:?}"),
        }
    }
}

#[test]
fn retry_waits_and_counts_only_what_failed() {
    for (mode, bench) in each_mode() {
        for (outcome, spent) in [(Outcome::failed("busy"), 1), (Outcome::spared("an outage"), 0)] {
            let mut bench = bench.clone();
            let (id, cursor) = (bench.out().job, bench.job(bench.out().job).cursor);
            bench.answer(outcome);
            let job = bench.job(id);
            assert_eq!((job.state.name(), job.attempts), (StateName::Waiting, spent), "{mode:?}");
            assert_eq!(job.cursor, cursor);
        }
    }
}

/// Of a stage and of a restore: the subsystem is away for more orders than a step has attempts, and then it is back.
#[test]
fn an_outage_longer_than_the_attempts_ends_by_itself() {
    for (mode, mut bench) in each_mode() {
        let id = bench.out().job;
        for _ in 0..2 * ATTEMPTS {
            bench.answer(Outcome::spared("it is away"));
            let job = bench.job(id);
            let JobState::Waiting { until, .. } = job.state else { panic!("{mode:?}: {job:?}") };
            assert_eq!(job.attempts, 0, "{mode:?}");
            bench.now = until;
            bench.must(&Event::Proceed { job: id });
            assert_eq!((bench.state(id), bench.out().mode), (StateName::Running, mode));
        }
        bench.comply();
        let job = bench.job(id);
        assert!(!matches!(job.state, JobState::Parked { .. }), "{mode:?}: {job:?}");
        assert_eq!(job.in_vain, 0, "{mode:?}");
    }
}

#[test]
fn refused_parks_except_where_an_undo_did_not_hold() {
    for (mode, mut bench) in each_mode() {
        let id = bench.out().job;
        bench.answer(Outcome::refused("another one"));
        if mode == Mode::Verify {
            assert_eq!((bench.state(id), bench.out().mode), (StateName::Running, Mode::Undo));
        } else {
            let JobState::Parked { reason } = &bench.job(id).state else { panic!("{mode:?}: not parked") };
            assert!(reason.contains("refused: another one"), "{reason}");
        }
    }
}

#[test]
fn attempts_come_to_an_end() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    let job = stage(Stage::Soft);
    for attempt in 1..=3 {
        bench.answer(Outcome::failed("busy"));
        let wanted = if attempt < 3 { StateName::Waiting } else { StateName::Parked };
        assert_eq!(bench.state(job), wanted, "attempt {attempt}");
        if let JobState::Waiting { until, .. } = bench.job(job).state {
            bench.now = until;
            bench.must(&Event::Proceed { job });
        }
    }
}

#[test]
fn only_what_was_seen_to_be_gone_is_gone() {
    for (which, name) in [(Stage::Hard, "undefine"), (Stage::Purge, "wipe")] {
        for presence in [Presence::Present, Presence::Unknown] {
            let mut bench = Bench::at(which, 0, Mode::Perform);
            bench.answer(Outcome::done(presence, "204"));
            let job = bench.job(stage(which));
            assert_eq!((job.state.name(), job.cursor, job.attempts), (StateName::Waiting, 0, 1), "{name}");
        }
    }
}

/// What a consumer that keeps to the SDK never says counts as a failed attempt, in each mode.
#[test]
fn a_done_that_cannot_be_is_tried_again() {
    use Presence::{Absent, Present, Unknown};
    let finding = || Some(serde_json::json!({ "seen": true }));
    for (mode, bench) in each_mode() {
        let mut wrong = vec![(Absent, finding()), (Unknown, finding())];
        if matches!(mode, Mode::Inspect | Mode::Reread | Mode::Capture) {
            wrong.push((Present, None));
        }
        if mode == Mode::Reread {
            // From hard on it may be gone.
            wrong.remove(0);
            wrong.push((Present, Some("volumes".into())));
        }
        for (presence, finding) in wrong {
            let mut bench = bench.clone();
            let (id, old) = (bench.out().job, bench.job(bench.out().job).clone());
            let said = format!("{mode:?} {presence:?} {finding:?}");
            let decision = bench.answer(Outcome::Done { presence, evidence: String::new(), finding });
            assert!(findings(&decision).is_empty(), "{said}: something was pinned");
            let job = bench.job(id);
            assert_eq!(
                (job.cursor, job.phase, job.attempts),
                (old.cursor, old.phase, old.attempts + 1),
                "{said}"
            );
            assert_eq!(job.state.name(), StateName::Waiting, "{said}");
        }
    }
}

#[test]
fn what_is_outdated_or_not_from_whom_was_asked_does_not_count() {
    for (mode, mut bench) in each_mode() {
        let order = bench.out();
        let says = |from: &str, number: i64| Event::Outcome {
            job: order.job,
            from: from.parse().unwrap(),
            fence: Fence { epoch: 1, number },
            outcome: good(order.mode, order.stage),
        };
        let number = order.fence.number;
        for stale in [number - 1, number + 1] {
            let answer = bench.go(&says("hypervisor.main", stale));
            assert!(matches!(answer, Err(Refusal::Stale { .. })), "{mode:?}: {answer:?}");
        }
        for other in ["dns.main", "hypervisor.other"] {
            let answer = bench.go(&says(other, number));
            assert!(matches!(answer, Err(Refusal::NotAsked { .. })), "{mode:?}: {answer:?}");
        }
        bench.must(&says("hypervisor.main", number));
        let answer = bench.go(&says("hypervisor.main", number));
        assert!(matches!(answer, Err(Refusal::Stale { .. })), "{mode:?}: it counted twice");
    }
}

/// An answer to the last order, in every state: it counts only while that order is out.
#[test]
fn in_every_state() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let out = bench.deletion.jobs.iter().any(|j| j.state.out().is_some());
        let event = bench.answer_event(Outcome::failed("busy"));
        let answer = bench.go(&event);
        assert_eq!(answer.is_ok(), out, "{state}: {answer:?}");
    }
}

#[test]
fn the_coordinators_own_steps_need_no_order() {
    let mut bench = Bench::at(Stage::Hard, 1, Mode::Perform);
    let decision = bench.comply();
    assert!(decision.changes.contains(&Change::Resource(crate::resource::Presence::Tombstone)));
    assert_eq!(decision.audit.own, ["inventory.remove"], "the trail tells of it");
    assert_eq!(bench.state(stage(Stage::Hard)), StateName::Done);
}
