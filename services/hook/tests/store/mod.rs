//! A store of a membership's keys, of a cluster or of a machine: the delivered definition, and the delivered program that
//! keeps keys in plain files.
#![allow(dead_code, reason = "each test file uses a part of it")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sexton_consumer::Driver;
use sexton_hook::{DriverConfig, delivered_actions, driver};
use sexton_model::ResourceId;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_testkit::bench::Bench;

/// One store, with the key of `membership/storage07`.
pub struct Store {
    root: tempfile::TempDir,
    subsystem: &'static str,
}

impl Store {
    pub fn new(subsystem: &'static str) -> Self {
        let store = Self { root: tempfile::tempdir().unwrap(), subsystem };
        std::fs::create_dir(store.path("")).unwrap();
        store.call_it("place-1");
        store.key("fsid-a");
        store
    }

    /// What the store says who it is.
    pub fn call_it(&self, id: &str) {
        std::fs::write(self.path("id"), format!("{id}\n")).unwrap();
    }

    /// A file or a key in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("store").join(name)
    }

    /// Where nobody looks for it.
    pub fn elsewhere(&self) -> PathBuf {
        self.root.path().join("elsewhere")
    }

    /// The key, as one of this cluster.
    pub fn key(&self, cluster: &str) {
        let key = self.path("storage07");
        std::fs::create_dir_all(&key).unwrap();
        for (file, text) in
            [("cluster", cluster), ("machine", "serial-7"), ("enabled", "true"), ("key", "a secret")]
        {
            std::fs::write(key.join(file), format!("{text}\n")).unwrap();
        }
    }

    pub fn resource() -> ResourceId {
        "membership/storage07".parse().unwrap()
    }

    pub fn identity() -> Identity {
        let identity = [("cluster", "fsid-a"), ("machine", "serial-7")];
        let identity: BTreeMap<String, String> =
            identity.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        identity.try_into().unwrap()
    }

    pub fn actions(subsystem: &str) -> SubsystemActions {
        delivered_actions(&subsystem.parse().unwrap()).unwrap()
    }

    /// As it is delivered, but for where the program and the store are.
    pub fn driver(&self) -> Arc<dyn Driver> {
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
        driver(config).unwrap()
    }

    pub fn bench(&self) -> Bench {
        let mut bench = Bench::new(self.driver(), Self::actions(self.subsystem), "unused");
        bench.resource = Self::resource();
        bench.identity = Self::identity();
        bench
    }
}
