//! What is pinned of an address. Pure.
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_consumer::Stated;
use sexton_consumer::driver::{Found, Inspection, Obstacle, StepContext};
use sexton_model::ResourceId;

/// Most addresses of one resource: each costs calls in every step.
pub const ADDRESSES_MAX: usize = 64;

/// An Ethernet address, kept as `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Its last four bytes as a number.
    pub(crate) fn number(self) -> u32 {
        let [_, _, a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let text: String = text.chars().take(40).collect();
            format!("{text:?} is no MAC; expected six bytes such as 52:54:00:12:34:56")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the platform registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// The resource's network card.
    pub mac: Mac,
    /// The resource's addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The subnet's number in the server.
    pub subnet: u32,
}

impl Attributes {
    /// What `Resource::attributes["ipam"]` says; `None` only if it states that there is nothing.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`], naming the mistake.
    pub fn parse(resource: &ResourceId, attributes: &Value) -> Result<Option<Self>, Obstacle> {
        let form = format!(
            "{{\"mac\": …, \"addresses\": […], \"subnet\": NUMBER}} with 1 to {ADDRESSES_MAX} addresses"
        );
        let stated = Stated { resource, subsystem: "ipam", form: &form };
        let Some(mut parsed) = stated.read::<Self>(attributes)? else {
            return Ok(None);
        };
        parsed.addresses.sort_unstable();
        parsed.addresses.dedup();
        if !(1..=ADDRESSES_MAX).contains(&parsed.addresses.len()) {
            return Err(stated.wrong(format!("{} addresses", parsed.addresses.len())));
        }
        Ok(Some(parsed))
    }
}

/// One pinned address: who holds it, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// The address.
    pub address: Ipv4Addr,
    /// Who holds it; the pair is the identity.
    pub mac: Mac,
    /// The subnet's number in the server.
    pub subnet: u32,
    /// The client's own id, if it gave one; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The host name, if one is kept; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Held by a lease.
    pub lease: bool,
    /// Held by a reservation.
    pub reservation: bool,
}

impl Pinned {
    /// `192.0.2.10 of 52:54:00:12:34:56 (lease, reservation)`.
    pub fn summary(&self) -> String {
        let how = match (self.lease, self.reservation) {
            (true, true) => "lease, reservation",
            (true, false) => "lease",
            (false, true) => "reservation",
            (false, false) => "neither leased nor reserved",
        };
        format!("{} of {} ({how})", self.address, self.mac)
    }
}

/// Firewall rules that name an address. Only the sandbox keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The address.
    pub address: Ipv4Addr,
    /// The rules, as they are written.
    pub rules: Vec<String>,
}

/// The number under which a machine with this network card is kept. Only the sandbox keeps one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmId {
    /// The number.
    pub id: u32,
    /// Whose it is.
    pub mac: Mac,
}

/// Everything pinned of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Which server they were seen at, and in which subnets; empty only if there are none.
    #[serde(default)]
    pub place: String,
    /// The addresses.
    pub addresses: Vec<Pinned>,
    /// The firewall rules that name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firewall: Vec<Rules>,
    /// The machine's numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vm_ids: Vec<VmId>,
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
    Ok(match pinned.elsewhere(&now.place) {
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
        let wrong = |what: String| Obstacle::Refuse(format!("{resource}: pinned addresses: {what}"));
        if targets.is_null() {
            return Err(wrong("none; ipam.inspect has to come first".into()));
        }
        let parsed = Self::deserialize(targets).map_err(|e| wrong(e.to_string()))?;
        let found = parsed.addresses.len().max(parsed.firewall.len()).max(parsed.vm_ids.len());
        if found > ADDRESSES_MAX {
            return Err(wrong(format!("{found} of them, at most {ADDRESSES_MAX} are accepted")));
        }
        if parsed.place.is_empty() && !parsed.is_empty() {
            return Err(wrong("they do not say at which server they were seen".into()));
        }
        Ok(parsed)
    }

    /// Whether nothing was pinned.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.firewall.is_empty() && self.vm_ids.is_empty()
    }

    /// Why `place` is not where they were seen: a server that never had them says nothing about the one that has.
    pub fn elsewhere(&self, place: &str) -> Option<String> {
        let other = !self.is_empty() && self.place != place;
        other.then(|| format!("pinned at {}, but this is {place}", self.place))
    }

    /// What is pinned, for people.
    pub fn summary(&self) -> String {
        let mut all: Vec<String> = self.addresses.iter().map(Pinned::summary).collect();
        let rules = |held: &Rules| format!("firewall rules for {}", held.address);
        all.extend(self.firewall.iter().map(rules));
        all.extend(self.vm_ids.iter().map(|held| format!("VM id {}", held.id)));
        if all.is_empty() { "no addresses".to_owned() } else { all.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_mac_is_read_in_the_usual_ways_and_nothing_else() {
        let mac: Mac = "52-54-00-AB-cd-01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:01:02", "5:54:00:ab:cd:01", "+2:54:00:ab:cd:01"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_mistake_in_the_attributes_is_named() {
        let vm: ResourceId = "vm/web01".parse().unwrap();
        assert_eq!(Attributes::parse(&vm, &json!({ "none": true })), Ok(None));
        for (bad, says) in [
            (Value::Null, "missing"),
            (json!({}), "empty"),
            (json!({ "none": true, "subnet": 1 }), "contradicts"),
            (json!({ "mac": "52:54:00:00:00:01", "addresses": [], "subnet": 1 }), "0 addresses"),
            (json!({ "mac": "x", "addresses": [], "subnet": 1 }), "no MAC"),
            (json!({ "mac": "52:54:00:00:00:01", "addresses": ["x"], "subnet": 1 }), "IPv4"),
            (json!({ "mac": "52:54:00:00:00:01", "addresses": [] }), "subnet"),
        ] {
            let error = Attributes::parse(&vm, &bad).unwrap_err().to_string();
            assert!(error.contains("attributes.ipam: ") && error.contains(says), "{error}");
        }
        assert!(Targets::parse(&vm, &Value::Null).is_err());
    }

    #[test]
    fn what_was_pinned_says_where() {
        let vm: ResourceId = "vm/web01".parse().unwrap();
        let address = json!({ "address": "192.0.2.1", "mac": "52:54:00:00:00:01", "subnet": 1, "lease": true,
            "reservation": false });
        let error = Targets::parse(&vm, &json!({ "addresses": [address] })).unwrap_err().to_string();
        assert!(error.contains("which server"), "{error}");
        let targets = Targets::parse(&vm, &json!({ "place": "here", "addresses": [address] })).unwrap();
        assert_eq!(targets.elsewhere("here"), None);
        assert!(targets.elsewhere("there").is_some());
        assert_eq!(Targets::parse(&vm, &json!({ "addresses": [] })).unwrap().elsewhere("there"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_mac_or_an_error(text in "\\PC{0,40}") {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
            }
        }
    }
}
