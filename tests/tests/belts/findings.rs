//! Findings: what is there and nobody has registered is shown to whoever sees its scope, as long as the last census stands, and
//! with a record that has no date. Nothing is made of it.
use std::collections::BTreeMap;

use sexton_coordinator::Plans;
use sexton_coordinator::findings::{Found, Wanted, page};
use sexton_ledger::{DeletionFilter, Mark};
use sexton_model::access::Extent;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::findings::{Finding, Lack, STRANGERS_MAX, Standing};
use sexton_model::belts::census::{Census, Listed, Rules, Sentinel, Stranger};
use sexton_model::belts::{Policy, within};
use sexton_model::resource::Identity;
use sexton_model::{ResourceId, Scope};

use super::budgets::{counting, policy};
use super::system::{System, U1, on_many_machines, ops, web01};

on_many_machines! {
    what_nobody_has_registered_is_found_until_it_is_registered,
    a_census_that_is_refused_gives_none_and_says_why,
    a_census_that_is_not_taken_leaves_what_the_last_one_has_found,
    whoever_is_limited_to_a_scope_finds_what_is_known_to_be_of_it,
    whoever_is_limited_finds_what_stands_behind_very_many_of_others,
}

static EVERYWHERE: Extent = Extent::Everywhere;

fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

fn scope(scope: &str) -> Scope {
    scope.parse().unwrap()
}

fn identity() -> Identity {
    BTreeMap::from([("uuid".to_owned(), U1.to_owned())]).try_into().unwrap()
}

async fn system() -> System {
    System::start_in_calendar_days(counting(policy("none = true"), web01())).await
}

async fn found(system: &System, extent: &Extent) -> Found {
    let wanted = Wanted { extent, kind: None, scope: None, after: None, limit: 100 };
    page(system.ledger.as_ref(), &Plans::default(), wanted).await.unwrap()
}

/// Those that are found, by name.
fn names(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.resource.name.as_str()).collect()
}

/// `vm/web01`, which is registered, and `vm/stray`, which is not, of which the platform shows the identity.
async fn with_stray(system: &System, total: u64) -> Census {
    let mut census = system.census(&[vm("stray"), web01()], total).await;
    census.listed[0].identity = Some(identity());
    census
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_registered_is_found_until_it_is_registered() {
    let system = system().await;
    assert_eq!(found(&system, &EVERYWHERE).await.censuses, [], "nobody has handed in any");
    let census = with_stray(&system, 2).await;
    let begun_at = census.taken_at;
    system.ledger.take_census(census, &ops()).await.unwrap().unwrap();
    let all = found(&system, &EVERYWHERE).await;
    let [finding] = all.items.as_slice() else { panic!("{all:?}") };
    assert_eq!((&finding.resource, finding.identity.as_ref()), (&vm("stray"), Some(&identity())));
    assert_eq!((finding.scope.as_ref(), finding.first_seen), (Some(&scope("tenants/acme")), begun_at));
    let record = &finding.record;
    assert_eq!((record.delete.get("on"), record.delete.as_object().unwrap().len()), (None, 2), "{record:?}");
    assert!(record.lacks.contains(&Lack::Date) && record.lacks.contains(&Lack::Criticality), "{record:?}");
    assert!(record.delete["reason"].as_str().unwrap().starts_with("found by census 1 of vm in tenants/acme"));
    let [source] = all.censuses.as_slice() else { panic!("{all:?}") };
    assert_eq!((source.standing, source.unknown, source.more), (Standing::Believed, Some(1), Some(0)));

    // Nothing was made of it.
    assert!(system.ledger.resource(&vm("stray")).await.unwrap().is_none());
    let filter = DeletionFilter { limit: 10, ..DeletionFilter::default() };
    assert!(system.ledger.deletions(&filter).await.unwrap().items.is_empty());

    system.register_named(&vm("stray"), false).await;
    assert_eq!(found(&system, &EVERYWHERE).await.items, [], "it is registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_census_that_is_refused_gives_none_and_says_why() {
    let system = system().await;
    let hand_in = async |total: u64| {
        let census = with_stray(&system, total).await;
        system.ledger.take_census(census, &ops()).await.unwrap()
    };
    hand_in(2).await.unwrap();
    let first_seen = found(&system, &EVERYWHERE).await.items[0].first_seen;
    hand_in(3).await.unwrap_err();
    let none = found(&system, &EVERYWHERE).await;
    assert_eq!(none.items, []);
    let [source] = none.censuses.as_slice() else { panic!("{none:?}") };
    assert_eq!((source.standing, source.census), (Standing::Refused, Some(1)));
    let why = source.why.as_deref().unwrap();
    assert!(why.contains("the platform counts 3, and 2 are listed"), "{why}");
    hand_in(2).await.unwrap();
    let again = found(&system, &EVERYWHERE).await;
    assert_eq!((again.items[0].census, again.items[0].first_seen), (2, first_seen), "it is still the same");
    system.hand_in(&[web01()], 1).await.unwrap();
    assert_eq!(found(&system, &EVERYWHERE).await.items, [], "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_census_that_is_not_taken_leaves_what_the_last_one_has_found() {
    let system = system().await;
    let census = with_stray(&system, 2).await;
    system.ledger.take_census(census, &ops()).await.unwrap().unwrap();
    let [latest] = system.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    let (seen, why) = (Seen::of(Some(&latest)), "no census: no answer".to_owned());
    let attempt = Attempt { kind: latest.kind, scope: latest.scope, seen, why };
    assert!(system.ledger.note_not_taken(attempt).await.unwrap());
    let still = found(&system, &EVERYWHERE).await;
    assert_eq!(names(&still.items), ["stray"]);
    let [source] = still.censuses.as_slice() else { panic!("{still:?}") };
    assert_eq!((source.standing, source.why.as_deref()), (Standing::Believed, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_limited_to_a_scope_finds_what_is_known_to_be_of_it() {
    let system = system().await;
    let listed = |id: ResourceId, of: &str| Listed { id, scope: scope(of), identity: None };
    let census = Census {
        scope: scope("tenants"),
        listed: vec![
            listed(vm("ours"), "tenants/acme/web"),
            listed(vm("theirs"), "tenants/other"),
            listed(web01(), "tenants/acme"),
        ],
        // An instance has listed it, and does not know whose it is.
        unregistered: vec![Stranger { id: vm("whose"), scope: None, identity: None, instance: None }],
        ..system.census(&[], 3).await
    };
    system.ledger.take_census(census, &ops()).await.unwrap().unwrap();
    let limited = |to: &str| Extent::Scopes([scope(to)].into());
    assert_eq!(names(&found(&system, &EVERYWHERE).await.items), ["ours", "theirs", "whose"]);
    assert_eq!(names(&found(&system, &limited("tenants/acme")).await.items), ["ours"]);
    assert_eq!(names(&found(&system, &limited("tenants/other")).await.items), ["theirs"]);
    let lab = found(&system, &limited("lab")).await;
    assert_eq!((lab.items, lab.censuses), (Vec::new(), Vec::new()));
    let acme = found(&system, &limited("tenants/acme")).await;
    assert_eq!(acme.censuses[0].unknown, None, "how many others there are is not told");

    let of_all = async |extent: &Extent| found(&system, extent).await.censuses[0].unknown;
    assert_eq!(of_all(&EVERYWHERE).await, Some(3));
    assert_eq!(of_all(&limited("tenants")).await, Some(2), "nor what may be anybody's");

    // By the page, each once; and who is limited is told of no other where the next one begins.
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let wanted = Wanted { extent: &EVERYWHERE, kind: None, scope: None, after, limit: 1 };
        let one = page(system.ledger.as_ref(), &Plans::default(), wanted).await.unwrap();
        seen.extend(names(&one.items).into_iter().map(str::to_owned));
        after = one.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["ours", "theirs", "whose"]);
    let acme = limited("tenants/acme");
    let wanted = Wanted { extent: &acme, kind: None, scope: None, after: None, limit: 1 };
    let one = page(system.ledger.as_ref(), &Plans::default(), wanted).await.unwrap();
    assert_eq!((names(&one.items), one.next), (vec!["ours"], None));
}

/// Seventeen censuses of scopes around its own name as many strangers as are kept, of which none is its own: more than are looked
/// through for one page.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_limited_finds_what_stands_behind_very_many_of_others() {
    let around: Vec<Scope> = (1..=18).map(|depth| scope(&vec!["t"; depth].join("/"))).collect();
    let own = around.last().unwrap();
    let keeper = vm("keeper");
    let sentinel = |scope: &str| Sentinel { scope: scope.parse().unwrap(), resource: keeper.clone() };
    let sentinels = vec![sentinel(own.as_str()), sentinel("lab")];
    let rules = Rules { sentinels, ..Rules::default() };
    let system = System::start_in_calendar_days(Policy { census: rules, ..policy("none = true") }).await;
    system.register_in(own.as_str(), &keeper, false).await;
    let hand_in = async |of: &Scope, strangers: Vec<ResourceId>| {
        let listed = |id: ResourceId| Listed { id, scope: of.clone(), identity: None };
        let kept = Listed {
            scope: if within(own, of) { own.clone() } else { of.clone() },
            ..listed(keeper.clone())
        };
        let listed: Vec<Listed> = std::iter::once(kept).chain(strangers.into_iter().map(listed)).collect();
        let total = listed.len() as u64;
        let census = Census { scope: of.clone(), listed, ..system.census(&[], total).await };
        system.ledger.take_census(census, &ops()).await.unwrap().unwrap();
    };
    let many: Vec<ResourceId> = (0..STRANGERS_MAX).map(|number| vm(&format!("theirs{number:04}"))).collect();
    // Of another place, which nobody has to look through.
    hand_in(&scope("lab"), many[1..].to_vec()).await;
    for of in &around[..17] {
        hand_in(of, many.clone()).await;
    }
    hand_in(own, vec![vm("ours")]).await;

    let extent = Extent::Scopes([own.clone()].into());
    let next = async |after: Option<Mark>| {
        let wanted = Wanted { extent: &extent, kind: None, scope: None, after, limit: 100 };
        page(system.ledger.as_ref(), &Plans::default(), wanted).await.unwrap()
    };
    let first = next(None).await;
    // It says where to go on, and names none of them.
    let mark = Mark { scope: around[15].clone(), kind: "vm".parse().unwrap(), name: None };
    assert_eq!((names(&first.items), first.next.as_ref()), (vec![], Some(&mark)));
    let second = next(first.next).await;
    assert_eq!((names(&second.items), second.next), (vec!["ours"], None));
    assert_eq!(second.censuses.len(), around.len(), "those that speak of it, and no other");
}
