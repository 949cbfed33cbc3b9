//! A record goes by the plan that it was made with, whatever becomes of the file meanwhile, and whichever process goes on with it.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use site::{Site, serve};
use waiting::{until, until_within};

/// Purge is over thirteen days after a record was made.
const DAY_MS: u32 = 1000;
/// Longest until a machine is gone, on a busy machine.
const GONE: Duration = Duration::from_secs(120);
/// A step that the changed plan has no more, and what it leaves behind is seen without the records.
const STEP: &str = "accounting.stop";

fn answer(site: &Site, arguments: &[&str]) -> Value {
    let (_, said) = site.says(&[&["-o", "json"], arguments].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Whether its trail names this step.
fn went_through(site: &Site, id: &str, step: &str) -> bool {
    let shown = answer(site, &["show", id]);
    shown["trail"].as_array().unwrap().iter().any(|line| line["event"]["step"] == step)
}

/// Whether a machine is still paid for.
fn is_charged(site: &Site, machine: &str) -> Value {
    let platform = site.folder.path().join("platform");
    let (shown, said) = site.says(&["sandbox", platform.to_str().unwrap(), "--describe", machine]);
    assert!(shown, "{said}");
    let all: Value = serde_json::from_str(&said).unwrap();
    all["accounting"]["object"]["active"].clone()
}

/// Later purges, and no end of what a machine costs: in a folder of the site's own, which it goes by from now on.
fn change_the_plan(site: &Site) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join("deploy");
    let own = site.folder.path().join("plans");
    std::fs::create_dir(&own).unwrap();
    let mut plan = std::fs::read_to_string(deploy.join("plans/vm.toml")).unwrap();
    let step = format!("  {{ do = \"{STEP}\" }},\n");
    for (part, instead) in
        [("version = 5", "version = 6"), (step.as_str(), ""), ("offset_days = 8", "offset_days = 9")]
    {
        assert_eq!(plan.matches(part).count(), 1, "{part}: {plan}");
        plan = plan.replace(part, instead);
    }
    std::fs::write(own.join("vm.toml"), plan).unwrap();
    let file = site.folder.path().join("sexton.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let before = format!("folder = \"{}/plans\"", deploy.display());
    assert_eq!(config.matches(&before).count(), 1, "{config}");
    let after = format!("folder = \"{}\"", own.display());
    std::fs::write(file, config.replace(&before, &after)).unwrap();
}

#[test]
fn a_record_midway_goes_on_by_its_own_plan_when_the_file_was_changed() {
    let mut site = Site::start_with_days_of(DAY_MS, 2, "[audit]\ncheckpoint_secs = 1\n");
    assert!(site.says(&["pause", "--stage", "soft", "--reason", "until the plan is another one"]).0);
    let old = site.delete("vm/vm0001", None);
    until("it is announced", || answer(&site, &["show", &old])["jobs"][0]["state"] == "done");

    site.process.kill().unwrap();
    site.process.wait().unwrap();
    change_the_plan(&site);
    site.process = serve(site.folder.path(), site.api);
    let (done, said) = site.says(&["resume", "1", "--yes"]);
    assert!(done, "{said}");
    let new = site.delete("vm/vm0002", None);

    for id in [&old, &new] {
        until_within(GONE, "its purge is over", || site.says(&["receipt", id]).0);
    }
    assert!(went_through(&site, &old, STEP), "its own plan has that step");
    assert_eq!(is_charged(&site, "vm0001"), json!(false));
    assert!(!went_through(&site, &new, STEP), "the plan of today has not");
    assert_eq!(is_charged(&site, "vm0002"), json!(true));
}
