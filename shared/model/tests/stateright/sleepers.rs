//! I10, consumers that sleep: one has taken its order in time and asked everything there is to ask, and falls asleep right
//! before the change. It wakes whenever it likes: after its deadline, after its lease, when later orders have been carried
//! out, when a restore has ended, or never. What holds the fence of its last change refuses it then, by the very function that
//! consumers go by (`Fence::refuses`), and the resource ends as it was in spite of it.
//!
//! What a consumer itself remembers of later orders is not in it: one that was started anew remembers nothing. Things hold a
//! fence for themselves, and compare and change in one; where a subsystem cannot do that, its driver says so.
use sexton_model::deletion::RecordStatus;
use sexton_model::step::Mode;
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

/// One sleeps; its order may be delivered to another one as well, or its lease run out.
const ONE: Bounds = Bounds { copies: 1, leases: 1, fenced: true, naps: 1, ..Bounds::of(Shape::Short) };
const ONE_AT_LEAST: usize = 9_300;
/// Two sleep, over two orders, and wake in any order.
const TWO: Bounds = Bounds { leases: 2, fenced: true, naps: 2, ..Bounds::of(Shape::Short) };
const TWO_AT_LEAST: usize = 13_400;

fn refused() -> Property<Sexton> {
    Property::sometimes("who slept is refused by the fence that the thing holds", |_, w: &World| {
        w.account.refused
    })
}

#[test]
fn who_slept_changes_nothing_that_a_later_order_has_changed() {
    let seen = || {
        vec![
            refused(),
            Property::sometimes(
                "a stage's consumer sleeps on after the restore has ended",
                |_, w: &World| w.table.status == RecordStatus::Cancelled && w.overtaken(Mode::Perform) > 0,
            ),
            Property::sometimes("a stage's consumer sleeps on after everything is gone", |_, w: &World| {
                w.truth.gone[0] && w.overtaken(Mode::Perform) > 0
            }),
            Property::sometimes("an undo is overtaken by the next one", |_, w: &World| {
                w.overtaken(Mode::Undo) > 0
            }),
            Property::sometimes(
                "who sleeps will repeat what was done under the same fence",
                |_, w: &World| w.repeats(),
            ),
        ]
    };
    check("one sleeps", Sexton::new(ONE, seen), ONE_AT_LEAST);
}

#[test]
fn in_whichever_order_two_wake_neither_changes_what_a_later_order_has_changed() {
    let seen = || {
        vec![
            refused(),
            Property::sometimes("both are overtaken", |_, w: &World| w.overtaken(Mode::Perform) == 2),
            Property::sometimes("a step and its undo are overtaken", |_, w: &World| {
                w.overtaken(Mode::Perform) > 0 && w.overtaken(Mode::Undo) > 0
            }),
        ]
    };
    check("two sleep", Sexton::new(TWO, seen), TWO_AT_LEAST);
}
