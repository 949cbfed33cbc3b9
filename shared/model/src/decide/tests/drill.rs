//! A drill never goes beyond soft; and what is to be done about one.
use std::sync::Arc;

use super::super::{Event, Refusal};
use super::kit::*;
use crate::deletion::{Record, RecordStatus, Waiver, WaiverClaim};
use crate::drill::{self, Drill, Next, Verdict};
use crate::job::{Blocker, JobKind, JobState, Stage, StateName};
use crate::step::{Mode, Outcome};
use crate::time::{Day, Timestamp};

fn drilling() -> (Bench, Drill) {
    let mut bench = Bench::new();
    let record = Record { requested_by: drill::actor(), ..(*bench.deletion.record).clone() };
    bench.deletion.record = Arc::new(record);
    let (resource, plan) = (bench.deletion.record.resource.id.clone(), bench.deletion.plan.clone());
    let begun = Drill::begin((resource, &plan), None, None, (bench.now, bench.day));
    let drill = Drill { deletion: Some(bench.deletion.id), ..begun };
    (bench, drill)
}

fn next(bench: &Bench, drill: &Drill) -> Next {
    drill::next(drill, Some(&bench.deletion), true, bench.now)
}

fn verdict(next: Next) -> Verdict {
    let Next::Judge(verdict) = next else { panic!("{next:?}") };
    verdict
}

#[test]
fn a_drill_is_held_before_hard_whatever_its_date() {
    let (mut bench, _) = drilling();
    bench.complete(Stage::Announce);
    bench.complete(Stage::Soft);
    bench.claim(Stage::Hard);
    let held = |bench: &Bench| matches!(&bench.job(stage(Stage::Hard)).state, JobState::Held { by, .. } if *by == Blocker::Drill);
    assert!(held(&bench), "{:?}", bench.job(stage(Stage::Hard)));
    bench.wait_ms(90 * 86_400_000);
    assert_eq!(
        bench.go(&Event::Recheck { job: stage(Stage::Hard) }),
        Err(Refusal::NotYet(stage(Stage::Hard)))
    );
    assert!(held(&bench));
    // Somebody else's goes on.
    let mut other = Bench::new();
    other.complete(Stage::Announce);
    other.complete(Stage::Soft);
    other.claim(Stage::Hard);
    assert_eq!(other.state(stage(Stage::Hard)), StateName::Running);
}

#[test]
fn it_is_cancelled_once_soft_is_done_and_holds_once_all_is_taken_back() {
    let (mut bench, drill) = drilling();
    assert_eq!(next(&bench, &drill), Next::Wait);
    bench.complete(Stage::Announce);
    assert_eq!(next(&bench, &drill), Next::Wait);
    bench.complete(Stage::Soft);
    assert!(matches!(next(&bench, &drill), Next::Cancel(id, _) if id == bench.deletion.id));
    bench.must(&cancel());
    assert_eq!(next(&bench, &drill), Next::Wait);
    bench.restore();
    assert_eq!(bench.deletion.status, RecordStatus::Cancelled);
    let holds = verdict(next(&bench, &drill));
    assert!(!holds.alarms() && holds.text().contains("as it was captured"), "{holds:?}");
    let over = drill.judged(holds, bench.now);
    assert_eq!(next(&bench, &over), Next::Wait);
}

#[test]
fn what_is_parked_or_late_has_failed_and_is_cancelled_all_the_same() {
    let (bench, drill) = drilling();
    let mut parked = bench.clone().run_to(Stage::Soft, 0, Mode::Perform);
    parked.answer(Outcome::refused("is another one"));
    let failed = verdict(next(&parked, &drill));
    assert!(matches!(&failed, Verdict::Failed { why } if why.contains("is another one")), "{failed:?}");
    let told = drill.clone().judged(failed, parked.now);
    assert!(matches!(next(&parked, &told), Next::Cancel(id, _) if id == parked.deletion.id));
    // Also if somebody has it go on meanwhile.
    assert!(matches!(next(&bench, &told), Next::Cancel(..)));

    let mut late = bench.clone();
    late.now = drill.finish_by;
    assert!(matches!(verdict(next(&late, &drill)), Verdict::Failed { .. }));
    late.now = Timestamp(drill.finish_by.0 - 1);
    assert_eq!(next(&late, &drill), Next::Wait);

    // A restore that finds something else parks.
    let mut restoring = bench;
    restoring.complete(Stage::Announce);
    restoring.complete(Stage::Soft);
    restoring.must(&cancel());
    restoring.wait_ms(200_000);
    if let JobState::Waiting { until, .. } = restoring.job(RESTORE).state {
        restoring.now = restoring.now.max(until);
        restoring.must(&Event::Proceed { job: RESTORE });
    }
    restoring.answer(Outcome::refused("it was changed meanwhile"));
    let failed = verdict(next(&restoring, &drill));
    assert!(failed.text().contains("changed meanwhile"), "{failed:?}");
    // It is told once.
    let told = drill.judged(failed, restoring.now);
    assert_eq!(next(&restoring, &told), Next::Wait);
}

#[test]
fn only_what_was_taken_back_as_it_was_holds() {
    let (mut bench, drill) = drilling();
    bench.complete(Stage::Announce);
    bench.complete(Stage::Soft);
    bench.must(&cancel());
    bench.restore();
    let passed = |slot: u8| {
        let mut bench = bench.clone();
        bench.deletion.waivers.push(Waiver {
            slot,
            step: 0,
            claim: WaiverClaim::Absent,
            by: actor("ops"),
            evidence: "looked".into(),
            at: bench.now,
            untouched: false,
            shown: None,
        });
        verdict(next(&bench, &drill))
    };
    let helped = passed(JobKind::RESTORE_SLOT);
    assert!(matches!(&helped, Verdict::Unclear { why } if why.contains("restore pass")), "{helped:?}");
    assert!(matches!(passed(Stage::Soft.index()), Verdict::Holds { .. }), "nothing of the restore was");

    let mut idle = bench.clone();
    for job in &mut idle.deletion.jobs {
        (job.cursor, job.touched) = (0, false);
    }
    let idle = verdict(next(&idle, &drill));
    assert!(matches!(&idle, Verdict::Unclear { why } if why.contains("has to be taken back")), "{idle:?}");

    for status in [RecordStatus::Recycled, RecordStatus::Rescued] {
        bench.deletion.status = status;
        let failed = verdict(next(&bench, &drill));
        assert!(matches!(&failed, Verdict::Failed { why } if why.contains(status.word())), "{failed:?}");
    }
}

#[test]
fn what_shows_nothing_is_told_and_what_went_beyond_has_failed() {
    let (bench, drill) = drilling();
    let mut early = bench.clone();
    early.must(&cancel());
    early.restore();
    assert!(matches!(verdict(next(&early, &drill)), Verdict::Unclear { .. }));
    // Which nothing lets happen.
    let mut beyond = bench;
    beyond.deletion.record = Arc::new(record(beyond.deletion.record.due));
    for stage in [Stage::Announce, Stage::Soft] {
        beyond.complete(stage);
    }
    beyond.claim(Stage::Hard);
    assert!(verdict(next(&beyond, &drill)).text().contains("beyond soft"));
}

#[test]
fn one_is_due_a_week_after_the_last_one_began_once_that_is_over() {
    let (bench, first) = drilling();
    let day = Day::Calendar;
    let week = |drill: &Drill| crate::time::add_days(drill.begun_at, drill::EVERY_DAYS, chrono_tz::UTC, day);
    assert!(drill::due(None, bench.now, day));
    assert!(!drill::due(Some(&first), week(&first), day), "it is not over");
    let over = first.judged(Verdict::unclear("tried"), bench.now);
    assert!(drill::due(Some(&over), week(&over), day));
    assert!(!drill::due(Some(&over), Timestamp(week(&over).0 - 1), day));
    // A rehearsal's week is over at once.
    assert!(!drill::due(Some(&over), Timestamp(over.begun_at.plus_ms(drill::LEAST_MS).0 - 1), DAY));
    let plan = bench.deletion.plan.clone();
    let next = Drill::begin((over.resource.clone(), &plan), Some(&over), None, (bench.now, day));
    assert_eq!((next.standing(), next.is_open()), (over.judged.as_ref(), true));
    let read: Drill = serde_json::from_str(&serde_json::to_string(&over).unwrap()).unwrap();
    assert_eq!(read, over);
}
