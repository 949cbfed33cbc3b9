//! Names, records, and what a ledger is.
use std::sync::Arc;

use serde_json::json;
use sexton_ledger::{LedgerError, NewDeletion, NotDone};
use sexton_model::access::{Registrar, Role};
use sexton_model::deletion::CannotDelete;
use sexton_model::plan::Plan;
use sexton_model::rebuilt::Rebuilt;
use sexton_model::resource::{Criticality, Presence as Inventory, Resource};
use sexton_model::time::Day;
use sexton_model::{ResourceId, Timestamp};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, options, registrar, resource};

pub async fn one_live_record_per_resource(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.register("web01").await;
    let wanted = on.wanted(&id).await;
    let results = on.ledger.create(vec![wanted.clone(), wanted.clone()]).await.unwrap();
    let first = *results[0].as_ref().unwrap();
    let taken = NotDone::AlreadyLive { resource: id.clone(), deletion: first };
    assert_eq!(results[1], Err(taken.clone()));
    assert_eq!(on.ledger.create(vec![wanted.clone()]).await.unwrap(), [Err(taken)]);
    assert_eq!(on.ledger.deletion_of(&id).await.unwrap(), Some(first));
    on.one(first, cancel()).await.unwrap();
    let second = *on.ledger.create(vec![wanted]).await.unwrap()[0].as_ref().unwrap();
    assert!(second > first);
    assert_eq!(on.ledger.deletion_of(&id).await.unwrap(), Some(second));
    // The table itself refuses it, too, whoever asks for it.
    let revived = "UPDATE deletions SET live = (1 = 1), status = 0, ended_at = NULL \
                   WHERE id = (SELECT min(id) FROM deletions)";
    let refused = fixture.attempt(revived).await.unwrap_err();
    let named = ["one_live_record", "UNIQUE constraint failed: deletions.resource"];
    assert!(named.iter().any(|named| refused.contains(named)), "{refused}");
}

pub async fn a_name_is_protected_until_recycle(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ops = actor("ops");
    let id = on.doomed("web01").await;
    let name = resource("web01", "x").id;
    let other = resource("web01", "another");
    let same = resource("web01", "uuid-of-web01");
    let taken = Err(NotDone::NameTaken { resource: name.clone(), deletion: id });
    assert_eq!(on.ledger.register(vec![other.clone()], &ops, false).await.unwrap(), vec![taken.clone()]);
    assert_eq!(on.ledger.register(vec![same.clone()], &ops, false).await.unwrap(), [Ok(())]);
    on.play_to(id, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    // Removed from the inventory: even the same identity cannot come back under its record.
    let both = vec![other.clone(), same];
    assert_eq!(on.ledger.register(both, &ops, false).await.unwrap(), [taken.clone(), taken]);
    let view = on.ledger.resource(&name).await.unwrap().unwrap();
    assert_eq!((view.presence, view.live), (Inventory::Tombstone, Some(id)));
    let lease = on.job(id, sexton_model::job::JobKind::Stage(sexton_model::job::Stage::Purge)).await;
    let out = *lease.state.out().unwrap();
    let event = sexton_model::decide::Event::Outcome {
        job: lease.id,
        from: "hypervisor.main".parse().unwrap(),
        fence: out.fence,
        outcome: sexton_model::step::Outcome::done(sexton_model::step::Presence::Absent, "gone"),
    };
    on.one(id, event).await.unwrap();
    on.play_to(id, |_, _| false).await;
    let again = on.ledger.create(vec![on.wanted(&name).await]).await.unwrap();
    assert_eq!(again, [Err(NotDone::NotRegistered(name.clone()))], "nothing of that name is there");
    assert_eq!(on.ledger.register(vec![other], &ops, false).await.unwrap(), [Ok(())]);
    let view = on.ledger.resource(&name).await.unwrap().unwrap();
    assert_eq!((view.presence, view.live), (Inventory::Registered, None));
    assert_eq!(view.resource.identity.get("uuid"), Some("another"));
    assert_eq!(on.ledger.deletion_of(&name).await.unwrap(), Some(id), "its latest record");
    let record = on.view(id).await.deletion.record.clone();
    assert_eq!(record.resource.identity.get("uuid"), Some("uuid-of-web01"), "the record keeps its own");
}

pub async fn registering_follows_its_rules(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ops = actor("ops");
    let one = resource("one", "1");
    let mut changed = one.clone();
    changed.attributes.insert("dns".into(), serde_json::json!({"name": "one.example"}));
    changed.scope = "tenants/other".parse().unwrap();
    let other = resource("one", "2");
    let register = |resources, whole| on.ledger.register(resources, &ops, whole);
    assert_eq!(register(vec![one.clone(), changed.clone()], true).await.unwrap(), [Ok(()), Ok(())]);
    assert_eq!(on.ledger.resource(&one.id).await.unwrap().unwrap().resource, changed);
    let differs = NotDone::OtherIdentity(one.id.clone());
    let two = resource("two", "2");
    let whole = register(vec![two.clone(), other.clone()], true).await.unwrap();
    assert_eq!(whole, [Err(NotDone::WithTheRest), Err(differs.clone())]);
    assert!(on.ledger.resource(&two.id).await.unwrap().is_none(), "all or nothing");
    let each = register(vec![two.clone(), other], false).await.unwrap();
    assert_eq!(each, [Ok(()), Err(differs)]);
    assert!(on.ledger.resource(&two.id).await.unwrap().is_some());
}

/// Ceilings, budgets, pauses and tokens of that scope decide about the record.
pub async fn what_has_a_record_stays_in_its_scope(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ops = actor("ops");
    let deletion = on.doomed("web01").await;
    let here = resource("web01", "uuid-of-web01");
    let elsewhere = Resource { scope: "tenants/other".parse().unwrap(), ..here.clone() };
    let free = resource("web02", "uuid-of-web02");
    let free_elsewhere = Resource { scope: "tenants/other".parse().unwrap(), ..free.clone() };
    let (resource, from) = (here.id.clone(), here.scope.clone());
    let stays = Err(NotDone::StaysInScope { resource, from, deletion });
    let checked =
        on.ledger.check_resources(&Registrar::Trusted, vec![elsewhere.clone()], &ops).await.unwrap();
    assert_eq!(checked, vec![stays.clone()]);
    // The rest of a list goes through.
    let list = vec![free, elsewhere.clone(), free_elsewhere.clone()];
    assert_eq!(on.ledger.register(list, &ops, false).await.unwrap(), vec![Ok(()), stays, Ok(())]);
    assert_eq!(on.ledger.resource(&here.id).await.unwrap().unwrap().resource.scope, here.scope);
    let moved = on.ledger.resource(&free_elsewhere.id).await.unwrap().unwrap().resource;
    assert_eq!(moved.scope, free_elsewhere.scope);
    // What else is said of it may change.
    let other = Resource { priority: 7, ..here.clone() };
    assert_eq!(on.ledger.register(vec![other], &ops, false).await.unwrap(), [Ok(())]);
    // It was cancelled before anything was done to it.
    on.one(deletion, cancel()).await.unwrap();
    assert_eq!(on.ledger.register(vec![elsewhere], &ops, false).await.unwrap(), [Ok(())]);
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// What registering writes to.
const WRITTEN: &str = "SELECT (SELECT count(*) FROM resources) + (SELECT count(*) FROM exclusives) \
     + (SELECT count(*) FROM ledger_audit)";

pub async fn a_check_says_what_registering_would_and_writes_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ops = actor("ops");
    let doomed = on.doomed("web01").await;
    let there = on.register("web02").await;
    let in_one_place = |one: Resource| Resource { exclusive: Some("machine/storage07".to_owned()), ..one };
    let list = vec![
        resource("new", "1"),
        resource("web01", "another"),
        resource("web02", "another"),
        in_one_place(resource("a", "2")),
        // Only what stands before it in the list is in its way.
        in_one_place(resource("b", "3")),
        Resource { protected: true, ..resource("web02", "uuid-of-web02") },
    ];
    let before = fixture.count(WRITTEN).await;
    let checked = on.ledger.check_resources(&Registrar::Trusted, list.clone(), &ops).await.unwrap();
    assert_eq!(fixture.count(WRITTEN).await, before, "something was written");
    assert!(!on.ledger.resource(&there).await.unwrap().unwrap().resource.protected, "it was changed");
    let taken = NotDone::NameTaken { resource: resource("web01", "x").id, deletion: doomed };
    assert_eq!(checked[..4], [Ok(()), Err(taken), Err(NotDone::OtherIdentity(there.clone())), Ok(())]);
    assert!(matches!(checked[4], Err(NotDone::Exclusive(_))), "{:?}", checked[4]);
    assert_eq!(checked[5], Ok(()));
    assert_eq!(on.ledger.register(list.clone(), &ops, false).await.unwrap(), checked);
    assert_eq!(
        on.ledger.check_resources(&Registrar::Trusted, list, &ops).await.unwrap(),
        checked,
        "as it stands now"
    );
    assert!(on.ledger.resource(&there).await.unwrap().unwrap().resource.protected);
}

/// An operator sets one after it was looked whether anybody has, and before it is registered.
pub async fn whoever_may_set_no_priority_leaves_the_one_that_is_found(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (ops, platform) = (actor("ops"), actor("platform"));
    let id = on.register("web01").await;
    let stated = Resource { priority: 7, ..resource("web01", "uuid-of-web01") };
    let of = async |id: &ResourceId| on.ledger.resource(id).await.unwrap().unwrap().resource;
    on.ledger.prioritize(&id, -5, &ops).await.unwrap().unwrap();
    // What it states besides is taken.
    let more = Resource { protected: true, ..stated.clone() };
    let new = Resource { priority: 3, ..resource("new", "1") };
    let list = vec![stated.clone(), more.clone(), new.clone(), Resource { priority: 4, ..new.clone() }];
    let kept = on.ledger.register_with(&registrar(Role::Requester), list, &platform, true).await.unwrap();
    assert_eq!(kept, [Ok(()), Ok(()), Ok(()), Ok(())]);
    assert_eq!(of(&id).await, Resource { priority: -5, ..more });
    assert_eq!(of(&new.id).await, new, "it has the one that was stated first");
    let set = on.ledger.register_with(&Registrar::Trusted, vec![stated.clone()], &ops, false).await.unwrap();
    assert_eq!((set, of(&id).await), (vec![Ok(())], stated));
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// What says where a resource belongs, what guards it and who is told, with the field by which whoever may not take it away is told
/// so.
fn guarded(plain: &Resource) -> [(&'static str, Resource); 5] {
    let told = json!({ "contacts": ["owner@example.org"] });
    [
        ("protected", Resource { protected: true, ..plain.clone() }),
        ("scope", Resource { scope: "tenants/acme/prod".parse().unwrap(), ..plain.clone() }),
        ("groups", Resource { groups: vec!["db-main".into()], ..plain.clone() }),
        ("criticality", Resource { criticality: Criticality::Credential, ..plain.clone() }),
        (
            "attributes.notifier",
            Resource { attributes: [("notifier".to_owned(), told)].into(), ..plain.clone() },
        ),
    ]
}

/// Other than it is registered, and no less guarded.
fn with_a_change(plain: &Resource) -> Resource {
    Resource { attributes: [("dns".to_owned(), json!({ "none": true }))].into(), ..plain.clone() }
}

/// A platform has read what there is, and states that again with a change of its own; meanwhile others have set what guards it.
pub async fn a_registration_with_older_facts_undoes_nothing_that_was_set_meanwhile(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (ops, ci, platform) = (actor("ops"), actor("ci"), registrar(Role::Requester));
    let mut all = Vec::new();
    for name in ["web01", "web02", "web03", "web04", "web05"] {
        // What was reproducible before may be said to be more by anybody.
        let plain = Resource { criticality: Criticality::Reproducible, ..resource(name, "1") };
        assert_eq!(on.ledger.register(vec![plain.clone()], &ops, true).await.unwrap(), [Ok(())]);
        all.push(plain);
    }
    let older: Vec<_> = all.iter().map(with_a_change).collect();
    let before = on.ledger.check_resources(&platform, older.clone(), &ci).await.unwrap();
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    let set: Vec<_> = all.iter().enumerate().map(|(nth, plain)| guarded(plain)[nth].clone()).collect();
    for (_, guarded) in &set {
        assert_eq!(on.ledger.register(vec![guarded.clone()], &ops, true).await.unwrap(), [Ok(())]);
    }

    let checked = on.ledger.check_resources(&platform, older.clone(), &ci).await.unwrap();
    let registered = on.ledger.register_with(&platform, older.clone(), &ci, false).await.unwrap();
    assert_eq!(registered, checked, "a check says the same");
    for ((field, guarded), refused) in set.iter().zip(&registered) {
        let why = refused.as_ref().unwrap_err().to_string();
        assert!(why.starts_with(&format!("{field}: ")) && why.contains("and ci is requester"), "{why}");
        assert_eq!(on.ledger.resource(&guarded.id).await.unwrap().unwrap().resource, *guarded);
    }
    // Nor does it do so within one list, or all or nothing.
    let new = resource("new", "1");
    let [(_, protected), ..] = guarded(&new);
    let list = vec![protected.clone(), new.clone()];
    let whole = on.ledger.register_with(&platform, list.clone(), &ci, true).await.unwrap();
    assert!(matches!(whole[..], [Err(NotDone::WithTheRest), Err(NotDone::Register(_))]), "{whole:?}");
    assert!(on.ledger.resource(&new.id).await.unwrap().is_none(), "all or nothing");
    let each = on.ledger.register_with(&platform, list, &ci, false).await.unwrap();
    assert!(matches!(each[..], [Ok(()), Err(NotDone::Register(_))]), "{each:?}");
    assert_eq!(on.ledger.resource(&new.id).await.unwrap().unwrap().resource, protected);
    // Who may takes it back, and who states what is set is not refused.
    let admin = registrar(Role::Admin);
    assert_eq!(on.ledger.register_with(&admin, vec![new], &ops, true).await.unwrap(), [Ok(())]);
    let restated = vec![set[0].1.clone(), set[2].1.clone()];
    assert_eq!(on.ledger.register_with(&platform, restated, &ci, true).await.unwrap(), [Ok(()), Ok(())]);
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// Both at one instant: whichever is first, what guards it stands.
pub async fn what_is_set_at_the_instant_of_a_registration_stands(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for round in 0..10 {
        let plain =
            Resource { criticality: Criticality::Reproducible, ..resource(&format!("vm{round}"), "1") };
        assert_eq!(on.ledger.register(vec![plain.clone()], &actor("ops"), true).await.unwrap(), [Ok(())]);
        let (_, guarded) = guarded(&plain)[round % 5].clone();
        let id = guarded.id.clone();
        let ask = |by: Registrar, one: Resource| {
            let ledger = on.ledger.clone();
            tokio::spawn(async move { ledger.register_with(&by, vec![one], &actor("ci"), true).await })
        };
        let (left, right) = (
            ask(registrar(Role::Requester), with_a_change(&plain)),
            ask(Registrar::Trusted, guarded.clone()),
        );
        let (left, right) = (left.await.unwrap().unwrap(), right.await.unwrap().unwrap());
        assert_eq!(right, [Ok(())]);
        assert!(matches!(left[..], [Ok(()) | Err(NotDone::Register(_))]), "{left:?}");
        assert_eq!(on.ledger.resource(&id).await.unwrap().unwrap().resource, guarded, "{round}: {left:?}");
    }
}

pub async fn a_record_needs_a_fitting_resource_and_plan(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ops = actor("ops");
    let nobody = resource("nobody", "1").id;
    let mut guarded = resource("guarded", "1");
    guarded.protected = true;
    let fine = resource("fine", "1");
    on.ledger.register(vec![guarded.clone(), fine.clone()], &ops, true).await.unwrap();
    let mut weak = on.wanted(&fine.id).await;
    let mut plan = (*on.plan).clone();
    plan.criticality = Criticality::Reproducible;
    weak.plan = Arc::new(plan);
    let mut silent = on.wanted(&fine.id).await;
    silent.reason = "  ".into();
    let batch =
        vec![on.wanted(&nobody).await, on.wanted(&guarded.id).await, weak, silent, on.wanted(&fine.id).await];
    let results = on.ledger.create(batch).await.unwrap();
    assert_eq!(results[0], Err(NotDone::NotRegistered(nobody)));
    assert_eq!(results[1], Err(NotDone::CannotDelete(CannotDelete::Protected("vm/guarded".into()))));
    assert!(matches!(results[2], Err(NotDone::CannotDelete(CannotDelete::TooCritical { .. }))));
    assert_eq!(results[3], Err(NotDone::CannotDelete(CannotDelete::Reason)));
    assert!(results[4].is_ok());
}

/// That it can be rebuilt, shown so many days before the ledger's today.
fn rebuilt(now: Timestamp, days_ago: u64) -> Option<Rebuilt> {
    let on = Timestamp(now.0 - i64::try_from(days_ago).unwrap() * 86_400_000_000).utc().date_naive();
    Some(Rebuilt { on, evidence: format!("run {days_ago}") })
}

pub async fn what_is_reproducible_needs_a_proof_of_it(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (ops, now) = (actor("ops"), on.now().await);
    let reproducible = |name: &str, rebuilt: Option<Rebuilt>| {
        let criticality = Criticality::Reproducible;
        Resource { criticality, rebuilt, ..resource(name, &format!("uuid-of-{name}")) }
    };
    let tomorrow = rebuilt(now.plus_ms(3 * 86_400_000), 0);
    let (proven, old) = (reproducible("proven", rebuilt(now, 300)), reproducible("old", rebuilt(now, 400)));
    let (early, silent) = (reproducible("early", tomorrow), reproducible("silent", None));
    let all = [&proven, &old, &early, &silent];
    on.ledger.register(all.map(Clone::clone).to_vec(), &ops, true).await.unwrap();
    let short = Arc::new(Plan { criticality: Criticality::Reproducible, ..Plan::clone(&on.plan) });
    let mut batch = Vec::new();
    for one in all {
        batch.push(NewDeletion { plan: short.clone(), ..on.wanted(&one.id).await });
    }
    let results = on.ledger.create(batch).await.unwrap();
    let made = *results[0].as_ref().unwrap();
    for (result, one) in results.iter().zip(all).skip(1) {
        let Err(NotDone::CannotDelete(CannotDelete::Unproven { resource, .. })) = result else {
            panic!("{}: {result:?}", one.id);
        };
        assert_eq!(*resource, one.id.to_string());
    }
    // The grace of what cannot be rebuilt is enough for what may be.
    let patient = on.wanted(&silent.id).await;
    assert!(on.ledger.create(vec![patient]).await.unwrap()[0].is_ok());
    // Somebody has rebuilt it since.
    let again = Resource { rebuilt: rebuilt(now, 1), ..old };
    assert_eq!(on.ledger.register(vec![again.clone()], &ops, true).await.unwrap(), [Ok(())]);
    let hasty = NewDeletion { plan: short, ..on.wanted(&again.id).await };
    let renewed = *on.ledger.create(vec![hasty]).await.unwrap()[0].as_ref().unwrap();
    drop(on);
    let ledger = fixture.open(options()).await;
    for (one, id) in [(&proven, made), (&again, renewed)] {
        assert_eq!(ledger.resource(&one.id).await.unwrap().unwrap().resource, *one);
        let view = ledger.deletion(id).await.unwrap().unwrap();
        assert_eq!(view.deletion.record.resource, *one, "the record keeps by what it was made");
    }
}

pub async fn a_day_is_never_changed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    drop(on);
    for day in [Day::Calendar, Day::Rehearsal { length_ms: 6 }] {
        let refused = fixture.try_open(sexton_ledger::Options { day, ..options() }).await;
        assert!(matches!(refused.err(), Some(LedgerError::Unfit(_))), "{day:?}");
    }
    assert!(fixture.try_open(options()).await.is_ok());
}
