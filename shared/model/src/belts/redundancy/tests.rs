use std::sync::Arc;

use super::*;
use crate::belts::PauseSelector;

const NOW: Timestamp = Timestamp(10);

fn going(id: i64, reached: Option<Stage>, restoring: bool) -> Going {
    let (soft_due, scope) = (reached.is_none().then_some(NOW), "tenants/acme".parse().unwrap());
    let (off, stopped, frozen, kept) = (reached > Some(Stage::Soft), false, false, false);
    Going { deletion: DeletionId(id), reached, soft_due, off, stopped, frozen, restoring, kept, scope }
}

/// Ceilings of every scope, and pauses of these.
fn in_force(to: Ceiling, paused: &[PauseSelector]) -> InForce {
    let pause = |covers: &PauseSelector| Pause {
        id: 1,
        covers: covers.clone(),
        by: "ops".parse().unwrap(),
        reason: "something smells".into(),
        since: NOW,
    };
    let pauses = paused.iter().map(pause).collect();
    InForce { pauses, ceilings: crate::decide::test_ceiling(to), ..InForce::default() }
}

fn member(name: &str, record: Option<(i64, Option<Stage>, bool)>) -> (String, Member) {
    let going = record.map(|(id, reached, restoring)| going(id, reached, restoring));
    ("db-main".to_owned(), Member { resource: format!("vm/{name}").parse().unwrap(), going })
}

fn first(groups: &Groups, resource: &str, own: &Going) -> Option<String> {
    first_under(&in_force(Ceiling::Purge, &[]), groups, resource, own)
}

fn first_under(in_force: &InForce, groups: &Groups, resource: &str, own: &Going) -> Option<String> {
    let first = groups.first(&resource.parse().unwrap(), own, (NOW, in_force, &Policy::default()));
    first.map(|(group, other)| format!("{group} {other}"))
}

/// Who goes before `a`, which has come to `reached` under the record d-5.
fn before(reached: Option<Stage>, others: &[Option<(i64, Option<Stage>, bool)>]) -> Option<String> {
    let names = ["b", "c", "d"];
    let others = names.into_iter().zip(others).map(|(name, going)| member(name, *going));
    let groups = Groups::of([member("a", Some((5, reached, false)))].into_iter().chain(others));
    first(&groups, "vm/a", &going(5, reached, false))
}

#[test]
fn one_of_a_group_goes_at_a_time() {
    let soft = Some(Stage::Soft);
    let b = Some("db-main vm/b".to_owned());
    assert_eq!(before(None, &[None, None]), None, "nobody else goes");
    assert_eq!(before(None, &[Some((1, None, false)), None]), None, "announced only");
    assert_eq!(before(None, &[Some((1, soft, false)), None]), b, "in soft");
    assert_eq!(before(None, &[Some((1, Some(Stage::Recycle), false)), None]), b, "nearly gone");
    assert_eq!(before(None, &[Some((1, soft, true)), None]), b, "not back yet");
    assert_eq!(before(None, &[]), None, "the only one left");
}

#[test]
fn a_group_that_is_retired_as_a_whole_is_not_bound() {
    let soft = Some(Stage::Soft);
    assert_eq!(before(None, &[Some((1, soft, false)), Some((9, None, false))]), None);
    let back = before(None, &[Some((1, soft, false)), Some((9, None, true))]);
    assert_eq!(back, Some("db-main vm/b".to_owned()), "one of them is being restored, and stays");
}

/// `a` and `b` are due today, and `c` may be as well: then all of them go at once. Whatever else is true of it, `b`
/// goes alone first.
#[test]
fn who_is_not_retired_now_is_not_retired_with_the_group() {
    let own = going(5, None, false);
    let b_goes = Some("db-main vm/b".to_owned());
    let by_policy = |c: Going, in_force: &InForce, policy: &Policy| {
        let third = Member { resource: "vm/c".parse().unwrap(), going: Some(c) };
        let both = [member("a", Some((5, None, false))), member("b", Some((1, Some(Stage::Soft), false)))];
        let groups = Groups::of(both.into_iter().chain([("db-main".to_owned(), third)]));
        let first = groups.first(&"vm/a".parse().unwrap(), &own, (NOW, in_force, policy));
        first.map(|(group, other)| format!("{group} {other}"))
    };
    let waits = |c: Going, in_force: &InForce| by_policy(c, in_force, &Policy::default());
    let open = in_force(Ceiling::Purge, &[]);
    let c = || going(9, None, false);
    assert_eq!(waits(c(), &open), None, "due by now");
    assert_eq!(waits(Going { reached: Some(Stage::Hard), soft_due: None, ..c() }, &open), None, "it goes");
    let later = Timestamp(NOW.0 + 1);
    assert_eq!(waits(Going { soft_due: Some(later), ..c() }, &open), b_goes, "due in years");
    assert_eq!(waits(Going { soft_due: None, ..c() }, &open), b_goes, "not announced");
    assert_eq!(waits(Going { kept: true, ..c() }, &open), b_goes, "held, protected, or a drill's");
    let observed = in_force(Ceiling::Announce, &[]);
    assert_eq!(waits(c(), &observed), b_goes, "its scope may go no further than announce");
    let protecting = |name: &str| Policy { protected: [name.parse().unwrap()].into(), ..Policy::default() };
    assert_eq!(by_policy(c(), &open, &protecting("vm/c")), b_goes, "the configuration protects it");
    let off = Going { reached: Some(Stage::Soft), soft_due: None, ..c() };
    assert_eq!(by_policy(off, &open, &protecting("vm/c")), b_goes, "also what is off by now");
    assert_eq!(by_policy(c(), &open, &protecting("vm/d")), None, "that is none of them");
    let mine = Going { kept: true, ..own.clone() };
    let all = [("a", 5, None), ("b", 1, Some(Stage::Soft))];
    let groups = Groups::of(all.map(|(name, id, reached)| member(name, Some((id, reached, false)))));
    assert_eq!(first(&groups, "vm/a", &own), None);
    assert_eq!(first(&groups, "vm/a", &mine), b_goes, "a drill comes back, and has to leave one there");
}

#[test]
fn who_is_held_by_anything_else_does_not_retire_by_then() {
    let (mut d, ..) = crate::decide::test_deletion();
    let mut soft_due = |state: JobState| {
        let soft = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap();
        soft.state = state;
        Going::of(&d).unwrap().soft_due
    };
    assert_eq!(soft_due(JobState::Scheduled { due_at: Some(NOW) }), Some(NOW));
    assert_eq!(soft_due(held(by_group())), Some(NOW), "it waits for nothing but the others");
    let pause = Blocker::Pause { pause: 1, what: "ops: something smells".into() };
    let untold = Blocker::Untold { since: NOW, from: NOW };
    let outage = Blocker::Outage { stage: Stage::Soft, lost_ms: 1, until: NOW };
    for by in [pause, untold, outage, Blocker::Protected] {
        assert_eq!(soft_due(held(by.clone())), None, "{by}");
    }
}

#[test]
fn what_a_deletion_says_of_its_soft_stage() {
    let (d, ..) = crate::decide::test_deletion();
    let soft = |state: JobState| {
        let mut d = d.clone();
        d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap().state = state;
        let going = Going::of(&d).unwrap();
        (going.off, going.stopped)
    };
    let blocked = Some(Blocker::Protected);
    assert_eq!(soft(JobState::Scheduled { due_at: Some(NOW) }), (false, false));
    assert_eq!(soft(JobState::Ready { since: NOW, blocked: None }), (false, false), "it waits for credit");
    assert_eq!(soft(JobState::Ready { since: NOW, blocked }), (false, true), "stopped between two steps");
    assert_eq!(soft(JobState::Parked { reason: "another uuid".into() }), (false, true));
    assert_eq!(soft(JobState::Waiting { until: NOW, reason: "no answer".into() }), (false, false));
    assert_eq!(soft(JobState::Done), (true, false));
}

fn held(by: Blocker) -> JobState {
    JobState::Held { due_at: NOW, by }
}

fn by_group() -> Blocker {
    Blocker::Redundancy { group: "db-main".into(), other: "vm/a".parse().unwrap() }
}

/// `a` is due as well as `c`, which nobody has looked at; `b` goes. Whatever stops `c` now, it stays, and `a` waits.
#[test]
fn what_stops_one_now_counts_before_anybody_has_looked_at_it() {
    let waits = |c: Going, paused: &[PauseSelector]| {
        let third = Member { resource: "vm/c".parse().unwrap(), going: Some(c) };
        let both = [member("a", Some((5, None, false))), member("b", Some((1, Some(Stage::Hard), false)))];
        let groups = Groups::of(both.into_iter().chain([("db-main".to_owned(), third)]));
        let own = going(5, None, false);
        first_under(&in_force(Ceiling::Purge, paused), &groups, "vm/a", &own).is_some()
    };
    let c = || Going { scope: "tenants/globex".parse().unwrap(), ..going(9, None, false) };
    assert!(!waits(c(), &[]), "nothing stops it");
    assert!(waits(Going { stopped: true, ..c() }, &[]), "its notice came back");
    assert!(waits(Going { frozen: true, ..c() }, &[]), "it is one of a batch");

    let all = PauseSelector::default();
    let of = |scope: &str| PauseSelector { scope: Some(scope.parse().unwrap()), ..all.clone() };
    let at = |stage| PauseSelector { stage: Some(stage), ..all.clone() };
    let kinds = |kind: &str| PauseSelector { kind: Some(kind.parse().unwrap()), ..all.clone() };
    let dns = PauseSelector { subsystem: Some("dns".parse().unwrap()), ..all.clone() };
    let both = PauseSelector { stage: Some(Stage::Soft), ..of("tenants/globex") };
    for stops in [all.clone(), of("tenants/globex"), of("tenants"), at(Stage::Soft), kinds("vm"), dns, both] {
        assert!(waits(c(), std::slice::from_ref(&stops)), "{stops}");
        let begun = Going { reached: Some(Stage::Soft), soft_due: None, ..c() };
        assert!(waits(begun.clone(), std::slice::from_ref(&stops)), "{stops}: it is not off yet");
        assert!(!waits(Going { off: true, ..begun }, &[stops]), "it is off");
    }
    let others = [of("tenants/glob"), at(Stage::Hard), kinds("image")];
    assert!(!waits(c(), &others), "they stop something else");

    let begun = Going { reached: Some(Stage::Soft), soft_due: None, ..c() };
    assert!(!waits(Going { frozen: true, ..begun.clone() }, &[]), "of that batch it has begun");
    assert!(waits(Going { stopped: true, ..begun.clone() }, &[]), "parked");
    assert!(!waits(Going { stopped: true, off: true, ..begun }, &[]), "what it was parked for is over");
}

/// Two in one scope, one in another that is paused, all of them due, and nobody has looked: by due date and record they are
/// claimed one after the other, in whatever order.
#[test]
fn of_a_group_that_is_due_as_a_whole_one_goes_while_another_is_paused() {
    let soft = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
    let globex = PauseSelector { scope: Some("tenants/globex".parse().unwrap()), ..soft };
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut members =
            [("a", 1), ("b", 2), ("c", 3)].map(|(name, id)| member(name, Some((id, None, false))));
        members[2].1.going.as_mut().unwrap().scope = "tenants/globex".parse().unwrap();
        let gone = |members: &[(String, Member)]| {
            members.iter().filter(|(_, m)| m.going.as_ref().unwrap().reached.is_some()).count()
        };
        let paused = in_force(Ceiling::Purge, std::slice::from_ref(&globex));
        for which in [order, order].into_iter().flatten() {
            look_under(&paused, &mut members, which - 1, which == 3);
        }
        assert_eq!(gone(&members), 1, "{order:?}");
        for which in [order, order].into_iter().flatten() {
            look(&mut members, which - 1, false);
        }
        assert_eq!(gone(&members), 3, "all of it is retired, {order:?}");
    }
}

/// Look at a member whose soft stage is due, as a claim or a recheck does: something else may stop it.
fn look(members: &mut [(String, Member)], which: usize, stopped: bool) {
    look_under(&in_force(Ceiling::Purge, &[]), members, which, stopped);
}

fn look_under(in_force: &InForce, members: &mut [(String, Member)], which: usize, stopped: bool) {
    let resource = members[which].1.resource.to_string();
    let own = members[which].1.going.clone().unwrap();
    if own.reached.is_some() {
        return;
    }
    let groups = Groups::of(members.to_vec());
    let looked_at = if stopped {
        Going { soft_due: due(&held(Blocker::Protected)), ..own }
    } else if first_under(in_force, &groups, &resource, &own).is_some() {
        Going { soft_due: due(&held(by_group())), ..own }
    } else {
        Going { reached: Some(Stage::Soft), soft_due: None, ..own }
    };
    members[which].1.going = Some(looked_at);
}

#[test]
fn nobody_goes_without_one_that_stays_and_nobody_waits_for_ever() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    let stopped: [&[usize]; 5] = [&[1], &[3], &[1, 2], &[2, 3], &[1, 2, 3]];
    for (order, stopped) in orders.iter().flat_map(|order| stopped.map(|stopped| (order, stopped))) {
        let records = [("a", 1, Some(Stage::Soft)), ("b", 2, None), ("c", 3, None), ("d", 4, None)];
        let mut members = records.map(|(name, id, reached)| member(name, Some((id, reached, false))));
        let gone = |members: &[(String, Member)]| {
            members.iter().filter(|(_, m)| m.going.as_ref().unwrap().reached.is_some()).count()
        };
        // They were held before the others were due.
        for which in stopped {
            look(&mut members, *which, true);
        }
        for which in [order, order].into_iter().flatten() {
            look(&mut members, *which, stopped.contains(which));
        }
        assert_eq!(gone(&members), 1, "{stopped:?} stay, looked at in the order {order:?}");
        for which in [order, order].into_iter().flatten() {
            look(&mut members, *which, false);
        }
        assert_eq!(gone(&members), 4, "all may go again, looked at in the order {order:?}");
    }
}

#[test]
fn what_stands_on_a_record_keeps_it() {
    let (d, ..) = crate::decide::test_deletion();
    assert!(!Going::of(&d).unwrap().kept);
    let hold = crate::deletion::Hold {
        id: 1,
        origin: "legal".parse().unwrap(),
        reason: "a lawsuit".into(),
        since: NOW,
    };
    let mut kept = [d.clone(), d.clone(), d.clone(), d];
    kept[0].protected = true;
    kept[1].holds.push(hold.clone());
    kept[2].resource_holds.push(hold);
    Arc::make_mut(&mut kept[3].record).requested_by = drill::actor();
    assert!(kept.iter().all(|d| Going::of(d).unwrap().kept));
}

#[test]
fn two_that_go_never_wait_for_each_other() {
    let stages = [None, Some(Stage::Soft), Some(Stage::Hard), Some(Stage::Purge), Some(Stage::Recycle)];
    for own in stages {
        for other in stages {
            let (a, b) = (going(5, own, false), going(7, other, false));
            let (b_first, a_first) = (goes_first(Some(&b), &a), goes_first(Some(&a), &b));
            assert!(!(a_first && b_first), "{own:?} {other:?}");
            assert_eq!(a_first || b_first, own.is_some() || other.is_some(), "{own:?} {other:?}");
        }
    }
}

#[test]
fn what_was_decided_since_counts_rather_than_what_was_read() {
    let (mut d, _, now, _) = crate::decide::test_deletion();
    let id = d.record.resource.id.clone();
    let read = going(d.id.0, None, false);
    let other = member("other", None);
    let read = Going { frozen: true, ..read };
    let mut groups =
        Groups::of([("g".to_owned(), Member { resource: id, going: Some(read) }), ("g".into(), other.1)]);
    groups.note(&d);
    let member = groups.0["g"].iter().find(|member| member.resource == d.record.resource.id).unwrap();
    assert!(member.going.as_ref().unwrap().frozen, "a deletion does not know of its batch");
    let own = going(d.id.0 + 1, None, false);
    assert_eq!(first(&groups, "vm/other", &own), None);
    let soft = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap();
    soft.state = JobState::Ready { since: now, blocked: None };
    groups.note(&d);
    assert!(first(&groups, "vm/other", &own).is_some(), "it was claimed since");
    d.status = RecordStatus::Rescued;
    groups.note(&d);
    assert_eq!(first(&groups, "vm/other", &own), None, "and is over");
}
