//! The driver at a place of its own: what it releases, and what it refuses to touch.
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
    std::fs::write(s.root.path().join("ipam/main/place.json"), r#"{"place": "sandbox:another"}"#).unwrap();
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
