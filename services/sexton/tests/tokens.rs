//! Tokens and roles on a served program: what each may, what it is good for, and what is written down.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
#[allow(dead_code, reason = "a site of machines is not needed here")]
mod site;
mod waiting;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use served::{CONFIGURED, Served, detail, said};

const ROLES: [&str; 5] = ["viewer", "requester", "operator", "approver", "admin"];

/// Ask with a token of each role, of which those below the `lowest` one are refused: how many that are.
fn refused_below(
    served: &Served,
    tokens: &[(String, String); 5],
    (lowest, method, path, body): (&str, &str, &str, &Value),
) -> usize {
    let least = ROLES.iter().position(|role| *role == lowest).unwrap();
    for (role, (name, secret)) in ROLES.into_iter().zip(tokens) {
        let (status, answer) = served.with(secret, method, path, body);
        if ROLES[..least].contains(&role) {
            let needs = format!("needs the role {lowest}, and {name} is {role}");
            assert!(
                status == 403 && detail(&answer).contains(&needs),
                "{name} {method} {path}: {status} {answer}"
            );
        } else {
            assert!(![0, 401, 403, 500].contains(&status), "{name} {method} {path}: {status} {answer}");
        }
    }
    least
}

#[test]
fn each_role_is_refused_what_is_above_it() {
    let served = Served::start(false);
    let tokens = ROLES.map(|role| (role.to_owned(), served.token(role, role, &[])));
    // Of one token no more than thirty refusals a minute are written down one by one.
    let others = ROLES.map(|role| {
        let name = format!("{role}2");
        let secret = served.token(&name, role, &[]);
        (name, secret)
    });
    served.register("a", "tenants/acme");
    let root = served.token("root2", "admin", &[]);
    let id = served.delete(&root, "a");
    let of = |what: &str| format!("/v1/deletions/{id}/{what}");
    let reason = json!({ "reason": "a test" });
    let ceiling = json!({ "scope": "tenants/acme", "to": "observe", "reason": "a test" });
    let waive = json!({ "claim": "absent", "mark": "ab12", "evidence": "seen" });
    let digest = json!({ "digest": "x", "reason": "a test" });
    let shot = json!({ "deletion": id, "stage": "announce", "belt": "ceiling", "reason": "a test" });
    let held = |more: &str| format!("/v1/resources/vm/a/holds{more}");
    let none = Value::Null;
    let mut refused = 0;
    for (lowest, method, path, body) in [
        ("viewer", "GET", "/v1/deletions".to_owned(), &none),
        ("viewer", "GET", "/v1/audit".to_owned(), &none),
        ("viewer", "GET", "/v1/archived".to_owned(), &none),
        ("viewer", "POST", "/v1/preview".to_owned(), &json!({"resource": "vm/a", "on": "2020-01-01"})),
        ("viewer", "GET", "/v1/surveys/99".to_owned(), &none),
        ("requester", "POST", "/v1/surveys".to_owned(), &json!({"resource": "vm/a", "on": "2020-01-01"})),
        (
            "requester",
            "POST",
            "/v1/deletions".to_owned(),
            &json!({"resource": "vm/a", "on": "x", "reason": "x"}),
        ),
        ("requester", "POST", "/v1/resources".to_owned(), &json!({"resources": [], "whole": true})),
        ("requester", "POST", of("holds"), &reason),
        ("operator", "DELETE", of("holds/99"), &none),
        ("operator", "POST", of("park"), &reason),
        ("operator", "POST", of("retry"), &json!({})),
        ("operator", "POST", "/v1/pauses".to_owned(), &reason),
        ("operator", "DELETE", "/v1/pauses/99".to_owned(), &none),
        ("approver", "POST", "/v1/ceilings".to_owned(), &ceiling),
        ("approver", "POST", of("waive"), &waive),
        ("approver", "POST", of("rescue"), &json!({ "evidence": "seen" })),
        ("approver", "POST", "/v1/batches/99/approve".to_owned(), &digest),
        ("admin", "GET", "/v1/tokens".to_owned(), &none),
        ("admin", "DELETE", "/v1/tokens/nobody".to_owned(), &none),
        ("admin", "POST", "/v1/tokens".to_owned(), &json!({ "name": "x", "role": "viewer" })),
    ] {
        refused += refused_below(&served, &tokens, (lowest, method, path.as_str(), body));
    }
    for (lowest, method, path, body) in [
        ("viewer", "GET", "/v1/ceilings/stopped?everywhere=true&to=announce".to_owned(), &none),
        ("requester", "POST", held(""), &reason),
        ("operator", "DELETE", held("?origin=nobody"), &none),
        ("operator", "DELETE", held("/99"), &none),
        ("requester", "POST", "/v1/censuses".to_owned(), &census(&[])),
        ("operator", "POST", of("acknowledge"), &json!({ "mark": "ab12", "reason": "a test" })),
        ("operator", "POST", of("bounced"), &reason),
        ("operator", "PUT", "/v1/resources/vm/a/priority".to_owned(), &json!({ "priority": 3 })),
        ("operator", "POST", "/v1/alarms/99/acknowledge".to_owned(), &reason),
        ("operator", "POST", "/v1/canaries".to_owned(), &none),
        ("operator", "POST", "/v1/drills".to_owned(), &none),
        ("approver", "POST", "/v1/overrides".to_owned(), &shot),
        ("approver", "DELETE", "/v1/overrides/99".to_owned(), &none),
        (
            "operator",
            "POST",
            "/v1/cancellations".to_owned(),
            &json!({ "scope": "tenants/none", "reason": "a test" }),
        ),
        ("operator", "POST", of("cancel"), &reason),
    ] {
        refused += refused_below(&served, &others, (lowest, method, path.as_str(), body));
    }
    let refusals = served.refusals();
    let (by_role, by_belts): (Vec<_>, Vec<_>) =
        refusals.iter().partition(|(_, _, why)| why.contains("needs the role"));
    assert_eq!(by_role.len(), refused, "each refusal is one event: {refusals:#?}");
    // Who may ask is refused by belts: what is not purged is not rescued, and nobody believes an empty listing.
    let rescue = format!("POST {}", of("rescue"));
    let of_belts = |asked: &str| by_belts.iter().filter(|(_, of, _)| of == asked).count();
    let (rescues, censuses) = (of_belts(&rescue), of_belts("POST /v1/censuses"));
    assert_eq!((rescues, censuses, by_belts.len()), (2, 4, 6), "and nothing else is: {by_belts:#?}");
    assert!(refusals.contains(&(
        "viewer".into(),
        "POST /v1/pauses".into(),
        "pausing needs the role operator, and viewer is viewer".into()
    )));
    let (_, record) = served.trusted("GET", &format!("/v1/deletions/{id}"), &none);
    assert_eq!(record["status"], "cancelled", "the operator has cancelled it: {record}");
    let trail = record["trail"].as_array().unwrap();
    assert_eq!(
        trail.last().unwrap()["event"]["by"],
        "operator2",
        "who has a token is who is written down: {record}"
    );
    let audit = served.sexton(&tokens[0].1, &["audit"]);
    assert!(audit.status.success(), "the chain holds: {}", said(&audit));
    let log = said(&served.sexton(&tokens[0].1, &["audit", "--access"]));
    assert!(log.contains("403 POST /v1/pauses") && log.contains("token_issued"), "{log}");
}

/// What is handed in, as if something were meant that no listing shows.
fn census(meant: &[&str]) -> Value {
    let mut body = json!({
        "kind": "vm", "scope": "tenants/acme", "credential": "reader", "total": 0, "listed": [],
        "taken_at": chrono::Utc::now().to_rfc3339(),
    });
    for field in meant {
        body[field] = json!(true);
    }
    body
}

#[test]
fn what_a_census_cannot_show_is_said_by_who_may() {
    let served = Served::start(false);
    let (lists, knows) = (served.token("lists", "requester", &[]), served.token("knows", "operator", &[]));
    let hand_in = |secret: &str, meant: &[&str]| served.with(secret, "POST", "/v1/censuses", &census(meant));
    // None of these is believed: nothing is listed, and nobody has named a sentinel. But they are looked at.
    assert_eq!(hand_in(&lists, &[]).0, 422);
    for meant in ["fewer", "more", "new_credential"] {
        let (status, answer) = hand_in(&lists, &[meant]);
        assert!(status == 403 && detail(&answer).contains("needs the role operator"), "{answer}");
        assert_eq!(hand_in(&knows, &[meant]).0, 422);
    }
    let refusals = served.refusals();
    let seen: Vec<_> = refusals.iter().map(|(by, asked, _)| (by.as_str(), asked.as_str())).collect();
    let (lists, knows) = (("lists", "POST /v1/censuses"), ("knows", "POST /v1/censuses"));
    assert_eq!(
        seen,
        [lists, lists, knows, lists, knows, lists, knows],
        "what is not believed, too: {refusals:#?}"
    );
}

#[test]
fn one_takes_back_only_what_is_ones_own() {
    let served = Served::start(false);
    served.register("a", "acme");
    served.register("b", "acme");
    let (mine, theirs) = (served.token("me", "requester", &[]), served.token("other", "requester", &[]));
    let (own, other) = (served.delete(&mine, "a"), served.delete(&theirs, "b"));
    let reason = json!({ "reason": "a test" });
    let cancel = |id: &str| served.with(&mine, "POST", &format!("/v1/deletions/{id}/cancel"), &reason);
    let hold = |secret: &str| served.with(secret, "POST", &format!("/v1/deletions/{other}/holds"), &reason);
    assert_eq!((hold(&mine).0, hold(&theirs).0), (200, 200));
    let (_, record) = served.with(&mine, "GET", &format!("/v1/deletions/{other}"), &Value::Null);
    let release = |origin: &str| {
        let holds = record["holds"].as_array().unwrap();
        let hold = holds.iter().find(|hold| hold["origin"] == origin).unwrap()["id"].clone();
        served.with(&mine, "DELETE", &format!("/v1/deletions/{other}/holds/{hold}"), &Value::Null)
    };
    let (status, answer) = release("other");
    assert!(status == 403 && detail(&answer).contains("operator"), "{answer}");
    assert_eq!(release("me").0, 200);
    let (status, answer) = cancel(&other);
    assert!(
        status == 403 && detail(&answer).contains("somebody else asked for needs the role operator"),
        "{answer}"
    );
    assert_eq!(cancel(&own).0, 200);
}

#[test]
fn a_token_that_is_unknown_revoked_or_expired_is_good_for_nothing() {
    let mut served = Served::start(true);
    let configured = format!("authorization: Bearer {CONFIGURED}\r\nsexton-actor: root\r\n");
    let issue = |name: &str, good_for_s: u64| {
        let body = json!({ "name": name, "role": "viewer", "everywhere": true, "good_for_s": good_for_s });
        let (status, issued) = served.ask(&configured, "POST", "/v1/tokens", &body);
        assert_eq!(status, 201, "{issued}");
        issued["secret"].as_str().unwrap().to_owned()
    };
    let (stays, revoked, expired) = (issue("stays", 3600), issue("goes", 3600), issue("ends", 8));
    let none = Value::Null;
    for secret in [&stays, &revoked, &expired] {
        assert_eq!(served.with(secret, "GET", "/v1/health", &none).0, 200);
    }
    assert_eq!(served.with(&stays, "GET", "/v1/whoami", &none).1["name"], "stays");
    assert_eq!(served.ask("", "GET", "/v1/health", &none).0, 401, "no token");
    assert_eq!(served.ask(&configured, "DELETE", "/v1/tokens/goes", &none).0, 200);
    let (status, answer) = served.with(&revoked, "GET", "/v1/health", &none);
    assert!(status == 401 && detail(&answer).contains("the token goes was revoked"), "{answer}");
    let unknown = format!("sxt_{}", "0".repeat(64));
    for wrong in [unknown.as_str(), "", "x", &CONFIGURED[1..], &format!("{stays}0")] {
        let (status, answer) = served.with(wrong, "GET", "/v1/health", &none);
        assert!(status == 401 && !detail(&answer).contains("stays"), "{wrong}: {answer}");
    }
    // A token says who one is, and nothing else does.
    let both = |actor: &str| {
        let headers = format!("authorization: Bearer {stays}\r\nsexton-actor: {actor}\r\n");
        served.ask(&headers, "GET", "/v1/health", &none).0
    };
    assert_eq!((both("stays"), both("root")), (200, 403));
    let refusals = |served: &Served| {
        let (_, found) = served.ask(&configured, "GET", "/v1/audit/access", &Value::Null);
        let events = found["events"].as_array().unwrap().iter().filter(|e| e["what"] == "refused");
        events.map(|e| e["by"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&served), ["(nobody)", "goes", "stays"], "of six unknown ones one is written down");

    // It is good for a few seconds, and was seen to be.
    waiting::until("it has expired", || served.with(&expired, "GET", "/v1/health", &none).0 == 401);
    let (_, answer) = served.with(&expired, "GET", "/v1/health", &none);
    assert!(detail(&answer).contains("the token ends has expired"), "{answer}");
    served.restart();
    assert_eq!(served.with(&stays, "GET", "/v1/health", &none).0, 200);
    assert_eq!(served.with(&revoked, "GET", "/v1/health", &none).0, 401, "a restart forgets no revocation");
}

/// Of nobody one refusal a minute is written down at once: the others are counted, and the minute is not over.
#[test]
fn what_was_counted_of_refusals_is_written_down_at_a_clean_stop() {
    let mut served = Served::start(false);
    for _ in 0..5 {
        assert_eq!(served.with("nobody-knows-it", "GET", "/v1/health", &Value::Null).0, 401);
    }
    let more = |served: &Served| -> Vec<u64> {
        let refused = served.events().into_iter().filter(|event| event["what"] == "refused");
        refused.map(|event| event["body"]["more"].as_u64().unwrap_or_default()).collect()
    };
    assert_eq!(more(&served), [0]);
    served.stop_and_start();
    assert_eq!(more(&served), [0, 3], "one event of one refusal itself, and of three more");
}

/// Whoever is refused what only looks again and again hides by it nothing that they try beside it.
#[test]
fn what_was_counted_of_refusals_names_each_request() {
    let mut served = Served::start(false);
    let viewer = served.token("viewer", "viewer", &[]);
    let accept = json!({ "reason": "a test" });
    for _ in 0..31 {
        assert_eq!(served.with(&viewer, "GET", "/v1/tokens", &Value::Null).0, 403);
    }
    for path in ["/v1/review/accept", "/v1/tokens"] {
        assert_eq!(served.with(&viewer, "POST", path, &accept).0, 403, "{path}");
    }
    served.stop_and_start();
    let refused: Vec<Value> =
        served.events().into_iter().filter(|event| event["what"] == "refused").collect();
    let (last, one_by_one) = refused.split_last().unwrap();
    assert_eq!(one_by_one.len(), 30);
    assert!(one_by_one.iter().all(|event| event["body"]["counted"].is_null()), "{one_by_one:#?}");
    let one = |request: &str| json!({ "request": request, "status": 403, "count": 1 });
    let each = ["GET /v1/tokens", "POST /v1/review/accept", "POST /v1/tokens"].map(one);
    assert_eq!((&last["body"]["more"], &last["body"]["counted"]), (&json!(2), &json!(each)), "{last:#}");
}

/// Every refusal is written down: also those that are so because of who asked for the deletion, and of where one comes from.
#[test]
fn one_does_not_let_pass_what_one_has_asked_for_and_that_is_written_down() {
    let served = Served::start(false);
    served.register("a", "acme");
    let own = served.token("self", "approver", &[]);
    let id = served.delete(&own, "a");
    let asked = json!({ "deletion": id, "stage": "announce", "belt": "ceiling", "reason": "a test" });
    let (status, answer) = served.with(&own, "POST", "/v1/overrides", &asked);
    assert!(
        status == 403 && detail(&answer).contains("somebody else has to override the ceiling"),
        "{answer}"
    );
    // Whoever is trusted says in whose name it acts: who has a token speaks for themselves.
    let acting = "sexton-actor: self\r\n";
    assert_eq!(served.ask(acting, "POST", "/v1/overrides", &asked).0, 403);
    // A browser, for a page whose name leads here.
    let mut stream = TcpStream::connect(served.api).unwrap();
    let request = "GET /v1/health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let refusals = served.refusals();
    let seen: Vec<_> = refusals.iter().map(|(by, asked, _)| (by.as_str(), asked.as_str())).collect();
    let overriding = |by| (by, "POST /v1/overrides");
    let nobody = ("(nobody)", "GET /v1/health");
    assert_eq!(seen, [overriding("self"), overriding("(trusted)"), nobody], "{refusals:#?}");
}

/// What stands in the audit trail under the name of a token was done by whoever showed that token, and by nobody else.
#[test]
fn nobody_acts_in_the_name_of_a_token_without_showing_it() {
    let served = Served::start(true);
    let acting = |actor: &str| format!("authorization: Bearer {CONFIGURED}\r\nsexton-actor: {actor}\r\n");
    let (none, reason) = (Value::Null, json!({ "reason": "a test" }));
    let pause = |headers: &str| served.ask(headers, "POST", "/v1/pauses", &reason);
    assert_eq!(pause(&acting("alice")).0, 201, "there is no such token yet");
    let asked = json!({ "name": "alice", "role": "operator", "everywhere": true });
    let (status, issued) = served.ask(&acting("root"), "POST", "/v1/tokens", &asked);
    assert_eq!(status, 201, "{issued}");
    let secret = issued["secret"].as_str().unwrap();
    let (status, answer) = pause(&acting("alice"));
    assert!(status == 403 && detail(&answer).contains("alice is the name of a token"), "{status} {answer}");
    assert_eq!(served.with(secret, "POST", "/v1/pauses", &reason).0, 201);
    assert_eq!(pause(&acting("bob")).0, 201);
    // To look is nobody's act.
    let (status, pauses) = served.ask(&acting("alice"), "GET", "/v1/pauses", &none);
    let by: Vec<_> = pauses.as_array().unwrap().iter().map(|pause| pause["by"].as_str().unwrap()).collect();
    assert_eq!((status, by), (200, vec!["alice", "alice", "bob"]));
    // A name is given once, so it stays that of the one who had it.
    assert_eq!(served.ask(&acting("root"), "DELETE", "/v1/tokens/alice", &none).0, 200);
    assert_eq!(pause(&acting("alice")).0, 403);
    let (_, found) = served.ask(&acting("root"), "GET", "/v1/audit/access", &none);
    let refused = found["events"].as_array().unwrap().iter().filter(|event| event["what"] == "refused");
    let by: Vec<_> = refused.map(|event| event["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["(trusted)", "(trusted)"], "not by alice: {found}");
}

#[test]
fn whoever_is_refused_again_and_again_does_not_fill_the_job_table() {
    let served = Served::start(false);
    let secret = served.token("ci", "viewer", &[]);
    for _ in 0..40 {
        assert_eq!(served.with(&secret, "GET", "/v1/tokens", &Value::Null).0, 403);
        assert_eq!(served.with("sxt_x", "GET", "/v1/tokens", &Value::Null).0, 401);
    }
    let refusals = served.refusals();
    let of = |name: &str| refusals.iter().filter(|(by, ..)| by == name).count();
    assert_eq!((of("ci"), of("(nobody)")), (30, 1));
}

/// The API has no TLS, and a token that somebody reads along is theirs.
#[test]
fn that_tokens_travel_in_the_clear_is_said_once_others_reach_the_api() {
    let mut served = Served::start(true);
    let log = served.folder.path().join("log");
    let told = || std::fs::read_to_string(&log).unwrap().contains("has no TLS");
    assert!(!told(), "nobody else reaches a loopback address");
    let file = served.folder.path().join("sexton.toml");
    let (here, port) = (format!("listen = \"{}\"", served.api), served.api.port());
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains(&here), "{config}");
    std::fs::write(&file, config.replace(&here, &format!("listen = \"0.0.0.0:{port}\""))).unwrap();
    served.restart();
    waiting::until("it is said", told);
}

#[test]
fn a_secret_is_shown_once_and_kept_nowhere() {
    let served = Served::start(false);
    let url = format!("http://{}", served.api);
    let sexton = |arguments: &[&str]| {
        let output =
            site::sexton().args(["--url", &url, "--actor", "root"]).args(arguments).output().unwrap();
        (output.status.success(), said(&output))
    };
    let (done, shown) = sexton(&["token", "new", "ci", "--role", "operator", "--scope", "tenants/acme"]);
    let secret = shown.split_whitespace().next().unwrap().to_owned();
    assert!(done && secret.starts_with("sxt_") && secret.len() == 68, "{shown}");
    assert!(shown.contains("operator in tenants/acme") && shown.contains("shown this once"), "{shown}");
    assert_eq!(served.with(&secret, "GET", "/v1/health", &Value::Null).0, 200);
    let whoami = served.sexton(&secret, &["whoami"]);
    assert_eq!(said(&whoami).trim(), "ci: operator in tenants/acme");
    let refused = served.sexton(&secret, &["--actor", "root", "whoami"]);
    assert!(
        !refused.status.success() && said(&refused).contains("may name nobody else"),
        "{}",
        said(&refused)
    );

    let (done, listed) = sexton(&["token", "list"]);
    assert!(
        done && listed.contains("ci") && listed.contains("operator") && listed.contains("root"),
        "{listed}"
    );
    let everything =
        [listed, sexton(&["-o", "json", "token", "list"]).1, sexton(&["audit", "--access"]).1].concat();
    assert!(!everything.contains(&secret[4..]), "{everything}");
    for file in served.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() && file.file_name().unwrap() != "own.token" {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(64).any(|window| window == &secret.as_bytes()[4..]);
            assert!(!found, "the secret stands in {}", file.display());
        }
    }
    let (done, said) = sexton(&["token", "new", "ci", "--role", "viewer", "--everywhere"]);
    assert!(!done && said.contains("names are not given again"), "{said}");
    let (done, said) = sexton(&["token", "new", "x", "--role", "viewer"]);
    assert!(!done && said.contains("--scope"), "whoever forgets the scope has not meant all of them: {said}");
    assert!(sexton(&["token", "revoke", "ci"]).0);
    assert_eq!(served.with(&secret, "GET", "/v1/health", &Value::Null).0, 401);
    assert!(sexton(&["token", "list"]).1.contains("by root"));
    let (done, said) = sexton(&["token", "revoke", "nobody"]);
    assert!(!done && said.contains("there is no token nobody"), "{said}");
}

#[test]
fn what_is_no_request_for_a_token_names_the_field() {
    let served = Served::start(false);
    let good = json!({ "name": "x", "role": "viewer", "scopes": ["a"] });
    for (field, wrong) in [
        ("name", json!("a b")),
        ("name", json!("a/b")),
        ("name", json!("coordinator")),
        ("role", json!("king")),
        ("scopes", json!([])),
        ("scopes", json!((0..65).map(|n| format!("s{n}")).collect::<Vec<_>>())),
        ("everywhere", json!(true)),
        ("good_for_s", json!(0)),
        ("good_for_s", json!(366 * 86_400 + 1)),
        ("colour", json!("red")),
    ] {
        let mut body = good.clone();
        body[field] = wrong;
        let (status, answer) = served.trusted("POST", "/v1/tokens", &body);
        let named = answer["field"].as_str().unwrap_or_default();
        let fits = named == field || (field == "everywhere" && named == "scopes");
        assert!(status == 422 && fits, "{body}: {status} {answer}");
    }
    assert_eq!(served.trusted("GET", "/v1/tokens", &Value::Null).1["items"], json!([]));
}
