//! Overrides: one stage of one deletion passes one belt, if it begins in time.
use super::super::Event;
use super::kit::{Bench, actor, ceiling, place_hold, stage};
use crate::belts::budget::{Budgets, Standing};
use crate::belts::ceiling::Ceiling;
use crate::belts::one_shot::{CannotOverride, NewOneShot, ONE_SHOTS_MAX, OneShot, Passable};
use crate::id::DeletionId;
use crate::job::{JobState, Stage, StateName};
use crate::time::Timestamp;

/// With soft done and hard due, where only soft may begin.
fn bench() -> Bench {
    let mut bench = Bench::new();
    for before in [Stage::Announce, Stage::Soft] {
        bench.complete(before);
    }
    if let JobState::Scheduled { due_at: Some(due_at) } = bench.job(stage(Stage::Hard)).state {
        bench.now = bench.now.max(due_at);
    }
    bench.in_force.ceilings = ceiling(None, Ceiling::Soft);
    bench
}

fn asked(which: Stage, belt: Passable, by: &str, break_glass: bool) -> NewOneShot {
    let (by, reason) = (actor(by), "the rack is on fire".to_owned());
    NewOneShot { deletion: DeletionId(1), stage: which, belt, by, reason, break_glass }
}

fn given(bench: &Bench, which: Stage, belt: Passable) -> OneShot {
    asked(which, belt, "boss", false).from(7, bench.now, &bench.deletion, bench.day)
}

fn hard(bench: &mut Bench) -> StateName {
    bench.must(&Event::Claim { job: stage(Stage::Hard) });
    bench.state(stage(Stage::Hard))
}

#[test]
fn it_passes_its_belt_and_no_other_its_stage_and_no_other_its_deletion_and_no_other() {
    let mut with = bench();
    with.in_force.one_shots = vec![given(&with, Stage::Hard, Passable::Ceiling)];
    let claimed = with.must(&Event::Claim { job: stage(Stage::Hard) });
    assert!(with.state(stage(Stage::Hard)).locks());
    assert!(
        claimed.audit.detail.contains("boss overrode the ceiling (7): the rack is on fire"),
        "{claimed:?}"
    );
    while with.state(stage(Stage::Hard)) == StateName::Running {
        with.comply();
    }
    assert_eq!(with.state(stage(Stage::Hard)), StateName::Done);
    with.claim(Stage::Purge);
    assert_eq!(with.state(stage(Stage::Purge)), StateName::Held, "of the next stage nothing was said");

    for other in [
        OneShot { deletion: DeletionId(2), ..given(&bench(), Stage::Hard, Passable::Ceiling) },
        OneShot { stage: Stage::Purge, ..given(&bench(), Stage::Hard, Passable::Ceiling) },
        given(&bench(), Stage::Hard, Passable::Window),
        given(&bench(), Stage::Hard, Passable::Budget),
    ] {
        let mut bench = bench();
        bench.in_force.one_shots = vec![other.clone()];
        assert_eq!(hard(&mut bench), StateName::Held, "{other:?}");
    }
}

#[test]
fn it_is_too_late_to_begin_but_not_to_go_on() {
    let mut late = bench();
    late.in_force.one_shots = vec![given(&late, Stage::Hard, Passable::Ceiling)];
    late.now = late.in_force.one_shots[0].until;
    assert_eq!(hard(&mut late), StateName::Held);
    let mut begun = bench();
    begun.in_force.one_shots = vec![given(&begun, Stage::Hard, Passable::Ceiling)];
    assert!(hard(&mut begun).locks());
    begun.now = begun.now.max(begun.in_force.one_shots[0].until);
    begun.comply();
    assert!(matches!(begun.state(stage(Stage::Hard)), StateName::Running | StateName::Done));
}

#[test]
fn a_hold_is_passed_by_nobody() {
    let mut bench = bench();
    bench.in_force.one_shots = Passable::ALL.map(|belt| given(&bench, Stage::Hard, belt)).into();
    bench.must(&place_hold());
    assert_eq!(hard(&mut bench), StateName::Held);
}

#[test]
fn a_budget_is_passed_without_an_admission() {
    let mut bench = bench();
    bench.in_force.ceilings = ceiling(None, Ceiling::Purge);
    bench.policy.budgets = Some(Budgets::default());
    bench.standing = Standing::Unknown;
    let claim = Event::Claim { job: stage(Stage::Hard) };
    assert!(bench.ask(&claim).is_err());
    bench.in_force.one_shots = vec![given(&bench, Stage::Hard, Passable::Budget)];
    assert!(hard(&mut bench).locks());
}

#[test]
fn somebody_else_says_it_or_the_glass_is_broken() {
    let bench = bench();
    let check = |new: &NewOneShot, there: &[OneShot]| new.check(&bench.deletion, there, bench.now);
    let requester = bench.deletion.record.requested_by.to_string();
    let ask = |which, by, glass| asked(which, Passable::Ceiling, by, glass);
    assert_eq!(check(&ask(Stage::Hard, "boss", false), &[]), Ok(()));
    assert!(matches!(
        check(&ask(Stage::Hard, &requester, false), &[]),
        Err(CannotOverride::Requested { belt: Passable::Ceiling, .. })
    ));
    assert_eq!(check(&ask(Stage::Hard, &requester, true), &[]), Ok(()));
    assert_eq!(check(&ask(Stage::Hard, "boss", true), &[]), Err(CannotOverride::NotNeeded(DeletionId(1))));
    assert!(matches!(check(&ask(Stage::Soft, "boss", false), &[]), Err(CannotOverride::Begun { .. })));
    let many = vec![given(&bench, Stage::Hard, Passable::Ceiling); ONE_SHOTS_MAX];
    assert_eq!(check(&ask(Stage::Hard, "boss", false), &many), Err(CannotOverride::TooMany));
    let over: Vec<_> = many.into_iter().map(|one| OneShot { until: Timestamp(0), ..one }).collect();
    assert_eq!(check(&ask(Stage::Hard, "boss", false), &over), Ok(()));
}

#[test]
fn what_is_over_is_let_pass_nothing() {
    let mut bench = bench();
    bench.must(&super::kit::cancel());
    let new = asked(Stage::Hard, Passable::Ceiling, "boss", false);
    assert_eq!(new.check(&bench.deletion, &[], bench.now), Err(CannotOverride::NotLive(DeletionId(1))));
}
