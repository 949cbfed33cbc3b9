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
mod tests {
    use super::*;

    const FENCE: Fence = Fence { epoch: 1, number: 2 };

    /// Every change may be made.
    fn may() -> Result<Fence, Obstacle> {
        Ok(FENCE)
    }

    struct Stand {
        root: tempfile::TempDir,
        driver: SandboxIpam,
        instance: Instance,
        resource: ResourceId,
        attributes: Attributes,
    }

    fn identity(uuid: &str) -> Identity {
        Identity::try_from(std::collections::BTreeMap::from([("uuid".to_owned(), uuid.to_owned())])).unwrap()
    }

    fn stand() -> Stand {
        let root = tempfile::tempdir().unwrap();
        let instance: Instance = "ipam.main".parse().unwrap();
        let resource: ResourceId = "vm/web01".parse().unwrap();
        let config = Config {
            root: root.path().to_owned(),
            instance: instance.clone(),
            quarantine_days: Quarantine::default(),
        };
        let attributes = Attributes {
            mac: "52:54:00:00:00:10".parse().unwrap(),
            addresses: vec![Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 11)],
            subnet: 1,
        };
        let Attributes { mac, subnet, addresses } = &attributes;
        create(root.path(), &instance, &resource, &identity("u1"), *mac, *subnet, addresses).unwrap();
        Stand { driver: SandboxIpam::new(&config), root, instance, resource, attributes }
    }

    impl Stand {
        fn pin(&self) -> Targets {
            let seen = self.driver.look(&identity("u1"), Some(&self.attributes)).unwrap();
            assert_eq!(seen.found, Found::Same);
            Targets::parse(&self.resource, &seen.targets).unwrap()
        }

        fn describe(&self) -> Value {
            describe(self.root.path(), &self.instance, &self.resource).unwrap()
        }
    }

    #[test]
    fn what_was_pinned_is_released_and_a_repeat_is_done() {
        let s = stand();
        let targets = s.pin();
        assert!(targets.addresses.iter().all(|a| a.lease && a.reservation));
        assert_eq!((targets.firewall.len(), targets.vm_ids.len()), (2, 1), "{targets:?}");
        assert_eq!(s.driver.seen(&identity("u1"), &targets).unwrap().0, Presence::Present);
        for _ in 0..2 {
            s.driver.release(&identity("u1"), &targets, &may).unwrap();
            assert!(matches!(s.driver.compare(&identity("u1"), &targets), Ok(Found::Absent(_))));
            assert_eq!(s.driver.seen(&identity("u1"), &targets).unwrap().0, Presence::Absent);
        }
        assert_eq!(s.describe(), json!({}));
    }

    #[test]
    fn a_released_address_is_not_given_out_before_its_time() {
        let s = stand();
        let targets = s.pin();
        let (attributes, other): (_, ResourceId) = (&s.attributes, "vm/web02".parse().unwrap());
        let again = || {
            let (mac, address) = ("52:54:00:00:00:20".parse().unwrap(), [attributes.addresses[1]]);
            create(s.root.path(), &s.instance, &other, &identity("u2"), mac, 1, &address)
        };
        s.driver.release(&identity("u1"), &targets, &may).unwrap();
        let held = || rests_until(&s.driver.sandbox, attributes.addresses[1]).unwrap();
        let until = held();
        let rests_ms = until.ms_since(SystemClock::default().now());
        assert!(rests_ms > 6 * 86_400_000 && rests_ms <= 7 * 86_400_000, "{rests_ms}");
        // A repeat does not begin it anew.
        s.driver.release(&identity("u1"), &targets, &may).unwrap();
        assert_eq!(held(), until);
        let refused = again().unwrap_err().to_string();
        assert!(refused.contains("192.0.2.11 was released"), "{refused}");
        let describe = || describe(s.root.path(), &s.instance, &other).unwrap();
        assert_eq!(describe(), json!({}), "nothing was made");
        // What cannot be read is not over.
        for (until, over) in [(json!("soon"), false), (json!(1), true)] {
            let object = Object::from_iter([("until".to_owned(), until)]);
            s.driver.sandbox.write(QUARANTINE, "192.0.2.11", object, FENCE).unwrap();
            assert_eq!(again().is_ok(), over);
        }
        assert_ne!(describe(), json!({}));
    }

    #[test]
    fn another_identity_and_another_mac_are_refused_and_nothing_is_touched() {
        let s = stand();
        let targets = s.pin();
        let before = s.describe();
        assert!(matches!(s.driver.release(&identity("u2"), &targets, &may), Err(Obstacle::Refuse(_))));
        let mut other = targets.clone();
        other.addresses[1].mac = "52:54:00:00:00:99".parse().unwrap();
        assert!(matches!(s.driver.compare(&identity("u1"), &other), Ok(Found::Different(_))));
        assert!(matches!(s.driver.release(&identity("u1"), &other, &may), Err(Obstacle::Refuse(_))));
        assert_eq!(s.describe(), before);
    }

    /// Whatever of the three is left, the machine is not gone from here.
    #[test]
    fn it_is_not_released_before_its_rules_and_its_number_are() {
        let everything = [(ADDRESSES, "192.0.2.11"), (FIREWALL, "192.0.2.10"), (VM_IDS, "52:54:00:00:00:10")];
        for (kept, name) in everything {
            let s = stand();
            let targets = s.pin();
            let object = s.driver.sandbox.read(kept, name).unwrap().unwrap();
            s.driver.release(&identity("u1"), &targets, &may).unwrap();
            assert_eq!(s.driver.seen(&identity("u1"), &targets).unwrap().0, Presence::Absent);
            s.driver.sandbox.write(kept, name, object, FENCE).unwrap();
            assert_eq!(s.driver.seen(&identity("u1"), &targets).unwrap().0, Presence::Present, "{kept}");
            let seen = s.driver.look(&identity("u1"), Some(&s.attributes)).unwrap();
            assert_eq!(seen.found, Found::Same, "{kept}: it is found again, too");
            assert!(matches!(s.driver.release(&identity("u2"), &targets, &may), Err(Obstacle::Refuse(_))));
            s.driver.release(&identity("u1"), &targets, &may).unwrap();
            assert_eq!(s.describe(), json!({}), "{kept}");
        }
    }

    #[test]
    fn an_unreadable_place_is_unclear() {
        let s = stand();
        let targets = s.pin();
        std::fs::remove_file(s.root.path().join("ipam/main/place.json")).unwrap();
        assert!(matches!(s.driver.look(&identity("u1"), Some(&s.attributes)), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.release(&identity("u1"), &targets, &may), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.seen(&identity("u1"), &targets), Err(Obstacle::Unclear(_))));
    }

    #[test]
    fn another_place_is_refused() {
        let s = stand();
        let targets = s.pin();
        std::fs::write(s.root.path().join("ipam/main/place.json"), r#"{"place": "sandbox:another"}"#)
            .unwrap();
        std::fs::remove_dir_all(s.root.path().join("ipam/main/addresses")).unwrap();
        assert!(matches!(s.driver.compare(&identity("u1"), &targets), Ok(Found::Different(_))));
        assert!(matches!(s.driver.release(&identity("u1"), &targets, &may), Err(Obstacle::Refuse(_))));
        assert!(matches!(s.driver.seen(&identity("u1"), &targets), Err(Obstacle::Refuse(_))));
    }

    #[test]
    fn an_older_order_is_refused_by_the_address_itself() {
        let s = stand();
        let targets = s.pin();
        let object = s.driver.read(targets.addresses[0].address).unwrap().unwrap();
        let later = Fence { epoch: 1, number: 9 };
        s.driver.sandbox.write(ADDRESSES, "192.0.2.10", object, later).unwrap();
        assert!(matches!(s.driver.release(&identity("u1"), &targets, &may), Err(Obstacle::Refuse(_))));
    }
}
