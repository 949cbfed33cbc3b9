//! An undo goes by what was captured: what others have changed meanwhile is not overwritten, but parks the restore until a
//! person has looked. What was undone is compared with it once more when nothing can disturb it any more.
use sexton_ledger::Limits;
use sexton_model::DeletionId;
use sexton_model::audit::What;
use sexton_model::belts::Policy;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState};
use sexton_model::step::Mode;

use super::drift::{attach, detach};
use super::steps::{NOT_AS_CAPTURED, cancelled, silenced, undone_and_yet_to_be_verified};
use super::system::{System, monitoring, on_many_machines, ops, until};

on_many_machines! {
    what_others_changed_meanwhile_is_not_overwritten,
    what_others_change_right_behind_an_undo_is_not_overwritten,
    a_machine_that_others_changed_is_left_as_it_is,
}

const BY_OTHERS: &str = "was changed by others";
/// Where somebody has a machine probed meanwhile.
const ELSEWHERE: &str = "192.0.2.99:9100";
/// Where it was before.
const AS_BEFORE: &str = "192.0.2.10:9100";

/// The plan of the machine itself, in the place of monitoring. With a soft stage of short deadlines: a restore waits for them.
const OF_THE_MACHINE: [(&str, &str); 5] = [
    ("monitoring.inspect", "hypervisor.inspect"),
    (
        "{ do = \"monitoring.silence\" }",
        "{ do = \"hypervisor.stop\", deadline_ms = 2000, longest_call_ms = 200 }",
    ),
    ("{ do = \"backup.final\" }", "{ do = \"backup.final\", deadline_ms = 2000, longest_call_ms = 200 }"),
    ("monitoring.remove_target", "hypervisor.undefine"),
    ("monitoring.delete_history", "hypervisor.delete_volumes"),
];

/// Why the restore is parked, once it is. One that comes to its end instead has not seen what others did.
async fn parked(system: &System, id: DeletionId) -> String {
    let state = async || {
        let restore =
            system.view(id).await.deletion.jobs.into_iter().find(|job| job.kind == JobKind::Restore);
        restore.map(|job| job.state)
    };
    let stands = async || matches!(state().await, Some(JobState::Parked { .. } | JobState::Done));
    until("the restore is parked, or over", stands).await;
    match state().await {
        Some(JobState::Parked { reason }) => reason,
        other => panic!("it came to its end: {other:?}"),
    }
}

/// A person has it tried again, although nothing is put right: it is parked again.
async fn retried_in_vain(system: &System, id: DeletionId) {
    let refused = async || {
        let trail = system.view(id).await.audit;
        trail
            .iter()
            .filter(|row| row.event.what == What::Settled && row.event.detail.contains(BY_OTHERS))
            .count()
    };
    let before = refused().await;
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    until("it is refused once more", async || refused().await > before).await;
    assert!(parked(system, id).await.contains(BY_OTHERS));
}

/// Whoever changed it has taken that back: it goes on to its end.
async fn put_right(system: &System, id: DeletionId) {
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_meanwhile_is_not_overwritten() {
    let system = System::start_with_last(&monitoring()).await;
    let before = system.world();
    let id = silenced(&system).await;
    system.readdress(ELSEWHERE);
    let changed = system.world();
    cancelled(&system, id).await;
    let reason = parked(&system, id).await;
    assert!(reason.contains(BY_OTHERS) && reason.contains(ELSEWHERE), "{reason}");
    assert_eq!(system.view(id).await.deletion.status, RecordStatus::Restoring);
    assert_eq!(system.world(), changed);
    retried_in_vain(&system, id).await;
    assert_eq!(system.world(), changed, "however often it is tried");

    system.readdress(AS_BEFORE);
    put_right(&system, id).await;
    assert_eq!(system.world(), before);
}

/// Between the undo and the look whether it holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_right_behind_an_undo_is_not_overwritten() {
    let (system, id, before) = undone_and_yet_to_be_verified().await;
    system.readdress(ELSEWHERE);
    let changed = system.world();
    system.monitoring.open();
    let reason = parked(&system, id).await;
    assert!(reason.contains(BY_OTHERS), "{reason}");
    let said = system.until_answered(id, NOT_AS_CAPTURED).await;
    assert_eq!(said.mode, Some(Mode::Verify), "{said:?}");
    assert_eq!(system.monitoring.changes(), ["perform silence", "undo silence", "undo silence"]);
    assert_eq!(system.world(), changed);

    system.readdress(AS_BEFORE);
    put_right(&system, id).await;
    assert_eq!(system.world(), before);
}

/// A disk that it did not have when it was stopped: with that it is not started, nor may anything else start it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_others_changed_is_left_as_it_is() {
    let system = System::start_within(Limits::default(), Policy::default(), &OF_THE_MACHINE).await;
    let before = system.world();
    // The stop is over by then.
    let id = silenced(&system).await;
    attach(&system, "web01-data");
    let changed = system.world();
    assert_ne!(changed, before);
    cancelled(&system, id).await;
    let reason = parked(&system, id).await;
    assert!(reason.contains(BY_OTHERS) && reason.contains("its settings"), "{reason}");
    retried_in_vain(&system, id).await;
    assert_eq!(system.world(), changed);

    detach(&system, "web01-data");
    put_right(&system, id).await;
    assert_eq!(system.world(), before);
}
