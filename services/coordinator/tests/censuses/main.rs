//! A census is taken from every instance that lists the kind, page after page; without one of them there is none. If it is
//! configured, it is taken without anybody asking, and once, however many coordinators there are, of which each looks what has
//! come of what any of them has begun.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod site;

use std::collections::BTreeMap;

use sexton_coordinator::taken::{Wanted, take};
use sexton_ledger::NotDone;
use sexton_model::belts::Policy;
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::daily::{Seen, Take};
use sexton_model::belts::census::listing::{ENTRIES_MAX, NotTaken};
use sexton_model::belts::census::{Census, Rules, Sentinel, Stranger, Taken};
use sexton_model::{Actor, Scope};

use site::{PATIENCE, Site, identity, instance, vm};

/// As many machines at the first instance as take three pages.
const MANY: usize = 2 * ENTRIES_MAX + 50;

/// Longer than any of this takes.
const LONG_MS: u64 = 60_000;

#[tokio::test]
async fn all_pages_of_all_instances_are_one_census_whichever_coordinator_hears_them() {
    let mut site = Site::new(MANY).await;
    site.all_answer().await;
    let census = site.take(LONG_MS).await.unwrap();
    assert_eq!((census.listed.len(), census.total), (MANY + 2, MANY as u64 + 2));
    assert_eq!(census.credential, "the test at hypervisor.a; the test at hypervisor.b");
    assert!(census.listed.iter().all(|one| one.scope.as_str() == "tenants/acme"));
    // Nothing of it is left, and it may be taken again.
    assert!(site.taking.ledger.listing_orders().await.unwrap().is_empty());
    assert!(site.take(LONG_MS).await.is_ok());
}

#[tokio::test]
async fn without_one_instance_there_is_none() {
    let mut site = Site::new(3).await;
    site.hear().await;
    site.serve("a").await;
    let why = site.take(1_000).await.unwrap_err();
    assert_eq!(why, "no census: hypervisor.b has not listed everything within 1 s: no answer");
    assert!(site.taking.ledger.listing_orders().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_contradicts_the_inventory_or_itself_is_none() {
    let mut site = Site::new(3).await;
    site.all_answer().await;
    let change = |at: &str, name: &str, uuid: Option<&str>| {
        let mut there = site.there.lock().unwrap();
        let held = there.get_mut(&instance(at)).unwrap();
        match uuid {
            Some(uuid) => held.insert(vm(name), identity(uuid)),
            None => held.remove(&vm(name)),
        }
    };
    change("a", "a0001", Some("foreign"));
    let why = site.take(LONG_MS).await.unwrap_err();
    assert!(
        why.contains("vm/a0001 at hypervisor.a is not the one that is registered: it shows uuid foreign"),
        "{why}"
    );
    change("a", "a0001", Some("a0001"));
    change("a", "b1", Some("b1"));
    let why = site.take(LONG_MS).await.unwrap_err();
    assert!(why.contains("vm/b1 is at hypervisor.a and at hypervisor.b"), "{why}");
    // What nobody has registered is told, and no reason.
    change("a", "b1", None);
    change("b", "stray", Some("stray"));
    let census = site.take(LONG_MS).await.unwrap();
    let stray = Stranger {
        id: vm("stray"),
        scope: None,
        identity: Some(identity("stray")),
        instance: Some(instance("b")),
    };
    assert_eq!((census.listed.len(), census.total, census.unregistered), (5, 5, vec![stray]));
}

#[tokio::test]
async fn one_of_a_kind_and_scope_is_taken_at_once_and_none_that_nobody_lists() {
    let site = Site::new(1).await;
    let (one, other) = tokio::join!(site.take(1_000), site.take(1_000));
    let whys = [one.unwrap_err(), other.unwrap_err()];
    assert!(
        whys.iter().any(|why| why.contains("a census of vm in tenants is being taken until")),
        "{whys:?}"
    );
    assert!(whys.iter().any(|why| why.contains("has not listed everything")), "{whys:?}");
    let wanted = Wanted {
        by: "ops".parse().unwrap(),
        kind: "image".parse().unwrap(),
        scope: "tenants".parse().unwrap(),
        within_ms: 1_000,
        meant: Meant::default(),
        seen: None,
    };
    let why = take(&site.taking, &site.plans, wanted).await.unwrap().unwrap_err();
    assert_eq!(why, NotDone::Taking(NotTaken::NobodyLists("image".parse().unwrap())));
}

/// A census of all of them is to be taken each day, which takes no longer than that.
fn daily(within_secs: u64) -> Policy {
    let scope: Scope = "tenants".parse().unwrap();
    let sentinel = Sentinel { scope: scope.clone(), resource: vm("b1") };
    let take = Take { kind: "vm".parse().unwrap(), scope, every_hours: 24, within_secs };
    let census = Rules { sentinels: vec![sentinel], take: vec![take], ..Rules::default() };
    Policy { census, ..Policy::default() }
}

/// All five are there.
fn is_whole(taken: &Taken) -> bool {
    taken.counts == BTreeMap::from([("tenants/acme".to_owned(), 5)])
}

#[tokio::test]
async fn of_two_coordinators_one_takes_what_is_due() {
    let mut site = Site::with(3, daily(25)).await;
    site.all_answer().await;
    let both = async || {
        let (one, other) = tokio::join!(site.taking.tend_censuses(), site.hearing.tend_censuses());
        one.unwrap();
        other.unwrap();
    };
    both().await;
    site.until_whole().await;
    // Both find that all has come, and that nothing is due any more, however often they look.
    for _ in 0..3 {
        both().await;
        let censuses = site.taking.ledger.censuses().await.unwrap();
        let [taken] = censuses.as_slice() else { panic!("one, however often they look: {censuses:?}") };
        assert!(is_whole(taken), "{taken:?}");
    }
    assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away");
    let [latest] = site.taking.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    assert_eq!(latest.refused, None, "whoever is too late notes nothing");
}

/// Both find that the same two are due, and go on to begin the first: whoever is too late leaves the second to a later look, and
/// begins it no more than the one that was faster does.
#[tokio::test]
async fn of_two_that_are_due_two_coordinators_begin_one() {
    let mut policy = daily(25);
    let second = Take { scope: "lab".parse().unwrap(), ..policy.census.take[0].clone() };
    policy.census.take.push(second);
    let site = Site::with(3, policy).await;
    site.later.two_meet();
    let both = async { tokio::join!(site.taking.tend_censuses(), site.hearing.tend_censuses()) };
    let (one, other) = tokio::time::timeout(PATIENCE, both).await.expect("both begin one");
    one.unwrap();
    other.unwrap();
    let begun = async || -> Vec<String> {
        let kept = site.taking.ledger.listings().await.unwrap();
        kept.iter().map(|listing| listing.scope.to_string()).collect()
    };
    assert_eq!(begun().await, ["tenants"]);
    site.hearing.tend_censuses().await.unwrap();
    assert_eq!(begun().await, ["tenants"], "one after the other");
}

/// No look waits for a page: what begins it returns before anybody answers. Page follows page in the meantime.
#[tokio::test]
async fn what_is_due_is_begun_by_one_look_and_judged_by_a_later_one() {
    let mut site = Site::with(MANY, daily(25)).await;
    site.taking.tend_censuses().await.unwrap();
    let [begun] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
    site.taking.tend_censuses().await.unwrap();
    let [still] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
    assert_eq!(
        (&still, still.seen),
        (&begun, Some(Seen::default())),
        "it is looked at, and nothing else is begun"
    );
    site.all_answer().await;
    assert_eq!(site.until_whole().await.id, begun.id);
    assert!(site.taking.ledger.censuses().await.unwrap().is_empty(), "nobody has looked since");
    site.taking.tend_censuses().await.unwrap();
    let [taken] = site.taking.ledger.censuses().await.unwrap().try_into().unwrap();
    assert_eq!((taken.taken_at, taken.missing), (begun.begun_at, 0));
    assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away with that");
}

/// Whatever it has done of it when it dies: begun it, asked, or found that all has come.
#[tokio::test]
async fn what_a_coordinator_has_begun_that_dies_another_one_goes_on_with() {
    for (asks, hears) in [(false, false), (true, false), (true, true)] {
        let mut site = Site::with(3, daily(25)).await;
        let id = if asks {
            site.taking.tend_censuses().await.unwrap();
            let [begun] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
            begun.id
        } else {
            site.begin().await.id
        };
        site.all_answer().await;
        if hears {
            site.until_whole().await;
        }
        let taken = site.until_believed(&site.hearing).await;
        assert!(is_whole(&taken), "{taken:?}");
        assert_eq!(site.hearing.ledger.listing(id).await.unwrap(), None, "it is put away");
        let [latest] = site.hearing.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        assert_eq!(latest.refused, None, "and none was noted to be lacking");
    }
}

#[tokio::test]
async fn what_is_due_and_not_listed_is_noted_and_left_alone_for_a_while() {
    let mut site = Site::with(3, daily(1)).await;
    site.hear().await;
    site.serve("a").await;
    site.until("it is noted", async || {
        site.taking.tend_censuses().await.unwrap();
        !site.taking.ledger.latest_censuses().await.unwrap().is_empty()
    })
    .await;
    let mut noted = Vec::new();
    for by in [&site.taking, &site.hearing] {
        by.tend_censuses().await.unwrap();
        let [latest] = site.taking.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        noted.push(latest.refused.unwrap());
        assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away");
    }
    assert_eq!(noted[0], noted[1], "it is tried again later");
    assert!(noted[0].not_taken && noted[0].by == Actor::coordinator(), "{noted:?}");
    assert_eq!(noted[0].why, "no census: hypervisor.b has not listed everything within 1 s: no answer");
    assert!(site.taking.ledger.censuses().await.unwrap().is_empty());
}

/// All coordinators die, and nobody looks at it before its time is long over.
#[tokio::test]
async fn what_a_coordinator_left_over_that_died_is_taken_anew() {
    let mut site = Site::with(3, daily(25)).await;
    let left = site.begin().await;
    site.all_answer().await;
    site.later.by(86_000);
    site.hearing.tend_censuses().await.unwrap();
    assert_eq!(site.taking.ledger.listing(left.id).await.unwrap(), None, "it is put away");
    assert_eq!(site.taking.ledger.latest_censuses().await.unwrap(), [], "nobody is to blame");
    let taken = site.until_believed(&site.hearing).await;
    assert!(is_whole(&taken) && taken.taken_at > left.answer_by, "{taken:?}");
}

#[tokio::test]
async fn what_others_hand_in_and_is_refused_puts_none_off() {
    let mut site = Site::with(3, daily(25)).await;
    site.all_answer().await;
    let whole = site.take(LONG_MS).await.unwrap();
    let cut = Census { total: whole.total + 1, ..whole };
    let platform: Actor = "platform".parse().unwrap();
    site.taking.ledger.take_census(cut, &platform).await.unwrap().unwrap_err();
    site.taking.tend_censuses().await.unwrap();
    assert!(!site.taking.ledger.listings().await.unwrap().is_empty(), "it is begun at once");
    let taken = site.until_believed(&site.taking).await;
    assert!(is_whole(&taken), "{taken:?}");
}
