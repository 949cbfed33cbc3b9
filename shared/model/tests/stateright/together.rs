//! A hold, a pause and an older job table in one history: each may stand in the copy and be over since, or come only after it.
//! What stands in the job table counts, whatever was said of it in the time that is lost.
//!
//! No lease runs out: with one the states are many times as many, and [`super::reviews`], [`super::holds`] and
//! [`super::pauses`] have it. How many there are is printed by
//! `cargo test -p sexton-model --test stateright together -- --nocapture`.
use sexton_model::deletion::RecordStatus;
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

const BOUNDS: Bounds = Bounds { holds: 1, pauses: 1, returns: 1, ..Bounds::of(Shape::Short) };
/// There are 239,104.
const AT_LEAST: usize = 235_000;

fn seen() -> Vec<Property<Sexton>> {
    vec![
        Property::sometimes("a hold stands that was placed before the copy", |_, w: &World| {
            w.review && w.account.holds > 0
        }),
        Property::sometimes("a hold is forgotten that was placed after the copy", |_, w: &World| {
            w.review && w.account.holds == 0 && w.left.holds == 0
        }),
        Property::sometimes("a pause is in force that began before the copy", |_, w: &World| {
            w.review && !w.table.pauses.is_empty() && w.left.pauses == 0
        }),
        Property::sometimes("a pause is forgotten that began after the copy", |_, w: &World| {
            w.review && w.table.pauses.is_empty() && w.left.pauses == 0
        }),
        Property::sometimes("all three stop it at once", |_, w: &World| {
            w.review && w.account.holds > 0 && !w.table.pauses.is_empty()
        }),
        Property::sometimes("a restore ends while a hold and a pause stand", |_, w: &World| {
            let stand = w.account.holds > 0 && !w.table.pauses.is_empty();
            w.epoch > 1 && stand && w.table.status == RecordStatus::Cancelled
        }),
        Property::sometimes("it ends recycled after all three", |_, w: &World| {
            let used = w.left.holds == 0 && w.left.pauses == 0;
            w.epoch > 1 && used && w.table.status == RecordStatus::Recycled
        }),
    ]
}

#[test]
fn nothing_goes_on_past_a_hold_a_pause_and_a_review() {
    check("together", Sexton::new(BOUNDS, seen), AT_LEAST);
}
