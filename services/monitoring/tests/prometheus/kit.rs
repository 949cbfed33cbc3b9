//! The consumer kit against a real server: each world is a target of its own.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept};

use super::*;

struct Server(AtomicUsize);

struct Machine {
    target: Target,
    storage: String,
    /// For `delete_history`, which comes after the target has gone.
    measured: bool,
    /// The driver is meant for another server.
    elsewhere: AtomicBool,
}

#[async_trait]
impl Fixture for Server {
    fn instance(&self) -> Instance {
        "monitoring.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    async fn fresh(&self, action: &ActionName) -> Box<dyn World> {
        let mut target = Target::new(&format!("kit{}", self.0.fetch_add(1, Ordering::Relaxed)));
        let storage = place(&target.name).await;
        let file = target.own();
        let measured = action.as_str() == "delete_history";
        if measured {
            while series(&target.uuid).await == 0 {}
            std::fs::remove_file(file).unwrap();
            while listed(&target.uuid).await {}
        }
        Box::new(Machine { target, storage, measured, elsewhere: AtomicBool::new(false) })
    }

    /// Most of a case is waiting for the server to look at its files.
    fn at_once(&self) -> usize {
        8
    }
}

#[async_trait]
impl World for Machine {
    fn driver(&self) -> Arc<dyn Driver> {
        let elsewhere = self.elsewhere.load(Ordering::Relaxed);
        driver_at(&url(), if elsewhere { "/srv/another" } else { &self.storage })
    }

    fn template(&self) -> Template {
        Template {
            resource: format!("vm/{}", self.target.name).parse().unwrap(),
            identity: identity(&self.target.uuid),
            attributes: json!({ "none": self.measured }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    /// With `own` for the name and the uuid, which are the same, so that worlds compare.
    async fn snapshot(&self) -> Value {
        let file = std::fs::read_to_string(folder().join(format!("{}.json", self.target.name))).ok();
        let file = file.map(|text| text.replace(&self.target.uuid, "own"));
        // While a target is probed, its history comes into being at any time.
        let history = if self.measured { json!(series(&self.target.uuid).await > 0) } else { Value::Null };
        json!({ "file": file, "history": history })
    }

    async fn other_identity(&self) {
        write(&self.target.name, "somebody-else");
    }

    async fn make_absent(&self) {
        if self.measured {
            let matching = format!("{{uuid=\"{}\"}}", self.target.uuid);
            let address = format!("{}/api/v1/admin/tsdb/delete_series", url());
            let request = reqwest::Client::new().post(address).query(&[("match[]", matching.as_str())]);
            assert!(request.send().await.unwrap().status().is_success());
        } else {
            std::fs::remove_file(folder().join(format!("{}.json", self.target.name))).unwrap();
        }
    }

    /// The server that answers keeps its samples elsewhere than the one that is meant, and knows nothing of the machine.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.make_absent().await;
        self.elsewhere.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(CannotBe("neither target files nor series hold a fence"))
    }
}

#[tokio::test]
async fn the_prometheus_driver_keeps_every_promise() {
    let left_out = [
        ("silence", FENCE_AT_TARGET),
        ("remove_target", FENCE_AT_TARGET),
        ("delete_history", FENCE_AT_TARGET),
    ];
    assert_promises_kept(&Server(AtomicUsize::new(0)), &left_out).await;
}
