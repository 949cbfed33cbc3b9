//! Complete listings only: one that misses a sentinel, that was cut, that was taken with something else, that is suddenly
//! smaller or larger, or that is handed in where Sexton takes it, is refused. Nothing begins by it, and what may begin stays as the last one gave that was believed.
use serde_json::json;
use sexton_ledger::{Counted, DeletionFilter, NotDone};
use sexton_model::belts::budget::Exceeded;
use sexton_model::belts::census::daily::Take;
use sexton_model::belts::census::{Census, Listed, NotBelieved, Rules, Sentinel};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobState, Stage};
use sexton_model::resource::Presence;
use sexton_model::{DeletionId, Kind, ResourceId, Scope};

use super::budgets::{exceeded, frozen, policy};
use super::system::{System, TRUSTED, ask, on_many_machines, ops, web01};

on_many_machines! {
    one_that_misses_a_sentinel_is_refused_and_opens_no_budget,
    one_that_lists_nothing_of_a_scope_is_refused_and_opens_no_budget,
    one_that_was_cut_at_a_page_limit_is_refused_and_opens_no_budget,
    one_taken_with_something_else_is_refused_until_that_is_said,
    one_that_is_suddenly_smaller_is_refused_and_the_share_stays,
    one_in_which_most_is_gone_stops_its_scope_though_it_is_refused,
    what_nobody_has_registered_lets_no_more_begin,
    what_is_registered_in_another_scope_lets_no_more_begin,
    few_that_others_delete_in_each_of_many_scopes_stop_their_kind_everywhere,
    one_that_is_handed_in_where_sexton_takes_it_hides_no_foreign_deletion,
    what_one_misses_is_not_deleted_and_gets_no_record,
}

fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

/// Both sentinels, in the order of a listing.
fn keepers() -> [ResourceId; 2] {
    ["keeper", "keeper-web"].map(vm)
}

/// By these budgets, and with two sentinels in `tenants/acme`.
fn guarded(budgets: &str) -> Policy {
    let [one, other] = keepers();
    let sentinel = |scope: &str, resource: ResourceId| Sentinel { scope: scope.parse().unwrap(), resource };
    let sentinels = vec![sentinel("tenants/acme", one), sentinel("tenants/acme", other)];
    Policy { census: Rules { sentinels, ..Rules::default() }, ..policy(budgets) }
}

/// `vm/web01` and so many machines behind it.
fn webs(many: usize) -> Vec<ResourceId> {
    (1..=many).map(|number| vm(&format!("web{number:02}"))).collect()
}

/// All but `vm/web01`, which is registered from the start.
async fn register(system: &System, webs: &[ResourceId]) {
    for id in webs.iter().filter(|id| **id != web01()) {
        system.register_named(id, false).await;
    }
}

/// The sentinels, of which a share is counted, too.
async fn register_keepers(system: &System) {
    for id in &keepers() {
        system.register_named(id, false).await;
    }
}

/// The sentinels, and these behind them.
fn with_keepers(webs: &[ResourceId]) -> Vec<ResourceId> {
    keepers().iter().chain(webs).cloned().collect()
}

/// Handed in as it is: that there are fewer is not said.
async fn hand_in(system: &System, census: Census) -> Result<Counted, NotDone> {
    system.ledger.take_census(Census { fewer: false, ..census }, &ops()).await.unwrap()
}

/// It is refused. That is kept of it, and nothing else.
async fn refused(system: &System, census: Census) -> NotBelieved {
    let before = system.ledger.censuses().await.unwrap();
    let why = match hand_in(system, census).await {
        Err(NotDone::Census(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(system.ledger.censuses().await.unwrap(), before);
    let [latest] = system.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    assert_eq!(latest.refused_last().map(|refused| refused.why.clone()), Some(why.to_string()));
    why
}

async fn delete(system: &System, id: &ResourceId) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(id.clone(), now).await
}

async fn until_begun(system: &System, id: DeletionId) {
    let begun = |state: &JobState| !matches!(state, JobState::Scheduled { .. } | JobState::Held { .. });
    system.until_job(id, Stage::Announce, begun).await;
}

/// It was looked at again, and not one step of it is done. What it would exceed: members, begun, and how many may.
async fn stays_frozen(system: &System, id: DeletionId) -> (u64, u64, u64) {
    let Exceeded { members, used, limit, .. } = looked_at_again(system, id).await;
    assert!(!limit.uncounted, "it was counted");
    (members, used, limit.most)
}

/// The same before anybody has counted.
async fn stays_uncounted(system: &System, id: DeletionId) {
    let why = looked_at_again(system, id).await;
    assert!(why.limit.uncounted, "{why}");
    assert_eq!(system.ledger.pauses().await.unwrap(), [], "nobody knows what is gone");
}

async fn looked_at_again(system: &System, id: DeletionId) -> Exceeded {
    system.until_job(id, Stage::Announce, frozen).await;
    system.engine.admit_what_waits().await.unwrap();
    system.two_beacons().await;
    let job = system.until_job(id, Stage::Announce, frozen).await;
    assert_eq!(job.cursor, 0, "not one step");
    exceeded(job)
}

/// Of two sentinels one is seen: so whoever listed sees a part.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_misses_a_sentinel_is_refused_and_opens_no_budget() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 50\nstages = [\"announce\"]")).await;
    register_keepers(&system).await;
    let before = system.world();
    let first = system.delete().await;
    let [one, other] = keepers();
    let missing = || NotBelieved::SentinelMissing(other.clone(), "census-ro".to_owned());
    let partial = [one, web01()];
    assert_eq!(refused(&system, system.census(&partial, 2).await).await, missing());
    stays_uncounted(&system, first).await;
    assert_eq!(system.world(), before);

    let whole = with_keepers(&[web01()]);
    assert_eq!(hand_in(&system, system.census(&whole, 3).await).await.unwrap().paused, None);
    system.until_over(first, RecordStatus::Recycled).await;

    // Half of three are two, whatever is refused after that.
    assert_eq!(refused(&system, system.census(&partial, 2).await).await, missing());
    let webs = webs(3);
    register(&system, &webs).await;
    until_begun(&system, delete(&system, &webs[1]).await).await;
    let third = delete(&system, &webs[2]).await;
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2));
}

/// A credential that sees one customer alone counts correctly what it sees, and the sentinels are that one's.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_lists_nothing_of_a_scope_is_refused_and_opens_no_budget() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 50\nstages = [\"announce\"]")).await;
    register_keepers(&system).await;
    let theirs = ["other1", "other2"].map(vm);
    for id in &theirs {
        system.register_in("tenants/other", id, false).await;
    }
    let before = system.world();
    let first = system.delete().await;
    let of_tenants = |listed: Census| Census { scope: "tenants".parse().unwrap(), ..listed };
    let partial = of_tenants(system.census(&with_keepers(&[web01()]), 3).await);
    let unseen = NotBelieved::ScopeUnseen {
        scope: "tenants/other".parse().unwrap(),
        registered: 2,
        of: "tenants".parse().unwrap(),
    };
    assert_eq!(refused(&system, partial).await, unseen);
    stays_uncounted(&system, first).await;
    assert_eq!(system.world(), before);

    // One of them is enough: that the other is gone is a finding, and no part that was not seen.
    let [keeper, keeper_web] = keepers();
    let listed = [keeper, keeper_web, theirs[0].clone(), web01()];
    let counted = hand_in(&system, of_tenants(system.census(&listed, 4).await)).await.unwrap();
    assert_eq!((counted.taken.missing, counted.paused), (1, None));
    system.until_over(first, RecordStatus::Recycled).await;
}

/// The list of 100: the first page, of which somebody thought that it was all.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_cut_at_a_page_limit_is_refused_and_opens_no_budget() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 1\nstages = [\"announce\"]")).await;
    let others = (0..117).map(|number| vm(&format!("m{number:03}")));
    let all: Vec<ResourceId> = keepers().into_iter().chain(others).chain([web01()]).collect();
    for id in &all[..119] {
        system.register_named(id, false).await;
    }
    let before = system.world();
    let first = system.delete().await;
    let page = &all[..100];
    let cut = || NotBelieved::Total { said: 120, listed: 100 };
    assert_eq!(refused(&system, system.census(page, 120).await).await, cut());
    stays_uncounted(&system, first).await;
    assert_eq!(system.world(), before);

    assert_eq!(hand_in(&system, system.census(&all, 120).await).await.unwrap().paused, None);
    system.until_over(first, RecordStatus::Recycled).await;

    // One per cent of 120 are two, since a part of one counts as one; of the page it would be one.
    assert_eq!(refused(&system, system.census(page, 120).await).await, cut());
    let webs = webs(3);
    register(&system, &webs).await;
    until_begun(&system, delete(&system, &webs[1]).await).await;
    let third = delete(&system, &webs[2]).await;
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2));
    // The total of a page that was counted by its length is no better: there were more.
    let why = refused(&system, system.census(page, 100).await).await;
    assert_eq!(why, NotBelieved::Fewer { census: 1, before: 120, listed: 100 });
}

/// Another credential may see another part, be that more or less.
#[tokio::test(flavor = "multi_thread")]
async fn one_taken_with_something_else_is_refused_until_that_is_said() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 30\nstages = [\"announce\"]")).await;
    let webs = webs(8);
    register_keepers(&system).await;
    register(&system, &webs[..2]).await;
    let few = with_keepers(&webs[..2]);
    assert_eq!(hand_in(&system, system.census(&few, 4).await).await.unwrap().paused, None);
    until_begun(&system, delete(&system, &webs[0]).await).await;
    until_begun(&system, delete(&system, &webs[1]).await).await;
    register(&system, &webs[2..3]).await;
    let third = delete(&system, &webs[2]).await;
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2), "30 % of four, of which a part counts as one");

    let other = async |listed: &[ResourceId]| {
        let total = listed.len() as u64;
        Census { credential: "tenant-ro".into(), ..system.census(listed, total).await }
    };
    let many = with_keepers(&webs);
    let another = |before: &str, now: &str, census: i64| NotBelieved::Credential {
        census,
        before: before.to_owned(),
        now: now.to_owned(),
    };
    for listed in [&many[..], &many[..2]] {
        let why = refused(&system, other(listed).await).await;
        assert_eq!(why, another("census-ro", "tenant-ro", 1));
    }
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2));
    assert_eq!(system.ledger.pauses().await.unwrap(), [], "what it does not see is not gone");

    let meant = Census { new_credential: true, ..other(&many[..]).await };
    let counted = hand_in(&system, meant).await.unwrap().taken;
    assert_eq!((counted.census, counted.credential.as_str()), (2, "tenant-ro"));
    // It was said of that one.
    let why = refused(&system, system.census(&many, 10).await).await;
    assert_eq!(why, another("tenant-ro", "census-ro", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_suddenly_smaller_is_refused_and_the_share_stays() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 25\nstages = [\"announce\"]")).await;
    let webs = webs(8);
    register_keepers(&system).await;
    register(&system, &webs).await;
    let all = with_keepers(&webs);
    assert_eq!(hand_in(&system, system.census(&all, 10).await).await.unwrap().paused, None);
    let why = refused(&system, system.census(&all[..8], 8).await).await;
    assert_eq!(why, NotBelieved::Fewer { census: 1, before: 10, listed: 8 });
    assert_eq!(system.ledger.pauses().await.unwrap(), [], "two may go in a day, as far as that goes");

    // 25 % of ten are three, since a part of one counts as one; of eight it would be two.
    for id in &webs[..2] {
        until_begun(&system, delete(&system, id).await).await;
    }
    let [third, fourth] = system.delete_both([webs[2].clone(), webs[3].clone()]).await;
    for id in [third, fourth] {
        assert_eq!(stays_frozen(&system, id).await, (2, 2, 3));
    }
    let meant = system.census(&all[..8], 8).await;
    assert!(meant.fewer);
    system.ledger.take_census(meant, &ops()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_which_most_is_gone_stops_its_scope_though_it_is_refused() {
    let system = System::start_in_calendar_days(guarded("none = true")).await;
    let before = system.world();
    let webs = webs(8);
    register(&system, &webs).await;
    let all = with_keepers(&webs);
    assert_eq!(hand_in(&system, system.census(&all, 10).await).await.unwrap().paused, None);
    let why = refused(&system, system.census(&all[..3], 3).await).await;
    assert_eq!(why, NotBelieved::Fewer { census: 1, before: 10, listed: 3 });
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    let scope = "tenants/acme".parse().unwrap();
    let covers = PauseSelector { scope: Some(scope), ..PauseSelector::default() };
    assert_eq!(pause.covers, covers, "of whatever kind");

    let paused = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Pause { .. }, .. });
    let id = system.delete().await;
    system.until_job(id, Stage::Announce, paused).await;
    // It is the scope that stands still, and nothing else.
    let elsewhere = vm("elsewhere");
    system.register_in("tenants/other", &elsewhere, false).await;
    until_begun(&system, delete(&system, &elsewhere).await).await;
    system.two_beacons().await;
    assert_eq!(system.until_job(id, Stage::Announce, paused).await.cursor, 0, "not one step");
    assert_eq!(system.world(), before);

    // Whoever has found out who it was lifts it.
    assert!(system.ledger.resume(pause.id, &ops(), None).await.unwrap().unwrap());
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Whoever asks for deletions may hand in censuses: what it invents is no reason to let more of them begin.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_registered_lets_no_more_begin() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 25\nstages = [\"announce\"]")).await;
    let webs = webs(3);
    register_keepers(&system).await;
    register(&system, &webs).await;
    // 25 % of five are two, since a part of one counts as one; of all that is listed they would be more than five.
    let invented: Vec<ResourceId> = (0..100).map(|number| vm(&format!("m{number:03}"))).collect();
    let all = [&keepers()[..], &invented[..], &webs[..]].concat();
    assert_eq!(hand_in(&system, system.census(&all, 105).await).await.unwrap().paused, None);
    until_begun(&system, delete(&system, &webs[0]).await).await;
    until_begun(&system, delete(&system, &webs[1]).await).await;
    let third = delete(&system, &webs[2]).await;
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2));

    // Nor does it get larger by itself.
    let more: Vec<ResourceId> = (0..200).map(|number| vm(&format!("m{number:03}"))).collect();
    let all = [&keepers()[..], &more[..], &webs[..]].concat();
    let why = refused(&system, Census { more: false, ..system.census(&all, 205).await }).await;
    assert_eq!(why, NotBelieved::More { census: 1, before: 105, listed: 205 });
}

/// Nor is what is truly there, and registered, by whoever says that all of it is in the scope of its deletions.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_in_another_scope_lets_no_more_begin() {
    let system =
        System::start_in_calendar_days(guarded("a_day = 5\npercent = 25\nstages = [\"announce\"]")).await;
    let webs = webs(3);
    register_keepers(&system).await;
    register(&system, &webs).await;
    let theirs: Vec<ResourceId> = (0..100).map(|number| vm(&format!("m{number:03}"))).collect();
    for id in &theirs {
        system.register_in("tenants/other", id, false).await;
    }
    // 25 % of five are two, since a part of one counts as one; of all that is listed there they would be more than five.
    let all = [&keepers()[..], &theirs[..], &webs[..]].concat();
    let handed_in = Census { scope: "tenants".parse().unwrap(), ..system.census(&all, 105).await };
    let counted = hand_in(&system, handed_in).await.unwrap();
    assert!(!counted.has_paused(), "{counted:?}");
    assert_eq!(counted.taken.misplaced.get("tenants/acme"), Some(&100), "whoever hands it in is told");
    assert_eq!(counted.taken.misplaced_named[0].registered_in.as_str(), "tenants/other");
    until_begun(&system, delete(&system, &webs[0]).await).await;
    until_begun(&system, delete(&system, &webs[1]).await).await;
    let third = delete(&system, &webs[2]).await;
    assert_eq!(stays_frozen(&system, third).await, (1, 2, 2));
}

/// One census for each tenant, and two machines of each are gone: of no scope are that too many.
#[tokio::test(flavor = "multi_thread")]
async fn few_that_others_delete_in_each_of_many_scopes_stop_their_kind_everywhere() {
    let mut policy = policy("a_day = 2\neverywhere = 4");
    let tenants = ["tenants/t1", "tenants/t2", "tenants/t3"];
    let of = |tenant: &str| ["always", "one", "two"].map(|name| vm(&format!("{}-{name}", &tenant[8..])));
    let sentinel =
        |tenant: &str| Sentinel { scope: tenant.parse().unwrap(), resource: of(tenant)[0].clone() };
    policy.census.sentinels = tenants.map(sentinel).to_vec();
    let system = System::start_in_calendar_days(policy).await;
    let before = system.world();
    let count = async |tenant: &str, listed: &[ResourceId], fewer: bool| {
        let scope: Scope = tenant.parse().unwrap();
        let census = system.census(listed, listed.len() as u64).await;
        let there = |one: &Listed| Listed { scope: scope.clone(), ..one.clone() };
        let listed = census.listed.iter().map(there).collect();
        let census = Census { scope: scope.clone(), listed, fewer, ..census };
        system.ledger.take_census(census, &ops()).await.unwrap()
    };
    for tenant in tenants {
        for id in &of(tenant) {
            system.register_in(tenant, id, false).await;
        }
        assert!(!count(tenant, &of(tenant), false).await.unwrap().has_paused());
    }
    for tenant in [tenants[0], tenants[1]] {
        let counted = count(tenant, &of(tenant)[..1], true).await.unwrap();
        assert!(counted.taken.newly_missing == 2 && !counted.has_paused(), "{counted:?}");
    }
    // Of three machines two are so many that the census is refused: they are gone all the same.
    let why = count(tenants[2], &of(tenants[2])[..1], false).await.unwrap_err();
    assert!(matches!(why, NotDone::Census(NotBelieved::Fewer { before: 3, listed: 1, .. })), "{why}");
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    let covers = PauseSelector { kind: Some("vm".parse().unwrap()), ..PauseSelector::default() };
    assert_eq!(pause.covers, covers, "in every scope, also where nothing is gone");
    assert!(pause.reason.contains("6 of vm are gone in all scopes together"), "{pause:?}");

    let paused = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Pause { .. }, .. });
    let id = system.delete().await;
    system.until_job(id, Stage::Announce, paused).await;
    system.two_beacons().await;
    assert_eq!(system.until_job(id, Stage::Announce, paused).await.cursor, 0, "not one step");
    assert_eq!(system.world(), before);
    // Whoever has found out who it was lifts it.
    assert!(system.ledger.resume(pause.id, &ops(), None).await.unwrap().unwrap());
    until_begun(&system, id).await;
}

/// Whoever has deleted machines by the platform's own button says that they are there: in the place of what instances list.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_handed_in_where_sexton_takes_it_hides_no_foreign_deletion() {
    let mut policy = guarded("none = true");
    let (kind, scope): (Kind, Scope) = ("vm".parse().unwrap(), "tenants/acme".parse().unwrap());
    policy.census.take =
        vec![Take { kind: kind.clone(), scope: scope.clone(), every_hours: 24, within_secs: 20 }];
    let system = System::start_in_calendar_days(policy).await;
    let webs = webs(8);
    register_keepers(&system).await;
    register(&system, &webs).await;
    let all = with_keepers(&webs);
    let own = async |listed: &[ResourceId]| {
        let total = listed.len() as u64;
        Census { itself: true, ..system.census(listed, total).await }
    };
    assert_eq!(hand_in(&system, own(&all).await).await.unwrap().paused, None);
    let handed_in = async || system.ledger.take_census(system.census(&all, 10).await, &ops()).await.unwrap();
    let here = || NotDone::Census(NotBelieved::TakenHere { kind: kind.clone(), scope: scope.clone() });
    assert_eq!(handed_in().await, Err(here()), "whatever is said of it");
    assert_eq!(system.ledger.censuses().await.unwrap().len(), 1);

    let why = refused(&system, own(&all[..3]).await).await;
    assert_eq!(why, NotBelieved::Fewer { census: 1, before: 10, listed: 3 });
    assert_eq!(handed_in().await, Err(here()));
    let [latest] = system.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    let stands = latest.refused_last().unwrap();
    assert_eq!(stands.why, why.to_string(), "what came of its own");
    assert_eq!((stands.missing, stands.missing_named.iter().eq(&webs[1..])), (7, true), "{stands:?}");
    assert_eq!(system.ledger.pauses().await.unwrap().len(), 1);
}

/// Absence is no reason, in one that is believed either: what has no record gets none, and what has one goes when that says.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_misses_is_not_deleted_and_gets_no_record() {
    let mut system = System::start_in_calendar_days(guarded("none = true")).await;
    let url = system.serve_inventory().await;
    let webs = webs(8);
    register_keepers(&system).await;
    register(&system, &webs).await;
    let all = with_keepers(&webs);
    assert_eq!(hand_in(&system, system.census(&all, 10).await).await.unwrap().paused, None);
    let in_days = system.ledger.facts().await.unwrap().now.plus_ms(3 * 86_400_000);
    let doomed = system.delete_named(webs[1].clone(), in_days).await;
    let standing = async || {
        let filter = DeletionFilter { limit: 100, ..DeletionFilter::default() };
        let records = system.ledger.deletions(&filter).await.unwrap().items;
        let records: Vec<DeletionId> = records.into_iter().map(|row| row.id).collect();
        let jobs = system.ledger.health().await.unwrap().jobs;
        let view = system.view(doomed).await;
        (system.world(), records, jobs, view.deletion.jobs, view.audit.len())
    };
    let before = standing().await;
    assert_eq!(before.1, [doomed]);

    let census = system.census(&with_keepers(&webs[2..]), 8).await;
    let body = json!({
        "kind": census.kind, "scope": census.scope, "credential": census.credential, "fewer": true,
        "taken_at": census.taken_at.utc().to_rfc3339(), "total": census.total, "listed": census.listed,
    });
    let believed = ask(&url, TRUSTED, "POST", "/v1/censuses", &body).await;
    let found = &believed.body;
    assert_eq!((believed.status, &found["missing_named"]), (201, &json!(&webs[..2])), "{believed:?}");
    assert!(found["paused"].is_null() && found["paused_everywhere"].is_null(), "nobody is stopped: {found}");
    system.engine.admit_what_waits().await.unwrap();
    system.two_beacons().await;
    assert_eq!(standing().await, before);
    let view = system.ledger.resource(&webs[0]).await.unwrap().unwrap();
    assert_eq!((view.presence, view.live), (Presence::Registered, None));
    assert!(system.monitoring.changes().is_empty() && system.backup.changes().is_empty());
}
