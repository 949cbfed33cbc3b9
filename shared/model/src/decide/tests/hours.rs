//! Working hours: in calendar days, hard is due on a Saturday, a little after midnight.
use std::collections::BTreeSet;

use super::super::{Event, Refusal};
use super::kit::{Bench, RESTORE, actor, cancel, place_hold, stage};
use super::time::{at, calendar};
use crate::belts::window::Written;
use crate::job::{Blocker, JobState, Stage, StateName};
use crate::step::{Mode, Outcome};
use crate::time::{Day, Timestamp};

const TUESDAY: &str = "2027-02-09T09:00:00+01:00";

/// Tuesday to Thursday, 9 to 15, in Berlin, but for these days.
fn bench(holidays: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.day = Day::Calendar;
    bench.deletion = calendar("2027-02-03");
    bench.now = bench.deletion.date_of(Stage::Announce, bench.day);
    let written: Written = toml::from_str("zone = \"Europe/Berlin\"").unwrap();
    let holidays: BTreeSet<_> = holidays.iter().map(|day| day.parse().unwrap()).collect();
    bench.policy.windows = Some(written.windows().unwrap().unwrap().with_holidays(holidays).unwrap());
    bench
}

/// At the moment at which a stage is due.
fn due(which: Stage, holidays: &[&str]) -> Bench {
    let mut bench = bench(holidays);
    for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
        // Whatever the hours: what is under test comes after.
        let windows = bench.policy.windows.take();
        bench.complete(before);
        bench.policy.windows = windows;
    }
    if let JobState::Scheduled { due_at: Some(due_at) } = bench.job(stage(which)).state {
        bench.now = bench.now.max(due_at);
    }
    bench
}

fn opens(bench: &Bench, which: Stage) -> Timestamp {
    match &bench.job(stage(which)).state {
        JobState::Held { by: Blocker::Window { opens, .. }, .. } => *opens,
        other => panic!("{which} is {other:?}"),
    }
}

#[test]
fn announce_and_soft_begin_at_night_and_later_stages_are_held_until_the_morning() {
    for which in Stage::ALL {
        let mut bench = due(which, &[]);
        let night = bench.now.utc().format("%H:%M").to_string();
        assert_eq!(night, "23:05", "{which}");
        let decision = bench.claim(which);
        let begun = which.reversible();
        assert_eq!(bench.state(stage(which)) == StateName::Held, !begun, "{which}");
        assert_eq!(decision.effects.is_empty(), !begun, "{which}");
        if !begun {
            bench.now = opens(&bench, which);
            bench.must(&Event::Recheck { job: stage(which) });
            assert_eq!(bench.state(stage(which)), StateName::Scheduled, "{which}");
            bench.must(&Event::Claim { job: stage(which) });
            assert_ne!(bench.state(stage(which)), StateName::Held, "{which}");
        }
    }
}

#[test]
fn hard_that_is_due_on_a_saturday_waits_for_tuesday() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, &[]);
    assert_eq!(bench.now, at("2027-02-06T00:05:00+01:00"));
    bench.claim(Stage::Hard);
    assert_eq!(opens(&bench, Stage::Hard), at(TUESDAY));
    let JobState::Held { due_at, by } = bench.job(job).state.clone() else { panic!("not held") };
    assert_eq!(due_at, at("2027-02-06T00:05:00+01:00"), "it keeps its place");
    assert_eq!(
        by.to_string(),
        "outside working hours (tue, wed, thu 09:00 to 15:00 Europe/Berlin); hard may begin at 2027-02-09T08:00:00.000Z"
    );
    // Looked at again and again, it says nothing new.
    while bench.now < Timestamp(at(TUESDAY).0 - 1) {
        bench.now = bench.now.plus_ms(7 * 3_600_000).min(Timestamp(at(TUESDAY).0 - 1));
        assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)), "{}", bench.now);
    }
    bench.now.0 += 1;
    bench.must(&Event::Recheck { job });
    bench.must(&Event::Claim { job });
    assert_eq!(bench.state(job), StateName::Running);
}

#[test]
fn what_is_let_go_too_late_is_held_again() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, &[]);
    bench.claim(Stage::Hard);
    bench.now = at("2027-02-09T14:59:59+01:00");
    bench.must(&Event::Recheck { job });
    bench.now = at("2027-02-09T15:00:00+01:00");
    bench.must(&Event::Claim { job });
    assert_eq!(opens(&bench, Stage::Hard), at("2027-02-10T09:00:00+01:00"));
}

#[test]
fn a_holiday_is_no_working_day() {
    let mut bench = due(Stage::Hard, &["2027-02-09", "2027-02-10"]);
    bench.claim(Stage::Hard);
    assert_eq!(opens(&bench, Stage::Hard), at("2027-02-11T09:00:00+01:00"));
}

#[test]
fn what_has_begun_goes_on_at_night() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, &[]);
    bench.now = at("2027-02-09T14:59:59+01:00");
    bench.claim(Stage::Hard);
    // An answer, a failure, a retry, a hold that is lifted: each after closing time, and each goes on.
    bench.wait_ms(5_000);
    bench.comply();
    assert_eq!((bench.state(job), bench.out().step), (StateName::Running, 1));
    bench.answer(Outcome::failed("busy"));
    bench.wait_ms(60_000);
    bench.must(&Event::Proceed { job });
    assert_eq!(bench.state(job), StateName::Running);
    bench.answer(Outcome::refused("not mine"));
    assert_eq!(bench.state(job), StateName::Parked);
    bench.must(&Event::Retry { by: actor("ops") });
    if bench.state(job) == StateName::Ready {
        bench.must(&Event::Proceed { job });
    }
    assert_eq!(bench.state(job), StateName::Running);
    bench.must(&place_hold());
    bench.answer(Outcome::failed("busy"));
    bench.wait_ms(60_000);
    bench.must(&Event::Proceed { job });
    assert!(matches!(bench.job(job).state, JobState::Ready { blocked: Some(Blocker::Hold { .. }), .. }));
    let hold = bench.deletion.holds[0].id;
    bench.must(&Event::ReleaseHold { hold, by: actor("ops") });
    bench.must(&Event::Proceed { job });
    assert_eq!(bench.state(job), StateName::Running);
    bench.comply();
    assert_eq!(bench.state(job), StateName::Done);
}

#[test]
fn a_restore_keeps_no_hours() {
    // While an order is out, and while hard is held for the hours: both on a night.
    let mut under_way = bench(&[]).run_to(Stage::Soft, 0, Mode::Perform);
    under_way.must(&cancel());
    under_way.comply();
    let mut held = due(Stage::Hard, &[]);
    held.claim(Stage::Hard);
    opens(&held, Stage::Hard);
    held.must(&cancel());
    for mut bench in [under_way, held] {
        bench.restore();
        assert_eq!(bench.state(RESTORE), StateName::Done);
        assert!(bench.now < at(TUESDAY), "{}", bench.now);
    }
}

#[test]
fn another_belt_is_shown_first_and_hours_after_it() {
    let job = stage(Stage::Hard);
    let mut bench = due(Stage::Hard, &[]);
    bench.must(&place_hold());
    bench.claim(Stage::Hard);
    assert!(matches!(bench.job(job).state, JobState::Held { by: Blocker::Hold { .. }, .. }));
    let hold = bench.deletion.holds[0].id;
    bench.must(&Event::ReleaseHold { hold, by: actor("ops") });
    bench.must(&Event::Claim { job });
    assert_eq!(opens(&bench, Stage::Hard), at(TUESDAY));
}

#[test]
fn without_hours_and_in_a_rehearsal_it_begins_when_it_is_due() {
    let mut always = due(Stage::Hard, &[]);
    always.policy.windows = None;
    always.claim(Stage::Hard);
    assert_eq!(always.state(stage(Stage::Hard)), StateName::Running);
    let mut rehearsal = Bench::new();
    rehearsal.policy = bench(&[]).policy;
    for which in Stage::ALL {
        rehearsal.complete(which);
    }
}
