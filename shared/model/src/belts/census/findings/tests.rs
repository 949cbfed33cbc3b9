use std::collections::BTreeSet;

use super::super::{AsRegistered, Listed, Refusal};
use super::*;

const DAY_US: i64 = 86_400_000_000;
const NOW: Timestamp = Timestamp(100 * DAY_US);
static EVERYWHERE: Extent = Extent::Everywhere;

fn scope(scope: &str) -> Scope {
    scope.parse().unwrap()
}

fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

fn identity(uuid: &str) -> Identity {
    BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]).try_into().unwrap()
}

fn as_registered() -> AsRegistered {
    AsRegistered { scope: scope("tenants/acme"), going: false }
}

fn taken(census: i64, of: &str, taken_at: Timestamp, unknown: u64) -> Taken {
    Taken {
        census,
        kind: "vm".parse().unwrap(),
        scope: scope(of),
        credential: "census-ro".to_owned(),
        taken_at,
        accepted_at: taken_at,
        counts: BTreeMap::new(),
        unregistered: BTreeMap::new(),
        misplaced: BTreeMap::new(),
        misplaced_named: Vec::new(),
        more: false,
        missing: 0,
        missing_named: BTreeSet::new(),
        missing_marked: Vec::new(),
        newly_missing: 0,
        unknown,
        unknown_named: BTreeSet::new(),
        of_no_scope: 0,
        told: false,
        told_everywhere: false,
    }
}

fn latest(of: &str, believed_at: Option<Timestamp>, refused_at: Option<Timestamp>) -> Latest {
    let refused = refused_at.map(|at| Refusal {
        at,
        by: "platform".parse().unwrap(),
        credential: "census-ro".to_owned(),
        listed: 1,
        why: "the sentinel vm/secret is missing".to_owned(),
        missing: 0,
        missing_named: BTreeSet::new(),
        newly_missing: 0,
        not_taken: false,
        tried_at: None,
        failing_since: None,
    });
    Latest { kind: "vm".parse().unwrap(), scope: scope(of), believed_at, refused }
}

/// One census of `tenants`, believed an hour ago, that found so many and keeps five of them.
fn known(unknown: u64) -> Known {
    let at = Timestamp(NOW.0 - DAY_US / 24);
    Known {
        latest: vec![latest("tenants", Some(at), None)],
        last: vec![taken(7, "tenants", at, unknown)],
        kept: BTreeMap::from([(("vm".parse().unwrap(), scope("tenants")), 5)]),
    }
}

fn stranger(name: &str, of: Option<&str>) -> Kept {
    let id = vm(name);
    let stranger = Stranger { id, scope: of.map(scope), identity: Some(identity(name)), instance: None };
    Kept { stranger, listed_in: scope("tenants"), census: 7, first_seen: Timestamp(NOW.0 - 3 * DAY_US) }
}

fn asked(extent: &Extent) -> Asked<'_> {
    Asked { extent, kind: None, scope: None, day: Day::Calendar, now: NOW }
}

fn found(known: &Known, kept: Kept, extent: &Extent) -> Option<Finding> {
    known.judge(asked(extent)).finding(kept, false, Some(3))
}

#[test]
fn what_nobody_has_registered_is_kept_with_its_identity_and_bounded() {
    let listed =
        |name: &str| Listed { id: vm(name), scope: scope("tenants/acme"), identity: Some(identity(name)) };
    let stray = Stranger { id: vm("stray"), scope: None, identity: None, instance: None };
    let census = Census {
        kind: "vm".parse().unwrap(),
        scope: scope("tenants"),
        credential: "census-ro".to_owned(),
        new_credential: false,
        fewer: false,
        more: false,
        taken_at: NOW,
        total: 2,
        listed: vec![listed("a"), listed("b")],
        unregistered: vec![stray.clone()],
        itself: true,
    };
    let strangers = census.strangers(&[(vm("a"), as_registered())].into());
    let b = Stranger {
        id: vm("b"),
        scope: Some(scope("tenants/acme")),
        identity: Some(identity("b")),
        instance: None,
    };
    assert_eq!(strangers, [b, stray.clone()]);
    let many = Census { unregistered: vec![stray; STRANGERS_MAX + 1], ..census };
    assert_eq!(many.strangers(&BTreeMap::new()).len(), STRANGERS_MAX);
}

#[test]
fn it_was_first_seen_when_it_was_the_same_one() {
    let strangers = |names: &[&str]| -> Vec<Stranger> {
        names.iter().map(|name| stranger(name, Some("tenants/acme")).stranger).collect()
    };
    let first = kept(&taken(1, "tenants", Timestamp(10), 2), strangers(&["a", "b"]), &[]);
    assert_eq!(first.iter().map(|one| one.first_seen.0).collect::<Vec<_>>(), [10, 10]);
    let mut next = strangers(&["a", "b", "c"]);
    next[1].identity = Some(identity("another"));
    let second = kept(&taken(2, "tenants", Timestamp(20), 3), next, &first);
    let seen: Vec<_> = second.iter().map(|one| (one.census, one.first_seen.0)).collect();
    assert_eq!(seen, [(2, 10), (2, 20), (2, 20)], "b is another one by now, and c is new");
    let third = kept(&taken(3, "tenants", Timestamp(30), 0), Vec::new(), &second);
    assert_eq!(third, [], "they are gone");
}

#[test]
fn a_stranger_of_the_last_census_is_a_finding_with_a_record_that_has_no_date() {
    let finding = found(&known(5), stranger("x", Some("tenants/acme")), &EVERYWHERE).unwrap();
    assert_eq!((finding.census, finding.identity.as_ref()), (7, Some(&identity("x"))));
    assert_eq!(finding.first_seen, Timestamp(NOW.0 - 3 * DAY_US));
    let Prefilled { register, delete, plan, lacks } = finding.record;
    let resource = json!({ "id": "vm/x", "scope": "tenants/acme", "identity": { "uuid": "x" } });
    assert_eq!(register, json!({ "resources": [resource], "whole": true }));
    let reason = format!(
        "found by census 7 of vm in tenants, begun at {}: registered by nobody",
        Timestamp(NOW.0 - DAY_US / 24)
    );
    assert_eq!(delete, json!({ "resource": "vm/x", "reason": reason }), "and no date");
    assert_eq!((plan, lacks), (Some(3), vec![Lack::Criticality, Lack::Date]));
}

#[test]
fn what_the_listing_does_not_say_is_left_to_a_person() {
    let mut kept = stranger("x", None);
    kept.stranger.identity = None;
    kept.stranger.instance = Some("hypervisor.a".parse().unwrap());
    let finding = known(5).judge(asked(&EVERYWHERE)).finding(kept, false, None).unwrap();
    let resource = json!({ "id": "vm/x", "instances": { "hypervisor": "a" } });
    assert_eq!(finding.record.register["resources"], json!([resource]));
    let lacks = [Lack::Plan, Lack::Scope, Lack::Identity, Lack::Criticality, Lack::Date];
    assert_eq!(finding.record.lacks, lacks);
}

#[test]
fn what_is_registered_by_now_or_of_an_earlier_census_is_none() {
    let known = known(5);
    let judge = known.judge(asked(&EVERYWHERE));
    let one = || stranger("x", Some("tenants/acme"));
    assert!(judge.finding(one(), false, None).is_some());
    assert_eq!(judge.finding(one(), true, None), None);
    assert_eq!(judge.finding(Kept { census: 6, ..one() }, false, None), None);
    assert_eq!(judge.finding(Kept { listed_in: scope("lab"), ..one() }, false, None), None);
}

#[test]
fn a_refused_or_an_old_census_gives_none_and_says_why() {
    let one = || stranger("x", Some("tenants/acme"));
    let mut refused = known(5);
    refused.latest[0] = latest("tenants", refused.latest[0].believed_at, Some(NOW));
    assert_eq!(found(&refused, one(), &EVERYWHERE), None);
    let [source] = refused.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!(source.standing, Standing::Refused);
    assert!(source.why.unwrap().contains("not believed (1970-04-11T00:00:00.000Z): the sentinel vm/secret"));
    let mut old = known(5);
    let long_ago = Timestamp(NOW.0 - 2 * DAY_US);
    old.latest[0].believed_at = Some(long_ago);
    assert_eq!(found(&old, one(), &EVERYWHERE), None);
    let [source] = old.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!(source.standing, Standing::Old);
    assert!(source.why.unwrap().contains(&long_ago.to_string()));
    let never = Known { latest: vec![latest("tenants", None, Some(NOW))], ..Known::default() };
    let [source] = never.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!((source.standing, source.census, source.more), (Standing::Refused, None, None));
}

#[test]
fn what_was_found_stands_while_the_next_census_is_only_not_listed() {
    let mut known = known(5);
    known.latest[0] = latest("tenants", known.latest[0].believed_at, Some(NOW));
    known.latest[0].refused.as_mut().unwrap().not_taken = true;
    assert!(found(&known, stranger("x", Some("tenants/acme")), &EVERYWHERE).is_some());
    let [source] = known.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!((source.standing, source.why), (Standing::Believed, None));
    known.latest[0].believed_at = None;
    let [source] = known.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!((source.standing, source.why.as_deref()), (Standing::Old, Some("no census was believed")));
}

#[test]
fn whoever_is_limited_to_scopes_sees_what_is_known_to_be_of_them() {
    let acme = Extent::Scopes([scope("tenants/acme")].into());
    let known = known(9);
    let sees = |of: Option<&str>| found(&known, stranger("x", of), &acme).is_some();
    assert_eq!(
        [Some("tenants/acme"), Some("tenants/acme/web"), Some("tenants/ac"), Some("tenants"), None].map(sees),
        [true, true, false, false, false]
    );
    assert!(found(&known, stranger("x", None), &EVERYWHERE).is_some());
    let [source] = known.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!((source.unknown, source.more), (Some(9), Some(4)), "not all are kept");
    let [source] = known.judge(asked(&acme)).sources().try_into().unwrap();
    assert_eq!((source.unknown, source.more), (None, None), "of a scope around its own");
    let all = Extent::Scopes([scope("tenants")].into());
    let [source] = known.judge(asked(&all)).sources().try_into().unwrap();
    assert_eq!((source.unknown, source.more), (Some(9), Some(4)), "all of it is of its scope");
    let mut listed = known.clone();
    listed.last[0].of_no_scope = 3;
    let [source] = listed.judge(asked(&all)).sources().try_into().unwrap();
    assert_eq!((source.unknown, source.more), (Some(6), None), "whose three of them are is not known");
    let [source] = listed.judge(asked(&EVERYWHERE)).sources().try_into().unwrap();
    assert_eq!((source.unknown, source.more), (Some(9), Some(4)));
    let mut refused = known.clone();
    refused.latest[0] = latest("tenants", None, Some(NOW));
    let [source] = refused.judge(asked(&acme)).sources().try_into().unwrap();
    assert_eq!(source.why.as_deref(), Some("the newest census was not believed"), "and nobody is named");
    let lab = Extent::Scopes([scope("lab")].into());
    assert_eq!(known.judge(asked(&lab)).sources(), []);
}

#[test]
fn a_kind_and_a_scope_may_be_asked_for() {
    let known = known(5);
    let found = |kind: Option<&str>, of: Option<&str>| {
        let (kind, of) = (kind.map(|kind| kind.parse::<Kind>().unwrap()), of.map(scope));
        let judge = known.judge(Asked { kind: kind.as_ref(), scope: of.as_ref(), ..asked(&EVERYWHERE) });
        let finding = judge.finding(stranger("x", Some("tenants/acme")), false, None);
        (finding.is_some(), judge.sources().len())
    };
    assert_eq!(found(Some("vm"), Some("tenants/acme")), (true, 1));
    assert_eq!(found(Some("image"), None), (false, 0));
    assert_eq!(found(None, Some("tenants/other")), (false, 1), "the census speaks of it, too");
    assert_eq!(found(None, Some("lab")), (false, 0));
}

#[test]
fn the_latest_census_that_speaks_of_a_scope_is_the_one_that_counts() {
    let known = |us: i64| and_of_acme(us, us, None);
    let one = || stranger("x", Some("tenants/acme/web"));
    assert_eq!(found(&known(1), one(), &EVERYWHERE), None, "a later one does not list it any more");
    assert!(found(&known(1), stranger("x", Some("tenants/other")), &EVERYWHERE).is_some());
    assert!(found(&known(-1), one(), &EVERYWHERE).is_some());
}

/// And one of `tenants/acme`, begun and believed so long after the other, in microseconds, and maybe refused since.
fn and_of_acme(begun: i64, believed: i64, refused: Option<i64>) -> Known {
    let mut known = known(5);
    let at = |us: i64| Timestamp(known.last[0].taken_at.0 + us);
    let one = latest("tenants/acme", Some(at(believed)), refused.map(at));
    let last = taken(8, "tenants/acme", at(begun), 0);
    known.latest.push(one);
    known.last.push(last);
    known
}

#[test]
fn one_around_it_takes_none_away_unless_it_stands_and_was_begun_later() {
    let stays = |begun: i64, believed: i64, refused: Option<i64>| {
        let known = and_of_acme(begun, believed, refused);
        found(&known, stranger("x", Some("tenants/acme")), &EVERYWHERE).is_some()
    };
    assert_eq!([stays(1, 2, None), stays(-1, -1, None)], [false, true]);
    assert!(stays(1, 2, Some(3)), "it was refused since");
    assert!(stays(-1, 2, None), "it was begun earlier, though it was believed later");
}
