//! An undo goes by what was captured: what others have changed meanwhile is not overwritten, but parks the restore until a
//! person has looked. What was undone is compared with it once more when nothing can disturb it any more.
use sexton_api::{CancelScope, Client, ListQuery};
use sexton_ledger::Limits;
use sexton_model::audit::What;
use sexton_model::belts::Policy;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState};
use sexton_model::step::Mode;
use sexton_model::{DeletionId, Timestamp};

use super::drift::{attach, detach};
use super::steps::{NOT_AS_CAPTURED, cancelled, silenced, undone_and_yet_to_be_verified};
use super::system::{System, monitoring, on_many_machines, ops, until};

on_many_machines! {
    what_others_changed_meanwhile_is_not_overwritten,
    what_others_change_right_behind_an_undo_is_not_overwritten,
    a_machine_that_others_changed_is_left_as_it_is,
    what_a_cancel_takes_back_is_said_wherever_a_deletion_is_shown,
}

const BY_OTHERS: &str = "was changed by others";
/// Where somebody has a machine probed meanwhile.
const ELSEWHERE: &str = "192.0.2.99:9100";
/// Where it was before.
const AS_BEFORE: &str = "192.0.2.10:9100";

/// The plan of the machine itself, in the place of monitoring. With a soft stage of short deadlines: a restore waits for them.
const OF_THE_MACHINE: [(&str, &str); 6] = [
    ("monitoring.inspect", "hypervisor.inspect"),
    (
        "{ do = \"monitoring.silence\" }",
        "{ do = \"hypervisor.stop\", deadline_ms = 2000, longest_call_ms = 200 }",
    ),
    ("{ do = \"backup.final\" }", "{ do = \"backup.final\", deadline_ms = 2000, longest_call_ms = 200 }"),
    ("monitoring.remove_target", "hypervisor.undefine"),
    (
        "{ do = \"backup.delete_archives\" }",
        "{ do = \"backup.delete_archives\", after = [\"hypervisor.undefine\"] }",
    ),
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

/// What is said of one where it is shown, in a listing, and before all of its scope is cancelled: what a cancel takes back, in
/// words or by step, and until when.
async fn offered(client: &Client, id: DeletionId) -> [(String, Option<Timestamp>); 3] {
    let shown = client.deletion(&id.to_string()).await.unwrap();
    let listed = client.deletions(&ListQuery::default()).await.unwrap().items;
    let line = listed.into_iter().find(|line| line.id == id).unwrap();
    let (scope, reason) = ("tenants".parse().unwrap(), "wanted".to_owned());
    let asked = CancelScope { scope, reason, dry_run: true, after: None, limit: None };
    let all = client.cancel_scope(&asked).await.unwrap().items;
    let item = all.into_iter().find(|item| item.deletion == id).unwrap();
    assert!(line.cancel && item.cancelled, "it can be cancelled");
    [(shown.undo, shown.cancel_until), (line.undo, line.cancel_until), (item.restores.join(", "), item.until)]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancel_takes_back_is_said_wherever_a_deletion_is_shown() {
    let mut system = System::start_with_last(&monitoring()).await;
    let client = system.client().await;
    let web02 = "vm/web02".parse().unwrap();
    system.register_named(&web02, false).await;
    // So that it is certain until when.
    let in_an_hour = system.ledger.facts().await.unwrap().now.plus_ms(3_600_000);
    let untouched = system.delete_named(web02, in_an_hour).await;
    let [shown, listed, asked] = offered(&client, untouched).await;
    assert_eq!(shown.0, "everything: nothing was changed yet; `sexton cancel` ends it");
    assert!(shown.1.is_some_and(|until| until > in_an_hour), "{shown:?}");
    assert_eq!((&listed, &*asked.0, asked.1), (&shown, "", shown.1));

    let touched = silenced(&system).await;
    let takes_back = "everything: `sexton cancel` takes back monitoring.silence";
    let [shown, listed, asked] = offered(&client, touched).await;
    assert!(shown.0.starts_with(takes_back) && listed.0.starts_with(takes_back), "{shown:?}, {listed:?}");
    assert_eq!(asked.0, "monitoring.silence");
    system.backup.open();
}
