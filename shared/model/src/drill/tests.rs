//! When a drill begins, whose record it finds, and what follows from that. What is to be done about one with a record of
//! its own is in `decide/tests/drill`, where records go their way.
use super::*;
use crate::decide::{test_ceiling, test_deletion};
use crate::deletion::Record;

/// A drill that has just begun.
fn begun() -> Drill {
    let (d, day, now, _) = test_deletion();
    Drill::begin((d.record.resource.id.clone(), &d.plan), None, None, (now, day))
}

/// A record about its resource, which somebody made then.
fn record(by: Actor, created_at: Timestamp) -> Deletion {
    let (d, ..) = test_deletion();
    let record = Record { requested_by: by, created_at, ..(*d.record).clone() };
    Deletion { record: Arc::new(record), ..d }
}

fn somebody() -> Actor {
    "platform".parse().unwrap()
}

fn right_before(moment: Timestamp) -> Timestamp {
    Timestamp(moment.0 - 1)
}

fn verdict(next: Next) -> Verdict {
    let Next::Judge(verdict) = next else { panic!("{next:?}") };
    verdict
}

#[test]
fn a_record_is_its_own_that_of_an_earlier_one_or_somebody_elses() {
    let drill = begun();
    let (id, begun_at) = (test_deletion().0.id, drill.begun_at);
    for (live, whose) in [
        (None, Found::Free),
        (Some(record(actor(), begun_at)), Found::Own(id)),
        (Some(record(actor(), begun_at.plus_ms(1))), Found::Own(id)),
        (Some(record(actor(), right_before(begun_at))), Found::LeftBehind(id)),
        (Some(record(somebody(), begun_at)), Found::Foreign(id)),
        (Some(record(somebody(), right_before(begun_at))), Found::Foreign(id)),
    ] {
        assert_eq!(found(&drill, live.as_ref()), whose);
    }
}

#[test]
fn what_is_found_says_what_follows() {
    let drill = begun();
    let own = record(actor(), drill.begun_at);
    let left_behind = record(actor(), right_before(drill.begun_at));
    let foreign = record(somebody(), drill.begun_at);
    let over = drill.clone().judged(Verdict::unclear("tried"), drill.begun_at);
    let moments = [drill.begun_at, right_before(drill.finish_by), drill.finish_by];
    for (held, now) in [true, false].into_iter().flat_map(|held| moments.map(|now| (held, now))) {
        let then = |live: Option<&Deletion>| next(&drill, live, held, now);
        assert_eq!(then(Some(&own)), Next::Take(own.id));

        let said = verdict(then(Some(&foreign)));
        let unclear = matches!(&said, Verdict::Unclear { why } if why.contains("look at that one first"));
        assert!(unclear, "{said:?}");

        match then(Some(&left_behind)) {
            Next::Cancel(id, _) if now < drill.finish_by => assert_eq!(id, left_behind.id),
            Next::Judge(Verdict::Unclear { why }) if now >= drill.finish_by => {
                assert!(why.contains("look at that one first"), "{why}");
            }
            other => panic!("at {now}: {other:?}"),
        }

        match then(None) {
            Next::Make if held => {}
            Next::Judge(Verdict::Unclear { why }) if !held => {
                assert!(why.contains("no drills are held with vm/web01 any more"), "{why}");
            }
            other => panic!("held: {held}: {other:?}"),
        }

        // Of what is judged without a record there is nothing left to do.
        for live in [None, Some(&own), Some(&left_behind), Some(&foreign)] {
            assert_eq!(next(&over, live, held, now), Next::Wait);
        }
    }
}

#[test]
fn a_record_that_is_gone_shows_nothing() {
    let drill = Drill { deletion: Some(DeletionId(7)), ..begun() };
    let gone = verdict(next(&drill, None, true, drill.begun_at));
    assert!(matches!(&gone, Verdict::Unclear { why } if why == "d-7 is gone"), "{gone:?}");
    let told = drill.clone().judged(Verdict::failed("soft is parked"), drill.begun_at);
    assert_eq!(next(&told, None, true, drill.begun_at), Next::Wait);
}

#[test]
fn one_is_over_once_nothing_of_it_is_left() {
    let with = || Drill { deletion: Some(DeletionId(7)), ..begun() };
    let holds = Verdict::Holds { how: "2 steps were taken back".into() };
    for (drill, verdict, over) in [
        (begun(), None, false),
        (with(), None, false),
        (with(), Some(holds), true),
        (with(), Some(Verdict::failed("soft is parked")), false),
        (with(), Some(Verdict::unclear("it was cancelled")), false),
        (begun(), Some(Verdict::unclear("it is held")), true),
    ] {
        let at = drill.begun_at;
        let drill = Drill { judged: verdict.map(|verdict| Judged { verdict, at }), ..drill };
        assert_eq!(drill.is_over(), over, "{drill:?}");
    }
}

#[test]
fn whoever_asks_begins_one_and_whoever_asks_again_begins_no_other() {
    let open = begun();
    let began = open.begun_at;
    let over = open.clone().judged(Verdict::unclear("tried"), began);
    let sent = [None, Some(right_before(began)), Some(began), Some(began.plus_ms(1))];
    assert_eq!(sent.map(|sent| asked(None, sent)), [true; 4]);
    assert_eq!(sent.map(|sent| asked(Some(&open), sent)), [false; 4], "it goes on");
    assert_eq!(sent.map(|sent| asked(Some(&over), sent)), [true, false, false, true]);
    assert_eq!(sent.map(|sent| over.began_since(sent)), [false, true, true, false]);
}

#[test]
fn one_begins_once_everything_of_the_last_one_is_taken_back() {
    assert!(may_follow(None));
    for (status, may) in [
        (RecordStatus::Live, false),
        (RecordStatus::Restoring, false),
        (RecordStatus::Cancelled, true),
        (RecordStatus::Recycled, true),
        (RecordStatus::Rescued, true),
    ] {
        let record = Deletion { status, ..record(actor(), Timestamp(0)) };
        assert_eq!(may_follow(Some(&record)), may, "{status:?}");
    }
}

#[test]
fn a_record_is_known_to_the_drill_that_has_it() {
    let (made, other): (_, ResourceId) = (DeletionId(7), "vm/other".parse().unwrap());
    let with = Drill { deletion: Some(made), ..begun() };
    let resource = with.resource.clone();
    assert!(knows(&[begun(), with.clone()], &resource, made));
    assert!(!knows(&[], &resource, made));
    assert!(!knows(&[begun()], &resource, made), "it has none");
    assert!(!knows(std::slice::from_ref(&with), &resource, DeletionId(8)), "it has another one");
    assert!(!knows(&[with], &other, made), "it is about something else");
}

#[test]
fn what_no_drill_can_be_held_with_is_said() {
    let (d, ..) = test_deletion();
    let (resource, plan) = (&d.record.resource, &d.plan);
    let (origin, reason) = ("legal".parse().unwrap(), "a lawsuit".into());
    let hold = Hold { id: 1, origin, reason, since: Timestamp(0) };
    let (none, held): (&[Hold], &[Hold]) = (&[], std::slice::from_ref(&hold));
    let all: fn(&Instance) -> bool = |_| true;
    let no_dns: fn(&Instance) -> bool = |instance| instance.subsystem.as_str() != "dns";
    let (low, soft) = (test_ceiling(Ceiling::Announce), test_ceiling(Ceiling::Soft));
    let there = Some((resource, Presence::Registered, none));

    for ceilings in [&soft, &test_ceiling(Ceiling::Purge)] {
        assert!(Arc::ptr_eq(fit(&resource.id, there, Some(plan), all, ceilings).unwrap(), plan));
    }
    for (there, plan, known, ceilings, expected) in [
        (None, Some(plan), all, &soft, "vm/web01 is not registered"),
        (Some((resource, Presence::Tombstone, none)), Some(plan), all, &soft, "is not registered"),
        (Some((resource, Presence::Recycled, none)), Some(plan), all, &soft, "is not registered"),
        (there, None, all, &soft, "there is no plan for it"),
        (Some((resource, Presence::Registered, held)), Some(plan), all, &soft, "is held: legal: a lawsuit"),
        (there, Some(plan), no_dns, &soft, "needs dns.main, of which there is no key"),
        (there, Some(plan), all, &Ceilings::default(), "may go as far as observe: a drill needs soft"),
        (there, Some(plan), all, &low, "may go as far as announce: a drill needs soft"),
    ] {
        let why = fit(&resource.id, there, plan, known, ceilings).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}
