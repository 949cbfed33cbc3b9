//! What a census that was handed in may not do, for whoever lists may be who asks for the deletions; and what is kept of one that
//! lists too few.
use sexton_ledger::{Counted, NotDone, Options};
use sexton_model::ResourceId;
use sexton_model::belts::census::daily::Take;
use sexton_model::belts::census::{Census, Misplaced, NotBelieved};
use sexton_model::job::Stage;
use sexton_model::time::Day;

use super::Fixture;
use super::censuses::policy;
use super::stage::{Stagehand, actor, job_id, resource};

const ALL: [&str; 3] = ["web01", "web02", "web03"];

/// A day in which all of a test happens.
const LONG: Day = Day::Rehearsal { length_ms: 600_000 };

fn not_believed(why: NotBelieved) -> Result<Counted, NotDone> {
    Err(NotDone::Census(why))
}

/// It is refused and written down, and takes the place of nothing.
pub async fn none_is_handed_in_where_sexton_takes_it(fixture: &dyn Fixture) {
    let mut options = policy("none = true");
    options.policy.census.take = vec![Take {
        kind: "vm".parse().unwrap(),
        scope: "tenants".parse().unwrap(),
        every_hours: 24,
        within_secs: 20,
    }];
    let on = Stagehand::with(fixture, options).await;
    for name in ALL.into_iter().chain(["sentinel"]) {
        on.register(name).await;
    }
    let here = || {
        let (kind, scope) = ("vm".parse().unwrap(), "tenants".parse().unwrap());
        not_believed(NotBelieved::TakenHere { kind, scope })
    };
    let handed_in = on.census(&ALL).await;
    assert!(handed_in.fewer && handed_in.more, "whatever is said");
    assert_eq!(on.count(handed_in).await, here());
    assert_eq!(on.ledger.latest_censuses().await.unwrap(), []);

    // What is gone in its own is what others have deleted: whoever has may not say that it is there, in it or in a part of it.
    let own = Census { itself: true, ..on.census(&ALL).await };
    let first = on.count(own).await.unwrap().taken;
    let own = Census { itself: true, fewer: false, ..on.census(&ALL[..1]).await };
    let fewer = NotBelieved::Fewer { census: 1, before: 4, listed: 2 };
    assert_eq!(on.count(own).await, not_believed(fewer));
    let latest = on.ledger.latest_censuses().await.unwrap();
    let part = Census { scope: "tenants/acme".parse().unwrap(), ..on.census(&ALL).await };
    for census in [on.census(&ALL).await, part] {
        assert_eq!(on.count(census).await, here());
    }
    assert_eq!(on.ledger.latest_censuses().await.unwrap(), latest, "what came of its own is not hidden");
    assert_eq!(on.ledger.censuses().await.unwrap(), [first], "the last one that was believed stands");
    let written = "SELECT count(*) FROM ledger_audit WHERE body LIKE '%\"census_refused\"%' AND body LIKE '%Sexton takes%'";
    assert_eq!(fixture.count(written).await, 3);
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn one_that_has_grown_is_refused_until_that_is_said(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, Options { day: LONG, ..policy("none = true") }).await;
    on.register("sentinel").await;
    let census = async |many: usize| {
        let names: Vec<String> = (1..many).map(|number| format!("m{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Census { more: false, ..on.census(&names).await }
    };
    let count = async |many: usize| on.count(census(many).await).await;
    let grown =
        |census: i64, before: u64, listed: usize| not_believed(NotBelieved::More { census, before, listed });
    assert!(count(4).await.is_ok());
    assert_eq!(count(10).await, grown(1, 4, 10));
    assert!(count(9).await.is_ok(), "a handful more");
    assert_eq!(count(14).await, grown(1, 4, 14), "and no other one within a day");
    let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    let refused = latest.refused_last().unwrap();
    assert!(refused.why.contains("state more if that is meant"), "{refused:?}");
    let meant = Census { more: true, ..census(14).await };
    assert!(on.count(meant).await.unwrap().taken.more);
    assert_eq!(count(20).await, grown(3, 14, 20), "it was said of that one");
    assert!(count(19).await.is_ok());
    let own = Census { itself: true, ..census(40).await };
    assert!(on.count(own).await.is_ok(), "what Sexton lists itself is registered");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// 30 % of three are one, since a part of one counts as one; of all that is listed it would be thirty.
pub async fn what_nobody_has_registered_enlarges_no_share(fixture: &dyn Fixture) {
    let budgets = "a_day = 5\npercent = 30\nstages = [\"announce\"]";
    let on = Stagehand::with(fixture, policy(budgets)).await;
    on.register("sentinel").await;
    let ids = [on.doomed("web01").await, on.doomed("web02").await];
    let invented: Vec<String> = (0..97).map(|number| format!("invented{number:02}")).collect();
    let names: Vec<&str> =
        ["web01", "web02"].into_iter().chain(invented.iter().map(String::as_str)).collect();
    let counted = on.counted(&names).await.taken;
    assert_eq!(counted.counts.get("tenants/acme"), Some(&100));
    assert_eq!(counted.unregistered.get("tenants/acme"), Some(&97));
    let jobs = ids.map(|id| job_id(id, Stage::Announce)).to_vec();
    let frozen = on.ledger.admit(jobs).await.unwrap().frozen;
    assert_eq!(frozen.iter().map(|batch| batch.exceeded.limit.most).collect::<Vec<u64>>(), [1]);
}

/// All that there is is listed in the scope that wants a larger share: by its true id, and as many as there truly are.
pub async fn a_share_is_of_what_is_listed_where_it_is_registered(fixture: &dyn Fixture) {
    let budgets = "a_day = 5\npercent = 30\nstages = [\"announce\"]";
    let on = Stagehand::with(fixture, policy(budgets)).await;
    on.register("sentinel").await;
    let ids = [on.doomed("web01").await, on.doomed("web02").await];
    let theirs: Vec<String> = (0..97).map(|number| format!("theirs{number:02}")).collect();
    let others = theirs.iter().map(|name| {
        let mut one = resource(name, &format!("uuid-of-{name}"));
        one.scope = "tenants/other".parse().unwrap();
        one
    });
    let registered = on.ledger.register(others.collect(), &actor("ops"), false).await.unwrap();
    assert!(registered.iter().all(Result::is_ok), "{registered:?}");
    let names: Vec<&str> = ["web01", "web02"].into_iter().chain(theirs.iter().map(String::as_str)).collect();
    let counted = on.counted(&names).await.taken;
    assert_eq!((counted.counts.get("tenants/acme"), counted.unknown, counted.missing), (Some(&100), 0, 0));
    assert_eq!(counted.misplaced.get("tenants/acme"), Some(&97));
    let first = Misplaced {
        id: "vm/theirs00".parse().unwrap(),
        listed_in: "tenants/acme".parse().unwrap(),
        registered_in: "tenants/other".parse().unwrap(),
    };
    assert_eq!((counted.misplaced_named.first(), counted.misplaced_named.len()), (Some(&first), 97));
    let jobs = ids.map(|id| job_id(id, Stage::Announce)).to_vec();
    let frozen = on.ledger.admit(jobs).await.unwrap().frozen;
    assert_eq!(frozen.iter().map(|batch| batch.exceeded.limit.most).collect::<Vec<u64>>(), [1]);
}

/// Whoever is told that many are gone is told which.
pub async fn one_that_lists_too_few_is_kept_with_the_names_of_what_is_missing(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, Options { day: LONG, ..policy("a_day = 1") }).await;
    for name in ALL.into_iter().chain(["sentinel"]) {
        on.register(name).await;
    }
    on.counted(&ALL).await;
    let refused = async |census: Census| {
        let answer = on.count(Census { fewer: false, ..census }).await;
        assert!(answer.is_err(), "{answer:?}");
        let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        latest.refused.unwrap()
    };
    let fewer = refused(on.census(&ALL[..1]).await).await;
    let gone: Vec<ResourceId> = ["vm/web02", "vm/web03"].map(|id| id.parse().unwrap()).to_vec();
    assert!(fewer.why.contains("state fewer if that is meant"), "{fewer:?}");
    assert_eq!((fewer.missing, fewer.missing_named.into_iter().collect::<Vec<_>>()), (2, gone));
    assert_eq!(on.ledger.pauses().await.unwrap().len(), 1);
    let written = "SELECT count(*) FROM ledger_audit WHERE body LIKE '%\"missing_named\":[\"vm/web02\",\"vm/web03\"]%' \
         AND body LIKE '%\"census_refused\"%'";
    assert_eq!(fixture.count(written).await, 1);
    // Of one that is refused for something else nobody knows what is missing.
    let cut = refused(Census { total: 9, ..on.census(&ALL[..1]).await }).await;
    assert_eq!((cut.missing, cut.missing_named.len()), (0, 0));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}
