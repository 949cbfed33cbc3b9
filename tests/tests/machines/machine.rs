//! The machines of the test, and the file their platform would hand over.
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

/// How many machines there are, and what becomes of them: first the retired, then the cancelled, then the others.
#[derive(Debug, Clone, Copy)]
pub struct Herd {
    pub machines: usize,
    pub retired: usize,
    pub cancelled: usize,
    /// Which ones run, and have backups, by their numbers from 1.
    pub runs: fn(usize) -> bool,
}

/// Machines beyond this number have neither address nor name: the subnet is full.
const ADDRESSED: usize = 250;
/// The scope of machines whose deletion is not cancelled.
pub const SCOPE: &str = "tenants/e2e";
/// The scope of machines whose deletion is cancelled.
pub const KEPT_SCOPE: &str = "tenants/e2e-kept";
/// The domain that all names are in.
pub const DOMAIN: &str = "e2e.lab.test";
/// The subnet in Kea.
pub const SUBNET: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Retired,
    Cancelled,
    /// Nobody asks for its deletion.
    LeftAlone,
}

/// What a machine does when it is asked to switch itself off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    Polite,
    Stubborn,
    /// It is off all the time.
    Off,
}

impl Herd {
    pub fn fate(&self, number: usize) -> Fate {
        match number {
            n if n <= self.retired => Fate::Retired,
            n if n <= self.retired + self.cancelled => Fate::Cancelled,
            _ => Fate::LeftAlone,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub number: usize,
    pub name: String,
    pub uuid: Uuid,
    pub fate: Fate,
    pub guest: Guest,
}

impl Machine {
    /// All of a herd.
    pub fn all(herd: &Herd) -> Vec<Self> {
        let machine = |number| {
            let guest = match number {
                n if !(herd.runs)(n) => Guest::Off,
                n if n % 4 == 0 => Guest::Stubborn,
                _ => Guest::Polite,
            };
            let fate = herd.fate(number);
            Self { number, name: format!("vm{number:03}"), uuid: Uuid::new_v4(), fate, guest }
        };
        (1..=herd.machines).map(machine).collect()
    }

    pub fn resource(&self) -> String {
        format!("vm/{}", self.name)
    }

    /// None if it has neither address nor name.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let last = u8::try_from(self.number).ok().filter(|_| self.number <= ADDRESSED)?;
        Some(Ipv4Addr::new(198, 51, 100, last))
    }

    pub fn mac(&self) -> String {
        format!("52:54:00:e2:e0:{:02x}", self.number)
    }

    /// Its own name, and every fifth a share in one that goes with many addresses.
    pub fn host_names(&self) -> Vec<String> {
        let mut names = vec![format!("{}.{DOMAIN}", self.name)];
        if self.number.is_multiple_of(5) {
            names.push(format!("pool.{DOMAIN}"));
        }
        names
    }

    pub fn owner(&self) -> String {
        format!("owner.{}@example.org", self.name)
    }

    /// Whether backups of it exist; restic takes its time.
    pub fn has_backups(&self) -> bool {
        self.guest != Guest::Off
    }

    /// A scope that tells whether its deletion is cancelled.
    pub fn scope(&self) -> &'static str {
        match self.fate {
            Fate::Cancelled => KEPT_SCOPE,
            Fate::Retired | Fate::LeftAlone => SCOPE,
        }
    }

    fn inventory_line(&self, folder: &Path) -> Value {
        let nothing = json!({ "none": true });
        let backup =
            if self.has_backups() { json!({ "paths": [folder.join(&self.name)] }) } else { nothing.clone() };
        let (dns, ipam) = match self.address() {
            Some(address) => (
                json!({ "names": self.host_names(), "addresses": [address] }),
                json!({ "mac": self.mac(), "addresses": [address], "subnet": SUBNET }),
            ),
            None => (nothing.clone(), nothing),
        };
        json!({
            "id": self.resource(),
            "scope": self.scope(),
            "identity": { "uuid": self.uuid },
            "criticality": "irreplaceable",
            "attributes": {
                "dns": dns,
                "ipam": ipam,
                "backup": backup,
                "notifier": { "contacts": [self.owner()] },
            },
        })
    }
}

/// Write the inventory; `backed_up` is the folder with what is backed up of each machine.
pub fn write_inventory(machines: &[Machine], backed_up: &Path, file: &Path) {
    let lines: Vec<String> = machines.iter().map(|m| m.inventory_line(backed_up).to_string()).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}
