//! The consumer kit against the real server: each world is a VM of its own.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{CannotBe, FENCE_AT_TARGET, Fixture, Template, World, assert_promises_kept};

use super::agent::Answer;
use super::real::{TURN, Vm, config, mac, other_name_of, resource, vm};
use super::*;

/// Hosts from 130 on are the kit's.
struct Server(AtomicU8);

#[async_trait]
impl Fixture for Server {
    fn instance(&self) -> Instance {
        "ipam.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        crate::actions()
    }

    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        let host = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(host < 200, "the kit has more cases than this server has addresses for");
        let vm = vm(host).await;
        vm.reserve(&[(vm.address, vm.mac)]).await;
        vm.lease(vm.mac).await;
        Box::new(vm)
    }
}

#[async_trait]
impl World for Vm {
    fn driver(&self) -> Arc<dyn Driver> {
        let mut config = config();
        if self.asked_elsewhere.load(Ordering::Relaxed) {
            config.url = other_name_of(&self.kea.agent.url);
        }
        Arc::new(Kea::new(config).unwrap())
    }

    fn template(&self) -> Template {
        Template {
            resource: resource(),
            identity: identity("u1"),
            attributes: json!({ "mac": self.mac, "addresses": [self.address], "subnet": 1 }),
            targets: None,
            params: BTreeMap::new(),
        }
    }

    /// Each holder is `own` or another, so that worlds of different VMs compare. An address that rests has none.
    async fn snapshot(&self) -> Value {
        let lease = self.kea.agent.lease(self.budget(), self.address).await.unwrap();
        let lease = lease
            .filter(|l| l.rests.is_none())
            .map(|l| if l.mac == Some(self.mac) { "own" } else { "other" });
        let reservation = match self.reserved(self.address, self.mac).await {
            Reserved::Nobody => None,
            Reserved::Ours(_) => Some("own"),
            Reserved::Other(_) => Some("other"),
        };
        json!({ "lease": lease, "reservation": reservation })
    }

    async fn other_identity(&self) {
        self.reserve(&[(self.address, mac(250))]).await;
        self.lease(mac(250)).await;
    }

    async fn make_absent(&self) {
        let body = json!({ "ip-address": self.address });
        assert!(matches!(self.command("lease4-del", body).await, Answer::Success(_)));
        self.unreserve().await;
    }

    /// Another agent, which knows the subnet and not the address.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.make_absent().await;
        self.asked_elsewhere.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(CannotBe("nothing compares what a lease or a reservation holds in the call that deletes it"))
    }
}

#[tokio::test]
async fn the_kea_driver_keeps_every_promise() {
    let _turn = TURN.lock().await;
    let left_out = [("release", FENCE_AT_TARGET)];
    assert_promises_kept(&Server(AtomicU8::new(130)), &left_out).await;
}
