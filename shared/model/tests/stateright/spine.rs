//! The spine: a deletion that nobody stops but by a cancel, under a network and consumers that do as they please.
use crate::model::{Sexton, check};
use crate::world::{Bounds, Shape};

#[test]
fn duplicates_and_losses() {
    let bounds = Bounds { copies: 1, leases: 1, ghosts: 1, ..Bounds::of(Shape::Whole) };
    check("duplicates", Sexton::new(bounds, Vec::new), 49_000);
}

#[test]
fn failures_and_parked_jobs() {
    let bounds = Bounds { leases: 1, failures: 2, ..Bounds::of(Shape::Whole) };
    check("failures", Sexton::new(bounds, Vec::new), 31_400);
}

#[test]
fn calls_that_land_late() {
    let bounds = Bounds { copies: 1, leases: 1, failures: 1, call_ticks: 1, ..Bounds::of(Shape::Whole) };
    check("late calls", Sexton::new(bounds, Vec::new), 58_900);
}
