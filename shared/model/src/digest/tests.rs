//! What a digest says.
use super::*;
use crate::access::Extent;
use crate::alarm::NOT_BACK_MS;
use crate::alarm::tests::not_back::restoring;
use crate::alarm::tests::{at, on, park, record, untold};
use crate::belts::PauseSelector;
use crate::belts::budget::{Counted, Exceeded, Group, Limit};
use crate::belts::census::daily::Missed;
use crate::belts::census::misplaced::Misplaced;
use crate::job::JobState;

/// As the tests' plan has them: announce 5 days before, hard 3 and purge 8 days after, the name free 38 days after.
const OFFSETS: [i32; 5] = [-5, 0, 3, 8, 38];

fn scope(name: &str) -> Scope {
    name.parse().unwrap()
}

fn ahead(scope_of: &str, stage: Stage, begun: bool, day: u8, count: u64) -> Ahead {
    Ahead { scope: scope(scope_of), stage, begun, day, offsets: OFFSETS, count }
}

fn day() -> (NaiveDate, Tz) {
    ("2026-12-10".parse().unwrap(), chrono_tz::Europe::Berlin)
}

fn made(material: Material) -> Digest {
    compose(material, day(), &at(on("2026-12-10")))
}

#[test]
fn what_follows_within_the_week_is_due_in_it_too() {
    let counted = |all: &[Ahead]| coming(all).into_iter().collect::<Vec<_>>();
    let line = |stage, count| ((scope("a"), stage), count);
    for (what, one, expected) in [
        (
            "soft follows five days later",
            ahead("a", Stage::Announce, false, 0, 4),
            vec![line(Stage::Announce, 4), line(Stage::Soft, 4)],
        ),
        ("but not in this week", ahead("a", Stage::Announce, false, 2, 4), vec![line(Stage::Announce, 4)]),
        ("the last day", ahead("a", Stage::Announce, false, 6, 4), vec![line(Stage::Announce, 4)]),
        (
            "what has begun is not due, and what follows is",
            ahead("a", Stage::Soft, true, 0, 2),
            vec![line(Stage::Hard, 2)],
        ),
        (
            "hard and purge, five days apart",
            ahead("a", Stage::Hard, false, 1, 1),
            vec![line(Stage::Hard, 1), line(Stage::Purge, 1)],
        ),
    ] {
        assert_eq!(counted(&[one]), expected, "{what}");
    }
    let two = [ahead("a", Stage::Hard, false, 0, 1), ahead("a", Stage::Soft, false, 3, 2)];
    let expected = [line(Stage::Soft, 2), line(Stage::Hard, 3), line(Stage::Purge, 1)];
    assert_eq!(counted(&two), expected, "together");
}

fn week(count: u64) -> Vec<Coming> {
    vec![Coming { scope: scope("a"), stage: Stage::Hard, count }]
}

#[test]
fn what_is_more_than_twice_the_average_and_five_more_stands_out() {
    for (now, weeks, stands) in [
        (100, vec![], false),
        (11, vec![5], true),
        (10, vec![5], false),
        (5, vec![0], true),
        (4, vec![0], false),
        (9, vec![4], true),
        (8, vec![4], false),
        (15, vec![10, 4, 7, 7], true),
        (14, vec![10, 4, 7, 7], false),
        (3, vec![100], false),
    ] {
        let material = Material {
            ahead: vec![ahead("a", Stage::Hard, false, 6, now)],
            weeks: weeks.iter().copied().map(week).collect(),
            ..Material::default()
        };
        let digest = made(material);
        assert_eq!(digest.stands_out.items.len(), if stands { 2 } else { 0 }, "{now} after {weeks:?}");
        assert_eq!(digest.compared_weeks as usize, weeks.len());
    }
    // Each scope may be as always, and all of them together not.
    let scopes = ["a", "b", "c"].map(|scope| ahead(scope, Stage::Hard, false, 6, 4));
    let digest = made(Material { ahead: scopes.to_vec(), weeks: vec![week(1)], ..Material::default() });
    let out = &digest.stands_out.items;
    assert_eq!((out.len(), out[0].scope.clone(), out[0].count, out[0].average_tenths), (1, None, 12, 10));
}

#[test]
fn it_is_made_once_it_is_time_and_not_made_up_for() {
    let daily = Daily { at: NaiveTime::from_hms_opt(8, 0, 0).unwrap(), zone: chrono_tz::Europe::Berlin };
    let due = |text: &str| {
        let at = chrono::DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&chrono::Utc);
        daily.due(Timestamp::from(at)).map(|day| day.to_string())
    };
    assert_eq!(due("2026-12-10T07:59:59+01:00"), None, "yesterday's is not made up for");
    assert_eq!(due("2026-12-10T08:00:00+01:00").as_deref(), Some("2026-12-10"));
    assert_eq!(due("2026-12-10T23:59:59+01:00").as_deref(), Some("2026-12-10"), "later that day it is");
    assert_eq!(due("2026-12-11T00:00:00+01:00"), None);
    assert_eq!(due("2026-07-10T08:00:00+02:00").as_deref(), Some("2026-07-10"), "by the local clock");
    let weeks: Vec<String> =
        Daily::weeks_before("2026-03-30".parse().unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(weeks, ["2026-03-23", "2026-03-16", "2026-03-09", "2026-03-02"]);
}

#[test]
fn what_stands_still_is_cut_and_the_longest_is_kept() {
    let mut material = Material::default();
    for n in 0..200 {
        let mut d = record(n, "reproducible", None);
        park(&mut d, Stage::Soft, "why");
        material.watched.see(&d, Some(Timestamp(1000 - n)), &at(on("2026-12-10")));
    }
    let digest = made(material);
    assert_eq!((digest.parked.items.len(), digest.parked.more), (LINES_MAX, 200 - LINES_MAX as u64));
    assert_eq!(digest.parked.items[0].deletion, DeletionId(199), "the longest first");
    assert!(digest.to_string().contains("and 180 more"), "{digest}");
}

#[test]
fn whom_nobody_could_tell_yet_is_listed_from_the_first_hour_on() {
    let (mut d, since) = (record(1, "reproducible", None), on("2026-12-10"));
    untold(&mut d, since);
    let mut material = Material::default();
    material.watched.see(&d, None, &at(since));
    park(&mut d, Stage::Announce, "not everybody could be told");
    material.watched.see(&d, Some(since), &at(since));
    let digest = made(material);
    let [one] = digest.untold.items.as_slice() else { panic!("{digest}") };
    assert_eq!(
        (one.deletion, one.since, one.why.as_str()),
        (DeletionId(1), Some(since), "the relay is full")
    );
    assert_eq!(digest.parked.items.len(), 1, "what is parked is listed there: {digest}");
    assert!(digest.headline().contains("1 parked, 1 not told yet"), "{digest}");
    let line = "Not everybody could be told yet, the longest first:\n  d-1 announce of vm/web01 in tenants/acme since ";
    assert!(digest.to_string().contains(line), "{digest}");
    // One that an earlier version has kept says nothing of it.
    let mut kept = serde_json::to_value(&digest).unwrap();
    kept.as_object_mut().unwrap().remove("untold").unwrap();
    assert!(serde_json::from_value::<Digest>(kept).unwrap().untold.items.is_empty());
}

#[test]
fn what_was_cancelled_and_is_not_back_is_listed_by_itself() {
    let since = on("2026-12-10");
    let d = restoring(since, JobState::Parked { reason: "another uuid".into() });
    let mut material = Material::default();
    material.watched.see(&d, Some(since), &at(Timestamp(since.plus_ms(NOT_BACK_MS).0 - 1)));
    material.watched.see(&d, Some(since), &at(since.plus_ms(NOT_BACK_MS)));
    let digest = made(material);
    let [one] = digest.not_back.items.as_slice() else { panic!("{digest}") };
    assert_eq!((one.deletion, one.job, one.since), (DeletionId(1), JobKind::Restore, Some(since)));
    assert!(one.why.contains("another uuid"), "{digest}");
    assert_eq!(digest.parked.items.len(), 1, "before that it is parked, and no more: {digest}");
    assert!(digest.headline().contains("1 cancelled and not back, 1 parked"), "{digest}");
    let line =
        "Cancelled, and not back, the longest first:\n  d-1 restore of vm/web01 in tenants/acme since ";
    assert!(digest.to_string().contains(line), "{digest}");
    // One that an earlier version has kept says nothing of it.
    let mut kept = serde_json::to_value(&digest).unwrap();
    kept.as_object_mut().unwrap().remove("not_back").unwrap();
    assert!(serde_json::from_value::<Digest>(kept).unwrap().not_back.items.is_empty());
}

#[test]
fn whoever_is_limited_sees_its_own() {
    let extent = Extent::Scopes([scope("a")].into());
    let still = |scope_of: &str| Still {
        deletion: DeletionId(1),
        resource: "vm/web01".parse().unwrap(),
        scope: scope(scope_of),
        job: JobKind::Stage(Stage::Soft),
        since: Some(Timestamp(0)),
        why: "hold: legal".into(),
        undo: String::new(),
    };
    let held = |scope_of: &str| HeldBy { scope: scope(scope_of), by: "hold".into(), count: 3 };
    let mut material = Material {
        ahead: vec![ahead("a", Stage::Hard, false, 0, 1), ahead("b", Stage::Hard, false, 0, 1)],
        weeks: vec![week(7), vec![Coming { scope: scope("b"), stage: Stage::Hard, count: 7 }]],
        held: vec![still("b"), still("a/c")],
        held_by: vec![held("a/c"), held("b")],
        ..Material::default()
    };
    let pause = |id, scope_of: Option<&str>| Pause {
        id,
        covers: PauseSelector { scope: scope_of.map(scope), ..PauseSelector::default() },
        by: "ops".parse().unwrap(),
        reason: "look".into(),
        since: Timestamp(0),
    };
    material.pauses = vec![pause(1, Some("b")), pause(2, Some("a/c")), pause(3, None)];
    let foreign = |scope_of: &str| Foreign {
        census: 1,
        kind: "vm".parse().unwrap(),
        scope: scope(scope_of),
        found_at: Timestamp(0),
        count: 1,
        named: Vec::new(),
    };
    material.foreign = vec![foreign("b"), foreign("a/c")];
    let elsewhere = |scope_of: &str| ListedElsewhere {
        census: 1,
        kind: "vm".parse().unwrap(),
        scope: scope(scope_of),
        found_at: Timestamp(0),
        count: 1,
        named: Vec::new(),
    };
    material.misplaced = vec![elsewhere("b"), elsewhere("a/c")];
    let limit = Limit { counted: Counted::Everywhere, most: 5, days: 1, uncounted: false };
    let batch = |batch, scope_of: &str| BatchFact {
        batch,
        group: Group { scope: scope(scope_of), kind: "vm".parse().unwrap(), stage: Stage::Hard },
        frozen_at: Timestamp(0),
        exceeded: Exceeded { members: 6, used: 0, before: 0, limit: limit.clone() },
        waiting: 6,
    };
    material.batches = vec![batch(1, "b"), batch(2, "a/c")];
    material.keep(&extent);
    let digest = made(material);
    let seen: Vec<&Scope> = digest.foreign.items.iter().map(|one| &one.scope).collect();
    assert_eq!(seen, [&scope("a/c")]);
    let seen: Vec<&Scope> = digest.misplaced.items.iter().map(|one| &one.scope).collect();
    assert_eq!(seen, [&scope("a/c")]);
    let batches: Vec<_> = digest.batches.items.iter().map(|one| (one.batch, one.needs_approval)).collect();
    assert_eq!(batches, [(2, true)]);
    let pauses: Vec<i64> = digest.pauses.items.iter().map(|pause| pause.id).collect();
    assert_eq!(pauses, [2, 3], "and what covers everything");
    let text = digest.to_string();
    assert!(text.contains(
        "Paused, the longest first:\n  pause 2 of scope a/c since 1970-01-01 00:00 UTC, by ops: look"
    ));
    assert!(text.contains("  pause 3 of everything since "), "{text}");
    let gone = "1 of vm in a/c, found by census 1 at 1970-01-01 00:00 UTC: not named, for more are missing than are kept by name";
    assert!(text.contains(gone), "{text}");
    assert!(digest.coming.items.iter().all(|line| line.scope == scope("a")), "{digest}");
    assert_eq!((digest.held.items.len(), digest.held.more, digest.held_by["hold"]), (1, 2, 3));
}

#[test]
fn people_read_all_of_it() {
    let mut material = Material {
        ahead: vec![
            ahead("tenants/acme", Stage::Announce, false, 0, 40),
            ahead("b", Stage::Hard, true, 0, 1),
        ],
        weeks: vec![week(1)],
        ..Material::default()
    };
    let foreign = |census, of: &str, count| Foreign {
        census,
        kind: "vm".parse().unwrap(),
        scope: scope(of),
        found_at: on("2027-01-09"),
        count,
        named: vec!["vm/web07".parse().unwrap(), "vm/web08".parse().unwrap()],
    };
    material.foreign = vec![foreign(9, "tenants/acme", 3), foreign(8, "b", 2)];
    let moved = Misplaced {
        id: "vm/db01".parse().unwrap(),
        listed_in: scope("tenants/acme"),
        registered_in: scope("tenants/other"),
    };
    material.misplaced = vec![ListedElsewhere {
        census: 7,
        kind: "vm".parse().unwrap(),
        scope: scope("tenants"),
        found_at: on("2027-01-09"),
        count: 4,
        named: vec![moved],
    }];
    let at = at(on("2027-01-10"));
    let overdue = record(1, "credential", Some("2026-12-20"));
    material.watched.see(&overdue, None, &at);
    let mut parked = record(2, "reproducible", None);
    park(&mut parked, Stage::Hard, "hypervisor.undefine refused: another uuid");
    material.watched.see(&parked, Some(on("2027-01-09")), &at);
    let digest = compose(material, day(), &at);
    let text = digest.to_string();
    for part in [
        "Digest of 2026-12-10 (Europe/Berlin)",
        "Credentials that should be gone:\n  d-1 vm/web01 in tenants/acme since 2026-12-18",
        "Dates that were missed:\n  d-1 vm/web01 in tenants/acme since 2026-12-20",
        "tenants/acme: 40 announce, 40 soft",
        "Stands out against 1 of the last weeks:\n  all scopes: 40 announce, where a week has 0.0",
        "Deleted by others, or registered wrongly, as censuses of the last day found:\n  3 of vm in tenants/acme, \
         found by census 9 at 2027-01-0",
        ": vm/web07, vm/web08 and 1 more\n  2 of vm in b, found by census 8 at ",
        ", 5 deleted by others, 4 listed in another scope",
        "Listed in another scope than they are registered in, as censuses of the last day found:\n  4 of vm, found by census 7 \
         of tenants at 2027-01-0",
        ": vm/db01 (listed in tenants/acme, registered in tenants/other) and 3 more\n",
        "Parked, the longest first:\n  d-2 hard of vm/web02 in tenants/acme since 2027-01-08",
        "another uuid",
        "another uuid [undo: it cannot be cancelled any more; its data is there until purge begins",
        "[undo: everything: nothing was changed yet; `sexton cancel` ends it; at least until ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest, "and programs, too");
    // One that an earlier version has kept says nothing of these.
    let mut kept = serde_json::to_value(&digest).unwrap();
    kept.as_object_mut().unwrap().remove("misplaced").unwrap();
    assert!(serde_json::from_value::<Digest>(kept).unwrap().misplaced.items.is_empty());
}

#[test]
fn whoever_is_limited_is_told_which_censuses_of_its_own_do_not_come() {
    let missed = |of: &str| Missed {
        kind: "vm".parse().unwrap(),
        scope: scope(of),
        every_hours: 24,
        since: None,
        last: None,
        alarms: false,
    };
    let all = Material {
        lacks: vec!["no route".to_owned()],
        missed: vec![missed("a/c"), missed("b")],
        ..Material::default()
    };
    let mut limited = all.clone();
    limited.keep(&Extent::Scopes([scope("a")].into()));
    let [lack] = made(limited).lacks.try_into().unwrap();
    assert!(lack.starts_with("no complete census of vm in a/c, "), "{lack}");
    assert_eq!(made(all).lacks.len(), 3);
}
