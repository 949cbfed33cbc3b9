//! The consumer kit against the real server: each world is a VM of its own.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept};

use super::real::{Vm, config, door_to, resource, vm};
use super::*;
use crate::record::RecordKind;

/// Hosts from 130 on are the kit's.
struct Server(AtomicU8);

#[async_trait]
impl Fixture for Server {
    fn instance(&self) -> Instance {
        "dns.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        crate::actions()
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        let host = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(host < 250, "the kit has more cases than this server has addresses for");
        Box::new(vm(&format!("kit-{host}"), host).await)
    }
}

#[async_trait]
impl World for Vm {
    fn driver(&self) -> Arc<dyn Driver> {
        let mut config = config();
        config.server = self.asked_at.get().copied().unwrap_or(config.server);
        Arc::new(Rfc2136::new(&config).unwrap())
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: json!({ "names": [self.name], "addresses": [self.address] }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    /// Each datum is `own` or another's, so that worlds of different VMs compare.
    async fn snapshot(&self) -> Value {
        let own = |data: Vec<String>, own: &str| -> Vec<String> {
            data.into_iter().map(|d| if d == own { "own".to_owned() } else { "other".to_owned() }).collect()
        };
        let a = own(self.get(&self.name, RecordKind::A).await, &self.address);
        let ptr = own(self.get(&self.reverse, RecordKind::Ptr).await, &self.name);
        json!({ "a": a, "ptr": ptr })
    }

    async fn other_identity(&self) {
        self.set(&self.name, RecordKind::A, &["192.0.2.250"]).await;
        self.set(&self.reverse, RecordKind::Ptr, &["somebody-else.lab.test."]).await;
    }

    async fn make_absent(&self) {
        self.set(&self.name, RecordKind::A, &[]).await;
        self.set(&self.reverse, RecordKind::Ptr, &[]).await;
    }

    /// Another address, with the same zones, in which the records are not.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.make_absent().await;
        self.asked_at.set(door_to(self.dns.server).await).unwrap();
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(CannotBe("a record holds its data and nothing else"))
    }
}

#[tokio::test]
async fn the_rfc2136_driver_keeps_every_promise() {
    let left_out = [("remove", FENCE_AT_TARGET)];
    assert_promises_kept(&Server(AtomicU8::new(130)), &left_out).await;
}
