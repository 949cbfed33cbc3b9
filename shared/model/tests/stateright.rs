//! The state machine, checked exhaustively: every order of events on a small deletion, within bounds.
//!
//! One deletion with the smallest plan that has everything: announce with an inspect (read again before each later stage), soft with two reversible
//! steps, hard and purge with a destructive one each, recycle. Around it:
//!
//! - **Coordinators** with any outdated view: every event is tried on every job and with every fence that is
//!   still remembered, in every state. That covers two of them, and more.
//! - **The network** delivers orders and answers in any order, twice, late, or never: what is not delivered
//!   before its deadline is lost.
//! - **Consumers** that act as late as their order's deadline allows, and whose calls land up to the longest
//!   call later. They store no fence: the worst case that the design allows.
//! - **People**: one cancel, in every state; a retry of what is parked.
//! - **Time** in steps of half a deadline. Only differences count, so it is kept relative to now, and there is no
//!   end of time. Fences are renumbered likewise, in their order.
//!
//! Bounds ([`world::Bounds`]) and unique states seen, about half a minute in all:
//!
//! | test | twice delivered | leases | failures | outdated answers kept | calls | states |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | duplicates and losses | 1 | 1 | 0 | 1 | land at once | 49,002 |
//! | failures and parked jobs | 0 | 1 | 2 | 0 | land at once | 31,439 |
//! | calls that land late | 1 | 1 | 1 | 0 | land late | 58,951 |
//!
//! Credit is always free, and no hold, pause, waiver or rescue occurs: those are in the random histories beside
//! the code. That a consumer refuses a lower fence is not part of this either.
mod world;

use std::time::Instant;

use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobState, Stage};
use stateright::{Checker, Model, Property};
use world::{Act, Bounds, World, job_of};

struct Sexton(Bounds);

impl Model for Sexton {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        world.acts(actions);
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        world.after(&act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule was broken on the way", |_, w: &World| w.broken.is_none()),
            Property::always("I3: at most one job holds the lock", |_, w: &World| {
                w.jobs.iter().filter(|row| row.0.state.name().locks()).count() <= 1
            }),
            Property::always("I4: after a cancel the resource ends as it was", |_, w: &World| {
                w.status != RecordStatus::Cancelled || w.truth.on == [true, true]
            }),
            Property::always("I5: what was destroyed was past the end of cancel", |_, w: &World| {
                let hard = job_of(w, Stage::Hard).state.name();
                !w.truth.gone[0]
                    || (w.status != RecordStatus::Restoring
                        && w.status != RecordStatus::Cancelled
                        && hard.word() != "scheduled")
            }),
            Property::always("a record ends recycled only if everything is gone", |_, w: &World| {
                w.status != RecordStatus::Recycled || w.truth.gone == [true, true]
            }),
            Property::sometimes("it ends recycled", |_, w: &World| w.status == RecordStatus::Recycled),
            Property::sometimes("it ends cancelled", |_, w: &World| w.status == RecordStatus::Cancelled),
            Property::sometimes("cancelled while an order is out", |_, w: &World| {
                matches!(job_of(w, Stage::Soft).state, JobState::Cancelling(_))
            }),
            Property::sometimes("a stage acts during the restore", |_, w: &World| w.late),
            Property::sometimes("a stage parks, where anything may fail", |m: &Self, w: &World| {
                m.0.failures == 0 || matches!(job_of(w, Stage::Soft).state, JobState::Parked { .. })
            }),
            Property::sometimes("a restore parks, where anything may fail", |m: &Self, w: &World| {
                m.0.failures == 0
                    || w.jobs.get(5).is_some_and(|row| matches!(row.0.state, JobState::Parked { .. }))
            }),
        ]
    }
}

/// Check everything within the bounds, and that so many unique states were seen at least: fewer would mean
/// that the model lost some of its freedom.
fn check(name: &str, bounds: Bounds, at_least: usize) {
    let began = Instant::now();
    let checker = Sexton(bounds).checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{name}: {} unique states, {} in all, depth {}, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    if let Some(path) = checker.discovery("no rule was broken on the way") {
        let broken = path.last_state().broken;
        panic!("{broken:?} after {:?}", path.into_actions());
    }
    checker.assert_properties();
    assert!(checker.unique_state_count() >= at_least, "the model has become smaller");
}

#[test]
fn duplicates_and_losses() {
    check("duplicates", Bounds { copies: 1, leases: 1, failures: 0, ghosts: 1, slow_calls: false }, 48_000);
}

#[test]
fn failures_and_parked_jobs() {
    check("failures", Bounds { copies: 0, leases: 1, failures: 2, ghosts: 0, slow_calls: false }, 31_000);
}

#[test]
fn calls_that_land_late() {
    check("late calls", Bounds { copies: 1, leases: 1, failures: 1, ghosts: 0, slow_calls: true }, 58_000);
}
