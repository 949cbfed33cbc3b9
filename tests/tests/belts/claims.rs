//! What one resource has to itself by what it states: an address is not taken from whoever uses it by stating it, too.
use serde_json::json;
use sexton_ledger::{Limits, NewDeletion, NotDone};
use sexton_model::DeletionId;
use sexton_model::belts::Policy;
use sexton_model::claims::{Claimable, Contested};
use sexton_model::deletion::{Due, RecordStatus};

use super::gate::Point;
use super::system::{System, U1, on_many_machines, ops, until, web01};

on_many_machines! {
    nobody_has_anothers_address_removed_by_stating_it,
    an_address_is_nobody_elses_while_its_machine_is_being_deleted,
}

const ADDRESS: &str = "192.0.2.10:9100";
const OTHER: &str = "vm/other";

/// An address that is probed is one machine's alone.
async fn start() -> System {
    let mut claimable = Claimable::default();
    claimable.add("monitoring".parse().unwrap(), vec![vec!["address".to_owned()]]);
    let policy = Policy { windows: None, claimable, ..Policy::default() };
    System::start_within(Limits::default(), policy, &[]).await
}

impl System {
    async fn state_address(&self, id: &str, scope: &str, address: &str) -> Result<(), NotDone> {
        let stated = json!({
            "id": id, "scope": scope, "identity": { "uuid": U1 }, "criticality": "reproducible",
            "rebuilt": self.rebuilt().await, "attributes": { "monitoring": { "address": address } },
        });
        let resource = serde_json::from_value(stated).unwrap();
        self.ledger.register(vec![resource], &ops(), false).await.unwrap().remove(0)
    }

    async fn try_to_delete(&self, id: &str) -> Result<DeletionId, NotDone> {
        let now = self.ledger.facts().await.unwrap().now;
        let new = NewDeletion {
            resource: id.parse().unwrap(),
            due: Due { date: now.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(now) },
            gone_by: None,
            by: ops(),
            reason: "no longer needed".into(),
            plan: self.plan.clone(),
        };
        self.ledger.create(vec![new]).await.unwrap().remove(0)
    }
}

/// Somebody limited to its own scope registers its own machine with another's address, and wants it deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_anothers_address_removed_by_stating_it() {
    let system = start().await;
    let web01 = web01().to_string();
    system.state_address(&web01, "tenants/acme", ADDRESS).await.unwrap();
    system.state_address(OTHER, "tenants/other", ADDRESS).await.unwrap();
    let before = system.world();
    for id in [OTHER, web01.as_str()] {
        let refused = system.try_to_delete(id).await;
        assert!(matches!(refused, Err(NotDone::Contested(Contested::Shared(_)))), "{refused:?}");
    }
    system.two_beacons().await;
    assert_eq!(system.world(), before);
    // Once each states what is its own, both go.
    system.state_address(OTHER, "tenants/other", "192.0.2.11:9100").await.unwrap();
    system.try_to_delete(OTHER).await.unwrap();
    let id = system.try_to_delete(&web01).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// A rebuilt machine takes over an address when what used it is gone, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_nobody_elses_while_its_machine_is_being_deleted() {
    let system = start().await;
    let web01 = web01().to_string();
    system.state_address(&web01, "tenants/acme", ADDRESS).await.unwrap();
    system.monitoring.close("remove_target", Point::Look);
    let id = system.try_to_delete(&web01).await.unwrap();
    system.monitoring.reached().await;
    let leaving = async |what: &str| {
        let refused = system.state_address(OTHER, "tenants/acme", ADDRESS).await;
        assert!(matches!(refused, Err(NotDone::Contested(Contested::Leaving(_)))), "{what}: {refused:?}");
    };
    leaving("it is taken apart").await;
    // What it states from now on changes nothing of what its record goes by.
    system.state_address(&web01, "tenants/acme", "192.0.2.12:9100").await.unwrap();
    leaving("its record has a copy of what was stated").await;
    system.monitoring.open();
    system.until_over(id, RecordStatus::Recycled).await;
    until("the address is free", async || system.state_address(OTHER, "tenants/acme", ADDRESS).await.is_ok())
        .await;
}
