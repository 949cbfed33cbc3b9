//! What is registered again: nobody who asks for a deletion chooses by which scope's ceiling, budgets and pauses it is decided,
//! who is told of it, how dangerous it is, whose redundancy it has to mind, or who is restored first.
use serde_json::{Value, json};
use sexton_api::{Client, Register};
use sexton_ledger::NewDeletion;
use sexton_model::access::Role;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::resource::{Criticality, PRIORITY_DEFAULT, Resource};

use super::system::{System, on_many_machines, ops, web01};

on_many_machines! {
    whoever_asks_for_a_deletion_does_not_choose_what_stops_it,
    whoever_asks_for_a_deletion_does_not_choose_who_is_told,
    whoever_asks_for_a_deletion_does_not_choose_how_dangerous_it_is,
    what_platforms_register_again_keeps_the_priority_that_an_operator_has_set,
    whoever_asks_for_a_deletion_takes_it_out_of_no_group,
    whoever_asks_for_a_deletion_takes_no_other_out_of_its_group,
}

/// Why it is not registered; nothing if it is.
async fn refused(client: &Client, resource: &Resource) -> Option<String> {
    let body = Register { resources: vec![resource.clone()], whole: true, dry_run: false };
    client.register(&body).await.unwrap().results.remove(0)
}

/// `vm/web01` as it is registered.
async fn there(system: &System) -> Resource {
    system.ledger.resource(&web01()).await.unwrap().unwrap().resource
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_deletion_does_not_choose_what_stops_it() {
    let mut system = System::start().await;
    // Its scope only observes, and every other one may purge.
    let (scope, reason) = (Some("tenants/acme".parse().unwrap()), "nobody has looked yet".into());
    let observe = NewCeiling { scope, to: Some(Ceiling::Observe), by: ops(), reason };
    system.ledger.set_ceiling(observe, None).await.unwrap().unwrap();
    let url = system.serve_inventory().await;
    let ci = system.asking(&url, ("ci", Role::Requester, "tenants")).await;
    let boss = system.asking(&url, ("boss", Role::Approver, "tenants")).await;
    let there = there(&system).await;
    let moved = Resource { scope: "tenants/lab".parse().unwrap(), ..there.clone() };
    let before = system.world();

    let why = refused(&ci, &moved).await.unwrap();
    assert!(why.contains("moving a resource to another scope needs the role approver"), "{why}");
    assert_eq!(refused(&ci, &there).await, None, "where it is it may be registered");
    let id = system.delete().await;
    let why = refused(&boss, &moved).await.unwrap();
    assert!(why.contains("vm/web01 stays in tenants/acme as long as it has a live deletion record"), "{why}");
    let above = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Ceiling { .. }, .. });
    system.until_job(id, Stage::Announce, above).await;
    system.two_beacons().await;
    assert!(above(&system.job(id, JobKind::Stage(Stage::Announce)).await.state));
    assert_eq!(system.world(), before);

    // An approver takes it where it may be deleted, once nobody does any more.
    system.tell(id, Event::Cancel { by: ops(), reason: "it is moved first".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(refused(&boss, &moved).await, None);
    let id = system.delete().await;
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_deletion_does_not_choose_who_is_told() {
    let mut system = System::start_announcing().await;
    let url = system.serve_announcing().await;
    let ci = system.asking(&url, ("ci", Role::Requester, "tenants")).await;
    let boss = system.asking(&url, ("boss", Role::Approver, "tenants")).await;
    let plain = there(&system).await;
    let told =
        |whom: Value| Resource { attributes: [("monitoring".to_owned(), whom)].into(), ..plain.clone() };
    let owner = told(json!({ "contacts": ["owner@example.org"] }));
    for again in 0..3 {
        assert_eq!(
            refused(&ci, &owner).await,
            None,
            "{again}: first it told nobody, and then it is the same"
        );
    }
    let expected = "attributes.monitoring: taking away whom a deletion is told needs the role approver, and ci is requester";
    let others = told(json!({ "contacts": ["ci@example.org"] }));
    for whom in [others.clone(), told(json!({ "none": true })), plain.clone()] {
        assert_eq!(refused(&ci, &whom).await.as_deref(), Some(expected), "{whom:?}");
        assert_eq!(there(&system).await, owner);
    }
    // More of them are told by whoever likes, and others instead by whoever may.
    let both = told(json!({ "contacts": ["ci@example.org", "owner@example.org"] }));
    assert_eq!(refused(&ci, &both).await, None);
    assert_eq!(refused(&boss, &others).await, None);
    assert_eq!(there(&system).await, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_deletion_does_not_choose_how_dangerous_it_is() {
    let mut system = System::start().await;
    let url = system.serve_inventory().await;
    let ci = system.asking(&url, ("ci", Role::Requester, "tenants")).await;
    let boss = system.asking(&url, ("boss", Role::Approver, "tenants")).await;
    let reproducible = there(&system).await;
    let dangerous = Resource { criticality: Criticality::Irreplaceable, ..reproducible.clone() };
    for again in 0..2 {
        assert_eq!(refused(&ci, &dangerous).await, None, "{again}");
    }
    let why = refused(&ci, &reproducible).await.unwrap();
    assert!(why.starts_with("criticality: ") && why.contains("needs the role approver"), "{why}");
    assert_eq!(there(&system).await, dangerous);
    assert_eq!(refused(&boss, &reproducible).await, None);
    assert_eq!(there(&system).await, reproducible);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_platforms_register_again_keeps_the_priority_that_an_operator_has_set() {
    let mut system = System::start().await;
    let url = system.serve_inventory().await;
    let ci = system.asking(&url, ("ci", Role::Requester, "tenants")).await;
    let ops = system.asking(&url, ("night", Role::Operator, "tenants")).await;
    let plain = there(&system).await;
    assert_eq!(plain.priority, PRIORITY_DEFAULT);
    let first = Resource { priority: -5, ..plain.clone() };
    assert_eq!(refused(&ci, &first).await, None, "its own list of priorities stops no import");
    assert_eq!(there(&system).await.priority, PRIORITY_DEFAULT);
    assert_eq!(refused(&ops, &first).await, None);
    // As it does every night, also while all are restored.
    for stated in [&plain, &first, &Resource { priority: 7, ..plain.clone() }] {
        assert_eq!(refused(&ci, stated).await, None);
        assert_eq!(there(&system).await.priority, -5);
    }
    assert_eq!(refused(&ops, &plain).await, None, "whoever may set one takes it back by stating none");
    assert_eq!(there(&system).await.priority, PRIORITY_DEFAULT);
}

/// An approver may, but not for a deletion of their own: the groups are what would hold it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_deletion_takes_it_out_of_no_group() {
    let mut system = System::start().await;
    let url = system.serve_inventory().await;
    // In this name the record is made.
    let own = system.asking(&url, ("ops", Role::Approver, "tenants")).await;
    let boss = system.asking(&url, ("boss", Role::Approver, "tenants")).await;
    let alone = there(&system).await;
    let member = Resource { groups: vec!["db-main".into()], ..alone.clone() };
    assert_eq!(refused(&own, &member).await, None);
    system.hold(&web01()).await;
    let id = system.delete().await;

    let why = refused(&own, &alone).await.unwrap();
    assert!(why.starts_with("groups: vm/web01 stays in db-main: ops requested the deletion"), "{why}");
    assert_eq!(there(&system).await, member);
    assert_eq!(refused(&own, &member).await, None, "as it is it may be registered");
    let events = system.ledger.access_events(0, 1000).await.unwrap();
    assert!(events.iter().any(|(_, one)| one.what == "refused" && one.by == "ops"), "it is written down");
    assert_eq!(refused(&boss, &alone).await, None);
    assert_eq!(there(&system).await, alone);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
}

/// Of three of a group one is off, for somebody else, and one is to stay. An approver who asks for the third does not take either of
/// them out: it would be bound by nothing then.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_deletion_takes_no_other_out_of_its_group() {
    let policy = Policy { windows: None, ..Policy::default() };
    let mut system = System::start_in_calendar_days(policy).await;
    let url = system.serve_inventory().await;
    // In this name the record of the third is made.
    let own = system.asking(&url, ("ops", Role::Approver, "tenants")).await;
    let boss = system.asking(&url, ("boss", Role::Approver, "tenants")).await;
    let plain = there(&system).await;
    let named = |name: &str| Resource { id: format!("vm/{name}").parse().unwrap(), ..plain.clone() };
    let [goes, stays] = [named("web02"), named("web03")];
    let member = |of: &Resource| Resource { groups: vec!["db-main".into()], ..of.clone() };
    for one in [&plain, &goes, &stays] {
        if *one != plain {
            system.build(&one.id);
        }
        assert_eq!(refused(&boss, &member(one)).await, None);
    }
    let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    system.ledger.pause(covers, &ops(), "no further").await.unwrap();
    let now = system.ledger.facts().await.unwrap().now;
    let bobs = NewDeletion {
        resource: goes.id.clone(),
        due: Due { date: now.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(now) },
        gone_by: None,
        by: "bob".parse().unwrap(),
        reason: "no longer needed".into(),
        plan: system.plan.clone(),
    };
    let off = system.ledger.create(vec![bobs]).await.unwrap().remove(0).unwrap();
    system.until_job(off, Stage::Hard, |state| state.name() == StateName::Held).await;

    let id = system.delete().await;
    let waits = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Redundancy { other, .. }, .. } if *other == goes.id);
    system.until_job(id, Stage::Soft, waits).await;
    let changes = (system.monitoring.changes(), system.backup.changes());
    for one in [&goes, &stays] {
        let why = refused(&own, one).await.unwrap();
        let expected = format!("groups: {} stays in db-main: ops requested the deletion", one.id);
        assert!(why.starts_with(&expected), "{why}");
        let found = system.ledger.resource(&one.id).await.unwrap().unwrap().resource;
        assert_eq!(found, member(one));
    }
    let events = system.ledger.access_events(0, 1000).await.unwrap();
    let written = events.iter().filter(|(_, one)| one.what == "refused" && one.by == "ops").count();
    assert_eq!(written, 2, "it is written down");
    system.two_beacons().await;
    assert!(waits(&system.job(id, JobKind::Stage(Stage::Soft)).await.state));
    assert_eq!((system.monitoring.changes(), system.backup.changes()), changes);

    // Somebody else says that it may go alone.
    assert_eq!(refused(&boss, &goes).await, None);
    system.until_job(id, Stage::Soft, |state| state.name() == StateName::Done).await;
}
