//! IPAM as JSON files in a folder, each with `"resource": TEXT` and `"identity": {…}`, whose it is:
//!
//! | kind | called like | what else it holds |
//! | --- | --- | --- |
//! | `addresses` | the address | `"mac": TEXT, "subnet": NUMBER, "lease": OBJECT\|null, "reservation": OBJECT\|null` |
//! | `firewall_rules` | the address that they name | `"rules": [TEXT, …]` |
//! | `vm_ids` | the machine's MAC | `"id": NUMBER` |
//! | `quarantine` | a released address | `"until": MICROSECONDS`, before which [`create`] gives it to nobody; it states no resource |
//!
//! What is pinned of addresses is the same as of a real server: [`Targets`].
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_consumer::{Clock, SystemClock};
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{Fence, Instance, ResourceId, Timestamp};

use crate::address::{Attributes, Mac, Pinned, Rules, Targets, VmId, where_pinned};
use crate::only_release;
use crate::quarantine::Quarantine;

const ADDRESSES: &str = "addresses";
const FIREWALL: &str = "firewall_rules";
const VM_IDS: &str = "vm_ids";
const QUARANTINE: &str = "quarantine";

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `ipam.main`.
    pub instance: Instance,
    /// How long a released address is given to nobody, in days of 24 hours: 1 to 365.
    #[serde(default)]
    pub quarantine_days: Quarantine,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxIpam {
    sandbox: Sandbox,
    quarantine: Quarantine,
}

/// Make the place, if need be, with a lease, a reservation and a firewall rule of every address for `resource`, and the
/// machine's number.
///
/// # Errors
/// If the file system refuses, or one of the addresses is in quarantine; then nothing is made.
pub fn create(
    root: &Path,
    instance: &Instance,
    resource: &ResourceId,
    identity: &Identity,
    mac: Mac,
    subnet: u32,
    addresses: &[Ipv4Addr],
) -> anyhow::Result<()> {
    let sandbox = Sandbox::create(root, instance)?;
    for address in addresses {
        let until = rests_until(&sandbox, *address)?;
        let free = until <= SystemClock::default().now();
        ensure!(free, "{address} was released and is given to nobody before {}", until.rfc3339());
    }
    let owned = || {
        let mut object = Object::new();
        object.insert("resource".into(), json!(resource));
        object.insert("identity".into(), json!(identity));
        object
    };
    let mut id = owned();
    id.insert("id".into(), json!(mac.number()));
    sandbox.write(VM_IDS, &mac.to_string(), id, Fence::default())?;
    for address in addresses {
        let mut rules = owned();
        rules.insert("rules".into(), json!([format!("allow tcp from any to {address} port 443")]));
        sandbox.write(FIREWALL, &address.to_string(), rules, Fence::default())?;
        let mut object = owned();
        object.insert("mac".into(), json!(mac));
        object.insert("subnet".into(), json!(subnet));
        object.insert("lease".into(), json!({ "hostname": resource.name }));
        object.insert("reservation".into(), json!({ "hostname": resource.name }));
        sandbox.write(ADDRESSES, &address.to_string(), object, Fence::default())?;
    }
    Ok(())
}

/// Until when a released address is given to nobody; long ago if it was never released.
fn rests_until(sandbox: &Sandbox, address: Ipv4Addr) -> anyhow::Result<Timestamp> {
    let name = address.to_string();
    match sandbox.read(QUARANTINE, &name)? {
        Some(object) => {
            field(QUARANTINE, &name, &object, "until").context("asking whether an address may be given out")
        }
        None => Ok(Timestamp::default()),
    }
}

/// All that `resource` has here, for comparing before and after; without fences.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance, resource: &ResourceId) -> anyhow::Result<Value> {
    let sandbox = Sandbox::at(root, instance);
    let mut all = Object::new();
    for kind in [ADDRESSES, FIREWALL, VM_IDS] {
        for name in sandbox.list(kind)? {
            if let Some(mut object) = sandbox.read(kind, &name)?
                && object.get("resource") == Some(&json!(resource))
            {
                object.remove("fence");
                all.insert(format!("{kind}/{name}"), Value::Object(object));
            }
        }
    }
    Ok(Value::Object(all))
}

impl SandboxIpam {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance), quarantine: config.quarantine_days }
    }

    fn read(&self, address: Ipv4Addr) -> Result<Option<Object>, Obstacle> {
        self.sandbox.read(ADDRESSES, &address.to_string())
    }

    /// The firewall rules of `address`, if there are any: those of `identity`, or whose else.
    fn rules(
        &self,
        identity: &Identity,
        address: Ipv4Addr,
    ) -> Result<Option<Result<Rules, String>>, Obstacle> {
        let name = address.to_string();
        let Some(object) = self.sandbox.read(FIREWALL, &name)? else { return Ok(None) };
        if let Some(why) = other_owner(identity, FIREWALL, &name, &object) {
            return Ok(Some(Err(why)));
        }
        let rules = field(FIREWALL, &name, &object, "rules")?;
        Ok(Some(Ok(Rules { address, rules })))
    }

    /// The number of the machine with this card, if there is one: that of `identity`, or whose else.
    fn vm_id(&self, identity: &Identity, mac: Mac) -> Result<Option<Result<VmId, String>>, Obstacle> {
        let name = mac.to_string();
        let Some(object) = self.sandbox.read(VM_IDS, &name)? else { return Ok(None) };
        if let Some(why) = other_owner(identity, VM_IDS, &name, &object) {
            return Ok(Some(Err(why)));
        }
        let id = field(VM_IDS, &name, &object, "id")?;
        Ok(Some(Ok(VmId { id, mac })))
    }

    fn look(&self, identity: &Identity, attributes: Option<&Attributes>) -> Result<Inspection, Obstacle> {
        let place = self.sandbox.place()?;
        let mut targets = Targets { place: place.0.clone(), ..Targets::default() };
        let mut foreign = None;
        let mut expected = false;
        for (address, attributes) in attributes.iter().flat_map(|a| a.addresses.iter().map(move |x| (*x, *a)))
        {
            expected = true;
            match self.rules(identity, address)? {
                Some(Ok(rules)) => targets.firewall.push(rules),
                Some(Err(why)) => foreign = foreign.or(Some(why)),
                None => {}
            }
            let Some(object) = self.read(address)? else { continue };
            if let Some(why) = stranger(identity, attributes.mac, address, &object) {
                foreign.get_or_insert(why);
                continue;
            }
            let held = |key: &str| object.get(key).filter(|v| !v.is_null());
            let text = |key: &str| held("lease").and_then(|l| l.get(key)?.as_str().map(str::to_owned));
            targets.addresses.push(Pinned {
                address,
                mac: attributes.mac,
                subnet: attributes.subnet,
                client_id: text("client_id"),
                hostname: text("hostname"),
                lease: held("lease").is_some(),
                reservation: held("reservation").is_some(),
            });
        }
        if let Some(attributes) = attributes {
            match self.vm_id(identity, attributes.mac)? {
                Some(Ok(id)) => targets.vm_ids.push(id),
                Some(Err(why)) => foreign = foreign.or(Some(why)),
                None => {}
            }
        }
        let found = match foreign {
            Some(why) => Found::Different(why),
            None if targets.is_empty() && expected => Found::Absent(place.clone()),
            None => Found::Same,
        };
        let mut evidence = format!("{}: {}", place.0, targets.summary());
        if attributes.is_none() {
            evidence.push_str(", as attributes.ipam states with none = true");
        }
        Ok(Inspection { found, targets: json!(targets), protected: None, evidence })
    }

    fn compare(&self, identity: &Identity, targets: &Targets) -> Result<Found, Obstacle> {
        let place = self.sandbox.place()?;
        if let Some(why) = targets.elsewhere(&place.0) {
            return Ok(Found::Different(why));
        }
        let mut found = Found::Absent(place);
        for pinned in &targets.addresses {
            let Some(object) = self.read(pinned.address)? else { continue };
            if let Some(why) = stranger(identity, pinned.mac, pinned.address, &object) {
                return Ok(Found::Different(why));
            }
            found = Found::Same;
        }
        for held in &targets.firewall {
            match self.rules(identity, held.address)? {
                Some(Ok(_)) => found = Found::Same,
                Some(Err(why)) => return Ok(Found::Different(why)),
                None => {}
            }
        }
        for held in &targets.vm_ids {
            match self.vm_id(identity, held.mac)? {
                Some(Ok(id)) if id == *held => found = Found::Same,
                Some(Ok(id)) => {
                    let why = format!("{VM_IDS}/{} is {}, not {}", held.mac, id.id, held.id);
                    return Ok(Found::Different(why));
                }
                Some(Err(why)) => return Ok(Found::Different(why)),
                None => {}
            }
        }
        Ok(found)
    }

    /// Release what was pinned. `may` is asked before each change.
    fn release(
        &self,
        identity: &Identity,
        targets: &Targets,
        may: &dyn Fn() -> Result<Fence, Obstacle>,
    ) -> Result<Done, Obstacle> {
        if let Found::Different(why) = self.compare(identity, targets)? {
            return Err(Obstacle::Refuse(why));
        }
        for pinned in &targets.addresses {
            // Who dies between the two leaves one that rests and is still held. One that is gone rests since it went.
            if let Some(object) = self.read(pinned.address)? {
                self.rest(pinned.address, &object, may()?)?;
                self.sandbox.remove(ADDRESSES, &pinned.address.to_string(), may()?)?;
            }
        }
        for held in &targets.firewall {
            self.sandbox.remove(FIREWALL, &held.address.to_string(), may()?)?;
        }
        for held in &targets.vm_ids {
            self.sandbox.remove(VM_IDS, &held.mac.to_string(), may()?)?;
        }
        Ok(Done::saw(format!("released {}", targets.summary())))
    }

    /// From now on `address`, which is `held`, is given to nobody for a while.
    fn rest(&self, address: Ipv4Addr, held: &Object, fence: Fence) -> Result<(), Obstacle> {
        let until = SystemClock::default().now().plus_ms(self.quarantine.ms());
        let mut object = Object::new();
        object.insert("identity".into(), held.get("identity").cloned().unwrap_or_default());
        object.insert("until".into(), json!(until));
        self.sandbox.write(QUARANTINE, &address.to_string(), object, fence)
    }

    fn seen(&self, identity: &Identity, targets: &Targets) -> Result<(Presence, String), Obstacle> {
        let place = self.sandbox.place()?.0;
        match self.compare(identity, targets)? {
            Found::Absent(_) => Ok((Presence::Absent, format!("{place}: free is {}", targets.summary()))),
            Found::Same => Ok((Presence::Present, format!("{place}: not yet free is {}", targets.summary()))),
            Found::Different(why) => Err(Obstacle::Refuse(why)),
        }
    }
}

/// Why an object is another resource's.
fn other_owner(identity: &Identity, kind: &str, name: &str, object: &Object) -> Option<String> {
    let held = object.get("identity").unwrap_or(&Value::Null);
    (*held != json!(identity)).then(|| format!("{kind}/{name} has identity {held}"))
}

/// One field of an object.
fn field<T: DeserializeOwned>(kind: &str, name: &str, object: &Object, key: &str) -> Result<T, Obstacle> {
    let value = object.get(key).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| Obstacle::Unclear(format!("{kind}/{name}: {key}: {e}")))
}

/// Why the address is another resource's.
fn stranger(identity: &Identity, mac: Mac, address: Ipv4Addr, object: &Object) -> Option<String> {
    if let Some(why) = other_owner(identity, ADDRESSES, &address.to_string(), object) {
        return Some(why);
    }
    let held = object.get("mac").unwrap_or(&Value::Null);
    (*held != json!(mac)).then(|| format!("addresses/{address} goes with MAC {held}, not {mac}"))
}

#[async_trait]
impl Driver for SandboxIpam {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let attributes = Attributes::parse(&step.resource, &step.attributes)?;
        where_pinned(step, self.look(&step.identity, attributes.as_ref())?)
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        if step.targets.is_null() {
            return Ok(self.inspect(step).await?.found);
        }
        self.compare(&step.identity, &Targets::parse(&step.resource, &step.targets)?)
    }

    async fn perform(
        &self,
        step: &StepContext,
        _manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        only_release(step)?;
        let targets = Targets::parse(&step.resource, &step.targets)?;
        self.release(&step.identity, &targets, &|| permit.again())
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.seen(&step.identity, &Targets::parse(&step.resource, &step.targets)?)
    }
}

#[cfg(test)]
mod tests;
