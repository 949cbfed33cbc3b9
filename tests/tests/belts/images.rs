//! An image that machines are made from: its deletion parks in whichever stage it is found to be used, and says who uses it.
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sexton_coordinator::Plans;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobState, Stage};
use sexton_model::{DeletionId, ResourceId};

use super::gate::Point;
use super::system::{System, U1, on_many_machines, ops};

on_many_machines! {
    an_image_that_machines_use_parks_at_announce,
    an_image_that_is_used_by_now_parks_at_soft_and_stays,
    an_image_that_is_used_since_the_last_look_parks_at_purge,
}

/// The steps of `deploy/plans/image.toml` at the hypervisor. With a soft stage of short deadlines: a restore waits for them.
const PLAN: &str = r#"
kind = "image"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "hypervisor.inspect_image" }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.check_unused", deadline_ms = 2000, longest_call_ms = 200 }]
[stages.hard]
offset_days = 1
steps = [{ do = "hypervisor.check_unused", name = "hypervisor.check_still_unused" }]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_image", after = ["hypervisor.check_still_unused"] }]
[stages.recycle]
offset_days = 3
steps = []
"#;

const OTHER: &str = "6f0c1d8e-2222-4a7b-9c55-0a4f0e2b7c01";

fn image() -> ResourceId {
    "image/debian12".parse().unwrap()
}

/// A system with an image, beside `vm/web01`; what is deleted goes by the plan of images.
async fn with_image() -> System {
    let mut system = System::start().await;
    let plans = Plans::of(&[("hypervisor.toml", sexton_hypervisor::ACTIONS)], &[("image.toml", PLAN)], true);
    system.plan = Arc::clone(plans.unwrap().of_kind(&"image".parse().unwrap()).unwrap());
    volume(&system, "debian12", U1, None);
    std::fs::write(content(&system), "what machines are made from").unwrap();
    let stated = json!({
        "id": image(), "scope": "tenants/acme", "identity": { "file": U1 }, "criticality": "reproducible",
        "rebuilt": system.rebuilt().await,
    });
    let resource = serde_json::from_value(stated).unwrap();
    assert_eq!(system.ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
    system
}

/// The file of the image.
fn content(system: &System) -> PathBuf {
    system.host().join("volumes/debian12.img")
}

/// Describe a volume, as whoever makes one does, and what it builds on.
fn volume(system: &System, name: &str, uuid: &str, base: Option<&str>) -> PathBuf {
    let file = system.host().join(format!("volumes/{name}.json"));
    let mut volume = json!({ "identity": { "uuid": uuid }, "size": 27, "snapshots": [] });
    if let Some(base) = base {
        volume["base"] = base.into();
    }
    std::fs::write(&file, volume.to_string()).unwrap();
    file
}

async fn delete(system: &System) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(image(), now).await
}

async fn until_parked(system: &System, id: DeletionId, stage: Stage, because: &str) {
    let because = format!("image debian12 is in use: {because}");
    let so = |state: &JobState| matches!(state, JobState::Parked { reason } if reason.contains(&because));
    system.until_job(id, stage, so).await;
    assert!(content(system).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_machines_use_parks_at_announce() {
    let system = with_image().await;
    // A machine was made from it.
    let root = system.host().join("volumes/web01-root.json");
    let mut disk: Value = serde_json::from_slice(&std::fs::read(&root).unwrap()).unwrap();
    disk["base"] = "debian12".into();
    std::fs::write(&root, disk.to_string()).unwrap();
    let before = system.world();
    let id = delete(&system).await;
    until_parked(&system, id, Stage::Announce, "volume web01-root, a disk of web01, builds on it").await;

    // A machine has it in its drive.
    disk["base"] = Value::Null;
    std::fs::write(&root, disk.to_string()).unwrap();
    let db01 = system.host().join("vms/db01.json");
    let of_db01 = json!({ "identity": { "uuid": OTHER }, "disks": ["debian12"] });
    std::fs::write(&db01, of_db01.to_string()).unwrap();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    until_parked(&system, id, Stage::Announce, "it is a disk of db01").await;
    std::fs::remove_file(&db01).unwrap();

    // A clone of it, which belongs to no machine so far.
    let clone = volume(&system, "clone", OTHER, Some("debian12"));
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    until_parked(&system, id, Stage::Announce, "volume clone builds on it").await;
    std::fs::remove_file(&clone).unwrap();
    assert!(system.hypervisor.changes().is_empty());

    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!content(&system).exists());
    assert_eq!(system.hypervisor.changes(), ["perform delete_image"]);
    // Nothing but the image has gone.
    disk["base"] = "debian12".into();
    std::fs::write(&root, disk.to_string()).unwrap();
    assert_eq!(system.world(), before);
}

/// Somebody has read the announcement, and makes a machine from it all the same: all it takes is to cancel.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_used_by_now_parks_at_soft_and_stays() {
    let system = with_image().await;
    system.hypervisor.close("check_unused", Point::Look);
    let id = delete(&system).await;
    system.hypervisor.reached().await;
    volume(&system, "clone", OTHER, Some("debian12"));
    system.hypervisor.open();
    until_parked(&system, id, Stage::Soft, "volume clone builds on it").await;
    system.tell(id, Event::Cancel { by: ops(), reason: "it is needed".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert!(content(&system).exists());
    assert!(system.hypervisor.changes().is_empty());
}

/// Behind the last look: nobody asks but whoever deletes it.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_used_since_the_last_look_parks_at_purge() {
    let system = with_image().await;
    system.hypervisor.close("delete_image", Point::Found);
    let id = delete(&system).await;
    system.hypervisor.reached().await;
    let clone = volume(&system, "clone", OTHER, Some("debian12"));
    system.hypervisor.open();
    until_parked(&system, id, Stage::Purge, "volume clone builds on it").await;
    std::fs::remove_file(&clone).unwrap();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!content(&system).exists());
}
