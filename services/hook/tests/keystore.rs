//! The delivered definitions of a membership's keys, with the delivered program that keeps them in plain files.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use sexton_hook::{DriverConfig, delivered_actions, driver};
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_testkit::bench::{Bench, evidence, refusal, retry};

/// One store: of a cluster, or of a machine.
struct Store {
    root: tempfile::TempDir,
    subsystem: &'static str,
}

impl Store {
    fn new(subsystem: &'static str) -> Self {
        let store = Self { root: tempfile::tempdir().unwrap(), subsystem };
        std::fs::create_dir(store.path("")).unwrap();
        std::fs::write(store.path("id"), "place-1\n").unwrap();
        store.key("fsid-a");
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("store").join(name)
    }

    fn key(&self, cluster: &str) {
        let key = self.path("storage07");
        std::fs::create_dir_all(&key).unwrap();
        for (file, text) in
            [("cluster", cluster), ("machine", "serial-7"), ("enabled", "true"), ("key", "a secret")]
        {
            std::fs::write(key.join(file), format!("{text}\n")).unwrap();
        }
    }

    /// As it is delivered, but for where the program and the store are.
    fn bench(&self) -> Bench {
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks").canonicalize().unwrap();
        let definition = self.root.path().join("definition.toml");
        let text = std::fs::read_to_string(hooks.join(format!("{}.toml", self.subsystem))).unwrap();
        let text = text.replace("/usr/local/lib/sexton/keystore", hooks.join("keystore").to_str().unwrap());
        let store = format!("/var/lib/sexton/{}", self.subsystem);
        std::fs::write(&definition, text.replace(&store, self.path("").to_str().unwrap())).unwrap();
        let config: DriverConfig = serde_json::from_value(json!({
            "driver": "hook", "subsystem": self.subsystem, "definition": definition, "place": "place-1",
        }))
        .unwrap();
        let actions = delivered_actions(&self.subsystem.parse().unwrap()).unwrap();
        let mut bench = Bench::new(driver(config).unwrap(), actions, "unused");
        bench.resource = "membership/storage07".parse().unwrap();
        let identity = [("cluster", "fsid-a"), ("machine", "serial-7")];
        let identity: BTreeMap<String, String> =
            identity.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        bench.identity = identity.try_into().unwrap();
        bench
    }
}

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
    std::fs::rename(store.path(""), store.root.path().join("elsewhere")).unwrap();
    retry(&bench.perform("remove").await, RetryClass::Failed);
    std::fs::create_dir(store.path("")).unwrap();
    retry(&bench.perform("remove").await, RetryClass::Failed);
    std::fs::write(store.path("id"), "place-2\n").unwrap();
    retry(&bench.perform("remove").await, RetryClass::Failed);
    assert!(store.root.path().join("elsewhere/storage07/key").exists());
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
