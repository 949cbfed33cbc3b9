//! Records in BIND. Asked is the server, for its whole zones (AXFR by `dig`).
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::facts::{Facts, NOBODY};
use crate::machine::{DOMAIN, Machine};
use crate::program::{run_with, try_run_with, wanted};

const ZONES: [&str; 2] = ["lab.test", REVERSE];
const REVERSE: &str = "100.51.198.in-addr.arpa";
/// Changes in one update; a message holds 64 KiB.
const UPDATE_MAX: usize = 100;

pub struct Names {
    host: String,
    port: String,
    key: [String; 3],
    /// The secret of the key, for the consumer: its configuration may be read by everybody.
    secret_file: PathBuf,
}

impl Names {
    pub fn set_up(folder: &Path, machines: &[Machine]) -> Self {
        let server = wanted("SEXTON_TEST_DNS_SERVER");
        let (host, port) = server.split_once(':').unwrap();
        let key = ["ALGORITHM", "NAME", "SECRET"].map(|part| wanted(&format!("SEXTON_TEST_DNS_KEY_{part}")));
        let secret_file = folder.join("dns.secret");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret_file).unwrap();
        file.write_all(key[2].as_bytes()).unwrap();
        let this = Self { host: host.into(), port: port.into(), key, secret_file };
        // What an earlier run left.
        let left = this.records().into_iter().map(|[owner, _, kind, _]| format!("delete {owner} {kind}"));
        this.update(&left.collect::<Vec<_>>());
        let mut add = Vec::new();
        for machine in machines {
            let Some(address) = machine.address() else { continue };
            add.extend(machine.host_names().iter().map(|name| format!("add {name}. 300 A {address}")));
            add.push(format!("add {} 300 PTR {}.", reverse(machine), machine.host_names()[0]));
        }
        this.update(&add);
        this
    }

    pub fn configuration(&self) -> String {
        let Self { host, port, key: [algorithm, name, _], secret_file } = self;
        format!(
            "[consumers.\"dns.main\"]\ndriver = \"rfc2136\"\nserver = \"{host}:{port}\"\nkey_name = {name:?}\n\
             key_secret_file = {secret_file:?}\nkey_algorithm = {algorithm:?}\nzones = {ZONES:?}\n"
        )
    }

    fn key(&self) -> String {
        self.key.join(":")
    }

    fn update(&self, changes: &[String]) {
        for some in changes.chunks(UPDATE_MAX) {
            // An update is for one zone.
            for zone in ZONES {
                let of_zone = |change: &&String| change.contains(REVERSE) == (zone == REVERSE);
                let some: Vec<&str> = some.iter().filter(of_zone).map(String::as_str).collect();
                if !some.is_empty() {
                    let text = format!(
                        "server {} {}\nzone {zone}\n{}\nsend\n",
                        self.host,
                        self.port,
                        some.join("\n")
                    );
                    run_with(Command::new("nsupdate").args(["-y", &self.key()]), &text);
                }
            }
        }
    }

    /// Owner, lifetime, type and data of every record that could be of this test.
    fn records(&self) -> Vec<[String; 4]> {
        self.try_records().unwrap_or_else(|why| panic!("{why}"))
    }

    fn try_records(&self) -> Result<Vec<[String; 4]>, String> {
        let mut records = Vec::new();
        for zone in ZONES {
            let mut dig = Command::new("dig");
            dig.args(["-y", &self.key(), "-p", &self.port, &format!("@{}", self.host)]);
            let text = try_run_with(dig.args([zone, "AXFR", "+noall", "+answer"]), "")?;
            if !text.contains("SOA") {
                return Err(format!("no transfer of {zone}: {text}"));
            }
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [owner, ttl, "IN", kind @ ("A" | "AAAA" | "PTR" | "CNAME" | "TXT"), ref data @ ..] =
                    words[..]
                else {
                    continue;
                };
                if owner.ends_with(&format!("{DOMAIN}.")) || zone == REVERSE {
                    records.push([owner.into(), ttl.into(), kind.into(), data.join(" ")]);
                }
            }
        }
        Ok(records)
    }

    /// How the names of a machine's things begin.
    pub fn things(machine: &Machine) -> Vec<String> {
        let Some(address) = machine.address() else { return Vec::new() };
        let names = machine.host_names();
        let mut things: Vec<String> =
            names.iter().map(|name| thing([&format!("{name}."), "A", &address.to_string()])).collect();
        things.push(thing([&reverse(machine), "PTR", &format!("{}.", names[0])]));
        things
    }

    /// Machines all of whose records are there just now; nothing if the server does not answer.
    pub fn glimpse(&self, machines: &[Machine]) -> Option<BTreeSet<String>> {
        let records = self.try_records().ok()?;
        let there: BTreeSet<String> =
            records.iter().map(|[owner, _, kind, data]| thing([owner, kind, data])).collect();
        let whole = |machine: &&Machine| {
            let things = Self::things(machine);
            !things.is_empty() && things.iter().all(|thing| there.contains(thing))
        };
        Some(machines.iter().filter(whole).map(|machine| machine.name.clone()).collect())
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        for [owner, ttl, kind, data] in self.records() {
            let its = |m: &&Machine| match kind.as_str() {
                "A" => m.address().is_some_and(|address| data == address.to_string()),
                _ => owner == reverse(m),
            };
            let machine = machines.iter().find(its).map_or(NOBODY, |m| &m.name);
            facts.add(machine, thing([&owner, &kind, &data]), format!("for {ttl} s"));
        }
        facts
    }
}

/// What a record is called, by its owner, type and data.
fn thing(record: [&str; 3]) -> String {
    format!("dns: {}", record.join(" "))
}

fn reverse(machine: &Machine) -> String {
    format!("{}.{REVERSE}.", machine.number)
}
