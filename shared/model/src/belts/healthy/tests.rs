use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::decide::test_deletion;
use crate::job::JobState;

const SECOND: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp(second * SECOND)
}

fn outage(began: i64, ended: i64) -> Outage {
    Outage { began: at(began), ended: at(ended) }
}

/// Heartbeats in these seconds, where more than three seconds without one are an outage.
fn beaten(seconds: impl IntoIterator<Item = i64>) -> Healthy {
    let mut healthy = Healthy { beat: at(0), tolerance_ms: 3_000, ..Healthy::default() };
    for second in seconds {
        healthy.beat(at(second));
    }
    healthy
}

fn outages(healthy: &Healthy) -> Vec<Outage> {
    healthy.outages.to_vec()
}

#[test]
fn what_is_within_the_tolerance_is_none() {
    let healthy = beaten([1, 2, 5, 8, 11]);
    assert_eq!(outages(&healthy), []);
    assert_eq!(healthy.lost_us(at(0), at(14)), 0);
    assert_eq!(healthy.lost_us(at(0), at(15)), 4 * SECOND, "nothing was heard since");
    assert_eq!(healthy.lost_us(at(13), at(15)), 2 * SECOND);
    let healthy = beaten([1, 5, 6]);
    assert_eq!(outages(&healthy), [outage(1, 5)]);
    assert_eq!(healthy.last(), Some(outage(1, 5)));
}

#[test]
fn of_an_outage_counts_what_is_within() {
    let healthy = beaten([1, 11, 12, 32]);
    let lost = |from, now| healthy.lost_us(at(from), at(now)) / SECOND;
    assert_eq!(lost(0, 33), 30);
    assert_eq!((lost(5, 33), lost(11, 33), lost(12, 22), lost(32, 33)), (26, 20, 10, 0));
}

#[test]
fn without_a_heartbeat_nothing_counts() {
    let never = Healthy::default();
    assert_eq!(never.lost_us(at(10), at(25)), 15 * SECOND);
    assert_eq!(Healthy::always().lost_us(at(10), at(25)), 0);
}

#[test]
fn a_clock_that_jumped_ahead_and_was_put_right_takes_its_outage_back() {
    let mut healthy = beaten([1, 2, 1002, 1003]);
    assert_eq!(outages(&healthy), [outage(2, 1002)]);
    assert!(healthy.beat(at(4)));
    assert_eq!(outages(&healthy), [outage(2, 4)], "what was not lived through is no outage either");
    for second in 5..1100 {
        assert!(!healthy.beat(at(second)), "{second}");
    }
    assert_eq!(healthy.lost_us(at(0), at(1100)), 2 * SECOND);
    // And the other way round: what was skipped is lost, if it was shown before or not.
    assert!(!healthy.beat(at(500)));
    assert!(healthy.beat(at(1100)));
    assert_eq!(outages(&healthy), [outage(2, 4), outage(500, 1100)]);
}

#[test]
fn only_so_many_are_kept_and_none_becomes_shorter() {
    // Longer and longer apart, so that the first ones are the closest.
    let (mut second, mut seen) = (0, Vec::new());
    let mut healthy = beaten([]);
    for n in 0..2 * OUTAGES_MAX {
        seen.push(outage(second, second + 10));
        second += 10;
        healthy.beat(at(second));
        for _ in 0..=n / 100 {
            second += 2;
            healthy.beat(at(second));
        }
        assert!(healthy.outages.len() <= OUTAGES_MAX);
    }
    assert!(outages(&healthy).windows(2).all(|pair| pair[0].ended < pair[1].began));
    for one in seen {
        assert!(
            healthy.outages.iter().any(|kept| kept.began <= one.began && kept.ended >= one.ended),
            "{one:?} is not kept"
        );
    }
}

#[test]
fn a_minute_of_a_real_day_and_seconds_of_a_short_one() {
    assert_eq!(tolerance_ms(Day::Calendar), 60_000);
    let of = |length_ms| tolerance_ms(Day::Rehearsal { length_ms });
    assert_eq!((of(1), of(3_600_000), of(12 * 3_600_000)), (5_000, 5_000, 30_000));
}

#[test]
fn lengths_are_said_as_people_do() {
    let said = |ms| Length(ms).to_string();
    assert_eq!(said(0), "0 ms");
    assert_eq!(said(850), "850 ms");
    assert_eq!(said(61_000), "1 min 1 s");
    assert_eq!(said(7_200_000), "2 h");
    assert_eq!(said(183_600_000), "2 d 3 h");
}

/// Hard of a deletion whose soft stage ended at `from`, due then.
fn hard(from: Timestamp, due_at: Timestamp) -> (Deletion, Job) {
    // Drawn up once: properties ask some thousand times.
    static DRAWN_UP: LazyLock<Deletion> = LazyLock::new(|| test_deletion().0);
    let mut deletion = DRAWN_UP.clone();
    let mut job = deletion.stage_job(Stage::Hard).unwrap().clone();
    job.state = JobState::Scheduled { due_at: Some(due_at) };
    deletion.jobs[usize::from(Stage::Soft.index())].ended_at = Some(from);
    (deletion, job)
}

/// From when hard may begin, looked at in `now`; `now` itself if nothing stops it.
fn begins(healthy: &Healthy, (from, due_at): (Timestamp, Timestamp), now: Timestamp) -> Timestamp {
    let (deletion, job) = hard(from, due_at);
    match blocker(&deletion, (Stage::Hard, &job), healthy, now) {
        None => now,
        Some(Blocker::Outage { until, .. }) => until,
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn only_what_has_not_begun_and_has_a_grace_is_bound() {
    let healthy = beaten([1, 100]);
    let (deletion, job) = hard(at(0), at(50));
    let stopped = |stage, job: &Job| blocker(&deletion, (stage, job), &healthy, at(101));
    let by = Blocker::Outage { stage: Stage::Hard, lost_ms: 99_000, until: at(149) };
    assert_eq!(stopped(Stage::Hard, &job), Some(by.clone()));
    assert_eq!(
        by.to_string(),
        "for 1 min 39 s of its grace nobody could have cancelled; hard may begin at 1970-01-01T00:02:29.000Z"
    );
    for stage in [Stage::Announce, Stage::Recycle] {
        assert_eq!(stopped(stage, &job), None, "{stage}");
    }
    let held = Job { state: JobState::Held { due_at: at(50), by }, ..job.clone() };
    assert!(stopped(Stage::Hard, &held).is_some());
    let begun = Job { state: JobState::Ready { since: at(100), blocked: None }, ..job };
    assert_eq!(stopped(Stage::Hard, &begun), None);
}

/// In which seconds of five minutes a heartbeat came.
fn history() -> impl Strategy<Value = BTreeSet<i64>> {
    proptest::collection::vec((1i64..8, 1i64..12), 1..40).prop_map(|stretches| {
        let mut second = 0;
        let mut beats = BTreeSet::from([0]);
        for (healthy, silent) in stretches {
            beats.extend(second..second + healthy);
            second += healthy - 1 + silent;
            beats.insert(second);
        }
        beats
    })
}

/// Whether nobody could have cancelled in that second: one by one, and not as the rule counts.
fn silent(beats: &BTreeSet<i64>, second: i64) -> bool {
    let before = beats.range(..=second).next_back().copied().unwrap_or(0);
    let after = beats.range(second + 1..).next().copied().unwrap_or(before);
    after - before > 3
}

proptest! {
    #[test]
    fn it_begins_later_by_exactly_what_was_lost(beats in history(), from in 0i64..100, grace in 0i64..100) {
        let healthy = beaten(beats.iter().copied());
        let end = *beats.last().unwrap();
        let (from, due) = (from.min(end), from.min(end) + grace);
        let now = end.max(due).min(end + 3);
        let lost = (from..end).filter(|second| silent(&beats, *second)).count() as i64;
        prop_assert_eq!(healthy.lost_us(at(from), at(now)), lost * SECOND);
        let begins = begins(&healthy, (at(from), at(due)), at(now));
        let expected = if lost == 0 { now } else { now.max(due + lost) };
        prop_assert_eq!(begins, at(expected), "never before it is due, and all that was lost later");
    }

    #[test]
    fn with_fewer_outages_it_never_begins_later(
        beats in history(), more in proptest::collection::btree_set(0i64..300, 0..60), from in 0i64..100,
        grace in 0i64..100,
    ) {
        let end = *beats.last().unwrap();
        let (from, due) = (from.min(end), from.min(end) + grace);
        let fewer: BTreeSet<i64> = beats.iter().chain(more.range(..end)).copied().collect();
        let of = |beats: &BTreeSet<i64>| begins(&beaten(beats.iter().copied()), (at(from), at(due)), at(end));
        prop_assert!(of(&fewer) <= of(&beats));
    }

    #[test]
    fn once_it_may_begin_it_may_from_then_on(beats in history(), from in 0i64..100, grace in 0i64..100) {
        // Looked at with every heartbeat, as a coordinator does.
        let mut healthy = beaten([]);
        let (mut could, mut first) = (false, None);
        for second in beats.iter().copied().filter(|second| *second > from) {
            for beat in beats.range(healthy.beat.0 / SECOND + 1..=second) {
                healthy.beat(at(*beat));
            }
            let may = at(second) >= at(from + grace)
                && begins(&healthy, (at(from), at(from + grace)), at(second)) == at(second);
            prop_assert!(may || !could, "it could in {first:?}, and not in {second}");
            if may && !could {
                (could, first) = (true, Some(second));
            }
        }
    }
}
