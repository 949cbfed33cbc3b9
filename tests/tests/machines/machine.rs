//! The machines of the test, and the file their platform would hand over.
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

/// Machines in the inventory.
pub const MACHINES: usize = 200;
/// Of those, machines that are retired, and machines whose deletion is cancelled.
pub const EACH: usize = 20;
/// Further machines that run, and that have backups.
const NEIGHBOURS: usize = 4;
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

#[derive(Debug, Clone)]
pub struct Machine {
    pub number: usize,
    pub name: String,
    pub uuid: Uuid,
    pub fate: Fate,
    pub guest: Guest,
}

impl Machine {
    /// All of them: first the retired, then the cancelled, then the others.
    pub fn all() -> Vec<Self> {
        (1..=MACHINES).map(Self::number).collect()
    }

    fn number(number: usize) -> Self {
        let (retired, cancelled) = (EACH, 2 * EACH);
        let fate = match number {
            n if n <= retired => Fate::Retired,
            n if n <= cancelled => Fate::Cancelled,
            _ => Fate::LeftAlone,
        };
        let guest = match number {
            n if n > cancelled + NEIGHBOURS => Guest::Off,
            n if n % 4 == 0 => Guest::Stubborn,
            _ => Guest::Polite,
        };
        Self { number, name: format!("vm{number:03}"), uuid: Uuid::new_v4(), fate, guest }
    }

    pub fn resource(&self) -> String {
        format!("vm/{}", self.name)
    }

    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, u8::try_from(self.number).unwrap())
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

    fn inventory_line(&self, folder: &Path) -> Value {
        let backup = if self.has_backups() {
            json!({ "paths": [folder.join(&self.name)] })
        } else {
            json!({ "none": true })
        };
        json!({
            "id": self.resource(),
            "scope": "tenants/e2e",
            "identity": { "uuid": self.uuid },
            "criticality": "irreplaceable",
            "attributes": {
                "dns": { "names": self.host_names(), "addresses": [self.address()] },
                "ipam": { "mac": self.mac(), "addresses": [self.address()], "subnet": SUBNET },
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
