//! What people decide: hold, park, retry, waive, rescue.
use super::super::{Capacity, Change, Event, Refusal};
use super::kit::{Bench, DAY_MS, RESTORE, actor, cancel, place_hold, rescue, stage};
use crate::beacon::SKEW_MS;
use crate::belts::resource_hold::RELEASE;
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::job::{JobState, Stage, StateName};
use crate::step::{Mode, Outcome};

fn waive(claim: WaiverClaim) -> Event {
    Event::Waive { by: actor("ops"), claim, mark: String::new(), evidence: "seen".into() }
}

#[test]
fn retry_and_waive_in_every_state() {
    for state in StateName::ALL {
        for event in [Event::Retry { by: actor("ops") }, waive(WaiverClaim::Absent)] {
            let mut bench = Bench::soft_in(state);
            let answer = bench.go(&bench.looked(event.clone()));
            if state == StateName::Parked {
                assert_eq!(bench.state(stage(Stage::Soft)), StateName::Running, "{event:?}");
            } else {
                assert_eq!(answer, Err(Refusal::NothingParked), "{state}");
            }
        }
    }
}

#[test]
fn whoever_requested_it_lets_nothing_pass() {
    let own =
        |claim| Event::Waive { by: actor("platform"), claim, mark: String::new(), evidence: "seen".into() };
    for claim in [WaiverClaim::Absent, WaiverClaim::MayRemain, WaiverClaim::Belongs] {
        let mut bench = Bench::soft_in(StateName::Parked);
        let refused = Refusal::Requested { by: actor("platform"), what: "let what stopped it pass" };
        assert_eq!(bench.go(&own(claim)), Err(refused), "{claim:?}");
        assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked, "{claim:?}");
    }
}

/// The lawyers hold it, and whoever requested it does as well.
#[test]
fn whoever_requested_it_releases_no_hold_of_anothers() {
    let mut bench = Bench::soft_in(StateName::Scheduled);
    bench.must(&place_hold());
    bench.must(&Event::PlaceHold { by: actor("platform"), reason: "not yet".into() });
    let ids: Vec<_> = bench.deletion.holds.iter().map(|hold| hold.id).collect();
    let release = |hold: i64, by: &str| Event::ReleaseHold { hold, by: actor(by) };
    let refused = Refusal::Requested { by: actor("platform"), what: RELEASE };
    assert_eq!(bench.go(&release(ids[0], "platform")), Err(refused));
    assert_eq!(bench.deletion.holds.len(), 2, "it holds on");
    bench.must(&release(ids[1], "platform"));
    bench.must(&release(ids[0], "ops"));
    assert_eq!(bench.deletion.holds, []);
}

/// What nobody can delete before a date is named with it, whatever the person writes down.
#[test]
fn what_may_remain_is_stated_with_the_date_that_was_shown() {
    let stated = |claim: WaiverClaim, evidence: &str| {
        let mut bench = Bench::at(Stage::Purge, 0, Mode::Perform);
        bench.answer(Outcome::refused("locked by the store: present until 2099-06-30"));
        bench.must(&Event::Waive { by: actor("ops"), claim, mark: bench.mark(), evidence: evidence.into() });
        bench.deletion.waivers.last().unwrap().evidence.clone()
    };
    let remains = WaiverClaim::MayRemain;
    assert_eq!(stated(remains, "seen"), "seen; shown was: present until 2099-06-30");
    assert_eq!(stated(remains, "present until 2099-07-01"), "present until 2099-07-01");
    assert_eq!(stated(WaiverClaim::Absent, "the store is gone"), "the store is gone");
}

fn park() -> Event {
    Event::Park { by: actor("ops"), reason: "the cluster is gone".into() }
}

#[test]
fn park_in_every_state() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let answer = bench.go(&park());
        match state {
            StateName::Ready | StateName::Waiting => {
                assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked)
            }
            // The restore that follows a cancel waits for its time, and can be parked as well.
            StateName::Cancelled => assert_eq!(bench.state(RESTORE), StateName::Parked),
            _ => assert_eq!(answer, Err(Refusal::NothingToPark), "{state}"),
        }
    }
    let unreasoned = Event::Park { by: actor("ops"), reason: String::new() };
    assert_eq!(Bench::soft_in(StateName::Ready).go(&unreasoned), Err(Refusal::Missing("reason")));
}

/// Every stage past the end of cancel, and the restore, with its instance gone for good: a person brings each to an
/// end, whatever locked state it stands in. An order that is out ends by itself.
#[test]
fn from_every_locked_state_there_is_a_way_to_end() {
    let mut cases = Vec::new();
    for which in [Stage::Hard, Stage::Purge] {
        let running = Bench::at(which, 0, Mode::Perform);
        for outcome in [Outcome::failed("busy"), Outcome::spared("an outage"), Outcome::refused("not mine")] {
            let mut bench = running.clone();
            bench.answer(outcome);
            cases.push(bench);
        }
        cases.push(running);
    }
    for before in [StateName::Running, StateName::Waiting, StateName::Ready, StateName::Parked] {
        let mut bench = Bench::soft_in(before);
        bench.must(&cancel());
        cases.push(bench);
    }
    for mut bench in cases {
        let began = format!("{:?}", bench.deletion.jobs);
        bench.capacity = Capacity::Gone;
        bench.elsewhere = Capacity::Gone;
        for _ in 0..100 {
            if !bench.deletion.status.live() {
                break;
            }
            end_by_hand(&mut bench);
        }
        assert!(!bench.deletion.status.live(), "no way out of {began}: {:?}", bench.deletion.jobs);
    }
}

/// The next thing a person, or time, can do about a deletion that no consumer works for.
fn end_by_hand(bench: &mut Bench) {
    let open = bench.deletion.jobs.iter().find(|j| !j.state.name().over()).cloned().unwrap();
    match open.state {
        JobState::Scheduled { due_at } => {
            // Nothing is claimed for what is gone: the steps before it were waived, so it needs nobody.
            bench.now = bench.now.max(due_at.unwrap());
            if bench.go(&Event::Claim { job: open.id }).is_err() {
                bench.capacity = Capacity::Free;
                bench.elsewhere = Capacity::Free;
                bench.must(&Event::Claim { job: open.id });
                bench.capacity = Capacity::Gone;
                bench.elsewhere = Capacity::Gone;
            }
        }
        JobState::Running(out) | JobState::Cancelling(out) => {
            bench.now = out.lease_until;
            bench.must(&Event::LeaseOver { job: open.id, fence: out.fence });
        }
        JobState::Ready { .. } | JobState::Waiting { .. } => drop(bench.must(&park())),
        JobState::Parked { .. } => drop(bench.must(&bench.looked(waive(WaiverClaim::Absent)))),
        JobState::Held { .. } | JobState::Done | JobState::Cancelled | JobState::Rescued => {
            panic!("{:?}", open.state)
        }
    }
}

/// In line at an instance that is gone for good: looked at again, it parks, a restore as well. One that is only
/// down, or full, waits.
#[test]
fn what_is_in_line_at_an_instance_that_is_gone_parks() {
    let job = stage(Stage::Soft);
    let mut back = Bench::at(Stage::Soft, 0, Mode::Perform);
    back.must(&cancel());
    back.comply();
    back.wait_ms(60_000);
    back.capacity = Capacity::Down;
    back.must(&Event::Proceed { job: RESTORE });
    for (id, bench) in [(job, Bench::soft_in(StateName::Ready)), (RESTORE, back)] {
        for capacity in [Capacity::Free, Capacity::Full, Capacity::Down, Capacity::Gone] {
            let mut bench = bench.clone();
            bench.capacity = capacity;
            let answer = bench.go(&Event::Recheck { job: id });
            if capacity == Capacity::Gone {
                let JobState::Parked { reason } = &bench.job(id).state else { panic!("{answer:?}") };
                assert!(reason.contains("hypervisor.main"), "{reason}");
            } else {
                assert_eq!(answer, Err(Refusal::NotYet(id)), "{capacity:?}");
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
        let decision = bench.must(&bench.looked(waive(claim)));
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
    bench.must(&bench.looked(waive(WaiverClaim::MayRemain)));
    to_the_end(&mut bench);
    let remains = "hypervisor.undefine, hypervisor.release, inventory.remove, hypervisor.wipe";
    let JobState::Parked { reason } = &bench.job(stage(Stage::Recycle)).state else {
        panic!("{:?}", bench.job(stage(Stage::Recycle)))
    };
    assert!(reason.contains(remains), "{reason}");
    assert_eq!(bench.deletion.status, RecordStatus::Live);
    for event in [Event::Retry { by: actor("ops") }, waive(WaiverClaim::MayRemain)] {
        let event = bench.looked(event);
        assert_eq!(bench.go(&event), Err(Refusal::NameInUse(remains.into())), "{event:?}");
    }
    let decision = bench.must(&bench.looked(waive(WaiverClaim::Absent)));
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
    bench.must(&bench.looked(waive(WaiverClaim::Absent)));
    to_the_end(&mut bench);
    assert_eq!(bench.deletion.status, RecordStatus::Recycled);
}

#[test]
fn a_waiver_needs_evidence() {
    let mut bench = Bench::soft_in(StateName::Parked);
    let event = Event::Waive {
        by: actor("ops"),
        claim: WaiverClaim::Absent,
        mark: String::new(),
        evidence: " ".into(),
    };
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

/// The line a job stands in is that of the first step it will really take: not of one that is let pass because the
/// instance is gone, nor of one that follows from that.
#[test]
fn a_step_that_is_let_pass_needs_nobody() {
    let mut bench = Bench::at(Stage::Hard, 0, Mode::Perform);
    bench.answer(Outcome::refused("not mine"));
    bench.must(&bench.looked(waive(WaiverClaim::MayRemain)));
    let purge = bench.deletion.stage_job(Stage::Purge).unwrap();
    let wanted = bench.deletion.wants(purge).unwrap();
    assert_eq!(wanted.to_string(), "dns.main", "the disks of what may remain are not wiped");
    bench.capacity = Capacity::Gone;
    bench.claim(Stage::Purge);
    assert_eq!((bench.out().stage, bench.out().step), (Stage::Purge, 1));
}
