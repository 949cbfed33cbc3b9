//! Two versions beside each other: consumers that speak as 0.1.0 did, and a coordinator that does (`system/older.rs`). What
//! is promised of them stands in the README ("Upgrades").
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};

use super::gate::Point;
use super::system::{System, backup, hypervisor, monitoring, on_many_machines, ops};

on_many_machines! {
    consumers_of_0_1_0_carry_out_and_bring_back_what_its_records_ask,
    what_consumers_of_0_1_0_do_not_know_they_refuse_and_it_waits_for_others,
    beside_copies_of_0_1_0_new_consumers_work_for_its_coordinator,
    a_coordinator_of_0_1_0_orders_nothing_of_whom_it_does_not_understand,
}

const ANNOUNCE: JobKind = JobKind::Stage(Stage::Announce);
const NO_CHANGE: [&str; 0] = [];

/// One record is cancelled within its soft stage, and everything is as it was. The next one is carried out to its end.
async fn comes_back_and_goes(system: &System) {
    let before = system.world();
    system.backup.close("final", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.backup.open();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
    assert_eq!(system.monitoring.changes(), ["perform silence", "undo silence"]);

    let id = system.delete().await;
    system.until_over(id, RecordStatus::Recycled).await;
    let changes = system.monitoring.changes();
    assert_eq!(changes[2..], ["perform silence", "perform remove_target", "perform delete_history"]);
    assert_eq!(system.world()[0]["target"], serde_json::Value::Null);
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_0_1_0_carry_out_and_bring_back_what_its_records_ask() {
    let mut system = System::not_started_on_a_plan_of_0_1_0().await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_older_consumer(&instance).await;
    }
    comes_back_and_goes(&system).await;
}

/// Plans of this version have targets read again before soft, which 0.1.0 knows nothing of.
#[tokio::test(flavor = "multi_thread")]
async fn what_consumers_of_0_1_0_do_not_know_they_refuse_and_it_waits_for_others() {
    let mut system = System::not_started_with_quick_looks().await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_older_consumer(&instance).await;
    }
    let before = system.world();
    let id = system.delete().await;
    system.until_rejected("\"reread\"").await;
    assert_eq!(system.job(id, ANNOUNCE).await.state, JobState::Done);
    let soft = system.job(id, JobKind::Stage(Stage::Soft)).await;
    assert_eq!((soft.cursor, soft.touched), (0, false), "{soft:?}");
    assert_eq!(system.monitoring.changes(), NO_CHANGE);
    assert_eq!(system.world(), before);

    // Once they are exchanged the same is asked again, when nobody can answer the order before any more.
    system.stop_consumers().await;
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    system.until_over(id, RecordStatus::Recycled).await;
}

/// As they are while the consumers are exchanged, one copy after the other.
#[tokio::test(flavor = "multi_thread")]
async fn beside_copies_of_0_1_0_new_consumers_work_for_its_coordinator() {
    let mut system = System::not_started_on_a_plan_of_0_1_0().await;
    system.coordinate_as_0_1_0();
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_busy_older_consumer(&instance).await;
        system.start_consumer(&instance).await;
    }
    comes_back_and_goes(&system).await;
    // What it did not understand of them, their pulses, is shown.
    system.until_rejected("'answered'").await;
}

/// To 0.1.0 an instance of which it understands no pulse is down: of such it ordered nothing, as this version does.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_0_1_0_orders_nothing_of_whom_it_does_not_understand() {
    let mut system = System::not_started_on_a_plan_of_0_1_0().await;
    system.coordinate_as_0_1_0();
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        let bus = system.as_user(&instance.to_string());
        system.start_consumer_on(&instance, bus);
    }
    let before = system.world();
    let id = system.delete().await;
    system.until_rejected("'answered'").await;
    system.claim_everything_now(id).await;
    system.two_beacons().await;
    for instance in [monitoring(), backup(), hypervisor()] {
        assert_eq!(system.pulsed(&instance).await, None, "{instance}");
        assert_eq!(system.orders_waiting(&instance).await, 0, "{instance}");
    }
    assert_eq!(system.job(id, ANNOUNCE).await.state.name(), StateName::Scheduled);
    assert_eq!(system.view(id).await.audit.len(), 1, "nothing but its making");
    assert_eq!(system.world(), before);

    // It has only waited.
    system.stop_coordinator().await;
    system.coordinate_as_today();
    system.start_coordinator();
    system.until_over(id, RecordStatus::Recycled).await;
}
