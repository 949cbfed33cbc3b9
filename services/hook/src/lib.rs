//! Subsystems that are reached by a few HTTP requests or commands, described in a file: a consumer.
//!
//! No code is written for such a subsystem. Two files describe it: its actions (as every subsystem's, under
//! `deploy/subsystems`), and for each action what to send and how to read the answer (under `deploy/hooks`,
//! see [`definition`]). Delivered are `accounting`, `config`, and `cluster` and `machine` (the keys of a membership), as
//! examples to adapt.
//!
//! A resource without an object is refused at announce (somebody may look at the wrong instance), unless the
//! platform registers it with the attribute `none = true`.
//!
//! Two drivers: [`hook`] does what its definition says, [`sandbox`] keeps JSON files in a folder.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::Subsystem;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

mod answer;
pub mod definition;
pub mod hook;
pub mod sandbox;
mod send;
pub mod template;

/// The delivered files of actions: name, text.
pub const ACTIONS: [(&str, &str); 4] = [
    ("accounting.toml", include_str!("../../../deploy/subsystems/accounting.toml")),
    ("cluster.toml", include_str!("../../../deploy/subsystems/cluster.toml")),
    ("config.toml", include_str!("../../../deploy/subsystems/config.toml")),
    ("machine.toml", include_str!("../../../deploy/subsystems/machine.toml")),
];

/// What the actions of the hooked subsystem that `file` describes may do.
///
/// # Errors
/// If the file cannot be read, or describes no subsystem.
pub fn actions(file: &Path) -> anyhow::Result<SubsystemActions> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading the actions in {}", file.display()))?;
    Ok(SubsystemActions::parse(&file.display().to_string(), &text)?)
}

/// The delivered actions of `subsystem`; `None` for any but `accounting`, `cluster`, `config` and `machine`.
pub fn delivered_actions(subsystem: &Subsystem) -> Option<SubsystemActions> {
    ACTIONS
        .into_iter()
        .filter_map(|(file, text)| SubsystemActions::parse(file, text).ok())
        .find(|actions| actions.subsystem == *subsystem)
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// Requests and commands, as a definition file says.
    Hook(hook::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => [&mut config.root].into_iter().chain(&mut config.actions).collect(),
            Self::Hook(config) => {
                let files = config.actions.iter_mut().chain(config.secret_headers.values_mut());
                files.chain([&mut config.definition]).collect()
            }
        }
    }
}

/// The driver that `config` asks for.
///
/// # Errors
/// If a file cannot be read or contradicts itself or the other. Nothing is connected yet: a subsystem that is
/// down is found out, and reported, by the first order.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    match config {
        DriverConfig::Sandbox(config) => {
            let actions = actions_for(config.actions.as_deref(), &config.instance.subsystem)?;
            Ok(Arc::new(sandbox::SandboxHook::new(&config, &actions)))
        }
        DriverConfig::Hook(config) => {
            let actions = actions_for(config.actions.as_deref(), &config.subsystem)?;
            Ok(Arc::new(hook::Hook::new(config, actions)?))
        }
    }
}

/// The actions in `file`, or the delivered ones of `subsystem`.
fn actions_for(file: Option<&Path>, subsystem: &Subsystem) -> anyhow::Result<SubsystemActions> {
    let Some(file) = file else {
        return delivered_actions(subsystem)
            .with_context(|| {
                format!(
                    "actions is missing: nobody knows the subsystem {subsystem}; if its name is right, name the file of \
                     its actions"
                )
            });
    };
    let found = actions(file)?;
    anyhow::ensure!(
        found.subsystem == *subsystem,
        "{}: describes {}, expected {subsystem}",
        file.display(),
        found.subsystem
    );
    Ok(found)
}

/// What reaches `instance`, as its part of the configuration says; its actions are the delivered ones, or
/// those in the file that the part names.
///
/// # Errors
/// Naming the key that is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    let part: DriverConfig = config.consumer(&instance.to_string())?;
    let file = match &part {
        DriverConfig::Sandbox(part) => part.actions.clone(),
        DriverConfig::Hook(part) => {
            // Otherwise actions of the one subsystem would be carried out in the other, wherever they are called alike.
            anyhow::ensure!(
                part.subsystem == instance.subsystem,
                "subsystem = \"{}\": expected \"{}\", as in the heading",
                part.subsystem,
                instance.subsystem
            );
            part.actions.clone()
        }
    };
    let actions = actions_for(file.as_deref(), &instance.subsystem)?;
    Ok((actions, driver(part)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivered_actions_are_well_formed() {
        for name in ["accounting", "cluster", "config", "machine"] {
            assert_eq!(delivered_actions(&name.parse().unwrap()).unwrap().subsystem.as_str(), name);
        }
        assert!(delivered_actions(&"dns".parse().unwrap()).is_none());
    }

    #[test]
    fn a_hook_of_another_subsystem_than_its_instance_is_refused() {
        let of = |subsystem: &str| {
            let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks");
            let definition = hooks.join(format!("{subsystem}.toml"));
            let text = format!(
                "[consumers.\"accounting.main\"]\ndriver = \"hook\"\nsubsystem = \"{subsystem}\"\n\
                 definition = {definition:?}\nbase_url = \"http://127.0.0.1:9\"\nplace = \"lab\"\n"
            );
            let config = Config::parse(Path::new("/etc/sexton/sexton.toml"), &text, &["consumers"]).unwrap();
            build(&"accounting.main".parse().unwrap(), &config)
        };
        assert_eq!(of("accounting").unwrap().0.subsystem.as_str(), "accounting");
        let error = of("config").err().unwrap().to_string();
        assert_eq!(error, "subsystem = \"config\": expected \"accounting\", as in the heading");
    }
}
