//! What takes somebody else, by HTTP: a pause is lifted, a ceiling raised and a batch approved by whoever may and has asked for
//! none of what goes on then. Those who may not ask another coordinator than whoever does.
use sexton_api::{
    ApproveRequest, CeilingQuery, CeilingRequest, CeilingTo, Client, ClientError, PauseRequest, ResumeQuery,
};
use sexton_model::access::Role;
use sexton_model::belts::PauseSelector;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobKind, JobState, Stage};
use sexton_model::{DeletionId, ResourceId};

use super::budgets::{frozen, policy};
use super::system::{System, on_many_machines, until, web01};

on_many_machines! {
    what_was_stopped_is_let_go_by_a_second_person_only,
    whoever_requested_it_reaches_no_hold_of_anothers,
}

/// Status and reason of a refusal.
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer {
        Err(ClientError::Problem(problem)) => (problem.status, problem.detail),
        other => panic!("{other:?}"),
    }
}

async fn until_both(system: &System, ids: [DeletionId; 2], stage: Stage, held: fn(&JobState) -> bool) {
    for id in ids {
        system.until_job(id, stage, held).await;
    }
}

fn paused(state: &JobState) -> bool {
    matches!(state, JobState::Held { by: Blocker::Pause { .. }, .. })
}

fn below_a_ceiling(state: &JobState) -> bool {
    matches!(state, JobState::Held { by: Blocker::Ceiling { .. }, .. })
}

/// Pause this stage, or all, of what is below `tenants`. Its number.
async fn pause(client: &Client, stage: Option<Stage>) -> i64 {
    let scope = Some("tenants".parse().unwrap());
    let covers = PauseSelector { stage, scope, ..PauseSelector::default() };
    client.pause(&PauseRequest { covers, reason: "look".into() }).await.unwrap().pause.id
}

/// What whoever raises the ceiling of both machines has to have looked at; none if they may begin at once.
async fn crowd(client: &Client, to: Ceiling) -> Option<String> {
    let scope = Some("tenants/acme".parse().unwrap());
    let query = CeilingQuery { scope, everywhere: false, to: CeilingTo(Some(to)) };
    client.stopped_by_ceiling(&query).await.unwrap().crowd.map(|crowd| crowd.digest)
}

async fn set_ceiling(client: &Client, to: Ceiling, digest: Option<String>) -> Result<(), ClientError> {
    let scope = Some("tenants/acme".parse().unwrap());
    let (to, reason) = (CeilingTo(Some(to)), "looked".into());
    client.set_ceiling(&CeilingRequest { scope, everywhere: false, to, reason, digest }).await.map(drop)
}

/// Recycling alone is counted: what else waits for a person is a crowd that would begin at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_is_let_go_by_a_second_person_only() {
    let mut system = System::start_in_calendar_days(policy("a_day = 1\nstages = [\"recycle\"]")).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.build(&other);
    system.register_named(&other, false).await;
    let (here, there) = (system.serve_inventory().await, system.serve_beside().await);
    // In this name the records are made.
    let ops = system.asking(&there, ("ops", Role::Approver, "tenants")).await;
    let olga = system.asking(&there, ("olga", Role::Operator, "tenants")).await;
    let boss = system.asking(&here, ("boss", Role::Approver, "tenants")).await;
    let apart = system.asking(&there, ("apart", Role::Approver, "tenants/other")).await;
    set_ceiling(&boss, Ceiling::Announce, None).await.unwrap();
    let before = system.world();
    let number = pause(&olga, None).await;
    let ids = system.delete_both([web01(), other]).await;
    until_both(&system, ids, Stage::Announce, paused).await;

    let digest = boss.stopped_by(number).await.unwrap().crowd.unwrap().digest;
    let seen = || ResumeQuery { digest: Some(digest.clone()) };
    let (status, why) = refused(olga.resume(number, seen()).await);
    assert!(status == 403 && why.contains("needs the role approver"), "{why}");
    let (status, why) = refused(ops.resume(number, seen()).await);
    assert!(status == 403 && why.contains("somebody who requested none of them"), "{why}");
    let (_, why) = refused(boss.resume(number, ResumeQuery::default()).await);
    assert!(why.contains("at once"), "nobody has looked at them: {why}");
    assert_eq!(boss.pauses().await.unwrap().len(), 1, "it is in force");
    boss.resume(number, seen()).await.unwrap();

    until_both(&system, ids, Stage::Soft, below_a_ceiling).await;
    assert_eq!(system.world(), before, "nothing was done");
    let digest = crowd(&boss, Ceiling::Soft).await;
    assert!(digest.is_some(), "two may not begin at once");
    let (status, why) = refused(set_ceiling(&olga, Ceiling::Soft, digest.clone()).await);
    assert!(status == 403 && why.contains("needs the role approver"), "{why}");
    let (status, why) = refused(set_ceiling(&ops, Ceiling::Soft, digest.clone()).await);
    assert!(status == 403 && why.contains("somebody who requested none of them"), "{why}");
    let (_, why) = refused(set_ceiling(&boss, Ceiling::Soft, None).await);
    assert!(why.contains("at once"), "nobody has looked at them: {why}");
    until_both(&system, ids, Stage::Soft, below_a_ceiling).await;
    set_ceiling(&boss, Ceiling::Soft, digest).await.unwrap();

    // Both come to where they are counted together.
    let number = pause(&olga, Some(Stage::Recycle)).await;
    for (stage, to) in [(Stage::Hard, Ceiling::Hard), (Stage::Purge, Ceiling::Purge)] {
        until_both(&system, ids, stage, below_a_ceiling).await;
        let digest = crowd(&boss, to).await;
        set_ceiling(&boss, to, digest).await.unwrap();
    }
    until_both(&system, ids, Stage::Recycle, paused).await;
    olga.resume(number, ResumeQuery::default()).await.unwrap();
    until_both(&system, ids, Stage::Recycle, frozen).await;
    let waits = async || boss.batches().await.unwrap().iter().any(|batch| batch.waiting == 2);
    until("they are frozen together", waits).await;
    let batch = boss.batches().await.unwrap().remove(0).batch;
    let digest = boss.batch(batch).await.unwrap().digest;
    let approval = |digest: &str| ApproveRequest { digest: digest.into(), reason: "looked".into() };
    // Who may approve in another scope does not find it, not even by its number and its digest.
    assert!(apart.batches().await.unwrap().is_empty());
    assert!(apart.health().await.unwrap().batches.is_empty());
    let absent = (404, format!("there is no batch {batch} that waits within tenants/other"));
    assert_eq!(refused(apart.batch(batch).await), absent);
    assert_eq!(refused(apart.approve(batch, &approval(&digest)).await), absent);
    let (status, why) = refused(olga.approve(batch, &approval(&digest)).await);
    assert!(status == 403 && why.contains("needs the role approver"), "{why}");
    let (status, why) = refused(ops.approve(batch, &approval(&digest)).await);
    assert!(status == 403 && why.contains("somebody who requested none of it"), "{why}");
    let (status, why) = refused(boss.approve(batch, &approval(&"0".repeat(64))).await);
    assert!(status == 409 && why.contains("another set by now"), "{why}");
    until_both(&system, ids, Stage::Recycle, frozen).await;
    assert_eq!(boss.approve(batch, &approval(&digest)).await.unwrap().members, 2);
    for id in ids {
        system.until_over(id, RecordStatus::Recycled).await;
        assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
    }

    // Each of them was written down, whoever was asked.
    let events = system.ledger.access_events(0, 1000).await.unwrap();
    let refusals = |by: &str| events.iter().filter(|(_, one)| one.what == "refused" && one.by == by).count();
    assert_eq!([refusals("olga"), refusals("ops"), refusals("boss"), refusals("apart")], [3, 3, 3, 2]);
}

/// The lawyers hold the machine, and an operator its record. Whoever requested it may release whatever there is, by their role.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_requested_it_reaches_no_hold_of_anothers() {
    let mut system = System::start().await;
    let (here, there) = (system.serve_inventory().await, system.serve_beside().await);
    // In this name the record is made.
    let ops = system.asking(&there, ("ops", Role::Operator, "tenants")).await;
    let olga = system.asking(&here, ("olga", Role::Operator, "tenants")).await;
    system.hold(&web01()).await;
    let before = system.world();
    let id = system.delete().await;
    let held = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Hold { .. }, .. });
    system.until_job(id, Stage::Announce, held).await;
    let on_machine = ops.resource(&web01()).await.unwrap().holds[0].id;
    olga.hold(id, "not before the hearing").await.unwrap();
    let on_record = system.view(id).await.deletion.holds[0].id;

    let legal = "legal".parse().unwrap();
    for (status, why) in [
        refused(ops.release_resource(&web01(), on_machine).await),
        refused(ops.release_origin(&web01(), &legal).await),
        refused(ops.release(id, on_record).await),
    ] {
        assert!(status == 403 && why.contains("somebody else has to release a hold of another's"), "{why}");
    }
    // What they hold themselves is theirs.
    ops.hold(id, "a moment").await.unwrap();
    let own = system.view(id).await.deletion.holds[1].id;
    ops.release(id, own).await.unwrap();
    system.two_beacons().await;
    assert!(held(&system.job(id, JobKind::Stage(Stage::Announce)).await.state));
    assert_eq!(system.world(), before, "nothing was done");

    olga.release_resource(&web01(), on_machine).await.unwrap();
    system.two_beacons().await;
    assert!(held(&system.job(id, JobKind::Stage(Stage::Announce)).await.state), "the record's own stands");
    olga.release(id, on_record).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    let events = system.ledger.access_events(0, 1000).await.unwrap();
    let refusals = events.iter().filter(|(_, one)| one.what == "refused" && one.by == "ops").count();
    assert_eq!(refusals, 3, "each is written down");
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}
