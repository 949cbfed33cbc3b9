//! Holds on resources and redundancy groups, and several coordinators at once.
use std::sync::Arc;

use sexton_ledger::Ledger as _;
use sexton_model::Timestamp;
use sexton_model::belts::resource_hold::NewHold;
use sexton_model::decide::Event;
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::step::Outcome;
use tokio::sync::Barrier;

use crate::conformance::stage::{self, Stagehand, actor, job_id};
use crate::database::Database;
use crate::races::{claim, handles};

/// Two coordinators claim two members of one group at the same instant, of a hundred groups: in each exactly one goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_coordinators_let_one_member_of_a_group_go() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let resources: Vec<_> = (0..300)
        .map(|n| {
            let mut member = stage::resource(&format!("vm{n}"), &n.to_string());
            member.groups = vec![format!("group-{}", n / 3)];
            member
        })
        .collect();
    let ids: Vec<_> = resources.iter().map(|r| r.id.clone()).collect();
    assert!(hand.ledger.register(resources, &actor("ops"), true).await.unwrap().iter().all(Result::is_ok));
    let mut made = Vec::new();
    for id in ids.chunks(3).flat_map(|group| &group[..2]) {
        made.push(hand.wanted(id).await);
    }
    let made: Vec<_> = hand.ledger.create(made).await.unwrap().into_iter().map(Result::unwrap).collect();
    let mut last = Timestamp::default();
    for id in &made {
        let first = hand.claim(*id, Stage::Announce).await.unwrap().dispatch;
        hand.play(first, &mut Vec::new(), |_, _| false).await;
        last = hand.now().await;
    }
    hand.until(last.plus_ms(50)).await;
    for pair in made.chunks(2) {
        let barrier = Arc::new(Barrier::new(2));
        let mut tasks = Vec::new();
        for (ledger, id) in ledgers.iter().cloned().zip(pair.to_vec()) {
            let barrier = barrier.clone();
            tasks.push(tokio::spawn(async move {
                barrier.wait().await;
                ledger.run(vec![claim(job_id(id, Stage::Soft))]).await.unwrap().remove(0).unwrap().dispatch
            }));
        }
        let mut given = 0;
        for task in tasks {
            given += usize::from(task.await.unwrap().is_some());
        }
        assert_eq!(given, 1, "{pair:?}");
    }
}

/// Of a member that another coordinator has decided on since, what this one remembers is no longer true.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whom_another_coordinator_parked_is_not_retired_with_the_group() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let other = Stagehand { ledger: ledgers[1].clone(), plan: stage::plan() };
    let mut made = Vec::new();
    for name in ["db1", "db2", "db3"] {
        let mut member = stage::resource(name, name);
        member.groups = vec!["db-main".into()];
        let id = member.id.clone();
        hand.ledger.register(vec![member], &actor("ops"), true).await.unwrap().remove(0).unwrap();
        let wanted = hand.wanted(&id).await;
        made.push(hand.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap());
    }
    for id in &made {
        let first = hand.claim(*id, Stage::Announce).await.unwrap().dispatch;
        hand.play(first, &mut Vec::new(), |_, _| false).await;
    }
    // All three are due, and this is the last that the first coordinator knows of the third one.
    let soft = hand.job(made[2], JobKind::Stage(Stage::Soft)).await;
    let JobState::Scheduled { due_at: Some(due_at) } = soft.state else { panic!("{soft:?}") };
    hand.until(due_at).await;
    let order = other.claim(made[2], Stage::Soft).await.unwrap().dispatch.unwrap();
    other.answer(&order, Outcome::refused("another uuid")).await.unwrap();
    assert_eq!(other.state(made[2], Stage::Soft).await, StateName::Parked);

    assert!(hand.claim(made[0], Stage::Soft).await.unwrap().dispatch.is_none());
    let held = hand.job(made[0], JobKind::Stage(Stage::Soft)).await;
    let JobState::Held { by: Blocker::Redundancy { other, .. }, .. } = held.state else { panic!("{held:?}") };
    assert_eq!(other.to_string(), "vm/db3", "nothing of it may be off");
    assert_eq!(ledgers[0].compare().await.unwrap(), Ok(()));
}

/// Whoever holds a resource is told so only when nothing that did not see it is still to be claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_did_not_see_the_hold_came_before_it() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let mut won = [0, 0];
    for round in 0..60 {
        let name = format!("vm{round}");
        let id = hand.doomed(&name).await;
        let (origin, by) = (actor("legal"), actor("ops"));
        let resource = format!("vm/{name}").parse().unwrap();
        let new = NewHold { resource, origin, reason: "a lawsuit".into(), by };
        let barrier = Arc::new(Barrier::new(2));
        let (ledger, waits) = (ledgers[1].clone(), barrier.clone());
        let holding = tokio::spawn(async move {
            waits.wait().await;
            ledger.hold_resource(new).await.unwrap().unwrap().since
        });
        barrier.wait().await;
        let claimed = hand.one(id, Event::Claim { job: job_id(id, Stage::Announce) }).await.unwrap();
        let (held_at, dispatched) = (holding.await.unwrap(), claimed.dispatch.is_some());
        won[usize::from(!dispatched)] += 1;
        assert_eq!(dispatched, claimed.at < held_at, "{:?} {held_at:?}", claimed.at);
    }
    println!("the claim won {} times, the hold {} times", won[0], won[1]);
}
