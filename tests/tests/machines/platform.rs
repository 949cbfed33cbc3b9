//! The platform that machines stand on: one part for each subsystem. Each sets up its things of every machine,
//! says how its consumer reaches it, and looks at it with the subsystem's own tools.
mod addresses;
mod backups;
mod guests;
mod names;
mod post;
pub mod records;
mod targets;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::facts::Facts;
use crate::glimpse::{Glimpse, Part};
use crate::machine::{Fate, Machine, write_inventory};

/// What may be other than usual, where more breaks than usual.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Machines whose records were lost in part: nobody promises that they came back as they were, nor what their
    /// owners were told.
    pub changed: BTreeSet<String>,
    /// Whoever tells people may have died before it could write down that it did: then they are told once more.
    pub told_again: bool,
}

pub struct Platform {
    guests: guests::Guests,
    names: names::Names,
    addresses: addresses::Addresses,
    backups: backups::Backups,
    targets: targets::Targets,
    records: records::Records,
    post: post::Post,
}

impl Platform {
    pub fn set_up(folder: &Path, machines: &[Machine]) -> Self {
        let records = records::Records::set_up(machines);
        let exporter = &records.address.to_string();
        std::thread::scope(|scope| {
            let guests = scope.spawn(|| guests::Guests::set_up(folder, machines));
            let targets = scope.spawn(|| targets::Targets::set_up(machines, exporter));
            let names = names::Names::set_up(folder, machines);
            let addresses = addresses::Addresses::set_up(folder, machines);
            let backups = backups::Backups::set_up(folder, machines);
            let post = post::Post::set_up(folder);
            let (guests, targets) = (guests.join().unwrap(), targets.join().unwrap());
            Self { guests, names, addresses, backups, targets, records, post }
        })
    }

    /// What the platform hands over.
    pub fn write_inventory(&self, machines: &[Machine], file: &Path) {
        write_inventory(machines, &self.backups.data(), file);
    }

    /// Where those are that are asked over HTTP and change something then: the control agent of Kea, and the hooks' server.
    pub fn listens(&self) -> [SocketAddr; 2] {
        [self.addresses.listens(), self.records.address]
    }

    /// Their consumers reach them at these other addresses.
    pub fn put_behind(&mut self, kea: SocketAddr, hooks: SocketAddr) {
        self.addresses.put_behind(kea);
        self.records.put_behind(hooks);
    }

    /// How the consumers reach it.
    pub fn configuration(&self) -> String {
        // A stop and a backup take their time: none should wait for another.
        let slow = "[credit]\nunpacked = [\"hypervisor.main\", \"backup.main\"]\n".to_owned();
        [
            slow,
            self.guests.configuration(),
            self.names.configuration(),
            self.addresses.configuration(),
            self.backups.configuration(),
            self.targets.configuration(),
            self.post.configuration(),
            self.records.configuration(),
        ]
        .join("\n")
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        std::thread::scope(|scope| {
            let guests = scope.spawn(|| self.guests.look(machines));
            facts.join(self.names.look(machines));
            facts.join(self.addresses.look(machines));
            facts.join(self.backups.look(machines));
            facts.join(self.targets.look(machines));
            facts.join(self.records.look(machines));
            facts.join(guests.join().unwrap());
        });
        facts
    }

    /// What is there just now, while others are at work on it.
    pub fn glimpse(&self, machines: &[Machine]) -> Glimpse {
        let mut seen = Glimpse::new();
        seen.extend(self.backups.glimpse(machines).map(|there| (Part::Archives, there)));
        seen.insert(Part::Volumes, self.guests.glimpse_of_volumes(machines));
        seen.extend(self.addresses.glimpse(machines).map(|there| (Part::Address, there)));
        seen.extend(self.names.glimpse(machines).map(|there| (Part::Names, there)));
        seen.insert(Part::Schedule, self.backups.glimpse_of_schedules(machines));
        seen.insert(Part::Target, self.targets.glimpse(machines));
        seen.insert(Part::Process, self.guests.glimpse_of_processes(machines));
        // Last: what goes after it was asked for before.
        seen.insert(Part::Definition, self.guests.glimpse_of_definitions(machines));
        seen
    }

    /// The same before anything is deleted: everything has to be seen of every machine. A look that has gone blind would
    /// find nothing in the end, either.
    pub fn first_look(&self, machines: &[Machine]) -> Facts {
        let facts = self.look(machines);
        let missing = machines.iter().flat_map(|machine| {
            let missing = facts.missing(&machine.name, &things(machine));
            missing.into_iter().map(move |thing| format!("{}: {thing}", machine.name))
        });
        let missing: Vec<String> = missing.collect();
        assert!(missing.is_empty(), "not seen though it was set up:\n{}", missing.join("\n"));
        facts
    }

    /// What a backup that was killed has left, which nobody takes away but a person who knows that it is dead.
    pub fn take_dead_locks_away(&self) {
        self.backups.unlock();
    }

    /// A line for everything that is not as it must be in the end. `kept_running` says of a machine whose
    /// deletion was cancelled whether it was never switched off.
    pub fn mistakes(
        &self,
        machines: &[Machine],
        before: &Facts,
        kept_running: impl Fn(&str) -> bool,
        allowed: &Allowed,
    ) -> Vec<String> {
        let (mut expected, mut found) = (before.clone(), self.look(machines));
        let mut added = 0;
        for machine in machines {
            let Machine { name, fate, .. } = machine;
            match fate {
                Fate::LeftAlone => {}
                Fate::Retired => {
                    retire(&mut expected, name);
                    if let Some(address) = machine.address() {
                        expected.add(name, addresses::QUARANTINE, json!(address).to_string());
                    }
                }
                Fate::Cancelled if allowed.changed.contains(name) => {
                    expected.retain(name, |_| false);
                    found.retain(name, |_| false);
                }
                Fate::Cancelled => {
                    added += backups::Backups::accept_final_backups(before, name, &mut found);
                    if !kept_running(name) {
                        // It runs again, as another process.
                        expected.retain(name, |thing| thing != guests::PROCESS);
                        found.retain(name, |thing| thing != guests::PROCESS);
                    }
                }
            }
        }
        println!("machines that came back have {added} more backups");
        let mut mistakes = Facts::differences(&expected, &found);
        mistakes.extend(self.post.mistakes(machines, allowed));
        self.backups.check();
        mistakes
    }
}

/// How the names of all things begin that a machine has before anything is deleted.
fn things(machine: &Machine) -> Vec<String> {
    [
        guests::Guests::things(machine),
        names::Names::things(machine),
        addresses::Addresses::things(machine),
        backups::Backups::things(machine),
        targets::Targets::things(),
        records::Records::things(),
    ]
    .concat()
}

/// What stays of a machine that is gone.
fn retire(expected: &mut Facts, machine: &str) {
    expected.retain(machine, records::is_its);
    records::retire(expected, machine);
}
