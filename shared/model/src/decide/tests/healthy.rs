//! Healthy time: what nobody could have cancelled in does not count as grace.
use super::super::{Event, Refusal};
use super::kit::{Bench, DAY_MS, RESTORE, cancel, stage};
use crate::belts::healthy::{Healthy, tolerance_ms};
use crate::job::{Blocker, JobState, Stage, StateName};
use crate::time::Timestamp;

/// At the moment at which a stage is due, where nobody was there for `lost_ms` of the grace before it, and somebody is
/// now.
fn due(which: Stage, lost_ms: u64) -> Bench {
    let mut bench = Bench::new();
    for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
        bench.complete(before);
    }
    let mut healthy =
        Healthy { beat: bench.now, tolerance_ms: tolerance_ms(bench.day), ..Healthy::default() };
    healthy.beat(bench.now.plus_ms(lost_ms));
    let due = match bench.job(stage(which)).state {
        JobState::Scheduled { due_at: Some(due_at) } => due_at,
        _ => panic!("{which} is not due"),
    };
    // As often as coordinators say so.
    while healthy.beat < due {
        healthy.beat(due.min(healthy.beat.plus_ms(1000)));
    }
    bench.now = due;
    bench.healthy = healthy;
    bench
}

fn until(bench: &Bench, which: Stage) -> Timestamp {
    match &bench.job(stage(which)).state {
        JobState::Held { by: Blocker::Outage { until, .. }, .. } => *until,
        other => panic!("{which} is {other:?}"),
    }
}

#[test]
fn each_stage_with_a_grace_begins_as_much_later_and_exactly_then() {
    for which in [Stage::Soft, Stage::Hard, Stage::Purge] {
        let job = stage(which);
        let mut bench = due(which, 20_000);
        let at = bench.now;
        assert!(bench.claim(which).effects.is_empty(), "{which}");
        assert_eq!(until(&bench, which), at.plus_ms(20_000), "{which}");
        assert_eq!(bench.job(job).state.again_at(), Some(at.plus_ms(20_000)));
        let JobState::Held { due_at, .. } = bench.job(job).state else { panic!("not held") };
        assert_eq!(due_at, at, "it keeps its place");
        // Looked at again and again, it says nothing new.
        for _ in 0..4 {
            bench.wait_ms(4_999);
            bench.healthy.beat(bench.now);
            assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)), "{}", bench.now);
        }
        bench.now = at.plus_ms(20_000);
        bench.healthy.beat(bench.now);
        bench.must(&Event::Recheck { job });
        assert_eq!(bench.state(job), StateName::Scheduled, "{which}");
        bench.must(&Event::Claim { job });
        assert!(bench.state(job).locks(), "{which}");
    }
}

#[test]
fn what_is_lost_while_it_is_held_counts_too() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, 20_000);
    let at = bench.now;
    bench.claim(Stage::Hard);
    bench.wait_ms(15_000);
    // Nobody has said since that anybody could cancel.
    bench.must(&Event::Recheck { job });
    assert_eq!(until(&bench, Stage::Hard), at.plus_ms(35_000));
    bench.healthy.beat(bench.now);
    assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)));
}

#[test]
fn announce_and_recycle_wait_for_nobody() {
    let mut bench = Bench::new();
    bench.healthy = Healthy::default();
    bench.claim(Stage::Announce);
    assert_eq!(bench.state(stage(Stage::Announce)), StateName::Running);
    let mut bench = due(Stage::Recycle, 10 * DAY_MS);
    bench.claim(Stage::Recycle);
    assert_eq!(bench.state(stage(Stage::Recycle)), StateName::Done);
}

#[test]
fn what_was_never_heard_stops_and_a_cancel_is_not_stopped() {
    let mut bench = due(Stage::Hard, 0);
    bench.healthy = Healthy::default();
    bench.claim(Stage::Hard);
    let waits = until(&bench, Stage::Hard);
    assert!(waits > bench.now, "{waits}");
    bench.must(&cancel());
    assert!(bench.state(RESTORE).locks(), "{:?}", bench.state(RESTORE));
}

#[test]
fn what_has_begun_goes_on() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, 0);
    bench.claim(Stage::Hard);
    assert_eq!(bench.state(job), StateName::Running);
    bench.healthy = Healthy::default();
    while bench.state(job) == StateName::Running {
        bench.comply();
    }
    assert_eq!(bench.state(job), StateName::Done);
}
