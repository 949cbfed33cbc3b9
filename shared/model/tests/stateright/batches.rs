//! Budgets and approvals (I11): over the limit not one of a batch begins, before a person who asked for none of it has approved
//! exactly that set.
use stateright::{Model, Property};

use crate::crowd::{Act, Bounds, Crowd, Place};
use crate::model::{END, RULES, check_all};
use crate::reach::Reach;

/// Two are due, a third one comes; a person looks at what is frozen and approves it, and one may leave meanwhile.
const APPROVALS: Bounds = Bounds { due: 2, late: 1, batches: 2, looks: 1, cancels: 1, holds: 0 };
const APPROVALS_AT_LEAST: usize = 4_000;
/// One is due, two come; nobody approves anything, and there is a hold on the first.
const TURNS: Bounds = Bounds { due: 1, late: 2, batches: 2, looks: 0, cancels: 0, holds: 1 };
const TURNS_AT_LEAST: usize = 3_000;
/// Two are due and approved, with a hold on the first.
const HELD: Bounds = Bounds { due: 2, late: 0, batches: 2, looks: 1, cancels: 0, holds: 1 };
const HELD_AT_LEAST: usize = 1_750;

struct Batches {
    bounds: Bounds,
    /// What has to be seen.
    also: fn() -> Vec<Property<Self>>,
    reach: Reach,
}

impl Model for Batches {
    type State = Crowd;
    type Action = Act;

    fn init_states(&self) -> Vec<Crowd> {
        vec![Crowd::new(&self.bounds)]
    }

    fn actions(&self, crowd: &Crowd, actions: &mut Vec<Act>) {
        crowd.acts(actions);
    }

    fn next_state(&self, crowd: &Crowd, act: Act) -> Option<Crowd> {
        crowd.after(&act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all: Vec<Property<Self>> = vec![
            Property::always(RULES, |_, c: &Crowd| c.broken.is_none()),
            Property::always(END, |m: &Self, c: &Crowd| {
                c.broken.is_some() || m.reach.reaches(c.in_good_weather(), Crowd::is_over, Crowd::onward)
            }),
        ];
        all.extend((self.also)());
        all
    }
}

fn all_begin_approved() -> Property<Batches> {
    Property::sometimes("all of a batch begin, approved", |_, c: &Crowd| {
        c.members.iter().filter(|m| m.place == Place::Begun && m.approved.is_some()).count() > 1
    })
}

fn who_asked_is_refused() -> Property<Batches> {
    Property::sometimes("whoever asked for one of a batch is refused, and nobody else", |_, c: &Crowd| {
        c.refuses_who_asked()
    })
}

fn held_though_admitted() -> Property<Batches> {
    Property::sometimes("a hold comes between the admission and the claim", |_, c: &Crowd| {
        c.is_held_though_admitted()
    })
}

#[test]
fn not_one_of_a_batch_begins_before_exactly_it_is_approved() {
    let seen = || {
        vec![
            all_begin_approved(),
            who_asked_is_refused(),
            Property::sometimes("one has left a batch, which still waits", |_, c: &Crowd| {
                c.members.iter().any(|m| m.batch.is_some())
                    && c.members.iter().any(|m| m.place == Place::Left)
            }),
            Property::sometimes("a newcomer waits behind a batch that needs approval", |_, c: &Crowd| {
                c.batches.len() > 1 && c.batches.iter().any(|batch| c.needs_approval(batch))
            }),
        ]
    };
    check("approvals", APPROVALS, seen, APPROVALS_AT_LEAST);
}

#[test]
fn not_one_of_a_batch_begins_before_its_turn() {
    let seen = || {
        vec![
            held_though_admitted(),
            Property::sometimes("two batches wait", |_, c: &Crowd| c.batches.len() > 1),
            Property::sometimes("all have begun, and some waited for their turn", |_, c: &Crowd| {
                c.last > 0 && c.members.iter().all(|m| m.place == Place::Begun)
            }),
        ]
    };
    check("turns", TURNS, seen, TURNS_AT_LEAST);
}

#[test]
fn what_is_approved_and_held_does_not_begin() {
    let seen = || vec![all_begin_approved(), who_asked_is_refused(), held_though_admitted()];
    check("approved and held", HELD, seen, HELD_AT_LEAST);
}

fn check(name: &str, bounds: Bounds, also: fn() -> Vec<Property<Batches>>, at_least: usize) {
    let model = Batches { bounds, also, reach: Reach::default() };
    check_all(name, model, |crowd: &Crowd| crowd.broken, at_least);
}
