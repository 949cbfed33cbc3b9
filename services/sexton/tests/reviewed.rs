//! Who may do what while a job table that was put back is under review, on a served program.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
#[allow(dead_code, reason = "a site of machines is not needed here")]
mod site;
#[allow(dead_code, reason = "nothing is waited for here")]
mod waiting;

use serde_json::{Value, json};
use served::{Served, deletion, detail, said};

/// I15: a job table that was put back knows a token again that was revoked since. Whoever shows one looks and stops.
#[test]
fn under_review_a_token_looks_and_stops_and_lets_nothing_go_on() {
    let mut served = Served::start(false);
    let gone = served.token("gone", "approver", &[]);
    let (works, chief) = (served.token("works", "operator", &[]), served.token("chief", "admin", &[]));
    for name in ["a", "b", "c"] {
        served.register(name, "acme");
    }
    let (a, b) = (served.delete(&chief, "a"), served.delete(&chief, "b"));
    let (none, reason) = (Value::Null, json!({ "reason": "a test" }));
    assert_eq!(served.trusted("POST", "/v1/pauses", &reason).0, 201);
    served.keep_job_table();
    assert_eq!(served.trusted("DELETE", "/v1/tokens/gone", &none).0, 200);
    assert_eq!(served.with(&gone, "GET", "/v1/whoami", &none).0, 401);
    served.put_job_table_back();

    let (status, shown) = served.with(&gone, "GET", "/v1/review", &none);
    assert_eq!(
        (status, &shown["review"]["epoch"]),
        (200, &json!(2)),
        "nobody knows that it was revoked: {shown}"
    );
    let wanted = deletion("c");
    let plan = ["plan", "vm/c", "--on", wanted["on"].as_str().unwrap(), "--no-look"];
    let planned = said(&served.sexton(&works, &plan));
    let waits = "nothing goes on until somebody has accepted the review of epoch 2 (sexton review)";
    assert!(planned.contains(waits) && planned.contains("belts now, if the review"), "{planned}");
    let of = |id: &str, what: &str| format!("/v1/deletions/{id}/{what}");
    let accept = json!({ "epoch": 2, "reason": "compared" });
    for secret in [&gone, &chief] {
        let (status, answer) = served.with(secret, "POST", "/v1/review/accept", &accept);
        assert!(status == 403 && detail(&answer).contains("takes the configured token"), "{status} {answer}");
    }
    let another = json!({ "name": "mine", "role": "admin", "everywhere": true });
    for (secret, method, path, body) in [
        (
            &gone,
            "POST",
            "/v1/ceilings".to_owned(),
            &json!({ "everywhere": true, "to": "purge", "reason": "x" }),
        ),
        (&gone, "POST", "/v1/batches/99/approve".to_owned(), &json!({ "digest": "x", "reason": "x" })),
        (&gone, "POST", of(&a, "waive"), &json!({ "claim": "absent", "mark": "ab12", "evidence": "seen" })),
        (&gone, "POST", of(&a, "rescue"), &json!({ "evidence": "seen" })),
        (
            &gone,
            "POST",
            "/v1/overrides".to_owned(),
            &json!({ "deletion": a, "stage": "announce", "belt": "ceiling", "reason": "x" }),
        ),
        (&works, "DELETE", "/v1/pauses/1".to_owned(), &none),
        (&works, "POST", of(&a, "retry"), &json!({})),
        (&works, "POST", of(&a, "acknowledge"), &json!({ "mark": "ab12", "reason": "a test" })),
        (&works, "DELETE", of(&a, "holds/1"), &none),
        (&chief, "POST", "/v1/deletions".to_owned(), &deletion("c")),
        (&chief, "POST", "/v1/resources".to_owned(), &json!({ "resources": [], "whole": true })),
        (&chief, "POST", "/v1/tokens".to_owned(), &another),
        (&chief, "DELETE", "/v1/tokens/works".to_owned(), &none),
    ] {
        let (status, answer) = served.with(secret, method, &path, body);
        let waits = detail(&answer).contains("waits for the review");
        assert!(status == 403 && waits, "{method} {path}: {status} {answer}");
    }
    // What stops something is never too early.
    for (secret, path, status) in [
        (&gone, "/v1/pauses".to_owned(), 201),
        (&gone, of(&a, "holds"), 200),
        (&chief, of(&b, "cancel"), 200),
    ] {
        let (found, answer) = served.with(secret, "POST", &path, &reason);
        assert_eq!(found, status, "{path}: {answer}");
    }
    // Nothing is there to be parked, and nobody was told yet: that is what is answered, and not that it waits.
    for (secret, path, why) in [
        (&works, of(&a, "park"), "can be parked"),
        (&gone, of(&a, "bounced"), "no notice of this record is known to be sent"),
    ] {
        let (status, answer) = served.with(secret, "POST", &path, &reason);
        assert!(status == 409 && detail(&answer).contains(why), "{path}: {status} {answer}");
    }
    assert_eq!(served.with(&gone, "GET", "/v1/review", &none).1["review"]["epoch"], 2, "it is open still");
    let refusals = served.refusals();
    let written = |by: &str| refusals.iter().filter(|(of, ..)| of == by).count();
    assert_eq!([written("gone"), written("works"), written("chief")], [6, 4, 5], "{refusals:#?}");
    assert!(
        refusals
            .iter()
            .any(|(by, asked, _)| (by.as_str(), asked.as_str()) == ("gone", "POST /v1/review/accept"))
    );
    let told = said(&served.sexton(&works, &["review"]));
    assert!(told.contains("UNDER REVIEW") && told.contains("sexton token revoke NAME"), "{told}");

    // By whoever is trusted; and then each does again what its role says.
    assert_eq!(served.trusted("DELETE", "/v1/tokens/gone", &none).0, 200);
    assert_eq!(served.trusted("POST", "/v1/review/accept", &accept).0, 200);
    assert_eq!(served.with(&gone, "GET", "/v1/whoami", &none).0, 401);
    assert_eq!(served.with(&works, "DELETE", "/v1/pauses/1", &none).0, 200);
    let planned = said(&served.sexton(&works, &plan));
    assert!(planned.contains("belts now\n") && !planned.contains("the review of epoch"), "{planned}");
    assert_eq!(served.with(&chief, "POST", "/v1/deletions", &deletion("c")).0, 201);
}
