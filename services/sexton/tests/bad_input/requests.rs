//! Requests over HTTP.
use crate::served::{Served, resource, said, with};
use serde_json::{Value, json};

#[test]
fn a_bad_request_names_the_field_and_changes_nothing() {
    let served = Served::start();
    let (status, answer) =
        served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    assert_eq!((status, &answer["results"]), (200, &json!([null])));
    let good = json!({"resource": "vm/a", "on": "2030-01-01", "reason": "x"});
    let far = "x".repeat(1001);
    for (field, wrong, part) in [
        ("resource", json!("a"), "vm/"),
        ("resource", json!(7), "string"),
        ("resource", json!("pool/a"), "no plan for pool"),
        ("on", json!("2030-02-30"), "no such date"),
        ("on", json!("1.1.2030"), "YYYY-MM-DD"),
        ("on", json!(20300101), "string"),
        ("on", json!("2020-01-01"), "is past; today is"),
        ("on", json!("2130-01-01"), "days ahead"),
        ("on", Value::Null, "string"),
        ("zone", json!("Europe/Atlantis"), "IANA"),
        ("gone_by", json!("2029-12-31"), "before"),
        ("gone_by", json!("soon"), "YYYY-MM-DD"),
        ("reason", json!(["x"]), "string"),
        ("force", json!(true), "unknown field"),
    ] {
        let (status, problem) = served.post("/v1/deletions", &with(good.clone(), field, wrong.clone()));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{field} = {wrong}: {problem}");
        assert!(detail.contains(field) && detail.contains(part), "{field} = {wrong}: {problem}");
    }
    let nested = format!("{{\"resource\":{}", "[".repeat(100_000));
    let large = format!("{{\"resource\":\"{}\"}}", "x".repeat(8 << 20));
    let twice = format!("{good}{good}");
    for (body, status, part) in [
        ("", 422, "body"),
        ("delete everything", 422, "body"),
        ("[]", 422, "body"),
        ("{\"resource\":\"vm/a\",\"reason\":\"x\"}", 422, "missing field `on`"),
        ("{\"on\":\"2030-01-01\",\"on\":\"2030-01-02\"}", 422, "duplicate field `on`"),
        (nested.as_str(), 422, "resource"),
        (large.as_str(), 413, "at most"),
        (twice.as_str(), 422, "nothing after"),
    ] {
        let (found, problem) = served.ask("POST", "/v1/deletions", Some("test"), body.as_bytes());
        let detail = problem["detail"].as_str().unwrap_or_default();
        let short: String = body.chars().take(60).collect();
        assert!(found == status && detail.contains(part), "{short}: {found} {problem}");
    }
    let reason = with(good.clone(), "reason", json!(far));
    assert!(
        served.post("/v1/deletions", &reason).1["detail"]
            .as_str()
            .unwrap()
            .contains("reason: expected 1 to 1000")
    );
    for (method, path, actor, status, part) in [
        ("POST", "/v1/deletions", None, 422, "sexton-actor"),
        ("POST", "/v1/deletions", Some(""), 422, "sexton-actor"),
        ("GET", "/v1/deletions?limit=many", Some("test"), 400, "limit"),
        ("GET", "/v1/deletions?colour=red", Some("test"), 400, "colour"),
        ("GET", "/v1/deletions?state=gone", Some("test"), 400, "state"),
        ("GET", "/v1/deletions?scope=%20", Some("test"), 400, "scope"),
        ("GET", "/v1/deletions/seventeen", Some("test"), 422, "d-17"),
        ("GET", "/v1/deletions/d-17", Some("test"), 404, "d-17"),
        ("GET", "/v1/deletions/%ff/a", Some("test"), 400, "UTF-8"),
        ("GET", "/v1/names/pool/a", Some("test"), 404, "no plan for pool"),
        ("DELETE", "/v1/deletions/d-1/holds/first", Some("test"), 422, "hold"),
        ("DELETE", "/v1/pauses/first", Some("test"), 422, "pause"),
        ("PUT", "/v1/deletions", Some("test"), 405, "Method Not Allowed"),
        ("GET", "/v2", Some("test"), 404, "nothing at this address"),
    ] {
        let (found, problem) = served.ask(method, path, actor, good.to_string().as_bytes());
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(part), "{method} {path}: {found} {problem}");
    }
    assert_eq!(served.get("/v1/deletions").1["items"], json!([]), "a bad request made a record");
    assert_eq!(served.post("/v1/deletions", &good).0, 201, "the good one is taken");
}

#[test]
fn without_a_token_a_page_of_another_name_is_not_answered() {
    let served = Served::start();
    let all = json!({"resources": [resource("a")], "whole": true}).to_string();
    for host in ["evil.example", "", "127.0.0.1.evil.example:80"] {
        let (status, problem) = served.ask_for(host, "POST", "/v1/resources", Some("test"), all.as_bytes());
        assert_eq!(status, 421, "{host:?}: {problem}");
    }
    assert!(served.names().is_empty());
    assert_eq!(served.ask_for("localhost", "GET", "/v1/health", None, b"").0, 200);
}

#[test]
fn a_pause_that_would_stop_nothing_is_refused_and_what_is_known_is_named() {
    let served = Served::start();
    for (selector, wrong, known) in [("kind", "vmm", "vm"), ("subsystem", "hypervsor", "hypervisor")] {
        let pause = |name| said(&served.sexton(&["pause", &format!("--{selector}"), name, "--reason", "x"]));
        let refused = pause(wrong);
        assert!(
            refused.contains(&format!("covers.{selector}: nobody knows {wrong}; known are ")),
            "{refused}"
        );
        assert!(refused.contains(known), "{refused}");
        assert_eq!(served.get("/v1/pauses").1, json!([]), "{selector}");
        let taken = pause(known);
        assert!(taken.contains("is in force"), "{taken}");
        assert!(served.sexton(&["resume", taken.split(' ').nth(1).unwrap()]).status.success(), "{taken}");
    }
    // What scopes there are, nobody knows.
    assert!(served.sexton(&["pause", "--scope", "tenants/acme", "--reason", "x"]).status.success());
}
