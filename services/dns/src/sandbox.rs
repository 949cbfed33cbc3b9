//! DNS as JSON files in a folder: kind `records`, one object for each owner name.
//!
//! An object is `{"resource": TEXT, "identity": {…}, "rrsets": [{"type", "ttl", "rdata"}]}`, called like the owner
//! name without its final dot. What is pinned is the same as of a real server: [`Targets`].
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{Fence, Instance, ResourceId};

use crate::only_remove;
use crate::record::{
    Attributes, Current, Judgement, Pinned, RecordKind, Targets, canonical, judge, reverse, text_of,
    where_pinned,
};

const RECORDS: &str = "records";
/// Seconds; what a made-up record gets.
const TTL_SECONDS: u32 = 60;

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `dns.main`.
    pub instance: Instance,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxDns {
    sandbox: Sandbox,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rrset {
    #[serde(rename = "type")]
    kind: RecordKind,
    ttl: u32,
    rdata: BTreeSet<String>,
}

/// Make the place, if need be, with records for `resource`: each name gets all addresses, each address all names.
///
/// # Errors
/// If a name is none, or the file system refuses.
pub fn create(
    root: &Path,
    instance: &Instance,
    resource: &ResourceId,
    identity: &Identity,
    names: &[&str],
    addresses: &[IpAddr],
) -> anyhow::Result<()> {
    let sandbox = Sandbox::create(root, instance)?;
    let names = names.iter().map(|n| canonical(n).with_context(|| format!("{n:?} is no host name")));
    let attributes =
        Attributes { names: names.collect::<anyhow::Result<_>>()?, addresses: addresses.to_vec() };
    let mut owners = attributes.names.clone();
    owners.extend(addresses.iter().map(|a| reverse(*a)));
    for owner in owners {
        let rrsets: Vec<Rrset> = attributes
            .wanted()
            .into_iter()
            .filter(|w| w.owner == owner && !w.own.is_empty())
            .map(|w| Rrset { kind: w.kind, ttl: TTL_SECONDS, rdata: w.own })
            .collect();
        let mut object = Object::new();
        object.insert("resource".into(), json!(resource));
        object.insert("identity".into(), json!(identity));
        object.insert("rrsets".into(), json!(rrsets));
        sandbox.write(RECORDS, file(&text_of(&owner)), object, Fence::default())?;
    }
    Ok(())
}

/// All records of `resource`, by owner name, for comparing before and after; without fences.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance, resource: &ResourceId) -> anyhow::Result<Value> {
    let sandbox = Sandbox::at(root, instance);
    let mut all = Object::new();
    for name in sandbox.list(RECORDS)? {
        if let Some(mut object) = sandbox.read(RECORDS, &name)?
            && object.get("resource") == Some(&json!(resource))
        {
            object.remove("fence");
            all.insert(name, Value::Object(object));
        }
    }
    Ok(Value::Object(all))
}

fn file(owner: &str) -> &str {
    owner.trim_end_matches('.')
}

/// One owner name as it is now.
struct Owner {
    object: Object,
    rrsets: Vec<Rrset>,
}

impl Owner {
    fn current(&self, kind: RecordKind) -> Current {
        let set = self.rrsets.iter().find(|r| r.kind == kind);
        set.map_or_else(Current::default, |r| Current { ttl: r.ttl, rdata: r.rdata.clone(), alias: None })
    }
}

impl SandboxDns {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance) }
    }

    fn read(&self, owner: &str) -> Result<Option<Owner>, Obstacle> {
        let Some(object) = self.sandbox.read(RECORDS, file(owner))? else {
            return Ok(None);
        };
        let rrsets = object.get("rrsets").cloned().unwrap_or_default();
        let rrsets = serde_json::from_value(rrsets)
            .map_err(|e| Obstacle::Unclear(format!("records/{}: rrsets: {e}", file(owner))))?;
        Ok(Some(Owner { object, rrsets }))
    }

    fn look(&self, identity: &Identity, attributes: &Attributes) -> Result<Inspection, Obstacle> {
        let place = self.sandbox.place()?;
        let mut targets = Targets { place: place.0.clone(), ..Targets::default() };
        let mut foreign = Vec::new();
        for wanted in attributes.wanted() {
            let owner = text_of(&wanted.owner);
            let Some(read) = self.read(&owner)? else { continue };
            if let Some(why) = stranger(identity, &owner, &read) {
                foreign.push(why);
                continue;
            }
            let current = read.current(wanted.kind);
            let rdata: BTreeSet<_> = current.rdata.intersection(&wanted.own).cloned().collect();
            if !rdata.is_empty() {
                let others = current.rdata.difference(&wanted.own).cloned().collect();
                targets.rrsets.push(Pinned { owner, kind: wanted.kind, ttl: current.ttl, rdata, others });
            }
        }
        let found = match foreign.into_iter().next() {
            Some(why) => Found::Different(why),
            None if targets.rrsets.is_empty() && !attributes.names.is_empty() => Found::Absent(place.clone()),
            None => Found::Same,
        };
        let mut evidence = format!("{}: {}", place.0, targets.summary());
        if attributes.names.is_empty() {
            evidence.push_str(", as attributes.dns states with none = true");
        }
        Ok(Inspection { found, targets: json!(targets), protected: None, evidence })
    }

    fn compare(&self, identity: &Identity, targets: &Targets) -> Result<Found, Obstacle> {
        let place = self.sandbox.place()?;
        if let Some(why) = targets.elsewhere(&place.0, &targets.primaries) {
            return Ok(Found::Different(why));
        }
        let mut found = Found::Absent(place);
        for pinned in &targets.rrsets {
            let Some(read) = self.read(&pinned.owner)? else { continue };
            if let Some(why) = stranger(identity, &pinned.owner, &read) {
                return Ok(Found::Different(why));
            }
            match judge(pinned, &read.current(pinned.kind)) {
                Judgement::Ours { .. } => found = Found::Same,
                Judgement::Gone => {}
                Judgement::Given(why) => return Ok(Found::Different(why)),
            }
        }
        Ok(found)
    }

    /// Remove what was pinned. `may` is asked before each change.
    fn remove(
        &self,
        identity: &Identity,
        targets: &Targets,
        may: &dyn Fn() -> Result<Fence, Obstacle>,
    ) -> Result<Done, Obstacle> {
        if let Found::Different(why) = self.compare(identity, targets)? {
            return Err(Obstacle::Refuse(why));
        }
        for pinned in &targets.rrsets {
            let Some(mut owner) = self.read(&pinned.owner)? else { continue };
            if let Some(set) = owner.rrsets.iter_mut().find(|r| r.kind == pinned.kind) {
                set.rdata.retain(|data| !pinned.rdata.contains(data));
            }
            owner.rrsets.retain(|r| !r.rdata.is_empty());
            if owner.rrsets.is_empty() {
                self.sandbox.remove(RECORDS, file(&pinned.owner), may()?)?;
            } else {
                owner.object.insert("rrsets".into(), json!(owner.rrsets));
                self.sandbox.write(RECORDS, file(&pinned.owner), owner.object, may()?)?;
            }
        }
        Ok(Done::saw(format!("removed {}", targets.summary())))
    }

    fn seen(&self, targets: &Targets) -> Result<(Presence, String), Obstacle> {
        let Place(place) = self.sandbox.place()?;
        if let Some(why) = targets.elsewhere(&place, &targets.primaries) {
            return Err(Obstacle::Refuse(why));
        }
        for pinned in &targets.rrsets {
            let current = self.read(&pinned.owner)?.map(|o| o.current(pinned.kind)).unwrap_or_default();
            if let Judgement::Ours { .. } = judge(pinned, &current) {
                return Ok((Presence::Present, format!("{place}: {} is there", pinned.summary())));
            }
        }
        Ok((Presence::Absent, format!("{place}: gone is {}", targets.summary())))
    }
}

/// Why the owner name is another resource's.
fn stranger(identity: &Identity, owner: &str, read: &Owner) -> Option<String> {
    let held = read.object.get("identity").unwrap_or(&Value::Null);
    (*held != json!(identity)).then(|| format!("records/{} has identity {held}", file(owner)))
}

#[async_trait]
impl Driver for SandboxDns {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        where_pinned(step, self.look(&step.identity, &Attributes::parse(&step.resource, &step.attributes)?)?)
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
        only_remove(step)?;
        let targets = Targets::parse(&step.resource, &step.targets)?;
        self.remove(&step.identity, &targets, &|| permit.again())
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.seen(&Targets::parse(&step.resource, &step.targets)?)
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
        driver: SandboxDns,
        instance: Instance,
        resource: ResourceId,
        attributes: Attributes,
    }

    fn identity(uuid: &str) -> Identity {
        Identity::try_from(std::collections::BTreeMap::from([("uuid".to_owned(), uuid.to_owned())])).unwrap()
    }

    fn stand() -> Stand {
        let root = tempfile::tempdir().unwrap();
        let instance: Instance = "dns.main".parse().unwrap();
        let resource: ResourceId = "vm/web01".parse().unwrap();
        let config = Config { root: root.path().to_owned(), instance: instance.clone() };
        create(
            root.path(),
            &instance,
            &resource,
            &identity("u1"),
            &["web01.lab.test"],
            &["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
        )
        .unwrap();
        let attributes = json!({ "names": ["Web01.lab.test."], "addresses": ["192.0.2.10", "2001:db8::10"] });
        let attributes = Attributes::parse(&resource, &attributes).unwrap();
        Stand { driver: SandboxDns::new(&config), root, instance, resource, attributes }
    }

    impl Stand {
        fn pin(&self) -> Targets {
            let seen = self.driver.look(&identity("u1"), &self.attributes).unwrap();
            assert_eq!(seen.found, Found::Same);
            Targets::parse(&self.resource, &seen.targets).unwrap()
        }
    }

    #[test]
    fn what_was_pinned_is_removed_and_a_repeat_is_done() {
        let s = stand();
        let targets = s.pin();
        assert_eq!(targets.rrsets.len(), 4, "{}", targets.summary());
        assert_eq!(s.driver.compare(&identity("u1"), &targets).unwrap(), Found::Same);
        assert_eq!(s.driver.seen(&targets).unwrap().0, Presence::Present);
        for _ in 0..2 {
            s.driver.remove(&identity("u1"), &targets, &may).unwrap();
            assert!(matches!(s.driver.compare(&identity("u1"), &targets), Ok(Found::Absent(_))));
            assert_eq!(s.driver.seen(&targets).unwrap().0, Presence::Absent);
        }
        assert_eq!(describe(s.root.path(), &s.instance, &s.resource).unwrap(), json!({}));
    }

    #[test]
    fn another_identity_is_refused_and_nothing_is_touched() {
        let s = stand();
        let targets = s.pin();
        let before = describe(s.root.path(), &s.instance, &s.resource).unwrap();
        assert!(matches!(s.driver.compare(&identity("u2"), &targets), Ok(Found::Different(_))));
        assert!(matches!(s.driver.remove(&identity("u2"), &targets, &may), Err(Obstacle::Refuse(_))));
        assert!(matches!(s.driver.look(&identity("u2"), &s.attributes).unwrap().found, Found::Different(_)));
        assert_eq!(describe(s.root.path(), &s.instance, &s.resource).unwrap(), before);
    }

    #[test]
    fn the_other_data_of_a_shared_set_stay() {
        let s = stand();
        let mut object = s.driver.sandbox.read(RECORDS, "web01.lab.test").unwrap().unwrap();
        object["rrsets"][0]["rdata"] = json!(["192.0.2.10", "192.0.2.99"]);
        s.driver.sandbox.write(RECORDS, "web01.lab.test", object, Fence::default()).unwrap();
        let targets = s.pin();
        s.driver.remove(&identity("u1"), &targets, &may).unwrap();
        let left = s.driver.read("web01.lab.test.").unwrap().unwrap();
        assert_eq!(left.current(RecordKind::A).rdata, BTreeSet::from(["192.0.2.99".to_owned()]));
        assert_eq!(s.driver.seen(&targets).unwrap().0, Presence::Absent);
    }

    #[test]
    fn an_unreadable_place_is_unclear() {
        let s = stand();
        let targets = s.pin();
        std::fs::remove_file(s.root.path().join("dns/main/place.json")).unwrap();
        assert!(matches!(s.driver.look(&identity("u1"), &s.attributes), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.compare(&identity("u1"), &targets), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.remove(&identity("u1"), &targets, &may), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.seen(&targets), Err(Obstacle::Unclear(_))));
        assert!(matches!(s.driver.seen(&Targets::default()), Err(Obstacle::Unclear(_))));
    }

    #[test]
    fn another_place_is_refused() {
        let s = stand();
        let targets = s.pin();
        std::fs::write(s.root.path().join("dns/main/place.json"), r#"{"place": "sandbox:another"}"#).unwrap();
        std::fs::remove_dir_all(s.root.path().join("dns/main/records")).unwrap();
        assert!(matches!(s.driver.compare(&identity("u1"), &targets), Ok(Found::Different(_))));
        assert!(matches!(s.driver.remove(&identity("u1"), &targets, &may), Err(Obstacle::Refuse(_))));
        assert!(matches!(s.driver.seen(&targets), Err(Obstacle::Refuse(_))));
    }

    #[test]
    fn an_older_order_is_refused_by_the_record_itself() {
        let s = stand();
        let targets = s.pin();
        let object = s.driver.sandbox.read(RECORDS, "web01.lab.test").unwrap().unwrap();
        let later = Fence { epoch: 1, number: 9 };
        s.driver.sandbox.write(RECORDS, "web01.lab.test", object, later).unwrap();
        assert!(matches!(s.driver.remove(&identity("u1"), &targets, &may), Err(Obstacle::Refuse(_))));
    }
}
