//! Holds: placed and released at any moment. While one stands nothing of a deletion begins or goes on, a restore does,
//! and nothing is forgotten when it is released.
use sexton_model::deletion::RecordStatus;
use sexton_model::job::JobState;
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

const BOUNDS: Bounds = Bounds { leases: 1, failures: 1, holds: 2, ..Bounds::of(Shape::Short) };
const AT_LEAST: usize = 27_600;

fn seen() -> Vec<Property<Sexton>> {
    vec![
        Property::sometimes("what is due is held", |_, w: &World| {
            w.table.jobs.iter().any(|row| matches!(row.0.state, JobState::Held { .. }))
        }),
        Property::sometimes("a hold meets a job between two steps", |_, w: &World| {
            w.table.blockers().any(|(job, _)| job.state.name().locks())
        }),
        Property::sometimes("a hold meets an order that is out", |_, w: &World| {
            w.account.holds > 0 && w.table.fences().next().is_some()
        }),
        Property::sometimes("two holds stand", |_, w: &World| w.account.holds == 2),
        Property::sometimes("a restore ends while a hold stands", |_, w: &World| {
            w.table.status == RecordStatus::Cancelled && w.account.holds > 0 && w.account.taken_back[0]
        }),
        Property::sometimes("it ends recycled after all holds", |_, w: &World| {
            w.table.status == RecordStatus::Recycled && w.left.holds == 0
        }),
    ]
}

#[test]
fn nothing_but_a_restore_goes_on_while_a_hold_stands() {
    check("holds", Sexton::new(BOUNDS, seen), AT_LEAST);
}
