//! The consumer kit against real guests: each world is a host of its own.
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use async_trait::async_trait;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{
    CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept, raise_fence_in,
};

use super::*;

const ROOT: &str = "web01-root.qcow2";

struct Guests;

struct Machine {
    host: Host,
    action: ActionName,
    targets: Option<Value>,
    /// The file of the volume, which no other gets while this one's name is taken.
    inode: u64,
}

#[async_trait]
impl Fixture for Guests {
    fn instance(&self) -> Instance {
        "hypervisor.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let host = Host::with("SEXTON_TEST_QEMU_POLITE");
        let mut bench = host.bench();
        let mut targets = None;
        match action.as_str() {
            "inspect" | "stop" => host.start(&bench).await,
            // As a stop leaves it.
            "check_off" | "undefine" => host.define(host.uuid, json!({})),
            "delete_volumes" => {
                bench.pin().await;
                targets = Some(bench.targets);
                std::fs::remove_dir_all(host.folder()).unwrap();
            }
            other => panic!("no world for {other}"),
        }
        let inode = std::fs::metadata(host.volume(ROOT)).unwrap().ino();
        Box::new(Machine { host, action: action.clone(), targets, inode })
    }

    /// Most of a case is waiting for a guest.
    fn at_once(&self) -> usize {
        4
    }
}

impl Machine {
    fn deletes_volumes(&self) -> bool {
        self.action.as_str() == "delete_volumes"
    }
}

#[async_trait]
impl World for Machine {
    fn driver(&self) -> Arc<dyn Driver> {
        self.host.driver()
    }

    fn template(&self) -> Template {
        Template {
            resource: "vm/web01".parse().unwrap(),
            identity: identity(&self.host.uuid.to_string()),
            attributes: Value::Null,
            targets: self.targets.clone(),
            params: BTreeMap::new(),
        }
    }

    /// Each thing is `own` or another, so that worlds compare.
    async fn snapshot(&self) -> Value {
        let mut definition = Value::Null;
        if self.host.folder().join("domain.json").exists() {
            definition = self.host.definition();
            let own = definition["uuid"] == json!(self.host.uuid);
            definition["uuid"] = json!(if own { "own" } else { "other" });
        }
        let volume = std::fs::metadata(self.host.volume(ROOT)).ok();
        json!({
            "definition": definition,
            "runs": self.host.process().is_some(),
            "volume": volume.map(|file| if file.ino() == self.inode { "own" } else { "other" }),
        })
    }

    async fn other_identity(&self) {
        if self.deletes_volumes() {
            std::fs::rename(self.host.volume(ROOT), self.host.volume("old.qcow2")).unwrap();
            self.host.make_volume(ROOT, &disk("SEXTON_TEST_QEMU_POLITE"));
        } else {
            self.host.end_all();
            self.host.define(Uuid::new_v4(), json!({}));
        }
    }

    async fn make_absent(&self) {
        if self.deletes_volumes() {
            std::fs::remove_file(self.host.volume(ROOT)).unwrap();
        } else {
            self.host.end_all();
            std::fs::remove_dir_all(self.host.folder()).unwrap();
        }
    }

    /// The disk below one of the folders is not mounted.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        let folder = self.host.root().join(if self.deletes_volumes() { "volumes" } else { "vms" });
        self.host.end_all();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        if self.deletes_volumes() {
            return Err(CannotBe("an image holds no fence, and its machine's definition has gone before"));
        }
        raise_fence_in(&self.host.folder().join("domain.json"), fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_qemu_driver_keeps_every_promise() {
    let left_out = [("delete_volumes", FENCE_AT_TARGET)];
    assert_promises_kept(&Guests, &left_out).await;
}
