//! The consumer kit against real guests: each world is a host of its own.
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use async_trait::async_trait;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{
    CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept, raise_fence_in,
};

use super::*;

const ROOT: &str = "web01-root.qcow2";
/// Of the actions about an image: nobody uses it.
const IMAGE: &str = "debian12.qcow2";

struct Guests;

struct Machine {
    host: Host,
    action: ActionName,
    targets: Option<Value>,
    /// The file of the volume, which no other gets while this one's name is taken.
    inode: u64,
    /// What makes the resource this one.
    identity: Identity,
}

/// Whether an action is about an image.
fn is_about_image(action: &ActionName) -> bool {
    matches!(action.as_str(), "inspect_image" | "check_unused" | "delete_image")
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
            "inspect_image" => host.make_image(IMAGE, None),
            "check_unused" | "delete_image" => {
                host.make_image(IMAGE, None);
                targets = Some(host.pinned_image(IMAGE).await);
            }
            other => panic!("no world for {other}"),
        }
        let volume = if is_about_image(action) { IMAGE } else { ROOT };
        let inode = std::fs::metadata(host.volume(volume)).unwrap().ino();
        let identity =
            if is_about_image(action) { host.identity_of(IMAGE) } else { identity(&host.uuid.to_string()) };
        Box::new(Machine { host, action: action.clone(), targets, inode, identity })
    }

    /// Most of a case is waiting for a guest.
    fn at_once(&self) -> usize {
        4
    }
}

impl Machine {
    /// Whether the action is about a volume, of which the machine need not be there.
    fn is_about_volume(&self) -> bool {
        self.action.as_str() == "delete_volumes" || is_about_image(&self.action)
    }

    /// The volume that it is about.
    fn volume(&self) -> &'static str {
        if is_about_image(&self.action) { IMAGE } else { ROOT }
    }
}

#[async_trait]
impl World for Machine {
    fn driver(&self) -> Arc<dyn Driver> {
        self.host.driver()
    }

    fn template(&self) -> Template {
        let resource = if is_about_image(&self.action) { "image/debian12.qcow2" } else { "vm/web01" };
        Template {
            resource: resource.parse().unwrap(),
            identity: self.identity.clone(),
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
        let volume = std::fs::metadata(self.host.volume(self.volume())).ok();
        json!({
            "definition": definition,
            "runs": self.host.process().is_some(),
            "volume": volume.map(|file| if file.ino() == self.inode { "own" } else { "other" }),
        })
    }

    async fn other_identity(&self) {
        if self.is_about_volume() {
            std::fs::rename(self.host.volume(self.volume()), self.host.volume("old.qcow2")).unwrap();
            if is_about_image(&self.action) {
                self.host.make_image(IMAGE, None);
            } else {
                self.host.make_volume(ROOT, &disk("SEXTON_TEST_QEMU_POLITE"));
            }
        } else {
            self.host.end_all();
            self.host.define(Uuid::new_v4(), json!({}));
        }
    }

    async fn make_absent(&self) {
        if self.is_about_volume() {
            std::fs::remove_file(self.host.volume(self.volume())).unwrap();
        } else {
            self.host.end_all();
            std::fs::remove_dir_all(self.host.folder()).unwrap();
        }
    }

    /// The disk below one of the folders is not mounted.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        let folder = self.host.root().join(if self.is_about_volume() { "volumes" } else { "vms" });
        self.host.end_all();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        if self.is_about_volume() {
            return Err(CannotBe(
                "a volume holds no fence, and its machine's definition, if it has one, has gone before",
            ));
        }
        raise_fence_in(&self.host.folder().join("domain.json"), fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_qemu_driver_keeps_every_promise() {
    let left_out = [("delete_volumes", FENCE_AT_TARGET), ("delete_image", FENCE_AT_TARGET)];
    assert_promises_kept(&Guests, &left_out).await;
}
