//! The sandbox platform: eight machines with everything that belongs to one, as files and processes. One of them is in a
//! cluster of its own, and another cluster has a copy of it.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::{Criticality, Identity, Resource};
use sexton_model::{Instance, ResourceId};
use sexton_service::Config;
use uuid::Uuid;

use crate::serve::consumers;

/// The instances of the platform.
const INSTANCES: [&str; 9] = [
    CLUSTER,
    OWN,
    "ipam.main",
    "dns.main",
    "backup.main",
    "monitoring.main",
    "notifier.main",
    "accounting.main",
    "config.main",
];
/// The cluster that has all machines but one.
const CLUSTER: &str = "hypervisor.main";
/// The one that has [`APART`].
pub const OWN: &str = "hypervisor.north";
/// Another one, which has a machine of the same name and with the same UUID. It is no instance: nobody is sent there.
pub const OTHER: &str = "hypervisor.south";
/// The machine that has a cluster of its own.
pub const APART: &str = "web03";

/// The machines, and whether each is on.
const MACHINES: [(&str, bool); 8] = [
    ("web01", true),
    ("web02", true),
    ("web03", true),
    ("db01", true),
    ("db02", true),
    ("mail01", true),
    ("build01", false),
    ("spare01", false),
];

/// Folders in which a machine that is gone may still be named.
const KEPT: [&str; 4] = ["notifier", "accounting", "hypervisor/main/locks", "ipam/main/quarantine"];

/// The platform.
pub struct Platform {
    root: PathBuf,
    machines: Vec<Machine>,
}

struct Machine {
    name: String,
    uuid: Uuid,
    number: u16,
    /// Where it runs.
    cluster: Instance,
}

impl Machine {
    fn id(&self) -> anyhow::Result<ResourceId> {
        Ok(format!("vm/{}", self.name).parse()?)
    }

    fn identity(&self) -> anyhow::Result<Identity> {
        Ok(Identity::try_from(BTreeMap::from([("uuid".to_owned(), self.uuid.to_string())]))?)
    }

    fn host(&self) -> String {
        format!("{}.lab.test", self.name)
    }

    /// From the range that is set aside for tests of networks.
    fn address(&self) -> std::net::Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        [198, 18, high, low].into()
    }

    fn mac(&self) -> String {
        let [high, low] = self.number.to_be_bytes();
        format!("52:54:00:00:{high:02x}:{low:02x}")
    }
}

impl Platform {
    /// Make the demo's eight machines in `root`, which must not exist.
    pub fn create(root: &Path) -> anyhow::Result<Self> {
        let platform = Self::of(root, MACHINES.iter().map(|(name, on)| ((*name).to_owned(), *on)))?;
        let uuid = platform.machine(APART)?.uuid;
        sexton_hypervisor::sandbox::create_vm(root, &OTHER.parse()?, APART, uuid, true)
            .with_context(|| format!("making the copy of {APART}"))?;
        Ok(platform)
    }

    /// Make `count` running machines, vm0001 and so on, in `root`.
    pub fn of_many(root: &Path, count: u16) -> anyhow::Result<Self> {
        Self::of(root, (1..=count).map(|n| (format!("vm{n:04}"), true)))
    }

    fn of(root: &Path, named: impl Iterator<Item = (String, bool)>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let mut machines = Vec::new();
        for (number, (name, on)) in (1..).zip(named) {
            let cluster = if name == APART { OWN } else { CLUSTER };
            let machine = Machine { name, uuid: Uuid::new_v4(), number, cluster: cluster.parse()? };
            create(root, &machine, on).with_context(|| format!("making {}", machine.name))?;
            machines.push(machine);
        }
        sexton_consumer::sandbox::Sandbox::create(root, &"notifier.main".parse()?)?;
        Ok(Self { root: root.to_owned(), machines })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its machines.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.machines.iter().map(|m| m.name.as_str())
    }

    /// Its instances.
    pub fn instances(&self) -> Vec<Instance> {
        INSTANCES.into_iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// What reaches an instance: a sandbox driver, configured as in `sexton.toml`.
    pub fn driver(&self, instance: &Instance) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
        let text = format!(
            "[consumers.{:?}]\ndriver = \"sandbox\"\nroot = {:?}\ninstance = {:?}\n",
            instance.to_string(),
            self.root,
            instance.to_string()
        );
        let config = Config::parse(Path::new("demo"), &text, &["consumers"])?;
        consumers::build(instance, &config)
    }

    /// The machines as the platform would register them.
    pub fn resources(&self) -> anyhow::Result<Vec<Resource>> {
        self.machines.iter().map(resource).collect()
    }

    /// Every machine, as its subsystems show it.
    pub fn describe(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        self.names().map(|name| Ok((name.to_owned(), self.describe_one(name)?))).collect()
    }

    /// One machine, as its subsystems show it.
    pub fn describe_one(&self, name: &str) -> anyhow::Result<Value> {
        describe_in(&self.root, name, &self.machine(name)?.cluster)
    }

    fn machine(&self, name: &str) -> anyhow::Result<&Machine> {
        self.machines.iter().find(|m| m.name == name).with_context(|| format!("no machine {name}"))
    }

    /// Whoever reaches [`OWN`] reaches [`OTHER`] from now on, and the other way round; the second time it is as before.
    pub fn exchange_clusters(&self) -> anyhow::Result<()> {
        let [own, other] = [self.cluster(OWN)?, self.cluster(OTHER)?];
        let aside = own.with_extension("aside");
        for (from, to) in [(&own, &aside), (&other, &own), (&aside, &other)] {
            std::fs::rename(from, to)
                .with_context(|| format!("moving {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }

    /// [`APART`], as whoever reaches [`OWN`] sees it, and as whoever reaches [`OTHER`] does.
    pub fn both_clusters(&self) -> anyhow::Result<[Value; 2]> {
        let at = |cluster: &str| -> anyhow::Result<Value> {
            sexton_hypervisor::sandbox::describe_vm(&self.root, &cluster.parse()?, APART)
        };
        Ok([at(OWN)?, at(OTHER)?])
    }

    /// The folder of a cluster.
    fn cluster(&self, name: &str) -> anyhow::Result<PathBuf> {
        let Instance { subsystem, name } = name.parse()?;
        Ok(self.root.join(subsystem.as_str()).join(name.as_str()))
    }

    /// Every file of the platform that is called after a machine or speaks of it. What was sent to people stays
    /// sent, what was used stays on the account, a lock file is only a lock, and an address that rests says whose it was.
    pub fn traces(&self, name: &str) -> anyhow::Result<Vec<PathBuf>> {
        let machine = self.machine(name)?;
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    if !KEPT.iter().any(|kept| path.ends_with(kept)) {
                        folders.push(path);
                    }
                } else if path.display().to_string().contains(name)
                    || String::from_utf8_lossy(&std::fs::read(&path)?).contains(&machine.uuid.to_string())
                {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    /// End the processes of all machines that are on.
    pub async fn stop_everything(&self) {
        for cluster in [CLUSTER, OWN, OTHER] {
            let Ok(cluster) = cluster.parse::<Instance>() else { continue };
            if let Err(error) = sexton_hypervisor::sandbox::stop_all(&self.root, &cluster).await {
                eprintln!("a machine was not ended: {error:#}");
            }
        }
    }
}

/// One machine of the platform in `root`, which has a single cluster, as its subsystems show it.
pub fn describe_one(root: &Path, name: &str) -> anyhow::Result<Value> {
    describe_in(root, name, &CLUSTER.parse()?)
}

fn describe_in(root: &Path, name: &str, cluster: &Instance) -> anyhow::Result<Value> {
    let id: ResourceId = format!("vm/{name}").parse()?;
    let at = |text: &str| -> anyhow::Result<Instance> { Ok(text.parse()?) };
    Ok(json!({
        "hypervisor": sexton_hypervisor::sandbox::describe_vm(root, cluster, name)?,
        "dns": sexton_dns::sandbox::describe(root, &at("dns.main")?, &id)?,
        "ipam": sexton_ipam::sandbox::describe(root, &at("ipam.main")?, &id)?,
        "backup": sexton_backup::sandbox::describe(root, &at("backup.main")?, &id)?,
        "monitoring": sexton_monitoring::sandbox::describe(root, &at("monitoring.main")?, &id)?,
        "accounting": sexton_hook::sandbox::describe(root, &at("accounting.main")?, &id)?,
        "config": sexton_hook::sandbox::describe(root, &at("config.main")?, &id)?,
        "notifier": { "told": told(root, &at("notifier.main")?, &id)? },
    }))
}

/// Who was told that it goes, and not that it stays.
fn told(root: &Path, instance: &Instance, id: &ResourceId) -> anyhow::Result<Vec<Value>> {
    let all = sexton_notifier::sandbox::describe(root, instance)?;
    let of_it = all.as_array().into_iter().flatten().filter(|one| one["resource"] == id.to_string());
    Ok(of_it.filter_map(|one| one["told"].as_array()).flatten().cloned().collect())
}

fn create(root: &Path, machine: &Machine, on: bool) -> anyhow::Result<()> {
    let at = |text: &str| -> anyhow::Result<Instance> { Ok(text.parse()?) };
    let (id, identity, host) = (machine.id()?, machine.identity()?, machine.host());
    let address = machine.address();
    let mac = machine.mac().parse().map_err(|e: String| anyhow::anyhow!(e))?;
    sexton_hypervisor::sandbox::create_vm(root, &machine.cluster, &machine.name, machine.uuid, on)?;
    sexton_dns::sandbox::create(root, &at("dns.main")?, &id, &identity, &[&host], &[address.into()])?;
    sexton_ipam::sandbox::create(root, &at("ipam.main")?, &id, &identity, mac, 1, &[address])?;
    sexton_backup::sandbox::create(root, &at("backup.main")?, &id, &identity, &["monday", "tuesday"])?;
    sexton_monitoring::sandbox::create(
        root,
        &at("monitoring.main")?,
        &id,
        &identity,
        &format!("{address}:9100"),
    )?;
    for hooked in ["accounting.main", "config.main"] {
        sexton_hook::sandbox::create(root, &at(hooked)?, &id, &identity)?;
    }
    // Places for keys of memberships, of which there are none at first.
    for keys in ["cluster.main", "machine.main"] {
        sexton_consumer::sandbox::Sandbox::create(root, &at(keys)?)?;
    }
    Ok(())
}

fn resource(machine: &Machine) -> anyhow::Result<Resource> {
    let address = machine.address();
    let attributes = [
        ("dns", json!({ "names": [machine.host()], "addresses": [address] })),
        ("ipam", json!({ "mac": machine.mac(), "addresses": [address], "subnet": 1 })),
        ("monitoring", json!({ "address": format!("{address}:9100") })),
        ("notifier", json!({ "contacts": ["owner@example.org"] })),
    ];
    let not_main = Some(&machine.cluster).filter(|cluster| cluster.to_string() != CLUSTER);
    Ok(Resource {
        id: machine.id()?,
        scope: "demo".parse()?,
        identity: machine.identity()?,
        criticality: Criticality::Irreplaceable,
        rebuilt: None,
        priority: 100,
        groups: Vec::new(),
        exclusive: None,
        instances: not_main.map(|at| (at.subsystem.clone(), at.name.clone())).into_iter().collect(),
        protected: false,
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

/// The actions of all subsystems, as files of a catalogue.
pub fn catalogue() -> Vec<(&'static str, &'static str)> {
    let mut files = vec![
        ("hypervisor.toml", sexton_hypervisor::ACTIONS),
        ("ipam.toml", sexton_ipam::ACTIONS),
        ("dns.toml", sexton_dns::ACTIONS),
        ("backup.toml", sexton_backup::ACTIONS),
        ("monitoring.toml", sexton_monitoring::ACTIONS),
        ("notifier.toml", sexton_notifier::ACTIONS),
    ];
    files.extend(sexton_hook::ACTIONS);
    files
}
