//! Ceilings as an operator sets and sees them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::process::Command;

use serde_json::{Value, json};
use site::{Site, get};
use waiting::until;

#[test]
fn a_scope_that_was_lowered_is_observed_until_it_is_raised() {
    let site = Site::start(2, "");
    assert!(site.says(&["ceiling"]).1.contains("purge"), "a rehearsal");
    let inventory = std::fs::read_to_string(site.folder.path().join("inventory.jsonl")).unwrap();
    let machine: Value = serde_json::from_str(inventory.lines().next().unwrap()).unwrap();
    let scope = machine["scope"].as_str().unwrap();
    let set = |to: &str| site.says(&["ceiling", "--scope", scope, "--to", to, "--reason", "a test", "--yes"]);
    let (done, said) = set("observe");
    assert!(done && said.contains("observe") && said.contains(scope), "{said}");
    assert!(site.says(&["health"]).1.contains("1 scope has its own: sexton ceiling"));

    let date = Command::new("date").args(["-u", "-d", "+5 days", "+%F"]).output().unwrap().stdout;
    let date = String::from_utf8(date).unwrap();
    let (done, said) = site.says(&["delete", "vm/vm0001", "--on", date.trim(), "--reason", "a test"]);
    assert!(done && said.contains(&format!("deletions of {scope} are only observed")), "{said}");
    let list = || site.says(&["list"]).1;
    until("it is held", || list().contains("held"));
    assert!(list().contains("would begin announce"), "{}", list());
    // Every later stage says when it would have begun, not only the one that is held.
    let record: Value = serde_json::from_str(&get(site.api, "/v1/deletions/vm/vm0001").unwrap().1).unwrap();
    for (job, stage) in
        record["jobs"].as_array().unwrap().iter().zip(["announce", "soft", "hard", "purge", "recycle"])
    {
        let why = job["why"].as_str().unwrap();
        let would = [format!("would begin {stage} at 2"), format!("would have begun {stage} at 2")];
        assert!(would.iter().any(|would| why.contains(would)), "{stage}: {why}");
        assert!(would.iter().any(|would| list().contains(would)), "{stage}: {}", list());
    }
    let ask = ["override", "vm/vm0001", "--stage", "announce", "--belt", "ceiling", "--reason", "tonight"];
    let (done, said) = site.says(&ask);
    assert!(!done && said.contains("somebody else has to override the ceiling"), "{said}");
    let (done, said) = site.says_to("boss", &[&ask[..], &["--break-glass"]].concat());
    assert!(!done && said.contains("not needed"), "{said}");
    let (done, said) =
        site.says(&["override", "vm/vm0001", "--stage", "announce", "--belt", "identity", "--reason", "x"]);
    assert!(!done && said.contains("expected ceiling, window or budget"), "{said}");
    let later =
        ["override", "vm/vm0001", "--stage", "purge", "--belt", "window", "--reason", "x", "--break-glass"];
    let (done, said) = site.says(&later);
    assert!(done && said.contains("sexton override --take-back 1"), "{said}");
    assert!(site.says(&["health"]).1.contains("THE GLASS WAS BROKEN"));
    assert!(site.says(&["override", "--take-back", "1"]).0);
    assert!(site.says(&["override"]).1.contains("no belt is overridden"));
    let (_, health) = site.says(&["health"]);
    assert!(health.contains("THE GLASS WAS BROKEN") && health.contains("taken back by "), "{health}");

    let (done, said) = set("soft");
    assert!(
        !done && said.contains("raised stage by stage") && said.contains("the next is announce"),
        "{said}"
    );
    let refused = site.says(&["audit", "--access"]).1;
    assert!(
        refused.contains("422 GET /v1/ceilings/stopped"),
        "it is looked first, and written down: {refused}"
    );
    assert!(set("announce").0);
    until("it is announced, and no more", || {
        let record: Value =
            serde_json::from_str(&get(site.api, "/v1/deletions/vm/vm0001").unwrap().1).unwrap();
        record["jobs"][0]["state"] == json!("done")
    });
    assert!(set("observe").0);
    assert!(site.says(&["delete", "vm/vm0002", "--on", date.trim(), "--reason", "a test"]).0);
    until("the other is held, too", || {
        list().contains("vm/vm0002") && list().contains("would begin announce")
    });
    let ask = ["override", "vm/vm0002", "--stage", "announce", "--belt", "ceiling", "--reason", "tonight"];
    let (done, said) = site.says_to("boss", &ask);
    assert!(done && said.contains("announce of d-2 may pass the ceiling"), "{said}");
    until("it is announced all the same", || {
        let record: Value =
            serde_json::from_str(&get(site.api, "/v1/deletions/vm/vm0002").unwrap().1).unwrap();
        record["jobs"][0]["state"] == json!("done")
    });
    assert!(site.says(&["show", "d-2", "--trail"]).1.contains("boss overrode the ceiling"));
    let (done, said) = set("inherit");
    assert!(!done && said.contains("not purge"), "three stages higher: {said}");
    assert!(site.says(&["audit"]).0, "what was said is in the audit trail");
}

/// Soft is not counted: a cancel brings it back. Many that waited below a ceiling all the same begin only if somebody else
/// approves that, as when a pause is lifted.
#[test]
fn a_crowd_below_a_ceiling_is_approved_before_it_is_raised() {
    let site = Site::start_with_days_of(500, 3, "[budgets]\na_day = 2\nstages = [\"recycle\"]\n");
    let raise = |actor: &str, how: &[&str]| {
        let to = ["ceiling", "--everywhere", "--to", "soft"];
        site.says_to(actor, &[&to[..], how].concat())
    };
    // It is lowered: nothing would go on, so nobody is asked.
    let (done, said) = site.says(&["ceiling", "--everywhere", "--to", "announce", "--reason", "look"]);
    assert!(done, "{said}");
    let (seen, said) = raise("test", &["--dry-run"]);
    assert!(seen && said.contains("nothing would go on by itself"), "{said}");
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        site.delete(machine, None);
    }
    let soft = |n: u8| -> String {
        let (_, record) = get(site.api, &format!("/v1/deletions/vm/vm000{n}")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        record["jobs"][1]["state"].as_str().unwrap().to_owned()
    };
    until("they wait below it", || (1..=3).all(|n| soft(n) == "held"));
    let (seen, said) = raise("test", &["--dry-run"]);
    assert!(seen && said.contains("at once, which needs approval: 3 would begin where 2 may"), "{said}");
    let (_, stopped) = get(site.api, "/v1/ceilings/stopped?everywhere=true&to=soft").unwrap();
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    let digest = stopped["crowd"]["digest"].as_str().unwrap();
    assert!(said.contains("vm/vm0002") && said.contains(&format!("--approve {digest}")), "{said}");
    let (done, said) = raise("boss", &["--reason", "looked"]);
    assert!(!done && said.contains("3 deletions would begin") && said.contains("--yes"), "{said}");
    let (done, said) = raise("boss", &["--yes"]);
    assert!(!done && said.contains("--reason"), "{said}");
    let (done, said) = raise("boss", &["--reason", "looked", "--yes"]);
    assert!(!done && said.contains("3 would begin soft at once"), "{said}");
    let (done, said) = raise("test", &["--reason", "looked", "--yes", "--approve", digest]);
    assert!(!done && said.contains("somebody who requested none of them"), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(refused.contains("403 POST /v1/ceilings"), "it is written down: {refused}");
    let body = json!({ "everywhere": true, "to": "soft", "reason": "x", "digest": "ab12" }).to_string();
    let (status, answer) = site.post("/v1/ceilings", "", &body);
    assert!(status == 409 && answer.contains("another set by now, of 3"), "{answer}");
    assert!(site.says(&["ceiling"]).1.contains("announce"), "it is as it was");
    let (done, said) = raise("boss", &["--reason", "looked", "--yes", "--approve", digest]);
    assert!(done && said.contains("soft"), "{said}");
    until("soft has begun", || (1..=3).all(|n| !["held", "scheduled"].contains(&soft(n).as_str())));
}

/// It is in force all the same: nobody knows all scopes that there may be, and nobody who says stop is refused for
/// that.
#[test]
fn whoever_mistypes_a_scope_is_told() {
    let site = Site::start(2, "");
    let warning = "nothing in dmeo is registered, or has a live record";
    let stop = ["--reason", "stop"];
    let pause = |scope: &str| site.says(&[&["pause", "--scope", scope][..], &stop].concat());
    let (done, said) = pause("dmeo");
    assert!(done && said.contains("pause 1 is in force; it covers 0 live records"), "{said}");
    assert!(said.contains(&format!("WARNING: {warning}")), "{said}");
    let (done, said) = pause("demo");
    assert!(done && said.contains("0 live records, 2 registered resources"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    assert!(!site.says(&["pause", "--reason", "everything"]).1.contains("WARNING"));
    let lower = |scope: &str| {
        site.says(&[&["ceiling", "--scope", scope, "--to", "observe", "--yes"][..], &stop].concat())
    };
    let (done, said) = lower("dmeo");
    assert!(done && said.contains(&format!("WARNING: {warning}")), "{said}");
    let (done, said) = lower("demo");
    assert!(done && said.contains("2 registered resources") && !said.contains("WARNING"), "{said}");

    let json = |arguments: &[&str]| -> Value {
        let (_, said) = site.says(&[&["-o", "json"][..], arguments, &stop].concat());
        serde_json::from_str(&said).unwrap()
    };
    let paused = json(&["pause", "--scope", "dmeo"]);
    assert!(paused["warning"].as_str().unwrap().starts_with(warning), "{paused}");
    assert_eq!(paused["covered"], json!({ "records": 0, "resources": 0 }));
    let ceilings = json(&["ceiling", "--scope", "dmeo", "--to", "announce"]);
    let own = ceilings.as_array().unwrap().iter().find(|one| one["scope"] == "dmeo").unwrap();
    assert!(own["warning"].as_str().unwrap().starts_with(warning), "{ceilings}");
}

#[test]
fn whoever_forgets_the_scope_has_not_meant_all_of_them() {
    let site = Site::start(1, "");
    for (body, field) in [
        (json!({ "to": "observe", "reason": "x" }), "scope"),
        (json!({ "scope": "tenants", "everywhere": true, "to": "observe", "reason": "x" }), "scope"),
        (json!({ "everywhere": true, "to": "all", "reason": "x" }), "to"),
        (json!({ "everywhere": true, "to": "observe", "reason": " " }), "reason"),
        (json!({ "everywhere": true, "reason": "x" }), "to"),
        (json!({ "scope": "a//b", "to": "observe", "reason": "x" }), "scope"),
    ] {
        let (status, answer) = site.post("/v1/ceilings", "", &body.to_string());
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(problem["detail"].as_str().unwrap().contains(field), "{body}: {answer}");
    }
    for arguments in
        [&["ceiling", "--to", "observe", "--reason", "x"][..], &["ceiling", "--scope", "tenants"]]
    {
        let (done, said) = site.says(arguments);
        assert!(!done && said.contains("--"), "{arguments:?}: {said}");
    }
    assert!(site.says(&["ceiling"]).1.contains("every scope"), "nothing was changed");
    assert!(!site.says(&["ceiling"]).1.contains("observe"), "nothing was changed");
}
