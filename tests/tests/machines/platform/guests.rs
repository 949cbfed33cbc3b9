//! Guests under QEMU: definitions, volumes, processes. Asked are `/proc`, the monitors, and `qemu-img`.
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sexton_hypervisor::machine::Host;
use sexton_hypervisor::qemu::{self, QemuHost};
use uuid::Uuid;

use crate::facts::{Facts, NOBODY};
use crate::machine::{Guest, Machine};
use crate::program::{run, run_json, wanted};

/// Longest wait for a guest's monitor, which also answers while its guest boots.
const MONITOR_WITHIN: Duration = Duration::from_secs(20);
/// The thing that no restart leaves as it was.
pub const PROCESS: &str = "guest: process id";
const MONITOR: &str = "guest: monitor";
const DEFINITION: &str = "guest: definition";

pub struct Guests {
    root: PathBuf,
}

/// Whatever happens, no guest outlives the test.
impl Drop for Guests {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

impl Guests {
    pub fn set_up(folder: &Path, machines: &[Machine]) -> Self {
        let this = Self { root: folder.join("qemu") };
        qemu::create(&this.root, Uuid::new_v4()).unwrap();
        for machine in machines {
            let disks = this.make_volumes(machine);
            this.define(machine, disks);
        }
        this.start(machines);
        this
    }

    pub fn configuration(&self) -> String {
        format!(
            "[consumers.\"hypervisor.main\"]\ndriver = \"qemu\"\nroot = {:?}\naccelerator = \"tcg\"\n",
            self.root
        )
    }

    fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// How the names of a machine's things begin.
    pub fn things(machine: &Machine) -> Vec<String> {
        let mut things = vec![DEFINITION.to_owned()];
        if machine.guest != Guest::Off {
            things.extend([PROCESS, MONITOR].map(str::to_owned));
            things.push(snapshot_of(&root_disk(machine)));
            things.push(content_of(&root_disk(machine)));
        }
        if has_data(machine) {
            things.push(content_of(&data_disk(machine)));
        }
        things
    }

    /// A disk to boot from with a snapshot for those that run; plain data for the others, and for some both.
    fn make_volumes(&self, machine: &Machine) -> Vec<String> {
        let mut disks = Vec::new();
        let mut content = match machine.guest {
            Guest::Polite => std::fs::read(wanted("SEXTON_TEST_QEMU_POLITE")).unwrap(),
            Guest::Stubborn => std::fs::read(wanted("SEXTON_TEST_QEMU_STUBBORN")).unwrap(),
            Guest::Off => vec![0; 64 * 1024],
        };
        // Behind the boot sector, what tells this disk from the others.
        content[4096..4096 + 36].copy_from_slice(machine.uuid.to_string().as_bytes());
        if has_data(machine) {
            disks.push(data_disk(machine));
            std::fs::write(self.volumes().join(&disks[0]), &content).unwrap();
        }
        if machine.guest != Guest::Off {
            let root = root_disk(machine);
            let (raw, path) = (self.root.join("boot.raw"), self.volumes().join(&root));
            std::fs::write(&raw, &content).unwrap();
            run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &path]));
            run(Command::new("qemu-img").args(["snapshot", "-c", "before-upgrade"]).arg(&path));
            std::fs::remove_file(raw).unwrap();
            // The first disk is booted from.
            disks.insert(0, root);
        }
        disks
    }

    fn define(&self, machine: &Machine, disks: Vec<String>) {
        let definition = json!({
            "uuid": machine.uuid, "memory_mib": 16, "disks": disks, "autostart": machine.number.is_multiple_of(2),
            "onboot": machine.number.is_multiple_of(3), "ha": machine.number.is_multiple_of(5), "description": machine.owner(),
        });
        qemu::define(&self.root, &machine.name, definition.as_object().unwrap()).unwrap();
    }

    /// As their host's agent starts them.
    fn start(&self, machines: &[Machine]) {
        let host = QemuHost::new(qemu::Config {
            root: self.root.clone(),
            qemu_system: "qemu-system-x86_64".into(),
            qemu_img: "qemu-img".into(),
            accelerator: "tcg".into(),
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for machine in machines.iter().filter(|m| m.guest != Guest::Off) {
                let domain = host.domain(&machine.name).await.unwrap().unwrap();
                let ends = tokio::time::Instant::now() + MONITOR_WITHIN;
                let never = sexton_model::Fence { epoch: 0, number: 0 };
                let started = host.start(&domain, &move || Ok(never), ends).await;
                started.unwrap_or_else(|e| panic!("{}: {e}", machine.name));
            }
        });
    }

    /// The emulators that have anything of this test on their command lines, with the UUIDs they run.
    fn processes(&self) -> Vec<(u32, Option<Uuid>)> {
        let root = self.root.display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that has ended meanwhile runs nothing.
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = line.split('\0').collect();
            if words[0].contains("qemu-system") && line.contains(&root) {
                let uuid = words.windows(2).find(|pair| pair[0] == "-uuid");
                found.push((pid, uuid.and_then(|pair| pair[1].parse().ok())));
            }
        }
        found
    }

    /// Machines all of whose volumes are there just now.
    pub fn glimpse_of_volumes(&self, machines: &[Machine]) -> BTreeSet<String> {
        let there = |machine: &&Machine| {
            let root = (machine.guest != Guest::Off).then(|| root_disk(machine));
            let data = has_data(machine).then(|| data_disk(machine));
            root.into_iter().chain(data).all(|disk| self.volumes().join(disk).exists())
        };
        machines.iter().filter(there).map(|machine| machine.name.clone()).collect()
    }

    /// Machines that run just now.
    pub fn glimpse_of_processes(&self, machines: &[Machine]) -> BTreeSet<String> {
        let run: BTreeSet<Uuid> = self.processes().into_iter().filter_map(|(_, uuid)| uuid).collect();
        let runs = machines.iter().filter(|machine| run.contains(&machine.uuid));
        runs.map(|machine| machine.name.clone()).collect()
    }

    /// Machines that are defined just now.
    pub fn glimpse_of_definitions(&self, machines: &[Machine]) -> BTreeSet<String> {
        let there =
            |machine: &&Machine| self.root.join("vms").join(&machine.name).join("domain.json").exists();
        machines.iter().filter(there).map(|machine| machine.name.clone()).collect()
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        for (pid, uuid) in self.processes() {
            let machine = machines.iter().find(|m| Some(m.uuid) == uuid);
            let name = machine.map_or(NOBODY, |m| &m.name);
            facts.add(name, PROCESS, pid.to_string());
            facts.add(name, MONITOR, self.ask_monitor(name));
        }
        self.look_at_definitions(&mut facts);
        self.look_at_volumes(&mut facts);
        facts
    }

    /// What the guest's own monitor says of it.
    fn ask_monitor(&self, name: &str) -> String {
        let mut stream = UnixStream::connect(self.root.join("vms").join(name).join("qmp")).unwrap();
        stream.set_read_timeout(Some(MONITOR_WITHIN)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut ask = |command: &str| -> Value {
            stream.write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes()).unwrap();
            // Beside answers there are events, and the greeting.
            let parsed = answers.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
            parsed.into_iter().find_map(|answer| answer.get("return").cloned()).unwrap()
        };
        ask("qmp_capabilities");
        let (uuid, status, disks) = (ask("query-uuid"), ask("query-status"), ask("query-block"));
        let disks = disks.as_array().unwrap().iter().map(|d| d["inserted"]["file"].to_string());
        format!("{} {} {}", uuid["UUID"], status["status"], disks.collect::<Vec<_>>().join(" "))
    }

    /// The definitions, but for the fence, which says who has changed it last.
    fn look_at_definitions(&self, facts: &mut Facts) {
        for entry in std::fs::read_dir(self.root.join("vms")).unwrap() {
            let folder = entry.unwrap();
            // Beside the machines there is the mark of the place.
            if !folder.file_type().unwrap().is_dir() {
                continue;
            }
            let path = folder.path().join("domain.json");
            if !path.exists() {
                // What is left if the consumer is killed behind the last file: nothing but the folder.
                let left = std::fs::read_dir(folder.path()).unwrap().count();
                assert_eq!(left, 0, "{}: files without a definition", folder.path().display());
                continue;
            }
            let mut definition: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            definition.as_object_mut().unwrap().remove("fence");
            facts.add(folder.file_name().to_str().unwrap(), DEFINITION, definition.to_string());
        }
    }

    fn look_at_volumes(&self, facts: &mut Facts) {
        let copy = self.root.join("copy.raw");
        for entry in std::fs::read_dir(self.volumes()).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            let machine = file.split('-').next().unwrap();
            let format = file.rsplit('.').next().unwrap();
            let mut content = entry.path();
            if format == "qcow2" {
                let mut info = Command::new("qemu-img");
                let info = run_json(info.args(["info", "-U", "--output=json", "-f", format]).arg(&content));
                let size = format!("{} {}", info["virtual-size"], info["snapshots"][0]["name"]);
                facts.add(machine, snapshot_of(&file), size);
                let mut convert = Command::new("qemu-img");
                run(convert.args(["convert", "-U", "-f", format, "-O", "raw"]).args([&content, &copy]));
                content.clone_from(&copy);
            }
            let sum = run(Command::new("sha256sum").arg(&content));
            let sum = sum.split(' ').next().unwrap();
            facts.add(machine, content_of(&file), sum);
        }
        let _ = std::fs::remove_file(copy);
    }
}

/// Whether a machine has a disk beside the one it boots from, or a disk at all though it never boots.
fn has_data(machine: &Machine) -> bool {
    machine.guest == Guest::Off || machine.number.is_multiple_of(3)
}

fn data_disk(machine: &Machine) -> String {
    format!("{}-data.raw", machine.name)
}

fn root_disk(machine: &Machine) -> String {
    format!("{}-root.qcow2", machine.name)
}

fn snapshot_of(disk: &str) -> String {
    format!("disk {disk}: size and snapshot")
}

fn content_of(disk: &str) -> String {
    format!("disk {disk}: content")
}
