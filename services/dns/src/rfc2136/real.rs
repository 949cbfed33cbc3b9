//! Against a real server with the zones `lab.test` and `2.0.192.in-addr.arpa`, given by `SEXTON_TEST_DNS_SERVER`
//! and `SEXTON_TEST_DNS_KEY_*`. Every test has names and addresses of its own.
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::{Record, RecordType};
use sexton_model::ResourceId;

use super::*;
use crate::record::RecordKind;

const LEFT: Duration = Duration::from_secs(20);

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: start the DNS component and export what it prints, or leave out real-servers"
        )
    })
}

pub(super) fn config() -> Config {
    let algorithm = match var("SEXTON_TEST_DNS_KEY_ALGORITHM").as_str() {
        "hmac-sha256" => Algorithm::Sha256,
        "hmac-sha384" => Algorithm::Sha384,
        "hmac-sha512" => Algorithm::Sha512,
        other => panic!("SEXTON_TEST_DNS_KEY_ALGORITHM={other}: expected hmac-sha256, -384 or -512"),
    };
    Config {
        server: var("SEXTON_TEST_DNS_SERVER").parse().expect("SEXTON_TEST_DNS_SERVER: expected IP:PORT"),
        key_name: var("SEXTON_TEST_DNS_KEY_NAME"),
        key_secret: Some(var("SEXTON_TEST_DNS_KEY_SECRET").into()),
        key_secret_file: None,
        key_algorithm: algorithm,
        zones: vec!["lab.test".into(), "2.0.192.in-addr.arpa".into()],
        elsewhere: vec!["8.b.d.0.1.0.0.2.ip6.arpa".into()],
        timeout_ms: 5_000,
    }
}

pub(super) struct Vm {
    pub(super) dns: Rfc2136,
    pub(super) name: String,
    pub(super) reverse: String,
    pub(super) address: String,
    pub(super) attributes: Attributes,
    /// Where it is asked for, if not where it is.
    pub(super) asked_at: std::sync::OnceLock<SocketAddr>,
}

/// A VM `NAME.lab.test` at `192.0.2.HOST`, with A and PTR records fresh made.
pub(super) async fn vm(name: &str, host: u8) -> Vm {
    let dns = Rfc2136::new(&config()).unwrap();
    let (fqdn, address) = (format!("{name}.lab.test."), format!("192.0.2.{host}"));
    let attributes = json!({ "names": [fqdn], "addresses": [address] });
    let attributes = Attributes::parse(&resource(), &attributes).unwrap();
    let reverse = format!("{host}.2.0.192.in-addr.arpa.");
    let vm = Vm { dns, reverse, name: fqdn, address, attributes, asked_at: Default::default() };
    vm.set(&vm.name, RecordKind::A, &[&vm.address]).await;
    vm.set(&vm.name, RecordKind::Aaaa, &[]).await;
    vm.set(&vm.reverse, RecordKind::Ptr, &[&vm.name]).await;
    vm
}

pub(super) fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
}

impl Vm {
    /// Make a record set hold exactly `data`.
    pub(super) async fn set(&self, owner: &str, kind: RecordKind, data: &[&str]) {
        let owner = canonical(owner).unwrap();
        let zone = self.dns.zone_of(&owner).unwrap().unwrap();
        let mut session = self.dns.session(LEFT).await.unwrap();
        let mut request = Message::query();
        request.metadata.op_code = OpCode::Update;
        request.metadata.recursion_desired = false;
        request.add_zone(Query::query(zone.clone(), RecordType::SOA));
        let mut clear = Record::update0(owner.clone(), 0, kind.record_type());
        clear.dns_class = hickory_proto::rr::DNSClass::ANY;
        request.add_update(clear);
        for text in data {
            request.add_update(Record::from_rdata(owner.clone(), 60, kind.rdata(text).unwrap()));
        }
        let answer = session.exchange(request, "preparing a test").await.unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }

    pub(super) async fn get(&self, owner: &str, kind: RecordKind) -> Vec<String> {
        let owner = canonical(owner).unwrap();
        let zone = self.dns.zone_of(&owner).unwrap().unwrap();
        let mut session = self.dns.session(LEFT).await.unwrap();
        session.read(zone, &owner, kind).await.unwrap().rdata.into_iter().collect()
    }

    async fn pin(&self) -> Targets {
        let seen = self.dns.look(&self.attributes, LEFT).await.unwrap();
        assert_eq!(seen.found, Found::Same, "{}", seen.evidence);
        Targets::parse(&resource(), &seen.targets).unwrap()
    }

    async fn presence(&self, targets: &Targets) -> Presence {
        self.dns.seen(targets, LEFT).await.unwrap().0
    }
}

#[tokio::test]
async fn our_records_are_removed_and_a_repeat_is_done() {
    let vm = vm("rm-own", 101).await;
    let targets = vm.pin().await;
    assert_eq!(targets.rrsets.len(), 2, "{}", targets.summary());
    assert_eq!(vm.dns.compare(&targets, LEFT).await, Ok(Found::Same));
    assert_eq!(vm.presence(&targets).await, Presence::Present);
    for _ in 0..2 {
        vm.dns.remove(&targets, LEFT, &|| Ok(())).await.unwrap();
        assert!(matches!(vm.dns.compare(&targets, LEFT).await, Ok(Found::Absent(_))));
        assert_eq!(vm.presence(&targets).await, Presence::Absent);
    }
    assert!(matches!(vm.dns.look(&vm.attributes, LEFT).await.unwrap().found, Found::Absent(_)));
}

#[tokio::test]
async fn a_shared_set_keeps_the_others_record() {
    let vm = vm("rm-shared", 102).await;
    vm.set(&vm.name, RecordKind::A, &["192.0.2.102", "192.0.2.202"]).await;
    let targets = vm.pin().await;
    vm.dns.remove(&targets, LEFT, &|| Ok(())).await.unwrap();
    assert_eq!(vm.get(&vm.name, RecordKind::A).await, ["192.0.2.202"]);
    assert!(vm.get(&vm.reverse, RecordKind::Ptr).await.is_empty());
    assert_eq!(vm.presence(&targets).await, Presence::Absent);
    vm.dns.remove(&targets, LEFT, &|| Ok(())).await.unwrap();
    assert_eq!(vm.get(&vm.name, RecordKind::A).await, ["192.0.2.202"]);
}

#[tokio::test]
async fn who_joined_the_set_later_stays() {
    let vm = vm("rm-joined", 103).await;
    let targets = vm.pin().await;
    vm.set(&vm.name, RecordKind::A, &["192.0.2.103", "192.0.2.203"]).await;
    vm.dns.remove(&targets, LEFT, &|| Ok(())).await.unwrap();
    assert_eq!(vm.get(&vm.name, RecordKind::A).await, ["192.0.2.203"]);
}

#[tokio::test]
async fn a_name_given_to_another_is_refused_and_nothing_is_touched() {
    let vm = vm("rm-given", 104).await;
    let targets = vm.pin().await;
    vm.set(&vm.name, RecordKind::A, &["192.0.2.204"]).await;
    assert!(matches!(vm.dns.compare(&targets, LEFT).await, Ok(Found::Different(_))));
    let refused = vm.dns.remove(&targets, LEFT, &|| Ok(())).await.unwrap_err();
    assert!(matches!(&refused, Obstacle::Refuse(why) if why.contains("192.0.2.204")), "{refused}");
    assert_eq!(vm.get(&vm.name, RecordKind::A).await, ["192.0.2.204"]);
    assert_eq!(vm.get(&vm.reverse, RecordKind::Ptr).await, [vm.name.as_str()]);
}

#[tokio::test]
async fn the_server_itself_refuses_what_changed_since_it_was_read() {
    let vm = vm("rm-race", 105).await;
    let targets = vm.pin().await;
    let resolved = vm.dns.resolve(&targets).unwrap();
    let target = resolved.iter().find(|t| t.pinned.kind == RecordKind::A).unwrap();
    let mut session = vm.dns.session(LEFT).await.unwrap();
    vm.set(&vm.name, RecordKind::A, &["192.0.2.205"]).await;
    let refused = target.delete(&mut session, &target.pinned.rdata, true).await;
    assert!(matches!(refused, Err(Obstacle::Refuse(_))), "{refused:?}");
    assert_eq!(vm.get(&vm.name, RecordKind::A).await, ["192.0.2.205"]);
    vm.set(&vm.name, RecordKind::A, &["192.0.2.105", "192.0.2.205"]).await;
    let unclear = target.delete(&mut session, &target.pinned.rdata, true).await;
    assert!(matches!(unclear, Err(Obstacle::Unclear(_))), "{unclear:?}");
    assert_eq!(vm.get(&vm.name, RecordKind::A).await.len(), 2);
    vm.set(&vm.name, RecordKind::A, &[]).await;
    target.delete(&mut session, &target.pinned.rdata, true).await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let vm = vm("rm-key", 106).await;
    let targets = vm.pin().await;
    let secret = "d3JvbmcgYnV0IGxvbmcgZW5vdWdoIHRvIGJlIGEga2V5";
    for config in [
        Config { key_secret: Some(secret.to_owned().into()), ..config() },
        Config { key_name: "nobody".into(), ..config() },
    ] {
        let dns = Rfc2136::new(&config).unwrap();
        let looked = dns.look(&vm.attributes, LEFT).await;
        assert!(matches!(&looked, Err(Obstacle::Refuse(why)) if why.contains("key")), "{looked:?}");
        assert!(matches!(dns.remove(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Refuse(_))));
        assert!(matches!(dns.seen(&targets, LEFT).await, Err(Obstacle::Refuse(_))));
    }
    assert_eq!(vm.presence(&targets).await, Presence::Present);
}

#[tokio::test]
async fn outside_the_zones_is_refused() {
    let vm = vm("rm-zone", 107).await;
    let attributes = json!({ "names": ["web01.elsewhere.example"], "addresses": [vm.address] });
    let attributes = Attributes::parse(&resource(), &attributes).unwrap();
    let looked = vm.dns.look(&attributes, LEFT).await;
    assert!(matches!(&looked, Err(Obstacle::Refuse(why)) if why.contains("outside")), "{looked:?}");
    // A zone that is configured here and not served there: the server refuses.
    let dns = Rfc2136::new(&Config {
        zones: [vec!["elsewhere.example".into()], config().zones].concat(),
        ..config()
    })
    .unwrap();
    let looked = dns.look(&attributes, LEFT).await;
    assert!(matches!(looked, Err(Obstacle::Refuse(_))), "{looked:?}");
    // A name of one zone, updated in another: the server says so.
    let mut session = vm.dns.session(LEFT).await.unwrap();
    let (zone, owner) = (canonical("lab.test").unwrap(), canonical("rm.2.0.192.in-addr.arpa").unwrap());
    let data = [RecordKind::A.rdata("192.0.2.1").unwrap()];
    let code = session.delete(&zone, &owner, &data, false).await.unwrap();
    assert_eq!(code, ResponseCode::NotZone);
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_shows_no_absence() {
    let vm = vm("rm-down", 108).await;
    let targets = vm.pin().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let dns = Rfc2136::new(&Config { server, timeout_ms: 100, ..config() }).unwrap();
    assert!(matches!(dns.seen(&targets, LEFT).await, Err(Obstacle::Busy(_))));
    assert!(matches!(dns.remove(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Busy(_))));
    drop(silent);
    for targets in [&targets, &Targets::default()] {
        assert!(matches!(dns.seen(targets, LEFT).await, Err(Obstacle::Busy(_))));
        assert!(matches!(dns.compare(targets, LEFT).await, Err(Obstacle::Busy(_))));
    }
}

#[tokio::test]
async fn what_is_kept_elsewhere_is_skipped_and_said() {
    let vm = vm("rm-else", 109).await;
    let attributes = json!({ "names": ["rm-else.lab.test"], "addresses": ["192.0.2.109", "2001:db8::109"] });
    let attributes = Attributes::parse(&resource(), &attributes).unwrap();
    let seen = vm.dns.look(&attributes, LEFT).await.unwrap();
    assert!(seen.evidence.contains("kept elsewhere"), "{}", seen.evidence);
    assert_eq!(Targets::parse(&resource(), &seen.targets).unwrap(), vm.pin().await);
}

#[tokio::test]
async fn the_same_zone_at_another_address_is_another_place() {
    let vm = vm("rm-place", 110).await;
    let targets = vm.pin().await;
    assert_eq!(targets.primaries.len(), 2, "{targets:?}");
    for server in [vm.dns.server, door_to(vm.dns.server).await] {
        let same = server == vm.dns.server;
        let dns = Rfc2136::new(&Config { server, ..config() }).unwrap();
        // It would say that they are gone.
        vm.set(&vm.name, RecordKind::A, &[]).await;
        vm.set(&vm.reverse, RecordKind::Ptr, &[]).await;
        assert_eq!(matches!(dns.compare(&targets, LEFT).await, Ok(Found::Absent(_))), same);
        assert_eq!(dns.seen(&targets, LEFT).await.is_ok(), same);
        assert_eq!(matches!(dns.compare(&targets, LEFT).await, Ok(Found::Different(_))), !same);
        assert_eq!(matches!(dns.remove(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Refuse(_))), !same);
    }
    let mut other = targets.clone();
    other.primaries.insert("lab.test.".into(), "ns9.lab.test.".into());
    assert!(matches!(vm.dns.compare(&other, LEFT).await, Ok(Found::Different(_))));
}

/// Another address at which `server` answers.
pub(super) async fn door_to(server: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    address
}
