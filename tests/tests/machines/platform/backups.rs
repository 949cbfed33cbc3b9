//! Backups in a restic repository, and their schedules. Asked is restic.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::facts::{Facts, NOBODY};
use crate::machine::Machine;
use crate::program::{run, run_json, try_run_with};

/// Begins the thing that is a snapshot.
const SNAPSHOT: &str = "backup: snapshot ";
const SCHEDULE: &str = "backup: schedule";
/// restic mostly waits for itself, so that several may be called at a time.
const AT_A_TIME: usize = 8;

pub struct Backups {
    folder: PathBuf,
}

impl Backups {
    pub fn set_up(folder: &Path, machines: &[Machine]) -> Self {
        let this = Self { folder: folder.join("restic") };
        for folder in ["schedules", "data"] {
            std::fs::create_dir_all(this.folder.join(folder)).unwrap();
        }
        std::fs::write(this.folder.join("password"), "correct horse\n").unwrap();
        run(&mut this.restic(&["init"]));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/components/restic-quick-key.py");
        run(Command::new("python3")
            .arg(script)
            .args(["repository", "password"].map(|f| this.folder.join(f))));
        let place = json!({ "repository": run_json(&mut this.restic(&["cat", "config"]))["id"] });
        std::fs::write(this.folder.join("schedules/.place"), place.to_string()).unwrap();
        let machines: Vec<_> = machines.iter().filter(|m| m.has_backups()).collect();
        std::thread::scope(|scope| {
            for some in machines.chunks(machines.len().div_ceil(AT_A_TIME)) {
                scope.spawn(|| some.iter().for_each(|machine| this.back_up(machine)));
            }
        });
        this
    }

    /// What is backed up of each machine, each in a folder with its name.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn configuration(&self) -> String {
        let [repository, password, schedules] =
            ["repository", "password", "schedules"].map(|name| self.folder.join(name));
        format!(
            "[consumers.\"backup.main\"]\ndriver = \"restic\"\nrepository = {repository:?}\n\
             password_file = {password:?}\nschedules_dir = {schedules:?}\n"
        )
    }

    fn restic(&self, arguments: &[&str]) -> Command {
        self.of_repository(Command::new("restic"), arguments)
    }

    fn of_repository(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(["--no-cache", "--repo"])
            .arg(self.folder.join("repository"))
            .arg("--password-file")
            .arg(self.folder.join("password"))
            .args(arguments);
        command
    }

    fn back_up(&self, machine: &Machine) {
        let (name, data) = (&machine.name, self.data().join(&machine.name));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("etc"), format!("the settings of {name}\n").repeat(400)).unwrap();
        // So that machines share some of their data in the repository, as they do.
        std::fs::write(data.join("system"), "what all machines have\n".repeat(400)).unwrap();
        let tag = format!("uuid={}", machine.uuid);
        let arguments = ["backup", "--quiet", "--host", name, "--tag", &tag];
        run(self.restic(&arguments).arg(data));
        let schedule = json!({ "uuid": machine.uuid, "hour": machine.number % 24 });
        std::fs::write(self.folder.join(format!("schedules/{name}.json")), schedule.to_string()).unwrap();
    }

    /// How the names of a machine's things begin.
    pub fn things(machine: &Machine) -> Vec<String> {
        let things: &[&str] = if machine.has_backups() { &[SNAPSHOT, SCHEDULE] } else { &[] };
        things.iter().map(|thing| (*thing).to_owned()).collect()
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        let snapshots = run_json(&mut self.restic(&["snapshots", "--json"]));
        for snapshot in snapshots.as_array().into_iter().flatten() {
            let tags: Vec<&str> = words(&snapshot["tags"]);
            let its = |m: &&Machine| tags.contains(&format!("uuid={}", m.uuid).as_str());
            let name = machines.iter().find(its).map_or(NOBODY, |m| &m.name);
            let thing = format!("{SNAPSHOT}{}", snapshot["short_id"].as_str().unwrap());
            let how =
                format!("{} {} {}", snapshot["tree"], words(&snapshot["paths"]).join(" "), tags.join(" "));
            facts.add(name, thing, how);
        }
        for entry in std::fs::read_dir(self.folder.join("schedules")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if name != ".place" {
                facts.add(name, SCHEDULE, std::fs::read_to_string(&path).unwrap());
            }
        }
        facts
    }

    /// Machines of which there are backups just now; nothing if the repository does not answer. Without a lock, which would
    /// stand in the way of whoever deletes.
    pub fn glimpse(&self, machines: &[Machine]) -> Option<BTreeSet<String>> {
        // Whoever looks on the way must not wait for ever.
        let mut timely = Command::new("timeout");
        timely.args(["--kill-after=5", "20", "restic"]);
        let mut command = self.of_repository(timely, &["snapshots", "--json", "--no-lock"]);
        let text = try_run_with(&mut command, "").ok()?;
        let snapshots: Value = serde_json::from_str(&text).ok()?;
        let all = snapshots.as_array()?.iter();
        let tags: BTreeSet<&str> = all.flat_map(|snapshot| words(&snapshot["tags"])).collect();
        let its = |machine: &&Machine| tags.contains(format!("uuid={}", machine.uuid).as_str());
        Some(machines.iter().filter(its).map(|machine| machine.name.clone()).collect())
    }

    /// Machines with a schedule just now.
    pub fn glimpse_of_schedules(&self, machines: &[Machine]) -> BTreeSet<String> {
        let there =
            |machine: &&Machine| self.folder.join(format!("schedules/{}.json", machine.name)).exists();
        machines.iter().filter(there).map(|machine| machine.name.clone()).collect()
    }

    /// Take what a final backup of a machine that came back has left out of `found`; a backup takes nothing
    /// away. Returns how many there were.
    pub fn accept_final_backups(before: &Facts, machine: &str, found: &mut Facts) -> usize {
        let known: Vec<String> = before.of(machine).map(|(thing, _)| thing.to_owned()).collect();
        let is_final = |how: &str| how.contains("sexton-final") || how.contains("sexton-candidate");
        let added: Vec<String> = found
            .of(machine)
            .filter(|(thing, how)| thing.starts_with(SNAPSHOT) && is_final(how))
            .map(|(thing, _)| thing.to_owned())
            .filter(|thing| !known.contains(thing))
            .collect();
        found.retain(machine, |thing| !added.iter().any(|a| a == thing));
        added.len()
    }

    /// Take away locks whose owner is dead.
    pub fn unlock(&self) {
        run(&mut self.restic(&["unlock"]));
    }

    /// restic's own check, of all data.
    pub fn check(&self) {
        run(&mut self.restic(&["check", "--read-data"]));
    }
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
