//! Leases and reservations in Kea. Asked is its control agent.
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::facts::{Facts, NOBODY};
use crate::machine::{Machine, SUBNET};
use crate::program::{run, try_run_with, wanted};

/// Begin the things of a machine here, which go on with its address.
const LEASE: &str = "ipam: lease ";
const RESERVATION: &str = "ipam: reservation ";
/// Of a machine whose address was released: which one rests.
pub const QUARANTINE: &str = "ipam: quarantine";
/// Kea's number for a lease of an address that nobody may have for a while.
const DECLINED: u64 = 1;

pub struct Addresses {
    url: String,
    /// Where its consumer asks.
    asked_at: String,
    lock: PathBuf,
}

impl Addresses {
    pub fn set_up(folder: &Path, machines: &[Machine]) -> Self {
        let url = wanted("SEXTON_TEST_KEA_URL");
        let this = Self { asked_at: url.clone(), url, lock: folder.join("kea.lock") };
        // What an earlier run left; 3 says that there was none.
        assert!([0, 3].contains(
            &this.command("lease4-wipe", json!({ "subnet-id": SUBNET }))["result"].as_i64().unwrap()
        ));
        this.reserve(machines);
        this.lease(machines);
        this
    }

    /// Where the server listens.
    pub fn listens(&self) -> SocketAddr {
        let (_, at) = self.url.split_once("://").unwrap();
        let host = at.split('/').next().unwrap();
        host.to_socket_addrs().unwrap().next().unwrap()
    }

    /// The consumer reaches it at another address.
    pub fn put_behind(&mut self, proxy: SocketAddr) {
        let (scheme, at) = self.url.split_once("://").unwrap();
        let path = at.split_once('/').map_or("", |(_, path)| path);
        self.asked_at = format!("{scheme}://{proxy}/{path}");
    }

    pub fn configuration(&self) -> String {
        format!(
            "[consumers.\"ipam.main\"]\ndriver = \"kea\"\nurl = {:?}\nlock_file = {:?}\n",
            self.asked_at, self.lock
        )
    }

    fn command(&self, command: &str, arguments: Value) -> Value {
        self.try_command(command, arguments).unwrap_or_else(|why| panic!("{command}: {why}"))
    }

    fn try_command(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let mut body = json!({ "command": command, "service": ["dhcp4"] });
        if !arguments.is_null() {
            body["arguments"] = arguments;
        }
        // A configuration is more than an argument may be long.
        let text = body.to_string();
        let mut curl = Command::new("curl");
        // Whoever looks on the way must not wait for ever.
        curl.args(["-sS", "--fail-with-body", "--max-time", "20"]);
        curl.args(["-H", "Content-Type: application/json", "-d", "@-", &self.url]);
        let answer = try_run_with(&mut curl, &text)?;
        let parsed = serde_json::from_str::<Value>(&answer).map_err(|e| format!("{answer}: {e}"))?;
        Ok(parsed[0].clone())
    }

    fn succeed(&self, command: &str, arguments: Value) -> Value {
        let answer = self.command(command, arguments);
        assert_eq!(answer["result"], 0, "{command}: {answer}");
        answer["arguments"].clone()
    }

    fn configured(&self) -> Value {
        let mut config = self.succeed("config-get", Value::Null);
        // Newer servers add it, and do not take it back.
        config.as_object_mut().unwrap().remove("hash");
        config
    }

    fn reserve(&self, machines: &[Machine]) {
        let mut config = self.configured();
        let reservations = machines.iter().filter(|m| m.address().is_some()).map(
            |m| json!({ "hw-address": m.mac(), "ip-address": m.address(), "hostname": m.host_names()[0] }),
        );
        let subnets = config["Dhcp4"]["subnet4"].as_array_mut().unwrap();
        let subnet = subnets.iter_mut().find(|s| s["id"] == SUBNET);
        let subnet = subnet.unwrap_or_else(|| panic!("{} has no subnet {SUBNET}", self.url));
        subnet["reservations"] = reservations.collect();
        self.succeed("config-set", config);
        self.succeed("config-write", Value::Null);
    }

    /// All in one call of curl.
    fn lease(&self, machines: &[Machine]) {
        let mut arguments: Vec<String> = vec!["-sS".into(), "--fail-with-body".into()];
        let addressed: Vec<_> = machines.iter().filter(|m| m.address().is_some()).collect();
        for machine in &addressed {
            let body = json!({ "command": "lease4-add", "service": ["dhcp4"], "arguments": {
                "ip-address": machine.address(), "hw-address": machine.mac(), "subnet-id": SUBNET,
                "hostname": machine.host_names()[0], "valid-lft": 86_400,
            }});
            if machine.number > 1 {
                arguments.push("--next".into());
            }
            arguments.extend(["-H".into(), "Content-Type: application/json".into()]);
            arguments.extend(["-d".into(), body.to_string(), self.url.clone()]);
        }
        let answers = run(Command::new("curl").args(arguments));
        assert_eq!(answers.matches("\"result\": 0").count(), addressed.len(), "{answers}");
    }

    /// How the names of a machine's things begin.
    pub fn things(machine: &Machine) -> Vec<String> {
        let Some(address) = machine.address() else { return Vec::new() };
        [LEASE, RESERVATION].map(|thing| format!("{thing}{}", json!(address))).into()
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        let holder = |mac: &Value, address: &Value| {
            let at = |m: &Machine| m.address().is_some_and(|its| *address == its.to_string());
            let its = |m: &&Machine| *mac == m.mac() && at(m);
            machines.iter().find(its).map_or(NOBODY, |m| &m.name).to_owned()
        };
        let leases = self.command("lease4-get-all", json!({ "subnets": [SUBNET] }));
        assert!([0, 3].contains(&leases["result"].as_i64().unwrap()), "{leases}");
        for lease in leases["arguments"]["leases"].as_array().into_iter().flatten() {
            let released_by = &lease["user-context"]["sexton"]["released_by"];
            if lease["state"] == DECLINED && released_by.is_string() {
                let name = holder(released_by, &lease["ip-address"]);
                facts.add(&name, QUARANTINE, lease["ip-address"].to_string());
                continue;
            }
            let name = holder(&lease["hw-address"], &lease["ip-address"]);
            facts.add(&name, format!("{LEASE}{}", lease["ip-address"]), lease.to_string());
        }
        let config = self.configured();
        let subnets = config["Dhcp4"]["subnet4"].as_array().unwrap();
        let subnet = subnets.iter().find(|s| s["id"] == SUBNET).unwrap();
        for reserved in subnet["reservations"].as_array().unwrap() {
            let name = holder(&reserved["hw-address"], &reserved["ip-address"]);
            facts.add(&name, format!("{RESERVATION}{}", reserved["ip-address"]), reserved.to_string());
        }
        let others = subnets.iter().filter(|s| s["id"] != SUBNET);
        facts.add(NOBODY, "ipam: other subnets", others.map(Value::to_string).collect::<String>());
        facts
    }
    /// Machines whose lease and whose reservation are there just now; nothing if the server does not answer.
    pub fn glimpse(&self, machines: &[Machine]) -> Option<BTreeSet<String>> {
        let leases = self.try_command("lease4-get-all", json!({ "subnets": [SUBNET] })).ok()?;
        let config = self.try_command("config-get", Value::Null).ok()?;
        if !([0, 3].contains(&leases["result"].as_i64()?) && config["result"] == 0) {
            return None;
        }
        let leases = leases["arguments"]["leases"].as_array().cloned().unwrap_or_default();
        let subnets = config["arguments"]["Dhcp4"]["subnet4"].as_array()?;
        let reserved = subnets.iter().find(|subnet| subnet["id"] == SUBNET)?["reservations"].as_array()?;
        let has = |all: &[Value], machine: &Machine, address: Ipv4Addr| {
            let its =
                |one: &Value| one["hw-address"] == machine.mac() && one["ip-address"] == address.to_string();
            all.iter().any(its)
        };
        let whole = |machine: &&Machine| {
            machine.address().is_some_and(|a| has(&leases, machine, a) && has(reserved, machine, a))
        };
        Some(machines.iter().filter(whole).map(|machine| machine.name.clone()).collect())
    }
}
