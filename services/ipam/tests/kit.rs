//! The sandbox driver keeps every promise of a consumer.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_ipam::quarantine::Quarantine;
use sexton_ipam::{DriverConfig, actions, driver, sandbox};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::step::Presence;
use sexton_model::{ActionName, Fence, Instance, ResourceId};
use sexton_testkit::bench::{Bench, evidence, identity, refusal};
use sexton_testkit::consumer::{
    CannotBe, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};

struct Sandboxes;

struct Folder {
    root: tempfile::TempDir,
}

/// What the sandbox keeps.
const KINDS: [&str; 3] = ["addresses", "firewall_rules", "vm_ids"];

fn instance() -> Instance {
    "ipam.main".parse().unwrap()
}

fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
}

impl Folder {
    fn create(&self, uuid: &str) {
        let (mac, addresses) = ("52:54:00:00:00:10".parse().unwrap(), ["192.0.2.10".parse().unwrap()]);
        sandbox::create(self.root.path(), &instance(), &resource(), &identity(uuid), mac, 1, &addresses)
            .unwrap();
    }
}

#[async_trait]
impl Fixture for Sandboxes {
    fn instance(&self) -> Instance {
        instance()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        let folder = Folder { root: tempfile::tempdir().unwrap() };
        folder.create("u1");
        Box::new(folder)
    }
}

#[async_trait]
impl World for Folder {
    fn driver(&self) -> Arc<dyn Driver> {
        let config = sandbox::Config {
            root: self.root.path().to_owned(),
            instance: instance(),
            quarantine_days: Quarantine::default(),
        };
        driver(DriverConfig::Sandbox(config)).unwrap()
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: json!({ "mac": "52:54:00:00:00:10", "addresses": ["192.0.2.10"], "subnet": 1 }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        sandbox::describe(self.root.path(), &instance(), &resource()).unwrap()
    }

    async fn other_identity(&self) {
        self.create("u2");
    }

    async fn make_absent(&self) {
        for kind in KINDS {
            std::fs::remove_dir_all(self.root.path().join("ipam/main").join(kind)).unwrap();
        }
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        replace_place(&self.root.path().join("ipam/main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        for kind in KINDS {
            for object in std::fs::read_dir(self.root.path().join("ipam/main").join(kind)).unwrap() {
                raise_fence_in(&object.unwrap().path(), fence);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_sandbox_keeps_every_promise() {
    assert_promises_kept(&Sandboxes, &[]).await;
}

#[tokio::test]
async fn what_the_platform_does_not_state_is_refused_and_not_taken_for_nothing() {
    let folder = Folder { root: tempfile::tempdir().unwrap() };
    folder.create("u1");
    let mut bench = Bench::new(folder.driver(), actions(), "u1");
    for attributes in [Value::Null, json!({}), json!({ "addresses": [] })] {
        bench.attributes = attributes;
        let outcome = bench.pin().await;
        assert!(refusal(&outcome).contains("attributes.ipam: "), "{outcome:?}");
    }
    assert_eq!(bench.targets, Value::Null);
    bench.attributes = json!({ "none": true });
    assert!(evidence(&bench.pin().await, Presence::Present).contains("none = true"));
    evidence(&bench.perform("release").await, Presence::Absent);
    assert_ne!(folder.snapshot().await, json!({}), "nothing was stated, and nothing is touched");
}
