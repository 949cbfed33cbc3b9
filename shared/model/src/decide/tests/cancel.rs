//! Cancel, at every state, and the restore that follows.
use super::super::{Capacity, Change, Event, Refusal};
use super::kit::{Bench, RESTORE, actor, cancel, findings, place_hold, stage};
use crate::beacon::SKEW_MS;
use crate::belts::PauseSelector;
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::id::Instance;
use crate::job::{JobState, Stage, StateName};
use crate::step::{Mode, Outcome, Presence};
use crate::undo::Salvage;

/// Cancelling in every state that the soft stage can be in; the restore brings back what was touched, which
/// the bench checks.
#[test]
fn in_every_state() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let answer = bench.go(&cancel());
        match state {
            StateName::Cancelling | StateName::Cancelled => {
                assert_eq!(answer, Err(Refusal::NotLive(RecordStatus::Restoring)), "twice");
                continue;
            }
            StateName::Rescued => {
                assert_eq!(answer, Err(Refusal::NotLive(RecordStatus::Rescued)));
                continue;
            }
            StateName::Running => {
                assert_eq!(bench.state(stage(Stage::Soft)), StateName::Cancelling);
                assert!(bench.deletion.job(RESTORE).is_none(), "the restore waits for the order that is out");
                bench.comply();
            }
            _ => {}
        }
        bench.restore();
        assert_eq!(bench.deletion.status, RecordStatus::Cancelled, "{state}");
        assert!(bench.go(&cancel()).is_err(), "{state}: cancelled once more");
    }
}

#[test]
fn not_once_hard_is_claimed() {
    let mut bench = Bench::soft_in(StateName::Done);
    bench.clone().must(&cancel());
    bench.claim(Stage::Hard);
    let refusal = bench.go(&cancel()).unwrap_err();
    let until = bench.deletion.date_of(Stage::Purge, bench.day);
    let still = Salvage::Data { until: Some(until) };
    assert_eq!(refusal, Refusal::TooLate { reached: Stage::Hard, still: still.clone() });
    let said = refusal.to_string();
    assert!(said.starts_with("too late to cancel: hard has begun"), "{said}");
    let told = format!("there until purge begins, {until} at the earliest: hold it or pause the purge, save");
    assert!(said.contains(&told) && said.ends_with("then `rescue`"), "{said}");
    while bench.state(stage(Stage::Hard)) == StateName::Running {
        bench.comply();
    }
    let due = bench.job(stage(Stage::Purge)).state.clone();
    assert_eq!(due, JobState::Scheduled { due_at: Some(until) }, "it was told as it is");
    let refusal = Refusal::TooLate { reached: Stage::Hard, still };
    assert_eq!(bench.go(&cancel()), Err(refusal), "between hard and purge");
}

#[test]
fn once_purge_is_claimed_it_is_said_what_is_not_destroyed_yet() {
    let said = |bench: &mut Bench| {
        let refusal = bench.go(&cancel()).unwrap_err();
        assert!(matches!(refusal, Refusal::TooLate { reached: Stage::Purge, .. }), "{refusal:?}");
        let said = refusal.to_string();
        let began = "too late to cancel: purge has begun, which cannot be undone. ";
        said.strip_prefix(began).unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let mut bench = Bench::at(Stage::Purge, 0, Mode::Perform);
    let save = "Hold it, and save by hand what these would destroy";
    let begun = format!("Not done yet: hypervisor.wipe (may have begun), dns.forget. {save}");
    assert_eq!(said(&mut bench), begun);

    let mut held = bench.clone();
    held.must(&place_hold());
    held.comply();
    assert_eq!(said(&mut held), format!("Not done yet: dns.forget. {save}"), "no order for it was given");

    let mut waived = bench.clone();
    waived.answer(Outcome::refused("locked"));
    assert_eq!(said(&mut waived), begun, "who refuses may have begun all the same");
    let (by, claim) = (actor("ops"), WaiverClaim::MayRemain);
    waived.must(&Event::Waive { by, claim, mark: waived.mark(), evidence: "locked".into() });
    waived.comply();
    assert_eq!(waived.state(stage(Stage::Purge)), StateName::Done);
    assert_eq!(said(&mut waived), "Something may remain of hypervisor.wipe");

    bench.comply();
    bench.comply();
    assert_eq!(bench.state(stage(Stage::Purge)), StateName::Done);
    assert_eq!(
        said(&mut bench),
        "There is nothing more that it would destroy; what the plan does not delete, such as a backup, may be left"
    );
}

#[test]
fn before_anything_was_done_there_is_nothing_to_restore() {
    let mut bench = Bench::new();
    bench.must(&cancel());
    assert_eq!((bench.state(RESTORE), bench.deletion.status), (StateName::Done, RecordStatus::Cancelled));
}

#[test]
fn the_order_is_reversed_and_undo_and_verify_wait() {
    let mut bench = Bench::at(Stage::Soft, 2, Mode::Perform);
    let deadline = bench.out().deadline;
    bench.must(&cancel());
    bench.answer(Outcome::failed("who knows"));
    let JobState::Waiting { until, ref reason } = bench.job(RESTORE).state else {
        panic!("it does not wait")
    };
    assert_eq!(reason, "waits until no order of the stages can be carried out any more");
    let quiet = deadline.plus_ms(SKEW_MS);
    assert_eq!(until, quiet, "an undo before the deadline could be undone by the order");
    assert_eq!(bench.go(&Event::Proceed { job: RESTORE }), Err(Refusal::NotYet(RESTORE)));
    bench.now = quiet;
    bench.must(&Event::Proceed { job: RESTORE });
    assert_eq!(bench.out().mode, Mode::Undo);
    bench.comply();
    let JobState::Waiting { until, .. } = bench.job(RESTORE).state else { panic!("it does not wait") };
    assert_eq!(until, quiet.plus_ms(7_000), "the longest call of the step");
    bench.restore();
    let undone: Vec<_> =
        bench.orders.iter().filter(|o| o.mode == Mode::Undo).map(|o| (o.stage, o.step)).collect();
    assert_eq!(undone, [(Stage::Soft, 2), (Stage::Soft, 0), (Stage::Announce, 1)]);
}

#[test]
fn a_step_of_which_only_the_manifest_was_taken_is_not_undone() {
    let mut bench = Bench::at(Stage::Soft, 2, Mode::Capture);
    bench.must(&cancel());
    bench.comply();
    bench.restore();
    assert!(!bench.orders.iter().any(|o| o.mode == Mode::Undo && o.step == 2));
}

#[test]
fn a_step_waived_before_it_was_touched_is_not_undone() {
    for (mode, undone) in [(Mode::Capture, false), (Mode::Perform, true)] {
        let mut bench = Bench::at(Stage::Soft, 0, mode);
        bench.answer(Outcome::refused("not mine"));
        let (by, claim) = (actor("ops"), WaiverClaim::Absent);
        bench.must(&Event::Waive { by, claim, mark: bench.mark(), evidence: "seen".into() });
        bench.must(&cancel());
        bench.comply();
        bench.restore();
        let found = bench.orders.iter().any(|o| (o.mode, o.stage, o.step) == (Mode::Undo, Stage::Soft, 0));
        assert_eq!(found, undone, "waived at {mode:?}");
    }
}

#[test]
fn what_a_cancelled_step_created_joins_the_targets() {
    let mut bench = Bench::at(Stage::Announce, 1, Mode::Perform);
    bench.must(&cancel());
    let finding = Some(serde_json::json!({ "event": 7 }));
    let decision =
        bench.answer(Outcome::Done { presence: Presence::Present, evidence: String::new(), finding });
    assert!(matches!(findings(&decision)[..], [Change::Targets { join: true, .. }]));
}

#[test]
fn an_undo_that_does_not_hold_is_done_again_and_parks_in_the_end() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.must(&cancel());
    bench.comply();
    let mut undone = 0;
    while bench.state(RESTORE) != StateName::Parked {
        if let JobState::Waiting { until, .. } = bench.job(RESTORE).state {
            bench.now = until;
            bench.must(&Event::Proceed { job: RESTORE });
        }
        if bench.out().mode == Mode::Undo {
            undone += 1;
            bench.comply();
        } else {
            bench.answer(Outcome::refused("it is off"));
        }
    }
    assert_eq!(undone, 3, "the step has three attempts");
    bench.must(&Event::Retry { by: actor("ops") });
    assert_eq!(bench.out().mode, Mode::Undo, "looking once more would find the same");
    bench.restore();
}

#[test]
fn a_restore_is_stopped_by_no_belt_but_waits_for_credit() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.must(&super::kit::place_hold());
    bench.in_force.pauses = vec![super::kit::pause(PauseSelector::default())];
    bench.deletion.protected = true;
    bench.must(&cancel());
    bench.comply();
    bench.capacity = Capacity::Down;
    bench.wait_ms(60_000);
    bench.must(&Event::Proceed { job: RESTORE });
    assert!(matches!(bench.job(RESTORE).state, JobState::Ready { blocked: None, .. }));
    bench.capacity = Capacity::Free;
    bench.must(&Event::Proceed { job: RESTORE });
    bench.restore();
}

#[test]
fn a_cancelled_order_gets_no_extension_and_its_lease_ends_it() {
    let mut bench = Bench::at(Stage::Soft, 1, Mode::Perform);
    let order = bench.out();
    bench.must(&cancel());
    let from: Instance = order.instance.clone();
    let event = Event::Progress { job: order.job, from, fence: order.fence, performer: 1 };
    assert!(matches!(bench.go(&event), Err(Refusal::Stale { .. })));
    let over = Event::LeaseOver { job: order.job, fence: order.fence };
    assert_eq!(bench.go(&over), Err(Refusal::NotYet(order.job)));
    bench.wait_ms(30_000 + 5_000 + crate::beacon::SKEW_MS);
    bench.must(&over);
    assert_eq!(bench.state(order.job), StateName::Cancelled);
    bench.restore();
}

#[test]
fn a_cancel_says_why() {
    for reason in ["", " ", &"x".repeat(1001)] {
        let event = Event::Cancel { by: actor("ops"), reason: reason.into() };
        assert_eq!(Bench::new().go(&event), Err(Refusal::Missing("reason")));
    }
}
