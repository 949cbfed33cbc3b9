use super::super::listing::tests::{entry, instance, listing, page, vm};
use super::super::{AsRegistered, Rules, Sentinel};
use super::*;
use crate::time::Timestamp;

fn registered(name: &str, scope: &str, at: &str) -> (ResourceId, Registered) {
    let identity = entry(name).identity.unwrap();
    (vm(name), Registered { scope: scope.parse().unwrap(), identity, instance: instance(at) })
}

fn inventory() -> BTreeMap<ResourceId, Registered> {
    [
        registered("one", "tenants/acme", "a"),
        registered("two", "tenants", "a"),
        registered("zoo", "tenants/acme", "b"),
        registered("gone", "tenants/acme", "b"),
        registered("lab", "lab", "c"),
    ]
    .into()
}

/// Both instances have listed everything: one in two pages.
fn pages() -> Vec<(Instance, Page)> {
    vec![
        (instance("b"), page(None, &["lab", "zoo"], (false, 2))),
        (instance("a"), page(None, &["one"], (true, 3))),
        (instance("a"), page(Some("one"), &["stray", "two"], (false, 3))),
    ]
}

fn taken(
    pages: &[(Instance, Page)],
    inventory: &BTreeMap<ResourceId, Registered>,
) -> Result<Census, NotTaken> {
    assembled(&listing(&["a", "b"]), pages, inventory, Meant::default())
}

#[track_caller]
fn refused(pages: &[(Instance, Page)], inventory: &BTreeMap<ResourceId, Registered>, part: &str) {
    let why = taken(pages, inventory).unwrap_err().to_string();
    assert!(why.contains(part), "{why}");
}

#[test]
fn what_all_instances_list_is_one_census_of_the_scope() {
    let census = taken(&pages(), &inventory()).unwrap();
    let listed: Vec<_> = census.listed.iter().map(|one| (one.id.name.as_str(), one.scope.as_str())).collect();
    assert_eq!(listed, [("one", "tenants/acme"), ("two", "tenants"), ("zoo", "tenants/acme")]);
    let stray = Stranger {
        id: vm("stray"),
        scope: None,
        identity: entry("stray").identity,
        instance: Some(instance("a")),
    };
    assert_eq!((census.total, &census.unregistered), (3, &vec![stray]));
    assert_eq!((census.credential.as_str(), census.taken_at), ("uid 0 at here", listing(&["a"]).begun_at));
    // It is judged as any other.
    let sentinel = Sentinel { scope: "tenants".parse().unwrap(), resource: vm("two") };
    let rules = Rules { sentinels: vec![sentinel], ..Rules::default() };
    assert_eq!(census.check(&rules, None, census.taken_at.plus_ms(1)), Ok(()));
    let registered = ["one", "two", "zoo", "gone"]
        .map(|name| (vm(name), AsRegistered { scope: "tenants/acme".parse().unwrap(), going: false }));
    let kept = census.taken(1, &registered.into(), None, Timestamp(0));
    assert_eq!(kept.misplaced, BTreeMap::new(), "two was moved meanwhile");
    assert_eq!((kept.missing, kept.unknown), (1, 1));
    assert!(kept.missing_named.contains(&vm("gone")) && kept.unknown_named.contains(&vm("stray")));
}

#[test]
fn an_instance_that_did_not_list_everything_makes_it_none() {
    let all = pages();
    let mut cut = all.clone();
    cut[2].1.entries.pop();
    refused(&cut, &inventory(), "hypervisor.a counts 3, and has listed 2");
    refused(&all[..2], &inventory(), "its pages are gone");
    refused(&all[1..], &inventory(), "its pages are gone");
    let mut between = all.clone();
    between[2].1.after = Some(vm("other"));
    refused(&between, &inventory(), "page 2 does not begin where the one before ends");
}

#[test]
fn an_instance_that_changed_meanwhile_makes_it_none() {
    let mut place = pages();
    place[2].1.place = "there".to_owned();
    refused(&place, &inventory(), "it is there, and was here");
    let mut credential = pages();
    credential[2].1.credential = "uid 7".to_owned();
    refused(&credential, &inventory(), "listed with uid 7, and was with uid 0");
    let mut total = pages();
    total[2].1.total = 4;
    refused(&total, &inventory(), "it counts 4, and counted 3");
}

#[test]
fn one_at_two_instances_makes_it_none() {
    let mut twice = pages();
    twice[0].1 = page(None, &["lab", "stray", "zoo"], (false, 3));
    let of_others =
        "no census: one that is not registered in this scope is at hypervisor.a and at hypervisor.b";
    refused(&twice, &inventory(), of_others);
    twice[0].1 = page(None, &["lab", "two", "zoo"], (false, 3));
    refused(&twice, &inventory(), "vm/two is at hypervisor.a and at hypervisor.b");
    twice[0].1 = page(None, &["lab", "zoo"], (false, 2));
    twice[2].1 = page(Some("one"), &["lab", "two"], (false, 3));
    refused(&twice, &inventory(), of_others);
}

#[test]
fn what_is_kept_does_not_say_how_many_an_instance_holds() {
    let mut cut = pages();
    cut[2].1.entries.pop();
    let mut total = pages();
    total[2].1.total = 4;
    for (pages, kept) in [
        (cut, "hypervisor.a counts another number than it has listed"),
        (total, "no census: hypervisor.a changed while it was listed"),
    ] {
        let why = taken(&pages, &inventory()).unwrap_err().kept();
        assert!(why.contains(kept) && !why.contains(|c: char| c.is_ascii_digit()), "{why}");
    }
    let many = NotTaken::TooManyListed(LISTED_MAX + 1).kept();
    assert!(!many.contains(&(LISTED_MAX + 1).to_string()), "{many}");
}

#[test]
fn another_identity_under_a_registered_name_makes_it_none() {
    let mut other = pages();
    other[1].1.entries[0].identity = entry("other").identity;
    refused(
        &other,
        &inventory(),
        "vm/one at hypervisor.a is not the one that is registered: it shows uuid of-other",
    );
    // Of another scope it is that scope's census that says so.
    let mut elsewhere = pages();
    elsewhere[0].1.entries[0].identity = entry("other").identity;
    assert!(taken(&elsewhere, &inventory()).is_ok());
    // What shows no identity is known by its name.
    let mut shows_none = pages();
    shows_none[1].1.entries[0].identity = None;
    assert!(taken(&shows_none, &inventory()).is_ok());
}

#[test]
fn a_uuid_is_the_same_however_it_is_spelled() {
    let of = |uuid: &str| Identity::try_from(BTreeMap::from([("uuid".to_owned(), uuid.to_owned())])).unwrap();
    let here = of("0000f00d-0000-0000-0000-00000000abcd");
    for (other, is) in [
        ("0000F00D-0000-0000-0000-00000000ABCD", true),
        ("0000f00d00000000000000000000abcd", true),
        ("0000f00d-0000-0000-0000-00000000abce", false),
        ("web-01", false),
    ] {
        assert_eq!(same(&here, &of(other)), is, "{other}");
    }
    assert!(!same(&of("web-01"), &of("WEB-01")) && !same(&of("web-01"), &of("web01")));
}

#[test]
fn one_registered_at_an_instance_that_was_not_asked_makes_it_none() {
    let mut inventory = inventory();
    inventory.extend([registered("far", "tenants/acme", "c")]);
    refused(&pages(), &inventory, "vm/far is registered at hypervisor.c, which is not known here");
}

#[test]
fn the_credential_is_another_one_if_places_differ_and_never_too_long() {
    let census = |name: &str, place: &str| {
        let mut pages = pages();
        for (_, page) in &mut pages {
            page.credential = name.to_owned();
        }
        pages[0].1.place = place.to_owned();
        taken(&pages, &inventory()).unwrap().credential
    };
    assert_eq!(census("uid 0", "there"), "uid 0 at here; uid 0 at there");
    let long = census(&"x".repeat(150), "there");
    assert!(long.starts_with("2 places, sha256 ") && long.len() <= CREDENTIAL_MAX, "{long}");
    assert_ne!(long, census(&"x".repeat(150), "elsewhere"));
}
