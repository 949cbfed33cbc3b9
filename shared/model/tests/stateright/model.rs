//! The checker's model of one deletion: its acts, and what always has to hold.
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage};
use stateright::{Checker, Model, Property};

use crate::reach::Reach;
use crate::world::{Act, Bounds, World};

/// The property that says which rule was broken.
pub const RULES: &str = "no rule was broken on the way";
/// The property that says that nothing gets stuck.
pub const END: &str = "an end stays within reach";

/// One deletion, within bounds.
pub struct Sexton {
    /// The bounds.
    pub bounds: Bounds,
    also: fn() -> Vec<Property<Self>>,
    reach: Reach,
}

impl Sexton {
    /// `also`: what has to be seen besides what is seen in all worlds.
    pub fn new(bounds: Bounds, also: fn() -> Vec<Property<Self>>) -> Self {
        Self { bounds, also, reach: Reach::default() }
    }
}

impl Model for Sexton {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        world.acts(actions);
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        world.after(&act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all: Vec<Property<Self>> = vec![
            Property::always(RULES, |_, w: &World| w.broken.is_none()),
            Property::always("I3: at most one job holds the lock", |_, w: &World| {
                w.table.jobs.iter().filter(|row| row.0.state.name().locks()).count() <= 1
            }),
            Property::always("I4: after a cancel the resource ends as it was", |_, w: &World| {
                w.table.status != RecordStatus::Cancelled || w.epoch > 1 || w.as_it_was()
            }),
            Property::always("I4: a restore ends when everything was taken back", |_, w: &World| {
                w.table.status != RecordStatus::Cancelled || w.epoch > 1 || w.account.all_taken_back()
            }),
            Property::always("I5: what was destroyed was past the end of cancel", |_, w: &World| {
                let hard = w.job_of(Stage::Hard).state.name();
                !w.truth.gone[0]
                    || w.epoch > 1
                    || (w.table.status != RecordStatus::Restoring
                        && w.table.status != RecordStatus::Cancelled
                        && hard.word() != "scheduled")
            }),
            Property::always("a record ends recycled only if everything is gone", |_, w: &World| {
                w.table.status != RecordStatus::Recycled || w.all_gone()
            }),
            Property::always("nothing stops a restore", |_, w: &World| {
                w.table.blockers().all(|(job, _)| job.kind != JobKind::Restore)
            }),
            Property::always("nothing waits for a hold that does not stand", |_, w: &World| {
                let held = |by: &Blocker| matches!(by, Blocker::Hold { .. });
                w.account.holds > 0 || !w.table.blockers().any(|(_, by)| held(by))
            }),
            Property::always(END, |m: &Self, w: &World| {
                w.broken.is_some() || m.reach.reaches(w.in_good_weather(), World::is_over, World::onward)
            }),
            Property::sometimes("it ends recycled", |_, w: &World| w.table.status == RecordStatus::Recycled),
            Property::sometimes("it ends cancelled", |_, w: &World| {
                w.table.status == RecordStatus::Cancelled
            }),
            Property::sometimes("cancelled while an order is out", |_, w: &World| {
                matches!(w.job_of(Stage::Soft).state, JobState::Cancelling(_))
            }),
            Property::sometimes(
                "cancelled while soft waits, where anything may fail",
                |m: &Self, w: &World| {
                    let waits = matches!(w.job_of(Stage::Soft).state, JobState::Waiting { .. });
                    m.bounds.failures == 0 || waits && w.takes_a_cancel()
                },
            ),
            Property::sometimes(
                "cancelled while soft is parked, where anything may fail",
                |m: &Self, w: &World| {
                    let parked = matches!(w.job_of(Stage::Soft).state, JobState::Parked { .. });
                    m.bounds.failures == 0 || parked && w.takes_a_cancel()
                },
            ),
            Property::sometimes(
                "a cancel races the claim of hard: right before, and too late",
                |_, w: &World| {
                    w.takes_a_cancel() && w.just_claimed().is_some_and(|next| !next.takes_a_cancel())
                },
            ),
            Property::sometimes("a stage acts during the restore", |_, w: &World| w.account.late),
            Property::sometimes("a stage parks, where anything may fail", |m: &Self, w: &World| {
                m.bounds.failures == 0 || matches!(w.job_of(Stage::Soft).state, JobState::Parked { .. })
            }),
            Property::sometimes("a restore parks, where anything may fail", |m: &Self, w: &World| {
                let parked = |job: &Job| matches!(job.state, JobState::Parked { .. });
                m.bounds.failures == 0 || w.restore().is_some_and(parked)
            }),
        ];
        all.extend((self.also)());
        all
    }
}

/// Check one deletion.
pub fn check(name: &str, model: Sexton, at_least: usize) {
    check_all(name, model, |world: &World| world.broken, at_least);
}

/// Check everything within the bounds, and that so many unique states were seen at least: fewer would mean that the
/// model lost some of its freedom.
pub fn check_all<M>(name: &str, model: M, broken: fn(&M::State) -> Option<&'static str>, at_least: usize)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + Debug + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let began = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    let found = checker.unique_state_count();
    eprintln!(
        "{name}: {found} unique states (at least {at_least}), {} in all, depth {}, {:?}",
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    if let Some(path) = checker.discovery(RULES) {
        let broken = broken(path.last_state());
        panic!("{broken:?} after {:?}", path.into_actions());
    }
    checker.assert_properties();
    // Without a limit a search ends early in one case only: when every property has an example or a counterexample.
    let holds = |property: &Property<M>| checker.discovery(property.name).is_none();
    assert!(checker.model().properties().iter().any(holds), "not every state within the bounds was seen");
    assert!(
        found >= at_least,
        "{name}: the model has become smaller: {found} unique states, where at least {at_least} are expected"
    );
}
