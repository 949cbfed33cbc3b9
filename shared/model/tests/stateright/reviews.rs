//! I15, a job table that has gone back in time: at any moment it is put back to what it was at any moment before, while
//! orders and answers of what came between are still under way. In its new epoch nothing is claimed or ordered before a
//! person has accepted that, restores neither, and no answer to an order of the epoch before counts.
use sexton_model::deletion::RecordStatus;
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

const BOUNDS: Bounds = Bounds { leases: 1, returns: 1, ..Bounds::of(Shape::Short) };
const AT_LEAST: usize = 9_900;

fn seen() -> Vec<Property<Sexton>> {
    vec![
        Property::sometimes("an order is out in the copy", |_, w: &World| w.copy_waits()),
        Property::sometimes("an answer comes to an order of the epoch before", |_, w: &World| {
            w.table.fences().any(|fence| fence.epoch < w.epoch && w.is_answered(fence))
        }),
        Property::sometimes("what was destroyed is back in the job table", |_, w: &World| {
            w.review && w.truth.gone[0] && w.table.status == RecordStatus::Live
        }),
        Property::sometimes("cancelled before it was accepted", |_, w: &World| {
            w.review && w.table.status == RecordStatus::Restoring
        }),
        Property::sometimes("it goes on in the new epoch", |_, w: &World| {
            w.table.fences().any(|fence| fence.epoch > 1)
        }),
        Property::sometimes("it ends recycled in the new epoch", |_, w: &World| {
            w.epoch > 1 && w.table.status == RecordStatus::Recycled
        }),
    ]
}

#[test]
fn nothing_is_dispatched_before_an_older_job_table_was_accepted() {
    check("reviews", Sexton::new(BOUNDS, seen), AT_LEAST);
}
