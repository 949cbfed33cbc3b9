//! The sandbox driver through the SDK.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sexton_backup::sandbox::{Config, SandboxBackup, create, describe};
use sexton_model::step::{Mode, Outcome, Presence, RetryClass};
use sexton_testkit::bench::{Bench, evidence, identity, refusal, retry};

fn bench(root: &Path) -> Bench {
    let config = Config { root: root.to_owned(), instance: "backup.main".parse().unwrap() };
    Bench::new(Arc::new(SandboxBackup::new(&config)), sexton_backup::actions(), "u1")
}

fn web01(root: &Path, uuid: &str) {
    let instance = "backup.main".parse().unwrap();
    create(root, &instance, &"vm/web01".parse().unwrap(), &identity(uuid), &["a", "b"]).unwrap();
}

fn seen(root: &Path) -> serde_json::Value {
    describe(root, &"backup.main".parse().unwrap(), &"vm/web01".parse().unwrap()).unwrap()
}

/// As the ledger merges what a step created: by key.
fn join(bench: &mut Bench, outcome: &Outcome) {
    if let Outcome::Done { finding: Some(created), .. } = outcome {
        let targets = bench.targets.as_object_mut().unwrap();
        targets.extend(created.as_object().unwrap().clone());
    }
}

#[tokio::test]
async fn a_whole_deletion_and_each_step_twice() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let before = seen(root.path());
    let mut bench = bench(root.path());
    evidence(&bench.pin().await, Presence::Present);

    let first = bench.perform("final").await;
    evidence(&first, Presence::Present);
    let again = bench.perform("final").await;
    let created = |outcome: &Outcome| match outcome {
        Outcome::Done { finding, .. } => finding.clone(),
        Outcome::Retry { .. } | Outcome::Refused { .. } => None,
    };
    assert_eq!(created(&first), created(&again), "a repeated final backup is the same one");
    assert_eq!(seen(root.path()), before, "a final backup only adds");
    join(&mut bench, &first);

    for action in ["remove_schedule", "remove_schedule", "delete_archives", "delete_archives"] {
        evidence(&bench.perform(action).await, Presence::Absent);
    }
    assert_eq!(seen(root.path()), json!({ "archive": null, "schedule": null }));
}

#[tokio::test]
async fn what_was_not_pinned_stops_the_deletion_until_it_joins_the_targets() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let mut bench = bench(root.path());
    bench.pin().await;
    bench.targets["snapshots"] = json!(["a"]);
    let before = seen(root.path());
    assert!(refusal(&bench.perform("delete_archives").await).contains("after the targets were pinned"));
    assert_eq!(seen(root.path()), before);
    for _ in 0..2 {
        let removed = bench.perform("remove_schedule").await;
        evidence(&removed, Presence::Absent);
        bench.targets["snapshots"] = json!(["a"]); // as if the answer had been lost
        let again = bench.perform("remove_schedule").await;
        join(&mut bench, &again);
    }
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
    assert_eq!(seen(root.path()), json!({ "archive": null, "schedule": null }));
}

/// A file of this kind about `web01`.
fn state(root: &Path, kind: &str, object: &serde_json::Value) -> std::path::PathBuf {
    let folder = root.join("backup/main").join(kind);
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("web01.json");
    std::fs::write(&file, object.to_string()).unwrap();
    file
}

#[tokio::test]
async fn a_backup_that_runs_is_waited_for_at_announce() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let mut bench = bench(root.path());
    let running = state(root.path(), "running", &json!({ "by": "nightly" }));
    let why = retry(&bench.pin().await, RetryClass::Spared);
    assert!(why.contains("in use") && why.contains("nightly"), "{why}");
    std::fs::remove_file(running).unwrap();
    evidence(&bench.pin().await, Presence::Present);
}

/// One that began after the last look: whoever deletes waits for its end, too.
#[tokio::test]
async fn nothing_is_deleted_from_under_a_backup_that_runs() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let mut bench = bench(root.path());
    bench.pin().await;
    let before = seen(root.path());
    let running = state(root.path(), "running", &json!({ "by": "nightly" }));
    let why = retry(&bench.perform("delete_archives").await, RetryClass::Spared);
    assert!(why.contains("in use") && why.contains("nightly"), "{why}");
    assert_eq!(seen(root.path()), before);
    std::fs::remove_file(running).unwrap();
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
}

#[tokio::test]
async fn what_the_store_keeps_stays_and_says_until_when() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let lock = state(root.path(), "locks", &json!({ "locked until": "2099-06-30" }));
    let mut bench = bench(root.path());
    let seen_at_announce = evidence(&bench.pin().await, Presence::Present);
    assert!(seen_at_announce.ends_with("present until 2099-06-30"), "{seen_at_announce}");
    evidence(&bench.perform("remove_schedule").await, Presence::Absent);
    let before = seen(root.path());
    let why = refusal(&bench.perform("delete_archives").await);
    assert!(why.ends_with("present until 2099-06-30"), "{why}");
    assert_eq!(seen(root.path()), before, "nothing of it is deleted");
    state(root.path(), "locks", &json!({ "locked": "2099-06-30" }));
    retry(&bench.perform("delete_archives").await, RetryClass::Failed);
    std::fs::remove_file(lock).unwrap();
    evidence(&bench.perform("delete_archives").await, Presence::Absent);
}

#[tokio::test]
async fn another_of_the_same_name_is_refused() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1");
    let mut bench = bench(root.path());
    bench.pin().await;
    web01(root.path(), "u2");
    let before = seen(root.path());
    for action in ["final", "remove_schedule", "delete_archives"] {
        assert!(refusal(&bench.perform(action).await).contains("u2"), "{action}");
    }
    assert_eq!(seen(root.path()), before);
}

#[tokio::test]
async fn a_place_that_cannot_be_read_is_never_absence() {
    let root = tempfile::tempdir().unwrap();
    let mut bench = bench(root.path());
    retry(&bench.pin().await, RetryClass::Failed);
    bench.targets = json!({ "place": "sandbox:backup.main", "snapshots": ["a"], "schedule": true });
    for action in ["final", "remove_schedule", "delete_archives"] {
        retry(&bench.perform(action).await, RetryClass::Failed);
    }
    web01(root.path(), "u1");
    bench.targets["place"] = json!("sandbox:backup.other");
    for action in ["final", "remove_schedule", "delete_archives"] {
        assert!(refusal(&bench.perform(action).await).contains("backup.other"), "{action}");
    }
}

#[tokio::test]
async fn nothing_at_announce_must_be_expected() {
    let root = tempfile::tempdir().unwrap();
    let other = "vm/other".parse().unwrap();
    create(root.path(), &"backup.main".parse().unwrap(), &other, &identity("u9"), &[]).unwrap();
    let mut bench = bench(root.path());
    assert!(refusal(&bench.pin().await).contains("unexpectedly absent"));
    bench.attributes = json!({ "none": true });
    evidence(&bench.pin().await, Presence::Present);
    for action in ["remove_schedule", "delete_archives"] {
        evidence(&bench.perform(action).await, Presence::Absent);
    }
    assert!(matches!(bench.ask(Mode::Capture, "final", None).await, Outcome::Refused { .. }));
}
