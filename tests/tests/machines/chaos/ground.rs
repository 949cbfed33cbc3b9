//! What machines stand on: real subsystems, or files.
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sexton_model::{Instance, ResourceId};

use super::Size;
use crate::facts::Facts;
use crate::glimpse::{Glimpse, Part};
use crate::import;
use crate::installation::Installation;
use crate::machine::{Fate, Guest, Herd, Machine};
use crate::platform::{Allowed, Platform};

/// The instances that a machine has parts in.
pub const INSTANCES: [&str; 8] = [
    "hypervisor.main",
    "ipam.main",
    "dns.main",
    "backup.main",
    "monitoring.main",
    "notifier.main",
    "accounting.main",
    "config.main",
];

pub enum Ground {
    Files(Herd),
    Real(Box<Platform>, Vec<Machine>),
}

impl Ground {
    pub fn set_up(size: &Size, folder: &Path) -> Self {
        if size.short {
            return Self::Files(size.herd);
        }
        let machines = Machine::all(&size.herd);
        Self::Real(Box::new(Platform::set_up(folder, &machines)), machines)
    }

    /// The sections of all consumers.
    pub fn configuration(&self, folder: &Path) -> String {
        match self {
            Self::Real(platform, _) => platform.configuration(),
            Self::Files(_) => {
                let root = folder.join("dev/platform");
                let section = |instance: &str| {
                    format!("[consumers.{instance:?}]\ndriver = \"sandbox\"\nroot = {root:?}\n")
                };
                INSTANCES.into_iter().map(section).collect()
            }
        }
    }

    /// Register the machines, and which they are.
    pub fn populate(&self, installation: &Installation, folder: &Path) -> Vec<Machine> {
        match self {
            Self::Real(platform, machines) => {
                import(platform, installation, machines, folder);
                machines.clone()
            }
            Self::Files(herd) => make_files(herd, installation, folder),
        }
    }

    /// What a consumer that was killed has left in its subsystem.
    pub fn take_dead_locks_away(&self) {
        match self {
            Self::Real(platform, _) => platform.take_dead_locks_away(),
            // They are locks of processes, and go with them.
            Self::Files(_) => {}
        }
    }

    /// Before anything is deleted.
    pub fn first_look(&self, installation: &Installation, machines: &[Machine]) -> Facts {
        match self {
            Self::Real(platform, _) => platform.first_look(machines),
            Self::Files(_) => look_at_files(installation, machines),
        }
    }

    /// What is there just now, while others are at work on it.
    pub fn glimpse(&self, installation: &Installation, machines: &[Machine]) -> Glimpse {
        match self {
            Self::Real(platform, _) => platform.glimpse(machines),
            Self::Files(_) => glimpse_of_files(&installation.folder().join("platform"), machines),
        }
    }

    /// A line for everything that is not as it must be in the end.
    pub fn mistakes(
        &self,
        installation: &Installation,
        machines: &[Machine],
        before: &Facts,
        kept_running: impl Fn(&str) -> bool,
        allowed: &Allowed,
    ) -> Vec<String> {
        if let Self::Real(platform, _) = self {
            return platform.mistakes(machines, before, kept_running, allowed);
        }
        let (mut expected, mut found) = (before.clone(), look_at_files(installation, machines));
        for Machine { name, fate, .. } in machines {
            match fate {
                Fate::Retired => retire(&mut expected, name),
                Fate::Cancelled if allowed.changed.contains(name) => {
                    expected.retain(name, |_| false);
                    found.retain(name, |_| false);
                }
                Fate::Cancelled | Fate::LeftAlone => {}
            }
        }
        Facts::differences(&expected, &found)
    }
}

/// Make machines of files, and register them, in scopes that say what becomes of them.
fn make_files(herd: &Herd, installation: &Installation, folder: &Path) -> Vec<Machine> {
    let root = installation.folder().join("platform");
    let mut machines = Vec::new();
    let mut inventory = String::new();
    for (number, mut line) in (1..).zip(installation.make_sandbox(&root, herd.machines)) {
        let machine = Machine {
            number,
            name: line["id"].as_str().unwrap().trim_start_matches("vm/").to_owned(),
            uuid: line["identity"]["uuid"].as_str().unwrap().parse().unwrap(),
            fate: herd.fate(number),
            guest: Guest::Polite,
        };
        line["scope"] = machine.scope().into();
        inventory += &format!("{line}\n");
        machines.push(machine);
    }
    assert_eq!(machines.len(), herd.machines);
    let file = folder.join("inventory.jsonl");
    std::fs::write(&file, inventory).unwrap();
    let imported = installation.sexton(&["import", file.to_str().unwrap()]);
    assert_eq!(imported["imported"], machines.len(), "{imported}");
    machines
}

/// What each subsystem shows of each machine.
fn look_at_files(installation: &Installation, machines: &[Machine]) -> Facts {
    let root = installation.folder().join("platform");
    let mut facts = Facts::default();
    for machine in machines {
        let shown = installation.sexton(&["sandbox", root.to_str().unwrap(), "--describe", &machine.name]);
        for (subsystem, how) in shown.as_object().unwrap() {
            facts.add(&machine.name, subsystem, how.to_string());
        }
    }
    facts
}

/// The parts of machines of files that are there, but for those that cannot be read. Definitions come last: what goes after
/// them was asked for before.
fn glimpse_of_files(root: &Path, machines: &[Machine]) -> Glimpse {
    let instance = |name: &str| name.parse::<Instance>().unwrap();
    let [backup, ipam, dns, monitoring, hypervisor] =
        ["backup.main", "ipam.main", "dns.main", "monitoring.main", "hypervisor.main"].map(instance);
    let vm = |machine: &Machine| sexton_hypervisor::sandbox::describe_vm(root, &hypervisor, &machine.name);
    let kept = |id: &ResourceId| sexton_backup::sandbox::describe(root, &backup, id);
    let address = |id: &ResourceId| sexton_ipam::sandbox::describe(root, &ipam, id);
    let names = |id: &ResourceId| sexton_dns::sandbox::describe(root, &dns, id);
    let target = |id: &ResourceId| sexton_monitoring::sandbox::describe(root, &monitoring, id);
    let any = |object: &Value| object.as_object().is_some_and(|object| !object.is_empty());
    let has = |part: Part, machine: &Machine, id: &ResourceId| -> anyhow::Result<bool> {
        Ok(match part {
            Part::Archives => !kept(id)?["archive"].is_null(),
            Part::Address => any(&address(id)?),
            Part::Names => any(&names(id)?),
            Part::Schedule => !kept(id)?["schedule"].is_null(),
            Part::Target => !target(id)?["target"].is_null(),
            Part::Process => vm(machine)?["runs"] == true,
            Part::Definition => !vm(machine)?.is_null(),
            // They are shown with their machine only.
            Part::Volumes => anyhow::bail!("not asked for"),
        })
    };
    let all = |part: Part| -> anyhow::Result<BTreeSet<String>> {
        let mut seen = BTreeSet::new();
        for machine in machines {
            if has(part, machine, &machine.resource().parse().unwrap())? {
                seen.insert(machine.name.clone());
            }
        }
        Ok(seen)
    };
    let mut seen = Glimpse::new();
    for part in Part::ALL {
        seen.extend(all(part).ok().map(|machines| (part, machines)));
    }
    seen
}

/// What is shown of a machine that is gone: what it owes is still on the account, and its owner was told.
fn retire(expected: &mut Facts, machine: &str) {
    for (subsystem, how) in [
        ("hypervisor", Value::Null),
        ("dns", json!({})),
        ("ipam", json!({})),
        ("backup", json!({ "archive": null, "schedule": null })),
        ("monitoring", json!({ "target": null, "history": null })),
        ("config", json!({ "object": null })),
        ("notifier", json!({ "told": ["owner@example.org"] })),
    ] {
        expected.change(machine, subsystem, |_| how.to_string());
    }
    expected.change(machine, "accounting", |text| {
        let mut account: Value = serde_json::from_str(text).unwrap();
        account["object"]["active"] = json!(false);
        account.to_string()
    });
}
