//! The delivered definitions of a membership's keys, with the delivered program that keeps them in plain files.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod store;

use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_testkit::bench::{evidence, refusal, retry};
use store::Store;

#[tokio::test]
async fn a_key_is_disabled_enabled_again_and_revoked() {
    for (subsystem, soft, hard) in [("cluster", "disable", "revoke"), ("machine", "withdraw", "remove")] {
        let store = Store::new(subsystem);
        let mut bench = store.bench();
        evidence(&bench.pin().await, Presence::Present);
        let manifest = bench.capture(soft).await;
        for _ in 0..2 {
            evidence(&bench.perform_by(soft, &manifest).await, Presence::Present);
        }
        let enabled = || std::fs::read_to_string(store.path("storage07/enabled")).unwrap();
        assert_eq!(enabled(), "false\n");
        for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
            evidence(&bench.ask(mode, soft, Some(&manifest)).await, Presence::Present);
        }
        assert_eq!(enabled(), "true\n");
        for _ in 0..2 {
            evidence(&bench.perform(hard).await, Presence::Absent);
        }
        let left: Vec<_> =
            std::fs::read_dir(store.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["id"], "nothing of the key is left");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_not_gone() {
    let store = Store::new("machine");
    let mut bench = store.bench();
    bench.pin().await;
    // The machine is not reached, or the wrong folder is mounted: no key is seen there, and that says nothing.
    std::fs::rename(store.path(""), store.elsewhere()).unwrap();
    retry(&bench.perform("remove").await, RetryClass::Failed);
    std::fs::create_dir(store.path("")).unwrap();
    retry(&bench.perform("remove").await, RetryClass::Failed);
    store.call_it("place-2");
    retry(&bench.perform("remove").await, RetryClass::Failed);
    assert!(store.elsewhere().join("storage07/key").exists());
}

/// Nothing says that it is the one that was to go but its name, and the identity in it.
#[tokio::test]
async fn a_key_that_nobody_has_looked_at_stays() {
    for (subsystem, hard) in [("cluster", "revoke"), ("machine", "remove")] {
        let store = Store::new(subsystem);
        let bench = store.bench();
        let why = refusal(&bench.perform(hard).await);
        assert!(why.contains("nothing is pinned to compare it with; inspect first"), "{why}");
        assert!(store.path("storage07/key").exists());
        // What is not there need not have been seen.
        std::fs::remove_dir_all(store.path("storage07")).unwrap();
        evidence(&bench.perform(hard).await, Presence::Absent);
    }
}

#[tokio::test]
async fn the_key_of_another_cluster_stays() {
    let store = Store::new("machine");
    let mut bench = store.bench();
    bench.pin().await;
    store.key("fsid-b");
    let why = refusal(&bench.perform("remove").await);
    assert!(why.contains("fsid-b"), "{why}");
    assert!(store.path("storage07/key").exists());
}
