//! The DNS records of what is deleted: a consumer.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | pins the exact records that are the resource's own |
//! | `remove` | removes the pinned records, if they still say what was pinned |
//!
//! The platform registers `{"names": ["web01.lab.test"], "addresses": ["192.0.2.10"]}`. Records of the resource
//! are those of type A and AAAA at its names that hold one of its addresses, and those of type PTR at its
//! addresses that hold one of its names; nothing else is ever touched. The pinned data are the identity: a name
//! that says something else by now belongs to somebody else.
//!
//! A resource that has no records is registered with `{"none": true}`. Without a statement an inspection is refused:
//! nothing would be found, and records would be left behind that are called gone.
//!
//! Two drivers: [`rfc2136`] talks to an authoritative server by signed queries and updates, [`sandbox`] keeps
//! JSON files in a folder.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::{Driver, Obstacle, StepContext};
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

pub mod record;
pub mod rfc2136;
pub mod sandbox;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/dns.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("dns.toml", ACTIONS).expect("the delivered dns.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// An authoritative server that takes RFC 2136 updates, such as BIND or Knot.
    Rfc2136(rfc2136::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Rfc2136(config) => config.key_secret_file.iter_mut().collect(),
        }
    }
}

/// The driver that `config` asks for.
///
/// # Errors
/// If the configuration contradicts itself. Nothing is connected yet: a server that is down is found out, and
/// reported, by the first order.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(match config {
        DriverConfig::Sandbox(config) => Arc::new(sandbox::SandboxDns::new(&config)),
        DriverConfig::Rfc2136(config) => Arc::new(rfc2136::Rfc2136::new(&config)?),
    })
}

/// The one action that changes something; anything else is refused.
fn only_remove(step: &StepContext) -> Result<(), Obstacle> {
    if step.action.as_str() == "remove" {
        return Ok(());
    }
    Err(Obstacle::Refuse(format!(
        "{}: dns.{} cannot be performed; dns.remove can",
        step.resource, step.action
    )))
}

/// What reaches `instance`, as its part of the configuration says.
///
/// # Errors
/// Naming the key that is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    Ok((actions(), driver(config.consumer(&instance.to_string())?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivered_actions_are_the_ones_the_drivers_know() {
        let actions = actions();
        assert_eq!(actions.subsystem.as_str(), "dns");
        let names: Vec<_> = actions.actions.keys().map(|n| n.as_str()).collect();
        assert_eq!(names, ["inspect", "remove"]);
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let text = "driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"dns.main\"";
        let error = toml::from_str::<DriverConfig>(text).unwrap_err();
        assert!(error.to_string().contains("isntance"), "{error}");
    }
}
