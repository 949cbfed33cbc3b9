//! The consumer kit against real repositories. Making one takes a second, so each world is a copy of one.
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept};

use super::*;

struct Repositories {
    first: Place,
    targets: Value,
}

struct Repository {
    place: Place,
    action: ActionName,
    /// What is pinned; it is in every copy. Inspecting for each case would take minutes.
    targets: Value,
}

impl Repositories {
    /// A repository with two backups of the resource and one of its namesake.
    async fn new() -> Self {
        let first = Place::new();
        for uuid in ["u1", "u2", "u1"] {
            first.back_up(uuid);
        }
        first.schedule("u1");
        let mut bench = first.bench();
        evidence(&bench.pin().await, Presence::Present);
        Self { first, targets: bench.targets }
    }
}

#[async_trait]
impl Fixture for Repositories {
    fn instance(&self) -> Instance {
        "backup.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let place = Place { root: tempfile::tempdir().unwrap() };
        let from = format!("{}/.", self.first.root.path().display());
        let copied = Command::new("cp").arg("-a").arg(from).arg(place.root.path()).status().unwrap();
        assert!(copied.success());
        Box::new(Repository { place, action: action.clone(), targets: self.targets.clone() })
    }

    /// Each call of the program waits for the disk, and for itself.
    fn at_once(&self) -> usize {
        3
    }
}

#[async_trait]
impl World for Repository {
    fn driver(&self) -> Arc<dyn Driver> {
        self.place.driver_with(Path::new("restic"))
    }

    fn template(&self) -> Template {
        Template {
            resource: "vm/web01".parse().unwrap(),
            identity: identity("u1"),
            attributes: json!({ "paths": [self.place.text("data")] }),
            targets: (self.action.as_str() != "inspect").then(|| self.targets.clone()),
            params: BTreeMap::new(),
        }
    }

    /// Tags instead of ids, so that worlds compare.
    async fn snapshot(&self) -> Value {
        let mut archives: Vec<Value> =
            self.place.snapshots().into_iter().map(|mut snapshot| snapshot["tags"].take()).collect();
        archives.sort_by_key(Value::to_string);
        let schedule = std::fs::read_to_string(self.place.path("schedules/web01.json")).ok();
        json!({ "archives": archives, "schedule": schedule })
    }

    async fn other_identity(&self) {
        self.place.restic(&["tag", "--set", "uuid=u2"]);
        self.place.schedule("u2");
    }

    async fn make_absent(&self) {
        if self.action.as_str() == "remove_schedule" {
            std::fs::remove_file(self.place.path("schedules/web01.json")).unwrap();
            return;
        }
        let all = self.place.snapshots();
        let own = all.iter().filter(|snapshot| snapshot["tags"] == json!(["uuid=u1"]));
        let ids: Vec<&str> = own.map(|snapshot| snapshot["id"].as_str().unwrap()).collect();
        self.place.restic(&[&["forget"], ids.as_slice()].concat());
    }

    /// Another repository lies there, or nothing is mounted where the schedules are.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        let schedules = self.action.as_str() == "remove_schedule";
        let lost = self.place.path(if schedules { "schedules" } else { "repository" });
        std::fs::remove_dir_all(&lost).unwrap();
        if schedules {
            std::fs::create_dir(&lost).unwrap();
        } else {
            self.place.init();
        }
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(CannotBe("neither a repository nor a schedule holds a fence"))
    }
}

#[tokio::test]
async fn the_restic_driver_keeps_every_promise() {
    let left_out = [
        ("final", FENCE_AT_TARGET),
        ("remove_schedule", FENCE_AT_TARGET),
        ("delete_archives", FENCE_AT_TARGET),
    ];
    assert_promises_kept(&Repositories::new().await, &left_out).await;
}
