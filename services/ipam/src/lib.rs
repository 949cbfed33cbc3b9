//! The addresses of what is deleted: a consumer.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | pins the leases and reservations that are the resource's own; in a sandbox firewall rules and VM id, too |
//! | `release` | releases them, if they still are: lease first, then reservation; the address rests ([`quarantine`]) |
//!
//! The platform registers `{"mac": "52:54:00:12:34:56", "addresses": ["192.0.2.10"], "subnet": 1}`. A lease or a
//! reservation is the resource's own if it joins this MAC and one of these addresses; the pair is the identity.
//! An address that goes with another MAC by now belongs to somebody else.
//!
//! A resource that has no address is registered with `{"none": true}`. Without a statement an inspection is refused:
//! nothing would be found, and addresses would stay held that are called free.
//!
//! Two drivers: [`kea`] talks to a Kea DHCPv4 server by its control agent, [`sandbox`] keeps JSON files in a
//! folder.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::{Driver, Obstacle, StepContext};
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

pub mod address;
pub mod kea;
pub mod quarantine;
pub mod sandbox;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/ipam.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("ipam.toml", ACTIONS).expect("the delivered ipam.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// A Kea DHCPv4 server behind its control agent.
    Kea(kea::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Kea(config) => config.password_file.iter_mut().chain([&mut config.lock_file]).collect(),
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
        DriverConfig::Sandbox(config) => Arc::new(sandbox::SandboxIpam::new(&config)),
        DriverConfig::Kea(config) => Arc::new(kea::Kea::new(config)?),
    })
}

/// The one action that changes something; anything else is refused.
fn only_release(step: &StepContext) -> Result<(), Obstacle> {
    if step.action.as_str() == "release" {
        return Ok(());
    }
    Err(Obstacle::Refuse(format!(
        "{}: ipam.{} cannot be performed; ipam.release can",
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
        assert_eq!(actions.subsystem.as_str(), "ipam");
        let names: Vec<_> = actions.actions.keys().map(|n| n.as_str()).collect();
        assert_eq!(names, ["inspect", "release"]);
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let text = "driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"ipam.main\"";
        let error = toml::from_str::<DriverConfig>(text).unwrap_err();
        assert!(error.to_string().contains("isntance"), "{error}");
        // Without it two copies would undo each other's changes.
        let error = toml::from_str::<DriverConfig>("driver = \"kea\"\nurl = \"http://x/\"").unwrap_err();
        assert!(error.to_string().contains("lock_file"), "{error}");
        // An address that does not rest would be given out at once.
        for days in [0, 366] {
            let text = format!(
                "driver = \"sandbox\"\nroot = \"/x\"\ninstance = \"ipam.main\"\nquarantine_days = {days}"
            );
            let error = toml::from_str::<DriverConfig>(&text).unwrap_err();
            assert!(error.to_string().contains("quarantine_days: expected 1 to 365 days"), "{error}");
        }
    }
}
