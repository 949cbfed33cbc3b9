//! Steps touch pinned targets and nothing else: what has appeared since stops the job if it is irreplaceable.
use serde_json::{Value, json};
use sexton_model::DeletionId;
use sexton_model::decide::Event;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{JobKind, JobState, Stage, StateName};

use super::gate::Point;
use super::system::{System, U1, boss, hypervisor, on_many_machines, ops};

on_many_machines! {
    a_volume_that_appears_after_announce_stops_before_anything_is_touched,
    a_volume_that_appears_before_hard_stops_before_anything_is_destroyed,
    a_statement_about_one_volume_does_not_delete_another,
    what_rolls_is_pinned_anew_after_the_stop,
}

/// The machine itself, with its volumes and its backups.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "hypervisor.inspect", rolling = ["snapshots"] }, { do = "backup.inspect", rolling = ["snapshots"] }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [{ do = "hypervisor.undefine" }, { do = "backup.remove_schedule" }]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_volumes" }, { do = "backup.delete_archives", after = ["hypervisor.undefine"] }]
[stages.recycle]
offset_days = 3
steps = []
"#;

fn edit(system: &System, file: &str, change: impl FnOnce(&mut Value)) {
    let path = system.host().join(file);
    let text = std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec());
    let mut object: Value = serde_json::from_slice(&text).unwrap();
    change(&mut object);
    std::fs::write(path, object.to_string()).unwrap();
}

/// A disk is made and attached to the machine, as somebody does who knows of no deletion.
pub fn attach(system: &System, disk: &str) {
    std::fs::write(system.host().join(format!("volumes/{disk}.img")), "the only copy").unwrap();
    edit(system, &format!("volumes/{disk}.json"), |object| {
        *object = json!({ "identity": { "uuid": U1 }, "size": 13, "snapshots": [] });
    });
    edit(system, "vms/web01.json", |vm| vm["disks"].as_array_mut().unwrap().push(disk.into()));
}

pub fn detach(system: &System, disk: &str) {
    edit(system, "vms/web01.json", |vm| vm["disks"].as_array_mut().unwrap().retain(|held| held != disk));
}

fn is_there(system: &System, disk: &str) -> bool {
    system.host().join(format!("volumes/{disk}.img")).exists()
}

async fn parked(system: &System, id: DeletionId, stage: Stage) -> String {
    let job = system.until_job(id, stage, |state| state.name() == StateName::Parked).await;
    match job.state {
        JobState::Parked { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// What a person reads in brackets in the reason of a park.
fn mark(reason: &str) -> String {
    let (shown, _) = reason.split_once("]. It is not among").unwrap();
    shown.rsplit_once('[').unwrap().1.to_owned()
}

/// Deleted up to the step of the hypervisor that does `action`, at which it has not looked yet.
async fn up_to(system: &System, action: &'static str) -> DeletionId {
    system.hypervisor.close(action, Point::Look);
    let id = system.delete().await;
    system.hypervisor.reached().await;
    id
}

/// After announce, before soft: the machine still runs for all that anybody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_appears_after_announce_stops_before_anything_is_touched() {
    let system = System::start_on(PLAN).await;
    // The inspection has been asked for, and the disk is attached only once it has been answered: before soft.
    system.backup.close("inspect", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    attach(&system, "web01-data");
    let before = system.world();
    system.backup.open();
    let reason = parked(&system, id, Stage::Soft).await;
    assert!(reason.contains("web01-data") && reason.contains("hypervisor.main"), "{reason}");
    assert!(system.hypervisor.changes().is_empty() && system.backup.changes().is_empty());
    assert_eq!(system.world(), before);

    // Taken away and tried again, it goes on, and the disk is not touched.
    detach(&system, "web01-data");
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(is_there(&system, "web01-data") && !is_there(&system, "web01-root"));
}

/// Between soft and hard, and not before: what is irreversible does not begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_appears_before_hard_stops_before_anything_is_destroyed() {
    let system = System::start_on(PLAN).await;
    let id = up_to(&system, "stop").await;
    system.hypervisor.open();
    system.backup.close("final", Point::Look);
    system.backup.reached().await;
    attach(&system, "web01-data");
    system.backup.open();
    let reason = parked(&system, id, Stage::Hard).await;
    assert!(reason.contains("web01-data"), "{reason}");
    assert_eq!(system.hypervisor.changes(), ["perform stop"]);
    assert_eq!(system.backup.changes(), ["perform final"]);
    assert!(is_there(&system, "web01-root"));

    // Stated to belong to the deletion, it goes with the rest.
    let evidence = "web01 got it on Tuesday, its owner says that it can go".to_owned();
    let mark = mark(&reason);
    system.tell(id, Event::Waive { by: boss(), claim: WaiverClaim::Belongs, mark, evidence }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!is_there(&system, "web01-data") && !is_there(&system, "web01-root"));
    let targets = system.view(id).await.targets;
    let volumes = targets[&hypervisor()]["volumes"].as_array().unwrap().len();
    assert_eq!(volumes, 2);
}

/// What was stated is about what was shown, not about whatever there is later.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_about_one_volume_does_not_delete_another() {
    let system = System::start_on(PLAN).await;
    let id = up_to(&system, "stop").await;
    system.hypervisor.open();
    system.backup.close("final", Point::Look);
    system.backup.reached().await;
    attach(&system, "web01-data");
    system.backup.open();
    let mark = mark(&parked(&system, id, Stage::Hard).await);
    attach(&system, "web01-more");
    let evidence = "web01-data can go".to_owned();
    system.tell(id, Event::Waive { by: boss(), claim: WaiverClaim::Belongs, mark, evidence }).await.unwrap();
    let more = async || {
        let job = system.job(id, JobKind::Stage(Stage::Hard)).await;
        matches!(job.state, JobState::Parked { reason } if reason.contains("web01-more"))
    };
    super::system::until("it is parked again, for the other one", more).await;
    assert_eq!(system.view(id).await.targets[&hypervisor()]["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(system.hypervisor.changes(), ["perform stop"]);
}

/// Scheduled backups go on until the schedule is removed: they are pinned anew, and all of them go.
#[tokio::test(flavor = "multi_thread")]
async fn what_rolls_is_pinned_anew_after_the_stop() {
    let system = System::start_on(PLAN).await;
    let id = up_to(&system, "stop").await;
    let file = system.host().join("../../backup/main/archives/web01.json");
    let mut archive: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    archive["snapshots"]["nightly"] = json!({ "final": false });
    std::fs::write(&file, archive.to_string()).unwrap();
    system.hypervisor.close("undefine", Point::Look);
    system.hypervisor.open();
    system.hypervisor.reached().await;
    let view = system.view(id).await;
    let pinned = &view.targets[&super::system::backup()];
    assert_eq!(pinned["snapshots"], json!(["a", "nightly"]));
    assert_eq!(pinned["final"].as_array().unwrap().len(), 1, "what the deletion made stays pinned: {pinned}");
    let drift: Vec<_> = view.audit.iter().filter(|row| !row.event.drift.is_empty()).collect();
    assert!(drift.is_empty(), "{drift:?}");
    system.hypervisor.open();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!file.exists());
}
