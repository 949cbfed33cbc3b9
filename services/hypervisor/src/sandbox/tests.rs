use super::*;
use crate::actions::{check_off, delete_volumes, find_domain, inspect, stop, undefine};
use crate::ask::Ask;
use crate::machine::Targets;
use sexton_consumer::driver::{Done, Found};
use sexton_model::step::Presence;
use std::sync::atomic::{AtomicUsize, Ordering};

const UUID: Uuid = Uuid::from_u128(0x2f1c);
const OTHER: Uuid = Uuid::from_u128(0x3a4b);

/// Ends its process however the test went.
struct Bystander(std::process::Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct Somewhere {
    folder: tempfile::TempDir,
    host: SandboxHost,
}

impl Drop for Somewhere {
    fn drop(&mut self) {
        let prefix = self.folder.path().display().to_string();
        for (process, arguments) in process::all().unwrap() {
            if arguments.first().is_some_and(|a| a.starts_with(&prefix)) {
                // Ends the sleeper however the test went; the tests run without a runtime here.
                let _ = Command::new("kill").arg("-9").arg(process.pid.to_string()).status();
            }
        }
    }
}

fn instance() -> Instance {
    "hypervisor.main".parse().unwrap()
}

fn place(on: bool) -> Somewhere {
    let folder = tempfile::tempdir().unwrap();
    create_vm(folder.path(), &instance(), "web01", UUID, on).unwrap();
    let host = SandboxHost::new(&Config { root: folder.path().into(), instance: instance() });
    Somewhere { folder, host }
}

impl Somewhere {
    fn describe(&self) -> Value {
        describe_vm(self.folder.path(), &instance(), "web01").unwrap()
    }

    fn change(&self, attribute: &str, value: Value) {
        // As somebody does who knows of no fences.
        let mut object = self.host.sandbox.read(VMS, "web01").unwrap().unwrap();
        object.insert(attribute.into(), value);
        let path = self.host.sandbox.folder().join(VMS).join("web01.json");
        fs::write(path, serde_json::to_vec(&object).unwrap()).unwrap();
    }

    async fn pinned(&self) -> Ask {
        let seen = inspect::inspect(&self.host, &ask(UUID)).await.unwrap();
        assert_eq!(seen.found, Found::Same);
        let pinned: Targets = serde_json::from_value(seen.targets).unwrap();
        Ask { pinned: Some(pinned), ..ask(UUID) }
    }

    async fn stop(&self, ask: &Ask, manifest: &Value, number: i64) -> Result<(), Obstacle> {
        stop::perform(&self.host, ask, Some(manifest), &may(number), crate::driver::patience(ask))
            .await
            .map(drop)
    }
}

fn fence(number: i64) -> Fence {
    Fence { epoch: 1, number }
}

/// Every change may be made.
fn may(number: i64) -> impl Fn() -> Result<Fence, Obstacle> + Send + Sync {
    move || Ok(fence(number))
}

/// So many changes may be made; then somebody pauses.
fn may_only(changes: usize) -> impl Fn() -> Result<Fence, Obstacle> + Send + Sync {
    let left = AtomicUsize::new(changes);
    move || {
        let one_less = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        one_less.map(|_| fence(9)).map_err(|_| Obstacle::Busy("paused".into()))
    }
}

fn ask(uuid: Uuid) -> Ask {
    let ends = Instant::now() + Duration::from_secs(30);
    Ask { name: "web01".into(), uuid, pinned: None, reversible: true, ends, polite: None, progress: None }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Obstacle>) -> String {
    match result {
        Err(Obstacle::Refuse(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_stop_is_undone_exactly_and_both_may_be_repeated() {
    for on in [true, false] {
        let place = place(on);
        let before = place.describe();
        assert_eq!(before["runs"], on);
        let ask = place.pinned().await;
        let manifest = stop::capture(&place.host, &ask).await.unwrap();
        for number in [2, 3] {
            place.stop(&ask, &manifest, number).await.unwrap();
            assert_eq!(stop::presence(&place.host, &ask).await.unwrap().0, Presence::Present);
            check_off::check(&place.host, &ask).await.unwrap();
        }
        let off = place.describe();
        assert_eq!((&off["runs"], &off["vm"]["ha"]), (&json!(false), &json!(false)));
        for number in [4, 5] {
            stop::undo(&place.host, &ask, &manifest, &may(number)).await.unwrap();
            assert_eq!(place.describe(), before);
            stop::restored(&place.host, &ask, &manifest).await.unwrap();
        }
        // A stop that slept through its lease.
        let why = refused(place.stop(&ask, &manifest, 3).await);
        assert!(why.contains("fence"), "{why}");
        assert_eq!(place.describe(), before);
    }
}

#[tokio::test]
async fn another_uuid_is_refused_by_every_action() {
    let place = place(true);
    let before = place.describe();
    let manifest = stop::capture(&place.host, &ask(UUID)).await.unwrap();
    let pinned = place.pinned().await.pinned;
    let other = Ask { pinned, ..ask(OTHER) };
    assert!(matches!(find_domain(&place.host, &other).await, Ok(Found::Different(_))));
    assert!(matches!(inspect::inspect(&place.host, &other).await.unwrap().found, Found::Different(_)));
    refused(stop::capture(&place.host, &other).await);
    refused(place.stop(&other, &manifest, 2).await);
    refused(stop::undo(&place.host, &other, &manifest, &may(2)).await);
    refused(check_off::check(&place.host, &other).await);
    refused(undefine::perform(&place.host, &other, &may(2)).await);
    assert_eq!(place.describe(), before);
}

#[tokio::test]
async fn a_reused_process_id_is_never_killed() {
    let place = place(false);
    let bystander = Bystander(
        Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
    );
    let process = Process::of(bystander.0.id()).unwrap().unwrap();
    // The id of a machine that ran before the host gave it to somebody else; once with another start time,
    // once even with the same.
    for (round, started) in [process.started - 1, process.started].into_iter().enumerate() {
        place.change("power", json!("on"));
        place.change("pid", json!(process.pid));
        place.change("started", json!(started));
        let ask = place.pinned().await;
        let manifest = stop::capture(&place.host, &ask).await.unwrap();
        assert_eq!(manifest["power"], "off");
        place.stop(&ask, &manifest, 2 + round as i64).await.unwrap();
        assert!(process.lives().unwrap());
    }
}

#[tokio::test]
async fn an_unreadable_place_is_unclear_and_never_absent() {
    let place = place(false);
    let ask = place.pinned().await;
    fs::rename(place.folder.path().join("hypervisor"), place.folder.path().join("elsewhere")).unwrap();
    let unclear =
        |result: Result<(), Obstacle>| assert!(matches!(result, Err(Obstacle::Unclear(_))), "{result:?}");
    unclear(find_domain(&place.host, &ask).await.map(drop));
    unclear(inspect::inspect(&place.host, &ask).await.map(drop));
    unclear(undefine::presence(&place.host, &ask).await.map(drop));
    unclear(undefine::perform(&place.host, &ask, &may(2)).await.map(drop));
    unclear(delete_volumes::find(&place.host, &ask).await.map(drop));
    unclear(delete_volumes::presence(&place.host, &ask).await.map(drop));
    unclear(check_off::check(&place.host, &ask).await.map(drop));
}

#[tokio::test]
async fn a_machine_goes_only_when_it_is_off_and_its_volumes_after_it() {
    let place = place(true);
    let ask = place.pinned().await;
    let manifest = stop::capture(&place.host, &ask).await.unwrap();
    let why = refused(undefine::perform(&place.host, &ask, &may(2)).await);
    assert!(why.contains("runs as process"), "{why}");
    refused(check_off::check(&place.host, &ask).await);
    place.stop(&ask, &manifest, 2).await.unwrap();
    let why = refused(delete_volumes::perform(&place.host, &ask, &may(3)).await);
    assert!(why.contains("a disk of web01"), "{why}");
    for _ in 0..2 {
        undefine::perform(&place.host, &ask, &may(3)).await.unwrap();
        assert_eq!(undefine::presence(&place.host, &ask).await.unwrap().0, Presence::Absent);
    }
    let image = place.host.image("web01-root");
    let open = fs::File::open(&image).unwrap();
    let why = refused(delete_volumes::perform(&place.host, &ask, &may(4)).await);
    assert!(why.contains("has it open"), "{why}");
    drop(open);
    assert_eq!(delete_volumes::presence(&place.host, &ask).await.unwrap().0, Presence::Present);
    for _ in 0..2 {
        delete_volumes::perform(&place.host, &ask, &may(4)).await.unwrap();
        assert_eq!(delete_volumes::presence(&place.host, &ask).await.unwrap().0, Presence::Absent);
    }
    assert!(!image.exists());
}

#[tokio::test]
async fn what_was_not_pinned_stays() {
    let place = place(false);
    let ask = place.pinned().await;
    // A volume that appeared after the announcement.
    create_vm(place.folder.path(), &instance(), "new", OTHER, false).unwrap();
    place.change("disks", json!(["web01-root", "new-root"]));
    refused(undefine::perform(&place.host, &ask, &may(2)).await);
    place.change("disks", json!(["web01-root"]));
    undefine::perform(&place.host, &Ask { ends: Instant::now(), ..ask.clone() }, &may(2)).await.unwrap();
    // A volume that was made anew under the pinned name.
    let mut made = place.host.sandbox.read(VOLUMES, "web01-root").unwrap().unwrap();
    made.insert("identity".into(), json!({ "uuid": OTHER }));
    place.host.sandbox.write(VOLUMES, "web01-root", made, fence(2)).unwrap();
    refused(delete_volumes::perform(&place.host, &ask, &may(3)).await);
    refused(delete_volumes::presence(&place.host, &ask).await);
    assert!(place.host.image("web01-root").exists());
    // Nothing pinned, nothing destroyed.
    refused(delete_volumes::perform(&place.host, &super::tests::ask(UUID), &may(3)).await);
}

#[tokio::test]
async fn what_others_changed_is_refused_by_stop_and_undo() {
    let place = place(true);
    let ask = place.pinned().await;
    let manifest = stop::capture(&place.host, &ask).await.unwrap();
    place.change("onboot", json!(true));
    let why = refused(place.stop(&ask, &manifest, 2).await);
    assert!(why.contains("onboot"), "{why}");
    place.change("onboot", json!(false));
    place.stop(&ask, &manifest, 2).await.unwrap();
    place.change("onboot", json!(true));
    refused(check_off::check(&place.host, &ask).await);
    refused(stop::undo(&place.host, &ask, &manifest, &may(3)).await);
    assert_eq!(place.describe()["runs"], false);
}

#[tokio::test]
async fn a_renamed_machine_is_not_absent() {
    let place = place(false);
    let ask = place.pinned().await;
    let vms = place.host.sandbox.folder().join(VMS);
    fs::rename(vms.join("web01.json"), vms.join("db01.json")).unwrap();
    let why = refused(undefine::presence(&place.host, &ask).await);
    assert!(why.contains("db01"), "{why}");
}

#[tokio::test]
async fn a_locked_machine_is_busy() {
    let place = place(false);
    let ask = place.pinned().await;
    let _lock = place.host.lock("web01").await.unwrap();
    let result = undefine::perform(&place.host, &ask, &may(2)).await;
    assert!(matches!(result, Err(Obstacle::Busy(_))), "{result:?}");
}

#[tokio::test]
async fn a_machine_is_seen_however_the_root_is_written() {
    let place = place(true);
    let link = tempfile::tempdir().unwrap();
    let root = link.path().join("link");
    std::os::unix::fs::symlink(place.folder.path(), &root).unwrap();
    let host = SandboxHost::new(&Config { root, instance: instance() });
    assert!(matches!(host.running("web01", UUID).await, Ok(Some(Running::Own(_)))));
    // And without what was written down.
    place.change("pid", Value::Null);
    assert!(matches!(host.running("web01", UUID).await, Ok(Some(Running::Own(_)))));
}

#[tokio::test]
async fn a_machine_that_is_not_defined_here_any_more_does_not_pass_for_off() {
    let place = place(false);
    let ask = place.pinned().await;
    fs::remove_file(place.host.sandbox.folder().join(VMS).join("web01.json")).unwrap();
    let why = refused(check_off::check(&place.host, &ask).await);
    assert!(why.contains("another host"), "{why}");
}

#[tokio::test]
async fn an_inspection_that_misses_a_volume_is_refused() {
    let place = place(false);
    for file in ["web01-root.json", "web01-root.img"] {
        fs::remove_file(place.host.sandbox.folder().join(VOLUMES).join(file)).unwrap();
    }
    let why = refused(inspect::inspect(&place.host, &ask(UUID)).await);
    assert!(why.contains("web01-root"), "{why}");
}

#[tokio::test]
async fn a_pause_between_two_changes_of_a_step_is_heard() {
    let place = place(true);
    let ask = Ask { polite: Some(Duration::from_millis(200)), ..place.pinned().await };
    let manifest = stop::capture(&place.host, &ask).await.unwrap();
    let Some(Running::Own(process)) = place.host.running_now("web01", UUID).unwrap() else {
        panic!("it runs")
    };
    let signal = |name: &str| {
        let done = Command::new("kill").args([name, &process.pid.to_string()]).status().unwrap();
        assert!(done.success());
    };
    // Stopped, so it does not hear that it is to end: only force would help.
    signal("-STOP");
    let patience = crate::driver::patience(&ask);
    let busy = |result: Result<Done, Obstacle>| {
        assert!(matches!(&result, Err(Obstacle::Busy(why)) if why == "paused"), "{result:?}");
    };
    // The flags, and asking it; then it is paused.
    busy(stop::perform(&place.host, &ask, Some(&manifest), &may_only(2), patience).await);
    assert!(process.command_line().unwrap().is_some(), "no force under a pause");
    stop::perform(&place.host, &ask, Some(&manifest), &may_only(3), crate::driver::patience(&ask))
        .await
        .unwrap();

    undefine::perform(&place.host, &ask, &may(9)).await.unwrap();
    let second =
        object([("identity", json!({ "uuid": UUID })), ("size", json!(1)), ("snapshots", json!([]))]);
    place.host.sandbox.write(VOLUMES, "web01-data", second, fence(9)).unwrap();
    fs::write(place.host.image("web01-data"), "x").unwrap();
    let mut pinned = ask.pinned.clone().unwrap();
    pinned.volumes.push(place.host.disk("web01-data").unwrap().unwrap());
    let ask = Ask { pinned: Some(pinned), ..ask };
    busy(delete_volumes::perform(&place.host, &ask, &may_only(1)).await);
    assert!(!place.host.image("web01-root").exists(), "the first was deleted before the pause");
    assert!(place.host.image("web01-data").exists(), "the second was not deleted after it");
}

#[tokio::test]
async fn who_else_uses_a_volume_is_told_before_it_is_too_late() {
    let place = place(false);
    let protected = async || inspect::inspect(&place.host, &ask(UUID)).await.unwrap().protected;
    assert_eq!(protected().await, None);
    let open = fs::File::open(place.host.image("web01-root")).unwrap();
    let why = protected().await.unwrap();
    assert!(why.contains(&format!("process {} has it open", std::process::id())), "{why}");
    // Who runs the machine may.
    let volume = place.host.disk("web01-root").unwrap().unwrap();
    let ends = Instant::now() + Duration::from_secs(30);
    let owner = Owner { name: "web01", process: Process::of(std::process::id()).unwrap() };
    assert_eq!(place.host.volume_user(&volume, Some(owner), ends).await, Ok(None));
    drop(open);
    let clone =
        object([("identity", json!({ "uuid": OTHER })), ("size", json!(1)), ("base", json!("web01-root"))]);
    place.host.sandbox.write(VOLUMES, "clone", clone, fence(1)).unwrap();
    assert!(protected().await.unwrap().contains("clone builds on it"));
    place.host.sandbox.remove(VOLUMES, "clone", fence(2)).unwrap();
    create_vm(place.folder.path(), &instance(), "db01", OTHER, false).unwrap();
    assert_eq!(protected().await, None);
    let mut other = place.host.sandbox.read(VMS, "db01").unwrap().unwrap();
    other.insert("disks".into(), json!(["web01-root"]));
    place.host.sandbox.write(VMS, "db01", other, fence(2)).unwrap();
    assert!(protected().await.unwrap().contains("it is a disk of db01"));
}

/// Later stages look again: what is gone by then, and what is missing.
#[tokio::test]
async fn looked_at_again_it_is_missing_before_hard_and_may_be_gone_afterwards() {
    let place = place(false);
    let early = place.pinned().await;
    let late = Ask { reversible: false, ..early.clone() };
    // The volume alone: an unmounted disk, or done already.
    let volume = place.host.sandbox.folder().join("volumes/web01-root");
    for suffix in ["json", "img"] {
        fs::rename(volume.with_extension(suffix), volume.with_extension(format!("{suffix}.away"))).unwrap();
    }
    assert!(refused(inspect::inspect(&place.host, &early).await).contains("web01-root"));
    let seen = inspect::inspect(&place.host, &late).await.unwrap();
    assert_eq!((seen.found, &seen.targets["volumes"]), (Found::Same, &json!([])));
    for suffix in ["json", "img"] {
        fs::rename(volume.with_extension(format!("{suffix}.away")), volume.with_extension(suffix)).unwrap();
    }
    // The definition alone: after an undefine the volumes are left, for purge.
    fs::remove_file(place.host.sandbox.folder().join(VMS).join("web01.json")).unwrap();
    let seen = inspect::inspect(&place.host, &early).await.unwrap();
    assert!(matches!(seen.found, Found::Absent(_)), "{:?}", seen.found);
    let seen = inspect::inspect(&place.host, &late).await.unwrap();
    assert_eq!((seen.found, seen.targets["volumes"].as_array().unwrap().len()), (Found::Same, 1));
    // Both.
    fs::remove_file(volume.with_extension("json")).unwrap();
    fs::remove_file(volume.with_extension("img")).unwrap();
    let seen = inspect::inspect(&place.host, &late).await.unwrap();
    assert!(matches!(seen.found, Found::Absent(_)), "{:?}", seen.found);
}

#[tokio::test]
async fn a_volume_that_was_made_anew_since_it_was_looked_at_stays() {
    let place = place(false);
    let pinned = place.host.disk("web01-root").unwrap().unwrap();
    let mut made = place.host.sandbox.read(VOLUMES, "web01-root").unwrap().unwrap();
    made.insert("identity".into(), json!({ "uuid": OTHER }));
    place.host.sandbox.write(VOLUMES, "web01-root", made, fence(1)).unwrap();
    let before = place.describe();
    let why = refused(place.host.delete_volume(&pinned, &may(2)).await);
    assert!(why.contains("pinned was"), "{why}");
    // Nor one that nothing describes.
    let description = place.host.sandbox.folder().join(VOLUMES).join("web01-root.json");
    let away = description.with_extension("away");
    fs::rename(&description, &away).unwrap();
    let why = refused(place.host.delete_volume(&pinned, &may(2)).await);
    assert!(why.contains("without a description"), "{why}");
    fs::rename(&away, &description).unwrap();
    assert_eq!(place.describe(), before);

    let seen = place.host.disk("web01-root").unwrap().unwrap();
    for _ in 0..2 {
        place.host.delete_volume(&seen, &may(2)).await.unwrap();
        assert_eq!(place.host.disk("web01-root"), Ok(None));
    }
    assert!(!place.host.image("web01-root").exists());
}

#[tokio::test]
async fn a_volume_that_cannot_be_looked_at_does_not_pass_for_unused() {
    let place = place(false);
    let volume = place.host.disk("web01-root").unwrap().unwrap();
    let image = place.host.image("web01-root");
    fs::remove_file(&image).unwrap();
    // A link to itself leads nowhere.
    std::os::unix::fs::symlink(&image, &image).unwrap();
    let owner = Owner { name: "web01", process: None };
    let ends = Instant::now() + Duration::from_secs(30);
    let user = place.host.volume_user(&volume, Some(owner), ends).await;
    assert!(matches!(&user, Err(Obstacle::Unclear(why)) if why.contains("web01-root.img")), "{user:?}");
}
