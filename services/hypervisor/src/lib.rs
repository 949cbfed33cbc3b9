//! Virtual machines on a host: a consumer.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | compares the UUID; pins the place, the definition, the volumes and their snapshots; refuses while others use one of these (a clone, another machine, an open file) |
//! | `stop` | autostart, start at boot and high availability off, then off by ACPI or by force; its undo restores all of it |
//! | `check_off` | refuses to go on while any process runs the machine, something would start it, or it is not defined here any more |
//! | `undefine` | removes the definition of a machine that is off |
//! | `delete_volumes` | deletes the pinned volumes, and no others |
//! | `inspect_image` | compares what makes an image this one; pins its volume and the place; refuses while anybody uses it (a machine, a disk that builds on it, an open file) |
//! | `check_unused` | refuses to go on while anybody uses the image |
//! | `delete_image` | deletes the pinned image, unless anybody uses it |
//!
//! And a census: all machines that are defined here, page after page, each with its UUID.
//!
//! Identity is the attribute `uuid`; of an image, which is a volume that machines are made from, it is `file`, as `inspect_image`
//! shows it. A process is known by its id *and* its start time *and* what its command
//! line says, and is signalled through a process descriptor: an id that the system gave to another process in
//! the meantime can never be hit.
//!
//! What the actions decide is written once, in `actions`, over the trait [`machine::Host`]; a host only reads
//! and does. Two hosts: [`qemu`] runs QEMU and speaks QMP, [`sandbox`] keeps JSON files in a folder and runs a
//! sleeping process for each machine that is on.
//!
//! # One instance is one host
//! A driver sees its own host only. So "gone" counts only after `check_off` has seen the machine here, stopped: one
//! that was moved to another host in the meantime is refused, since its address must not be given away while it
//! runs there. Whoever moves machines about, by hand or by an agent, must do so before their deletion begins, or
//! wait for a driver that asks all hosts.
//!
//! # What fences cannot stop here
//! The fence is kept in the machine's definition and read again, under the machine's lock, before each call
//! that changes something. Volumes have no place for it: a `delete_volumes` that slept through its lease is
//! stopped by its deadline and its permit alone, and so is a `delete_image`. That is enough, since nothing is given back after a
//! purge. Whoever begins to use an image between the last look at it and its deletion is not noticed by anybody.
//! Processes in another PID namespace are not seen; run the consumer in the host's.
//!
//! # What the consumer starts
//! A machine that a restore starts leaves the consumer's session, not its control group: a supervisor that ends the
//! whole group with the consumer ends these machines, too. Under systemd the unit needs `KillMode=process`.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

mod actions;
mod ask;
mod driver;
mod image;
pub mod machine;
pub mod process;
pub mod qemu;
pub mod sandbox;

pub use driver::Hypervisor;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/hypervisor.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("hypervisor.toml", ACTIONS).expect("the delivered hypervisor.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder, and a sleeping process for each machine that is on.
    Sandbox(sandbox::Config),
    /// QEMU on this host.
    Qemu(qemu::Config),
}

impl DriverPart for DriverConfig {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Qemu(config) => vec![&mut config.root],
        }
    }

    fn programs(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(_) => Vec::new(),
            Self::Qemu(config) => vec![&mut config.qemu_system, &mut config.qemu_img],
        }
    }
}

/// The driver that `config` asks for.
///
/// # Errors
/// If the configuration contradicts itself. The place is not looked at yet: one that is missing is found out,
/// and reported, by the first order.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(match config {
        DriverConfig::Sandbox(config) => Arc::new(Hypervisor::new(sandbox::SandboxHost::new(&config))),
        DriverConfig::Qemu(config) => Arc::new(Hypervisor::new(qemu::QemuHost::new(config)?)),
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
    use crate::actions::Action;

    #[test]
    fn the_delivered_actions_are_the_ones_the_driver_knows() {
        let actions = actions();
        assert_eq!(actions.subsystem.as_str(), "hypervisor");
        for name in actions.actions.keys() {
            Action::of(name).unwrap();
        }
        assert_eq!(actions.actions.len(), Action::ALL.len());
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        for (text, mistake) in [
            ("driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"hypervisor.main\"", "isntance"),
            ("driver = \"qemu\"\nroot = \"/x\"\nacpi_wait = 3", "acpi_wait"),
            ("driver = \"kvm\"", "kvm"),
        ] {
            let error = toml::from_str::<DriverConfig>(text).unwrap_err();
            assert!(error.to_string().contains(mistake), "{error}");
        }
    }
}
