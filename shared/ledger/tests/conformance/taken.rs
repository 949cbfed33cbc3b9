//! Listings: begun once for a kind and scope, heard page by page by whoever hears it, and put away.
use std::collections::{BTreeMap, BTreeSet};

use sexton_ledger::NotDone;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::listing::{
    Asked, Entry, Listing, NewListing, NotTaken, OPEN_MAX, Page, PageAsked, Progress, Stands,
};
use sexton_model::canary::Came;
use sexton_model::resource::Identity;
use sexton_model::step::{Outcome, Presence};

use super::Fixture;
use super::stage::{Stagehand, actor, instance};

/// Longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

fn wanted(scope: &str, within_ms: u64) -> NewListing {
    NewListing {
        by: actor("ann"),
        kind: "vm".parse().unwrap(),
        scope: scope.parse().unwrap(),
        within_ms,
        instances: vec![instance("hypervisor.main"), instance("hypervisor.second")],
        seen: None,
    }
}

/// A page of one machine, called so.
fn page(asked: &PageAsked, name: &str, more: bool) -> Page {
    let identity = BTreeMap::from([("uuid".to_owned(), name.to_owned())]);
    let identity = Some(Identity::try_from(identity).unwrap());
    Page {
        after: asked.after.clone(),
        entries: vec![Entry { id: format!("vm/{name}").parse().unwrap(), identity }],
        more,
        total: 2,
        credential: "uid 0".to_owned(),
        place: "here".to_owned(),
    }
}

fn came(page: &Page) -> Came {
    let finding = Some(serde_json::to_value(page).unwrap());
    Came::Answered(Outcome::Done { presence: Presence::Present, evidence: String::new(), finding })
}

fn of<'a>(listing: &'a Listing, name: &str) -> &'a Asked {
    listing.asked.iter().find(|asked| asked.instance == instance(name)).unwrap()
}

#[track_caller]
fn refused(answer: Result<Listing, NotDone>) -> NotTaken {
    match answer {
        Err(NotDone::Taking(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Rows of tables that a listing must not touch, one number for all of them.
const ELSEWHERE: &str = "SELECT (SELECT count(*) FROM audit) + (SELECT count(*) FROM ledger_audit) * 1000 \
     + (SELECT count(*) FROM deletions) * 1000000 + (SELECT count(*) FROM censuses) * 100000000";

pub async fn a_listing_is_heard_page_by_page_and_put_away(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let before = fixture.count(ELSEWHERE).await;
    let begun = on.ledger.begin_listing(wanted("tenants", LONG_MS)).await.unwrap().unwrap();
    assert_eq!(begun.id, begun.asked[0].fence.number);
    let orders: BTreeSet<i64> = begun.asked.iter().map(|asked| asked.fence.number).collect();
    assert_eq!((orders.len(), on.ledger.listing_orders().await.unwrap()), (2, orders));
    assert_eq!(on.ledger.listing(begun.id).await.unwrap(), Some(begun.clone()));

    let asked: Vec<PageAsked> = begun.open().map(|(_, page)| page).collect();
    let (main, second) = (instance("hypervisor.main"), instance("hypervisor.second"));
    let first = page(&asked[0], "a", true);
    let (number, other) = (begun.asked[0].fence, begun.asked[1].fence);
    for (from, fence) in [(&second, number), (&main, other)] {
        assert_eq!(on.ledger.hear_listing(from, fence, &came(&first)).await.unwrap(), None, "{from} {fence}");
    }
    let behind = on.ledger.hear_listing(&main, number, &came(&first)).await.unwrap().unwrap();
    let next = of(&behind, "hypervisor.main");
    assert!(next.fence.number > other.number && next.fence.epoch == number.epoch, "{next:?}");
    assert_eq!(next.pages, 1);
    assert_eq!(on.ledger.hear_listing(&main, number, &came(&first)).await.unwrap(), None, "it has come");
    let expected = BTreeSet::from([next.fence.number, other.number]);
    assert_eq!(on.ledger.listing_orders().await.unwrap(), expected);

    let busy = Came::Answered(Outcome::spared("locked"));
    let told = on.ledger.hear_listing(&second, other, &busy).await.unwrap().unwrap();
    let waits = Progress::Open { after: None, lacks: Some("locked".to_owned()) };
    assert_eq!(of(&told, "hypervisor.second").progress, waits);
    let only = page(&asked[1], "z", false);
    on.ledger.hear_listing(&second, other, &came(&only)).await.unwrap().unwrap();
    let asked = behind.open().next().unwrap().1;
    let last = page(&asked, "b", false);
    let whole = on.ledger.hear_listing(&main, next.fence, &came(&last)).await.unwrap().unwrap();
    assert_eq!(whole.stands(on.now().await), Stands::Whole);
    assert_eq!(on.ledger.listing(begun.id).await.unwrap(), Some(whole));
    let pages = on.ledger.listed(begun.id).await.unwrap();
    assert_eq!(pages, [(main.clone(), first), (main, last), (second, only)]);

    on.ledger.end_listing(begun.id).await.unwrap();
    assert_eq!(on.ledger.listing(begun.id).await.unwrap(), None);
    assert_eq!(on.ledger.listed(begun.id).await.unwrap(), []);
    assert!(on.ledger.listing_orders().await.unwrap().is_empty());
    assert_eq!(fixture.count(ELSEWHERE).await, before, "nothing else was written");
    let again = on.ledger.begin_listing(wanted("tenants", LONG_MS)).await.unwrap().unwrap();
    assert!(again.id > next.fence.number, "its orders have higher numbers");
}

pub async fn one_listing_of_a_kind_and_scope_is_open_and_few_in_all(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let begun = on.ledger.begin_listing(wanted("tenants/0", LONG_MS)).await.unwrap().unwrap();
    let twice = refused(on.ledger.begin_listing(wanted("tenants/0", LONG_MS)).await.unwrap());
    let (kind, scope) = (begun.kind.clone(), begun.scope.clone());
    assert_eq!(twice, NotTaken::Busy { kind, scope, until: begun.answer_by });
    for number in 1..OPEN_MAX {
        let scope = format!("tenants/{number}");
        on.ledger.begin_listing(wanted(&scope, LONG_MS)).await.unwrap().unwrap();
    }
    let many = refused(on.ledger.begin_listing(wanted("lab", LONG_MS)).await.unwrap());
    assert_eq!(many, NotTaken::TooMany { open: OPEN_MAX });
    on.ledger.end_listing(begun.id).await.unwrap();
    // One whose time is over keeps nobody from beginning it again.
    on.ledger.begin_listing(wanted("tenants/0", 0)).await.unwrap().unwrap();
    on.ledger.begin_listing(wanted("tenants/0", LONG_MS)).await.unwrap().unwrap();
}

/// Two coordinators find the same census to be due: one of them takes it, and one notes that there was none.
pub async fn a_census_that_is_due_is_begun_once_and_noted_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let latest = async || {
        let latest = on.ledger.latest_censuses().await.unwrap();
        Seen::of(latest.iter().find(|one| one.scope.as_str() == "tenants"))
    };
    let due = |within_ms: u64, seen: Seen| NewListing { seen: Some(seen), ..wanted("tenants", within_ms) };
    let unknown = latest().await;
    assert_eq!(unknown, Seen::default());
    let begun = on.ledger.begin_listing(due(LONG_MS, unknown)).await.unwrap().unwrap();
    assert_eq!(on.ledger.listings().await.unwrap(), std::slice::from_ref(&begun));
    let why = refused(on.ledger.begin_listing(due(LONG_MS, unknown)).await.unwrap());
    assert!(matches!(why, NotTaken::Busy { .. }), "{why}");
    on.ledger.end_listing(begun.id).await.unwrap();
    // Its time is over, and nobody has said yet what came of it. Who asks himself need not wait for that.
    let over = on.ledger.begin_listing(due(0, unknown)).await.unwrap().unwrap();
    let why = refused(on.ledger.begin_listing(due(LONG_MS, unknown)).await.unwrap());
    assert!(matches!(why, NotTaken::Busy { .. }), "{why}");
    let asked = on.ledger.begin_listing(wanted("tenants", LONG_MS)).await.unwrap().unwrap();
    on.ledger.end_listing(asked.id).await.unwrap();

    let attempt = || Attempt {
        kind: over.kind.clone(),
        scope: over.scope.clone(),
        seen: unknown,
        why: "no answer".to_owned(),
    };
    let audited = fixture.count("SELECT count(*) FROM ledger_audit").await;
    assert!(on.ledger.note_not_taken(attempt()).await.unwrap());
    assert!(!on.ledger.note_not_taken(attempt()).await.unwrap(), "somebody else has noted it");
    assert_eq!(fixture.count("SELECT count(*) FROM ledger_audit").await, audited + 1);
    on.ledger.end_listing(over.id).await.unwrap();
    let [noted] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    let refusal = noted.refused_last().unwrap();
    assert_eq!((refusal.by.as_str(), refusal.why.as_str()), ("coordinator", "no answer"));
    assert!(refusal.not_taken && noted.believed_at.is_none(), "{noted:?}");

    // Whoever has looked before that is too late; who looks now is not.
    let why = refused(on.ledger.begin_listing(due(LONG_MS, unknown)).await.unwrap());
    assert_eq!(why, NotTaken::Overtaken);
    let known = latest().await;
    on.ledger.begin_listing(due(LONG_MS, known)).await.unwrap().unwrap();
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn nothing_is_listed_under_review(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut later = on.ledger.known();
    later.mark.revision += 1;
    on.ledger.confront(&later).await.unwrap().unwrap();
    let why = refused(on.ledger.begin_listing(wanted("tenants", LONG_MS)).await.unwrap());
    assert_eq!(why, NotTaken::Review);
}
