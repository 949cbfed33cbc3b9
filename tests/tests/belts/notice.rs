//! The notice starts the clock: soft waits for an announcement that was delivered, and for the notice period behind it. Whoever is
//! silenced at monitoring was told here; how mail goes, and comes back, is another test's.
use std::sync::Arc;

use sexton_ledger::NotDone;
use sexton_model::audit::What;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::{Actor, DeletionId, Timestamp};

use super::gate::Flaw;
use super::system::{NOTICE_MS, System, boss, on_many_machines, ops};

on_many_machines! {
    soft_waits_for_a_notice_that_is_delivered_late_and_for_its_period,
    an_acknowledgement_replaces_a_notice_that_is_never_delivered_and_starts_the_clock,
    a_notice_that_comes_back_holds_soft,
    a_notice_is_given_although_what_it_depends_on_is_waived,
}

const SOFT: JobKind = JobKind::Stage(Stage::Soft);

/// A record whose soft stage would have been due a notice period ago, had anybody been told in time.
async fn delete(system: &System) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    let ms = i64::try_from(NOTICE_MS).unwrap();
    system.delete_at(Timestamp(now.0 - 2 * ms * 1000)).await
}

/// For three days nobody could be told, and a person has to look. Nothing of soft was touched.
async fn untold(system: &System) -> DeletionId {
    system.monitoring.set_flaw("silence", Some(Flaw::SeesNothing));
    let id = delete(system).await;
    let announce = system.until_job(id, Stage::Announce, |state| state.name() == StateName::Parked).await;
    let said = format!("{:?}", announce.state);
    assert!(said.contains("not everybody could be told since"), "{said}");
    let waivers = system.view(id).await.deletion.waivers;
    assert!(matches!(&waivers[..], [untold] if untold.claim == WaiverClaim::Untold), "{waivers:?}");
    let soft = system.job(id, SOFT).await;
    assert_eq!(soft.state, JobState::Scheduled { due_at: None });
    let begun = system.tell(id, Event::Claim { job: soft.id }).await;
    assert!(matches!(begun, Err(NotDone::Refused(Refusal::NotInState { .. }))), "{begun:?}");
    assert_eq!(system.backup.changes(), Vec::<String>::new());
    id
}

/// Soft begins no sooner than the notice period behind `told`, and everything goes on.
async fn soft_follows(system: &System, id: DeletionId, told: Timestamp) {
    system.until_over(id, RecordStatus::Recycled).await;
    let mut trail = system.view(id).await.audit.into_iter().map(|row| row.event);
    let begun = trail.find(|event| event.job == Some(SOFT) && event.what == What::Claimed).unwrap().at;
    assert!(begun >= told.plus_ms(NOTICE_MS), "told at {told}, and soft began at {begun}");
}

fn acknowledge(by: Actor, mark: String) -> Event {
    Event::Acknowledge { by, mark, reason: "called the owner by phone".into() }
}

/// Somebody else than who requested it says that everybody was told otherwise. When.
async fn acknowledged(system: &System, id: DeletionId) -> Timestamp {
    let refused = system.tell(id, acknowledge(ops(), system.mark(id).await)).await;
    assert!(matches!(refused, Err(NotDone::Refused(Refusal::Requested { .. }))), "{refused:?}");
    system.tell(id, acknowledge(boss(), system.mark(id).await)).await.unwrap().at
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_waits_for_a_notice_that_is_delivered_late_and_for_its_period() {
    let system = System::start_announcing().await;
    let id = untold(&system).await;
    let (by, mark, evidence) = (boss(), system.mark(id).await, "in a hurry".into());
    let waived = system.tell(id, Event::Waive { by, claim: WaiverClaim::Absent, mark, evidence }).await;
    assert!(matches!(waived, Err(NotDone::Refused(Refusal::NotWaived))), "{waived:?}");
    system.monitoring.set_flaw("silence", None);
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    let announce = system.until_job(id, Stage::Announce, |state| *state == JobState::Done).await;
    soft_follows(&system, id, announce.ended_at.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_replaces_a_notice_that_is_never_delivered_and_starts_the_clock() {
    let system = System::start_announcing().await;
    let id = untold(&system).await;
    let told = acknowledged(&system, id).await;
    soft_follows(&system, id, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_comes_back_holds_soft() {
    let system = System::start_announcing().await;
    let id = delete(&system).await;
    system.until_job(id, Stage::Announce, |state| *state == JobState::Done).await;
    let bounced = Event::Bounced { by: ops(), reason: "owner@example.org: no such box".into() };
    let came_back = system.tell(id, bounced).await.unwrap().at;
    let untold = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Untold { .. }, .. });
    let soft = system.until_job(id, Stage::Soft, untold).await;
    let JobState::Held { by: Blocker::Untold { since, .. }, .. } = soft.state else { panic!("{soft:?}") };
    assert_eq!(since, came_back);
    assert_eq!(system.backup.changes(), Vec::<String>::new());
    // Three days have passed since: the notice period is longer. Whoever has called one of them has not called another, of
    // whom it is said before the acknowledgement comes.
    let seen = system.mark(id).await;
    let another = Event::Bounced { by: ops(), reason: "deputy@example.org: no such box".into() };
    system.tell(id, another).await.unwrap();
    let late = system.tell(id, acknowledge(boss(), seen)).await;
    assert!(matches!(late, Err(NotDone::Refused(Refusal::OtherThings { .. }))), "{late:?}");
    let told = acknowledged(&system, id).await;
    soft_follows(&system, id, told).await;
}

/// Its plan has the notice depend on a look, as the linter allowed once. That look finds nothing, and is waived.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_given_although_what_it_depends_on_is_waived() {
    let mut system = System::start_announcing().await;
    let mut plan = Plan::clone(&system.plan);
    let notice = plan.stages[0].steps.iter_mut().find(|step| step.notice).unwrap();
    notice.after = vec!["backup.inspect".to_owned()];
    system.plan = Arc::new(plan);
    for kept in ["archives", "schedules"] {
        std::fs::remove_file(system.folder().join("backup/main").join(kept).join("web01.json")).unwrap();
    }
    let id = delete(&system).await;
    system.until_job(id, Stage::Announce, |state| state.name() == StateName::Parked).await;
    assert_eq!(system.monitoring.changes(), Vec::<String>::new());
    let (by, mark, evidence) = (boss(), system.mark(id).await, "it was never backed up".into());
    let claim = WaiverClaim::MayRemain;
    system.tell(id, Event::Waive { by, claim, mark, evidence }).await.unwrap();
    system.until_job(id, Stage::Announce, |state| *state == JobState::Done).await;
    assert_eq!(system.monitoring.changes(), ["perform silence"]);
    let announce = JobKind::Stage(Stage::Announce).slot();
    let waived = system.view(id).await.deletion.waivers.into_iter().filter(|w| w.slot == announce);
    assert_eq!(waived.map(|waiver| waiver.step).collect::<Vec<_>>(), [1], "the look, and not the notice");
}
