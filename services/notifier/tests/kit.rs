//! The sandbox keeps every promise of a consumer.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::step::Presence;
use sexton_model::{ActionName, Fence, Instance};
use sexton_notifier::spool::{Announcement, Spool, State};
use sexton_notifier::{DriverConfig, actions, driver, sandbox};
use sexton_testkit::bench::{Bench, evidence, refusal};
use sexton_testkit::consumer::{
    CannotBe, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};

/// What `vm/web01` with the UUID of the template is announced under.
const UID: &str = "1bfcc276-96c4-5a34-a0af-29bba3a322f0";

fn instance() -> Instance {
    "notifier.main".parse().unwrap()
}

/// An earlier deletion of the same machine that was cancelled.
fn earlier() -> Announcement {
    Announcement {
        uid: UID.parse().unwrap(),
        resource: "vm/web01".into(),
        identity: serde_json::from_value(json!({ "uuid": "1" })).unwrap(),
        due: None,
        zone: None,
        window: None,
        to: vec!["owner@example.org".into()],
        state: State::Retracted,
        sequence: 2,
        tried: Default::default(),
        accepted: Default::default(),
        rejected: Default::default(),
    }
}

struct Sandboxes;

struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    fn file(&self) -> PathBuf {
        self.root.path().join(format!("notifier/main/announcements/{UID}.json"))
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
        let root = tempfile::tempdir().unwrap();
        sandbox::create(root.path(), &instance()).unwrap();
        Spool::at(root.path(), &instance()).write(&earlier(), Fence::default()).unwrap();
        Box::new(Folder { root })
    }
}

#[async_trait]
impl World for Folder {
    fn driver(&self) -> Arc<dyn Driver> {
        let config = sandbox::Config {
            root: self.root.path().to_owned(),
            instance: instance(),
            also_tell: vec!["ops@example.org".into()],
        };
        driver(DriverConfig::Sandbox(config)).unwrap()
    }

    fn template(&self) -> Template {
        Template {
            resource: "vm/web01".parse().unwrap(),
            identity: earlier().identity,
            attributes: json!({ "contacts": ["owner@example.org"] }),
            targets: None,
            params: BTreeMap::from([("due".to_owned(), json!("2026-12-01"))]),
        }
    }

    /// What people believe: what was sent stays sent.
    async fn snapshot(&self) -> Value {
        let file: Option<Object> =
            std::fs::read(self.file()).ok().map(|text| serde_json::from_slice(&text).unwrap());
        let identity = file.and_then(|mut file| file.remove("identity"));
        json!({ "expected": sandbox::describe(self.root.path(), &instance()).unwrap(), "of": identity })
    }

    async fn other_identity(&self) {
        let sandbox = Sandbox::at(self.root.path(), &instance());
        let mut object = sandbox.read("announcements", UID).unwrap().unwrap();
        object.insert("identity".into(), json!({ "uuid": "2" }));
        std::fs::write(self.file(), serde_json::to_vec(&object).unwrap()).unwrap();
    }

    async fn make_absent(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        replace_place(&self.root.path().join("notifier/main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        raise_fence_in(&self.file(), fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_sandbox_keeps_every_promise() {
    assert_promises_kept(&Sandboxes, &[]).await;
}

/// The office tells somebody in any case, which must not hide that the owner was forgotten.
#[tokio::test]
async fn an_owner_who_is_not_stated_is_refused_and_not_taken_for_nobody() {
    let folder = Sandboxes.fresh(&"announce".parse().unwrap()).await;
    let mut bench = Bench::new(folder.driver(), actions(), "1");
    let before = folder.snapshot().await;
    for attributes in [
        Value::Null,
        json!({}),
        json!({ "contacts": [] }),
        json!({ "contact": ["owner@example.org"] }),
        json!({ "contacts": ["nobody"] }),
        json!({ "none": true, "contacts": ["owner@example.org"] }),
    ] {
        bench.attributes = attributes;
        let outcome = bench.pin().await;
        assert!(refusal(&outcome).contains("attributes.notifier: "), "{outcome:?}");
    }
    assert_eq!((&bench.targets, folder.snapshot().await), (&Value::Null, before));
    bench.attributes = json!({ "none": true });
    assert!(evidence(&bench.pin().await, Presence::Present).ends_with("to be told are ops@example.org"));
    bench.attributes = json!({ "contacts": ["owner@example.org"] });
    let both = evidence(&bench.pin().await, Presence::Present);
    assert!(both.ends_with("to be told are owner@example.org, ops@example.org"), "{both}");
}
