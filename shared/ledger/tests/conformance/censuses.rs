//! Censuses: believed if complete, refused and written down if not; budgets by percent open with them, and many deletions by
//! others pause.
use sexton_ledger::{Admitted, CensusFilter, Counted, Mark, NotDone, Options, StrangerFilter, StrangerView};
use sexton_model::Scope;
use sexton_model::belts::budget::Written;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::findings::STRANGERS_MAX;
use sexton_model::belts::census::listing::{Listing, NewListing};
use sexton_model::belts::census::{Census, Listed, NotBelieved, Refusal, Rules, Sentinel, Stranger};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::Event;
use sexton_model::job::{Blocker, JobKind, JobState, Stage};
use sexton_model::time::Day;

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, instance, job_id, options};

pub(super) fn policy(budgets: &str) -> Options {
    let written: Written = toml::from_str(budgets).unwrap();
    let sentinel =
        Sentinel { scope: "tenants/acme".parse().unwrap(), resource: "vm/sentinel".parse().unwrap() };
    let policy = Policy {
        budgets: Some(written.budgets().unwrap()),
        census: Rules { sentinels: vec![sentinel], ..Rules::default() },
        ..Policy::default()
    };
    Options { policy, ..options() }
}

impl Stagehand {
    pub(super) async fn census(&self, names: &[&str]) -> Census {
        let mut names: Vec<&str> = names.iter().copied().chain(["sentinel"]).collect();
        names.sort_unstable();
        let listed = |name: &&str| Listed {
            id: format!("vm/{name}").parse().unwrap(),
            scope: "tenants/acme".parse().unwrap(),
            identity: None,
        };
        Census {
            kind: "vm".parse().unwrap(),
            scope: "tenants".parse().unwrap(),
            credential: "census-ro".into(),
            new_credential: false,
            fewer: true,
            more: true,
            taken_at: self.now().await,
            total: names.len() as u64,
            listed: names.iter().map(listed).collect(),
            unregistered: Vec::new(),
            itself: false,
        }
    }

    pub(super) async fn count(&self, census: Census) -> Result<Counted, NotDone> {
        self.ledger.take_census(census, &actor("platform")).await.unwrap()
    }

    pub(super) async fn counted(&self, names: &[&str]) -> Counted {
        let census = self.census(names).await;
        self.count(census).await.unwrap()
    }
}

pub async fn a_census_is_believed_if_it_is_complete(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 5")).await;
    for name in ["web01", "web02", "sentinel"] {
        on.register(name).await;
    }
    let whole = on.census(&["web01", "web02", "web03"]).await;
    let cut = Census { listed: whole.listed[1..].to_vec(), ..whole.clone() };
    assert_eq!(
        on.count(cut).await,
        Err(NotDone::Census(NotBelieved::Total { said: 4, listed: 3 })),
        "a page is missing"
    );
    assert_eq!(on.ledger.censuses().await.unwrap(), []);
    let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    let refused = latest.refused_last().unwrap();
    assert_eq!((refused.listed, refused.by.as_str(), latest.believed_at), (3, "platform", None));
    assert!(refused.why.contains("the platform counts 4, and 3 are listed"), "{refused:?}");
    let counted = on.count(whole.clone()).await.unwrap();
    assert_eq!(counted.paused, None);
    assert_eq!((counted.taken.census, counted.taken.missing, counted.taken.unknown), (1, 0, 1));
    assert_eq!(counted.taken.counts.get("tenants/acme"), Some(&4));
    assert_eq!(on.ledger.censuses().await.unwrap(), std::slice::from_ref(&counted.taken));
    let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    assert_eq!((latest.believed_at, latest.refused_last()), (Some(counted.taken.accepted_at), None));
    assert!(latest.refused.is_some(), "it is still known: {latest:?}");
    assert_eq!(on.count(whole).await, Err(NotDone::Census(NotBelieved::Overtaken(1))), "it comes twice");
    let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    assert!(latest.refused_last().is_some_and(|refused| refused.why.contains("census 1 was begun later")));
    let one = on.counted(&["web01", "web03"]).await.taken;
    assert!(one.missing_named.contains(&"vm/web02".parse().unwrap()), "{one:?}");
    // Nothing is deleted because a listing lacked it.
    let there = on.ledger.resource(&"vm/web02".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((there.live, there.presence), (None, sexton_model::resource::Presence::Registered));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn censuses_are_listed_by_the_page_newest_first(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    let narrow: Scope = "tenants/acme".parse().unwrap();
    for of in ["tenants", "tenants/acme", "tenants", "tenants/acme"] {
        on.count(Census { scope: of.parse().unwrap(), ..on.census(&["web01"]).await }).await.unwrap();
    }
    let listed = async |scopes: Option<Vec<Scope>>, before: Option<i64>, limit: u32| {
        let page = on.ledger.believed(&CensusFilter { scopes, before, limit }).await.unwrap();
        (page.items.iter().map(|taken| taken.census).collect::<Vec<i64>>(), page.next)
    };
    let next = |census: i64| Some(census.to_string());
    assert_eq!(listed(None, None, 3).await, (vec![4, 3, 2], next(2)));
    assert_eq!(listed(None, Some(2), 3).await, (vec![1], None));
    assert_eq!(listed(None, None, 4).await, (vec![4, 3, 2, 1], None));
    assert_eq!(listed(None, Some(1), 4).await, (vec![], None));
    // Of those that are left out, not even the number is told.
    let only = || Some(vec![narrow.clone(), "lab".parse().unwrap()]);
    assert_eq!(listed(only(), None, 1).await, (vec![4], next(4)));
    assert_eq!(listed(only(), Some(4), 1).await, (vec![2], None));
    assert_eq!(listed(Some(vec!["tenants/acme/web".parse().unwrap()]), None, 9).await, (vec![], None));
    assert_eq!(listed(Some(vec!["tenants/ac".parse().unwrap()]), None, 9).await, (vec![], None));
    assert_eq!(listed(Some(Vec::new()), None, 9).await, (vec![], None));
}

/// Two coordinators have all pages of one that was due: one has it judged. Whoever dies before has done nothing.
pub async fn what_was_listed_is_judged_once_and_put_away(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    let by = actor("coordinator");
    let begin = async |seen: Seen| -> Listing {
        let new = NewListing {
            by: by.clone(),
            kind: "vm".parse().unwrap(),
            scope: "tenants".parse().unwrap(),
            within_ms: 3_600_000,
            instances: vec![instance("hypervisor.main")],
            seen: Some(seen),
        };
        on.ledger.begin_listing(new).await.unwrap().unwrap()
    };
    let latest = async || {
        let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        latest
    };
    let begun = begin(Seen::default()).await;
    assert_eq!(on.ledger.listing(begun.id).await.unwrap().unwrap().seen, Some(Seen::default()));
    let census = on.census(&["web01"]).await;
    let judged = on.ledger.take_listed(begun.id, census.clone(), &by).await.unwrap();
    let counted = judged.unwrap().unwrap();
    assert_eq!((counted.taken.census, counted.paused), (1, None));
    assert_eq!(on.ledger.listing(begun.id).await.unwrap(), None, "it is put away with that");
    assert_eq!(on.ledger.take_listed(begun.id, census, &by).await.unwrap(), None);
    assert_eq!(latest().await.refused, None, "nor is it refused because it comes twice");

    // So it is if it is not believed.
    let begun = begin(Seen::of(Some(&latest().await))).await;
    let cut = Census { total: 9, ..on.census(&["web01"]).await };
    let judged = on.ledger.take_listed(begun.id, cut.clone(), &by).await.unwrap();
    assert_eq!(judged, Some(Err(NotDone::Census(NotBelieved::Total { said: 9, listed: 2 }))));
    assert_eq!(on.ledger.listing(begun.id).await.unwrap(), None);
    let refused = latest().await.refused;
    assert!(refused.is_some());
    assert_eq!(on.ledger.take_listed(begun.id, cut, &by).await.unwrap(), None);
    assert_eq!(latest().await.refused, refused, "and once");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// What it lacked is what counts; when it was tried since is known beside it, whoever is refused after that.
pub async fn one_that_was_not_believed_stands_though_none_is_listed_after_it(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 5")).await;
    on.register("sentinel").await;
    let cut = async || {
        let cut = Census { total: 9, ..on.census(&[]).await };
        on.count(cut).await.unwrap_err();
    };
    let latest = async || {
        let [latest] = on.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        latest
    };
    cut().await;
    let judged = latest().await;
    let (seen, refused) = (Seen::of(Some(&judged)), judged.refused.unwrap());
    let attempt = || Attempt {
        kind: judged.kind.clone(),
        scope: judged.scope.clone(),
        seen,
        why: "no answer".to_owned(),
    };
    assert!(on.ledger.note_not_taken(attempt()).await.unwrap());
    assert!(!on.ledger.note_not_taken(attempt()).await.unwrap(), "somebody else has noted it");
    let stands = latest().await.refused.unwrap();
    assert_eq!(Refusal { tried_at: None, ..stands.clone() }, refused);
    assert!(stands.tried().is_some_and(|at| at >= refused.at), "{stands:?}");
    cut().await;
    assert_eq!(latest().await.refused.unwrap().tried(), stands.tried(), "it is not hidden");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// Of few machines one is more than a tenth: where Sexton has removed it, the next census is believed all the same.
pub async fn what_was_removed_here_makes_none_too_small(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    for name in ["web02", "web03", "web04", "sentinel"] {
        on.register(name).await;
    }
    let id = on.doomed("web01").await;
    let census = async |names: &[&str], itself: bool| {
        let census = Census { fewer: false, itself, ..on.census(names).await };
        on.count(census).await
    };
    census(&["web01", "web02", "web03", "web04", "stray"][..], false).await.unwrap();
    let left = ["web02", "web03", "web04", "stray"];
    let fewer = |listed: usize| -> Result<Counted, NotDone> {
        Err(NotDone::Census(NotBelieved::Fewer { census: 1, before: 6, listed }))
    };
    for itself in [true, false] {
        assert_eq!(census(&left[..], itself).await, fewer(5), "nothing was removed here yet");
    }
    on.play_to(id, |_, _| false).await;
    for itself in [true, false] {
        assert_eq!(census(&left[1..], itself).await, fewer(4), "somebody else has removed web02");
    }
    assert_eq!(census(&left[..3], false).await, fewer(4), "it has left out what nobody has registered");
    let counted = census(&left[..], false).await.unwrap();
    assert_eq!((counted.taken.census, counted.taken.missing, counted.paused), (2, 0, None));
    // An instance does not know whose the stray is, so Sexton's own does not list it in a scope.
    let counted = census(&left[..3], true).await.unwrap();
    assert_eq!((counted.taken.census, counted.taken.missing, counted.paused), (3, 0, None));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// The usual first month: what nobody had registered is, and some of what was is removed here.
pub async fn what_is_registered_by_now_makes_none_too_small(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    for name in ["web02", "sentinel"] {
        on.register(name).await;
    }
    let id = on.doomed("web01").await;
    let census = async |names: &[&str]| {
        let census = Census { fewer: false, ..on.census(names).await };
        on.count(census).await
    };
    census(&["web01", "web02", "new01", "new02", "stray"][..]).await.unwrap();
    on.play_to(id, |_, _| false).await;
    let left = ["web02", "new01", "new02", "stray"];
    let fewer: Result<Counted, NotDone> =
        Err(NotDone::Census(NotBelieved::Fewer { census: 1, before: 6, listed: 4 }));
    on.register("new01").await;
    assert_eq!(census(&left[..3]).await, fewer, "two were strange besides, and one is listed");
    on.register("new02").await;
    assert_eq!(census(&left[..3]).await, fewer, "it has left out what nobody has registered");
    let counted = census(&left[..]).await.unwrap();
    assert_eq!((counted.taken.census, counted.taken.missing, counted.taken.unknown), (2, 0, 1));
}

pub async fn many_deletions_by_others_pause_their_scope(fixture: &dyn Fixture) {
    // All of it happens within one day.
    let day = Day::Rehearsal { length_ms: 600_000 };
    let on = Stagehand::with(fixture, Options { day, ..policy("a_day = 2") }).await;
    for name in ["web01", "web02", "web03", "web04", "sentinel"] {
        on.register(name).await;
    }
    let all = ["web01", "web02", "web03", "web04"];
    let doomed = on.wanted(&"vm/web04".parse().unwrap()).await;
    let id = on.ledger.create(vec![doomed]).await.unwrap().remove(0).unwrap();
    assert_eq!(on.counted(&all).await.paused, None);
    assert_eq!(
        on.counted(&["web01", "web04"]).await.paused,
        None,
        "two are gone, which is no more than may go"
    );
    let dripped = on.counted(&["web04"]).await;
    assert_eq!((dripped.taken.newly_missing, dripped.taken.told), (1, true), "slowly, within one day");
    assert_eq!(dripped.paused_everywhere, None, "it is one scope");
    let pauses = on.ledger.pauses().await.unwrap();
    assert_eq!((pauses.len(), Some(pauses[0].id)), (1, dripped.paused));
    let all_of_it = PauseSelector { scope: Some("tenants".parse().unwrap()), ..PauseSelector::default() };
    assert_eq!(pauses[0].covers, all_of_it, "of whatever kind");
    assert!(
        pauses[0].reason.contains("3 of vm are gone that are not being removed here, where 2 may go"),
        "{pauses:?}"
    );
    assert_eq!(on.counted(&["web04"]).await.paused, None, "nobody has deleted more");
    on.counted(&all).await;
    assert_eq!(on.counted(&all[1..]).await.paused, None, "of those before somebody was told");
    // That it has a record, of which nothing has been done, is no reason for it to be gone.
    let counted = on.counted(&["web02"]).await;
    assert_eq!((counted.taken.newly_missing, counted.taken.missing), (2, 3));
    assert!(counted.paused.is_some(), "and again");
    on.ledger.admit(vec![job_id(id, Stage::Announce)]).await.unwrap();
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    let held = on.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(matches!(held.state, JobState::Held { by: Blocker::Pause { .. }, .. }), "{held:?}");
}

/// Whoever lets any number begin hard here has not said that others may delete as many: then what may by default counts.
pub async fn many_deletions_by_others_pause_where_no_budget_counts_any(fixture: &dyn Fixture) {
    let day = Day::Rehearsal { length_ms: 600_000 };
    let on = Stagehand::with(fixture, Options { day, ..policy("none = true") }).await;
    let all = ["web01", "web02", "web03", "web04", "web05", "web06"];
    for name in all.into_iter().chain(["sentinel"]) {
        on.register(name).await;
    }
    assert_eq!(on.counted(&all).await.paused, None);
    assert_eq!(on.counted(&all[5..]).await.paused, None, "five are gone, as many as may go by default");
    let counted = on.counted(&[]).await;
    assert!(counted.paused.is_some() && counted.taken.told, "{counted:?}");
    let pauses = on.ledger.pauses().await.unwrap();
    assert!(
        pauses[0].reason.contains("6 of vm are gone that are not being removed here, where 5 may go"),
        "{pauses:?}"
    );
}

/// A record alone takes nothing away: what is gone before its hard stage, or comes back, somebody else has removed.
pub async fn only_what_is_being_removed_may_be_gone(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    on.register("sentinel").await;
    let id = on.doomed("web01").await;
    let web01 = "vm/web01".parse().unwrap();
    let taken = on.counted(&[]).await.taken;
    assert_eq!((taken.missing, taken.missing_named.contains(&web01)), (1, true));
    on.play_to(id, |name, _| name == "hypervisor.inspect@hard").await.unwrap();
    assert_eq!(on.counted(&[]).await.taken.missing, 0, "it is being taken apart");

    let kept = on.doomed("web02").await;
    on.play_to(kept, |name, _| name == "hypervisor.stop").await.unwrap();
    on.one(kept, cancel()).await.unwrap();
    let taken = on.counted(&[]).await.taken;
    assert!(taken.missing == 1 && !taken.missing_named.contains(&web01), "it comes back: {taken:?}");
}

pub async fn a_budget_by_percent_is_closed_before_a_census(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 5\npercent = 50\nstages = [\"announce\"]")).await;
    on.register("sentinel").await;
    let id = on.doomed("web01").await;
    let job = job_id(id, Stage::Announce);
    assert!(on.claim(id, Stage::Announce).await.is_err(), "not admitted yet");
    let frozen = on.ledger.admit(vec![job]).await.unwrap().frozen;
    assert!(frozen[0].exceeded.limit.uncounted, "{frozen:?}");
    on.one(id, Event::Claim { job }).await.unwrap();
    assert_eq!(on.ledger.admit(Vec::new()).await.unwrap(), Admitted::default());
    on.counted(&["web01"]).await;
    assert_eq!(on.ledger.admit(Vec::new()).await.unwrap().again, [job]);
    on.one(id, Event::Recheck { job }).await.unwrap();
    assert!(on.one(id, Event::Claim { job }).await.unwrap().dispatch.is_some());
}

impl Stagehand {
    async fn strangers(&self, filter: StrangerFilter) -> (Vec<StrangerView>, bool) {
        let read = self.ledger.strangers(&filter).await.unwrap();
        (read.views, read.more)
    }

    /// All that are kept: their names, the census, and whether they are registered by now.
    async fn strange(&self) -> Vec<(String, i64, bool)> {
        let (views, _) = self.strangers(StrangerFilter { limit: 1000, ..StrangerFilter::default() }).await;
        let told =
            |view: StrangerView| (view.kept.stranger.id.name.to_string(), view.kept.census, view.registered);
        views.into_iter().map(told).collect()
    }
}

pub async fn what_nobody_has_registered_is_kept_of_the_last_census_only(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    on.register("sentinel").await;
    let identity: sexton_model::resource::Identity =
        std::collections::BTreeMap::from([("uuid".to_owned(), "one".to_owned())]).try_into().unwrap();
    let mut first = on.census(&["a", "b"]).await;
    first.listed[0].identity = Some(identity.clone());
    let begun_at = first.taken_at;
    on.count(first).await.unwrap();
    let own = |name: &str, census: i64, registered: bool| (name.to_owned(), census, registered);
    assert_eq!(on.strange().await, [own("a", 1, false), own("b", 1, false)]);
    let (views, more) = on.strangers(StrangerFilter { limit: 1, ..StrangerFilter::default() }).await;
    let [view] = views.try_into().unwrap();
    let a = Stranger {
        id: "vm/a".parse().unwrap(),
        scope: Some("tenants/acme".parse().unwrap()),
        identity: Some(identity.clone()),
        instance: None,
    };
    assert_eq!((&view.kept.stranger, view.kept.first_seen, more), (&a, begun_at, true));
    let after = Some(Mark::behind(&view.kept));
    let (rest, more) = on.strangers(StrangerFilter { after, limit: 1, ..StrangerFilter::default() }).await;
    assert_eq!((rest[0].kept.stranger.id.name.as_str(), rest.len(), more), ("b", 1, false));
    for (scope, count) in [("tenants/acme/web", 2), ("tenants", 2), ("tenants/acme", 2), ("lab", 0)] {
        let scope = Some(scope.parse().unwrap());
        let (found, _) = on.strangers(StrangerFilter { scope, limit: 9, ..StrangerFilter::default() }).await;
        assert_eq!(found.len(), count);
    }
    // Who is limited to some is read what speaks of any of them; before the first one of a census begins all of it.
    let from = Mark { name: None, ..Mark::behind(&rest[0].kept) };
    for (scopes, count) in
        [(vec!["lab", "tenants/acme/web"], 2), (vec!["tenants"], 2), (vec!["lab", "tenant"], 0), (vec![], 0)]
    {
        let scopes: Vec<Scope> = scopes.into_iter().map(|scope| scope.parse().unwrap()).collect();
        let scopes = Some(scopes);
        let filter =
            StrangerFilter { scopes, after: Some(from.clone()), limit: 9, ..StrangerFilter::default() };
        assert_eq!(on.strangers(filter).await.0.len(), count);
    }
    let kind = Some("image".parse().unwrap());
    assert!(on.strangers(StrangerFilter { kind, limit: 9, ..StrangerFilter::default() }).await.0.is_empty());

    // One that is refused exchanges nothing.
    let cut = Census { total: 9, ..on.census(&["c"]).await };
    on.count(cut).await.unwrap_err();
    assert_eq!(on.strange().await.len(), 2);
    on.register("b").await;
    assert_eq!(on.strange().await[1], own("b", 1, true));
    let mut second = on.census(&["a", "b", "c"]).await;
    second.listed[0].identity = Some(identity);
    on.count(second).await.unwrap();
    assert_eq!(on.strange().await, [own("a", 2, false), own("c", 2, false)]);
    let (views, _) = on.strangers(StrangerFilter { limit: 9, ..StrangerFilter::default() }).await;
    assert_eq!(views[0].kept.first_seen, begun_at, "it is the same one");
    assert!(views[1].kept.first_seen > begun_at);

    // Those that an instance has listed have no scope; no more are kept than a thousand, and all are counted.
    let stray = |number: usize| Stranger {
        id: format!("vm/stray{number:04}").parse().unwrap(),
        scope: None,
        identity: None,
        instance: Some("hypervisor.main".parse().unwrap()),
    };
    let many: Vec<Stranger> = (0..STRANGERS_MAX + 3).map(stray).collect();
    on.count(Census { unregistered: many, ..on.census(&["b"]).await }).await.unwrap();
    let read = on.ledger.strangers(&StrangerFilter { limit: 1, ..StrangerFilter::default() }).await.unwrap();
    assert_eq!(read.views[0].kept.stranger, stray(0));
    assert_eq!(read.known.kept.values().copied().collect::<Vec<_>>(), [STRANGERS_MAX as u64]);
    assert_eq!((read.known.last.len(), read.known.last[0].unknown), (1, STRANGERS_MAX as u64 + 3));
    assert_eq!(read.known.latest.len(), 1);
    // Nothing was made of any of them.
    assert!(on.ledger.resource(&"vm/stray0000".parse().unwrap()).await.unwrap().is_none());
    on.counted(&["b"]).await;
    assert!(on.strange().await.is_empty(), "they are gone");
}

/// Between hard and recycle nobody registers it, and it may still be there: its record sees to that.
pub async fn what_a_record_is_removing_is_no_stranger(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    on.register("sentinel").await;
    let id = on.doomed("web01").await;
    on.play_to(id, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    assert_eq!(on.counted(&["web01"]).await.taken.unknown, 1);
    assert_eq!(on.strange().await, [("web01".to_owned(), 1, true)]);
}
