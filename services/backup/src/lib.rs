//! Backups of what is deleted: a consumer.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | pins the repository's id, the exact snapshot ids of the resource, and its schedule; waits while a backup of it runs |
//! | `final` | makes one last backup; its id joins the targets |
//! | `remove_schedule` | removes the schedule, if it is still this resource's |
//! | `delete_archives` | deletes the pinned snapshots and their data, and no others |
//!
//! Identity is the attribute `uuid`: a snapshot carries it as the tag `uuid=…`, a schedule as its `uuid`.
//! Names say nothing: two machines may have been called `web01`. The proof of place is the repository's id.
//!
//! A resource that has no snapshot and no schedule is refused at announce (somebody may look at the wrong
//! instance), unless the platform registers it with the attribute `none = true`.
//!
//! An archive that its store keeps until a date is refused with that date, where the driver can see it (the sandbox can).
//!
//! Two drivers: [`restic`] calls the program of that name, [`sandbox`] keeps JSON files in a folder.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

mod action;
pub mod restic;
pub mod sandbox;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/backup.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("backup.toml", ACTIONS).expect("the delivered backup.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// A restic repository.
    Restic(restic::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Restic(config) => {
                let always = [&mut config.password_file, &mut config.schedules_dir];
                always.into_iter().chain(&mut config.cache_dir).collect()
            }
        }
    }

    fn programs(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(_) => Vec::new(),
            Self::Restic(config) => vec![&mut config.program],
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
        DriverConfig::Sandbox(config) => Arc::new(sandbox::SandboxBackup::new(&config)),
        DriverConfig::Restic(config) => Arc::new(restic::Restic::new(config)?),
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
        assert_eq!(actions.subsystem.as_str(), "backup");
        for name in actions.actions.keys() {
            Action::of(name).unwrap();
        }
        assert_eq!(actions.actions.len(), Action::ALL.len());
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let error =
            toml::from_str::<DriverConfig>("driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"backup.main\"")
                .unwrap_err();
        assert!(error.to_string().contains("isntance"), "{error}");
    }
}
