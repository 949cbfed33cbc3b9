//! The drivers keep every promise of a consumer: the sandbox, and the hook with requests and with commands.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod gatehouse;
mod server;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use gatehouse::Gatehouse;
use serde_json::{Value, json};
use server::Server;
use sexton_consumer::Driver;
use sexton_hook::{DriverConfig, delivered_actions, driver, sandbox};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance, ResourceId};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{
    CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};
use store::Store;

fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
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

    async fn lose_place(&self) -> Result<(), CannotBe> {
        replace_place(&self.root.path().join(self.instance.subsystem.as_str()).join("main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        let folder = self.root.path().join(self.instance.subsystem.as_str()).join("main/objects");
        raise_fence_in(&folder.join("web01.json"), fence);
        Ok(())
    }
}

/// What a definition describes is somebody else's.
const NO_FENCE: CannotBe = CannotBe("a definition knows no field that holds a fence");

/// The delivered definitions, each world with a server of its own.
struct Servers(&'static str);

struct Site {
    server: Server,
    subsystem: &'static str,
    action: ActionName,
}

impl Site {
    fn fill(&self, uuid: &str) {
        if self.subsystem == "accounting" {
            let record = json!({ "uuid": uuid, "record": 4711, "active": true, "tariff": "gold" });
            self.server.put("/api/records/web01", record);
        } else {
            let certificate = json!({ "serial": 7 });
            let node = json!({ "uuid": uuid, "enrolled": true, "certificate": certificate });
            self.server.put("/api/nodes/web01", node);
            self.server.put("/api/certificates/7", json!({ "uuid": uuid, "state": "valid" }));
        }
    }
}

#[async_trait]
impl Fixture for Servers {
    fn instance(&self) -> Instance {
        format!("{}.main", self.0).parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        delivered_actions(&self.0.parse().unwrap()).unwrap()
    }

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let missing = if self.0 == "accounting" { "no such record" } else { "no such node" };
        let server = Server::start(missing).await;
        let site = Site { server, subsystem: self.0, action: action.clone() };
        site.fill("u1");
        Box::new(site)
    }
}

#[async_trait]
impl World for Site {
    fn driver(&self) -> Arc<dyn Driver> {
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks");
        let config: DriverConfig = serde_json::from_value(json!({
            "driver": "hook",
            "subsystem": self.subsystem,
            "definition": hooks.join(format!("{}.toml", self.subsystem)),
            "base_url": self.server.url,
            "place": "lab",
        }))
        .unwrap();
        driver(config).unwrap()
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
        json!(self.server.world.lock().unwrap().objects)
    }

    async fn other_identity(&self) {
        self.fill("u2");
    }

    async fn make_absent(&self) {
        let mut world = self.server.world.lock().unwrap();
        world.objects.retain(|path, _| path.starts_with("/api/certificates"));
        if self.action.as_str() == "revoke" {
            // A revoked certificate is listed for ever.
            world.objects.get_mut("/api/certificates/7").unwrap()["state"] = json!("revoked");
        }
    }

    /// Another server answers, which knows nothing.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        let mut world = self.server.world.lock().unwrap();
        world.objects.clear();
        world.id = "production".into();
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(NO_FENCE)
    }
}

/// A hook with commands, each world in a folder of its own.
struct Gatehouses(Gatehouse);

#[async_trait]
impl Fixture for Gatehouses {
    fn instance(&self) -> Instance {
        "badges.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        self.0.actions()
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        Box::new(Gatehouse::new())
    }
}

#[async_trait]
impl World for Gatehouse {
    fn driver(&self) -> Arc<dyn Driver> {
        self.driver("show")
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: json!({ "why": "left" }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        let badge = std::fs::read(self.path("badge-web01")).ok();
        badge.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
    }

    async fn other_identity(&self) {
        self.badge("u2", true);
    }

    async fn make_absent(&self) {
        std::fs::remove_file(self.path("badge-web01")).unwrap();
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.move_to("annexe");
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(NO_FENCE)
    }
}

/// The delivered definitions of a membership's keys, each world with a store of its own.
struct Stores(&'static str);

#[async_trait]
impl Fixture for Stores {
    fn instance(&self) -> Instance {
        format!("{}.main", self.0).parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        Store::actions(self.0)
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        Box::new(Store::new(self.0))
    }
}

#[async_trait]
impl World for Store {
    fn driver(&self) -> Arc<dyn Driver> {
        self.driver()
    }

    fn template(&self) -> Template {
        Template {
            resource: Store::resource(),
            identity: Store::identity(),
            attributes: Value::Null,
            targets: None,
            params: BTreeMap::new(),
        }
    }

    /// Everything in the store, also what is not looked at by its program.
    async fn snapshot(&self) -> Value {
        fn files(folder: &Path) -> BTreeMap<String, Value> {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            let read = |path: &Path| match std::fs::read_to_string(path) {
                Ok(text) => json!(text),
                Err(_) => json!(files(path)),
            };
            entries.map(|e| (e.file_name().into_string().unwrap(), read(&e.path()))).collect()
        }
        json!(files(&self.path("")))
    }

    /// The same machine has become a member of another cluster.
    async fn other_identity(&self) {
        self.key("fsid-b");
    }

    async fn make_absent(&self) {
        std::fs::remove_dir_all(self.path("storage07")).unwrap();
    }

    /// Another store is there, without a key.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.make_absent().await;
        self.call_it("place-2");
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(NO_FENCE)
    }
}

#[tokio::test]
async fn the_sandboxes_keep_every_promise() {
    for subsystem in ["accounting", "cluster", "config", "machine"] {
        assert_promises_kept(&Sandboxes(subsystem), &[]).await;
    }
}

#[tokio::test]
async fn the_hook_with_requests_keeps_every_promise() {
    let [stop, withdraw, revoke] = ["stop", "withdraw", "revoke"].map(|action| (action, FENCE_AT_TARGET));
    assert_promises_kept(&Servers("accounting"), &[stop]).await;
    assert_promises_kept(&Servers("config"), &[withdraw, revoke]).await;
}

#[tokio::test]
async fn the_hook_with_commands_keeps_every_promise() {
    let left_out = [("block", FENCE_AT_TARGET), ("shred", FENCE_AT_TARGET)];
    assert_promises_kept(&Gatehouses(Gatehouse::new()), &left_out).await;
}

#[tokio::test]
async fn a_store_of_keys_keeps_every_promise() {
    let [disable, revoke] = ["disable", "revoke"].map(|action| (action, FENCE_AT_TARGET));
    assert_promises_kept(&Stores("cluster"), &[disable, revoke]).await;
    let [withdraw, remove] = ["withdraw", "remove"].map(|action| (action, FENCE_AT_TARGET));
    assert_promises_kept(&Stores("machine"), &[withdraw, remove]).await;
}
