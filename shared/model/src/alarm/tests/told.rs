//! What is raised, what ends, and who is told of it when.
use super::*;
use crate::alarm::telling::{AGAIN_MS, NO_RECEIPT_SILENT_MS, OWNER_SILENT_MS, Open};

fn open(id: i64, alarm: Alarm, owner: &str, seen_at: Timestamp) -> Open {
    Open { id, alarm, owner: owner.into(), seen_at, over: false }
}

#[test]
fn what_is_new_is_raised_once_and_what_does_not_hold_ends() {
    let (now, zero) = (Timestamp(0).plus_ms(OWNER_SILENT_MS), Timestamp(0));
    let [one, two, three] = [1, 2, 3].map(|id| alarm(AlarmKind::Parked, id, "a", "x"));
    let there = [open(11, one.clone(), "", zero), open(12, two.clone(), "", zero)];
    let change = compare(&there, vec![two.clone(), three.clone(), three.clone()], "", now);
    assert_eq!((change.raise, change.again, change.end), (vec![three], vec![], vec![11]));
    // In other words it is still the same.
    let worse = Alarm { text: "y".into(), ..two.clone() };
    let change = compare(&there, vec![one, worse.clone()], "", now);
    assert_eq!(change, Change { again: vec![(12, worse)], ..Change::default() });
}

#[test]
fn what_a_process_says_of_itself_is_ended_by_itself_or_when_it_is_silent() {
    let mine = hold::orders_stopped("a", 60);
    let there =
        [open(1, mine.clone(), "a", Timestamp(0)), open(2, hold::orders_stopped("b", 60), "b", Timestamp(0))];
    let soon = Timestamp(0).plus_ms(OWNER_SILENT_MS - 1);
    let late = Timestamp(0).plus_ms(OWNER_SILENT_MS);
    assert_eq!(compare(&there, vec![], "", soon), Change::default(), "others do not know");
    assert_eq!(compare(&there, vec![], "a", soon).end, [1], "of itself alone");
    assert_eq!(compare(&there, vec![mine.clone()], "a", late).again, [(1, mine)], "it says that it lives");
    assert_eq!(compare(&there, vec![], "", late).end, [1, 2]);
}

/// Whoever was started anew says nothing of them before it has gone through all records.
#[test]
fn a_purge_without_a_receipt_is_not_forgotten_within_minutes_of_silence() {
    let whose = Some(("vm/web01".parse().unwrap(), "a".parse().unwrap()));
    let lacks = receipt::lacking(DeletionId(1), whose, "its audit chain is broken");
    let there = [
        open(1, lacks, "a (receipts)", Timestamp(0)),
        open(2, hold::orders_stopped("a", 60), "a", Timestamp(0)),
    ];
    let ended = |owner: &str, ms: u64| compare(&there, vec![], owner, Timestamp(0).plus_ms(ms)).end;
    for (what, owner, ms, expected) in [
        ("what else it said of itself is not believed any more", "", OWNER_SILENT_MS, vec![2]),
        ("it has a day", "", NO_RECEIPT_SILENT_MS - 1, vec![2]),
        ("and no longer", "", NO_RECEIPT_SILENT_MS, vec![1, 2]),
        ("it says by itself when it is over", "a (receipts)", 0, vec![1]),
    ] {
        assert_eq!(ended(owner, ms), expected, "{what}");
    }
    // Once it is signed, whoever is gone need not come back to say so.
    let signed = [Open { over: true, ..there[0].clone() }];
    let ended = |owner: &str, ms: u64| compare(&signed, vec![], owner, Timestamp(0).plus_ms(ms)).end;
    assert_eq!(ended("", OWNER_SILENT_MS), [1]);
    assert_eq!(ended("", OWNER_SILENT_MS - 1), Vec::<i64>::new(), "whoever lives says it by itself");
    assert_eq!(
        ended("b", OWNER_SILENT_MS),
        Vec::<i64>::new(),
        "it is ended by whoever looks at the job table"
    );
}

fn standing(ended: bool, seen: Option<u64>) -> Standing {
    Standing {
        id: 1,
        alarm: alarm(AlarmKind::Parked, 1, "a", "x"),
        raised_at: Timestamp(0),
        ended_at: ended.then_some(Timestamp(0)),
        acknowledged: seen.map(|ms| Acknowledged {
            by: "eva".parse().unwrap(),
            at: Timestamp(0).plus_ms(ms),
            reason: "on it".into(),
        }),
    }
}

#[test]
fn what_is_told_when() {
    let told = |phase, ms: u64| Telling {
        tries: 1,
        tried_at: Some(Timestamp(0)),
        told: Some((phase, Timestamp(0).plus_ms(ms))),
        ..Telling::default()
    };
    let new = Telling::default();
    let (raised, again, ended) = (Some(Phase::Raised), Some(Phase::Again), Some(Phase::Ended));
    for (what, standing, telling, after_ms, expected) in [
        ("it is new", standing(false, None), new.clone(), 0, raised),
        ("it was told", standing(false, None), told(Phase::Raised, 0), AGAIN_MS - 1, None),
        ("a day has passed", standing(false, None), told(Phase::Raised, 0), AGAIN_MS, again),
        ("and another one", standing(false, None), told(Phase::Again, AGAIN_MS), 2 * AGAIN_MS, again),
        ("somebody has seen it", standing(false, Some(0)), new.clone(), 0, None),
        ("and again after a week", standing(false, Some(0)), told(Phase::Raised, 0), ACKNOWLEDGED_MS, again),
        ("its end is told", standing(true, None), told(Phase::Raised, 0), 0, ended),
        ("also of what was seen", standing(true, Some(0)), told(Phase::Raised, 0), 0, ended),
        ("once", standing(true, None), told(Phase::Ended, 0), AGAIN_MS, None),
        ("it was over before anybody was told", standing(true, None), new, 0, ended),
    ] {
        let now = Timestamp(0).plus_ms(after_ms);
        assert_eq!(due(&standing, &telling, now, BackOff::default()), expected, "{what}");
    }
}

#[test]
fn a_route_that_fails_is_tried_again_with_back_off_and_by_one_at_a_time() {
    let now = Timestamp(0).plus_ms(1000);
    let back_off = BackOff::default();
    let due = |telling: &Telling, now| due(&standing(false, None), telling, now, back_off);
    let due_once = |telling: &Telling, now| due_once(telling, now, back_off);
    let failed = |failures| Telling { tries: 1, failures, tried_at: Some(now), ..Telling::default() };
    for failures in [1, 2, 7, u16::MAX] {
        let wait = back_off.after_ms(failures);
        let early = now.plus_ms(wait - 1);
        assert_eq!(due(&failed(failures), early), None, "{failures}");
        assert_eq!(due(&failed(failures), now.plus_ms(wait)), Some(Phase::Raised), "{failures}");
        assert!(due_once(&failed(failures), now.plus_ms(wait)) && !due_once(&failed(failures), early));
    }
    assert_eq!([1, 2, 3, 99].map(|failures| back_off.after_ms(failures)), [10_000, 20_000, 40_000, 900_000]);
    let leased = Telling { tries: 1, lease_until: Some(now), ..Telling::default() };
    assert_eq!(due(&leased, Timestamp(now.0 - 1)), None);
    assert_eq!(due(&leased, now), Some(Phase::Raised), "whoever had it has died");
    let told = Telling { told: Some((Phase::Raised, now)), ..Telling::default() };
    assert!(!due_once(&told, Timestamp::MAX));
}

#[test]
fn a_notice_says_what_to_do_and_reads_as_it_was_written() {
    for (phase, ended) in [(Phase::Raised, false), (Phase::Again, false), (Phase::Ended, true)] {
        let notice = Notice::of_alarm("l1", phase, standing(ended, None));
        let text = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), notice);
        assert_eq!(notice.text().contains("What to do now: look"), !ended);
        assert_eq!(notice.text().contains("sexton alarms acknowledge 1"), !ended);
        assert!(text.starts_with(r#"{"what":"alarm","ledger":"l1""#), "{text}");
    }
}
