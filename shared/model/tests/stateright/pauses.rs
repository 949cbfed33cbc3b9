//! Pauses, of everything, of soft and of hard: begun and lifted at any moment, also one over another. What is covered by
//! one neither begins nor goes on, a restore does, and nothing is forgotten when it is lifted.
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, Stage};
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

const BOUNDS: Bounds = Bounds { leases: 1, pauses: 2, ..Bounds::of(Shape::Short) };
const AT_LEAST: usize = 12_600;

fn seen() -> Vec<Property<Sexton>> {
    vec![
        Property::sometimes("what is due is held by a pause", |_, w: &World| {
            w.table
                .blockers()
                .any(|(job, by)| matches!(by, Blocker::Pause { .. }) && !job.state.name().locks())
        }),
        Property::sometimes("a pause meets a job between two steps", |_, w: &World| {
            w.table.blockers().any(|(job, _)| job.state.name().locks())
        }),
        Property::sometimes("two pauses are in force", |_, w: &World| w.table.pauses.len() == 2),
        Property::sometimes("what another pause covers goes on", |_, w: &World| {
            let covers_soft = w.table.pauses.iter().any(|pause| pause.covers(Stage::Soft));
            !w.table.pauses.is_empty() && !covers_soft && w.job_of(Stage::Soft).state.out().is_some()
        }),
        Property::sometimes("a restore ends during a pause of everything", |_, w: &World| {
            let everything = Stage::ALL.iter().all(|stage| w.table.pauses.iter().any(|p| p.covers(*stage)));
            w.table.status == RecordStatus::Cancelled && everything && w.account.taken_back[0]
        }),
        Property::sometimes("it ends recycled after all pauses", |_, w: &World| {
            w.table.status == RecordStatus::Recycled && w.left.pauses == 0 && w.table.pauses.is_empty()
        }),
    ]
}

#[test]
fn nothing_but_a_restore_goes_on_during_a_pause() {
    check("pauses", Sexton::new(BOUNDS, seen), AT_LEAST);
}
