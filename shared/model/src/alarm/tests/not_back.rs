//! What was cancelled, and does not come back.
use super::*;
use crate::alarm::telling::Open;
use crate::drill;
use crate::id::JobId;
use crate::job::{Job, JobKind, Out, Phase};

/// Cancelled then, behind soft: its restore stands so.
pub(crate) fn restoring(since: Timestamp, state: JobState) -> Deletion {
    let mut d = record(1, "reproducible", None);
    for stage in [Stage::Announce, Stage::Soft] {
        set(&mut d, stage, JobState::Done);
        let steps = d.plan.stage(stage).steps.len();
        d.jobs[usize::from(stage.index())].cursor = u16::try_from(steps).unwrap();
    }
    for job in d.jobs.iter_mut().filter(|job| job.id.slot() > Stage::Soft.index()) {
        (job.state, job.ended_at) = (JobState::Cancelled, Some(since));
    }
    let id = JobId::of(d.id, JobKind::RESTORE_SLOT);
    d.jobs.push(Job { state, phase: Phase::Act, ..Job::new(id, JobKind::Restore, None) });
    d.status = RecordStatus::Restoring;
    d
}

fn out_until(deadline: Timestamp) -> Out {
    let fence = Fence { epoch: 1, number: 1 };
    Out { fence, deadline, lease_until: deadline.plus_ms(1), started: true, performer: None }
}

/// Its restore.
fn restore(d: &mut Deletion) -> &mut Job {
    d.jobs.last_mut().unwrap()
}

#[test]
fn what_is_not_back_within_ten_minutes_alarms_whatever_keeps_it() {
    let since = on("2026-12-11");
    let late = since.plus_ms(10 * 60_000);
    for (what, state, said) in [
        ("its consumer is down", JobState::Ready { since, blocked: None }, "its restore stands at "),
        (
            "it is answered that it is busy",
            JobState::Waiting { until: late, reason: "busy".into() },
            "its restore stands at ",
        ),
        ("a person has to look", JobState::Parked { reason: "no such host".into() }, "parked: no such host"),
        ("its order is lost", JobState::Running(out_until(late)), "its restore stands at "),
    ] {
        let d = restoring(since, state);
        assert_eq!(kinds(&d, Some(since), Timestamp(late.0 - 1)), [], "{what}");
        let alarms = of_deletion(&d, Some(since), &at(late));
        let [alarm] = &alarms[..] else { panic!("{what}: {alarms:?}") };
        assert_eq!((alarm.kind, alarm.key().as_str()), (AlarmKind::NotBack, "not_back/d-1"), "{what}");
        assert_eq!(alarm.severity, Severity::Critical);
        let cancelled = format!("vm/web01 was cancelled at {since}, and is not back: ");
        assert!(alarm.text.starts_with(&cancelled) && alarm.text.contains(said), "{what}: {alarm:?}");
        let parked = alarm.todo.contains("sexton retry d-1");
        assert_eq!(
            parked,
            matches!(restore(&mut d.clone()).state, JobState::Parked { .. }),
            "{what}: {alarm:?}"
        );
        // Whoever knows that is not told a day later that it is parked.
        assert_eq!(kinds(&d, Some(since), late.plus_ms(DAY_MS)), [AlarmKind::NotBack], "{what}");
    }
}

#[test]
fn a_restore_within_its_time_does_not_alarm() {
    let since = on("2026-12-11");
    let late = since.plus_ms(10 * 60_000);
    let running = || JobState::Running(out_until(late.plus_ms(60_000)));
    let d = restoring(since, running());
    assert_eq!(kinds(&d, None, late), [], "it is carried out, and its deadline is ahead");
    assert_eq!(kinds(&d, None, late.plus_ms(60_000)), [AlarmKind::NotBack], "until then");
    for (attempts, in_vain) in [(1, 0), (0, 1)] {
        let mut again = restoring(since, running());
        (restore(&mut again).attempts, restore(&mut again).in_vain) = (attempts, in_vain);
        assert_eq!(kinds(&again, None, late), [AlarmKind::NotBack], "it was ordered in vain before");
    }
    // It waits until no order of the stages can be carried out any more.
    let mut waits = restoring(since, JobState::Waiting { until: late, reason: "waits".into() });
    waits.jobs[usize::from(Stage::Soft.index())].quiet_after = since.plus_ms(60_000);
    assert_eq!(kinds(&waits, None, late), []);
    assert_eq!(kinds(&waits, None, late.plus_ms(60_000)), [AlarmKind::NotBack]);
    // And for the answer to the one that is out.
    let mut ends = restoring(since, JobState::Ready { since, blocked: None });
    ends.jobs.pop();
    set(&mut ends, Stage::Soft, JobState::Cancelling(out_until(late.plus_ms(60_000))));
    assert_eq!(kinds(&ends, None, late), []);
    let alarm = of_deletion(&ends, None, &at(late.plus_ms(60_000))).remove(0);
    assert!(alarm.text.ends_with("is not back: an order of soft is still out"), "{alarm:?}");
}

#[test]
fn what_nobody_cancelled_and_what_a_drill_brings_back_does_not_alarm_so() {
    let since = on("2026-12-11");
    let much_later = since.plus_ms(DAY_MS);
    let stands = || JobState::Ready { since, blocked: None };
    let mut over = restoring(since, stands());
    over.status = RecordStatus::Cancelled;
    assert_eq!(kinds(&over, None, much_later), []);
    let mut held = restoring(since, stands());
    Arc::make_mut(&mut held.record).requested_by = drill::actor();
    assert_eq!(kinds(&held, None, much_later), [], "it says by itself what came of it");
    let rules = Rules { not_back_ms: 0, ..Rules::default() };
    let soon = of_deletion(&restoring(since, stands()), None, &Moment { rules, ..at(since) });
    assert_eq!(soon.len(), 1, "sooner, if that is so said");
}

/// Each step begins with an order that is out for the first time: nobody is told because of it that it is over, and a moment later that
/// it is not.
#[test]
fn what_has_alarmed_is_not_over_before_it_is_back() {
    let since = on("2026-12-11");
    let late = since.plus_ms(10 * 60_000);
    let mut d = restoring(since, JobState::Ready { since, blocked: None });
    let raised = of_deletion(&d, None, &at(late));
    assert_eq!(
        (raised.len(), excused(&d, &at(late))),
        (1, None),
        "it stands in line, and nothing excuses it"
    );
    let many =
        [Alarm { subject: Subject::Scope { scope: raised[0].scope.clone().unwrap() }, ..raised[0].clone() }];
    let others = [Alarm { kind: AlarmKind::Parked, ..raised[0].clone() }];
    for cursor in [0, 1] {
        (restore(&mut d).cursor, restore(&mut d).state) =
            (cursor, JobState::Running(out_until(late.plus_ms(60_000))));
        assert_eq!(kinds(&d, None, late), [], "{cursor}: it raises none");
        let held = |open: &[Alarm]| -> Vec<String> {
            let mut holding = Holding::beside(open);
            if let Some(alarm) = excused(&d, &at(late)) {
                holding.keep(alarm);
            }
            holding.finish().iter().map(Alarm::key).collect()
        };
        assert_eq!(held(&raised), ["not_back/d-1"], "{cursor}: it is told of");
        let together =
            "{cursor}: it is one of many that are told of together, and stays so when they are few";
        assert_eq!(held(&many), [many[0].key()], "{together}");
        assert!(held(&others).is_empty() && held(&[]).is_empty(), "{cursor}: nobody was told of it");
        let open = Open { id: 7, alarm: raised[0].clone(), owner: String::new(), seen_at: late, over: false };
        let kept = excused(&d, &at(late)).into_iter().collect();
        let change = compare(&[open], kept, "", late);
        assert!(change.raise.is_empty() && change.end.is_empty(), "{cursor}: {change:?}");
    }
    assert_eq!(excused(&d, &at(Timestamp(late.0 - 1))), None, "nothing is late yet");
    d.status = RecordStatus::Cancelled;
    assert_eq!(excused(&d, &at(late)), None, "it is back");
}
