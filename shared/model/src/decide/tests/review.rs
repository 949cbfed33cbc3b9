//! I15: a ledger that has gone back in time dispatches nothing before a person has accepted it.
use super::super::{Decision, Effect, Event, Refusal};
use super::kit::{Bench, RESTORE, actor, cancel, place_hold, rescue, stage};
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::id::{DeletionId, Fence, JobId};
use crate::job::{Stage, StateName};
use crate::step::{Mode, Outcome};

/// The ledger is found to have gone back, just now.
fn went_back(bench: &mut Bench) {
    bench.epoch += 1;
    bench.review = Some(bench.epoch);
}

/// Everything that can be said of a deletion; outcomes and leases are about the order that is out, or was last.
fn all(bench: &Bench) -> Vec<Event> {
    let by = || actor("ops");
    let mut events = vec![cancel(), place_hold(), rescue(), Event::Retry { by: by() }];
    events.push(Event::Park { by: by(), reason: "to look".into() });
    for claim in [WaiverClaim::Absent, WaiverClaim::MayRemain] {
        events.push(Event::Waive { by: by(), claim, mark: bench.mark(), evidence: "seen".into() });
    }
    for slot in 0..6 {
        let job = JobId::of(DeletionId(1), slot);
        events.extend([Event::Claim { job }, Event::Proceed { job }, Event::Recheck { job }]);
    }
    if let Some(order) = &bench.last {
        let (job, fence, from) = (order.job, order.fence, order.instance.clone());
        events.push(Event::LeaseOver { job, fence });
        events.push(Event::Progress { job, fence, from, performer: 1 });
        events.push(bench.answer_event(Outcome::failed("busy")));
    }
    events
}

fn dispatches(decision: &Decision) -> bool {
    decision.effects.iter().any(|e| matches!(e, Effect::Order(_) | Effect::Extend { .. }))
}

#[test]
fn in_no_state_does_any_event_dispatch() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let long = bench.now.plus_ms(1_000_000_000);
        went_back(&mut bench);
        for now in [bench.now, long] {
            bench.now = now;
            for event in all(&bench) {
                let against =
                    matches!(event, Event::Cancel { .. } | Event::PlaceHold { .. } | Event::Park { .. });
                match bench.ask(&event) {
                    Ok(decision) => {
                        assert!(!dispatches(&decision), "{state}: {event:?}");
                        assert!(against, "{state}: {event:?} was decided");
                    }
                    Err(Refusal::UnderReview(2)) => {}
                    Err(other) => assert!(against, "{other}"),
                }
            }
        }
    }
}

#[test]
fn a_cancel_is_taken_and_its_restore_waits_for_the_review() {
    let mut bench = Bench::at(Stage::Soft, 2, Mode::Capture);
    bench.answer(Outcome::refused("not mine"));
    bench.wait_ms(1_000_000);
    went_back(&mut bench);
    let decision = bench.must(&cancel());
    assert!(!dispatches(&decision));
    assert_eq!(bench.deletion.status, RecordStatus::Restoring);
    assert_eq!(bench.state(RESTORE), StateName::Ready);
    assert_eq!(bench.go(&Event::Claim { job: RESTORE }), Err(Refusal::UnderReview(2)));
    bench.review = None;
    bench.must(&Event::Claim { job: RESTORE });
    assert_eq!(bench.out().fence.epoch, 2);
    bench.restore();
    assert_eq!(bench.deletion.status, RecordStatus::Cancelled);
}

#[test]
fn answers_from_the_epoch_before_are_stale_and_their_orders_are_given_again() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    let (old, answer) = (bench.out(), bench.answer_event(Outcome::failed("busy")));
    bench.epoch = 2;
    assert!(matches!(bench.go(&answer), Err(Refusal::Stale { .. })));
    let progress =
        Event::Progress { job: old.job, from: old.instance.clone(), fence: old.fence, performer: 1 };
    assert!(matches!(bench.go(&progress), Err(Refusal::Stale { .. })));
    bench.wait_ms(1_000_000);
    bench.must(&Event::LeaseOver { job: old.job, fence: old.fence });
    assert!(bench.out().fence > old.fence);
    assert_eq!((bench.out().fence.epoch, bench.state(stage(Stage::Soft))), (2, StateName::Running));
}

#[test]
fn an_answer_to_an_order_that_was_never_given_gives_the_ledger_away() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    let order = bench.out();
    for fence in [Fence { epoch: 1, number: order.fence.number + 2 }, Fence { epoch: 2, number: 1 }] {
        let outcome = Outcome::failed("busy");
        let event = Event::Outcome { job: order.job, from: order.instance.clone(), fence, outcome };
        assert_eq!(bench.go(&event), Err(Refusal::NeverGiven { job: order.job, fence }));
    }
}
