//! What people decide: hold, retry, waive, rescue.
use super::super::{Change, Event, Refusal};
use super::kit::{Bench, DAY_MS, actor, cancel, place_hold, rescue, stage};
use crate::beacon::SKEW_MS;
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::job::{JobState, Stage, StateName};
use crate::step::{Mode, Outcome};

fn waive(claim: WaiverClaim) -> Event {
    Event::Waive { by: actor("ops"), claim, evidence: "seen".into() }
}

#[test]
fn retry_and_waive_in_every_state() {
    for state in StateName::ALL {
        for event in [Event::Retry { by: actor("ops") }, waive(WaiverClaim::Absent)] {
            let mut bench = Bench::soft_in(state);
            let answer = bench.go(&event);
            if state == StateName::Parked {
                assert_eq!(bench.state(stage(Stage::Soft)), StateName::Running, "{event:?}");
            } else {
                assert_eq!(answer, Err(Refusal::NothingParked), "{state}");
            }
        }
    }
}

#[test]
fn a_retry_has_all_its_attempts_and_keeps_to_the_belts() {
    let mut bench = Bench::soft_in(StateName::Parked);
    bench.must(&place_hold());
    bench.must(&Event::Retry { by: actor("ops") });
    let job = bench.job(stage(Stage::Soft));
    assert_eq!((job.state.name(), job.attempts), (StateName::Ready, 0));
}

/// What is stated gone lets what depends on it run; what may remain keeps it, and what depends on that.
#[test]
fn a_waiver_cascades_only_if_something_may_remain() {
    for (claim, waived) in [(WaiverClaim::Absent, 1), (WaiverClaim::MayRemain, 3)] {
        let mut bench = Bench::at(Stage::Hard, 0, Mode::Perform);
        bench.answer(Outcome::refused("not mine"));
        let decision = bench.must(&waive(claim));
        assert_eq!(bench.deletion.waivers.len(), waived, "{claim:?}");
        assert!(bench.deletion.waivers.iter().all(|w| w.claim == claim && w.slot == 2));
        let tombstone = Change::Resource(crate::resource::Presence::Tombstone);
        assert!(!decision.changes.contains(&tombstone), "the inventory would forget what may remain");
        let state = bench.state(stage(Stage::Hard));
        assert_eq!(state, if waived == 1 { StateName::Running } else { StateName::Done });
        if claim == WaiverClaim::MayRemain {
            // A later stage's step depends on it as well.
            bench.claim(Stage::Purge);
            assert_eq!((bench.out().stage, bench.out().step), (Stage::Purge, 1));
        }
    }
}

/// The stages to the end, whatever is answered being good; recycle is claimed.
fn to_the_end(bench: &mut Bench) {
    for which in Stage::ALL {
        if bench.state(stage(which)) == StateName::Scheduled {
            bench.claim(which);
        }
        while bench.state(stage(which)) == StateName::Running {
            bench.comply();
        }
    }
}

/// I6: what may remain keeps its name, until somebody has seen that it is gone.
#[test]
fn a_name_is_not_freed_while_something_may_remain() {
    let mut bench = Bench::at(Stage::Hard, 0, Mode::Perform);
    bench.answer(Outcome::refused("not mine"));
    bench.must(&waive(WaiverClaim::MayRemain));
    to_the_end(&mut bench);
    let remains = "hypervisor.undefine, hypervisor.release, inventory.remove, hypervisor.wipe";
    let JobState::Parked { reason } = &bench.job(stage(Stage::Recycle)).state else {
        panic!("{:?}", bench.job(stage(Stage::Recycle)))
    };
    assert!(reason.contains(remains), "{reason}");
    assert_eq!(bench.deletion.status, RecordStatus::Live);
    for event in [Event::Retry { by: actor("ops") }, waive(WaiverClaim::MayRemain)] {
        assert_eq!(bench.go(&event), Err(Refusal::NameInUse(remains.into())), "{event:?}");
    }
    let decision = bench.must(&waive(WaiverClaim::Absent));
    assert!(decision.changes.contains(&Change::Resource(crate::resource::Presence::Recycled)));
    assert_eq!(bench.deletion.status, RecordStatus::Recycled);
    let recycle = bench.job(stage(Stage::Recycle));
    assert_eq!((recycle.state.name(), recycle.cursor), (StateName::Done, 0));
}

/// What was seen to be gone keeps nothing.
#[test]
fn a_name_is_freed_if_all_that_was_waived_is_gone() {
    let mut bench = Bench::at(Stage::Hard, 0, Mode::Perform);
    bench.answer(Outcome::refused("not mine"));
    bench.must(&waive(WaiverClaim::Absent));
    to_the_end(&mut bench);
    assert_eq!(bench.deletion.status, RecordStatus::Recycled);
}

#[test]
fn a_waiver_needs_evidence() {
    let mut bench = Bench::soft_in(StateName::Parked);
    let event = Event::Waive { by: actor("ops"), claim: WaiverClaim::Absent, evidence: " ".into() };
    assert_eq!(bench.go(&event), Err(Refusal::Missing("evidence")));
}

#[test]
fn rescue_only_between_hard_and_purge_and_when_all_is_quiet() {
    let mut bench = Bench::soft_in(StateName::Done);
    assert!(matches!(bench.go(&rescue()), Err(Refusal::NoRescue(_))), "it can still be cancelled");
    bench.claim(Stage::Hard);
    let quiet = bench.out().deadline.plus_ms(SKEW_MS);
    assert_eq!(bench.go(&rescue()), Err(Refusal::OrderMayRun(quiet)));
    bench.now = quiet;
    assert_eq!(bench.go(&rescue()), Err(Refusal::OrderMayRun(quiet)));
    bench.now.0 += 1;
    let mut early = bench.clone();
    early.must(&rescue());
    assert_eq!(early.deletion.status, RecordStatus::Rescued);
    assert_eq!(early.go(&rescue()), Err(Refusal::NotLive(RecordStatus::Rescued)));
    let late = early.answer_event(Outcome::refused("too late"));
    assert!(matches!(early.go(&late), Err(Refusal::Stale { .. })), "nothing counts any more");
    while bench.state(stage(Stage::Hard)) == StateName::Running {
        bench.comply();
    }
    bench.wait_ms(DAY_MS);
    bench.clone().must(&rescue());
    bench.claim(Stage::Purge);
    bench.wait_ms(DAY_MS);
    assert!(matches!(bench.go(&rescue()), Err(Refusal::NoRescue(_))), "purge has begun");
}

#[test]
fn holds_are_for_live_records() {
    let mut bench = Bench::soft_in(StateName::Cancelled);
    assert_eq!(bench.go(&place_hold()), Err(Refusal::NotLive(RecordStatus::Restoring)));
    let mut bench = Bench::new();
    bench.must(&place_hold());
    assert_eq!(bench.state(stage(Stage::Announce)), StateName::Scheduled, "only a claim is held");
    bench.must(&cancel());
    let hold = bench.deletion.holds[0].id;
    bench.must(&Event::ReleaseHold { hold, by: actor("legal") });
}
