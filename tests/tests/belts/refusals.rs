//! What is refused is written down, by HTTP, however a request ends; and in whose name nobody asks. Two coordinators are asked in
//! turn, as in `access`.
use serde_json::json;
use sexton_model::Actor;
use sexton_model::access::Role;
use sexton_model::resource::Resource;

use super::access::{Asked, LOST, NONE, deletion, reason};
use super::system::{System, TRUSTED, ask, bearer, on_many_machines, web01};

on_many_machines! {
    what_is_refused_is_written_down_before_its_answer_is_kept,
    what_was_refused_of_a_list_is_written_down_by_whoever_goes_on,
    what_somebody_may_not_register_is_answered_as_it_was_by_whoever_goes_on,
    nobody_acts_in_the_name_of_what_decides_by_itself,
    what_waits_for_a_review_is_written_down,
}

/// Nobody finds where refusals are written down, and then everybody does again.
const NOWHERE: [&str; 2] =
    ["ALTER TABLE access RENAME TO access_elsewhere", "ALTER TABLE access_elsewhere RENAME TO access"];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_written_down_before_its_answer_is_kept() {
    let asked = Asked::new().await;
    asked.system.delete().await;
    let (key, body) = (format!("{TRUSTED}idempotency-key: second\r\n"), deletion("vm/web01"));
    let second = async |nth: usize| asked.ask(nth, &key, "POST", "/v1/deletions", &body).await;
    asked.system.execute(NOWHERE[0]);
    let refused = second(0).await;
    asked.system.execute(NOWHERE[1]);
    assert!(refused.status == 409 && refused.detail().contains("vm/web01"), "{refused:?}");
    assert_eq!(asked.refusals().await.len(), 0, "it could not be");
    // So it is refused anew, and from then on answered as it was.
    for (nth, replayed) in [(1, false), (0, true), (1, true)] {
        let again = second(nth).await;
        let same = (again.status, again.detail()) == (refused.status, refused.detail());
        assert!(same && again.replayed == replayed, "{refused:?}, then {again:?}");
        let refusals = asked.refusals().await;
        let [[by, request, _]] = refusals.as_slice() else { panic!("{refusals:#?}") };
        assert_eq!((by.as_str(), request.as_str()), ("root", "POST /v1/deletions"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_of_a_list_is_written_down_by_whoever_goes_on() {
    let asked = Asked::new().await;
    let of = |name: &str| {
        let identity = json!({ "uuid": "another" });
        json!({ "id": name, "scope": "tenants/acme", "identity": identity, "criticality": "reproducible" })
    };
    let body = json!({ "resources": [of("vm/new"), of("vm/web01")], "whole": false });
    let key = format!("{TRUSTED}idempotency-key: list\r\n");
    let register = async |nth: usize| asked.ask(nth, &key, "POST", "/v1/resources", &body).await;
    let first = register(0).await;
    let results = &first.body["results"];
    let why = results[1].as_str().unwrap_or_else(|| panic!("{first:?}"));
    assert!(results[0].is_null() && why.contains("is registered with another identity"), "{first:?}");
    // For all that is known whoever has done it died before it was written down.
    asked.system.execute(LOST);
    let again = register(1).await;
    assert!(!again.replayed && (again.status, &again.body) == (200, &first.body), "{again:?}");
    let refusals = asked.refusals().await;
    let written = ["root", "POST /v1/resources", &format!("1 refused: {why}")].map(str::to_owned);
    assert_eq!(refusals, [written.clone(), written]);
    assert!(register(0).await.replayed);
    assert_eq!(asked.refusals().await.len(), 2, "what is answered as before is not refused once more");
}

/// What one of a list was refused for is over meanwhile. What was done stays done, and is told as it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_may_not_register_is_answered_as_it_was_by_whoever_goes_on() {
    let asked = Asked::new().await;
    let there = asked.system.ledger.resource(&web01()).await.unwrap().unwrap().resource;
    let protected = Resource { protected: true, ..there.clone() };
    let root: Actor = "root".parse().unwrap();
    assert_eq!(asked.system.ledger.register(vec![protected], &root, true).await.unwrap(), [Ok(())]);
    let new = Resource { id: "vm/new".parse().unwrap(), ..there.clone() };
    let body = json!({ "resources": [new, there.clone()], "whole": false });
    let ci = bearer(&asked.system.token("ci", Role::Requester, None).await);
    let key = format!("{ci}idempotency-key: list\r\n");
    let register = async |nth: usize| asked.ask(nth, &key, "POST", "/v1/resources", &body).await;
    let first = register(0).await;
    let why = "protected: taking the protection off a resource needs the role admin, and ci is requester";
    assert_eq!(first.body["results"], json!([null, why]), "{first:?}");
    // For all that is known whoever has done it died before it was written down.
    asked.system.execute(LOST);
    assert_eq!(asked.system.ledger.register(vec![there], &root, true).await.unwrap(), [Ok(())]);
    let again = register(1).await;
    assert!(!again.replayed && (again.status, &again.body) == (200, &first.body), "{again:?}");
    let written = ["ci", "POST /v1/resources", &format!("1 refused: vm/web01: {why}")].map(str::to_owned);
    assert_eq!(asked.refusals().await, [written.clone(), written]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_in_the_name_of_what_decides_by_itself() {
    let asked = Asked::new().await;
    let (canary, drill) = (Actor::canary(), Actor::drill());
    let names = ["coordinator", "sexton", "scheduler", canary.as_str(), drill.as_str()];
    for (nth, name) in names.into_iter().enumerate() {
        let acting = format!("sexton-actor: {name}\r\n");
        let answer = asked.ask(nth, &acting, "POST", "/v1/pauses", &reason()).await;
        let told = answer.detail().contains(&format!("nobody acts as {name}"));
        assert!(answer.status == 403 && told, "{answer:?}");
        // To look is nobody's act.
        assert_eq!(asked.ask(nth, &acting, "GET", "/v1/pauses", &NONE).await.status, 200);
    }
    assert_eq!(asked.count("/v1/pauses").await, 0);
    let refusals = asked.refusals().await;
    let by: Vec<&str> = refusals.iter().map(|[by, ..]| by.as_str()).collect();
    assert_eq!(by, ["(trusted)"; 5], "not by those names: {refusals:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_review_is_written_down() {
    let mut system = System::with_drills(vec![web01()]).await;
    let url = system.serve_inventory().await;
    let mut later = system.ledger.known();
    later.mark.number += 1;
    system.ledger.confront(&later).await.unwrap().unwrap();
    system.engine.checkpoint().await.unwrap();
    for path in ["/v1/canaries", "/v1/drills"] {
        let answer = ask(&url, TRUSTED, "POST", path, &NONE).await;
        let told = answer.detail().contains("the job table is under review");
        assert!(answer.status == 409 && told, "{path}: {answer:?}");
    }
    let events = system.ledger.access_events(0, 100).await.unwrap();
    let refused = events.iter().filter(|(_, event)| event.what == "refused" && event.by == "root");
    let asked: Vec<&str> = refused.map(|(_, event)| event.body["request"].as_str().unwrap()).collect();
    assert_eq!(asked, ["POST /v1/canaries", "POST /v1/drills"]);
}
