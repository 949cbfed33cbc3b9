//! The sandbox driver through the SDK, for both delivered subsystems.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sexton_hook::sandbox::{Config, SandboxHook, create, describe};
use sexton_model::Instance;
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_testkit::bench::{Bench, evidence, identity, refusal, retry};

fn instance(subsystem: &str) -> Instance {
    format!("{subsystem}.main").parse().unwrap()
}

fn bench(root: &Path, subsystem: &str) -> Bench {
    let instance = instance(subsystem);
    let actions = sexton_hook::delivered_actions(&instance.subsystem).unwrap();
    let config = Config { root: root.to_owned(), instance, actions: None };
    Bench::new(Arc::new(SandboxHook::new(&config, &actions)), actions, "u1")
}

fn web01(root: &Path, subsystem: &str, uuid: &str) {
    create(root, &instance(subsystem), &"vm/web01".parse().unwrap(), &identity(uuid)).unwrap();
}

fn seen(root: &Path, subsystem: &str) -> serde_json::Value {
    describe(root, &instance(subsystem), &"vm/web01".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn switching_off_is_undone_exactly() {
    for (subsystem, action) in [("accounting", "stop"), ("config", "withdraw")] {
        let root = tempfile::tempdir().unwrap();
        web01(root.path(), subsystem, "u1");
        let before = seen(root.path(), subsystem);
        let mut bench = bench(root.path(), subsystem);
        bench.pin().await;
        let manifest = bench.capture(action).await;
        for _ in 0..2 {
            evidence(&bench.perform_by(action, &manifest).await, Presence::Present);
        }
        assert_eq!(seen(root.path(), subsystem)["object"]["active"], json!(false));
        for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
            evidence(&bench.ask(mode, action, Some(&manifest)).await, Presence::Present);
        }
        assert_eq!(seen(root.path(), subsystem), before);
    }
}

#[tokio::test]
async fn a_certificate_is_revoked_once_and_for_all() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "config", "u1");
    let mut bench = bench(root.path(), "config");
    bench.pin().await;
    for _ in 0..2 {
        evidence(&bench.perform("revoke").await, Presence::Absent);
    }
    assert_eq!(seen(root.path(), "config"), json!({ "object": null }));
}

#[tokio::test]
async fn what_nobody_has_looked_at_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "config", "u1");
    let bench = bench(root.path(), "config");
    let before = seen(root.path(), "config");
    let why = refusal(&bench.perform("revoke").await);
    assert!(why.contains("nothing is pinned to compare it with; inspect first"), "{why}");
    assert_eq!(seen(root.path(), "config"), before);
    // What is not there need not have been seen.
    std::fs::remove_file(root.path().join("config/main/objects/web01.json")).unwrap();
    evidence(&bench.perform("revoke").await, Presence::Absent);
}

#[tokio::test]
async fn another_of_the_same_name_and_an_unreadable_place_stop_everything() {
    let root = tempfile::tempdir().unwrap();
    web01(root.path(), "config", "u1");
    let mut bench = bench(root.path(), "config");
    bench.pin().await;
    let manifest = bench.capture("withdraw").await;
    web01(root.path(), "config", "u2");
    assert!(refusal(&bench.perform("revoke").await).contains("u2"));
    assert!(refusal(&bench.ask(Mode::Undo, "withdraw", Some(&manifest)).await).contains("u2"));
    std::fs::remove_file(root.path().join("config/main/place.json")).unwrap();
    retry(&bench.perform("revoke").await, RetryClass::Failed);
    retry(&bench.ask(Mode::Undo, "withdraw", Some(&manifest)).await, RetryClass::Failed);
}

#[tokio::test]
async fn a_resource_without_an_object() {
    let root = tempfile::tempdir().unwrap();
    let other = "vm/other".parse().unwrap();
    create(root.path(), &instance("config"), &other, &identity("u9")).unwrap();
    let mut bench = bench(root.path(), "config");
    assert!(refusal(&bench.pin().await).contains("unexpectedly absent"));
    bench.attributes = json!({ "none": true });
    bench.pin().await;
    let manifest = bench.capture("withdraw").await;
    for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "withdraw", Some(&manifest)).await, Presence::Present);
    }
    evidence(&bench.perform("revoke").await, Presence::Absent);
}
