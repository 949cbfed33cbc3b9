//! Against a real server with subnet 1 (192.0.2.0/24), given by `SEXTON_TEST_KEA_URL`. Every test has addresses and
//! MACs of its own; those that change the configuration take turns.
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sexton_model::ResourceId;

use super::agent::Answer;
use super::*;

const LEFT: Duration = Duration::from_secs(20);
/// The configuration is one thing: tests that change it take turns, by this in one process, and by the group that
/// `.config/nextest.toml` puts them in where each has a process of its own.
pub(super) static TURN: Mutex<()> = Mutex::const_new(());

pub(super) fn config() -> Config {
    let url = std::env::var("SEXTON_TEST_KEA_URL").unwrap_or_else(|_| {
        panic!("SEXTON_TEST_KEA_URL is not set: start the Kea component and export what it prints, or leave out real-servers")
    });
    let (user, password, password_file) = (None, None, None);
    let (timeout_ms, quarantine_days) = (5_000, Quarantine::default());
    Config { url, user, password, password_file, lock_file: lock_file(), timeout_ms, quarantine_days }
}

/// One for all tests, as for all copies of the consumer.
fn lock_file() -> PathBuf {
    std::env::temp_dir().join(format!("sexton-test-kea-{}.lock", std::process::id()))
}

pub(super) struct Vm {
    pub(super) kea: Kea,
    pub(super) mac: Mac,
    pub(super) address: Ipv4Addr,
    pub(super) asked_elsewhere: AtomicBool,
}

pub(super) fn resource() -> ResourceId {
    "vm/web01".parse().unwrap()
}

pub(super) fn mac(last: u8) -> Mac {
    format!("52:54:00:5e:00:{last:02x}").parse().unwrap()
}

/// A VM at `192.0.2.HOST` that holds nothing yet.
pub(super) async fn vm(host: u8) -> Vm {
    let (kea, address) = (Kea::new(config()).unwrap(), Ipv4Addr::new(192, 0, 2, host));
    let vm = Vm { kea, mac: mac(host), address, asked_elsewhere: AtomicBool::new(false) };
    vm.command("lease4-del", json!({ "ip-address": vm.address })).await;
    vm
}

impl Vm {
    pub(super) fn budget(&self) -> Budget {
        self.kea.budget(LEFT)
    }

    pub(super) async fn command(&self, command: &str, arguments: Value) -> Answer {
        self.kea.agent.command(self.budget(), command, arguments, command).await.unwrap()
    }

    pub(super) async fn lease(&self, mac: Mac) {
        self.command("lease4-del", json!({ "ip-address": self.address })).await;
        let lease =
            json!({ "ip-address": self.address, "hw-address": mac, "subnet-id": 1, "hostname": "web01" });
        assert!(matches!(self.command("lease4-add", lease).await, Answer::Success(_)));
    }

    /// Make the reservations of these hosts be for these MACs. Whoever calls it has its turn.
    pub(super) async fn reserve(&self, list: &[(Ipv4Addr, Mac)]) {
        let mut config = self.kea.agent.config(self.budget()).await.unwrap();
        let subnet =
            config["Dhcp4"]["subnet4"].as_array_mut().unwrap().iter_mut().find(|s| s["id"] == 1).unwrap();
        let reservations = subnet["reservations"].as_array_mut().unwrap();
        reservations
            .retain(|r| list.iter().all(|(a, m)| r["ip-address"] != json!(a) && r["hw-address"] != json!(m)));
        reservations.extend(list.iter().map(|(a, m)| json!({ "ip-address": a, "hw-address": m })));
        let body = json!({ "Dhcp4": config["Dhcp4"] });
        self.kea.agent.configure(self.budget(), "config-set", body).await.unwrap();
    }

    /// Take the reservation of the VM's address away. Whoever calls it has its turn.
    pub(super) async fn unreserve(&self) {
        let mut config = self.kea.agent.config(self.budget()).await.unwrap();
        let subnet =
            config["Dhcp4"]["subnet4"].as_array_mut().unwrap().iter_mut().find(|s| s["id"] == 1).unwrap();
        subnet["reservations"].as_array_mut().unwrap().retain(|r| r["ip-address"] != json!(self.address));
        let body = json!({ "Dhcp4": config["Dhcp4"] });
        self.kea.agent.configure(self.budget(), "config-set", body).await.unwrap();
    }

    pub(super) async fn reserved(&self, address: Ipv4Addr, mac: Mac) -> Reserved {
        reservation::reserved(&self.kea.agent.config(self.budget()).await.unwrap(), 1, address, mac)
    }

    async fn inspect(&self) -> Inspection {
        let attributes = Attributes { mac: self.mac, addresses: vec![self.address], subnet: 1 };
        self.kea.look(Some(&attributes), LEFT).await.unwrap()
    }

    async fn pin(&self) -> Targets {
        let seen = self.inspect().await;
        assert_eq!(seen.found, Found::Same, "{}", seen.evidence);
        Targets::parse(&resource(), &seen.targets).unwrap()
    }

    async fn presence(&self, targets: &Targets) -> Presence {
        self.kea.seen(targets, LEFT).await.unwrap().0
    }
}

#[tokio::test]
async fn lease_and_reservation_are_released_a_neighbour_stays_and_a_repeat_is_done() {
    let _turn = TURN.lock().await;
    let vm = vm(121).await;
    let neighbour = (Ipv4Addr::new(192, 0, 2, 122), mac(122));
    vm.reserve(&[(vm.address, vm.mac), neighbour]).await;
    vm.lease(vm.mac).await;
    let targets = vm.pin().await;
    assert!(targets.addresses[0].lease && targets.addresses[0].reservation, "{}", targets.summary());
    assert_eq!(vm.presence(&targets).await, Presence::Present);
    let before = reservation::all(&vm.kea.agent.config(vm.budget()).await.unwrap());
    for _ in 0..2 {
        vm.kea.release(&targets, LEFT, &|| Ok(())).await.unwrap();
        assert!(matches!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Absent(_))));
        assert_eq!(vm.presence(&targets).await, Presence::Absent);
    }
    assert!(matches!(vm.reserved(neighbour.0, neighbour.1).await, Reserved::Ours(_)));
    let after = reservation::all(&vm.kea.agent.config(vm.budget()).await.unwrap());
    assert_eq!(after.len() + 1, before.len());
    assert!(matches!(vm.inspect().await.found, Found::Absent(_)));
}

#[tokio::test]
async fn a_released_address_is_leased_to_nobody_and_is_nobodys() {
    let _turn = TURN.lock().await;
    // Leased, and reserved without a lease.
    for leased in [true, false] {
        let vm = vm(129).await;
        if leased {
            vm.lease(vm.mac).await;
        } else {
            vm.reserve(&[(vm.address, vm.mac)]).await;
        }
        let targets = vm.pin().await;
        vm.kea.release(&targets, LEFT, &|| Ok(())).await.unwrap();
        let lease = vm.kea.agent.lease(vm.budget(), vm.address).await.unwrap().unwrap();
        assert!(lease.rests.is_some() && lease.mac.is_none(), "{lease:?}");
        let other = json!({ "ip-address": vm.address, "hw-address": mac(229), "subnet-id": 1 });
        let refused = vm.kea.agent.command(vm.budget(), "lease4-add", other, "leasing it to another").await;
        assert!(
            matches!(&refused, Err(Obstacle::Unclear(why)) if why.contains("already exists")),
            "{refused:?}"
        );
        assert!(matches!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Absent(_))));
        assert!(matches!(vm.inspect().await.found, Found::Absent(_)));
        assert_eq!(vm.presence(&targets).await, Presence::Absent);
    }
}

#[tokio::test]
async fn a_lease_of_another_mac_is_refused_and_stays() {
    let _turn = TURN.lock().await;
    let vm = vm(123).await;
    vm.reserve(&[(vm.address, vm.mac)]).await;
    vm.lease(vm.mac).await;
    let targets = vm.pin().await;
    vm.lease(mac(223)).await;
    assert!(matches!(vm.inspect().await.found, Found::Different(_)));
    assert!(matches!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Different(_))));
    let refused = vm.kea.release(&targets, LEFT, &|| Ok(())).await.unwrap_err();
    assert!(matches!(&refused, Obstacle::Refuse(why) if why.contains("52:54:00:5e:00:df")), "{refused}");
    let refused = vm.kea.release_lease(vm.budget(), (&targets.addresses[0], false), &|| Ok(())).await;
    assert!(matches!(refused, Err(Obstacle::Refuse(_))), "read again right before the call: {refused:?}");
    let lease = vm.kea.agent.lease(vm.budget(), vm.address).await.unwrap().unwrap();
    assert_eq!(lease.mac, Some(mac(223)));
    assert!(matches!(vm.reserved(vm.address, vm.mac).await, Reserved::Ours(_)), "nothing was touched");
}

#[tokio::test]
async fn an_address_reserved_for_another_is_refused_and_stays() {
    let _turn = TURN.lock().await;
    let vm = vm(124).await;
    vm.reserve(&[(vm.address, vm.mac)]).await;
    let targets = vm.pin().await;
    vm.reserve(&[(vm.address, mac(224))]).await;
    assert!(matches!(vm.kea.release(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Refuse(_))));
    assert!(matches!(vm.reserved(vm.address, mac(224)).await, Reserved::Ours(_)));
}

#[tokio::test]
async fn a_locked_configuration_is_busy() {
    let _turn = TURN.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let lock_file = folder.path().join("kea.lock");
    let mut vm = vm(125).await;
    vm.kea = Kea::new(Config { lock_file: lock_file.clone(), ..config() }).unwrap();
    vm.reserve(&[(vm.address, vm.mac)]).await;
    let targets = vm.pin().await;
    let other = File::create(&lock_file).unwrap();
    other.lock().unwrap();
    assert!(matches!(vm.kea.release(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Busy(_))));
    assert!(matches!(vm.reserved(vm.address, vm.mac).await, Reserved::Ours(_)));
    drop(other);
    vm.kea.release(&targets, LEFT, &|| Ok(())).await.unwrap();
    assert_eq!(vm.presence(&targets).await, Presence::Absent);
}

#[tokio::test]
async fn a_reservation_that_another_copy_did_not_get_to_write_does_not_come_back() {
    let _turn = TURN.lock().await;
    let vm = vm(128).await;
    vm.reserve(&[(vm.address, vm.mac)]).await;
    let targets = vm.pin().await;
    let Answer::Success(written) = vm.command("config-write", Value::Null).await else {
        panic!("not written")
    };
    let disk = || std::fs::read_to_string(written["filename"].as_str().unwrap()).unwrap();
    let address = vm.address.to_string();
    assert!(disk().contains(&address));
    // As a copy leaves it that dies between config-set and config-write.
    vm.unreserve().await;
    assert_eq!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Same));
    assert_eq!(vm.presence(&targets).await, Presence::Present);
    assert!(disk().contains(&address));
    vm.kea.release(&targets, LEFT, &|| Ok(())).await.unwrap();
    assert!(!disk().contains(&address));
    assert!(matches!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Absent(_))));
    assert_eq!(vm.presence(&targets).await, Presence::Absent);
}

#[tokio::test]
async fn another_place_shows_no_absence() {
    let vm = vm(126).await;
    vm.lease(vm.mac).await;
    let mut targets = vm.pin().await;
    targets.addresses[0].subnet = 77;
    assert!(matches!(vm.kea.compare(&targets, LEFT).await, Ok(Found::Different(_))));
    assert!(matches!(vm.kea.seen(&targets, LEFT).await, Err(Obstacle::Refuse(_))));
    targets.addresses[0].subnet = 1;
    targets.addresses[0].address = Ipv4Addr::new(198, 51, 100, 9);
    assert!(matches!(vm.kea.seen(&targets, LEFT).await, Err(Obstacle::Refuse(_))));

    // Another agent, which knows such a subnet, too.
    let targets = vm.pin().await;
    vm.command("lease4-del", json!({ "ip-address": vm.address })).await;
    let kea = Kea::new(Config { url: other_name_of(&vm.kea.agent.url), ..config() }).unwrap();
    assert!(matches!(kea.compare(&targets, LEFT).await, Ok(Found::Different(_))));
    assert!(matches!(kea.seen(&targets, LEFT).await, Err(Obstacle::Refuse(_))));
    assert!(matches!(kea.release(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Refuse(_))));
    assert_eq!(vm.presence(&targets).await, Presence::Absent);
}

/// Another address at which the same agent answers.
pub(super) fn other_name_of(url: &Url) -> String {
    let mut url = url.clone();
    url.set_path("/another");
    url.to_string()
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_shows_no_absence() {
    let vm = vm(127).await;
    vm.lease(vm.mac).await;
    let targets = vm.pin().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let kea = Kea::new(Config { url, timeout_ms: 100, ..config() }).unwrap();
    assert!(matches!(kea.seen(&targets, LEFT).await, Err(Obstacle::Busy(_))));
    assert!(matches!(kea.release(&targets, LEFT, &|| Ok(())).await, Err(Obstacle::Busy(_))));
    drop(silent);
    for targets in [&targets, &Targets::default()] {
        assert!(matches!(kea.seen(targets, LEFT).await, Err(Obstacle::Busy(_))));
        assert!(matches!(kea.compare(targets, LEFT).await, Err(Obstacle::Busy(_))));
    }
}
