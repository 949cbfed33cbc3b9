use serde_json::json;

use super::*;

fn claimable() -> Claimable {
    let mut claimable = Claimable::default();
    let keys = |all: &[&[&str]]| -> Vec<Vec<String>> {
        all.iter().map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()).collect()
    };
    claimable.add("dns".parse().unwrap(), keys(&[&["names", "addresses"]]));
    claimable.add("ipam".parse().unwrap(), keys(&[&["addresses"], &["mac"]]));
    claimable
}

fn resource(attributes: Value) -> Resource {
    serde_json::from_value(json!({
        "id": "vm/web01", "identity": { "uuid": "2f1c" }, "scope": "tenants/acme",
        "criticality": "irreplaceable", "attributes": attributes, "instances": { "ipam": "south" },
    }))
    .unwrap()
}

fn claims(attributes: Value) -> Vec<String> {
    claimable().of(&resource(attributes)).unwrap().into_iter().collect()
}

#[test]
fn what_is_claimed_follows_from_what_is_stated() {
    let dns = json!({ "names": ["web01.lab.test", "www.lab.test"], "addresses": ["192.0.2.1"] });
    let ipam = json!({ "mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1"], "subnet": 1 });
    assert_eq!(
        claims(json!({ "dns": dns, "ipam": ipam, "notifier": { "contacts": ["a@b"] } })),
        [
            "dns.main: names web01.lab.test, addresses 192.0.2.1",
            "dns.main: names www.lab.test, addresses 192.0.2.1",
            "ipam.south: addresses 192.0.2.1",
            "ipam.south: mac 52:54:00:00:00:01",
        ]
    );
    assert!(claims(json!({ "dns": { "none": true }, "ipam": { "none": true } })).is_empty());
    // A name that goes with other addresses is shared by many.
    assert!(claims(json!({ "dns": { "names": ["pool.lab.test"], "addresses": [] } })).is_empty());
    assert!(Claimable::default().of(&resource(json!({ "ipam": { "mac": "x y" } }))).unwrap().is_empty());
}

#[test]
fn one_thing_in_other_words_is_one_claim() {
    let dns =
        |name: &str, address: &str| claims(json!({ "dns": { "names": [name], "addresses": [address] } }));
    let same = dns("web01.lab.test", "2001:db8::1");
    assert_eq!(dns("WEB01.lab.TEST.", "2001:0DB8:0::1"), same);
    assert_ne!(dns("web02.lab.test", "2001:db8::1"), same);
    assert_ne!(dns("web01.lab.test", "2001:db8::2"), same);
    let mac = |mac: &str| claims(json!({ "ipam": { "mac": mac } }));
    assert_eq!(mac("52-54-00-AB-00-01"), mac("52:54:00:ab:00:01"));
    assert_ne!(mac("52-54-00-AB-00-02"), mac("52:54:00:ab:00:01"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    for name in ["w\\101b01.lab.test", "wéb01.lab.test", "web01 .lab.test", "*.lab.test", ""] {
        let part = json!({ "dns": { "names": [name], "addresses": ["192.0.2.1"] } });
        let why = claimable().of(&resource(part)).unwrap_err();
        assert!(why.to_string().starts_with("attributes.dns.names: "), "{name}: {why}");
    }
    let many = |count: usize| -> Vec<String> { (0..count).map(|n| format!("192.0.2.{n}")).collect() };
    let names: Vec<String> = (0..65).map(|n| format!("web{n}.lab.test")).collect();
    let dns = |names: &[String], addresses: usize| json!({ "names": names, "addresses": many(addresses) });
    // All that the driver of DNS takes, with as many addresses and network cards.
    let macs: Vec<String> = (0..64).map(|n| format!("52:54:00:00:00:{n:02x}")).collect();
    let ipam = json!({ "mac": macs, "addresses": many(64) });
    let most = resource(json!({ "dns": dns(&names[..64], 64), "ipam": ipam }));
    assert_eq!(claimable().of(&most).unwrap().len(), CLAIMS_MAX);
    let why = claimable().of(&resource(json!({ "dns": dns(&names, 65) }))).unwrap_err().to_string();
    assert_eq!(why, "attributes.dns: names and addresses come to 4225 claims: at most 4224");
}

fn rival(name: &str, live: Option<i64>) -> Rival {
    let resource = (format!("vm/{name}").parse().unwrap(), "tenants/other".parse().unwrap());
    let leaving = |number| Leaving { record: DeletionId(number), purged: false, may_remain: false };
    Rival::of("ipam.main: mac x".into(), resource, Presence::Registered, live.map(leaving)).unwrap()
}

#[test]
fn a_record_lets_go_once_its_purge_is_done_and_nothing_may_remain() {
    for presence in [Presence::Registered, Presence::Tombstone] {
        for (purged, may_remain) in [(false, false), (false, true), (true, false), (true, true)] {
            let resource = ("vm/old".parse().unwrap(), "tenants/other".parse().unwrap());
            let leaving = Leaving { record: DeletionId(7), purged, may_remain };
            let rival = Rival::of("ipam.main: mac x".into(), resource, presence, Some(leaving));
            let free = (purged, may_remain) == (true, false);
            assert_eq!(rival.is_none(), free, "{presence:?}, {leaving:?}");
        }
    }
}

#[test]
fn no_record_lives_beside_another_registered_claim() {
    let (idle, leaving) = (rival("idle", None), rival("leaving", Some(7)));
    assert_eq!(may_delete([].into_iter()), Ok(()));
    assert_eq!(may_delete([idle.clone()].into_iter()), Err(Contested::Shared(idle.clone())));
    assert_eq!(may_delete([leaving.clone()].into_iter()), Err(Contested::Shared(leaving.clone())));
    assert_eq!(may_register(None, [idle.clone()].into_iter()), Ok(()));
    let both = [idle.clone(), leaving.clone()];
    assert_eq!(may_register(None, both.into_iter()), Err(Contested::Leaving(leaving.clone())));
    let own = Some(DeletionId(8));
    assert_eq!(may_register(own, [idle.clone()].into_iter()), Err(Contested::Taken(idle)));
    assert_eq!(may_register(own, [].into_iter()), Ok(()));
    let gone = ("vm/gone".parse().unwrap(), "tenants/other".parse().unwrap());
    assert_eq!(Rival::of("x".into(), gone, Presence::Recycled, None), None);

    let why = Contested::Leaving(leaving);
    assert!(!why.to_string().contains("vm/leaving"), "{why}");
    assert!(why.to_string().contains("ipam.main: mac x"), "{why}");
    assert!(why.named().ends_with("vm/leaving (d-7)"), "{}", why.named());
}
