//! Starting and stopping.
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sexton_consumer::driver::Obstacle;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::definition::Definition;
use super::qmp::{Qmp, QmpError};
use super::{QemuHost, program, volume};
use crate::machine::{Domain, MayChange, Patience, Running};
use crate::process::{Held, Process};

/// Longest one call to the monitor may take. It answers in milliseconds unless somebody else is connected.
const MONITOR_WITHIN: Duration = Duration::from_secs(3);
/// Longest a start may take until the monitor answers.
const START_WITHIN: Duration = Duration::from_secs(15);
/// How often the power button is pressed again: a guest that is just booting does not feel it.
const PRESS_EVERY: Duration = Duration::from_secs(2);
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
        for disk in &domain.volumes {
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
        let seen = async { self.monitor(&folder, process).await?.uuid().await }.await;
        match seen {
            Ok(uuid) if uuid == domain.uuid => Ok(process),
            Ok(uuid) => Err(Obstacle::Refuse(format!("{name} was started as {uuid}"))),
            Err(e) => Err(Obstacle::Unclear(format!("starting {name}: {}", chain(&e)))),
        }
    }

    /// Stop the process: by ACPI, then by the monitor, then by force.
    pub(super) async fn power_off(
        &self,
        domain: &Domain,
        process: Process,
        may: MayChange<'_>,
        patience: Patience,
    ) -> Result<String, Obstacle> {
        let began = Instant::now();
        let folder = self.definitions.folder_of(&domain.name);
        let failed = |e: std::io::Error| Obstacle::Unclear(format!("stopping {}: {e}", domain.name));
        let Some(held) = process.open().map_err(failed)? else {
            return Ok(format!("{process} had ended"));
        };
        let mut monitor = match self.power_button(domain, &folder, process, may).await {
            Ok(mut monitor) => {
                if obeys(&held, &mut monitor, patience.polite).await.map_err(failed)? {
                    return Ok(format!("{process} obeyed ACPI after {} ms", began.elapsed().as_millis()));
                }
                Ok(monitor)
            }
            Err(PowerButton::Another(uuid)) => {
                return Err(Obstacle::Refuse(format!(
                    "the monitor of {} says {uuid}, expected was {}",
                    domain.name, domain.uuid
                )));
            }
            Err(PowerButton::NotNow(why)) => return Err(why),
            Err(PowerButton::Monitor(e)) => Err(e),
        };
        // The guest took its time; meanwhile somebody may have paused, or a later order may have come, here or at
        // another copy.
        self.definitions.this(&domain.name, domain.uuid, may()?)?;
        if Instant::now() >= patience.ends {
            return Err(Obstacle::Unclear(format!("{process} did not obey ACPI in time")));
        }
        let how = force(&held, &mut monitor).await.map_err(failed)?;
        match how {
            Some(how) => Ok(format!("{process} {how} after {} ms", began.elapsed().as_millis())),
            None => Err(Obstacle::Unclear(format!("{process} was killed, and does not end"))),
        }
    }

    async fn monitor(
        &self,
        folder: &Path,
        process: Process,
    ) -> Result<Qmp<tokio::net::UnixStream>, QmpError> {
        Qmp::connect(&socket(folder), process, MONITOR_WITHIN).await
    }

    async fn power_button(
        &self,
        domain: &Domain,
        folder: &Path,
        process: Process,
        may: MayChange<'_>,
    ) -> Result<Qmp<tokio::net::UnixStream>, PowerButton> {
        let mut monitor = self.monitor(folder, process).await?;
        let uuid = monitor.uuid().await?;
        if uuid != domain.uuid {
            return Err(PowerButton::Another(uuid));
        }
        may().map_err(PowerButton::NotNow)?;
        monitor.call("system_powerdown").await?;
        Ok(monitor)
    }
}

/// Why the power button was not pressed.
enum PowerButton {
    /// The monitor did not do it.
    Monitor(QmpError),
    /// It is another machine.
    Another(Uuid),
    /// It must not be pressed now; why.
    NotNow(Obstacle),
}

impl From<QmpError> for PowerButton {
    fn from(error: QmpError) -> Self {
        Self::Monitor(error)
    }
}

/// Wait for the guest, and press again.
async fn obeys(
    held: &Held,
    monitor: &mut Qmp<tokio::net::UnixStream>,
    polite: Duration,
) -> std::io::Result<bool> {
    let ends = Instant::now() + polite;
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if held.ended(left.min(PRESS_EVERY)).await? {
            return Ok(true);
        }
        if left <= PRESS_EVERY {
            return Ok(false);
        }
        // If the monitor is gone, the process is about to be; or force is used in the end.
        let _ = monitor.call("system_powerdown").await;
    }
}

/// End the process; says how, or `None` if it would not.
async fn force(
    held: &Held,
    monitor: &mut Result<Qmp<tokio::net::UnixStream>, QmpError>,
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
