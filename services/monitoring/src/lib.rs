//! Monitoring of what is deleted: a consumer.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | pins the resource's monitoring target |
//! | `silence` | marks the target as silenced; an undo restores it exactly |
//! | `remove_target` | removes the target, if it is still this resource's |
//! | `delete_history` | deletes everything that was measured of the resource, once nobody probes it any more |
//!
//! Identity is the attribute `uuid`, which is a label of the target and so of everything measured of it.
//!
//! A resource that has no target is refused at announce (somebody may look at the wrong
//! instance), unless the platform registers it with the attribute `none = true`.
//!
//! Two drivers: [`prometheus`] keeps the target files of a Prometheus server and talks to its HTTP API,
//! [`sandbox`] keeps JSON files in a folder.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

mod action;
pub mod prometheus;
pub mod sandbox;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/monitoring.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("monitoring.toml", ACTIONS).expect("the delivered monitoring.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// A Prometheus server with target files.
    Prometheus(prometheus::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Prometheus(config) => {
                [&mut config.targets_dir].into_iter().chain(&mut config.authorization_file).collect()
            }
        }
    }
}

/// The driver that `config` asks for.
///
/// # Errors
/// If the configuration contradicts itself. Nothing is connected yet: a subsystem that is down is found out,
/// and reported, by the first order.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(match config {
        DriverConfig::Sandbox(config) => Arc::new(sandbox::SandboxMonitoring::new(&config)),
        DriverConfig::Prometheus(config) => Arc::new(prometheus::Prometheus::new(config)?),
    })
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
    use crate::action::Action;

    #[test]
    fn the_delivered_actions_are_the_ones_the_drivers_know() {
        let actions = actions();
        assert_eq!(actions.subsystem.as_str(), "monitoring");
        for name in actions.actions.keys() {
            Action::of(name).unwrap();
        }
        assert_eq!(actions.actions.len(), Action::ALL.len());
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let error = toml::from_str::<DriverConfig>(
            "driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"monitoring.main\"",
        )
        .unwrap_err();
        assert!(error.to_string().contains("isntance"), "{error}");
    }
}
