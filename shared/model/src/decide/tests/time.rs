//! When stages are due: by date and by grace, in calendar days.
use std::sync::Arc;

use super::kit::{Bench, DAY, DAY_MS, MOMENT, plan, record, stage};
use crate::deletion::{Deletion, Due};
use crate::id::DeletionId;
use crate::job::{JobState, Stage, StateName};
use crate::step::Mode;
use crate::time::{Day, Timestamp};

pub(super) fn at(text: &str) -> Timestamp {
    Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc())
}

pub(super) fn calendar(date: &str) -> Deletion {
    let due = Due { date: date.parse().unwrap(), zone: "Europe/Berlin".parse().unwrap(), moment: None };
    Deletion::draw_up(DeletionId(1), record(due), Arc::new(plan()), Day::Calendar).unwrap()
}

#[test]
fn stages_are_due_on_their_dates_if_nothing_is_late() {
    let deletion = calendar("2026-12-01");
    assert_eq!(deletion.date_of(Stage::Announce, Day::Calendar), at("2026-11-26T00:05:00+01:00"));
    let due = deletion.due_after(Stage::Hard, at("2026-12-01T00:05:00+01:00"), Day::Calendar);
    assert_eq!(due, at("2026-12-04T00:05:00+01:00"));
    // Early is no reason to be earlier.
    let due = deletion.due_after(Stage::Hard, at("2026-01-01T00:00:00Z"), Day::Calendar);
    assert_eq!(due, at("2026-12-04T00:05:00+01:00"));
}

#[test]
fn a_late_stage_keeps_the_next_ones_grace_across_the_clock_changes() {
    let cases = [
        // Spring: three calendar days are 71 hours, autumn: 73.
        ("2026-03-20", "2026-03-27T12:00:00+01:00", "2026-03-30T12:00:00+02:00"),
        ("2026-10-20", "2026-10-23T12:00:00+02:00", "2026-10-26T12:00:00+01:00"),
        // An hour that does not exist: later, never earlier.
        ("2026-03-20", "2026-03-26T02:30:00+01:00", "2026-03-29T03:00:00+02:00"),
        // An hour that comes twice: the later one.
        ("2026-10-20", "2026-10-22T02:30:00+02:00", "2026-10-25T02:30:00+01:00"),
    ];
    for (date, ended, due) in cases {
        let found = calendar(date).due_after(Stage::Hard, at(ended), Day::Calendar);
        assert_eq!(found, at(due), "{ended}");
    }
}

#[test]
fn the_end_of_a_stage_makes_the_next_one_due_after_the_whole_grace() {
    let mut bench = Bench::at(Stage::Soft, 2, Mode::Perform);
    bench.wait_ms(10 * DAY_MS);
    bench.comply();
    let due_at = Some(bench.now.plus_ms(3 * DAY_MS));
    assert_eq!(bench.job(stage(Stage::Hard)).state, JobState::Scheduled { due_at });
    assert_eq!(bench.job(stage(Stage::Purge)).state, JobState::Scheduled { due_at: None });
}

#[test]
fn a_record_made_late_begins_at_once_and_keeps_every_grace() {
    let mut late = record(calendar("2026-12-01").record.due);
    late.created_at = at("2027-05-05T05:05:00Z");
    let deletion = Deletion::draw_up(DeletionId(1), late, Arc::new(plan()), Day::Calendar).unwrap();
    let due_at = Some(at("2027-05-05T05:05:00Z"));
    assert_eq!(deletion.stage_job(Stage::Announce).unwrap().state, JobState::Scheduled { due_at });
}

#[test]
fn the_whole_way_keeps_its_dates() {
    let mut bench = Bench::new();
    for (which, days) in Stage::ALL.into_iter().zip([-5i64, 0, 3, 8, 38]) {
        bench.complete(which);
        assert_eq!(bench.now.0, MOMENT.0 + days * 60_000_000, "{which}");
    }
    assert!(bench.deletion.jobs.iter().all(|j| j.state.name() == StateName::Done));
    assert_eq!(bench.deletion.date_of(Stage::Recycle, DAY), bench.now);
}
