//! The restic driver against real repositories, each made by its test.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod kit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sexton_backup::{DriverConfig, actions, driver};
use sexton_consumer::Driver;
use sexton_model::step::{Outcome, Presence, RetryClass};
use sexton_testkit::bench::{Bench, evidence, refusal, retry};
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for a program that was started, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A repository, schedules for it, and something to back up.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for folder in ["data", "schedules"] {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        std::fs::write(place.path("password"), "correct horse").unwrap();
        std::fs::write(place.path("data/disk"), vec![7; 300_000]).unwrap();
        place.init();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command
            .args(arguments)
            .arg("--no-cache")
            .env("RESTIC_REPOSITORY", self.path("repository"))
            .env("RESTIC_PASSWORD_FILE", self.path("password"))
            .stdin(Stdio::null());
        command
    }

    fn restic(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().expect("the program restic must be installed for these tests");
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn init(&self) {
        self.restic(&["init"]);
        // Each call derives the key, which by default takes a processor for a third of a second.
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/components/restic-quick-key.py");
        let mut quick = Command::new("python3");
        let made = quick.arg(script).arg(self.path("repository")).arg(self.path("password")).status();
        assert!(made.unwrap().success(), "its key is still the one that restic has made");
        let config: Value = serde_json::from_str(&self.restic(&["cat", "config"])).unwrap();
        let said = json!({ "repository": config["id"] }).to_string();
        std::fs::write(self.path("schedules/.place"), said).unwrap();
    }

    fn back_up(&self, uuid: &str) {
        let content = format!("content of {uuid}, {}", self.ids().len());
        std::fs::write(self.path("data/disk"), content).unwrap();
        self.restic(&["backup", "--host", "web01", "--tag", &format!("uuid={uuid}"), &self.text("data")]);
    }

    fn schedule(&self, uuid: &str) {
        std::fs::write(self.path("schedules/web01.json"), json!({ "uuid": uuid }).to_string()).unwrap();
    }

    fn snapshots(&self) -> Vec<Value> {
        serde_json::from_str::<Option<Vec<Value>>>(&self.restic(&["snapshots", "--json"]))
            .unwrap()
            .unwrap_or_default()
    }

    fn ids(&self) -> Vec<String> {
        self.snapshots().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect()
    }

    fn driver_with(&self, program: &Path) -> Arc<dyn Driver> {
        let config: DriverConfig = serde_json::from_value(json!({
            "driver": "restic",
            "program": program,
            "repository": self.path("repository"),
            "password_file": self.path("password"),
            "schedules_dir": self.path("schedules"),
        }))
        .unwrap();
        driver(config).unwrap()
    }

    fn bench_with(&self, program: &Path) -> Bench {
        let mut bench = Bench::new(self.driver_with(program), actions(), "u1");
        bench.attributes = json!({ "paths": [self.text("data")] });
        bench
    }

    fn bench(&self) -> Bench {
        self.bench_with(Path::new("restic"))
    }

    /// A program that is restic, but for what `case` says (lines of a shell's `case "$1"`).
    fn instead(&self, case: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("instead");
        let text = format!(
            "#!/bin/sh\nfolder={}\ncase \"$1\" in\n{case}\nesac\nexec restic \"$@\"\n",
            self.text("")
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// As the ledger merges what a step created: by key.
fn join(bench: &mut Bench, outcome: &Outcome) {
    let Outcome::Done { finding: Some(created), .. } = outcome else { panic!("{outcome:?}") };
    bench.targets.as_object_mut().unwrap().extend(created.as_object().unwrap().clone());
}

#[tokio::test]
async fn a_whole_deletion_leaves_the_namesakes_backups_alone() {
    let place = Place::new();
    place.back_up("u1");
    place.back_up("u2");
    place.back_up("u1");
    place.schedule("u1");
    let mut bench = place.bench();
    evidence(&bench.pin().await, Presence::Present);
    assert_eq!(bench.targets["snapshots"].as_array().unwrap().len(), 2);

    let first = bench.perform("final").await;
    evidence(&first, Presence::Present);
    assert_eq!(place.ids().len(), 4);
    let again = bench.perform("final").await;
    assert_eq!(place.ids().len(), 4, "a repeated final backup is the same one");
    join(&mut bench, &first);
    join(&mut bench, &again);
    assert_eq!(bench.targets["final"].as_array().unwrap().len(), 1);

    for _ in 0..2 {
        evidence(&bench.perform("remove_schedule").await, Presence::Absent);
        assert!(!place.path("schedules/web01.json").exists());
    }
    for _ in 0..2 {
        evidence(&bench.perform("delete_archives").await, Presence::Absent);
    }
    let left = place.snapshots();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["tags"], json!(["uuid=u2"]));
    place.restic(&["check", "--read-data"]);
}

#[tokio::test]
async fn what_is_backed_up_after_the_announcement_goes_with_the_rest() {
    for scheduled in [true, false] {
        let place = Place::new();
        place.back_up("u1");
        place.back_up("u2");
        if scheduled {
            place.schedule("u1");
        }
        let mut bench = place.bench();
        bench.pin().await;
        place.back_up("u1");
        let early = refusal(&bench.perform("delete_archives").await);
        assert!(early.contains("after the targets were pinned"), "{early}");
        assert_eq!(place.ids().len(), 3, "nothing was deleted");
        for _ in 0..2 {
            let removed = bench.perform("remove_schedule").await;
            evidence(&removed, Presence::Absent);
            join(&mut bench, &removed);
            assert_eq!(bench.targets["snapshots"].as_array().unwrap().len(), 2);
            // Its answer may be lost: the second time it finds no schedule, and pins as well.
            bench.targets["snapshots"].as_array_mut().unwrap().pop();
        }
        let removed = bench.perform("remove_schedule").await;
        join(&mut bench, &removed);
        evidence(&bench.perform("delete_archives").await, Presence::Absent);
        assert_eq!(place.ids().len(), 1, "the namesake's stays");
    }
}

#[tokio::test]
async fn an_earlier_deletions_final_backup_does_not_count() {
    let place = Place::new();
    place.back_up("u1");
    let mut bench = place.bench();
    bench.pin().await;
    evidence(&bench.perform("final").await, Presence::Present);
    // Cancelled, and deleted again later: everything there is pinned anew.
    bench.pin().await;
    evidence(&bench.perform("final").await, Presence::Present);
    assert_eq!(place.ids().len(), 3);
}

#[tokio::test]
async fn an_incomplete_backup_is_none() {
    let place = Place::new();
    place.back_up("u1");
    let mut bench = place.bench();
    bench.pin().await;
    bench.attributes = json!({ "paths": [place.text("data"), place.text("missing")] });
    let why = retry(&bench.perform("final").await, RetryClass::Failed);
    assert!(why.contains("missing"), "{why}");
    bench.attributes = json!({ "paths": [place.text("data")] });
    let done = bench.perform("final").await;
    evidence(&done, Presence::Present);
    join(&mut bench, &done);
    assert_eq!(
        bench.targets["final"].as_array().unwrap().len(),
        2,
        "what was given up is deleted later, too"
    );
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
    assert!(place.ids().is_empty());
    for wrong in
        [json!(null), json!({ "paths": [] }), json!({ "paths": ["--all"] }), json!({ "paths": ["/a/.."] })]
    {
        bench.attributes = wrong;
        bench.pin().await;
        refusal(&bench.perform("final").await);
    }
}

#[tokio::test]
async fn another_repository_at_the_same_place_is_refused() {
    let place = Place::new();
    place.back_up("u1");
    place.schedule("u1");
    let mut bench = place.bench();
    bench.pin().await;
    std::fs::remove_dir_all(place.path("repository")).unwrap();
    let actions = ["final", "remove_schedule", "delete_archives"];
    for action in actions {
        let why = retry(&bench.perform(action).await, RetryClass::Spared);
        assert!(!why.contains(&place.text("repository")), "the repository's address is a secret: {why}");
    }
    place.init();
    for action in actions {
        assert!(refusal(&bench.perform(action).await).contains("but this is"), "{action}");
    }
    assert!(place.path("schedules/web01.json").exists());
}

#[tokio::test]
async fn another_of_the_same_name_is_refused() {
    let place = Place::new();
    place.back_up("u1");
    place.back_up("u2");
    place.schedule("u2");
    let mut bench = place.bench();
    assert!(refusal(&bench.pin().await).contains("u2"));
    std::fs::remove_file(place.path("schedules/web01.json")).unwrap();
    bench.pin().await;
    bench.targets["snapshots"] = json!(place.ids());
    assert!(refusal(&bench.perform("delete_archives").await).contains("u2"));
    place.schedule("u2");
    assert!(refusal(&bench.perform("remove_schedule").await).contains("u2"));
    assert_eq!(place.ids().len(), 2);
    assert!(place.path("schedules/web01.json").exists());
}

#[tokio::test]
async fn a_wrong_password_and_an_unreadable_snapshot_are_no_absence() {
    let place = Place::new();
    place.back_up("u1");
    let mut bench = place.bench();
    bench.pin().await;
    std::fs::write(place.path("password"), "wrong").unwrap();
    assert!(refusal(&bench.perform("delete_archives").await).contains("password"));
    std::fs::write(place.path("password"), "correct horse").unwrap();
    let file = place.path("repository/snapshots").join(&place.ids()[0]);
    std::process::Command::new("chmod").arg("u+w").arg(&file).status().unwrap();
    std::fs::write(&file, "garbage").unwrap();
    let why = retry(&bench.perform("delete_archives").await, RetryClass::Failed);
    assert!(why.contains("cannot be read"), "{why}");
}

/// Backups of others come and go while one looks.
#[tokio::test]
async fn a_snapshot_that_goes_between_two_looks_is_no_unreadable_one() {
    let place = Place::new();
    place.back_up("u1");
    let gone = "0".repeat(64);
    let looks = |then: &str| format!("list) case \"$*\" in *\" snapshots \"*) {then} echo {gone};; esac;;");
    let once = place.instead(&looks("mkdir \"$folder/looked\" 2>/dev/null &&"));
    let mut bench = place.bench_with(&once);
    evidence(&bench.pin().await, Presence::Present);
    assert!(place.path("looked").exists());
    assert_eq!(bench.targets["snapshots"], json!(place.ids()));
    // One that is still there at the second look was not read.
    let always = place.instead(&looks(""));
    let mut bench = place.bench_with(&always);
    let why = retry(&bench.pin().await, RetryClass::Failed);
    assert!(why.contains("cannot be read"), "{why}");
}

#[tokio::test]
async fn a_backup_that_runs_on_the_machine_is_waited_for_at_announce() {
    let place = Place::new();
    place.back_up("u1");
    // The host of a lock is this machine, whatever a snapshot says; so the program says another one.
    let as_web01 = place.instead(
        "cat) case \"$*\" in *\" lock \"*) echo '{\"hostname\": \"web01.lab.test\"}'; exit;; esac;;",
    );
    let mut holder =
        place.command(&["backup", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while place.restic(&["list", "locks", "--no-lock"]).trim().is_empty() {
        assert!(holder.try_wait().unwrap().is_none(), "the holder of the lock has ended");
    }
    let why = retry(&place.bench_with(&as_web01).pin().await, RetryClass::Spared);
    assert!(why.contains("in use: a backup runs on it"), "{why}");
    // One that runs elsewhere may be of anything.
    let seen = evidence(&place.bench().pin().await, Presence::Present);
    assert!(seen.contains("1 locks of others"), "{seen}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    evidence(&place.bench_with(&as_web01).pin().await, Presence::Present);
}

/// A machine that could not learn its own name may be the one that is to be deleted, and what is no lock is not looked at.
#[tokio::test]
async fn a_lock_that_tells_of_no_machine_is_not_gone_past() {
    let place = Place::new();
    place.back_up("u1");
    let nameless = "cat) case \"$*\" in *\" lock \"*) echo '{\"hostname\": \"\"}'; exit;; esac;;";
    let id = "1f".repeat(32);
    for (listed, complaint) in [(id.as_str(), "names no host"), ("--help", "lock id \"--help\"")] {
        let locks = format!("list) case \"$*\" in *\" locks \"*) echo {listed}; exit;; esac;;\n{nameless}");
        let why = retry(&place.bench_with(&place.instead(&locks)).pin().await, RetryClass::Failed);
        assert!(why.contains(complaint), "{why}");
    }
}

#[tokio::test]
async fn a_lock_is_waited_for_and_never_removed() {
    let place = Place::new();
    place.back_up("u1");
    let mut bench = place.bench();
    bench.pin().await;
    let mut holder =
        place.command(&["backup", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while place.restic(&["list", "locks", "--no-lock"]).trim().is_empty() {
        assert!(holder.try_wait().unwrap().is_none(), "the holder of the lock has ended");
    }
    let why = retry(&bench.perform("delete_archives").await, RetryClass::Spared);
    assert!(why.contains("locked"), "{why}");
    assert!(holder.try_wait().unwrap().is_none(), "the holder's lock is still its own");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
}

#[tokio::test]
async fn data_of_forgotten_snapshots_is_deleted_though_the_first_attempt_broke_off() {
    let place = Place::new();
    place.back_up("u1");
    let broken = place.instead("prune) if mkdir \"$folder/broken\" 2>/dev/null; then exit 1; fi;;");
    let mut bench = place.bench_with(&broken);
    bench.pin().await;
    retry(&bench.perform("delete_archives").await, RetryClass::Failed);
    let left = place.snapshots();
    assert!(left.len() == 1 && left[0]["hostname"] == "sexton", "only the mark is left: {left:?}");
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
    assert!(place.ids().is_empty());
    // What is left are the few bytes of the mark.
    let packs = place.restic(&["list", "packs"]);
    let stats: u64 = walk(&place.path("repository/data"));
    assert!(stats < 5_000, "{stats} bytes are left in {packs}");
}

fn walk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|e| if e.path().is_dir() { walk(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}

#[tokio::test]
async fn a_success_without_the_effect_is_not_believed() {
    let place = Place::new();
    place.back_up("u1");
    let liar = place.instead("forget|prune) exit 0;;");
    let mut bench = place.bench_with(&liar);
    bench.pin().await;
    let why = retry(&bench.perform("delete_archives").await, RetryClass::Failed);
    assert!(why.contains("still listed"), "{why}");
    assert_eq!(place.snapshots().iter().filter(|s| s["hostname"] == "web01").count(), 1);
}

#[tokio::test]
async fn a_lost_answer_after_the_effect_is_found_out() {
    let place = Place::new();
    place.back_up("u1");
    let lossy = place.instead("forget) restic \"$@\"; exit 1;;");
    let mut bench = place.bench_with(&lossy);
    bench.pin().await;
    retry(&bench.perform("delete_archives").await, RetryClass::Failed);
    let targets = bench.targets.clone();
    bench = place.bench();
    bench.targets = targets;
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
    assert!(place.ids().is_empty());
}

#[tokio::test]
async fn a_step_that_is_stopped_asks_the_program_to_stop() {
    let place = Place::new();
    place.back_up("u1");
    let endless = place.instead(
        "prune) trap 'touch \"$folder/asked\"; exit 130' INT; touch \"$folder/running\"; while :; do sleep 0.05; done;;",
    );
    // Every consumer listens to this signal, so its programs begin with the default. Whoever started the tests may ignore
    // it (a shell does for what runs in its background); programs would inherit that, and a shell cannot trap it then.
    let _heard = signal(SignalKind::interrupt()).unwrap();
    let mut bench = place.bench_with(&endless);
    bench.pin().await;
    let until = async |name: &str| {
        let began = Instant::now();
        while !place.path(name).exists() {
            assert!(began.elapsed() < PATIENCE, "the program has not written {name}");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = bench.perform("delete_archives") => panic!("it ended: {outcome:?}"),
        () = until("running") => {}
    }
    until("asked").await;
}
