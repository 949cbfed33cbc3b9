//! Belts right before a change and right after it: identity, beacon, deadline, fence, what is seen afterwards.
use serde_json::Value;
use sexton_bus::Queue;
use sexton_ledger::AuditRow;
use sexton_model::DeletionId;
use sexton_model::audit::What;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::step::Mode;

use super::gate::{Flaw, Point};
use super::system::{System, backup, monitoring, on_many_machines, ops, until};

on_many_machines! {
    with_every_belt_satisfied_the_machine_goes_and_comes_back,
    another_machine_of_the_same_name_is_not_touched,
    another_machine_of_the_same_name_is_neither_taken_apart_nor_purged,
    another_machine_of_the_same_name_is_not_brought_back,
    nothing_is_changed_before_it_is_due,
    without_a_fresh_beacon_the_change_is_not_begun,
    who_slept_past_the_deadline_does_not_begin,
    what_expires_in_its_queue_is_shown_and_not_carried_out,
    what_cannot_be_seen_is_not_gone,
    a_success_that_left_it_there_is_none,
    an_undo_that_brought_nothing_back_is_none,
    an_undo_that_does_not_hold_is_done_again,
    an_order_that_cannot_be_written_down_parks,
}

const NO_CHANGE: [&str; 0] = [];
pub const NOT_AS_CAPTURED: &str = "is not as captured";
const ANNOUNCE: JobKind = JobKind::Stage(Stage::Announce);
const SOFT: JobKind = JobKind::Stage(Stage::Soft);
const HARD: JobKind = JobKind::Stage(Stage::Hard);

fn is_parked(state: &JobState) -> bool {
    state.name() == StateName::Parked
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_belt_satisfied_the_machine_goes_and_comes_back() {
    let system = System::start().await;
    let before = system.world();
    system.monitoring.close("remove_target", Point::Look);
    let id = system.delete().await;
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
    assert_ne!(system.world(), before);
    system.monitoring.reached().await;
    system.monitoring.open();
    system.until_over(id, RecordStatus::Recycled).await;
    assert_eq!(system.world()[0]["target"], Value::Null);
    assert_eq!(
        system.monitoring.changes(),
        ["perform silence", "perform remove_target", "perform delete_history"]
    );
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}

/// While a step of this stage stands at the gate, another machine takes the place of the one that was pinned: nothing is
/// changed. Afterwards it is the one again.
async fn exchanged_at_the_gate(system: &System, id: DeletionId, stage: Stage) {
    system.monitoring.reached().await;
    let changes = system.monitoring.changes();
    system.recreate();
    let before = system.world();
    system.monitoring.open();
    let job = system.until_job(id, stage, is_parked).await;
    assert!(
        matches!(&job.state, JobState::Parked { reason } if reason.contains("is not the one")),
        "{job:?}"
    );
    // The driver, which compares once more, is not even told to change anything.
    assert_eq!(system.monitoring.changes(), changes);
    assert_eq!(system.world(), before);
    system.bring_back();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_of_the_same_name_is_not_touched() {
    let system = System::start().await;
    system.monitoring.close("silence", Point::Look);
    let id = system.delete().await;
    exchanged_at_the_gate(&system, id, Stage::Soft).await;
    assert_eq!(system.monitoring.changes(), NO_CHANGE);
}

/// Days pass between the stages: each order looks anew, right before it destroys anything.
#[tokio::test(flavor = "multi_thread")]
async fn another_machine_of_the_same_name_is_neither_taken_apart_nor_purged() {
    let system = System::start().await;
    system.monitoring.close("remove_target", Point::Look);
    let id = system.delete().await;
    exchanged_at_the_gate(&system, id, Stage::Hard).await;
    system.monitoring.close("delete_history", Point::Look);
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    exchanged_at_the_gate(&system, id, Stage::Purge).await;
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_before_it_is_due() {
    let system = System::start().await;
    let later = system.ledger.facts().await.unwrap().now.plus_ms(3_600_000);
    let id = system.delete_at(later).await;
    system.claim_everything_now(id).await;
    system.two_beacons().await;
    assert_eq!(system.job(id, ANNOUNCE).await.state.name(), StateName::Scheduled);
    assert_eq!(system.view(id).await.audit.len(), 1, "nothing but its making");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fresh_beacon_the_change_is_not_begun() {
    let mut system = System::start().await;
    system.monitoring.close_at_change("silence", Point::Found);
    let id = system.delete().await;
    system.monitoring.reached().await;
    system.stop_coordinator().await;
    system.clock.advance(6_000);
    system.monitoring.open();
    until("it is answered", async || system.bus.depth(&Queue::Outcomes).await.unwrap() > 0).await;
    assert_eq!(system.monitoring.changes(), NO_CHANGE);
    system.start_coordinator();
    system.until_answered(id, "the last beacon is").await;
    assert_eq!(system.job(id, SOFT).await.attempts, 0, "no attempt was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_slept_past_the_deadline_does_not_begin() {
    let soft = "{ do = \"monitoring.silence\" }";
    let short = "{ do = \"monitoring.silence\", deadline_ms = 1500, longest_call_ms = 500 }";
    let system = System::start_with(soft, short).await;
    system.monitoring.close_at_change("silence", Point::Found);
    let id = system.delete().await;
    system.monitoring.reached().await;
    let deadline = system.job(id, SOFT).await.state.out().unwrap().deadline;
    until("the deadline passes", async || system.ledger.facts().await.unwrap().now > deadline).await;
    let before = system.world();
    system.monitoring.open();
    system.until_answered(id, "its deadline passed before the change was begun").await;
    assert_eq!(system.world(), before);
}

/// Nobody takes it before its deadline. Whoever comes later shows it, and carries out what is ordered in its place.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_in_its_queue_is_shown_and_not_carried_out() {
    let mut system = System::not_started_with_quick_looks().await;
    system.start_coordinator();
    system.start_consumer(&backup()).await;
    // It has just pulsed, and so is ordered to look.
    system.start_consumer(&monitoring()).await;
    system.stop_last_consumer().await;
    let id = system.delete().await;
    let job = system.until_job(id, Stage::Announce, |state| state.out().is_some()).await;
    let late = *job.state.out().unwrap();
    // By more than it took to publish it.
    let over = late.deadline.plus_ms(500);
    until("its deadline passes", async || system.ledger.facts().await.unwrap().now > over).await;

    system.monitoring.close("inspect", Point::Look);
    system.start_consumer(&monitoring()).await;
    system.until_rejected(&format!("after its deadline {}", late.deadline)).await;
    system.monitoring.reached().await;
    let instead = system.job(id, ANNOUNCE).await;
    assert!(instead.state.out().is_some_and(|out| out.fence > late.fence), "{instead:?}");
    system.monitoring.open();
    system.until_job(id, Stage::Announce, |state| *state == JobState::Done).await;
    let trail = system.view(id).await.audit;
    let answered = |row: &AuditRow| row.event.what == What::Settled && row.event.fence == Some(late.fence);
    assert!(!trail.iter().any(answered), "it was carried out: {trail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_is_not_gone() {
    let system = System::start().await;
    system.monitoring.set_flaw("remove_target", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    system.until_answered(id, "performed, but it was not seen to be gone").await;
    let job = system.job(id, HARD).await;
    assert_eq!((job.cursor, job.state.name()), (2, StateName::Waiting), "{job:?}");
    assert_eq!(system.backup.changes(), ["perform final"], "what comes after it has to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_left_it_there_is_none() {
    let system = System::start().await;
    system.monitoring.set_flaw("remove_target", Some(Flaw::DoesNothing));
    let id = system.delete().await;
    let said = system.until_answered(id, "performed, but it was not seen to be gone").await;
    assert!(said.detail.contains("did nothing"), "{said:?}");
    assert_eq!(system.backup.changes(), ["perform final"], "what comes after it has to wait");
    // Once it works, it goes on.
    system.monitoring.set_flaw("remove_target", None);
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Silenced, and nothing else of soft: that stands at the gate.
pub async fn silenced(system: &System) -> DeletionId {
    system.backup.close("final", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    id
}

/// What was [`silenced`] is cancelled: what comes next is the undo.
pub async fn cancelled(system: &System, id: DeletionId) {
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.backup.open();
}

/// Both.
async fn silenced_and_cancelled(system: &System) -> DeletionId {
    let id = silenced(system).await;
    cancelled(system, id).await;
    id
}

/// Built anew under the old name while it was off: what was captured of the one is not brought back into the other.
#[tokio::test(flavor = "multi_thread")]
async fn another_machine_of_the_same_name_is_not_brought_back() {
    let system = System::start_with_last(&monitoring()).await;
    let before = system.world();
    let id = silenced(&system).await;
    system.monitoring.close("silence", Point::Look);
    cancelled(&system, id).await;
    system.monitoring.reached().await;
    system.recreate();
    let other = system.world();
    system.monitoring.open();
    let stopped = async || is_parked(&system.job(id, JobKind::Restore).await.state);
    until("the restore is parked", stopped).await;
    let job = system.job(id, JobKind::Restore).await;
    assert!(
        matches!(&job.state, JobState::Parked { reason } if reason.contains("is not the one")),
        "{job:?}"
    );
    // The driver, which compares once more, is not even told to undo anything.
    assert_eq!(system.monitoring.changes(), ["perform silence"]);
    assert_eq!(system.world(), other);
    system.bring_back();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_brought_nothing_back_is_none() {
    let system = System::start_with_last(&monitoring()).await;
    let before = system.world();
    system.monitoring.set_flaw("silence", Some(Flaw::LeavesItUndone));
    let id = silenced_and_cancelled(&system).await;
    let said = system.until_answered(id, NOT_AS_CAPTURED).await;
    assert_eq!(said.mode, Some(Mode::Undo), "found out right behind the undo: {said:?}");
    let job = system.job(id, JobKind::Restore).await;
    assert!(matches!(&job.state, JobState::Parked { reason } if reason.contains(NOT_AS_CAPTURED)), "{job:?}");
    assert_eq!(system.view(id).await.deletion.status, RecordStatus::Restoring);
    assert_eq!(system.monitoring.changes(), ["perform silence", "undo silence"]);
    assert_ne!(system.world(), before);
    // Once it works, it comes back.
    system.monitoring.set_flaw("silence", None);
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

/// Silenced, cancelled and undone; what comes next, the look whether that holds, stands at the gate. With what everything was
/// like before.
pub async fn undone_and_yet_to_be_verified() -> (System, DeletionId, Value) {
    let system = System::start_with_last(&monitoring()).await;
    let before = system.world();
    system.monitoring.close_at_verify("silence");
    let id = silenced_and_cancelled(&system).await;
    system.monitoring.reached().await;
    assert_eq!(system.world(), before);
    (system, id, before)
}

/// A call that was under way when it was cancelled comes in behind the undo.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_does_not_hold_is_done_again() {
    let (system, id, before) = undone_and_yet_to_be_verified().await;
    system.silence();
    system.monitoring.open();
    let said = system.until_answered(id, NOT_AS_CAPTURED).await;
    assert_eq!(said.mode, Some(Mode::Verify), "{said:?}");
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.monitoring.changes(), ["perform silence", "undo silence", "undo silence"]);
    assert_eq!(system.world(), before);
}

/// An order that no message can hold: given again and again, it would run into one lease after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_written_down_parks() {
    let large = serde_json::json!({ "reason": "x".repeat(1 << 20) });
    let system = System::start_on_older("monitoring.silence", large).await;
    let id = system.delete().await;
    let job = system.until_job(id, Stage::Soft, is_parked).await;
    let JobState::Parked { reason } = &job.state else { panic!("{job:?}") };
    assert!(reason.contains("the order cannot be written down") && reason.contains("bytes"), "{reason}");
    assert_eq!(system.monitoring.changes(), NO_CHANGE);
    // Nothing was changed, so nothing has to be taken back.
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    let kept = async || system.view(id).await.deletion.status == RecordStatus::Cancelled;
    until("it is kept", kept).await;
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}
