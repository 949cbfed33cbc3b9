//! Announcements: a consumer that tells people what will be deleted, and that it will not be after all.
//!
//! An announcement is known by a UID that follows from its deletion's resource and identity, so that a repeat
//! is recognised. What was sent cannot be unsent: an undo sends a retraction under the same UID.
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;

pub mod sandbox;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/notifier.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("notifier.toml", ACTIONS).expect("the delivered notifier.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
}

/// The driver that `config` asks for.
///
/// # Errors
/// If the configuration contradicts itself. Nothing is connected yet.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(match config {
        DriverConfig::Sandbox(config) => Arc::new(sandbox::SandboxNotifier::new(&config)),
    })
}

/// What reaches `instance`, as its part of the configuration says.
///
/// # Errors
/// Naming the key that is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    Ok((actions(), driver(config.part("consumers", &instance.to_string())?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivered_actions_are_the_ones_the_drivers_know() {
        let actions = actions();
        assert_eq!(actions.subsystem.as_str(), "notifier");
        let names: Vec<_> = actions.actions.keys().map(|n| n.as_str()).collect();
        assert_eq!(names, ["announce", "inspect"]);
    }
}
