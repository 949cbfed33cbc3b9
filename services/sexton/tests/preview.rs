//! What a deletion would do, before there is one.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::process::Command;

use serde_json::{Value, json};
use site::{Site, get};
use waiting::until;

/// The date so many days from now.
fn day(ahead: i32) -> String {
    let date = Command::new("date").args(["-u", "-d", &format!("{ahead} days"), "+%F"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn it_shows_each_step_and_what_would_stop_it_and_makes_nothing() {
    let site = Site::start(1, "");
    let plan = |on: &str, gone_by: &str| site.says(&["plan", "vm/vm0001", "--on", on, "--gone-by", gone_by]);
    until("every consumer is there", || !plan(&day(7), &day(30)).1.contains("no consumer is there"));
    let (done, said) = plan(&day(7), &day(30));
    assert!(done, "{said}");
    for part in
        ["hypervisor.stop", "can be undone", "dns.remove", "DESTROYS", "hypervisor.delete_volumes", "purge"]
    {
        assert!(said.contains(part), "expected {part:?} in {said}");
    }
    assert!(!said.contains("WARNING") && !said.contains("would begin"), "{said}");
    assert!(plan(&day(1), &day(2)).1.contains("gone by"), "a date that cannot be met");

    for to in ["soft", "observe"] {
        assert!(site.says(&["ceiling", "--everywhere", "--to", to, "--reason", "a test"]).0);
        let said = plan(&day(7), &day(30)).1;
        assert!(said.contains("would begin hard"), "{said}");
        assert_eq!(said.contains("would begin soft"), to == "observe", "{said}");
    }
    let pause = ["pause", "--subsystem", "dns", "--reason", "dns is being moved"];
    assert!(site.says(&pause).0);
    let answer = site.post("/v1/preview", "", &json!({ "resource": "vm/vm0001", "on": day(7) }).to_string());
    let preview: Value = serde_json::from_str(&answer.1).unwrap();
    let hard = preview["stages"][2]["steps"].as_array().unwrap();
    let of = |name: &str| hard.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(of("dns.remove")["stopped"]["by"], "pause", "{preview}");
    assert_eq!(of("hypervisor.undefine")["stopped"]["by"], "ceiling", "{preview}");

    let records: Value = serde_json::from_str(&get(site.api, "/v1/deletions").unwrap().1).unwrap();
    assert_eq!(records["items"], json!([]), "nothing was made");
    assert!(site.says(&["name", "vm/vm0001"]).1.contains("registered"));
}

#[test]
fn what_could_not_be_made_is_not_shown_either() {
    let site = Site::start(1, "");
    let plan = |resource: &str, on: &str| site.says(&["plan", resource, "--on", on]);
    for (resource, on, why) in [
        ("vm/vm0001", day(-2), "is past"),
        ("vm/vm0009", day(3), "not registered"),
        ("pool/a", day(3), "no plan for pool"),
        ("vm/vm0001", day(9999), "days ahead"),
    ] {
        let (done, said) = plan(resource, &on);
        assert!(!done && said.contains(why), "{resource} on {on}: {said}");
    }
    let id = site.delete("vm/vm0001", None);
    let (done, said) = plan("vm/vm0001", &day(3));
    assert!(!done && said.contains(&id), "it has a record already: {said}");
}
