//! What is made of answers, and of none, without a server.
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use sexton_consumer::driver::{Found, Obstacle};
use sexton_model::step::Presence;
use sexton_testkit::fuzz::{Form, Fuzz};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::agent::{Answer, Budget, classify, lease_in};
use super::reservation::{Reserved, all, contains, remove, reserved, subnet};
use super::{Config, Kea};
use crate::address::{Attributes, Mac, Pinned, Targets};
use crate::quarantine::Quarantine;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);

fn mac(last: u8) -> Mac {
    format!("52:54:00:00:00:{last:02x}").parse().unwrap()
}

fn config() -> Value {
    json!({ "Dhcp4": {
        "reservations": [{ "hw-address": mac(9), "ip-address": "198.51.100.9" }],
        "subnet4": [{ "id": 1, "subnet": "192.0.2.0/24", "reservations": [
            { "hw-address": mac(1), "ip-address": "192.0.2.5", "hostname": "vm1" },
            { "hw-address": mac(1), "ip-address": "192.0.2.6" },
            { "hw-address": mac(2), "ip-address": "192.0.2.7" } ] }],
        "shared-networks": [{ "subnet4": [{ "id": 2, "subnet": "198.51.100.0/24", "reservations": [
            { "hw-address": mac(1), "ip-address": "192.0.2.5" } ] }] }] } })
}

fn pinned() -> Pinned {
    Pinned {
        address: ADDRESS,
        mac: mac(1),
        subnet: 1,
        client_id: None,
        hostname: None,
        lease: true,
        reservation: true,
    }
}

#[test]
fn exactly_the_pinned_reservation_is_removed() {
    let mut config = config();
    let mut rest = all(&config);
    rest.retain(|r| *r != (1, mac(1).to_string(), "192.0.2.5".to_owned()));
    assert_eq!(remove(&mut config, &[pinned()]), 1);
    assert_eq!(all(&config), rest, "other subnet, other address and other MAC stay");
    assert_eq!(remove(&mut config, &[pinned()]), 0);
    assert_eq!(reserved(&config, 1, ADDRESS, mac(1)), Reserved::Nobody);
}

#[test]
fn another_mac_is_another() {
    assert_eq!(reserved(&config(), 1, ADDRESS, mac(1)), Reserved::Ours(Some("vm1".into())));
    assert_eq!(reserved(&config(), 1, ADDRESS, mac(2)), Reserved::Other(mac(1).to_string()));
    assert_eq!(remove(&mut config(), &[Pinned { mac: mac(2), ..pinned() }]), 0);
}

#[test]
fn a_place_is_known_by_its_subnets() {
    assert_eq!(subnet(&config(), 2), Some("198.51.100.0/24".into()));
    assert_eq!(subnet(&config(), 3), None);
    assert!(contains("192.0.2.0/24", ADDRESS));
    assert!(contains("0.0.0.0/0", ADDRESS));
    for other in ["192.0.3.0/24", "192.0.2.0", "192.0.2.0/33", "x/24", ""] {
        assert!(!contains(other, ADDRESS), "{other}");
    }
}

#[test]
fn answers_mean_what_their_result_says() {
    let of = |text: &str| classify(text.as_bytes(), "lease4-get", "reading");
    assert_eq!(of(r#"[{"result": 0, "arguments": 1}]"#), Ok(Answer::Success(json!(1))));
    assert_eq!(of(r#"[{"result": 3, "text": "none"}]"#), Ok(Answer::Empty));
    assert!(matches!(of(r#"[{"result": 2}]"#), Err(Obstacle::Refuse(_))));
    assert!(matches!(
        of(r#"[{"result": 1, "text": "unable to forward command to"}]"#),
        Err(Obstacle::Busy(_))
    ));
    for unclear in
        ["[]", "", r#"[{"result": 1}]"#, r#"[{"result": 3}, {"result": 3}]"#, r#"{"result": 3}"#, "[{}]"]
    {
        assert!(matches!(of(unclear), Err(Obstacle::Unclear(_))), "{unclear}");
    }
}

fn at(url: String) -> Kea {
    let (user, password, password_file) = (None, None, None);
    let (lock_file, timeout_ms, quarantine_days) = ("kea.lock".into(), 1_000, Quarantine::default());
    Kea::new(Config { url, user, password, password_file, lock_file, timeout_ms, quarantine_days }).unwrap()
}

/// What a look and a change come to.
async fn looked_and_changed(kea: &Kea) -> [Result<(), Obstacle>; 2] {
    let budget = Budget::new(Duration::from_secs(10), Duration::from_millis(500));
    let looked = kea.agent.lease(budget, ADDRESS).await.map(drop);
    [looked, kea.agent.rest(budget, "lease4-update", &pinned(), Quarantine::default()).await]
}

/// An agent that answers everything with this, or hangs up if it is nothing.
async fn saying(answer: &'static str) -> Kea {
    answering(move |_| answer.to_owned()).await
}

/// An agent that answers each request so.
async fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Kea {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") && connection.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
            }
            let said = answer(&String::from_utf8_lossy(&asked));
            let _ = connection.write_all(said.as_bytes()).await;
        }
    });
    at(url)
}

/// An outage costs time and no attempt, where nothing can have been changed.
#[tokio::test]
async fn an_agent_that_is_away_is_told_from_a_change_that_was_not_answered() {
    let bad_gateway = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for lost in ["", bad_gateway] {
        let [looked, changed] = looked_and_changed(&saying(lost).await).await;
        assert!(matches!(looked, Err(Obstacle::Busy(_))), "{looked:?}");
        assert!(matches!(changed, Err(Obstacle::Unclear(_))), "{changed:?}");
    }
    let broken = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for own in looked_and_changed(&saying(broken).await).await {
        assert!(matches!(own, Err(Obstacle::Unclear(_))), "{own:?}");
    }
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for busy in looked_and_changed(&saying(unavailable).await).await {
        assert!(matches!(busy, Err(Obstacle::Busy(_))), "{busy:?}");
    }
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kea = at(format!("http://{}/", silent.local_addr().unwrap()));
    let [looked, changed] = looked_and_changed(&kea).await;
    assert!(matches!(looked, Err(Obstacle::Busy(_))), "{looked:?}");
    assert!(matches!(changed, Err(Obstacle::Unclear(_))), "{changed:?}");
    // Nobody is there: nothing was sent.
    drop(silent);
    for away in looked_and_changed(&kea).await {
        assert!(matches!(away, Err(Obstacle::Busy(_))), "{away:?}");
    }
}

/// An agent that begins each answer well, and goes on for twice as long as an answer may be.
async fn verbose() -> Kea {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") && connection.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {
            }
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[").await;
            let mut pieces = 0;
            while pieces < 1024 && connection.write_all(&[b' '; 1 << 16]).await.is_ok() {
                pieces += 1;
            }
        }
    });
    at(url)
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_not_read_on() {
    let kea = verbose().await;
    let budget = Budget::new(Duration::from_secs(120), Duration::from_secs(60));
    let looked = kea.agent.lease(budget, ADDRESS).await.map(drop);
    let changed = kea.agent.rest(budget, "lease4-update", &pinned(), Quarantine::default()).await;
    for asked in [looked, changed] {
        let bound = |why: &String| why.contains("longer than 33554432 bytes");
        assert!(matches!(&asked, Err(Obstacle::Unclear(why)) if bound(why)), "{asked:?}");
    }
}

/// An agent that keeps this configuration; and what it was told to change, in order.
async fn keeping(mut config: Value, lock_file: PathBuf) -> (Kea, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = changes.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = Vec::new();
            let command = loop {
                if let Some(command) = body_of(&asked) {
                    break command;
                }
                assert!(connection.read_buf(&mut asked).await.unwrap() > 0, "half a request");
            };
            let name = command["command"].as_str().unwrap().to_owned();
            let mut arguments = Value::Null;
            match name.as_str() {
                "config-get" => arguments = config.clone(),
                "config-set" => config = command["arguments"].clone(),
                _ => {}
            }
            if matches!(name.as_str(), "config-set" | "config-write") {
                told.lock().unwrap().push(name);
            }
            let body = json!([{ "result": 0, "arguments": arguments }]).to_string();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (user, password, password_file) = (None, None, None);
    let (timeout_ms, quarantine_days) = (5_000, Quarantine::default());
    let config = Config { url, user, password, password_file, lock_file, timeout_ms, quarantine_days };
    (Kea::new(config).unwrap(), changes)
}

/// What was asked, once all of it has come.
fn body_of(request: &[u8]) -> Option<Value> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    serde_json::from_slice(&request[end + 4..]).ok()
}

/// What runs and what is on the disk are two changes. What was changed before somebody paused stays.
#[tokio::test]
async fn each_change_of_the_configuration_is_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let (kea, changes) = keeping(config(), folder.path().join("kea.lock")).await;
    let budget = Budget::new(Duration::from_secs(20), Duration::from_secs(5));
    let pinned = [pinned()];
    for (allowed, made) in [(0, ""), (1, "config-set"), (0, "config-set")] {
        let asked = AtomicUsize::new(0);
        let may = || {
            let before = asked.fetch_add(1, Ordering::Relaxed);
            if before < allowed { Ok(()) } else { Err(Obstacle::Busy("paused".into())) }
        };
        let released = kea.release_reservations(budget, &pinned, &may).await;
        assert!(matches!(released, Err(Obstacle::Busy(_))), "{released:?}");
        assert_eq!(changes.lock().unwrap().join(" "), made);
    }
    assert_eq!(kea.release_reservations(budget, &pinned, &|| Ok(())).await, Ok(0));
    assert_eq!(changes.lock().unwrap().join(" "), "config-set config-write");
}

/// What comes of releasing the lease of an address that has this one, and what the server is told to change.
async fn released(lease: Value, kept: bool) -> (Result<bool, Obstacle>, Vec<Value>) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = changes.clone();
    let kea = answering(move |asked| {
        let command = body_of(asked.as_bytes()).unwrap();
        let reply = if command["command"] == "lease4-get" {
            if lease.is_null() {
                json!([{ "result": 3 }])
            } else {
                json!([{ "result": 0, "arguments": lease }])
            }
        } else {
            told.lock().unwrap().push(command);
            json!([{ "result": 0 }])
        };
        let body = reply.to_string();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    })
    .await;
    let budget = Budget::new(Duration::from_secs(10), Duration::from_secs(5));
    let outcome = kea.release_lease(budget, (&pinned(), kept), &|| Ok(())).await;
    let changes = changes.lock().unwrap().clone();
    (outcome, changes)
}

/// A lease of the pinned address, as the server shows it.
fn shown(mac: &str, state: u32, context: Value) -> Value {
    json!({ "ip-address": ADDRESS, "hw-address": mac, "subnet-id": 1, "state": state, "user-context": context })
}

#[tokio::test]
async fn a_released_address_rests_and_only_one_that_is_nobody_elses_is_put_to_rest() {
    let (own, other) = (mac(1).to_string(), mac(2).to_string());
    let rests = |by: &str| shown("", 1, json!({ "sexton": { "released_by": by } }));
    for (lease, kept, command) in [
        (Value::Null, false, "lease4-add"),
        (shown(&own, 0, Value::Null), false, "lease4-update"),
        (shown(&own, 2, Value::Null), false, "lease4-update"),
        // What is over of another's, or rests since they were released: the address was kept for this one.
        (shown(&other, 2, Value::Null), true, "lease4-update"),
        (rests(&other), true, "lease4-update"),
    ] {
        let (outcome, changes) = released(lease.clone(), kept).await;
        assert_eq!(outcome, Ok(true), "{lease}");
        assert_eq!(changes.len(), 1, "{lease}: in one call, or somebody could come in between");
        assert_eq!(changes[0]["command"], command, "{lease}");
        let declined = json!({
            "ip-address": ADDRESS, "subnet-id": 1, "hw-address": "", "state": 1, "valid-lft": 7 * 86_400,
            "user-context": { "sexton": { "released_by": own, "hostname": null } },
        });
        assert_eq!(changes[0]["arguments"], declined, "{lease}");
    }
    // It rests already, and its time does not begin anew; or others had it since, and may have it again.
    for (lease, kept) in [
        (rests(&own), true),
        (rests(&own), false),
        (rests(&other), false),
        (shown(&other, 2, Value::Null), false),
    ] {
        assert_eq!(released(lease.clone(), kept).await, (Ok(false), Vec::new()), "{lease}");
    }
    // Another's, and one that a client found to be in use.
    for lease in [shown(&other, 0, Value::Null), shown("", 1, Value::Null)] {
        let (outcome, changes) = released(lease.clone(), true).await;
        assert!(matches!(outcome, Err(Obstacle::Refuse(_))), "{lease}: {outcome:?}");
        assert_eq!(changes, Vec::<Value>::new(), "{lease}");
    }
}

/// An agent of a server with this configuration and no leases.
async fn configured(config: Arc<Mutex<Value>>) -> Kea {
    answering(move |asked| {
        let reply = if asked.contains("config-get") {
            json!([{ "result": 0, "arguments": *config.lock().unwrap() }])
        } else {
            json!([{ "result": 3 }])
        };
        let body = reply.to_string();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    })
    .await
}

/// What is in no configuration may be in a hosts database: then nothing shows that an address is reserved for nobody.
#[tokio::test]
async fn reservations_in_a_database_are_not_taken_for_none() {
    let plain = json!({ "Dhcp4": { "subnet4": [{ "id": 1, "subnet": "192.0.2.0/24" }] } });
    let (config, left) = (Arc::new(Mutex::new(plain.clone())), Duration::from_secs(10));
    let kea = configured(config.clone()).await;
    let attributes = Attributes { mac: mac(1), addresses: vec![ADDRESS], subnet: 1 };
    let seen = kea.look(Some(&attributes), left).await.unwrap();
    let Found::Absent(place) = seen.found else { panic!("{}", seen.evidence) };
    let addresses = vec![Pinned { reservation: false, ..pinned() }];
    let targets = Targets { place: place.0, addresses, ..Targets::default() };
    assert!(matches!(kea.compare(&targets, left).await, Ok(Found::Absent(_))));
    assert_eq!(kea.seen(&targets, left).await.unwrap().0, Presence::Absent);
    for (key, databases) in [
        ("hosts-database", json!({ "type": "mysql", "name": "kea" })),
        ("hosts-databases", json!([{ "type": "postgresql", "name": "kea" }])),
    ] {
        let mut with = plain.clone();
        with["Dhcp4"][key] = databases;
        *config.lock().unwrap() = with;
        for answer in [
            kea.look(Some(&attributes), left).await.map(drop),
            kea.compare(&targets, left).await.map(drop),
            kea.release(&targets, left, &|| Ok(())).await.map(drop),
            kea.seen(&targets, left).await.map(drop),
        ] {
            let why = answer.unwrap_err();
            assert!(matches!(&why, Obstacle::Refuse(why) if why.contains(&format!("({key} in"))), "{why:?}");
        }
    }
}

#[test]
fn a_lease_of_another_address_is_no_answer() {
    let lease = json!({ "ip-address": "192.0.2.5", "hw-address": "52:54:00:00:00:01", "subnet-id": 1 });
    assert_eq!(lease_in(ADDRESS, &lease).unwrap().mac, Some(mac(1)));
    assert!(lease_in(Ipv4Addr::new(192, 0, 2, 6), &lease).is_err());
    assert!(lease_in(ADDRESS, &Value::Null).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("Dhcp4"),
        Just("subnet4"),
        Just("shared-networks"),
        Just("reservations"),
        Just("id"),
        Just("ip-address"),
        Just("hw-address"),
        Just("result")
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 48, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = classify(&bytes, "config-get", "reading");
    }

    #[test]
    fn arbitrary_json_never_panics_and_loses_nothing(value in any_json()) {
        let _ = classify(value.to_string().as_bytes(), "config-get", "reading");
        let _ = lease_in(ADDRESS, &value);
        let mut config = json!({ "Dhcp4": value });
        let _ = (subnet(&config, 1), reserved(&config, 1, ADDRESS, mac(1)));
        let before = all(&config).len();
        let removed = remove(&mut config, &[pinned()]);
        prop_assert_eq!(all(&config).len() + removed, before);
    }

    #[test]
    fn any_prefix_is_judged(prefix in "[0-9./]{0,20}", address in any::<u32>()) {
        let _ = contains(&prefix, Ipv4Addr::from(address));
    }
}

/// Whatever an answer is: it is understood or it is not, and a change takes away exactly what was pinned.
#[test]
fn fuzz_answers() {
    let lease = json!({
        "ip-address": ADDRESS, "hw-address": mac(1), "subnet-id": 1, "client-id": "01:02", "hostname": "vm1", "state": 0,
    });
    let answer = |result: i64, arguments: Value| {
        json!([{ "result": result, "text": "said", "arguments": arguments }]).to_string()
    };
    let target = Fuzz::new("kea", Form::Json).seed(answer(0, config())).seed(answer(0, lease)).slow(2);
    target.run(|bytes| {
        let answer = classify(bytes, "config-get", "asking").map_err(|obstacle| obstacle.to_string())?;
        let Answer::Success(arguments) = answer else { return Ok(()) };
        let lease = lease_in(ADDRESS, &arguments);
        if let Some(prefix) = subnet(&arguments, 1) {
            let _ = contains(&prefix, ADDRESS);
        }
        let (before, mut changed) = (all(&arguments), arguments.clone());
        let removed = remove(&mut changed, &[pinned()]);
        assert_eq!(all(&changed).len() + removed, before.len());
        assert!(removed > 0 || changed == arguments, "nothing was pinned, and something is another");
        let who = reserved(&changed, 1, ADDRESS, mac(1));
        assert!(!matches!(who, Reserved::Ours(_)), "what was removed is still there");
        if arguments.get("Dhcp4").is_none() {
            lease?;
        }
        Ok(())
    });
}
