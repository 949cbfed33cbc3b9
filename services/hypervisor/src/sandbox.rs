//! Machines as JSON files in a folder, with a real process for each one that is on.
//!
//! Kind `vms`: `{"identity": {"uuid": …}, "power": "on"|"off", "autostart": …, "onboot": …, "ha": …, "pid": …,
//! "started": …, "disks": [NAME, …]}`. Kind `volumes`: `{"identity": {"uuid": …}, "size": …, "snapshots":
//! [NAME, …], "base": NAME}`, where `base` is the volume that a linked clone builds on, and beside it `NAME.img`, the
//! volume itself.
//!
//! The process sleeps; what it is called says which machine of which folder it runs. It is known by id and
//! start time, and found again by what it is called when nothing was written down.
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Obstacle, Place};
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::{Fence, Instance};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::machine::{
    Domain, Flags, Host, Lock, MayChange, Owner, Patience, Power, Running, Volume, builds_on,
};
use crate::process::{self, Process};

const VMS: &str = "vms";
const VOLUMES: &str = "volumes";
/// What a machine's process is called ends in this, so that programs that go by their name still sleep.
const SLEEPER: &str = "sleep";
/// 68 years; not "infinity", which not every `sleep` knows.
const LONG_S: &str = "2147483647";
/// The guest's memory of a reaper thread: it only waits.
const REAPER_STACK_BYTES: usize = 64 * 1024;
/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `hypervisor.main`.
    pub instance: Instance,
}

/// A host of machines in a folder.
#[derive(Debug, Clone)]
pub struct SandboxHost {
    sandbox: Sandbox,
}

/// The attributes of a machine that are read.
#[derive(Debug, Deserialize)]
struct Vm {
    identity: Held,
    #[serde(flatten)]
    flags: Flags,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    started: Option<u64>,
    #[serde(default)]
    disks: Vec<String>,
    #[serde(default)]
    protected: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Held {
    uuid: Uuid,
}

#[derive(Debug, Deserialize)]
struct Disk {
    identity: Held,
    size: u64,
    #[serde(default)]
    snapshots: Vec<String>,
    #[serde(default)]
    base: Option<String>,
}

/// Make the place, if need be, with a machine of one volume with one snapshot. It has autostart and high
/// availability, and runs if `on`.
///
/// # Errors
/// If the file system refuses, or the process cannot be started.
pub fn create_vm(root: &Path, instance: &Instance, name: &str, uuid: Uuid, on: bool) -> anyhow::Result<()> {
    let host = SandboxHost { sandbox: Sandbox::create(root, instance)? };
    let disk = format!("{name}-root");
    let text = format!("the disk of {name} {uuid}\n");
    let volume = object([
        ("identity", json!({ "uuid": uuid })),
        ("size", json!(text.len())),
        ("snapshots", json!(["before-upgrade"])),
    ]);
    host.sandbox.write(VOLUMES, &disk, volume, Fence::default())?;
    fs::write(host.image(&disk), text)?;
    let vm = object([
        ("identity", json!({ "uuid": uuid })),
        ("power", json!(Power::Off)),
        ("autostart", json!(true)),
        ("onboot", json!(false)),
        ("ha", json!(true)),
        ("disks", json!([disk])),
    ]);
    host.sandbox.write(VMS, name, vm, Fence::default())?;
    if on {
        host.launch(name, uuid, Fence::default())?;
    }
    Ok(())
}

/// A machine as it is, for comparing before and after: no process id and no fence, but whether a process runs
/// it. `null` if it is not there.
///
/// # Errors
/// If the place cannot be read.
pub fn describe_vm(root: &Path, instance: &Instance, name: &str) -> anyhow::Result<Value> {
    let host = SandboxHost { sandbox: Sandbox::at(root, instance) };
    let Some(mut object) = host.sandbox.read(VMS, name)? else { return Ok(Value::Null) };
    let vm: Vm = parse(VMS, name, &object)?;
    let running = host.running_now(name, vm.identity.uuid)?;
    for attribute in ["fence", "pid", "started"] {
        object.remove(attribute);
    }
    let mut volumes = Vec::new();
    for disk in &vm.disks {
        let mut volume = host.sandbox.read(VOLUMES, disk)?;
        if let Some(volume) = &mut volume {
            volume.remove("fence");
        }
        let text = fs::read_to_string(host.image(disk)).ok();
        volumes.push(json!({ "name": disk, "volume": volume, "content": text }));
    }
    Ok(json!({ "vm": object, "runs": running.is_some(), "volumes": volumes }))
}

/// End the processes of all machines in this place: for the end of a demo.
///
/// # Errors
/// If the place cannot be read, or the system refuses.
pub async fn stop_all(root: &Path, instance: &Instance) -> anyhow::Result<()> {
    let host = SandboxHost { sandbox: Sandbox::at(root, instance) };
    let prefix = host.vms_folder();
    for (process, arguments) in process::all()? {
        let ours = arguments.first().is_some_and(|a| a.starts_with(&prefix) && a.ends_with(SLEEPER));
        if let Some(held) = if ours { process.open()? } else { None } {
            held.kill()?;
            anyhow::ensure!(held.ended(KILLED_WITHIN).await?, "{process} does not end");
        }
    }
    Ok(())
}

fn object<const N: usize>(attributes: [(&str, Value); N]) -> Object {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn parse<T: serde::de::DeserializeOwned>(kind: &str, name: &str, object: &Object) -> Result<T, Obstacle> {
    serde_json::from_value(Value::Object(object.clone()))
        .map_err(|e| Obstacle::Unclear(format!("{kind}/{name}: {e}")))
}

fn unclear(what: &str, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what}: {error}"))
}

impl SandboxHost {
    /// The host in the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance) }
    }

    fn image(&self, volume: &str) -> PathBuf {
        self.sandbox.folder().join(VOLUMES).join(format!("{volume}.img"))
    }

    fn vm(&self, name: &str) -> Result<Option<(Object, Vm)>, Obstacle> {
        match self.sandbox.read(VMS, name)? {
            None => Ok(None),
            Some(object) => {
                let vm = parse(VMS, name, &object)?;
                Ok(Some((object, vm)))
            }
        }
    }

    /// The machine under this name, if it has this UUID.
    fn this_vm(&self, name: &str, uuid: Uuid) -> Result<(Object, Vm), Obstacle> {
        match self.vm(name)? {
            Some(found) if found.1.identity.uuid == uuid => Ok(found),
            Some((_, vm)) => {
                Err(Obstacle::Refuse(format!("{name} has uuid {}, expected was {uuid}", vm.identity.uuid)))
            }
            None => Err(Obstacle::Refuse(format!("{name} is not defined"))),
        }
    }

    /// The machine that has this volume as a disk, if one does.
    fn machine_with(&self, volume: &str) -> Result<Option<String>, Obstacle> {
        for name in self.sandbox.list(VMS)? {
            if self.vm(&name)?.is_some_and(|(_, vm)| vm.disks.iter().any(|disk| disk == volume)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// What the process of a machine is called.
    fn called(&self, name: &str, uuid: Uuid) -> String {
        format!("{}{name}/{uuid}/{SLEEPER}", self.vms_folder())
    }

    /// However the root was written, relative or through links: it must be the same for everybody.
    fn vms_folder(&self) -> String {
        let folder = self.sandbox.folder();
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(folder));
        let folder = folder.unwrap_or_else(|_| self.sandbox.folder().to_owned());
        format!("{}/", folder.join(VMS).display())
    }

    fn running_now(&self, name: &str, uuid: Uuid) -> Result<Option<Running>, Obstacle> {
        self.sandbox.place()?;
        let called = self.called(name, uuid);
        if let Some((_, Vm { pid: Some(pid), started: Some(started), .. })) = self.vm(name)? {
            let process = Process { pid, started };
            let arguments = process.command_line().map_err(|e| unclear("reading a command line", &e))?;
            // Wherever the folder was when it was started: id, start time, name and UUID say enough.
            let tail = format!("/{name}/{uuid}/{SLEEPER}");
            if arguments.is_some_and(|a| a.first().is_some_and(|first| first.ends_with(&tail))) {
                return Ok(Some(Running::Own(process)));
            }
        }
        // Under another name of this folder; another folder is another host.
        let (folder, foreign) = (self.vms_folder(), format!("/{uuid}/{SLEEPER}"));
        let all = process::all().map_err(|e| unclear("listing processes", &e))?;
        let mut found = None;
        for (process, arguments) in all {
            match arguments.first() {
                Some(name) if *name == called => return Ok(Some(Running::Own(process))),
                Some(name) if name.starts_with(&folder) && name.ends_with(&foreign) => {
                    found = Some(Running::Foreign(process));
                }
                Some(_) | None => {}
            }
        }
        Ok(found)
    }

    /// Start the process, and write down which it is.
    fn launch(&self, name: &str, uuid: Uuid, fence: Fence) -> Result<Process, Obstacle> {
        let (mut object, _) = self.this_vm(name, uuid)?;
        let mut child = Command::new("sleep")
            .arg0(self.called(name, uuid))
            .arg(LONG_S)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Of its own group: what ends the consumer's group does not end its machines.
            .process_group(0)
            .spawn()
            .map_err(|e| unclear(&format!("starting {name}"), &e))?;
        let process = Process::of(child.id()).map_err(|e| unclear("reading /proc", &e))?;
        // Whoever stops it, it must be waited for; a machine outlives the call that started it.
        std::thread::Builder::new()
            .name("machine".into())
            .stack_size(REAPER_STACK_BYTES)
            .spawn(move || child.wait().map(drop))
            .map_err(|e| unclear("starting a thread", &e))?;
        let process = process.ok_or_else(|| Obstacle::Unclear(format!("{name} ended as it started")))?;
        object.insert("power".into(), json!(Power::On));
        object.insert("pid".into(), json!(process.pid));
        object.insert("started".into(), json!(process.started));
        self.sandbox.write(VMS, name, object, fence)?;
        Ok(process)
    }

    fn disk(&self, name: &str) -> Result<Option<Volume>, Obstacle> {
        let image = self.image(name);
        let size = match fs::symlink_metadata(&image) {
            Ok(metadata) => Some(metadata.len()),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(unclear(&format!("reading {}", image.display()), &e)),
        };
        let volume = |file: String, size, snapshots| Volume {
            path: name.to_owned(),
            file,
            format: "raw".into(),
            size,
            snapshots,
        };
        Ok(match (self.sandbox.read(VOLUMES, name)?, size) {
            (None, None) => None,
            (Some(object), _) => {
                let disk: Disk = parse(VOLUMES, name, &object)?;
                Some(volume(disk.identity.uuid.to_string(), disk.size, disk.snapshots))
            }
            (None, Some(size)) => Some(volume("an image without a description".into(), size, Vec::new())),
        })
    }
}

#[async_trait]
impl Host for SandboxHost {
    async fn lock(&self, name: &str) -> Result<Lock, Obstacle> {
        self.sandbox.place()?;
        Lock::take(&self.sandbox.folder().join("locks"), name)
    }

    async fn place(&self) -> Result<Place, Obstacle> {
        self.sandbox.place()
    }

    async fn domain(&self, name: &str) -> Result<Option<Domain>, Obstacle> {
        Ok(self.vm(name)?.map(|(_, vm)| Domain {
            name: name.to_owned(),
            uuid: vm.identity.uuid,
            flags: vm.flags,
            settings: json!({ "disks": vm.disks }),
            volumes: vm.disks,
            protected: vm.protected,
        }))
    }

    async fn names(&self) -> Result<Vec<String>, Obstacle> {
        self.sandbox.list(VMS)
    }

    async fn count(&self) -> Result<usize, Obstacle> {
        self.sandbox.count(VMS)
    }

    async fn defined_as(&self, uuid: Uuid) -> Result<Option<String>, Obstacle> {
        for name in self.sandbox.list(VMS)? {
            if self.vm(&name)?.is_some_and(|(_, vm)| vm.identity.uuid == uuid) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    async fn running(&self, name: &str, uuid: Uuid) -> Result<Option<Running>, Obstacle> {
        self.running_now(name, uuid)
    }

    async fn set_flags(&self, domain: &Domain, flags: Flags, may: MayChange<'_>) -> Result<(), Obstacle> {
        let (mut object, _) = self.this_vm(&domain.name, domain.uuid)?;
        for (name, on) in [("autostart", flags.autostart), ("onboot", flags.onboot), ("ha", flags.ha)] {
            object.insert(name.into(), json!(on));
        }
        self.sandbox.write(VMS, &domain.name, object, may()?)
    }

    async fn start(&self, domain: &Domain, may: MayChange<'_>, ends: Instant) -> Result<Process, Obstacle> {
        if Instant::now() >= ends {
            return Err(Obstacle::Unclear(format!("out of time before {} was started", domain.name)));
        }
        for disk in &domain.volumes {
            if self.disk(disk)?.is_none() {
                return Err(Obstacle::Refuse(format!("{} has no volume {disk} any more", domain.name)));
            }
        }
        self.launch(&domain.name, domain.uuid, may()?)
    }

    async fn halt(
        &self,
        domain: &Domain,
        process: Process,
        may: MayChange<'_>,
        patience: Patience,
    ) -> Result<String, Obstacle> {
        let failed = |e: std::io::Error| unclear(&format!("stopping {}", domain.name), &e);
        let fence = may()?;
        let how = match process.open().map_err(failed)? {
            None => "had ended".to_owned(),
            Some(held) => {
                held.terminate().map_err(failed)?;
                if held.ended(patience.polite).await.map_err(failed)? {
                    format!("{process} stopped")
                } else {
                    // It took its time: somebody may have paused meanwhile.
                    may()?;
                    held.kill().map_err(failed)?;
                    if !held.ended(KILLED_WITHIN).await.map_err(failed)? {
                        return Err(Obstacle::Unclear(format!("{process} does not end")));
                    }
                    format!("{process} was killed")
                }
            }
        };
        let (mut object, _) = self.this_vm(&domain.name, domain.uuid)?;
        object.insert("power".into(), json!(Power::Off));
        object.remove("pid");
        object.remove("started");
        self.sandbox.write(VMS, &domain.name, object, fence)?;
        Ok(how)
    }

    async fn undefine(&self, name: &str, uuid: Uuid, may: MayChange<'_>) -> Result<(), Obstacle> {
        if self.vm(name)?.is_none() {
            return Ok(());
        }
        self.this_vm(name, uuid)?;
        self.sandbox.remove(VMS, name, may()?)
    }

    async fn volume(&self, path: &str, _in_use: bool) -> Result<Option<Volume>, Obstacle> {
        self.disk(path)
    }

    async fn volume_user(
        &self,
        volume: &Volume,
        but: Option<Owner<'_>>,
        _ends: Instant,
    ) -> Result<Option<String>, Obstacle> {
        let others = |name: &String| but.is_none_or(|owner| owner.name != name);
        for name in self.sandbox.list(VMS)?.into_iter().filter(others) {
            if self.vm(&name)?.is_some_and(|(_, vm)| vm.disks.contains(&volume.path)) {
                return Ok(Some(format!("it is a disk of {name}")));
            }
        }
        for clone in self.sandbox.list(VOLUMES)? {
            let Some(object) = self.sandbox.read(VOLUMES, &clone)? else { continue };
            let disk: Disk = parse(VOLUMES, &clone, &object)?;
            if disk.base.as_ref() == Some(&volume.path) {
                let machine = self.machine_with(&clone)?;
                return Ok(Some(builds_on(&clone, machine.as_deref())));
            }
        }
        let image = self.image(&volume.path);
        if !image.try_exists().map_err(|e| unclear(&format!("reading {}", image.display()), &e))? {
            return Ok(None);
        }
        let holder = process::holder_that_stays(&image, but.and_then(|owner| owner.process)).await;
        let holder = holder.map_err(|e| unclear("looking for open files", &e))?;
        Ok(holder.map(|pid| format!("process {pid} has it open")))
    }

    async fn delete_volume(&self, volume: &Volume, may: MayChange<'_>) -> Result<(), Obstacle> {
        let fence = may()?;
        // Right before: it may have been made anew since it was looked at.
        match self.disk(&volume.path)? {
            None => return Ok(()),
            Some(seen) if seen.file == volume.file => {}
            Some(Volume { path, file, .. }) => {
                let pinned = &volume.file;
                return Err(Obstacle::Refuse(format!("volume {path} is {file}, pinned was {pinned}")));
            }
        }
        // The description last, and under the fence first: an image without one could not be told apart.
        if let Some(description) = self.sandbox.read(VOLUMES, &volume.path)? {
            self.sandbox.write(VOLUMES, &volume.path, description, fence)?;
        }
        let image = self.image(&volume.path);
        match fs::remove_file(&image) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(unclear(&format!("removing {}", image.display()), &e)),
        }
        self.sandbox.remove(VOLUMES, &volume.path, fence)
    }
}

#[cfg(test)]
mod tests;
