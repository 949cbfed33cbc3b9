//! Memberships: two clusters, and what reaches the machines. Their keys lie there, and their plan is the delivered one.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sexton_coordinator::Plans;
use sexton_hook::sandbox::Config;
use sexton_model::plan::Plan;
use sexton_model::resource::Identity;
use sexton_model::{Instance, Kind, ResourceId};

use super::System;
use crate::gate::Gate;

const PLAN: &str = include_str!("../../../../deploy/plans/membership.toml");

pub fn kind() -> Kind {
    "membership".parse().unwrap()
}

/// This cluster, `a` or `b`.
pub fn cluster(name: &str) -> Instance {
    format!("cluster.{name}").parse().unwrap()
}

/// What reaches the machines.
pub fn machines() -> Instance {
    "machine.main".parse().unwrap()
}

pub fn instances() -> [Instance; 3] {
    [cluster("a"), cluster("b"), machines()]
}

pub fn plan() -> Arc<Plan> {
    let plans = Plans::of(&sexton_hook::ACTIONS, &[("membership.toml", PLAN)], true).unwrap();
    plans.of_kind(&kind()).unwrap().clone()
}

/// The sandboxes below `root` of all of them, each behind a gate; none where another plan is gone by.
pub fn gates(root: &Path, plan: &Plan) -> BTreeMap<Instance, Arc<Gate>> {
    if plan.kind != kind() {
        return BTreeMap::new();
    }
    let gate = |instance: Instance| {
        let config = Config { root: root.to_owned(), instance: instance.clone(), actions: None };
        let driver = sexton_hook::driver(sexton_hook::DriverConfig::Sandbox(config)).unwrap();
        (instance, Gate::new(driver))
    };
    instances().map(gate).into()
}

impl System {
    /// The gate of a cluster, or of what reaches the machines.
    pub fn keys_at(&self, instance: &Instance) -> &Arc<Gate> {
        &self.keys[instance]
    }

    /// A key of this membership is there.
    pub fn make_key(&self, instance: &Instance, id: &ResourceId, identity: &Identity) {
        sexton_hook::sandbox::create(self.folder(), instance, id, identity).unwrap();
    }

    /// Somebody takes it away, past everything.
    pub fn revoke_by_hand(&self, instance: &Instance, id: &ResourceId) {
        let place = self.folder().join(instance.subsystem.as_str()).join(instance.name.as_str());
        std::fs::remove_file(place.join("objects").join(format!("{}.json", id.name.as_str()))).unwrap();
    }

    /// Whether there is one.
    pub fn has_key(&self, instance: &Instance, id: &ResourceId) -> bool {
        !sexton_hook::sandbox::describe(self.folder(), instance, id).unwrap()["object"].is_null()
    }
}
