//! Holds on resources and redundancy groups, as an operator places and sees them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::process::Command;

use serde_json::{Value, json};
use site::{Site, get};
use waiting::until;

fn today() -> String {
    let date = Command::new("date").args(["-u", "+%F"]).output().unwrap().stdout;
    String::from_utf8(date).unwrap().trim().to_owned()
}

fn record(site: &Site, machine: &str) -> Value {
    serde_json::from_str(&get(site.api, &format!("/v1/deletions/vm/{machine}")).unwrap().1).unwrap()
}

#[test]
fn a_resource_is_held_before_it_has_a_record_and_released_by_origin() {
    let site = Site::start(2, "");
    let hold = |origin: &str| {
        site.says(&["hold", "vm/vm0001", "--resource", "--origin", origin, "--reason", "a lawsuit"])
    };
    let (done, said) = hold("legal");
    assert!(done && said.contains("vm/vm0001 is held by legal"), "{said}");
    assert!(hold("legal").0 && hold("billing").0);
    let (done, said) = site.says(&["hold", "vm/vm9999", "--resource", "--reason", "x"]);
    assert!(!done && said.contains("not registered"), "{said}");
    let (done, said) = site.says(&["hold", "vm/vm0001", "--resource", "--reason", " "]);
    assert!(!done && said.contains("reason"), "{said}");
    let resource: Value = serde_json::from_str(&get(site.api, "/v1/resources/vm/vm0001").unwrap().1).unwrap();
    assert_eq!(resource["holds"].as_array().unwrap().len(), 3, "{resource}");
    let (done, said) = site.says(&["plan", "vm/vm0001", "--on", &today()]);
    assert!(done && said.contains("hold: legal: a lawsuit (on the resource)"), "{said}");

    assert!(site.says(&["delete", "vm/vm0001", "--on", &today(), "--reason", "a test"]).0);
    until("it is held", || record(&site, "vm0001")["jobs"][0]["state"] == json!("held"));
    assert!(site.says(&["list"]).1.contains("(on the resource)"));
    let said = site.says(&["show", "vm/vm0001"]).1;
    assert!(said.contains("on the resource: billing: a lawsuit"), "{said}");
    let (done, said) = site.says(&["release", "vm/vm0001"]);
    assert!(!done && said.contains("not held"), "a hold of the record is something else: {said}");
    let (done, said) = site.says(&["release", "vm/vm0001", "--resource"]);
    assert!(!done && said.contains("several holds"), "{said}");
    let legal = ["release", "vm/vm0001", "--resource", "--origin", "legal"];
    let (done, said) = site.says(&legal);
    assert!(!done && said.contains("test requested this deletion: somebody else has to release"), "{said}");
    let (done, said) = site.says_to("boss", &legal);
    assert!(done && said.contains("2 holds on vm/vm0001 released"), "{said}");
    assert!(!site.says_to("boss", &legal).0);
    assert_eq!(record(&site, "vm0001")["jobs"][0]["state"], "held", "billing holds it still");
    assert!(site.says_to("boss", &["release", "vm/vm0001", "--resource"]).0);
    until("it goes on", || record(&site, "vm0001")["jobs"][0]["state"] == json!("done"));
    assert!(site.says(&["audit"]).0, "what was said is in the audit trail");
}

#[test]
fn of_a_redundancy_group_one_goes_at_a_time() {
    // Soft is five days after announce.
    let site = Site::start_with_days_of(1_000, 3, "");
    let inventory = std::fs::read_to_string(site.folder.path().join("inventory.jsonl")).unwrap();
    let members: Vec<Value> = inventory
        .lines()
        .map(|line| {
            let mut member: Value = serde_json::from_str(line).unwrap();
            member["groups"] = json!(["web-main"]);
            member
        })
        .collect();
    let (code, said) =
        site.post("/v1/resources", "", &json!({ "resources": members, "whole": true }).to_string());
    assert!(code == 200 && !said.contains("not"), "{said}");
    assert!(site.says(&["delete", "vm/vm0001", "--on", &today(), "--reason", "a test"]).0);
    until("it goes", || {
        ["ready", "running", "done"]
            .map(|state| json!(state))
            .contains(&record(&site, "vm0001")["jobs"][1]["state"])
    });
    let (done, said) = site.says(&["plan", "vm/vm0002", "--on", &today()]);
    assert!(done && said.contains("vm/vm0001 of the redundancy group web-main goes first"), "{said}");
    assert!(site.says(&["delete", "vm/vm0002", "--on", &today(), "--reason", "a test"]).0);
    // Only once nothing else holds it, such as an outage of a slow machine.
    until("the other is held", || site.says(&["show", "vm/vm0002"]).1.contains("web-main goes first"));
    // The rest of the group gets a record, too: all of it is retired.
    assert!(site.says(&["delete", "vm/vm0003", "--on", &today(), "--reason", "a test"]).0);
    until("the last one goes", || {
        ["running", "done"].map(|state| json!(state)).contains(&record(&site, "vm0003")["jobs"][1]["state"])
    });
}
