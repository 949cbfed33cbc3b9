//! A hook that runs real commands.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod gatehouse;

use gatehouse::Gatehouse;
use serde_json::json;
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_testkit::bench::{evidence, refusal, retry};

#[tokio::test]
async fn a_whole_deletion_and_its_undo() {
    let gatehouse = Gatehouse::new();
    let before = std::fs::read(gatehouse.path("badge-web01")).unwrap();
    let mut bench = gatehouse.bench("show");
    evidence(&bench.pin().await, Presence::Present);
    let manifest = bench.capture("block").await;
    // Fails after the effect, which the next attempt finds.
    std::fs::write(gatehouse.path("broken"), "").unwrap();
    retry(&bench.perform_by("block", &manifest).await, RetryClass::Failed);
    for mode in [Mode::Perform, Mode::Perform] {
        evidence(&bench.ask(mode, "block", Some(&manifest)).await, Presence::Present);
    }
    std::fs::remove_file(gatehouse.path("broken")).unwrap();
    for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "block", Some(&manifest)).await, Presence::Present);
    }
    let after: serde_json::Value =
        serde_json::from_slice(&std::fs::read(gatehouse.path("badge-web01")).unwrap()).unwrap();
    assert_eq!(after, serde_json::from_slice::<serde_json::Value>(&before).unwrap());

    std::fs::write(gatehouse.path("lazy"), "").unwrap();
    retry(&bench.perform("shred").await, RetryClass::Failed);
    std::fs::remove_file(gatehouse.path("lazy")).unwrap();
    for _ in 0..2 {
        evidence(&bench.perform("shred").await, Presence::Absent);
    }
    assert!(!gatehouse.path("owned").exists(), "what is filled in never passes through a shell");
}

#[tokio::test]
async fn what_cannot_be_filled_in_or_belongs_to_another_is_refused() {
    let gatehouse = Gatehouse::new();
    let mut bench = gatehouse.bench("show");
    bench.pin().await;
    bench.attributes = json!({});
    assert!(refusal(&bench.perform("shred").await).contains("attributes.why"));
    bench.attributes = json!({ "why": "--all" });
    assert!(refusal(&bench.perform("shred").await).contains("option"));
    gatehouse.badge("u2", true);
    assert!(refusal(&bench.perform("shred").await).contains("u2"));
    assert!(gatehouse.path("badge-web01").exists());
}

#[tokio::test]
async fn a_command_that_hangs_or_talks_without_end_is_no_answer() {
    let cases =
        [("hang", RetryClass::Spared, "no whole answer"), ("chatter", RetryClass::Failed, "says more than")];
    for (show, class, why) in cases {
        let gatehouse = Gatehouse::new();
        let mut bench = gatehouse.bench(show);
        let answer = retry(&bench.pin().await, class);
        assert!(answer.contains(why), "{answer}");
    }
}
