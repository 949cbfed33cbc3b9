//! The delivered definitions against a real little HTTP server.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use server::{Fault, Server};
use sexton_hook::{DriverConfig, delivered_actions, driver};
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_testkit::bench::{Bench, evidence, refusal, retry};

const RECORD: &str = "/api/records/web01";
const NODE: &str = "/api/nodes/web01";
const CERTIFICATE: &str = "/api/certificates/7";

fn bench_at(subsystem: &str, url: &str) -> Bench {
    bench_in("lab", subsystem, url)
}

fn bench_in(place: &str, subsystem: &str, url: &str) -> Bench {
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks");
    let config: DriverConfig = serde_json::from_value(json!({
        "driver": "hook",
        "subsystem": subsystem,
        "definition": hooks.join(format!("{subsystem}.toml")),
        "base_url": url,
        "place": place,
    }))
    .unwrap();
    Bench::new(driver(config).unwrap(), delivered_actions(&subsystem.parse().unwrap()).unwrap(), "u1")
}

async fn accounting() -> (Server, Bench) {
    let server = Server::start("no such record").await;
    server.put(RECORD, json!({ "uuid": "u1", "record": 4711, "active": true, "tariff": "gold" }));
    let mut bench = bench_at("accounting", &server.url);
    bench.pin().await;
    (server, bench)
}

async fn nodes() -> Server {
    let server = Server::start("no such node").await;
    server.put(NODE, json!({ "uuid": "u1", "enrolled": true, "certificate": { "serial": 7 } }));
    server.put(CERTIFICATE, json!({ "uuid": "u1", "state": "valid" }));
    server
}

async fn config() -> (Server, Bench) {
    let server = nodes().await;
    let mut bench = bench_at("config", &server.url);
    bench.pin().await;
    (server, bench)
}

#[tokio::test]
async fn stopping_is_undone_exactly_whatever_it_was() {
    for was in [json!(true), json!(false)] {
        let (server, bench) = accounting().await;
        server.put(RECORD, json!({ "uuid": "u1", "record": 4711, "active": was, "tariff": "gold" }));
        let before = server.get(RECORD);
        assert_eq!(bench.targets, json!({ "place": "lab", "object": true, "record": 4711 }));
        let manifest = bench.capture("stop").await;
        for _ in 0..2 {
            evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
        }
        assert_eq!(server.get(RECORD)["active"], json!(false));
        for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
            evidence(&bench.ask(mode, "stop", Some(&manifest)).await, Presence::Present);
        }
        assert_eq!(server.get(RECORD), before);
    }
}

#[tokio::test]
async fn lost_answers_and_errors_after_the_effect_are_found_out() {
    for fault in [Fault::ErrorAfterEffect, Fault::LostAnswer] {
        let (server, bench) = accounting().await;
        let manifest = bench.capture("stop").await;
        for (mode, active) in [(Mode::Perform, false), (Mode::Undo, true)] {
            server.fault(fault);
            retry(&bench.ask(mode, "stop", Some(&manifest)).await, RetryClass::Failed);
            assert_eq!(server.get(RECORD)["active"], json!(active));
            let changes = server.world.lock().unwrap().changes;
            evidence(&bench.ask(mode, "stop", Some(&manifest)).await, Presence::Present);
            assert_eq!(server.world.lock().unwrap().changes, changes, "it was not done again");
        }
        let (server, bench) = config().await;
        server.fault(fault);
        retry(&bench.perform("revoke").await, RetryClass::Failed);
        evidence(&bench.perform("revoke").await, Presence::Absent);
        assert_eq!((&server.get(NODE), &server.get(CERTIFICATE)["state"]), (&json!(null), &json!("revoked")));
    }
}

#[tokio::test]
async fn a_204_without_the_effect_is_not_believed() {
    let (server, bench) = accounting().await;
    let manifest = bench.capture("stop").await;
    server.fault(Fault::NoEffect);
    let why = retry(&bench.perform_by("stop", &manifest).await, RetryClass::Failed);
    assert!(why.contains("its effect was not seen"), "{why}");
    let (server, bench) = config().await;
    server.fault(Fault::NoEffect);
    // The first of two calls, the revocation, has no effect; the node is deleted, and that is not enough.
    let why = retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(why.contains("not seen to be gone"), "{why}");
    evidence(&bench.perform("revoke").await, Presence::Absent);
    assert_eq!(server.get(CERTIFICATE)["state"], json!("revoked"));
}

#[tokio::test]
async fn codes_mean_what_the_definition_says() {
    let (server, bench) = accounting().await;
    let manifest = bench.capture("stop").await;
    server.fault(Fault::Code(423));
    retry(&bench.perform_by("stop", &manifest).await, RetryClass::Spared);
    server.fault(Fault::Code(403));
    refusal(&bench.perform_by("stop", &manifest).await);
    server.fault(Fault::Code(302));
    retry(&bench.perform_by("stop", &manifest).await, RetryClass::Failed);
    assert_eq!(server.get(RECORD)["active"], json!(true));
}

/// Who stands before a service answers for it while it is away.
#[tokio::test]
async fn a_service_that_is_away_spends_no_attempt() {
    let (server, mut bench) = accounting().await;
    let manifest = bench.capture("stop").await;
    for code in [429, 502, 503, 504] {
        server.world.lock().unwrap().away = Some(code);
        for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
            let why = retry(&bench.ask(mode, "stop", Some(&manifest)).await, RetryClass::Spared);
            assert!(why.contains(&code.to_string()), "{why}");
        }
        retry(&bench.pin().await, RetryClass::Spared);
    }
    // Its own error is none of them.
    server.world.lock().unwrap().away = Some(500);
    retry(&bench.perform_by("stop", &manifest).await, RetryClass::Failed);
    server.world.lock().unwrap().away = None;
    // It was there, and then a gateway lost the answer to the change: it may have been made.
    server.fault(Fault::Code(502));
    retry(&bench.perform_by("stop", &manifest).await, RetryClass::Failed);
    server.fault(Fault::Code(503));
    retry(&bench.perform_by("stop", &manifest).await, RetryClass::Spared);
    evidence(&bench.perform_by("stop", &manifest).await, Presence::Present);
}

/// A look whose answer is lost has changed nothing.
#[tokio::test]
async fn a_connection_that_is_cut_during_a_look_spends_no_attempt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    retry(&bench_at("accounting", &url).pin().await, RetryClass::Spared);
}

#[tokio::test]
async fn another_of_the_same_name_and_changes_by_others_are_refused() {
    let (server, bench) = accounting().await;
    let manifest = bench.capture("stop").await;
    server.put(RECORD, json!({ "uuid": "u1", "record": 4711, "active": true, "tariff": "lead" }));
    for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
        refusal(&bench.ask(mode, "stop", Some(&manifest)).await);
    }
    server.put(RECORD, json!({ "uuid": "u2", "record": 4711, "active": true, "tariff": "gold" }));
    for mode in [Mode::Perform, Mode::Undo, Mode::Verify] {
        assert!(refusal(&bench.ask(mode, "stop", Some(&manifest)).await).contains("u2"));
    }
    let (server, bench) = config().await;
    server.put(CERTIFICATE, json!({ "uuid": "u2", "state": "valid" }));
    assert!(refusal(&bench.perform("revoke").await).contains("u2"));
    assert_eq!(server.world.lock().unwrap().changes, 0);
}

#[tokio::test]
async fn what_is_not_clearly_absent_is_unknown() {
    let (server, bench) = config().await;
    // A 404 without the subsystem's own words, as a proxy on the way would give.
    server.world.lock().unwrap().missing = None;
    server.world.lock().unwrap().objects.clear();
    let why = retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(why.contains("neither present nor absent"), "{why}");
    server.put(NODE, json!({ "enrolled": true }));
    let why = retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(why.contains("has no /uuid"), "{why}");
    server.put(NODE, json!("x".repeat(2 << 20)));
    let why = retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(why.contains("longer than"), "{why}");
}

#[tokio::test]
async fn another_place_and_a_server_that_is_down_are_no_absence() {
    let (server, bench) = config().await;
    server.world.lock().unwrap().objects.clear();
    server.world.lock().unwrap().id = "production".into();
    let why = retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(why.contains("production"), "{why}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut down = bench_at("config", &format!("http://127.0.0.1:{port}"));
    down.targets = bench.targets.clone();
    retry(&down.perform("revoke").await, RetryClass::Spared);
}

/// It has all that was pinned, under the same names and with the same identity.
#[tokio::test]
async fn what_was_pinned_in_another_place_is_not_touched_in_this_one() {
    let (server, bench) = config().await;
    let manifest = bench.capture("withdraw").await;
    let another = nodes().await;
    another.world.lock().unwrap().id = "production".into();
    let mut pointed_at_it = bench_in("production", "config", &another.url);
    pointed_at_it.targets = bench.targets.clone();
    for (mode, action, manifest) in [
        (Mode::Reread, "inspect", None),
        (Mode::Capture, "withdraw", None),
        (Mode::Perform, "withdraw", Some(&manifest)),
        (Mode::Undo, "withdraw", Some(&manifest)),
        (Mode::Verify, "withdraw", Some(&manifest)),
        (Mode::Perform, "revoke", None),
    ] {
        let why = refusal(&pointed_at_it.ask(mode, action, manifest).await);
        let expected = r#"pinned in "lab", but this is "production""#;
        assert!(why.contains(expected), "{mode:?} {action}: {why}");
    }
    for asked in [&server, &another] {
        assert_eq!(asked.world.lock().unwrap().changes, 0);
    }
    // Where it was pinned it goes.
    evidence(&bench.perform("revoke").await, Presence::Absent);
}

#[tokio::test]
async fn what_is_filled_in_stays_one_segment() {
    let server = Server::start("no such node").await;
    server
        .put(NODE, json!({ "uuid": "u1", "enrolled": true, "certificate": { "serial": "../nodes/web01" } }));
    let mut bench = bench_at("config", &server.url);
    bench.pin().await;
    retry(&bench.perform("revoke").await, RetryClass::Failed);
    assert!(!server.get(NODE).is_null(), "the certificate's serial did not become another path");
    bench.targets["serial"] = json!("..");
    assert!(refusal(&bench.perform("revoke").await).contains("another folder"));
    // That would be the collection of all certificates.
    bench.targets["serial"] = json!("");
    assert!(refusal(&bench.perform("revoke").await).contains("target.serial"));
    bench.targets["serial"] = json!(null);
    assert!(refusal(&bench.perform("revoke").await).contains("target.serial"));
    assert_eq!(server.world.lock().unwrap().changes, 0);
}

#[tokio::test]
async fn a_secret_header_is_read_from_its_file_each_time() {
    let server = Server::start("no such record").await;
    server.put(RECORD, json!({ "uuid": "u1", "record": 1, "active": true, "tariff": "gold" }));
    let file = tempfile::NamedTempFile::new().unwrap();
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks");
    let config: DriverConfig = serde_json::from_value(json!({
        "driver": "hook", "subsystem": "accounting", "definition": hooks.join("accounting.toml"),
        "base_url": server.url, "place": "lab", "secret_headers": { "authorization": file.path() },
    }))
    .unwrap();
    let actions = delivered_actions(&"accounting".parse().unwrap()).unwrap();
    let mut bench = Bench::new(driver(config).unwrap(), actions, "u1");
    for secret in ["Bearer one", "Bearer two"] {
        std::fs::write(file.path(), format!("{secret}\n")).unwrap();
        evidence(&bench.pin().await, Presence::Present);
        assert_eq!(server.world.lock().unwrap().secrets.pop().unwrap(), secret);
    }
    std::fs::write(file.path(), "broken\nheader").unwrap();
    let why = retry(&bench.pin().await, RetryClass::Failed);
    assert!(why.contains("authorization") && !why.contains("broken"), "{why}");
    std::fs::write(file.path(), "Bearer three").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let why = retry(&bench.pin().await, RetryClass::Failed);
    assert!(why.contains("everybody may read") && !why.contains("three"), "{why}");
}

#[tokio::test]
#[ignore = "the next test runs it, in an environment with a proxy"]
async fn asks_the_server_itself() {
    let server = Server::start("no such record").await;
    server.put(RECORD, json!({ "uuid": "u1", "record": 1, "active": true, "tariff": "gold" }));
    evidence(&bench_at("accounting", &server.url).pin().await, Presence::Present);
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    // Nobody listens at this port.
    let proxy = "http://127.0.0.1:9";
    let said = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "asks_the_server_itself", "--ignored"])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, proxy)))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let said_text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && said_text.contains("1 passed"), "{said_text}");
}
