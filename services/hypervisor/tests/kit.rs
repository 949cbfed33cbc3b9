//! The sandbox keeps every promise of a consumer.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_hypervisor::{DriverConfig, actions, driver, process, sandbox};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::consumer::{
    CannotBe, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};
use uuid::Uuid;

const UUID: Uuid = Uuid::from_u128(0x2f1c);
const OTHER: Uuid = Uuid::from_u128(0x3a4b);

fn instance() -> Instance {
    "hypervisor.main".parse().unwrap()
}

/// The image of the actions that are about one; machine `web01`, which does not use it, lies beside it.
const IMAGE: &str = "debian12";

struct Sandboxes;

struct Folder {
    root: tempfile::TempDir,
    action: String,
    targets: Option<Value>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        end_all(self.root.path());
    }
}

/// End the processes of this folder. Through their ids: a drop cannot wait for a descriptor.
fn end_all(root: &Path) {
    let folder = format!("{}/", root.display());
    for (process, arguments) in process::all().unwrap() {
        if arguments.first().is_some_and(|a| a.starts_with(&folder)) {
            let _ = std::process::Command::new("kill").arg("-9").arg(process.pid.to_string()).status();
        }
    }
}

/// Whether an action is about an image.
fn is_about_image(action: &str) -> bool {
    matches!(action, "inspect_image" | "check_unused" | "delete_image")
}

impl Folder {
    /// The volume that the action is about.
    fn volume(&self) -> &'static str {
        if is_about_image(&self.action) { IMAGE } else { "web01-root" }
    }

    fn image(&self) -> PathBuf {
        self.root.path().join(format!("hypervisor/main/volumes/{}.img", self.volume()))
    }

    /// Whether the action is about a volume, of which the machine need not be there.
    fn is_about_volume(&self) -> bool {
        self.action == "delete_volumes" || is_about_image(&self.action)
    }

    /// An image that nobody uses.
    fn make_image(&self, uuid: Uuid) {
        let volume = json!({ "identity": { "uuid": uuid }, "size": 5, "snapshots": [] });
        std::fs::write(self.file("volumes", IMAGE), volume.to_string()).unwrap();
        std::fs::write(self.image(), format!("image {uuid}")).unwrap();
    }

    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.root.path().join(format!("hypervisor/main/{kind}/{name}.json"))
    }

    /// Nothing starts the machine, which is off.
    fn as_a_stop_leaves_it(&self) {
        let file = self.file("vms", "web01");
        let mut vm: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for flag in ["autostart", "onboot", "ha"] {
            vm[flag] = json!(false);
        }
        std::fs::write(&file, vm.to_string()).unwrap();
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

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let root = tempfile::tempdir().unwrap();
        let on = matches!(action.as_str(), "inspect" | "stop");
        sandbox::create_vm(root.path(), &instance(), "web01", UUID, on).unwrap();
        let mut folder = Folder { root, action: action.as_str().to_owned(), targets: None };
        if !on {
            folder.as_a_stop_leaves_it();
        }
        if action.as_str() == "delete_volumes" {
            // As it was pinned before it was undefined.
            folder.targets = Some(json!({
                "place": "sandbox:hypervisor.main",
                "domain": "web01",
                "uuid": UUID,
                "volumes": [{ "path": "web01-root", "file": UUID, "format": "raw", "size": 0, "snapshots": [] }],
            }));
            std::fs::remove_file(folder.file("vms", "web01")).unwrap();
        }
        if is_about_image(action.as_str()) {
            folder.make_image(UUID);
            if action.as_str() != "inspect_image" {
                folder.targets = Some(json!({
                    "place": "sandbox:hypervisor.main",
                    "image": IMAGE,
                    "volumes": [{ "path": IMAGE, "file": UUID, "format": "raw", "size": 5 }],
                }));
            }
        }
        Box::new(folder)
    }
}

#[async_trait]
impl World for Folder {
    fn driver(&self) -> Arc<dyn Driver> {
        let config = sandbox::Config { root: self.root.path().to_owned(), instance: instance() };
        driver(DriverConfig::Sandbox(config)).unwrap()
    }

    fn template(&self) -> Template {
        let (resource, attribute) =
            if is_about_image(&self.action) { ("image/debian12", "file") } else { ("vm/web01", "uuid") };
        Template {
            resource: resource.parse().unwrap(),
            identity: serde_json::from_value(json!({ attribute: UUID })).unwrap(),
            attributes: Value::Null,
            targets: self.targets.clone(),
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        let volume = self.file("volumes", self.volume());
        let volume: Option<Value> = std::fs::read(&volume).ok().map(|text| {
            let mut volume: Value = serde_json::from_slice(&text).unwrap();
            volume.as_object_mut().unwrap().remove("fence");
            volume
        });
        json!({
            "vm": sandbox::describe_vm(self.root.path(), &instance(), "web01").unwrap(),
            "volume": volume,
            "image": std::fs::read_to_string(self.image()).ok(),
        })
    }

    async fn other_identity(&self) {
        // What is re-created knows nothing of the fences of the one before.
        end_all(self.root.path());
        std::fs::remove_dir_all(self.root.path().join("hypervisor")).unwrap();
        sandbox::create_vm(self.root.path(), &instance(), "web01", OTHER, false).unwrap();
        if is_about_image(&self.action) {
            self.make_image(OTHER);
        }
        if self.action == "check_off" {
            // But for who it is, it could be passed.
            self.as_a_stop_leaves_it();
        }
    }

    async fn make_absent(&self) {
        if self.is_about_volume() {
            std::fs::remove_file(self.file("volumes", self.volume())).unwrap();
            std::fs::remove_file(self.image()).unwrap();
        } else {
            end_all(self.root.path());
            std::fs::remove_file(self.file("vms", "web01")).unwrap();
        }
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        end_all(self.root.path());
        replace_place(&self.root.path().join("hypervisor/main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        let file = if self.is_about_volume() {
            self.file("volumes", self.volume())
        } else {
            self.file("vms", "web01")
        };
        raise_fence_in(&file, fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_sandbox_keeps_every_promise() {
    assert_promises_kept(&Sandboxes, &[]).await;
}
