//! Restores: after a cancel at any moment, what the stages did or may have done is taken back, the last step first, when
//! nothing of them can act any more, and is looked at once more when no call of theirs can land any more.
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Job, JobState, Phase};
use stateright::Property;

use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape, World};

/// One of the two things was off before anybody touched it, and has to end so. A call takes up to two steps of time: one
/// that was begun just before its deadline lands as late as any can. Only of an order that is delivered twice one call can
/// land after the other was answered, and so after the undo.
const BOUNDS: Bounds =
    Bounds { was: [true, false], copies: 1, leases: 1, call_ticks: 2, ..Bounds::of(Shape::Pair) };
const AT_LEAST: usize = 12_600;

fn seen() -> Vec<Property<Sexton>> {
    vec![
        Property::sometimes(
            "an undo does not hold, because a call of a stage lands after it",
            |m: &Sexton, w: &World| {
                let again = |job: &Job| job.phase == Phase::Act && job.attempts > 0;
                w.left.failures == m.bounds.failures && w.restore().is_some_and(again)
            },
        ),
        Property::sometimes("it waits until no order of the stages can be begun", |_, w: &World| {
            let waits = |job: &Job| matches!(job.state, JobState::Waiting { .. });
            w.restore().is_some_and(waits)
        }),
        Property::sometimes("both steps are taken back", |_, w: &World| {
            w.table.status == RecordStatus::Cancelled && w.account.taken_back == [true; 2]
        }),
        Property::sometimes("what was never done is not taken back", |_, w: &World| {
            w.table.status == RecordStatus::Cancelled && w.account.taken_back == [true, false]
        }),
    ]
}

#[test]
fn what_was_done_is_taken_back_in_reverse_when_all_is_quiet() {
    check("restores", Sexton::new(BOUNDS, seen), AT_LEAST);
}
