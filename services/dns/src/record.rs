//! What is pinned of a zone, and what is said of it later. Pure.
//!
//! Invariant: only records of type A, AAAA and PTR, and of those only the data that are the resource's own, are
//! ever pinned. What shares a record set with them is remembered as `others`, so that it can be told whether a
//! set without our data was given away or is merely what is left of a shared one.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_consumer::Stated;
use sexton_consumer::driver::{Found, Inspection, Obstacle, StepContext};
use sexton_model::ResourceId;

/// Most names, and most addresses, of one resource: each costs queries in every step.
pub const ATTRIBUTES_MAX: usize = 64;
/// Most pinned record sets: two for each name, one for each address.
pub const RRSETS_MAX: usize = 3 * ATTRIBUTES_MAX;
/// Most data of one record set that are looked at; a set with more is not judged at all.
pub const RDATA_MAX: usize = 256;

/// The types of records a resource has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    /// A name's IPv4 address.
    A,
    /// A name's IPv6 address.
    Aaaa,
    /// An address's name.
    Ptr,
}

impl RecordKind {
    /// The type in DNS.
    pub fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Ptr => RecordType::PTR,
        }
    }

    /// The data that `text` says, if it is of this type.
    pub fn rdata(self, text: &str) -> Option<RData> {
        match self {
            Self::A => text.parse().ok().map(|a| RData::A(hickory_proto::rr::rdata::A(a))),
            Self::Aaaa => text.parse().ok().map(|a| RData::AAAA(hickory_proto::rr::rdata::AAAA(a))),
            Self::Ptr => canonical(text).map(|name| RData::PTR(PTR(name))),
        }
    }

    /// The canonical text of `data`, if it is of this type.
    pub fn text(self, data: &RData) -> Option<String> {
        match (self, data) {
            (Self::A, RData::A(a)) => Some(a.0.to_string()),
            (Self::Aaaa, RData::AAAA(a)) => Some(a.0.to_string()),
            (Self::Ptr, RData::PTR(name)) => Some(text_of(&name.0)),
            (Self::A | Self::Aaaa | Self::Ptr, _) => None,
        }
    }
}

/// `name` as it is kept: lower case, with its final dot.
pub fn text_of(name: &Name) -> String {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name.to_ascii()
}

/// The absolute name that `text` says; `None` if it says none, the root, or a wildcard.
pub fn canonical(text: &str) -> Option<Name> {
    if text.len() > 255 {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?.to_lowercase();
    name.set_fqdn(true);
    (!name.is_root() && !name.is_wildcard()).then_some(name)
}

/// The name under which the name of `address` is kept.
pub fn reverse(address: IpAddr) -> Name {
    let mut name = Name::from(address);
    name.set_fqdn(true);
    name
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttributes {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// What the platform registered; empty only if it stated that there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The resource's host names.
    pub names: Vec<Name>,
    /// The resource's addresses.
    pub addresses: Vec<IpAddr>,
}

/// One record set to look at, and the data in it that would be the resource's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub owner: Name,
    /// Which type.
    pub kind: RecordKind,
    /// The resource's own data.
    pub own: BTreeSet<String>,
}

impl Attributes {
    /// What `Resource::attributes["dns"]` says.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`], naming the mistake. Names without addresses are one, and so are addresses without names:
    /// only both together tell which records are the resource's own.
    pub fn parse(resource: &ResourceId, attributes: &Value) -> Result<Self, Obstacle> {
        let form = format!("{{\"names\": […], \"addresses\": […]}} with 1 to {ATTRIBUTES_MAX} of each");
        let stated = Stated { resource, subsystem: "dns", form: &form };
        let Some(raw) = stated.read::<RawAttributes>(attributes)? else {
            return Ok(Self::default());
        };
        let fits = 1..=ATTRIBUTES_MAX;
        if !fits.contains(&raw.names.len()) || !fits.contains(&raw.addresses.len()) {
            let found = format!("{} names, {} addresses", raw.names.len(), raw.addresses.len());
            return Err(stated.wrong(found));
        }
        let names = raw
            .names
            .iter()
            .map(|n| canonical(n).ok_or_else(|| stated.wrong(format!("{n:?} is no host name"))))
            .collect::<Result<_, _>>()?;
        Ok(Self { names, addresses: raw.addresses })
    }

    /// Every record set that may hold data of the resource.
    pub fn wanted(&self) -> Vec<Wanted> {
        let addresses = |v4: bool| -> BTreeSet<String> {
            self.addresses.iter().filter(|a| a.is_ipv4() == v4).map(ToString::to_string).collect()
        };
        let (v4, v6) = (addresses(true), addresses(false));
        let names: BTreeSet<String> = self.names.iter().map(text_of).collect();
        let mut wanted = Vec::new();
        for owner in &self.names {
            wanted.push(Wanted { owner: owner.clone(), kind: RecordKind::A, own: v4.clone() });
            wanted.push(Wanted { owner: owner.clone(), kind: RecordKind::Aaaa, own: v6.clone() });
        }
        for address in &self.addresses {
            wanted.push(Wanted { owner: reverse(*address), kind: RecordKind::Ptr, own: names.clone() });
        }
        wanted
    }
}

/// One pinned record set: the resource's own data in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// The owner name, lower case, with its final dot.
    pub owner: String,
    /// The type.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Seconds; for people, it identifies nothing.
    pub ttl: u32,
    /// The resource's own data.
    pub rdata: BTreeSet<String>,
    /// Data of others in the same set when it was pinned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<String>,
}

/// Everything pinned of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Which server they were seen at; empty only if there are none.
    #[serde(default)]
    pub place: String,
    /// Zone → the primary that its SOA names, where there are zones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub primaries: BTreeMap<String, String>,
    /// The record sets.
    pub rrsets: Vec<Pinned>,
}

/// What was seen, if it was seen where the targets were pinned. What another server has says nothing about them.
///
/// # Errors
/// [`Obstacle::Refuse`] if the targets are malformed.
pub fn where_pinned(step: &StepContext, seen: Inspection) -> Result<Inspection, Obstacle> {
    if step.targets.is_null() || matches!(seen.found, Found::Different(_)) {
        return Ok(seen);
    }
    let pinned = Targets::parse(&step.resource, &step.targets)?;
    let now = Targets::parse(&step.resource, &seen.targets)?;
    Ok(match pinned.elsewhere(&now.place, &now.primaries) {
        Some(why) => Inspection { found: Found::Different(why), ..seen },
        None => seen,
    })
}

impl Targets {
    /// What was pinned.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`] if nothing was, or it is malformed.
    pub fn parse(resource: &ResourceId, targets: &Value) -> Result<Self, Obstacle> {
        let wrong = |what: String| Obstacle::Refuse(format!("{resource}: pinned dns records: {what}"));
        if targets.is_null() {
            return Err(wrong("none; dns.inspect has to come first".into()));
        }
        let parsed = Self::deserialize(targets).map_err(|e| wrong(e.to_string()))?;
        if parsed.rrsets.len() > RRSETS_MAX {
            return Err(wrong(format!("{} sets, at most {RRSETS_MAX} are accepted", parsed.rrsets.len())));
        }
        if parsed.place.is_empty() && !parsed.rrsets.is_empty() {
            return Err(wrong("they do not say at which server they were seen".into()));
        }
        for set in &parsed.rrsets {
            if canonical(&set.owner).is_none_or(|name| text_of(&name) != set.owner) {
                return Err(wrong(format!("{:?} is no owner name", set.owner)));
            }
            if set.rdata.is_empty() || set.rdata.len() > RDATA_MAX {
                return Err(wrong(format!("{}: {} data", set.owner, set.rdata.len())));
            }
            if let Some(data) = set.rdata.iter().find(|d| set.kind.rdata(d).is_none()) {
                return Err(wrong(format!("{}: {data:?} is no data of its type", set.owner)));
            }
        }
        Ok(parsed)
    }

    /// Why `place`, where `primaries` keep the zones of the pinned sets, is not where they were seen: a server that
    /// never had them says nothing about the one that has.
    pub fn elsewhere(&self, place: &str, primaries: &BTreeMap<String, String>) -> Option<String> {
        if self.rrsets.is_empty() {
            return None;
        }
        if self.place != place {
            return Some(format!("pinned at {}, but this is {place}", self.place));
        }
        primaries.iter().find(|(zone, primary)| self.primaries.get(*zone) != Some(*primary)).map(
            |(zone, primary)| {
                let pinned = self.primaries.get(zone).map_or("not known", String::as_str);
                format!("the primary of zone {zone} is {primary} now, when it was pinned it was {pinned}")
            },
        )
    }

    /// The pinned record sets, for people.
    pub fn summary(&self) -> String {
        let sets: Vec<String> = self.rrsets.iter().map(Pinned::summary).collect();
        if sets.is_empty() { "no records".to_owned() } else { sets.join("; ") }
    }
}

impl Pinned {
    /// `web01.lab.test. A 192.0.2.10`.
    pub fn summary(&self) -> String {
        format!("{} {} {}", self.owner, self.kind.record_type(), join(&self.rdata))
    }
}

/// The data of one record set as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// Seconds; 0 if the set is empty.
    pub ttl: u32,
    /// All data; empty means that the set was seen to be absent.
    pub rdata: BTreeSet<String>,
    /// The name is an alias of this one (a CNAME).
    pub alias: Option<String>,
}

/// What a record set says of what was pinned in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Our data are there; whether the set holds exactly what was pinned and nothing else.
    Ours {
        /// Those of our data that are there.
        rdata: BTreeSet<String>,
        /// The set holds nothing else.
        exclusive: bool,
    },
    /// None of our data are there, and nobody else has taken the place.
    Gone,
    /// None of our data are there, and somebody else's are that were not when it was pinned; why.
    Given(String),
}

/// Compare a record set with what was pinned in it.
pub fn judge(pinned: &Pinned, current: &Current) -> Judgement {
    let ours: BTreeSet<String> = current.rdata.intersection(&pinned.rdata).cloned().collect();
    if !ours.is_empty() {
        let exclusive = current.rdata == ours;
        return Judgement::Ours { rdata: ours, exclusive };
    }
    if let Some(alias) = &current.alias {
        return Judgement::Given(format!("{} is an alias of {alias} now", pinned.owner));
    }
    let was_shared = !pinned.others.is_empty();
    if current.rdata.is_empty() || was_shared {
        return Judgement::Gone;
    }
    Judgement::Given(format!(
        "{} {} is {} now, pinned was {}: the name was given to another",
        pinned.owner,
        pinned.kind.record_type(),
        join(&current.rdata),
        join(&pinned.rdata)
    ))
}

/// At most ten data, for people.
pub fn join(rdata: &BTreeSet<String>) -> String {
    let mut text = rdata.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if rdata.len() > 10 {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn targets() -> Targets {
        let rrsets = json!([{ "owner": "a.lab.test.", "type": "A", "ttl": 60, "rdata": ["192.0.2.1"] }]);
        let primaries = json!({ "lab.test.": "ns1.lab.test." });
        let pinned = json!({ "place": "dns 192.0.2.53:53", "primaries": primaries, "rrsets": rrsets });
        Targets::parse(&"vm/web01".parse().unwrap(), &pinned).unwrap()
    }

    #[test]
    fn nothing_is_there_only_if_it_is_stated() {
        let vm: ResourceId = "vm/web01".parse().unwrap();
        assert_eq!(Attributes::parse(&vm, &json!({ "none": true })), Ok(Attributes::default()));
        for (bad, says) in [
            (Value::Null, "missing"),
            (json!({}), "empty"),
            (json!({ "names": [], "addresses": [] }), "0 names, 0 addresses"),
            (json!({ "addresses": ["192.0.2.1"] }), "0 names, 1 addresses"),
            (json!({ "names": ["a.lab.test"] }), "1 names, 0 addresses"),
            (json!({ "none": true, "names": ["a.lab.test"] }), "contradicts"),
            (json!({ "name": "a.lab.test" }), "unknown field"),
            (json!({ "names": ["*.lab.test"], "addresses": ["192.0.2.1"] }), "no host name"),
        ] {
            match Attributes::parse(&vm, &bad) {
                Err(Obstacle::Refuse(why)) => {
                    assert!(why.contains("attributes.dns: ") && why.contains(says), "{why}");
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_was_pinned_says_where() {
        let vm: ResourceId = "vm/web01".parse().unwrap();
        let mut pinned = json!(targets());
        pinned.as_object_mut().unwrap().remove("place");
        let error = Targets::parse(&vm, &pinned).unwrap_err().to_string();
        assert!(error.contains("which server"), "{error}");
        pinned["rrsets"] = json!([]);
        assert_eq!(Targets::parse(&vm, &pinned).unwrap().rrsets, []);
    }

    #[test]
    fn another_server_and_another_primary_are_another_place() {
        let primaries = |of: &[(&str, &str)]| -> BTreeMap<String, String> {
            of.iter().map(|(zone, primary)| ((*zone).to_owned(), (*primary).to_owned())).collect()
        };
        let same = primaries(&[("lab.test.", "ns1.lab.test.")]);
        assert_eq!(targets().elsewhere("dns 192.0.2.53:53", &same), None);
        assert!(targets().elsewhere("dns 192.0.2.54:53", &same).is_some());
        let other = primaries(&[("lab.test.", "ns2.lab.test.")]);
        assert!(targets().elsewhere("dns 192.0.2.53:53", &other).is_some());
        let never_seen = primaries(&[("a.lab.test.", "ns1.lab.test.")]);
        assert!(targets().elsewhere("dns 192.0.2.53:53", &never_seen).is_some());
    }
}
