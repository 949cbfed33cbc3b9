//! Listings and health.
use sexton_ledger::{DeletionFilter, InstanceState, Limits, Options, ResourceFilter};
use sexton_model::belts::{PauseSelector, within};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, ResourceId, Scope};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, alive, instance, options, resource};

pub async fn listings_have_pages(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(on.doomed(&format!("vm{n}")).await);
    }
    let mut elsewhere = resource("elsewhere", "1");
    elsewhere.scope = "tenants/other".parse().unwrap();
    on.ledger.register(vec![elsewhere], &actor("ops"), true).await.unwrap();
    on.one(ids[3], cancel()).await.unwrap();

    let mut seen = Vec::new();
    let mut filter = DeletionFilter { limit: 3, ..DeletionFilter::default() };
    loop {
        let page = on.ledger.deletions(&filter).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|row| row.id));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids.iter().rev().copied().collect::<Vec<_>>(), "newest first, none twice");
    let of = |filter: DeletionFilter| {
        let ledger = on.ledger.clone();
        async move { ledger.deletions(&DeletionFilter { limit: 100, ..filter }).await.unwrap().items }
    };
    let cancelled = of(DeletionFilter { status: Some(RecordStatus::Cancelled), ..Default::default() }).await;
    assert_eq!(cancelled.iter().map(|row| row.id).collect::<Vec<_>>(), [ids[3]]);
    assert_eq!(cancelled[0].at, None);
    let scheduled = of(DeletionFilter { state: Some(StateName::Scheduled), ..Default::default() }).await;
    assert_eq!(scheduled.len(), 6);
    let (kind, state, due_at, _) = scheduled[0].at.clone().unwrap();
    assert_eq!((kind, state), (JobKind::Stage(Stage::Announce), StateName::Scheduled));
    assert!(due_at.is_some());
    // With all that is known of it, as if it had been read alone.
    for row in &scheduled {
        let view = on.ledger.deletion(row.id).await.unwrap().unwrap();
        assert_eq!(row.deletion, view.deletion);
    }
    let why = async || -> Vec<String> {
        of(DeletionFilter::default()).await.into_iter().filter_map(|row| row.at).map(|at| at.3).collect()
    };
    assert_eq!(why().await, [""; 6]);
    // A hold is seen before its job is due, and the first one is what is said.
    for (by, reason) in [("legal", "a lawsuit"), ("billing", "unpaid")] {
        let hold = Event::PlaceHold { by: actor(by), reason: reason.into() };
        on.one(ids[5], hold).await.unwrap();
    }
    assert_eq!(why().await, ["", "hold: legal: a lawsuit", "", "", "", ""]);
    let scope = |text: &str| DeletionFilter { scope: Some(text.parse().unwrap()), ..Default::default() };
    assert_eq!(of(scope("tenants/acme")).await.len(), 7);
    assert_eq!(of(scope("tenants")).await.len(), 0, "exactly this scope");
    let kind = |text: &str| DeletionFilter { kind: Some(text.parse().unwrap()), ..Default::default() };
    assert_eq!((of(kind("vm")).await.len(), of(kind("image")).await.len()), (7, 0));

    let mut names = Vec::new();
    let mut filter = ResourceFilter { limit: 3, ..ResourceFilter::default() };
    loop {
        let page = on.ledger.resources(&filter).await.unwrap();
        names.extend(page.items.iter().map(|view| view.resource.id.to_string()));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((names.len(), &names), (8, &sorted));
    let only =
        ResourceFilter { scope: Some("tenants/other".parse().unwrap()), limit: 9, ..Default::default() };
    assert_eq!(on.ledger.resources(&only).await.unwrap().items.len(), 1);
    let only = ResourceFilter { kind: Some("image".parse().unwrap()), limit: 9, ..Default::default() };
    assert!(on.ledger.resources(&only).await.unwrap().items.is_empty());
}

/// Whoever is limited to scopes is listed what is of them and below them, in the same order, and where a page ends by what is
/// on it.
pub async fn listings_stay_within_scopes(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut all: Vec<(Scope, ResourceId, DeletionId)> = Vec::new();
    for round in 0..3 {
        // What lies around `tenants/acme/` by its bytes is of others.
        let scopes = [
            "tenants/acme",
            "tenants/acme-2",
            "tenants/acme.x",
            "tenants/acme/web",
            "tenants/acme/web/a",
            "tenants/acme0",
            "tenants",
            "tenants/acmeX",
            "lab/z",
        ];
        for (n, scope) in scopes.into_iter().enumerate() {
            let mut new = resource(&format!("vm{n}-{round}"), &format!("{n}-{round}"));
            new.scope = scope.parse().unwrap();
            let (scope, id) = (new.scope.clone(), new.id.clone());
            assert_eq!(on.ledger.register(vec![new], &actor("ops"), true).await.unwrap(), [Ok(())]);
            let wanted = on.wanted(&id).await;
            let deletion = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
            all.push((scope, id, deletion));
        }
    }
    for limits in [
        &["tenants/acme"][..],
        &["tenants/acme", "tenants/acme/web", "lab"],
        &["tenants/acme/web/a"],
        &["tenants/ac"],
    ] {
        let limits: Vec<Scope> = limits.iter().map(|scope| scope.parse().unwrap()).collect();
        let inside: Vec<_> =
            all.iter().filter(|(scope, ..)| limits.iter().any(|outer| within(scope, outer))).collect();
        let mut newest: Vec<String> = inside.iter().map(|(.., id)| id.to_string()).collect();
        newest.reverse();
        let mut named: Vec<String> = inside.iter().map(|(_, id, _)| id.to_string()).collect();
        named.sort();
        for limit in [1, 2, 100] {
            let what = format!("{limits:?} by {limit}");
            let mut filter =
                DeletionFilter { scopes: Some(limits.clone()), limit, ..DeletionFilter::default() };
            let mut seen = Vec::new();
            loop {
                let page = on.ledger.deletions(&filter).await.unwrap();
                seen.extend(page.items.iter().map(|row| row.id.to_string()));
                let Some(next) = page.next else { break };
                assert_eq!(seen.last(), Some(&next), "{what}");
                filter.after = Some(next);
            }
            assert_eq!(seen, newest, "{what}");
            let mut filter =
                ResourceFilter { scopes: Some(limits.clone()), limit, ..ResourceFilter::default() };
            let mut seen = Vec::new();
            loop {
                let page = on.ledger.resources(&filter).await.unwrap();
                seen.extend(page.items.iter().map(|view| view.resource.id.to_string()));
                let Some(next) = page.next else { break };
                assert_eq!(seen.last(), Some(&next), "{what}");
                filter.after = Some(next);
            }
            assert_eq!(seen, named, "{what}");
        }
    }

    // Together with whatever else is asked for.
    on.one(all[0].2, cancel()).await.unwrap();
    on.one(all[1].2, cancel()).await.unwrap();
    let acme = || Some(vec!["tenants/acme".parse().unwrap()]);
    let deletions = async |filter: DeletionFilter| -> usize {
        let filter = DeletionFilter { scopes: acme(), limit: 100, ..filter };
        on.ledger.deletions(&filter).await.unwrap().items.len()
    };
    let cancelled = DeletionFilter { status: Some(RecordStatus::Cancelled), ..Default::default() };
    assert_eq!(deletions(cancelled).await, 1);
    let scheduled = DeletionFilter { state: Some(StateName::Scheduled), ..Default::default() };
    assert_eq!(deletions(scheduled).await, 8);
    let resources = async |filter: ResourceFilter| -> usize {
        let filter = ResourceFilter { scopes: acme(), limit: 100, ..filter };
        on.ledger.resources(&filter).await.unwrap().items.len()
    };
    for (kind, found) in [("vm", 9), ("image", 0)] {
        let kind = Some(kind.parse().unwrap());
        assert_eq!(deletions(DeletionFilter { kind: kind.clone(), ..Default::default() }).await, found);
        assert_eq!(resources(ResourceFilter { kind, ..Default::default() }).await, found);
    }
    for (scope, found) in
        [("tenants/acme", 3), ("tenants/acme/web", 3), ("tenants/acme0", 0), ("tenants", 0), ("lab/z", 0)]
    {
        let scope = Some(scope.parse().unwrap());
        assert_eq!(deletions(DeletionFilter { scope: scope.clone(), ..Default::default() }).await, found);
        assert_eq!(resources(ResourceFilter { scope, ..Default::default() }).await, found);
    }
}

/// By kind, and by scope with those below it, by whole segments.
pub async fn what_there_is_of_a_scope_is_counted(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let nothing = on.ledger.covered(None, None).await.unwrap();
    assert_eq!((nothing.records, nothing.resources), (0, 0));
    let over = on.doomed("over").await;
    on.doomed("web01").await;
    on.register("web02").await;
    for (name, scope) in [("below", "tenants/acme/web"), ("beside", "tenants/acmeX")] {
        let mut resource = resource(name, name);
        resource.scope = scope.parse().unwrap();
        on.ledger.register(vec![resource], &actor("ops"), true).await.unwrap().remove(0).unwrap();
    }
    on.one(over, super::cancel::cancel()).await.unwrap();
    let counted = async |kind: Option<&str>, scope: Option<&str>| {
        let (kind, scope) = (kind.map(|k| k.parse().unwrap()), scope.map(|s| s.parse().unwrap()));
        let there = on.ledger.covered(kind.as_ref(), scope.as_ref()).await.unwrap();
        (there.records, there.resources)
    };
    assert_eq!(counted(None, None).await, (1, 5));
    assert_eq!(counted(Some("vm"), Some("tenants/acme")).await, (1, 4));
    assert_eq!(counted(None, Some("tenants/acme/web")).await, (0, 1));
    assert_eq!(counted(None, Some("tenants/amce")).await, (0, 0));
    assert_eq!(counted(Some("image"), None).await, (0, 0));
}

/// What waits for whom, and which of them were ever heard of.
pub async fn instances_and_what_waits(fixture: &dyn Fixture) {
    let limits = Limits { down_after_ms: 300, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let other = instance("hypervisor.other");
    for name in ["one", "two"] {
        let mut elsewhere = resource(name, name);
        elsewhere.instances.insert(other.subsystem.clone(), other.name.clone());
        on.ledger.register(vec![elsewhere.clone()], &actor("ops"), true).await.unwrap();
        let wanted = on.wanted(&elsewhere.id).await;
        let id = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
        let job = on.job(id, JobKind::Stage(Stage::Announce)).await;
        let JobState::Scheduled { due_at } = job.state else { panic!("{:?}", job.state) };
        on.until(due_at.unwrap()).await;
    }
    let states = on.ledger.instances().await.unwrap();
    assert_eq!(states.len(), 5, "{states:?}");
    assert_eq!(states[&other], InstanceState { pulse_at: None, down: true, waiting: 2 });
    on.ledger.pulse(vec![alive(&other.to_string())]).await.unwrap();
    let up = on.ledger.instances().await.unwrap()[&other];
    let pulsed = up.pulse_at.unwrap();
    assert_eq!((up.down, up.waiting), (false, 2));
    on.until(pulsed.plus_ms(302)).await;
    let down = on.ledger.instances().await.unwrap()[&other];
    assert_eq!(down, InstanceState { pulse_at: Some(pulsed), down: true, waiting: 2 });
}

pub async fn health_counts(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let empty = on.ledger.health().await.unwrap();
    assert_eq!((empty.oldest_due, empty.jobs.values().sum::<u64>()), (None, 0));
    let (one, two) = (on.doomed("one").await, on.doomed("two").await);
    on.claim(one, Stage::Announce).await.unwrap();
    let due = on.job(two, JobKind::Stage(Stage::Announce)).await;
    let sexton_model::job::JobState::Scheduled { due_at } = due.state else { panic!("{:?}", due.state) };
    on.until(due_at.unwrap()).await;
    let pause = on.ledger.pause(PauseSelector::default(), &actor("ops"), "stop").await.unwrap().pause;
    let health = on.ledger.health().await.unwrap();
    assert_eq!(health.jobs[&StateName::Running], 1);
    assert_eq!(health.jobs[&StateName::Scheduled], 9);
    assert_eq!(health.oldest_due, due_at);
    assert_eq!(health.instances[&instance("hypervisor.main")].1, 1);
    assert_eq!(health.instances[&instance("dns.main")].1, 0);
    assert_eq!(health.pauses, [pause]);
}
