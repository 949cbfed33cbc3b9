//! The sandbox driver keeps every promise of a consumer.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance, ResourceId};
use sexton_monitoring::{DriverConfig, actions, driver, sandbox};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{
    CannotBe, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};

fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
}

fn instance() -> Instance {
    "monitoring.main".parse().unwrap()
}

struct Sandboxes;

struct Folder {
    root: tempfile::TempDir,
    action: ActionName,
}

fn make(root: &Path, uuid: &str) {
    sandbox::create(root, &instance(), &resource(), &identity(uuid), "10.0.0.1:9100").unwrap();
}

#[async_trait]
impl Fixture for Sandboxes {
    fn instance(&self) -> Instance {
        instance()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), "u1");
        if action.as_str() == "delete_history" {
            // It comes after the target has gone.
            std::fs::remove_file(root.path().join("monitoring/main/targets/web01.json")).unwrap();
        }
        Box::new(Folder { root, action: action.clone() })
    }
}

#[async_trait]
impl World for Folder {
    fn driver(&self) -> Arc<dyn Driver> {
        let config = sandbox::Config { root: self.root.path().to_owned(), instance: instance() };
        driver(DriverConfig::Sandbox(config)).unwrap()
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: json!({ "none": self.action.as_str() == "delete_history" }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        json!(sandbox::describe(self.root.path(), &instance(), &resource()).unwrap())
    }

    async fn other_identity(&self) {
        // What is re-created knows nothing of the fences of the one before.
        std::fs::remove_dir_all(self.root.path()).unwrap();
        make(self.root.path(), "u2");
    }

    async fn make_absent(&self) {
        let kind = if self.action.as_str() == "delete_history" { "history" } else { "targets" };
        std::fs::remove_file(self.root.path().join(format!("monitoring/main/{kind}/web01.json"))).unwrap();
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        replace_place(&self.root.path().join("monitoring/main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        let kind = if self.action.as_str() == "delete_history" { "history" } else { "targets" };
        raise_fence_in(&self.root.path().join(format!("monitoring/main/{kind}/web01.json")), fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_sandbox_keeps_every_promise() {
    assert_promises_kept(&Sandboxes, &[]).await;
}
