use super::assembled::Meant;
use super::*;
use crate::access::Permission;
use crate::belts::budget::Counted;

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

pub(super) fn scope(scope: &str) -> Scope {
    scope.parse().unwrap()
}

fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

pub(super) fn rules() -> Rules {
    let sentinel = Sentinel { scope: scope("tenants/acme"), resource: vm("sentinel") };
    Rules { sentinels: vec![sentinel], ..Rules::default() }
}

fn listed(name: &str) -> Listed {
    Listed { id: vm(name), scope: scope("tenants/acme"), identity: None }
}

/// Registered where they are listed, and whether each is being removed.
fn registered(names: &[(&str, bool)]) -> BTreeMap<ResourceId, AsRegistered> {
    let one = |(name, going): &(&str, bool)| {
        (vm(name), AsRegistered { scope: scope("tenants/acme"), going: *going })
    };
    names.iter().map(one).collect()
}

fn stray(name: &str) -> Stranger {
    Stranger { id: vm(name), scope: None, identity: None, instance: None }
}

pub(super) fn census(names: &[&str]) -> Census {
    let mut names: Vec<&str> = names.iter().copied().chain(["sentinel"]).collect();
    names.sort_unstable();
    Census {
        kind: "vm".parse().unwrap(),
        scope: scope("tenants"),
        credential: "census-ro".to_owned(),
        new_credential: false,
        fewer: false,
        more: false,
        taken_at: NOW,
        total: names.len() as u64,
        listed: names.iter().map(|name| listed(name)).collect(),
        unregistered: Vec::new(),
        itself: false,
    }
}

fn believed(census: &Census, last: Option<&Taken>) -> Result<(), String> {
    census.check(&rules(), last, NOW).map_err(|why| why.to_string())
}

fn refused(census: &Census, last: Option<&Taken>, part: &str) {
    let why = believed(census, last).unwrap_err();
    assert!(why.contains(part), "{why}");
}

#[test]
fn a_complete_one_is_believed() {
    assert_eq!(believed(&census(&["a", "b"]), None), Ok(()));
}

#[test]
fn what_it_cannot_show_is_said_by_who_may() {
    let plain = Meant::default();
    assert_eq!(plain.takes(), Permission::Register);
    assert_eq!(Meant { fewer: true, ..plain }.takes(), Permission::Vouch);
    assert_eq!(Meant { more: true, ..plain }.takes(), Permission::Vouch);
    assert_eq!(Meant { new_credential: true, ..plain }.takes(), Permission::Vouch);
}

#[test]
fn one_that_was_cut_is_not() {
    let whole = census(&["a", "b", "c"]);
    let mut cut = whole.clone();
    cut.listed.pop();
    refused(&cut, None, "total: the platform counts 4, and 3 are listed");
    cut.total = 3;
    refused(&cut, None, "the sentinel vm/sentinel is missing: census-ro sees only a part");
    let empty = Census { total: 0, listed: Vec::new(), ..whole.clone() };
    refused(&empty, None, "nothing is listed");
    let mut twice = whole.clone();
    twice.listed[1] = twice.listed[0].clone();
    refused(&twice, None, "vm/a does not come after the one before it");
    let mut newest_first = whole.clone();
    newest_first.listed.reverse();
    refused(&newest_first, None, "ascending by id");
    let many = Census { listed: vec![whole.listed[0].clone(); LISTED_MAX + 1], ..whole };
    refused(&many, None, "take it by scope");
}

#[test]
fn the_first_one_lists_something_of_each_scope() {
    let mut there = registered(&[("a", false), ("b", false)]);
    let one = census(&["a"]);
    assert_eq!(one.sees_each_scope(&there, None), Ok(()), "b is missing, which is a finding");
    let other = |going| AsRegistered { scope: scope("tenants/other"), going };
    there.insert(vm("c"), other(true));
    assert_eq!(one.sees_each_scope(&there, None), Ok(()), "what is being removed may be gone");
    there.insert(vm("d"), other(false));
    there.insert(vm("e"), other(false));
    let why = one.sees_each_scope(&there, None).unwrap_err().to_string();
    assert!(why.starts_with("listed: none of 2 registered in tenants/other is listed"), "{why}");
    assert_eq!(Census { fewer: true, ..one.clone() }.sees_each_scope(&there, None), Ok(()));
    assert_eq!(one.sees_each_scope(&there, Some(&last(&["a"]))), Ok(()), "it is compared with the last one");
    assert_eq!(census(&["a", "d"]).sees_each_scope(&there, None), Ok(()));
}

#[test]
fn one_of_another_place_or_another_time_is_not() {
    let mut other = census(&["a"]);
    other.listed[0].scope = scope("lab");
    refused(&other, None, "vm/a is not of scope tenants");
    let mut other = census(&["a"]);
    other.kind = "image".parse().unwrap();
    refused(&other, None, "vm/a is not of kind image");
    let nowhere = Census { scope: scope("tenants/acme/web"), ..census(&[]) };
    refused(&nowhere, None, "is not of scope");
    let mut unguarded = census(&["a"]);
    unguarded.listed.iter_mut().for_each(|one| one.scope = scope("lab"));
    unguarded.scope = scope("lab");
    refused(&unguarded, None, "no sentinel is known within lab");
    let old = Census { taken_at: Timestamp(NOW.0 - 3_600_001_000), ..census(&["a"]) };
    refused(&old, None, "expected at most 60 minutes ago");
    let ahead = Census { taken_at: NOW.plus_ms(AHEAD_MS + 1), ..census(&["a"]) };
    refused(&ahead, None, "is to come");
    let unnamed = Census { credential: " ".to_owned(), ..census(&["a"]) };
    refused(&unnamed, None, "credential: expected 1 to 200 characters");
}

fn last(names: &[&str]) -> Taken {
    let census = Census { taken_at: Timestamp(NOW.0 - 1_000_000), ..census(names) };
    census.taken(7, &BTreeMap::new(), None, Timestamp(NOW.0 - 1))
}

#[test]
fn one_that_differs_from_the_last_has_to_be_meant() {
    let ten: Vec<String> = (0..19).map(|n| format!("m{n:02}")).collect();
    let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
    let before = last(&ten);
    assert_eq!(believed(&census(&ten[..17]), Some(&before)), Ok(()), "a tenth fewer");
    refused(&census(&ten[..16]), Some(&before), "listed: 17, and census 7 listed 20: state fewer");
    assert_eq!(believed(&Census { fewer: true, ..census(&ten[..16]) }, Some(&before)), Ok(()));
    let other = Census { credential: "other".to_owned(), ..census(&ten) };
    refused(&other, Some(&before), "credential: other, and census 7 was taken with census-ro");
    assert_eq!(believed(&Census { new_credential: true, ..other }, Some(&before)), Ok(()));
    let overtaken = Census { taken_at: before.taken_at, ..census(&ten) };
    refused(&overtaken, Some(&before), "census 7 was begun later");
}

#[test]
fn fewer_are_explained_if_nothing_registered_is_missing_nor_fewer_that_nobody_has_registered() {
    let all = registered(&[("a", false), ("b", false), ("sentinel", false)]);
    let of_all = |names: &[&str]| census(names).taken(7, &all, None, Timestamp(NOW.0 - 1));
    let explained = |itself: bool, before: &Taken, registered: &BTreeMap<ResourceId, AsRegistered>| {
        let census = Census { itself, ..census(&["a"]) };
        census.lost_nothing(&census.taken(8, registered, Some(before), NOW), before, registered)
    };
    let removed = registered(&[("a", false), ("sentinel", false)]);
    let (known, stray) = (of_all(&["a", "b"]), of_all(&["a", "b", "stray"]));
    assert_eq!([true, false].map(|itself| explained(itself, &known, &removed)), [true, true]);
    let left_out = [true, false].map(|itself| explained(itself, &stray, &removed));
    assert_eq!(left_out, [true, false], "an instance lists no stray in a scope");
    for itself in [true, false] {
        let going = registered(&[("a", false), ("b", true), ("sentinel", false)]);
        assert!(explained(itself, &known, &going), "it is being removed");
        assert!(!explained(itself, &known, &all), "somebody else has");
    }
}

#[test]
fn what_is_registered_by_now_is_not_left_out_if_it_was_named() {
    let registered = |names: &[&str]| -> BTreeMap<ResourceId, AsRegistered> {
        registered(&names.iter().map(|name| (*name, false)).collect::<Vec<_>>())
    };
    let explained = |before: &Taken, known: &[&str]| {
        let (known, listing) = (registered(known), census(&["a"]));
        listing.lost_nothing(&listing.taken(8, &known, Some(before), NOW), before, &known)
    };
    let first = |unregistered: Vec<Stranger>| {
        let listing = Census { unregistered, ..census(&["a", "gone"]) };
        listing.taken(7, &registered(&["gone", "sentinel"]), None, Timestamp(NOW.0 - 1))
    };
    let known = ["a", "sentinel"];
    assert!(explained(&first(Vec::new()), &known), "a was strange, and is registered");
    let unnamed = Taken { unknown_named: BTreeSet::new(), ..first(Vec::new()) };
    assert!(!explained(&unnamed, &known), "nobody knows who was strange");
    let other = Taken { unknown_named: [vm("b")].into(), ..first(Vec::new()) };
    assert!(!explained(&other, &known), "another one was strange, and is not there");
    let beside = first(vec![stray("z")]);
    assert_eq!((beside.unknown, beside.of_no_scope, beside.unknown_named.len()), (2, 1, 2));
    assert!(!explained(&beside, &known), "it may have been the one of no scope");
}

#[test]
fn a_share_is_of_what_is_registered() {
    let registered = registered(&[("a", false), ("gone", false), ("going", true)]);
    let names = ["a", "going", "invented1", "invented2"];
    let counted = |itself: bool| {
        let taken = Census { itself, ..census(&names) }.taken(1, &registered, None, NOW);
        assert_eq!(taken.counts, BTreeMap::from([("tenants/acme".to_owned(), 5)]));
        let all = Population::frozen([taken], NOW);
        let acme = scope("tenants/acme");
        let of = |counted: Counted| all.of(&"vm".parse().unwrap(), &counted);
        [of(Counted::In(acme.clone())), of(Counted::Within(acme)), of(Counted::Everywhere)]
    };
    assert_eq!(counted(false), [Some(2); 3], "nobody has registered the sentinel, either");
    assert_eq!(counted(true), [Some(5); 3], "it was registered when it was listed");
}

#[test]
fn what_is_missing_and_not_being_removed_and_what_nobody_registered_is_found() {
    let registered = registered(&[("a", false), ("b", true), ("c", false)]);
    let first = census(&["a", "x"]).taken(1, &registered, None, NOW);
    assert_eq!((first.missing, first.newly_missing, first.unknown), (1, 0, 2));
    assert!(first.missing_named.contains(&vm("c")), "b is being removed");
    assert!(first.unknown_named.contains(&vm("x")) && first.unknown_named.contains(&vm("sentinel")));
    let second = census(&["x"]).taken(2, &registered, Some(&first), NOW);
    assert_eq!((second.missing, second.newly_missing), (2, 1), "one of them was missing before");
    let strange = (0..UNREGISTERED_NAMED_MAX + 5).map(|number| stray(&format!("strange{number}"))).collect();
    let third = Census { unregistered: strange, ..census(&["a"]) }.taken(3, &registered, None, NOW);
    assert_eq!(third.unknown, UNREGISTERED_NAMED_MAX as u64 + 5 + 1, "and the sentinel");
    assert_eq!(third.unknown_named.len(), UNREGISTERED_NAMED_MAX + 1);
}

#[test]
fn what_is_of_no_known_scope_is_told_to_who_is_limited_to_none() {
    let of = |unregistered: Vec<Stranger>| {
        let registered = registered(&[("sentinel", false)]);
        Census { unregistered, ..census(&["a"]) }.taken(1, &registered, None, NOW)
    };
    let (all, limited) = (Extent::Everywhere, Extent::Scopes([scope("tenants")].into()));
    let taken = of(vec![stray("whose")]);
    assert_eq!((taken.unknown, taken.of_no_scope), (2, 1));
    assert_eq!(taken.clone().told_to(&all), taken);
    let told = taken.told_to(&limited);
    assert_eq!((told.unknown, told.of_no_scope, told.unknown_named), (1, 0, BTreeSet::new()));
    let placed = of(Vec::new());
    assert_eq!(placed.clone().told_to(&limited), placed, "the platform has said whose it is");
}

#[test]
fn a_population_is_what_was_there_before_the_span_began() {
    let taken = |census: i64, of: &str, at: i64, count: u64| Taken {
        scope: scope(of),
        accepted_at: Timestamp(at),
        counts: [(format!("{of}/x"), count)].into(),
        ..last(&["a"]).clone_with(census)
    };
    let all = [taken(1, "tenants", 10, 100), taken(2, "tenants", 20, 200), taken(3, "tenants", 30, 300)];
    let of = |from, counted: &Counted| {
        Population::frozen(all.clone(), Timestamp(from)).of(&"vm".parse().unwrap(), counted)
    };
    let x = Counted::In(scope("tenants/x"));
    assert_eq!([of(5, &x), of(10, &x), of(25, &x), of(99, &x)], [Some(100), Some(100), Some(200), Some(300)]);
    assert_eq!(of(99, &Counted::In(scope("tenants/y"))), Some(0));
    assert_eq!(of(99, &Counted::In(scope("lab"))), None, "nobody has counted there");
    assert_eq!(of(99, &Counted::Within(scope("tenants"))), Some(300));
    assert_eq!(of(99, &Counted::Everywhere), Some(300));
    let image =
        Population::frozen(all.clone(), Timestamp(99)).of(&"image".parse().unwrap(), &Counted::Everywhere);
    assert_eq!(image, None);
    // A census of a part does not count it twice.
    let parts = all.iter().cloned().chain([taken(4, "tenants/x", 30, 40), taken(5, "lab", 30, 7)]);
    let both = Population::frozen(parts, Timestamp(99));
    assert_eq!(both.of(&"vm".parse().unwrap(), &Counted::Everywhere), Some(307));
}

/// One of a part that was taken once, and one of all around it that is taken each day.
#[test]
fn a_part_is_no_larger_than_a_later_census_around_it_says() {
    let taken = |of: &str, at: i64, counts: &[(&str, u64)]| Taken {
        scope: scope(of),
        taken_at: Timestamp(at),
        accepted_at: Timestamp(at),
        counts: counts.iter().map(|(scope, count)| ((*scope).to_owned(), *count)).collect(),
        unregistered: BTreeMap::new(),
        ..last(&["a"])
    };
    let acme = |all: &[Taken], from: i64| {
        let of =
            |counted| Population::frozen(all.to_vec(), Timestamp(from)).of(&"vm".parse().unwrap(), &counted);
        [of(Counted::In(scope("tenants/acme"))), of(Counted::Within(scope("tenants/acme")))]
    };
    let part = taken("tenants/acme", 10, &[("tenants/acme", 1000)]);
    let around = |at: i64, count: u64| taken("tenants", at, &[("tenants/acme", count), ("tenants/b", 7000)]);
    assert_eq!(acme(&[part.clone(), around(20, 100)], 30), [Some(100); 2], "a later one");
    assert_eq!(acme(&[around(5, 100), part.clone()], 30), [Some(1000); 2], "an earlier one");
    assert_eq!(
        acme(&[part.clone(), around(20, 4000)], 30),
        [Some(1000); 2],
        "it lists more, which may be anybody's"
    );
    let none = taken("tenants", 20, &[("tenants/b", 7000)]);
    assert_eq!(acme(&[part.clone(), none], 30), [Some(0); 2], "nothing is left of it");
    assert_eq!(acme(&[part.clone(), around(20, 100)], 15), [Some(1000); 2], "not while it is counted");
    assert_eq!(acme(&[part.clone(), around(20, 100)], 5), [Some(100); 2], "both came since");
    let middle = taken("tenants/acme", 40, &[("tenants/acme", 90)]);
    assert_eq!(acme(&[part, around(20, 100), middle], 50), [Some(90); 2], "the part was taken again");
}

#[test]
fn slow_drips_of_a_day_are_counted_together_until_a_pause_has_told_of_them() {
    let drip = |newly_missing, told| Taken { newly_missing, told, ..last(&["a"]) };
    let now = drip(1, false);
    assert_eq!(gone_within_a_day(&now, &[]), 1);
    assert_eq!(gone_within_a_day(&now, &[drip(5, false), drip(0, false), drip(5, false)]), 11);
    assert_eq!(gone_within_a_day(&now, &[drip(5, false), drip(5, true), drip(2, false)]), 3);
}

impl Taken {
    fn clone_with(self, census: i64) -> Self {
        Self { census, ..self }
    }
}

#[test]
fn a_section_that_cannot_be_meant_is_refused() {
    let rules = |text: &str| toml::from_str::<Written>(text).unwrap().rules().map_err(|e| e.to_string());
    assert_eq!(rules(""), Ok(Rules::default()));
    assert!(rules("age_max_minutes = 0").unwrap_err().starts_with("age_max_minutes = 0"));
    assert!(rules("age_max_minutes = 1441").unwrap_err().starts_with("age_max_minutes"));
    assert!(rules("shrinks_percent = 100").unwrap_err().starts_with("shrinks_percent"));
    assert!(toml::from_str::<Written>("sentinels = [\"vm/a\"]").is_err());
}
