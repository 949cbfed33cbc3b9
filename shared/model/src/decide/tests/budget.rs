//! Budgets: what was not admitted begins nothing, and a restore needs no admission.
use super::super::{Capacity, Event, Refusal};
use super::kit::{Bench, DAY_MS, RESTORE, cancel, stage};
use crate::belts::budget::{Budgets, Counted, Exceeded, Frozen, Limit, Standing, Written};
use crate::job::{Blocker, JobState, Stage, StateName};

pub(super) fn frozen() -> Standing {
    let limit = Limit { counted: Counted::Everywhere, most: 5, days: 1, uncounted: false };
    Standing::Frozen(Frozen { batch: 3, exceeded: Exceeded { members: 6, used: 0, before: 0, limit } })
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.policy.budgets = Some(Budgets::default());
    bench
}

/// With all stages before it done, and this one due.
fn up_to(which: Stage) -> Bench {
    let mut bench = bench();
    for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
        bench.complete(before);
    }
    if let JobState::Scheduled { due_at: Some(due_at) } = bench.job(stage(which)).state {
        bench.now = bench.now.max(due_at);
    }
    bench
}

#[test]
fn what_nobody_has_looked_at_is_refused_and_nothing_is_written() {
    for which in [Stage::Announce, Stage::Hard, Stage::Purge] {
        let mut bench = up_to(which);
        bench.standing = Standing::Unknown;
        let job = stage(which);
        assert_eq!(bench.ask(&Event::Claim { job }), Err(Refusal::NotAdmitted(job)), "{which}");
        bench.standing = Standing::Admitted;
        assert!(bench.ask(&Event::Claim { job }).is_ok(), "{which}");
    }
    let mut bench = bench();
    bench.standing = Standing::Unknown;
    bench.policy.budgets = None;
    assert!(
        bench.ask(&Event::Claim { job: stage(Stage::Announce) }).is_ok(),
        "a rehearsal is not limited by default"
    );
}

#[test]
fn what_is_not_counted_needs_no_admission() {
    let mut bench = up_to(Stage::Soft);
    bench.standing = Standing::Unknown;
    assert!(bench.ask(&Event::Claim { job: stage(Stage::Soft) }).is_ok());
}

/// As if nobody had been there for longer than a day.
#[test]
fn what_has_piled_up_before_soft_is_admitted_and_what_is_due_now_is_not() {
    let mut bench = up_to(Stage::Soft);
    let job = stage(Stage::Soft);
    let due_at = bench.now;
    bench.now = due_at.plus_ms(DAY_MS - 1);
    bench.standing = Standing::Unknown;
    assert!(bench.ask(&Event::Claim { job }).is_ok(), "a day is not over");
    bench.now = due_at.plus_ms(DAY_MS);
    assert_eq!(bench.ask(&Event::Claim { job }), Err(Refusal::NotAdmitted(job)));
    bench.standing = frozen();
    bench.must(&Event::Claim { job });
    assert!(matches!(bench.job(job).state, JobState::Held { by: Blocker::Budget { .. }, .. }));
    assert_eq!(bench.ask(&Event::Recheck { job }), Err(Refusal::NotYet(job)));
    bench.clone().must(&cancel());
    bench.standing = Standing::Admitted;
    bench.must(&Event::Recheck { job });
    bench.must(&Event::Claim { job });
    assert_eq!(bench.state(job), StateName::Running);
    bench.policy.budgets = Some(Budgets::none());
    bench.comply();
    assert!(bench.state(job).locks());
}

#[test]
fn one_of_a_frozen_batch_is_held_and_goes_on_when_it_is_admitted() {
    let mut bench = up_to(Stage::Hard);
    let job = stage(Stage::Hard);
    bench.standing = frozen();
    bench.must(&Event::Claim { job });
    let JobState::Held { by: by @ Blocker::Budget { .. }, .. } = &bench.job(job).state else {
        panic!("{:?}", bench.job(job).state)
    };
    assert_eq!(
        by.to_string(),
        "batch 3 needs approval before hard: 6 would begin where 5 may in a day in all scopes together"
    );
    assert_eq!(bench.ask(&Event::Recheck { job }), Err(Refusal::NotYet(job)));
    bench.standing = Standing::Admitted;
    bench.must(&Event::Recheck { job });
    bench.must(&Event::Claim { job });
    assert!(bench.state(job).locks());
    bench.standing = frozen();
    bench.comply();
    assert!(bench.state(job).locks(), "what has begun goes on, whatever is frozen later");
    assert_ne!(bench.state(job), StateName::Ready);
}

/// As if it were decided by another coordinator, or by this one after a restart, with other budgets.
#[test]
fn what_is_frozen_stays_so_whatever_is_counted_by_now() {
    let purge: Written = toml::from_str("stages = [\"purge\"]").unwrap();
    for budgets in [Budgets::none(), purge.budgets().unwrap()] {
        let mut bench = up_to(Stage::Hard);
        let job = stage(Stage::Hard);
        bench.policy.budgets = Some(budgets);
        bench.standing = frozen();
        bench.must(&Event::Claim { job });
        assert!(matches!(bench.job(job).state, JobState::Held { by: Blocker::Budget { .. }, .. }));
        assert_eq!(bench.ask(&Event::Recheck { job }), Err(Refusal::NotYet(job)));
        bench.standing = Standing::Admitted;
        bench.must(&Event::Recheck { job });
        bench.must(&Event::Claim { job });
        assert!(bench.state(job).locks());
    }
}

#[test]
fn what_cannot_begin_for_another_reason_is_not_counted() {
    let mut bench = bench();
    bench.standing = Standing::Unknown;
    bench.capacity = Capacity::Full;
    bench.elsewhere = Capacity::Full;
    let job = stage(Stage::Announce);
    assert!(matches!(bench.ask(&Event::Claim { job }), Err(Refusal::NoCredit(_))));
}

#[test]
fn a_restore_needs_no_admission_and_a_held_member_can_be_cancelled() {
    let mut bench = up_to(Stage::Hard);
    bench.standing = frozen();
    bench.must(&Event::Claim { job: stage(Stage::Hard) });
    bench.must(&cancel());
    assert_eq!(bench.state(stage(Stage::Hard)), StateName::Cancelled);
    assert!(bench.state(RESTORE).locks(), "it has begun");
}
