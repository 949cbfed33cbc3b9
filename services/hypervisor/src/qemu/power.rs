//! Starting and stopping.
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sexton_consumer::driver::Obstacle;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::button::{Asked, Button, CALL_WITHIN, Monitor};
use super::definition::Definition;
use super::qmp::{Qmp, QmpError};
use super::{QemuHost, program, volume};
use crate::machine::{Domain, MayChange, Patience, Running};
use crate::process::{Held, Process};

/// Longest a start may take until the monitor answers.
const START_WITHIN: Duration = Duration::from_secs(15);
/// How long after `quit` the process may take to be gone; it writes its caches back.
const QUIT_WITHIN: Duration = Duration::from_secs(3);
/// How long after a kill.
const KILL_WITHIN: Duration = Duration::from_secs(3);
/// Longest path of a socket that the system takes, in bytes.
const SOCKET_MAX_BYTES: usize = 107;

/// The file names in a machine's folder.
fn socket(folder: &Path) -> PathBuf {
    folder.join("qmp")
}

/// Where the id of a machine's process is.
pub(super) fn pid_file(folder: &Path) -> PathBuf {
    folder.join("pid")
}

/// What says, on a command line, that a process was started from the definition in this folder.
pub(super) fn monitor_argument(folder: &Path) -> String {
    format!("unix:{},server=on,wait=off", socket(folder).display().to_string().replace(',', ",,"))
}

/// Whether a command line runs this UUID.
pub(super) fn runs(arguments: &[String], uuid: Uuid) -> bool {
    arguments.windows(2).any(|pair| pair[0] == "-uuid" && Uuid::parse_str(&pair[1]) == Ok(uuid))
}

/// What QEMU is started with.
pub(super) fn arguments(
    name: &str,
    definition: &Definition,
    folder: &Path,
    volumes: &volume::Volumes,
    accelerator: &str,
) -> Result<Vec<String>, Obstacle> {
    let mut arguments: Vec<String> = [
        "-name",
        name,
        "-uuid",
        &definition.uuid.to_string(),
        "-machine",
        &format!("q35,accel={accelerator}"),
        "-m",
        &definition.memory_mib.to_string(),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-qmp",
        &monitor_argument(folder),
        "-pidfile",
        &pid_file(folder).display().to_string(),
        "-daemonize",
    ]
    .map(str::to_owned)
    .to_vec();
    for (number, disk) in definition.disks.iter().enumerate() {
        let node = format!("disk{number}");
        let file = json!({ "driver": "file", "filename": volumes.path(disk).display().to_string() });
        let block = json!({ "driver": volume::format(disk)?, "node-name": node, "file": file });
        let device = format!("virtio-blk-pci,drive={node}");
        arguments.extend(["-blockdev".to_owned(), block.to_string(), "-device".to_owned(), device]);
    }
    for (number, image) in definition.images.iter().enumerate() {
        let node = format!("image{number}");
        let file = json!({ "driver": "file", "filename": volumes.path(image).display().to_string() });
        // Without the right to write, several machines may have it open.
        let block = json!({
            "driver": volume::format(image)?, "node-name": node, "read-only": true, "file": file,
        });
        let device = format!("virtio-blk-pci,drive={node}");
        arguments.extend(["-blockdev".to_owned(), block.to_string(), "-device".to_owned(), device]);
    }
    arguments.extend(definition.extra.iter().cloned());
    Ok(arguments)
}

impl QemuHost {
    /// Start the machine, and see its monitor answer with its UUID.
    pub(super) async fn power_on(
        &self,
        domain: &Domain,
        may: MayChange<'_>,
        ends: Instant,
    ) -> Result<Process, Obstacle> {
        let name = &domain.name;
        let (_, definition) = self.definitions.this(name, domain.uuid, may()?)?;
        let folder = self.definitions.folder_of(name);
        if socket(&folder).as_os_str().as_bytes().len() > SOCKET_MAX_BYTES {
            return Err(Obstacle::Refuse(format!(
                "{}: longer than the {SOCKET_MAX_BYTES} bytes a socket's path may have",
                socket(&folder).display()
            )));
        }
        for disk in domain.volumes.iter().chain(&definition.images) {
            if !self.volumes.path(disk).try_exists().map_err(|e| Obstacle::Unclear(format!("{disk}: {e}")))? {
                return Err(Obstacle::Refuse(format!("{name} has no volume {disk} any more")));
            }
        }
        let arguments = arguments(name, &definition, &folder, &self.volumes, &self.accelerator)?;
        may()?;
        let within = START_WITHIN.min(ends.saturating_duration_since(Instant::now()));
        let said = program::run(&self.qemu_system, &arguments, within).await.map_err(Obstacle::Unclear)?;
        if !said.ok {
            let why = format!("starting {name}: {}", said.complaint);
            let locked = said.complaint.contains(" lock");
            return Err(if locked { Obstacle::Refuse(why) } else { Obstacle::Unclear(why) });
        }
        let process = match self.running_now(name, domain.uuid).await? {
            Some(Running::Own(process)) => process,
            other => return Err(Obstacle::Unclear(format!("starting {name}: seen was {other:?}"))),
        };
        let monitor = socket(&folder);
        let seen =
            async { Qmp::connect(&monitor, process, CALL_WITHIN, CALL_WITHIN).await?.uuid().await }.await;
        match seen {
            Ok(uuid) if uuid == domain.uuid => Ok(process),
            Ok(uuid) => Err(Obstacle::Refuse(format!("{name} was started as {uuid}"))),
            Err(e) => Err(Obstacle::Unclear(format!("starting {name}: {}", chain(&e)))),
        }
    }

    /// Stop the process: by ACPI, then by the monitor, then by force. For as long as the guest has to obey, whatever
    /// keeps it from being asked is no reason for force.
    pub(super) async fn power_off(
        &self,
        domain: &Domain,
        process: Process,
        may: MayChange<'_>,
        patience: Patience,
    ) -> Result<String, Obstacle> {
        let began = Instant::now();
        let socket = socket(&self.definitions.folder_of(&domain.name));
        let failed = |e: std::io::Error| Obstacle::Unclear(format!("stopping {}: {e}", domain.name));
        let Some(held) = process.open().map_err(failed)? else {
            return Ok(format!("{process} had ended"));
        };
        // Meanwhile somebody may have paused, or a later order may have come, here or at another copy.
        let still = || {
            self.definitions.this(&domain.name, domain.uuid, may()?)?;
            // Once more, right before what comes: the file system may have hung until now.
            may().map(drop)
        };
        let button = Button { name: &domain.name, uuid: domain.uuid, socket: &socket, process, may: &still };
        let (pressed, mut monitor) = match button.press_until(&held, began + patience.polite).await? {
            Asked::Ended { pressed } => {
                let how = if pressed { "obeyed ACPI" } else { "ended by itself" };
                return Ok(format!("{process} {how} after {} ms", began.elapsed().as_millis()));
            }
            Asked::InVain { pressed, monitor } => (pressed, monitor),
        };
        still()?;
        if Instant::now() >= patience.ends {
            return Err(Obstacle::Unclear(format!("{process} did not obey ACPI in time")));
        }
        let how = force(&held, pressed, &mut monitor).await.map_err(failed)?;
        match how {
            Some(how) => Ok(format!("{process} {how} after {} ms", began.elapsed().as_millis())),
            None => Err(Obstacle::Unclear(format!("{process} was killed, and does not end"))),
        }
    }
}

/// End the process; says how, or `None` if it would not.
async fn force(
    held: &Held,
    pressed: bool,
    monitor: &mut Result<Monitor, QmpError>,
) -> std::io::Result<Option<String>> {
    let first = match monitor {
        Ok(monitor) => match monitor.call("quit").await {
            // It may be gone before it has answered.
            Ok(_) | Err(QmpError::HungUp(..)) => {
                if held.ended(QUIT_WITHIN).await? {
                    return Ok(Some("ignored ACPI and was ended through its monitor".to_owned()));
                }
                "ignored ACPI and its monitor's quit".to_owned()
            }
            Err(e) => format!("ignored ACPI ({})", chain(&e)),
        },
        Err(e) if pressed => format!("ignored ACPI and could not be asked any more ({})", chain(e)),
        Err(e) => format!("could not be asked ({})", chain(e)),
    };
    held.kill()?;
    Ok(held.ended(KILL_WITHIN).await?.then(|| format!("{first}, and was killed")))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
