//! The words of this subsystem, and what a host can do. A host reads and does; it decides nothing.
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_consumer::driver::{Obstacle, Place};
use sexton_model::Fence;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::process::Process;

/// Most volumes a machine may have: its targets travel with every order.
pub const VOLUMES_MAX: usize = 64;
/// Most snapshots of one volume that are pinned by name, for the same reason; the file holds them all.
pub const SNAPSHOTS_MAX: usize = 64;

/// What starts a machine without anybody asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags {
    /// Started when the host's agent starts.
    #[serde(default)]
    pub autostart: bool,
    /// Started when the host boots.
    #[serde(default)]
    pub onboot: bool,
    /// Started elsewhere when the host fails.
    #[serde(default)]
    pub ha: bool,
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<_> = [("autostart", self.autostart), ("onboot", self.onboot), ("ha", self.ha)]
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
        if on.is_empty() { f.write_str("nothing that starts it") } else { f.write_str(&on.join(", ")) }
    }
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// A process runs it.
    On,
    /// No process runs it.
    Off,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// A machine as it is defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Its name on this host.
    pub name: String,
    /// What makes it this one.
    pub uuid: Uuid,
    /// What would start it.
    pub flags: Flags,
    /// Its volumes, by file name.
    pub volumes: Vec<String>,
    /// Everything else that decides what a start brings up; compared whole.
    pub settings: Value,
    /// Why the host says that it must not be deleted.
    pub protected: Option<String>,
}

/// A process that runs a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// Started from the machine's definition, as the definition is now.
    Own(Process),
    /// Started from the machine's definition, but with other settings than it has now.
    Changed(Process),
    /// Runs the same UUID, but was not started from the definition on this host.
    Foreign(Process),
}

impl Running {
    /// The process.
    pub fn process(self) -> Process {
        match self {
            Self::Own(process) | Self::Changed(process) | Self::Foreign(process) => process,
        }
    }
}

/// The machine that a volume belongs to, which may use it.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its name on this host.
    pub name: &'a str,
    /// The process that runs it, if it is on.
    pub process: Option<Process>,
}

/// How it is told to people that a volume builds on the one that is looked at: with the machine that has it as a disk, if one
/// does.
pub(crate) fn builds_on(volume: &str, machine: Option<&str>) -> String {
    match machine {
        Some(machine) => format!("volume {volume}, a disk of {machine}, builds on it"),
        None => format!("volume {volume} builds on it"),
    }
}

/// A volume, as it was pinned or as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its file name in the folder of volumes.
    pub path: String,
    /// What makes it this one: another file under the same name differs in it.
    pub file: String,
    /// Its format, such as `qcow2`.
    pub format: String,
    /// What its guest sees, in bytes.
    pub size: u64,
    /// Its snapshots by name, at most [`SNAPSHOTS_MAX`]; they go with the file. Pinned in [`Targets::snapshots`].
    #[serde(default, skip_serializing)]
    pub snapshots: Vec<String>,
}

/// What an inspection pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Which place this is.
    pub place: String,
    /// The machine's name.
    pub domain: String,
    /// The machine's UUID.
    pub uuid: Uuid,
    /// Its volumes. A new one would be left behind: it stops the deletion.
    pub volumes: Vec<Volume>,
    /// Volume → its snapshots, of those that have any. Under a key of its own, since they may come and go by
    /// themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Vec<String>>,
}

impl Targets {
    /// What is pinned of a machine with these volumes.
    pub(crate) fn of(place: Place, domain: String, uuid: Uuid, volumes: Vec<Volume>) -> Self {
        let snapshots = volumes
            .iter()
            .filter(|volume| !volume.snapshots.is_empty())
            .map(|volume| (volume.path.clone(), volume.snapshots.clone()))
            .collect();
        Self { place: place.0, domain, uuid, volumes, snapshots }
    }
}

/// What an exact undo of a stop needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whether it ran.
    pub power: Power,
    /// What would have started it.
    #[serde(flatten)]
    pub flags: Flags,
    /// What a start brought up.
    pub settings: Value,
    /// The process that ran it: while it is still the same one, nobody has stopped or started anything.
    #[serde(default)]
    pub process: Option<Process>,
}

/// The right to change one machine on this host, until dropped. Taken by every copy of the consumer, so that
/// two of them never work on the same machine.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Take the lock of `name` in `folder`, without waiting. The file stays afterwards: removing it would let
    /// two holders in.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] if another holds it, [`Obstacle::Unclear`] if the file system refuses.
    pub fn take(folder: &Path, name: &str) -> Result<Self, Obstacle> {
        let path = folder.join(name);
        let unclear =
            |e: &dyn std::fmt::Display| Obstacle::Unclear(format!("locking {}: {e}", path.display()));
        std::fs::create_dir_all(folder).map_err(|e| unclear(&e))?;
        let file = File::create(&path).map_err(|e| unclear(&e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Obstacle::Busy(format!("another copy works on {name}: {} is locked", path.display())))
            }
            Err(TryLockError::Error(e)) => Err(unclear(&e)),
        }
    }
}

/// Asked right before each change, however many a step makes: the fence to make it under, or why it must not be made
/// any more (a pause, a later order, no time left).
pub type MayChange<'a> = &'a (dyn Fn() -> Result<Fence, Obstacle> + Send + Sync);

/// How long a stop may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the guest has to obey before force is used.
    pub polite: Duration,
    /// No call is begun after this.
    pub ends: Instant,
}

/// A host, real or not.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Take the lock of a machine.
    async fn lock(&self, name: &str) -> Result<Lock, Obstacle>;

    /// Which place this is, read afresh.
    async fn place(&self) -> Result<Place, Obstacle>;

    /// The definition called `name`; `None` only if the place was readable and it is not there.
    async fn domain(&self, name: &str) -> Result<Option<Domain>, Obstacle>;

    /// The names of all machines that are defined.
    async fn names(&self) -> Result<Vec<String>, Obstacle>;

    /// How many are defined, by what lies in the place alone: also those whose names cannot be read.
    async fn count(&self) -> Result<usize, Obstacle>;

    /// The name under which `uuid` is defined, if it is.
    async fn defined_as(&self, uuid: Uuid) -> Result<Option<String>, Obstacle>;

    /// The process that runs `uuid`, whoever started it. `None` only if all processes could be seen.
    async fn running(&self, name: &str, uuid: Uuid) -> Result<Option<Running>, Obstacle>;

    /// Set the flags, and the fence. Refuses another UUID and an older fence.
    async fn set_flags(&self, domain: &Domain, flags: Flags, may: MayChange<'_>) -> Result<(), Obstacle>;

    /// Start the machine as it is defined, and see it run.
    async fn start(&self, domain: &Domain, may: MayChange<'_>, ends: Instant) -> Result<Process, Obstacle>;

    /// Stop the process, and see it gone; says how. Asks before the guest is asked to end, and again before force.
    async fn halt(
        &self,
        domain: &Domain,
        process: Process,
        may: MayChange<'_>,
        patience: Patience,
    ) -> Result<String, Obstacle>;

    /// Remove the definition. Refuses another UUID and an older fence; already gone is fine.
    async fn undefine(&self, name: &str, uuid: Uuid, may: MayChange<'_>) -> Result<(), Obstacle>;

    /// One volume; `None` only if the place was readable and it is not there. `in_use`: a running machine may
    /// hold it open.
    async fn volume(&self, path: &str, in_use: bool) -> Result<Option<Volume>, Obstacle>;

    /// Who still uses a volume, if anybody does: an open file, a lock, a definition, another volume. The machine
    /// `but` does not count: neither its definition, nor the process that runs it.
    async fn volume_user(
        &self,
        volume: &Volume,
        but: Option<Owner<'_>>,
        ends: Instant,
    ) -> Result<Option<String>, Obstacle>;

    /// Delete one volume with its snapshots, if it is still the same; already gone is fine.
    async fn delete_volume(&self, volume: &Volume, may: MayChange<'_>) -> Result<(), Obstacle>;
}
