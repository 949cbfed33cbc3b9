//! Members of redundancy groups, and holds on resources.
use super::super::{Event, Refusal};
use super::budget::frozen;
use super::kit::{Bench, RESTORE, actor, cancel, pause, stage};
use crate::belts::PauseSelector;
use crate::belts::budget::{Budgets, Standing};
use crate::belts::redundancy::{Going, Groups, Member};
use crate::deletion::Hold;
use crate::id::DeletionId;
use crate::job::{Blocker, JobState, Stage, StateName};

/// The bench's resource is one of three; another one goes as this says.
fn groups(bench: &Bench, other: Option<Going>) -> Groups {
    let resource = bench.deletion.record.resource.id.clone();
    let own = Member { resource, going: Going::of(&bench.deletion) };
    let other = Member { resource: "vm/db02".parse().unwrap(), going: other };
    let third = Member { resource: "vm/db03".parse().unwrap(), going: None };
    Groups::of([own, other, third].map(|member| ("db-main".to_owned(), member)))
}

fn other(reached: Option<Stage>) -> Option<Going> {
    let (deletion, scope) = (DeletionId(1), "tenants/acme".parse().unwrap());
    let (off, stopped, frozen, restoring, kept) = (true, false, false, false, false);
    Some(Going { deletion, reached, soft_due: None, off, stopped, frozen, restoring, kept, scope })
}

#[test]
fn announce_is_not_bound_and_soft_waits_until_the_other_is_over() {
    let mut bench = Bench::new();
    bench.groups = groups(&bench, other(Some(Stage::Purge)));
    bench.complete(Stage::Announce);
    let JobState::Scheduled { due_at: Some(due_at) } = bench.job(stage(Stage::Soft)).state else { panic!() };
    bench.now = bench.now.max(due_at);
    let decision = bench.claim(Stage::Soft);
    assert!(decision.effects.is_empty());
    let by = Blocker::Redundancy { group: "db-main".into(), other: "vm/db02".parse().unwrap() };
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Held { due_at, by });
    let recheck = Event::Recheck { job: stage(Stage::Soft) };
    assert_eq!(bench.go(&recheck).unwrap_err(), Refusal::NotYet(stage(Stage::Soft)));
    bench.groups = groups(&bench, None);
    bench.must(&recheck);
    assert!(!bench.claim(Stage::Soft).effects.is_empty(), "the other is over");
}

/// Whom it holds counts as retired: nothing else may hold it then.
#[test]
fn it_is_asked_when_nothing_else_holds() {
    let mut bench = Bench::new();
    bench.policy.budgets = Some(Budgets::default());
    bench.complete(Stage::Announce);
    bench.complete(Stage::Soft);
    bench.groups = groups(&bench, other(Some(Stage::Purge)));
    let job = stage(Stage::Hard);
    let held_by = |bench: &Bench| match &bench.job(job).state {
        JobState::Held { by, .. } => by.clone(),
        other => panic!("{other:?}"),
    };
    bench.standing = Standing::Unknown;
    bench.claim(Stage::Hard);
    assert!(matches!(held_by(&bench), Blocker::Redundancy { .. }), "it is held, and not counted");
    bench.standing = frozen();
    bench.must(&Event::Recheck { job });
    assert!(matches!(held_by(&bench), Blocker::Budget { .. }), "a batch first");
    bench.in_force.pauses = vec![pause(PauseSelector::default())];
    bench.must(&Event::Recheck { job });
    assert!(matches!(held_by(&bench), Blocker::Pause { .. }));
    bench.in_force.pauses.clear();
    bench.standing = Standing::Admitted;
    bench.must(&Event::Recheck { job });
    assert!(matches!(held_by(&bench), Blocker::Redundancy { .. }), "nothing else is left");
}

#[test]
fn what_has_begun_is_not_stopped_midway_and_never_a_restore() {
    let mut bench = Bench::soft_in(StateName::Running);
    bench.groups = groups(&bench, other(Some(Stage::Hard)));
    bench.comply();
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Running, "its next order");
    bench.must(&cancel());
    bench.comply();
    bench.restore();
    assert_eq!(bench.state(RESTORE), StateName::Done);
}

#[test]
fn a_hold_on_the_resource_stops_every_stage_between_two_steps_too_and_no_restore() {
    let hold =
        |id| Hold { id, origin: actor("legal"), reason: "a lawsuit".into(), since: Default::default() };
    for which in Stage::ALL {
        let mut bench = Bench::new();
        for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
            bench.complete(before);
        }
        if let JobState::Scheduled { due_at: Some(due_at) } = bench.job(stage(which)).state {
            bench.now = bench.now.max(due_at);
        }
        bench.deletion.resource_holds = vec![hold(1), hold(2)];
        assert!(bench.claim(which).effects.is_empty(), "{which}");
        let held = bench.job(stage(which)).state.clone();
        let JobState::Held { by: Blocker::Hold { what }, .. } = held else { panic!("{which} is {held:?}") };
        assert_eq!(what, "legal: a lawsuit (on the resource)");
    }
    let mut bench = Bench::soft_in(StateName::Running);
    bench.deletion.resource_holds = vec![hold(1)];
    bench.comply();
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Ready, "no further order");
    bench.must(&cancel());
    bench.restore();
    assert_eq!(bench.state(RESTORE), StateName::Done);
}
