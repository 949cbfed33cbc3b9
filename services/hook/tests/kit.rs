//! The sandbox driver keeps every promise of a consumer.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_hook::{DriverConfig, delivered_actions, driver, sandbox};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::{ActionName, Instance, ResourceId};
use sexton_testkit::consumer::{Fixture, Template, World, run_kit};

fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
}

fn identity(uuid: &str) -> Identity {
    Identity::try_from(BTreeMap::from([("uuid".to_owned(), uuid.to_owned())])).unwrap()
}

struct Sandboxes(&'static str);

struct Folder {
    root: tempfile::TempDir,
    instance: Instance,
}

fn make(root: &Path, instance: &Instance, uuid: &str) {
    sandbox::create(root, instance, &resource(), &identity(uuid)).unwrap();
}

#[async_trait]
impl Fixture for Sandboxes {
    fn instance(&self) -> Instance {
        format!("{}.main", self.0).parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        delivered_actions(&self.0.parse().unwrap()).unwrap()
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &self.instance(), "u1");
        Box::new(Folder { root, instance: self.instance() })
    }
}

#[async_trait]
impl World for Folder {
    fn driver(&self) -> Arc<dyn Driver> {
        let (root, instance) = (self.root.path().to_owned(), self.instance.clone());
        driver(DriverConfig::Sandbox(sandbox::Config { root, instance, actions: None })).unwrap()
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: Value::Null,
            targets: None,
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        json!(sandbox::describe(self.root.path(), &self.instance, &resource()).unwrap())
    }

    async fn other_identity(&self) {
        // What is re-created knows nothing of the fences of the one before.
        std::fs::remove_dir_all(self.root.path()).unwrap();
        make(self.root.path(), &self.instance, "u2");
    }

    async fn make_absent(&self) {
        let folder = self.root.path().join(self.instance.subsystem.as_str()).join("main/objects");
        std::fs::remove_file(folder.join("web01.json")).unwrap();
    }
}

#[tokio::test]
async fn the_sandboxes_keep_every_promise() {
    for subsystem in ["accounting", "config"] {
        match run_kit(&Sandboxes(subsystem)).await {
            Ok(run) => assert!(run > 0, "the kit ran no case"),
            Err(violations) => panic!("{subsystem}: {violations}"),
        }
    }
}
