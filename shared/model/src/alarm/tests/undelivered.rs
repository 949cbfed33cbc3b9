//! A notice that is not delivered.
use super::*;

/// It alarms hours after it failed, and not only once it has been parked for a day; as long as it is so, whatever its job does
/// meanwhile.
#[test]
fn a_notice_that_is_not_delivered_alarms_after_hours() {
    let (mut d, since) = (record(1, "reproducible", None), on("2026-12-05"));
    let hours = u64::from(hold::UNTOLD_HOURS) * 3_600_000;
    untold(&mut d, since);
    assert_eq!(kinds(&d, None, Timestamp(since.plus_ms(hours).0 - 1)), []);
    let later = since.plus_ms(hours);
    let alarm = of_deletion(&d, None, &at(later)).remove(0);
    assert_eq!((alarm.kind, alarm.key().as_str()), (AlarmKind::Untold, "untold/d-1"));
    let said = [format!("since {since}"), "no route".to_owned()];
    assert!(said.iter().all(|part| alarm.text.contains(part)), "{alarm:?}");
    assert!(alarm.todo.contains("it is tried again by itself, for three days"), "{}", alarm.todo);
    for state in [
        JobState::Ready { since: later, blocked: None },
        JobState::Waiting { until: later, reason: "another answer".into() },
        JobState::Parked { reason: "not everybody could be told".into() },
    ] {
        set(&mut d, Stage::Announce, state.clone());
        let found = of_deletion(&d, Some(since), &at(later.plus_ms(DAY_MS)));
        let told: Vec<_> = found.iter().map(|one| (one.kind, one.text.as_str())).collect();
        assert_eq!(told, [(AlarmKind::Untold, alarm.text.as_str())], "{state:?}: the same one, once");
        let (one, by_itself) = (&found[0], !matches!(state, JobState::Parked { .. }));
        assert_eq!(one.key(), alarm.key(), "{state:?}");
        assert_eq!(one.todo.contains("it is tried again by itself"), by_itself, "{state:?}: {}", one.todo);
        for word in ["not tried again by itself", "sexton retry d-1", "sexton acknowledge d-1 --mark "] {
            assert_eq!(one.todo.contains(word), !by_itself, "{state:?}: {word}: {}", one.todo);
        }
    }
    let rules = Rules { untold_hours: 1, ..Rules::default() };
    let early = Moment { rules, ..at(since.plus_ms(3_600_000)) };
    assert_eq!(of_deletion(&d, None, &early).len(), 1, "sooner, if that is configured");

    set(&mut d, Stage::Announce, JobState::Cancelled);
    d.status = RecordStatus::Restoring;
    assert_eq!(kinds(&d, None, later), [], "whoever cancels wants nobody told");
    d.status = RecordStatus::Live;
    let job = d.jobs.iter_mut().find(|job| job.id.slot() == Stage::Announce.index()).unwrap();
    job.cursor += 1;
    set(&mut d, Stage::Announce, JobState::Done);
    assert_eq!(kinds(&d, None, later), [], "everybody was told by now");
}
