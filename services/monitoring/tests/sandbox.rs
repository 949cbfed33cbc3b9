//! The sandbox driver through the SDK.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_monitoring::sandbox::{Config, SandboxMonitoring, create, describe};
use sexton_testkit::bench::{Bench, evidence, identity, refusal, retry};

fn bench(root: &Path) -> Bench {
    let config = Config { root: root.to_owned(), instance: "monitoring.main".parse().unwrap() };
    Bench::new(Arc::new(SandboxMonitoring::new(&config)), sexton_monitoring::actions(), "u1")
}

fn web01(root: &Path, uuid: &str, address: &str) {
    let instance = "monitoring.main".parse().unwrap();
    create(root, &instance, &"vm/web01".parse().unwrap(), &identity(uuid), address).unwrap();
}

fn seen(root: &Path) -> serde_json::Value {
    describe(root, &"monitoring.main".parse().unwrap(), &"vm/web01".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn silencing_is_undone_exactly() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1", "10.0.0.1");
    let before = seen(root.path());
    let mut bench = bench(root.path());
    bench.pin().await;
    let manifest = bench.capture("silence").await;
    for _ in 0..2 {
        evidence(&bench.perform_by("silence", &manifest).await, Presence::Present);
    }
    assert_eq!(seen(root.path())["target"]["silenced"], json!(true));
    refusal(&bench.ask(Mode::Verify, "silence", Some(&manifest)).await);
    for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "silence", Some(&manifest)).await, Presence::Present);
    }
    assert_eq!(seen(root.path()), before);
}

#[tokio::test]
async fn what_others_changed_is_refused() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1", "10.0.0.1");
    let mut bench = bench(root.path());
    bench.pin().await;
    let manifest = bench.capture("silence").await;
    web01(root.path(), "u1", "10.0.0.2");
    let changed = seen(root.path());
    for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
        refusal(&bench.ask(mode, "silence", Some(&manifest)).await);
    }
    assert_eq!(seen(root.path()), changed);
}

/// It lies there as it was captured, with the right identity.
#[tokio::test]
async fn in_another_place_no_undo_is_seen_to_hold() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1", "10.0.0.1");
    let mut bench = bench(root.path());
    bench.pin().await;
    let manifest = bench.capture("silence").await;
    let place = root.path().join("monitoring/main/place.json");
    std::fs::write(place, r#"{"place": "sandbox:another"}"#).unwrap();
    let why = refusal(&bench.ask(Mode::Verify, "silence", Some(&manifest)).await);
    assert!(why.contains("but this is sandbox:another"), "{why}");
}

#[tokio::test]
async fn history_goes_only_after_the_target_and_each_step_can_be_repeated() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1", "10.0.0.1");
    let mut bench = bench(root.path());
    bench.pin().await;
    assert!(refusal(&bench.perform("delete_history").await).contains("still probed"));
    for action in ["remove_target", "remove_target", "delete_history", "delete_history"] {
        evidence(&bench.perform(action).await, Presence::Absent);
    }
    assert_eq!(seen(root.path()), json!({ "target": null, "history": null }));
}

#[tokio::test]
async fn another_of_the_same_name_and_an_unreadable_place_stop_everything() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "u1", "10.0.0.1");
    let mut bench = bench(root.path());
    bench.pin().await;
    let manifest = bench.capture("silence").await;
    web01(root.path(), "u2", "10.0.0.1");
    for action in ["remove_target", "delete_history"] {
        assert!(refusal(&bench.perform(action).await).contains("u2"), "{action}");
    }
    std::fs::remove_file(root.path().join("monitoring/main/place.json")).unwrap();
    for action in ["remove_target", "delete_history"] {
        retry(&bench.perform(action).await, RetryClass::Failed);
    }
    retry(&bench.perform_by("silence", &manifest).await, RetryClass::Failed);
}

#[tokio::test]
async fn a_resource_that_is_not_monitored() {
    let root = tempfile::tempdir().unwrap();
    let other = "vm/other".parse().unwrap();
    create(root.path(), &"monitoring.main".parse().unwrap(), &other, &identity("u9"), "x").unwrap();
    let mut bench = bench(root.path());
    assert!(refusal(&bench.pin().await).contains("unexpectedly absent"));
    bench.attributes = json!({ "none": true });
    evidence(&bench.pin().await, Presence::Present);
    let manifest = bench.capture("silence").await;
    for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "silence", Some(&manifest)).await, Presence::Present);
    }
    for action in ["remove_target", "delete_history"] {
        evidence(&bench.perform(action).await, Presence::Absent);
    }
}
