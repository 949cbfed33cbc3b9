//! What machines stand on: real subsystems, or files.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use sexton_model::{Instance, ResourceId};

use super::Size;
use super::fault::Server;
use super::proxy::Proxy;
use crate::facts::Facts;
use crate::glimpse::{Glimpse, Part};
use crate::import;
use crate::installation::Installation;
use crate::machine::{Fate, Guest, Herd, Machine};
use crate::platform::records::{self, Records};
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

/// Of these a machine of files has no parts that are files: they are asked over HTTP.
const HOOKED: [&str; 2] = ["accounting.main", "config.main"];

pub struct Ground {
    stands: Stands,
    /// What consumers reach those subsystems by that are asked over HTTP.
    proxies: BTreeMap<Server, Proxy>,
}

enum Stands {
    /// Files, but for accounting and configuration management.
    Files(Herd, Box<Records>),
    Real(Box<Platform>, Vec<Machine>),
}

impl Ground {
    pub fn set_up(size: &Size, folder: &Path) -> Self {
        if size.short {
            let mut records = Box::new(Records::set_up(&[]));
            let hooks = before(records.address);
            records.put_behind(hooks.address);
            let stands = Stands::Files(size.herd, records);
            return Self { stands, proxies: BTreeMap::from([(Server::Hooks, hooks)]) };
        }
        let machines = Machine::all(&size.herd);
        let mut platform = Platform::set_up(folder, &machines);
        let [kea, hooks] = platform.listens().map(before);
        platform.put_behind(kea.address, hooks.address);
        let proxies = BTreeMap::from([(Server::Kea, kea), (Server::Hooks, hooks)]);
        Self { stands: Stands::Real(Box::new(platform), machines), proxies }
    }

    pub fn proxies(&self) -> &BTreeMap<Server, Proxy> {
        &self.proxies
    }

    /// The sections of all consumers.
    pub fn configuration(&self, folder: &Path) -> String {
        match &self.stands {
            Stands::Real(platform, _) => platform.configuration(),
            Stands::Files(_, records) => {
                let root = folder.join("dev/platform");
                let section = |instance: &str| {
                    format!("[consumers.{instance:?}]\ndriver = \"sandbox\"\nroot = {root:?}\n")
                };
                let of_files = INSTANCES.into_iter().filter(|instance| !HOOKED.contains(instance));
                of_files.map(section).collect::<String>() + &records.configuration()
            }
        }
    }

    /// Register the machines, and which they are.
    pub fn populate(&self, installation: &Installation, folder: &Path) -> Vec<Machine> {
        match &self.stands {
            Stands::Real(platform, machines) => {
                import(platform, installation, machines, folder);
                machines.clone()
            }
            Stands::Files(herd, records) => {
                let machines = make_files(herd, installation, folder);
                records.add(&machines);
                machines
            }
        }
    }

    /// What a consumer that was killed has left in its subsystem.
    pub fn take_dead_locks_away(&self) {
        match &self.stands {
            Stands::Real(platform, _) => platform.take_dead_locks_away(),
            // They are locks of processes, and go with them.
            Stands::Files(..) => {}
        }
    }

    /// Before anything is deleted.
    pub fn first_look(&self, installation: &Installation, machines: &[Machine]) -> Facts {
        match &self.stands {
            Stands::Real(platform, _) => platform.first_look(machines),
            Stands::Files(_, records) => look_at_files(installation, records, machines),
        }
    }

    /// The parts that can be asked for. Volumes that are files are shown with their machine only.
    pub fn parts(&self) -> BTreeSet<Part> {
        let hidden = match &self.stands {
            Stands::Real(..) => None,
            Stands::Files(..) => Some(Part::Volumes),
        };
        Part::ALL.into_iter().filter(|part| Some(*part) != hidden).collect()
    }

    /// What is there just now, while others are at work on it.
    pub fn glimpse(&self, installation: &Installation, machines: &[Machine]) -> Glimpse {
        match &self.stands {
            Stands::Real(platform, _) => platform.glimpse(machines),
            Stands::Files(..) => glimpse_of_files(&installation.folder().join("platform"), machines),
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
        let records = match &self.stands {
            Stands::Real(platform, _) => {
                return platform.mistakes(machines, before, kept_running, allowed);
            }
            Stands::Files(_, records) => records,
        };
        let (mut expected, mut found) = (before.clone(), look_at_files(installation, records, machines));
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

/// Before a server that listens there.
fn before(server: SocketAddr) -> Proxy {
    Proxy::start(move || vec![server])
}

/// What each subsystem shows of each machine.
fn look_at_files(installation: &Installation, records: &Records, machines: &[Machine]) -> Facts {
    let root = installation.folder().join("platform");
    let mut facts = records.look(machines);
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
            // See `Ground::parts`.
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

/// What is shown of a machine that is gone: its owner was told.
fn retire(expected: &mut Facts, machine: &str) {
    for (subsystem, how) in [
        ("hypervisor", Value::Null),
        ("dns", json!({})),
        ("ipam", json!({})),
        ("backup", json!({ "archive": null, "schedule": null })),
        ("monitoring", json!({ "target": null, "history": null })),
        ("notifier", json!({ "told": ["owner@example.org"] })),
    ] {
        expected.change(machine, subsystem, |_| how.to_string());
    }
    records::retire(expected, machine);
}
