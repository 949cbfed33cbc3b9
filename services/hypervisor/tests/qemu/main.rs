//! The QEMU driver against real guests: one that obeys the power button, and one that ignores it.
//!
//! Wants `SEXTON_TEST_QEMU_POLITE` and `SEXTON_TEST_QEMU_STUBBORN`, the disks that `scripts/components/qemu up`
//! writes, and the programs it installs.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod images;
mod kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_hypervisor::process::{self, Process};
use sexton_hypervisor::{DriverConfig, actions, driver, qemu};
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_testkit::bench::{Bench, evidence, refusal};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

struct Host {
    root: tempfile::TempDir,
    uuid: Uuid,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// The disk that this variable names.
fn disk(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: run scripts/components/qemu up DIR and pass what it prints")
    });
    let path = PathBuf::from(path);
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    path
}

fn run(program: &str, arguments: &[&str]) {
    let said = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
}

impl Host {
    /// A host with `web01`, which is off and has a volume with a snapshot.
    fn with(variable: &str) -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), uuid: Uuid::new_v4() };
        qemu::create(host.root(), Uuid::new_v4()).unwrap();
        host.make_volume("web01-root.qcow2", &disk(variable));
        host.define(host.uuid, json!({ "autostart": true, "onboot": false, "ha": true }));
        host
    }

    /// End every emulator of this host, and see them gone.
    fn end_all(&self) {
        let folder = self.root.path().display().to_string();
        for (process, arguments) in process::all().unwrap() {
            let emulator = arguments.first().is_some_and(|a| a.contains("qemu-system"));
            if emulator && arguments.iter().any(|a| a.contains(&folder)) {
                let _ = Command::new("kill").arg("-9").arg(process.pid.to_string()).status();
                while process.lives().unwrap() {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// The machine's folder.
    fn folder(&self) -> PathBuf {
        self.root().join("vms/web01")
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.root().join("volumes").join(name)
    }

    fn make_volume(&self, name: &str, from: &Path) {
        let path = self.volume(name).display().to_string();
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &from.display().to_string(), &path]);
        run("qemu-img", &["resize", "-q", &path, "64M"]);
        run("qemu-img", &["snapshot", "-c", "before-upgrade", &path]);
    }

    fn define(&self, uuid: Uuid, flags: Value) {
        let mut definition = json!({ "uuid": uuid, "memory_mib": 16, "disks": ["web01-root.qcow2"] });
        definition.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
        qemu::define(self.root(), "web01", definition.as_object().unwrap()).unwrap();
    }

    fn definition(&self) -> Value {
        let text = std::fs::read(self.folder().join("domain.json")).unwrap();
        let mut definition: Value = serde_json::from_slice(&text).unwrap();
        definition.as_object_mut().unwrap().remove("fence");
        definition
    }

    fn driver(&self) -> Arc<dyn Driver> {
        let config = qemu::Config {
            root: self.root().to_owned(),
            qemu_system: "qemu-system-x86_64".into(),
            qemu_img: "qemu-img".into(),
            accelerator: "tcg".into(),
        };
        driver(DriverConfig::Qemu(config)).unwrap()
    }

    fn bench(&self) -> Bench {
        Bench::new(self.driver(), actions(), &self.uuid.to_string())
    }

    /// Bring the machine up, by the undo of a stop that never was.
    async fn start(&self, bench: &Bench) {
        let mut manifest = bench.capture("stop").await;
        manifest["power"] = json!("on");
        let outcome = bench.undo("stop", &manifest).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        assert!(self.process().is_some());
    }

    fn process(&self) -> Option<Process> {
        let uuid = self.uuid.to_string();
        let runs = |arguments: &Vec<String>| arguments.windows(2).any(|p| p[0] == "-uuid" && p[1] == uuid);
        process::all().unwrap().into_iter().find(|(_, arguments)| runs(arguments)).map(|(process, _)| process)
    }
}

#[tokio::test]
async fn a_polite_guest_stops_by_acpi_and_comes_back_as_it_was() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    let (before, first) = (host.definition(), host.process());
    let outcome = bench.pin().await;
    assert!(matches!(outcome, Outcome::Done { presence: Presence::Present, .. }), "{outcome:?}");
    let volumes = &bench.targets["volumes"];
    assert_eq!(volumes[0]["path"], "web01-root.qcow2");
    assert_eq!(bench.targets["snapshots"], json!({ "web01-root.qcow2": ["before-upgrade"] }));
    assert_eq!(volumes[0]["size"], 64 << 20);

    let manifest = bench.capture("stop").await;
    assert_eq!((&manifest["power"], &manifest["ha"]), (&json!("on"), &json!(true)));
    let outcome = bench.perform_by("stop", &manifest).await;
    let how = evidence(&outcome, Presence::Present);
    assert!(how.contains("obeyed ACPI"), "{how}");
    assert_eq!(host.process(), None);
    assert_eq!(host.definition()["ha"], false);
    evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);

    for _ in 0..2 {
        let outcome = bench.undo("stop", &manifest).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        assert_eq!(host.definition(), before);
        let second = host.process();
        assert!(second.is_some() && second != first);
        let outcome = bench.ask(Mode::Verify, "stop", Some(&manifest)).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_stubborn_guest_is_forced() {
    let host = Host::with("SEXTON_TEST_QEMU_STUBBORN");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    bench.params.insert("acpi_wait_ms".into(), json!(300));
    let manifest = bench.capture("stop").await;
    let how = evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
    assert!(how.contains("ignored ACPI and was ended through its monitor"), "{how}");
    assert_eq!(host.process(), None);
}

#[tokio::test]
async fn a_frozen_emulator_is_killed() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    bench.params.insert("acpi_wait_ms".into(), json!(1000));
    let manifest = bench.capture("stop").await;
    let process = host.process().unwrap();
    run("kill", &["-STOP", &process.pid.to_string()]);
    let how = evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
    assert!(how.contains("could not be asked"), "{how}");
    assert_eq!(host.process(), None);
}

/// Somebody else at the monitor, which talks to nobody else meanwhile.
async fn somebody_at_the_monitor(host: &Host) -> UnixStream {
    let mut other = UnixStream::connect(host.folder().join("qmp")).await.unwrap();
    other.read_exact(&mut [0]).await.unwrap();
    other
}

#[tokio::test]
async fn a_guest_is_asked_as_soon_as_somebody_else_lets_go_of_its_monitor() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    let manifest = bench.capture("stop").await;
    let other = somebody_at_the_monitor(&host).await;
    let lets_go = async move {
        // Longer than the monitor may take for one call.
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(other);
    };
    let (outcome, ()) = tokio::join!(bench.perform_by("stop", &manifest), lets_go);
    let how = evidence(&outcome, Presence::Present);
    assert!(how.contains("obeyed ACPI"), "{how}");
    assert_eq!(host.process(), None);
}

#[tokio::test]
async fn a_guest_whose_monitor_nobody_lets_go_of_is_killed_when_its_time_is_over() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    bench.params.insert("acpi_wait_ms".into(), json!(5000));
    let manifest = bench.capture("stop").await;
    let other = somebody_at_the_monitor(&host).await;
    let began = Instant::now();
    let how = evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
    assert!(how.contains("could not be asked"), "{how}");
    assert!(began.elapsed() >= Duration::from_secs(5), "{how}");
    assert_eq!(host.process(), None);
    drop(other);
}

#[tokio::test]
async fn a_running_machine_is_not_taken_apart_and_its_volumes_go_last() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    let why = refusal(&bench.perform("undefine").await);
    assert!(why.contains("runs as process"), "{why}");
    refusal(&bench.perform("check_off").await);
    refusal(&bench.perform("delete_volumes").await);
    let manifest = bench.capture("stop").await;
    evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
    let outcome = bench.perform("check_off").await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let why = refusal(&bench.perform("delete_volumes").await);
    assert!(why.contains("a disk of web01"), "{why}");
    for _ in 0..2 {
        evidence(&bench.perform("undefine").await, Presence::Absent);
    }
    assert!(!host.root().join("vms/web01").exists());

    let path = host.volume("web01-root.qcow2");
    // A linked clone.
    let clone = host.volume("clone.qcow2").display().to_string();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "web01-root.qcow2", &clone]);
    let why = refusal(&bench.perform("delete_volumes").await);
    assert!(why.contains("clone.qcow2 builds on it"), "{why}");
    std::fs::remove_file(clone).unwrap();
    // Somebody copies it.
    let open = std::fs::File::open(&path).unwrap();
    let why = refusal(&bench.perform("delete_volumes").await);
    assert!(why.contains("has it open"), "{why}");
    drop(open);
    for _ in 0..2 {
        evidence(&bench.perform("delete_volumes").await, Presence::Absent);
    }
    assert!(!path.exists());
}

/// Before anybody is told that it goes; while it is off, and while it runs and has its disk open and locked itself.
#[tokio::test]
async fn who_else_uses_a_disk_is_told_at_announce() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    let path = host.volume("web01-root.qcow2");
    let clone = host.volume("clone.qcow2");
    for on in [false, true] {
        if on {
            host.start(&bench).await;
        }
        let outcome = bench.pin().await;
        assert!(matches!(outcome, Outcome::Done { .. }), "on: {on}: {outcome:?}");
        let text = clone.display().to_string();
        let backing =
            ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "web01-root.qcow2", &text, "64M"];
        run("qemu-img", &backing);
        let why = refusal(&bench.pin().await);
        assert!(why.contains("clone.qcow2 builds on it"), "on: {on}: {why}");
        std::fs::remove_file(&clone).unwrap();
        let open = std::fs::File::open(&path).unwrap();
        let why = refusal(&bench.pin().await);
        assert!(why.contains(&format!("process {} has it open", std::process::id())), "on: {on}: {why}");
        drop(open);
    }
    let db01 = json!({ "uuid": Uuid::new_v4(), "memory_mib": 16, "disks": ["web01-root.qcow2"] });
    qemu::define(host.root(), "db01", db01.as_object().unwrap()).unwrap();
    let why = refusal(&bench.pin().await);
    assert!(why.contains("it is a disk of db01"), "{why}");
}

#[tokio::test]
async fn a_recreated_machine_and_a_recreated_volume_are_refused() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    bench.pin().await;
    let other = Uuid::new_v4();
    host.define(other, json!({}));
    let why = refusal(&bench.perform("undefine").await);
    assert!(why.contains(&other.to_string()), "{why}");
    refusal(&bench.perform("check_off").await);
    host.define(host.uuid, json!({}));
    evidence(&bench.perform("undefine").await, Presence::Absent);
    let path = host.volume("web01-root.qcow2");
    // Its name stays taken, so that the new file cannot get the same inode.
    std::fs::rename(&path, host.volume("old.qcow2")).unwrap();
    host.make_volume("web01-root.qcow2", &disk("SEXTON_TEST_QEMU_POLITE"));
    let why = refusal(&bench.perform("delete_volumes").await);
    assert!(why.contains("pinned was inode"), "{why}");
    assert!(path.exists());
}

#[tokio::test]
async fn a_process_that_others_started_is_seen_and_left_alone() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    bench.pin().await;
    let uuid = host.uuid.to_string();
    let (folder, pid) = (tempfile::tempdir().unwrap(), host.root().join("foreign.pid").display().to_string());
    let monitor = format!("unix:{}/m,server=on,wait=off", folder.path().display());
    run(
        "qemu-system-x86_64",
        &[
            "-uuid",
            &uuid,
            "-machine",
            "q35,accel=tcg",
            "-m",
            "16",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            &monitor,
            "-pidfile",
            &pid,
            "-daemonize",
        ],
    );
    let process = host.process().unwrap();
    for action in ["undefine", "check_off", "delete_volumes"] {
        let why = refusal(&bench.perform(action).await);
        assert!(why.contains("not started from its definition"), "{action}: {why}");
    }
    refusal(&bench.ask(Mode::Capture, "stop", None).await);
    assert!(process.lives().unwrap());
}

#[tokio::test]
async fn a_machine_that_others_started_differently_is_not_touched_by_an_undo() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    let manifest = bench.capture("stop").await;
    evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
    // With more memory, from the same place.
    let folder = host.folder();
    run(
        "qemu-system-x86_64",
        &[
            "-uuid",
            &host.uuid.to_string(),
            "-machine",
            "q35,accel=tcg",
            "-m",
            "32",
            "-nodefaults",
            "-display",
            "none",
            "-qmp",
            &format!("unix:{}/qmp,server=on,wait=off", folder.display()),
            "-pidfile",
            &folder.join("pid").display().to_string(),
            "-daemonize",
        ],
    );
    let process = host.process().unwrap();
    let why = refusal(&bench.undo("stop", &manifest).await);
    assert!(why.contains("other settings"), "{why}");
    refusal(&bench.perform_by("stop", &manifest).await);
    assert!(process.lives().unwrap());
}

#[tokio::test]
async fn a_missing_root_is_never_absent() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    bench.pin().await;
    std::fs::rename(host.root().join("volumes"), host.root().join("elsewhere")).unwrap();
    for action in ["undefine", "delete_volumes", "check_off"] {
        let outcome = bench.perform(action).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{action}: {outcome:?}");
    }
    std::fs::rename(host.root().join("elsewhere"), host.root().join("volumes")).unwrap();
    // Another host's folder in its place.
    qemu::create(host.root(), Uuid::new_v4()).unwrap();
    for action in ["undefine", "delete_volumes", "check_off"] {
        let why = refusal(&bench.perform(action).await);
        assert!(why.contains("pinned at"), "{action}: {why}");
    }
}

/// What has appeared since the targets were pinned. An emulator that was killed may hold its disks for a moment longer,
/// while its threads end: that is answered `retry`, and asked again as a coordinator would.
async fn appeared(bench: &Bench) -> Value {
    let mut last = None;
    for _ in 0..50 {
        match bench.ask(Mode::Reread, "inspect", None).await {
            Outcome::Done { presence: Presence::Present, finding: Some(appeared), .. } => return appeared,
            Outcome::Retry { reason, .. } if reason.contains(" lock") => last = Some(reason),
            other => panic!("the targets were not read again: {other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("somebody holds a disk: {last:?}")
}

#[tokio::test]
async fn a_disk_that_was_attached_after_announce_is_reported() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let mut bench = host.bench();
    host.start(&bench).await;
    bench.pin().await;
    assert_eq!(appeared(&bench).await, json!({}));
    host.make_volume("web01-data.qcow2", &disk("SEXTON_TEST_QEMU_POLITE"));
    assert_eq!(appeared(&bench).await, json!({}), "whose it is, is not known before it is attached");
    host.define(host.uuid, json!({ "disks": ["web01-root.qcow2", "web01-data.qcow2"] }));
    // While it runs, and when it is off.
    for _ in 0..2 {
        let new = appeared(&bench).await;
        let paths: Vec<_> = new["volumes"].as_array().unwrap().iter().map(|volume| &volume["path"]).collect();
        assert_eq!(paths, ["web01-data.qcow2"], "{new}");
        assert_eq!(new["snapshots"], json!({ "web01-data.qcow2": ["before-upgrade"] }));
        host.end_all();
    }
    host.define(host.uuid, json!({}));
    let root = host.volume("web01-root.qcow2").display().to_string();
    run("qemu-img", &["snapshot", "-c", "nightly", &root]);
    assert_eq!(appeared(&bench).await, json!({ "snapshots": { "web01-root.qcow2": ["nightly"] } }));
    std::fs::remove_dir_all(host.folder()).unwrap();
    let why = refusal(&bench.ask(Mode::Reread, "inspect", None).await);
    assert!(why.contains("unexpectedly absent"), "{why}");
}
