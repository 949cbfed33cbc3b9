//! Who may ask for what, by HTTP: roles, scopes, tokens, and requests under keys. Two coordinators serve the API, and each is
//! asked for a part: what one of them does holds at the other at once.
use serde_json::{Value, json};
use sexton_model::access::{Role, token_hash};
use sexton_model::belts::PauseSelector;
use sexton_model::checkpoint::Landmark;
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, Fence, ResourceId};

use super::system::{Answer, System, TRUSTED, ask, bearer, on_many_machines, ops, until};

on_many_machines! {
    each_role_does_what_it_may_and_no_more,
    nothing_of_another_scope_is_seen_or_done,
    under_review_a_token_looks_and_stops_and_lets_nothing_go_on,
    a_token_is_kept_as_a_hash_and_good_until_it_is_revoked_or_over,
    a_request_under_a_key_is_done_once_whoever_is_asked_again,
    which_records_are_lost_is_told_to_whoever_sees_all,
}

pub(super) const NONE: Value = Value::Null;

/// A system in which nothing moves by itself, and where its two coordinators are asked.
pub(super) struct Asked {
    pub(super) system: System,
    urls: [String; 2],
}

impl Asked {
    pub(super) async fn new() -> Self {
        let mut system = System::not_started().await;
        let urls = [system.serve_inventory().await, system.serve_beside().await];
        Self { system, urls }
    }

    /// Ask the first coordinator, or the second one, in turn.
    pub(super) async fn ask(
        &self,
        nth: usize,
        headers: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        ask(&self.urls[nth % self.urls.len()], headers, method, path, body).await
    }

    /// What is shown of this to whoever sees everything.
    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(1, TRUSTED, "GET", path, &NONE).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Who was refused what, and why, as it is written down.
    pub(super) async fn refusals(&self) -> Vec<[String; 3]> {
        let found = self.get("/v1/audit/access").await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let refused = found["events"].as_array().unwrap().iter().filter(|event| event["what"] == "refused");
        refused.map(|e| [text(&e["by"]), text(&e["body"]["request"]), text(&e["body"]["why"])]).collect()
    }

    /// Somebody has seen one checkpoint more of the job table than it has: it went back, and is under review. The epoch of that.
    async fn went_back(&self) -> u32 {
        let mut seen = self.system.ledger.checkpoint().await.unwrap();
        seen.mark.number += 1;
        self.system.ledger.confront(&seen).await.unwrap().unwrap().epoch
    }

    /// How many of this list there are.
    pub(super) async fn count(&self, path: &str) -> usize {
        let found = self.get(path).await;
        found.as_array().or(found["items"].as_array()).unwrap().len()
    }
}

pub(super) fn reason() -> Value {
    json!({ "reason": "a test" })
}

/// A record about it, due so far ahead that what is said of it stays the same.
pub(super) fn deletion(resource: &str) -> Value {
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    json!({ "resource": resource, "on": on, "reason": "a test" })
}

/// What of a deletion, or of `vm/web01`, or of all may be asked for, with the lowest role that may. What would be done is mostly
/// refused by something else: there is no such thing, or it is not the time.
fn requests(id: DeletionId) -> Vec<(Role, &'static str, String, Value)> {
    use Role::{Admin, Approver, Operator, Requester, Viewer};
    let of = |what: &str| format!("/v1/deletions/{id}/{what}");
    let at = |path: &str| path.to_owned();
    let past = json!({ "resource": "vm/web01", "on": "2020-01-01" });
    let undated = json!({ "resource": "vm/web01", "on": "x", "reason": "x" });
    let shot = json!({ "deletion": id, "stage": "announce", "belt": "ceiling", "reason": "a test" });
    let observe = json!({ "scope": "tenants/acme", "to": "observe", "reason": "a test" });
    let census = json!({
        "kind": "vm", "scope": "tenants/acme", "credential": "reader", "total": 0, "listed": [],
        "taken_at": chrono::Utc::now().to_rfc3339(),
    });
    vec![
        (Viewer, "GET", at("/v1/deletions"), NONE),
        (Viewer, "GET", at("/v1/audit"), NONE),
        (Viewer, "GET", at("/v1/archived"), NONE),
        (Viewer, "POST", at("/v1/preview"), past.clone()),
        (Viewer, "GET", at("/v1/surveys/99"), NONE),
        (Viewer, "GET", at("/v1/ceilings/stopped?everywhere=true&to=announce"), NONE),
        (Requester, "POST", at("/v1/surveys"), past),
        (Requester, "POST", at("/v1/deletions"), undated),
        (Requester, "POST", at("/v1/resources"), json!({ "resources": [], "whole": true })),
        (Requester, "POST", at("/v1/censuses"), census),
        (Requester, "POST", at("/v1/resources/vm/web01/holds"), reason()),
        (Requester, "POST", of("holds"), reason()),
        (Operator, "DELETE", of("holds/99"), NONE),
        (Operator, "DELETE", at("/v1/resources/vm/web01/holds?origin=nobody"), NONE),
        (Operator, "DELETE", at("/v1/resources/vm/web01/holds/99"), NONE),
        (Operator, "PUT", at("/v1/resources/vm/web01/priority"), json!({ "priority": 3 })),
        (Operator, "POST", of("park"), reason()),
        (Operator, "POST", of("retry"), json!({})),
        (Operator, "POST", of("acknowledge"), json!({ "mark": "ab12", "reason": "a test" })),
        (Operator, "POST", of("bounced"), reason()),
        (Operator, "POST", at("/v1/alarms/99/acknowledge"), reason()),
        (Operator, "POST", at("/v1/canaries"), NONE),
        (Operator, "POST", at("/v1/drills"), NONE),
        (Operator, "POST", at("/v1/pauses"), reason()),
        (Operator, "DELETE", at("/v1/pauses/99"), NONE),
        (Operator, "POST", at("/v1/cancellations"), json!({ "scope": "tenants/none", "reason": "a test" })),
        (Approver, "POST", of("waive"), json!({ "claim": "absent", "mark": "ab12", "evidence": "seen" })),
        (Approver, "POST", of("rescue"), json!({ "evidence": "seen" })),
        (Approver, "POST", at("/v1/overrides"), shot),
        (Approver, "DELETE", at("/v1/overrides/99"), NONE),
        (Approver, "POST", at("/v1/ceilings"), observe),
        (Approver, "POST", at("/v1/batches/99/approve"), json!({ "digest": "x", "reason": "a test" })),
        (Admin, "GET", at("/v1/tokens"), NONE),
        (Admin, "DELETE", at("/v1/tokens/nobody"), NONE),
        (Admin, "POST", at("/v1/tokens"), json!({ "name": "x", "role": "viewer" })),
        (Operator, "POST", of("cancel"), reason()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_what_it_may_and_no_more() {
    let asked = Asked::new().await;
    let mut everybody = Vec::new();
    for role in Role::ALL {
        everybody.push((role, bearer(&asked.system.token(role.word(), role, None).await)));
    }
    let id = asked.system.delete().await;
    let mut refused = 0;
    for (nth, (lowest, method, path, body)) in requests(id).into_iter().enumerate() {
        for (role, who) in &everybody {
            let answer = asked.ask(nth, who, method, &path, &body).await;
            if *role < lowest {
                refused += 1;
                let needs = format!("needs the role {lowest}, and {role} is {role}");
                let told = answer.status == 403 && answer.detail().contains(&needs);
                assert!(told, "{role} {method} {path}: {answer:?}");
            } else {
                let let_through = !matches!(answer.status, 401 | 403 | 500..=599);
                assert!(let_through, "{role} {method} {path}: {answer:?}");
            }
        }
    }
    let refusals = asked.refusals().await;
    let by_role = refusals.iter().filter(|[.., why]| why.contains("needs the role")).count();
    assert_eq!(by_role, refused, "each is written down, whichever coordinator was asked: {refusals:#?}");
    let viewer = ["viewer", "POST /v1/pauses", "pausing needs the role operator, and viewer is viewer"];
    assert!(refusals.contains(&viewer.map(str::to_owned)), "{refusals:#?}");

    // What they may was done, in the names of those whose tokens were shown.
    let pauses = asked.get("/v1/pauses").await;
    let by: Vec<&str> =
        pauses.as_array().unwrap().iter().map(|pause| pause["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["operator", "approver", "admin"], "{pauses}");
    let view = asked.system.view(id).await;
    assert_eq!(view.deletion.status, RecordStatus::Cancelled);
    assert_eq!(view.audit.last().unwrap().event.by.as_str(), "operator");
    assert!(asked.system.ledger.verify_chain(id).await.unwrap().is_ok());
    let audit = asked.get("/v1/audit").await;
    assert!(audit["broken"].as_array().is_none_or(|broken| broken.is_empty()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_scope_is_seen_or_done() {
    let asked = Asked::new().await;
    let system = &asked.system;
    let other: ResourceId = "vm/theirs".parse().unwrap();
    system.register_in("tenants/other", &other, false).await;
    let now = system.ledger.facts().await.unwrap().now;
    let (mine, theirs) = (system.delete().await, system.delete_named(other, now).await);
    // It is called as some paths end.
    let receipt: ResourceId = "vm/receipt".parse().unwrap();
    system.register_in("tenants/other", &receipt, false).await;
    system.delete_named(receipt, now).await;
    assert_eq!(asked.get("/v1/deletions/vm/receipt").await["resource"]["id"], "vm/receipt");
    let acme = bearer(&system.token("acme", Role::Approver, Some("tenants/acme")).await);
    for (nth, path) in ["/v1/deletions", "/v1/resources"].into_iter().enumerate() {
        let shown = asked.ask(nth, &acme, "GET", path, &NONE).await.body.to_string();
        assert!(shown.contains("vm/web01") && !shown.contains("theirs"), "{path}: {shown}");
        let elsewhere = format!("{path}?scope=tenants/other");
        assert_eq!(asked.ask(nth, &acme, "GET", &elsewhere, &NONE).await.body["items"], json!([]));
    }
    let preview = json!({ "resource": "vm/theirs", "on": deletion("vm/theirs")["on"] });
    let hidden = [
        ("GET", format!("/v1/deletions/{theirs}"), NONE),
        ("GET", "/v1/deletions/vm/theirs".to_owned(), NONE),
        ("GET", "/v1/resources/vm/theirs".to_owned(), NONE),
        ("GET", format!("/v1/deletions/{theirs}/receipt"), NONE),
        ("GET", "/v1/deletions/vm/receipt".to_owned(), NONE),
        ("GET", format!("/v1/audit/chains/{theirs}"), NONE),
        ("POST", format!("/v1/deletions/{theirs}/cancel"), reason()),
        ("POST", format!("/v1/deletions/{theirs}/holds"), reason()),
        ("POST", "/v1/resources/vm/theirs/holds".to_owned(), reason()),
        ("PUT", "/v1/resources/vm/theirs/priority".to_owned(), json!({ "priority": 7 })),
        ("POST", "/v1/deletions".to_owned(), deletion("vm/theirs")),
        ("POST", "/v1/preview".to_owned(), preview),
    ];
    for (nth, (method, path, body)) in hidden.iter().enumerate() {
        let answer = asked.ask(nth, &acme, method, path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
        // Word by word what is said of something that nobody knows.
        let nothing = |text: &str| {
            let text = text.replace("theirs", "nothing").replace("vm/receipt", "vm/nothing");
            text.replace(&theirs.to_string(), "d-999")
        };
        let body: Value = serde_json::from_str(&nothing(&body.to_string())).unwrap();
        let unknown = asked.ask(nth, &acme, method, &nothing(path), &body).await;
        assert_eq!((404, nothing(answer.detail()).as_str()), (unknown.status, unknown.detail()), "{path}");
    }
    let outside = [
        ("POST", "/v1/pauses", reason()),
        ("POST", "/v1/pauses", json!({ "covers": { "scope": "tenants" }, "reason": "x" })),
        ("POST", "/v1/ceilings", json!({ "everywhere": true, "to": "observe", "reason": "x" })),
        ("POST", "/v1/ceilings", json!({ "scope": "tenants/other", "to": "observe", "reason": "x" })),
        ("POST", "/v1/cancellations", json!({ "scope": "tenants/other", "reason": "x" })),
        ("GET", "/v1/ceilings/stopped?everywhere=true&to=announce", NONE),
        ("GET", "/v1/ceilings/stopped?scope=tenants/other&to=announce", NONE),
        ("GET", "/v1/audit", NONE),
        ("GET", "/v1/audit/access", NONE),
    ];
    for (nth, (method, path, body)) in outside.iter().enumerate() {
        let answer = asked.ask(nth, &acme, method, path, body).await;
        let told = answer.status == 403 && answer.detail().contains("limited to");
        assert!(told, "{method} {path}: {answer:?}");
    }
    let record = asked.get(&format!("/v1/deletions/{theirs}")).await;
    assert_eq!((&record["status"], &record["holds"]), (&json!("live"), &json!([])), "{record}");
    assert_eq!(record["trail"].as_array().unwrap().len(), 1, "nothing but its making: {record}");
    assert_eq!(asked.count("/v1/pauses").await, 0);
    let there = PauseSelector { scope: Some("tenants/other".parse().unwrap()), ..PauseSelector::default() };
    let pause = system.ledger.pause(there, &ops(), "a test").await.unwrap().pause.id;
    let paused = [("GET", format!("/v1/pauses/{pause}/stopped")), ("DELETE", format!("/v1/pauses/{pause}"))];
    for (nth, (method, path)) in paused.iter().enumerate() {
        let answer = asked.ask(nth, &acme, method, path, &NONE).await;
        let absent = format!("there is no pause {pause} within tenants/acme");
        assert_eq!((answer.status, answer.detail()), (404, absent.as_str()), "{method} {path}");
    }
    assert_eq!(asked.count("/v1/pauses").await, 1, "it is not lifted");
    let refusals = asked.refusals().await;
    let of_acme = refusals.iter().filter(|[by, ..]| by == "acme").count();
    let of_what_is_there = hidden.len() + outside.len() + paused.len();
    assert_eq!(of_acme, of_what_is_there, "and of nothing else: {refusals:#?}");

    // Within its own it sees and does what its role lets it.
    assert_eq!(asked.ask(0, &acme, "GET", &format!("/v1/deletions/{mine}"), &NONE).await.status, 200);
    assert_eq!(
        asked.ask(1, &acme, "POST", &format!("/v1/deletions/{mine}/cancel"), &reason()).await.status,
        200
    );
    assert_eq!(system.view(mine).await.deletion.status, RecordStatus::Cancelled);
}

/// I15: a job table that went back knows a token again that was revoked since. Whoever shows one looks and stops, whichever
/// coordinator is asked: one of them has noticed, the other one has nothing but the job table.
#[tokio::test(flavor = "multi_thread")]
async fn under_review_a_token_looks_and_stops_and_lets_nothing_go_on() {
    let asked = Asked::new().await;
    let system = &asked.system;
    let gone = bearer(&system.token("gone", Role::Approver, None).await);
    let works = bearer(&system.token("works", Role::Operator, None).await);
    let chief = bearer(&system.token("chief", Role::Admin, None).await);
    let [second, third] = ["vm/web02", "vm/web03"].map(|name| name.parse::<ResourceId>().unwrap());
    for resource in [&second, &third] {
        system.register_named(resource, false).await;
    }
    let now = system.ledger.facts().await.unwrap().now;
    let (id, unwanted) = (system.delete().await, system.delete_named(second, now).await);
    let paused = asked.ask(0, TRUSTED, "POST", "/v1/pauses", &reason()).await;
    assert_eq!(paused.status, 201, "{paused:?}");
    let pause = format!("/v1/pauses/{}", paused.body["pause"]["id"]);
    let epoch = asked.went_back().await;

    let of = |what: &str| format!("/v1/deletions/{id}/{what}");
    let at = |path: &str| path.to_owned();
    let purge = json!({ "everywhere": true, "to": "purge", "reason": "x" });
    let shot = json!({ "deletion": id, "stage": "announce", "belt": "ceiling", "reason": "x" });
    let another = json!({ "name": "mine", "role": "admin", "everywhere": true });
    let lets_go_on = [
        (&gone, "POST", at("/v1/ceilings"), purge),
        (&gone, "POST", at("/v1/batches/99/approve"), json!({ "digest": "x", "reason": "x" })),
        (&gone, "POST", of("waive"), json!({ "claim": "absent", "mark": "ab12", "evidence": "seen" })),
        (&gone, "POST", of("rescue"), json!({ "evidence": "seen" })),
        (&gone, "POST", at("/v1/overrides"), shot),
        (&works, "DELETE", pause.clone(), NONE),
        (&works, "POST", of("retry"), json!({})),
        (&works, "POST", of("acknowledge"), json!({ "mark": "ab12", "reason": "a test" })),
        (&works, "DELETE", of("holds/1"), NONE),
        (&chief, "POST", at("/v1/deletions"), deletion("vm/web03")),
        (&chief, "POST", at("/v1/resources"), json!({ "resources": [], "whole": true })),
        (&chief, "POST", at("/v1/tokens"), another),
        (&chief, "DELETE", at("/v1/tokens/works"), NONE),
    ];
    let accept = json!({ "epoch": epoch, "reason": "compared" });
    let wanted = json!({ "resource": "vm/web03", "on": deletion("vm/web03")["on"] });
    for nth in [0, 1] {
        let shown = asked.ask(nth, &gone, "GET", "/v1/review", &NONE).await;
        assert_eq!((shown.status, &shown.body["review"]["epoch"]), (200, &json!(epoch)), "{shown:?}");
        let planned = asked.ask(nth, &works, "POST", "/v1/preview", &wanted).await;
        assert_eq!(planned.body["review"], json!(epoch), "{planned:?}");
        for who in [&gone, &chief] {
            let answer = asked.ask(nth, who, "POST", "/v1/review/accept", &accept).await;
            let told = answer.status == 403 && answer.detail().contains("takes the configured token");
            assert!(told, "{answer:?}");
        }
        for (who, method, path, body) in &lets_go_on {
            let answer = asked.ask(nth, who, method, path, body).await;
            let waits = answer.status == 403 && answer.detail().contains("waits for the review");
            assert!(waits, "{method} {path}: {answer:?}");
        }
    }
    // What stops something is never too early.
    let stops = [
        (&gone, at("/v1/pauses"), 201),
        (&gone, of("holds"), 200),
        (&chief, format!("/v1/deletions/{unwanted}/cancel"), 200),
    ];
    for (nth, (who, path, status)) in stops.iter().enumerate() {
        let answer = asked.ask(nth, who, "POST", path, &reason()).await;
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
    }
    assert_eq!(asked.count("/v1/pauses").await, 2, "none was lifted");
    let refusals = asked.refusals().await;
    let written = |by: &str| refusals.iter().filter(|[of, ..]| of == by).count();
    let at_both = [2 * 6, 2 * 4, 2 * 5];
    assert_eq!([written("gone"), written("works"), written("chief")], at_both, "{refusals:#?}");

    // By whoever is trusted, and then each does again what its role says, at the other coordinator, too.
    for (nth, who, method, path, body, status) in [
        (1, TRUSTED, "POST", "/v1/review/accept", accept, 200),
        (0, works.as_str(), "DELETE", pause.as_str(), NONE, 200),
        (1, chief.as_str(), "POST", "/v1/deletions", deletion("vm/web03"), 201),
    ] {
        let answer = asked.ask(nth, who, method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_kept_as_a_hash_and_good_until_it_is_revoked_or_over() {
    let asked = Asked::new().await;
    let issue = async |name: &str, good_for_s: u64| {
        let body = json!({ "name": name, "role": "operator", "everywhere": true, "good_for_s": good_for_s });
        asked.ask(0, TRUSTED, "POST", "/v1/tokens", &body).await
    };
    let whoami =
        async |nth: usize, secret: &str| asked.ask(nth, &bearer(secret), "GET", "/v1/whoami", &NONE).await;
    let mut secrets = Vec::new();
    for (name, good_for_s) in [("ends", 5), ("ci", 3600)] {
        let issued = issue(name, good_for_s).await;
        let secret = issued.body["secret"].as_str().unwrap_or_else(|| panic!("{issued:?}")).to_owned();
        // At whichever coordinator it is shown.
        for nth in [0, 1] {
            assert_eq!(whoami(nth, &secret).await.body["name"], name);
        }
        secrets.push(secret);
    }
    let [ends, ci] = <[String; 2]>::try_from(secrets).unwrap();

    // It was shown once, and is found by its hash: nobody who reads the job table has it.
    assert!(asked.system.keeps(&token_hash(&ci)), "the hash is not where it is looked for");
    assert!(!asked.system.keeps(&ci.as_bytes()[4..]), "the job table has the secret");
    for path in ["/v1/tokens", "/v1/audit/access"] {
        let shown = asked.get(path).await.to_string();
        assert!(shown.contains("\"ci\"") && !shown.contains(&ci[4..]), "{path}: {shown}");
    }

    let revoked = asked.ask(0, TRUSTED, "DELETE", "/v1/tokens/ci", &NONE).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    for nth in [1, 0] {
        let answer = whoami(nth, &ci).await;
        let told = answer.status == 401 && answer.detail().contains("the token ci was revoked");
        assert!(told, "{answer:?}");
    }
    let again = issue("ci", 3600).await;
    assert!(again.status == 409 && again.detail().contains("names are not given again"), "{again:?}");
    until("it has expired", async || whoami(1, &ends).await.status == 401).await;
    let answer = whoami(0, &ends).await;
    assert!(answer.status == 401 && answer.detail().contains("the token ends has expired"), "{answer:?}");
    let refusals = asked.refusals().await;
    let by: Vec<&str> = refusals.iter().map(|[by, ..]| by.as_str()).collect();
    assert_eq!(by, ["ci", "ci", "ends", "ends"], "{refusals:#?}");
}

/// Whoever has answered a request died before the answer was kept, and nobody waits for them any more.
pub(super) const LOST: &str = "UPDATE request_keys SET status = NULL, answer = NULL, held_until = 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_a_key_is_done_once_whoever_is_asked_again() {
    let asked = Asked::new().await;
    let under = |key: &str| format!("{TRUSTED}idempotency-key: {key}\r\n");
    let token = json!({ "name": "ci", "role": "viewer", "everywhere": true });
    for (key, path, body) in [
        ("pause", "/v1/pauses", reason()),
        ("create", "/v1/deletions", deletion("vm/web01")),
        ("token", "/v1/tokens", token),
    ] {
        let first = asked.ask(0, &under(key), "POST", path, &body).await;
        assert!(first.status == 201 && !first.replayed, "{key}: {first:?}");
        let is_the_same = |again: &Answer| match key {
            // A secret is shown once.
            "token" => again.status == 409 && again.body["secret"].is_null(),
            _ => (again.status, &again.body) == (first.status, &first.body),
        };
        let again = asked.ask(1, &under(key), "POST", path, &body).await;
        assert!(again.replayed && is_the_same(&again), "{key}: {first:?}, then {again:?}");
        asked.system.execute(LOST);
        let again = asked.ask(1, &under(key), "POST", path, &body).await;
        assert!(!again.replayed && is_the_same(&again), "{key}: {first:?}, then {again:?}");
        let again = asked.ask(0, &under(key), "POST", path, &body).await;
        assert!(again.replayed && is_the_same(&again), "{key}: {first:?}, then {again:?}");
        assert_eq!(asked.count(path).await, 1, "{key}");
        if let Some(secret) = first.body["secret"].as_str() {
            assert!(!asked.system.keeps(&secret.as_bytes()[4..]), "the answer is kept with its secret");
        }
    }
    let other = asked.ask(1, &under("pause"), "POST", "/v1/pauses", &json!({ "reason": "another" })).await;
    assert!(other.status == 422 && other.detail().contains("another request"), "{other:?}");

    // At the same instant one of them does it, and the other one answers the same, or that it is being done.
    let (key, body) = (under("both"), reason());
    let [one, two] = [0, 1].map(|nth| asked.ask(nth, &key, "POST", "/v1/pauses", &body));
    let (one, two) = tokio::join!(one, two);
    let statuses = [one.status, two.status];
    assert!(matches!(statuses, [201, 201] | [201, 409] | [409, 201]), "{one:?}, {two:?}");
    assert_eq!(asked.count("/v1/pauses").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn which_records_are_lost_is_told_to_whoever_sees_all() {
    let asked = Asked::new().await;
    let system = &asked.system;
    let other: ResourceId = "vm/theirs".parse().unwrap();
    system.register_in("tenants/other", &other, false).await;
    let now = system.ledger.facts().await.unwrap().now;
    let theirs = system.delete_named(other, now).await;
    let all = bearer(&system.token("all", Role::Viewer, None).await);
    let acme = bearer(&system.token("acme", Role::Admin, Some("tenants/acme")).await);
    // Somebody has answered an order of theirs that was never given.
    let mut known = system.ledger.known();
    let fence = Fence { epoch: known.mark.epoch, number: known.mark.fence + 1 };
    known.landmarks = vec![Landmark::never_given(theirs, fence)];
    system.ledger.confront(&known).await.unwrap().unwrap();
    for (nth, path) in [(0, "/v1/review"), (1, "/v1/review"), (0, "/v1/health"), (1, "/v1/health")] {
        let shown = asked.ask(nth, &all, "GET", path, &NONE).await;
        let missing = &shown.body["review"]["behind"]["missing"];
        assert_eq!(missing[0]["deletion"], json!(theirs.to_string()), "{path}: {shown:?}");
        let shown = asked.ask(nth, &acme, "GET", path, &NONE).await;
        let open = &shown.body["review"];
        assert!(open["epoch"].is_number() && open["behind"]["found"].is_object(), "{path}: {shown:?}");
        assert_eq!(open["behind"]["missing"], json!([]), "{path}");
    }
}
