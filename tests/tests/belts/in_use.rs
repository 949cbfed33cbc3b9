//! It was in use: holds on the resource, disks that others use, a machine that somebody has started again, a backup that
//! runs, and redundancy groups. Images are in `images.rs`.
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use sexton_ledger::NotDone;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, ResourceId};

use super::gate::Point;
use super::system::{System, U1, boss, on_many_machines, ops, until, web01};

on_many_machines! {
    a_held_resource_is_not_touched_and_goes_on_when_it_is_released,
    a_disk_that_others_use_parks_at_announce,
    a_machine_that_runs_again_parks_at_hard,
    a_machine_that_may_remain_keeps_its_backups,
    a_disk_that_others_use_by_now_parks_at_purge,
    nobody_is_told_while_a_backup_of_it_runs,
    nothing_is_forgotten_or_deleted_while_a_backup_of_it_runs,
    of_a_redundancy_group_one_goes_unless_all_of_it_is_retired,
    what_the_configuration_protects_is_not_retired_with_its_group,
}

/// The machine itself.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "hypervisor.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop" }]
[stages.hard]
offset_days = 1
steps = [{ do = "hypervisor.check_off" }, { do = "hypervisor.undefine", after = ["hypervisor.check_off"] }]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_volumes" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

/// The machine and its backups: what depends on what is as in the plan that is delivered.
const BACKED_UP: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "hypervisor.inspect" }, { do = "backup.inspect", rolling = ["snapshots"] }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [{ do = "hypervisor.undefine" }, { do = "backup.remove_schedule", after = ["hypervisor.undefine"] }]
[stages.purge]
offset_days = 2
steps = [
  { do = "hypervisor.delete_volumes", after = ["hypervisor.undefine"] },
  { do = "backup.delete_archives", after = ["hypervisor.undefine", "backup.remove_schedule"] },
]
[stages.recycle]
offset_days = 3
steps = []
"#;

fn hold(origin: &str) -> NewHold {
    let origin = origin.parse().unwrap();
    NewHold { resource: web01(), origin, reason: "a lawsuit".into(), by: ops() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_resource_is_not_touched_and_goes_on_when_it_is_released() {
    let system = System::start().await;
    system.ledger.hold_resource(hold("legal")).await.unwrap().unwrap();
    let before = system.world();
    let id = system.delete().await;
    let job = system.until_job(id, Stage::Announce, |state| state.name() == StateName::Held).await;
    assert!(matches!(job.state, JobState::Held { by: Blocker::Hold { .. }, .. }), "{job:?}");
    system.two_beacons().await;
    assert_eq!(system.world(), before);
    system.monitoring.close("silence", Point::Look);
    let origin = Which::Origin("legal".parse().unwrap());
    let released = system.ledger.release_resource(&web01(), origin.clone(), &boss()).await.unwrap();
    assert_eq!(released.unwrap().len(), 1);
    system.monitoring.reached().await;

    // The order that is out is carried out (it was only to capture); the next one is not given.
    system.ledger.hold_resource(hold("legal")).await.unwrap().unwrap();
    system.monitoring.open();
    let stopped = |state: &JobState| matches!(state, JobState::Ready { blocked: Some(_), .. });
    system.until_job(id, Stage::Soft, stopped).await;
    system.two_beacons().await;
    assert!(system.monitoring.changes().is_empty());
    system.ledger.release_resource(&web01(), origin, &boss()).await.unwrap().unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Ends however the test went.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that has a disk of `vm/web01` open, called so.
fn open_disk(system: &System, called: &str) -> Started {
    let disk = File::open(system.host().join("volumes/web01-root.img")).unwrap();
    Started(Command::new("sleep").arg0(called).arg("600").stdin(disk).spawn().unwrap())
}

/// What its own process is called.
fn own_name(system: &System) -> String {
    format!("{}/vms/web01/{U1}/sleep", system.host().display())
}

/// Whoever uses a disk is found out at announce, when nobody was told yet, and not behind the point of no return.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_others_use_parks_at_announce() {
    let system = System::start_on(PLAN).await;
    let (clone, db01) = (system.host().join("volumes/clone.json"), system.host().join("vms/db01.json"));
    let another = "6f0c1d8e-2222-4a7b-9c55-0a4f0e2b7c01";
    let (size, base) = (1, "web01-root");
    let of_clone = serde_json::json!({ "identity": { "uuid": another }, "size": size, "base": base });
    std::fs::write(&clone, of_clone.to_string()).unwrap();
    let id = system.delete().await;
    let until_parked = async |because: &str| {
        let so = |state: &JobState| matches!(state, JobState::Parked { reason } if reason.contains(because));
        system.until_job(id, Stage::Announce, so).await;
    };
    until_parked("volume web01-root is in use: volume clone builds on it").await;
    std::fs::remove_file(&clone).unwrap();

    // Another machine has the same disk.
    let of_db01 = serde_json::json!({ "identity": { "uuid": another }, "disks": [base] });
    std::fs::write(&db01, of_db01.to_string()).unwrap();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    until_parked("volume web01-root is in use: it is a disk of db01").await;
    std::fs::remove_file(&db01).unwrap();

    // Somebody copies it.
    let copying = open_disk(&system, "copying/sleep");
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    until_parked(&format!("volume web01-root is in use: process {} has it open", copying.0.id())).await;
    drop(copying);
    assert!(system.hypervisor.changes().is_empty());

    // That it runs itself is no reason.
    let own = open_disk(&system, &own_name(&system));
    let covers = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
    let pause = system.ledger.pause(covers, &ops(), "until it was seen").await.unwrap().pause;
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_job(id, Stage::Announce, |state| state.name() == StateName::Done).await;
    drop(own);
    assert!(system.ledger.resume(pause.id, &ops(), None).await.unwrap().unwrap());
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Behind the last look at the machine somebody builds on its disk: nobody asks but whoever deletes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_others_use_by_now_parks_at_purge() {
    let system = System::start_on(PLAN).await;
    system.hypervisor.close("delete_volumes", Point::Found);
    let id = system.delete().await;
    system.hypervisor.reached().await;
    let clone = system.host().join("volumes/clone.json");
    let another = "6f0c1d8e-2222-4a7b-9c55-0a4f0e2b7c01";
    let of_clone = serde_json::json!({ "identity": { "uuid": another }, "size": 1, "base": "web01-root" });
    std::fs::write(&clone, of_clone.to_string()).unwrap();
    system.hypervisor.open();
    let because = "volume web01-root is in use: volume clone builds on it";
    let so = |state: &JobState| matches!(state, JobState::Parked { reason } if reason.contains(because));
    system.until_job(id, Stage::Purge, so).await;
    assert!(system.host().join("volumes/web01-root.img").exists());
    std::fs::remove_file(&clone).unwrap();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!system.host().join("volumes/web01-root.img").exists());
}

/// While hard is paused, somebody starts the machine, and tells nobody.
async fn running_again_before_hard(system: &System) -> (DeletionId, Started) {
    let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    let pause = system.ledger.pause(covers, &ops(), "until it runs again").await.unwrap().pause;
    let id = system.delete().await;
    system.until_job(id, Stage::Hard, |state| state.name() == StateName::Held).await;
    let running = Started(Command::new("sleep").arg0(own_name(system)).arg("600").spawn().unwrap());
    assert!(system.ledger.resume(pause.id, &ops(), None).await.unwrap().unwrap());
    (id, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_again_parks_at_hard() {
    let system = System::start_on(PLAN).await;
    let (id, running) = running_again_before_hard(&system).await;
    let job = system.until_job(id, Stage::Hard, |state| state.name() == StateName::Parked).await;
    let JobState::Parked { reason } = job.state else { panic!("{job:?}") };
    assert!(reason.contains("was stopped, but"), "{reason}");
    assert!(!system.hypervisor.changes().contains(&"perform undefine".to_owned()));
    assert!(system.host().join("vms/web01.json").exists());
    drop(running);
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// `by` backs `vm/web01` up, until the file is removed.
fn backing_up(system: &System, by: &str) -> PathBuf {
    let folder = system.folder().join("backup/main/running");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("web01.json");
    std::fs::write(&file, serde_json::json!({ "by": by }).to_string()).unwrap();
    file
}

/// What is answered meanwhile.
fn backed_up_by(by: &str) -> String {
    format!("vm/web01 is in use: a backup of it is being made by {by}")
}

/// It is no reason to call anybody: it ends by itself, and is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_while_a_backup_of_it_runs() {
    let system = System::start().await;
    let before = system.world();
    let running = backing_up(&system, "nightly");
    let id = system.delete().await;
    let said = backed_up_by("nightly");
    let waits =
        |state: &JobState| matches!(state, JobState::Waiting { reason, .. } if reason.contains(&said));
    system.until_job(id, Stage::Announce, waits).await;
    assert!(system.backup.changes().is_empty() && system.monitoring.changes().is_empty());
    assert_eq!(system.world(), before);
    std::fs::remove_file(running).unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// One that begins before hard keeps what is taken apart there, its schedule among it; one that begins behind the last look
/// before the archive is deleted keeps that.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_or_deleted_while_a_backup_of_it_runs() {
    let system = System::start().await;
    system.backup.close("final", Point::Found);
    let id = system.delete().await;
    system.backup.reached().await;
    // The next look is the one before hard.
    system.backup.close("inspect", Point::Look);
    system.backup.open();
    system.backup.reached().await;
    let (before, running) = (system.world(), backing_up(&system, "nightly"));
    system.backup.open();
    let said = backed_up_by("nightly");
    let waits =
        |state: &JobState| matches!(state, JobState::Waiting { reason, .. } if reason.contains(&said));
    system.until_job(id, Stage::Hard, waits).await;
    assert_eq!(system.world(), before);
    assert_eq!(system.monitoring.changes(), ["perform silence"]);
    assert_eq!(system.backup.changes(), ["perform final"]);

    system.backup.close("delete_archives", Point::Found);
    std::fs::remove_file(running).unwrap();
    system.backup.reached().await;
    let (before, running) = (system.world(), backing_up(&system, "monthly"));
    system.backup.open();
    let said = backed_up_by("monthly");
    let waits =
        |state: &JobState| matches!(state, JobState::Waiting { reason, .. } if reason.contains(&said));
    system.until_job(id, Stage::Purge, waits).await;
    assert_eq!(system.world(), before);
    assert!(system.folder().join("backup/main/archives/web01.json").exists());
    std::fs::remove_file(running).unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(!system.folder().join("backup/main/archives/web01.json").exists());
}

/// It cannot be undefined, and a person says that it may remain: then it may need its backups, and goes on being backed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_may_remain_keeps_its_backups() {
    let system = System::start_on(BACKED_UP).await;
    let (id, running) = running_again_before_hard(&system).await;
    let undefined = |state: &JobState| matches!(state, JobState::Parked { reason } if reason.contains("it is not undefined"));
    system.until_job(id, Stage::Hard, undefined).await;
    let evidence = "it runs again, and its owner is not to be reached".to_owned();
    let (claim, mark) = (WaiverClaim::MayRemain, system.mark(id).await);
    let waive = |by| Event::Waive { by, claim, mark: mark.clone(), evidence: evidence.clone() };
    // Who requested it does not let it pass.
    let refused = system.tell(id, waive(ops())).await;
    assert!(matches!(refused, Err(NotDone::Refused(Refusal::Requested { .. }))), "{refused:?}");
    assert!(undefined(&system.job(id, JobKind::Stage(Stage::Hard)).await.state));
    system.tell(id, waive(boss())).await.unwrap();
    // Its name stays taken, too.
    system.until_job(id, Stage::Recycle, |state| state.name() == StateName::Parked).await;
    drop(running);

    assert_eq!(system.backup.changes(), ["perform final"]);
    for kept in ["archives/web01.json", "schedules/web01.json"] {
        assert!(system.host().join("../../backup/main").join(kept).exists(), "{kept}");
    }
    assert!(system.host().join("volumes/web01-root.img").exists());
    let mut waived: Vec<_> =
        system.view(id).await.deletion.waivers.iter().map(|w| (w.slot, w.claim)).collect();
    waived.sort_by_key(|(slot, _)| *slot);
    let (hard, purge) = (Stage::Hard.index(), Stage::Purge.index());
    assert_eq!(waived, [hard, hard, purge, purge].map(|slot| (slot, WaiverClaim::MayRemain)));
}

/// One more of a redundancy group, in the subsystems as well.
async fn member(system: &System, name: &str) -> ResourceId {
    let id: ResourceId = format!("vm/{name}").parse().unwrap();
    if id != web01() {
        system.build(&id);
    }
    let stated = serde_json::json!({
        "id": id, "scope": "tenants/acme", "identity": { "uuid": U1 }, "criticality": "reproducible",
        "rebuilt": system.rebuilt().await, "groups": ["db-main"],
    });
    let resource = serde_json::from_value(stated).unwrap();
    assert_eq!(system.ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
    id
}

/// Of three, one is off: the next one waits for it, until the last one is to go as well.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_redundancy_group_one_goes_unless_all_of_it_is_retired() {
    let policy = Policy { windows: None, ..Policy::default() };
    let system = System::start_in_calendar_days(policy).await;
    let [one, two, three] =
        [member(&system, "web01").await, member(&system, "web02").await, member(&system, "web03").await];
    let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    system.ledger.pause(covers, &ops(), "no further").await.unwrap();
    let now = system.ledger.facts().await.unwrap().now;
    let first = system.delete_named(one.clone(), now).await;
    system.until_job(first, Stage::Hard, |state| state.name() == StateName::Held).await;
    let changes = (system.monitoring.changes(), system.backup.changes());

    let second = system.delete_named(two, now).await;
    let waits = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Redundancy { other, .. }, .. } if *other == one);
    system.until_job(second, Stage::Soft, waits).await;
    // Looked at again and again by now.
    system.two_beacons().await;
    assert!(waits(&system.job(second, JobKind::Stage(Stage::Soft)).await.state));
    assert_eq!((system.monitoring.changes(), system.backup.changes()), changes);

    let third = system.delete_named(three, now).await;
    for id in [second, third] {
        system.until_job(id, Stage::Soft, |state| state.name() == StateName::Done).await;
    }
}

/// Of three, one is off and comes back some day, since the configuration protects it by now: until then neither of the
/// others goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_protects_is_not_retired_with_its_group() {
    let policy = Policy { windows: None, ..Policy::default() };
    let system = System::start_in_calendar_days(policy.clone()).await;
    let before = system.world();
    let [one, two, three] =
        [member(&system, "web01").await, member(&system, "web02").await, member(&system, "web03").await];
    let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    system.ledger.pause(covers, &ops(), "no further").await.unwrap();
    let now = system.ledger.facts().await.unwrap().now;
    let third = system.delete_named(three.clone(), now).await;
    system.until_job(third, Stage::Hard, |state| state.name() == StateName::Held).await;

    let system = system.restarted_with(Policy { protected: [three.clone()].into(), ..policy }).await;
    let ids = system.delete_both([one, two]).await;
    let alone = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Redundancy { other, .. }, .. } if *other == three);
    for id in ids {
        system.until_job(id, Stage::Soft, alone).await;
    }
    system.two_beacons().await;
    for id in ids {
        assert!(alone(&system.job(id, JobKind::Stage(Stage::Soft)).await.state));
    }
    assert_eq!(system.world(), before);
    system.tell(third, Event::Cancel { by: ops(), reason: "it stays".into() }).await.unwrap();
    system.until_over(third, RecordStatus::Cancelled).await;
    until("one of them goes", async || {
        let [one, two] = ids.map(|id| system.job(id, JobKind::Stage(Stage::Soft)));
        [one.await, two.await].iter().any(|job| job.state.name() == StateName::Done)
    })
    .await;
}
