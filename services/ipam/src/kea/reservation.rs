//! Reservations in a Kea configuration, and whether there are any elsewhere. Pure.
//!
//! Invariant: a reservation is removed only if MAC *and* address are the pinned ones; the rest of the
//! configuration is handed on as it was read.
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::address::{Mac, Pinned};

/// Who an address is reserved for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reserved {
    /// For nobody.
    Nobody,
    /// For this MAC; with the host name.
    Ours(Option<String>),
    /// For somebody else; who.
    Other(String),
}

/// The keys under which a server is told of databases that hold reservations, too: the older one, of a single database, and
/// the one under which it shows them if there are any.
const DATABASES: [&str; 2] = ["hosts-database", "hosts-databases"];

/// The key that says that not all reservations are in the configuration, if there is one.
pub(super) fn kept_elsewhere(config: &Value) -> Option<&'static str> {
    let dhcp4 = config.get("Dhcp4")?;
    DATABASES.into_iter().find(|key| dhcp4.get(*key).is_some())
}

/// The subnet `id` with its prefix; `None` if the configuration has no such subnet.
pub(super) fn subnet(config: &Value, id: u32) -> Option<String> {
    subnets(config)
        .find(|s| s.get("id").and_then(Value::as_u64) == Some(u64::from(id)))
        .and_then(|s| s.get("subnet")?.as_str())
        .map(|prefix| prefix.chars().take(64).collect())
}

/// Whether `address` lies in `prefix`, such as `192.0.2.0/24`.
pub(super) fn contains(prefix: &str, address: Ipv4Addr) -> bool {
    let Some((network, bits)) = prefix.split_once('/') else { return false };
    let (Ok(network), Ok(bits @ 0..=32)) = (network.parse::<Ipv4Addr>(), bits.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    network.to_bits() & mask == address.to_bits() & mask
}

fn subnets(config: &Value) -> impl Iterator<Item = &Value> {
    let dhcp4 = config.get("Dhcp4");
    let own = dhcp4.and_then(|d| d.get("subnet4")?.as_array()).into_iter().flatten();
    let networks = dhcp4.and_then(|d| d.get("shared-networks")?.as_array()).into_iter().flatten();
    own.chain(networks.flat_map(|n| n.get("subnet4").and_then(Value::as_array).into_iter().flatten()))
}

fn array<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn address_of(reservation: &Value) -> Option<Ipv4Addr> {
    reservation.get("ip-address")?.as_str()?.parse().ok()
}

fn mac_of(reservation: &Value) -> Option<Mac> {
    reservation.get("hw-address")?.as_str()?.parse().ok()
}

fn is_pinned(reservation: &Value, pinned: &Pinned) -> bool {
    address_of(reservation) == Some(pinned.address) && mac_of(reservation) == Some(pinned.mac)
}

/// Who `address` is reserved for: in its subnet, or globally.
pub(super) fn reserved(config: &Value, subnet: u32, address: Ipv4Addr, mac: Mac) -> Reserved {
    let of_subnet = subnets(config)
        .filter(|s| s.get("id").and_then(Value::as_u64) == Some(u64::from(subnet)))
        .flat_map(|s| array(s, "reservations"));
    let global = config.get("Dhcp4").into_iter().flat_map(|d| array(d, "reservations"));
    let mut found = Reserved::Nobody;
    for reservation in of_subnet.chain(global).filter(|r| address_of(r) == Some(address)) {
        if mac_of(reservation) != Some(mac) {
            let who =
                mac_of(reservation).map_or_else(|| "another kind of client".to_owned(), |m| m.to_string());
            return Reserved::Other(who);
        }
        let name = reservation.get("hostname").and_then(Value::as_str).filter(|n| !n.is_empty());
        found = Reserved::Ours(name.map(|n| n.chars().take(255).collect()));
    }
    found
}

/// Remove exactly the pinned reservations, in place; how many there were.
pub(super) fn remove(config: &mut Value, pinned: &[Pinned]) -> usize {
    let Some(dhcp4) = config.get_mut("Dhcp4") else { return 0 };
    let mut removed = prune(dhcp4, |r| pinned.iter().any(|p| is_pinned(r, p)));
    let mut of_subnet = |subnet: &mut Value| {
        let id = subnet.get("id").and_then(Value::as_u64);
        removed +=
            prune(subnet, |r| pinned.iter().any(|p| Some(u64::from(p.subnet)) == id && is_pinned(r, p)));
    };
    for subnet in dhcp4.get_mut("subnet4").and_then(Value::as_array_mut).into_iter().flatten() {
        of_subnet(subnet);
    }
    for network in dhcp4.get_mut("shared-networks").and_then(Value::as_array_mut).into_iter().flatten() {
        for subnet in network.get_mut("subnet4").and_then(Value::as_array_mut).into_iter().flatten() {
            of_subnet(subnet);
        }
    }
    removed
}

fn prune(holder: &mut Value, matches: impl Fn(&Value) -> bool) -> usize {
    let Some(list) = holder.get_mut("reservations").and_then(Value::as_array_mut) else { return 0 };
    let before = list.len();
    list.retain(|r| !matches(r));
    before - list.len()
}

/// Every reservation, by (subnet, MAC, address): to see that a change took away nothing else.
pub(super) fn all(config: &Value) -> Vec<(u64, String, String)> {
    let text = |r: &Value, key: &str| r.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let entry = |subnet: u64, r: &Value| (subnet, text(r, "hw-address"), text(r, "ip-address"));
    let mut list: Vec<_> =
        config.get("Dhcp4").into_iter().flat_map(|d| array(d, "reservations")).map(|r| entry(0, r)).collect();
    for subnet in subnets(config) {
        let id = subnet.get("id").and_then(Value::as_u64).unwrap_or(0);
        list.extend(array(subnet, "reservations").map(|r| entry(id, r)));
    }
    list.sort();
    list
}
