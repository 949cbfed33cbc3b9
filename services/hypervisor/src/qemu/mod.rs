//! QEMU on this host.
//!
//! | place | what |
//! | --- | --- |
//! | `ROOT/host.json`, `ROOT/vms/.place`, `ROOT/volumes/.place` | `{"host": UUID}`: which place this is |
//! | `ROOT/vms/NAME/domain.json` | the definition of a machine |
//! | `ROOT/vms/NAME/qmp`, `pid` | while it runs: the monitor's socket and the process id |
//! | `ROOT/volumes/*.qcow2`, `*.raw` | volumes, with their snapshots inside |
//! | `ROOT/locks/NAME` | held while a machine is being changed; the files stay |
//!
//! A machine is its UUID: in its definition, on the command line of the process that runs it, and in its
//! monitor's answer. Whether it runs is seen in `/proc`, by the command lines of all processes: so a process that
//! somebody started elsewhere counts as well. A root, or a folder in it, that is missing, empty or another one is
//! never "absent": each has a mark of its own, see [`create`].
mod button;
mod definition;
mod image;
mod place;
mod power;
mod program;
mod qmp;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use sexton_consumer::driver::{Obstacle, Place};
use tokio::time::Instant;
use uuid::Uuid;

use crate::machine::{Domain, Flags, Host, Lock, MayChange, Owner, Patience, Running, Volume};
use crate::process::{self, Process};
use definition::Definitions;
use volume::Volumes;

/// Where the machines are, and the programs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of machines and volumes, as an absolute path.
    pub root: PathBuf,
    /// The emulator.
    #[serde(default = "default_qemu_system")]
    pub qemu_system: PathBuf,
    /// The program that describes volumes.
    #[serde(default = "default_qemu_img")]
    pub qemu_img: PathBuf,
    /// What runs the guests: `tcg`, `kvm`, or `kvm:tcg`.
    #[serde(default = "default_accelerator")]
    pub accelerator: String,
}

fn default_qemu_system() -> PathBuf {
    "qemu-system-x86_64".into()
}

fn default_qemu_img() -> PathBuf {
    "qemu-img".into()
}

fn default_accelerator() -> String {
    "kvm:tcg".into()
}

/// The host.
#[derive(Debug, Clone)]
pub struct QemuHost {
    root: PathBuf,
    definitions: Definitions,
    volumes: Volumes,
    qemu_system: PathBuf,
    accelerator: String,
}

/// Make the folders of a host, and write into each that it is the one of `host`.
///
/// # Errors
/// If the file system refuses.
pub fn create(root: &Path, host: Uuid) -> std::io::Result<()> {
    place::create(root, host)
}

/// Write the definition of a machine, as [`self`] describes it.
///
/// # Errors
/// If the file system refuses.
pub fn define(root: &Path, name: &str, definition: &Map<String, Value>) -> std::io::Result<()> {
    let folder = root.join("vms").join(name);
    std::fs::create_dir_all(&folder)?;
    definition::write_whole(&folder.join("domain.json"), definition)
}

impl QemuHost {
    /// The host that `config` describes. Its root is not looked at yet.
    ///
    /// # Errors
    /// If the root is no absolute path, or the accelerator is none.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(config.root.is_absolute(), "root: expected an absolute path");
        anyhow::ensure!(
            config.accelerator.split(':').all(|a| matches!(a, "tcg" | "kvm")),
            "accelerator: expected tcg, kvm or kvm:tcg"
        );
        Ok(Self {
            definitions: Definitions::at(&config.root),
            volumes: Volumes::at(&config.root, &config.qemu_img),
            root: config.root,
            qemu_system: config.qemu_system,
            accelerator: config.accelerator,
        })
    }

    fn place_now(&self) -> Result<Place, Obstacle> {
        place::read(&self.root)
    }

    async fn running_now(&self, name: &str, uuid: Uuid) -> Result<Option<Running>, Obstacle> {
        self.place_now()?;
        let folder = self.definitions.folder_of(name);
        let wanted = match self.definitions.read(name)? {
            Some((_, definition)) => {
                Some(power::arguments(name, &definition, &folder, &self.volumes, &self.accelerator)?)
            }
            None => None,
        };
        let monitor = power::monitor_argument(&folder);
        let pid_file = power::pid_file(&folder);
        let looked = tokio::task::spawn_blocking(move || find(&pid_file, uuid)).await;
        let found = looked
            .map_err(|e| Obstacle::Unclear(format!("listing processes: {e}")))?
            .map_err(|e| Obstacle::Unclear(format!("listing processes: {e}")))?;
        Ok(found.map(|(process, arguments)| {
            if wanted.is_some_and(|wanted| arguments.get(1..) == Some(wanted.as_slice())) {
                Running::Own(process)
            } else if arguments.contains(&monitor) {
                Running::Changed(process)
            } else {
                Running::Foreign(process)
            }
        }))
    }
}

/// The process that runs a UUID: the one whose id is written down, or any other.
fn find(pid_file: &Path, uuid: Uuid) -> std::io::Result<Option<(Process, Vec<String>)>> {
    let written = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(process) = written.map(Process::of).transpose()?.flatten()
        && let Some(arguments) = process.command_line()?
        && power::runs(&arguments, uuid)
    {
        return Ok(Some((process, arguments)));
    }
    Ok(process::all()?.into_iter().find(|(_, arguments)| power::runs(arguments, uuid)))
}

#[async_trait]
impl Host for QemuHost {
    async fn lock(&self, name: &str) -> Result<Lock, Obstacle> {
        self.place_now()?;
        Lock::take(&self.root.join("locks"), name)
    }

    async fn place(&self) -> Result<Place, Obstacle> {
        self.place_now()
    }

    async fn domain(&self, name: &str) -> Result<Option<Domain>, Obstacle> {
        self.place_now()?;
        let read = self.definitions.read(name)?;
        Ok(read.map(|(whole, definition)| definition::domain(name, whole, definition)))
    }

    async fn names(&self) -> Result<Vec<String>, Obstacle> {
        self.place_now()?;
        self.definitions.names()
    }

    async fn count(&self) -> Result<usize, Obstacle> {
        self.place_now()?;
        self.definitions.count()
    }

    async fn defined_as(&self, uuid: Uuid) -> Result<Option<String>, Obstacle> {
        self.place_now()?;
        for name in self.definitions.all_names()? {
            if self.definitions.read(&name)?.is_some_and(|(_, definition)| definition.uuid == uuid) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    async fn running(&self, name: &str, uuid: Uuid) -> Result<Option<Running>, Obstacle> {
        self.running_now(name, uuid).await
    }

    async fn set_flags(&self, domain: &Domain, flags: Flags, may: MayChange<'_>) -> Result<(), Obstacle> {
        self.place_now()?;
        self.definitions.set_flags(&domain.name, domain.uuid, flags, may()?)
    }

    async fn start(&self, domain: &Domain, may: MayChange<'_>, ends: Instant) -> Result<Process, Obstacle> {
        self.power_on(domain, may, ends).await
    }

    async fn halt(
        &self,
        domain: &Domain,
        process: Process,
        may: MayChange<'_>,
        patience: Patience,
    ) -> Result<String, Obstacle> {
        self.power_off(domain, process, may, patience).await
    }

    async fn undefine(&self, name: &str, uuid: Uuid, may: MayChange<'_>) -> Result<(), Obstacle> {
        self.place_now()?;
        self.definitions.remove(name, uuid, may()?)
    }

    async fn volume(&self, path: &str, in_use: bool) -> Result<Option<Volume>, Obstacle> {
        self.place_now()?;
        self.volumes.read(path, in_use).await
    }

    async fn volume_user(
        &self,
        volume: &Volume,
        but: Option<Owner<'_>>,
        ends: Instant,
    ) -> Result<Option<String>, Obstacle> {
        self.place_now()?;
        let mut disks = BTreeMap::new();
        for name in self.definitions.all_names()? {
            let Some((_, definition)) = self.definitions.read(&name)? else { continue };
            let other = but.is_none_or(|owner| owner.name != name);
            if let Some(as_what) = definition.uses(&volume.path).filter(|_| other) {
                return Ok(Some(format!("it is {as_what} {name}")));
            }
            let files = definition.disks.into_iter().chain(definition.images);
            disks.extend(files.map(|file| (file, name.clone())));
        }
        self.volumes.user(&volume.path, but.and_then(|owner| owner.process), ends, &disks).await
    }

    async fn delete_volume(&self, volume: &Volume, may: MayChange<'_>) -> Result<(), Obstacle> {
        self.place_now()?;
        may()?;
        self.volumes.delete(volume)
    }
}

#[cfg(test)]
mod tests;
