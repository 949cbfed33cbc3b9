//! What is registered again: nobody who asks for a deletion chooses by which scope's ceiling, budgets and pauses it is decided.
use sexton_api::{Client, Register};
use sexton_model::access::Role;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobKind, JobState, Stage};
use sexton_model::resource::Resource;

use super::system::{System, on_many_machines, ops, web01};

on_many_machines! {
    whoever_asks_for_a_deletion_does_not_choose_what_stops_it,
}

/// Why it is not registered; nothing if it is.
async fn refused(client: &Client, resource: &Resource) -> Option<String> {
    let body = Register { resources: vec![resource.clone()], whole: true, dry_run: false };
    client.register(&body).await.unwrap().results.remove(0)
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
    let there = system.ledger.resource(&web01()).await.unwrap().unwrap().resource;
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
