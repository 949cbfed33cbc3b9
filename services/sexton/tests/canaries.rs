//! Canaries as an operator sees them: asked of every consumer of a served program, off with a reason.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use serde_json::Value;
use site::Site;

#[test]
fn every_consumer_that_is_served_refuses_what_it_must() {
    let site =
        Site::start(2, "[canaries]\nresources = [\"vm/vm0002\", \"vm/gone\"]\nanswer_within_secs = 120\n");
    let (_, said) = site.says(&["canaries", "run", "-o", "json"]);
    let info: Value = serde_json::from_str(&said).unwrap();
    let canaries = info["canaries"].as_array().unwrap();
    let verdicts = |kind: &str, resource: Option<&str>| -> Vec<String> {
        let of = |canary: &&Value| {
            canary["probe"]["kind"] == kind && canary["probe"]["resource"].as_str() == resource
        };
        let verdict = |canary: &Value| canary["judged"]["verdict"]["verdict"].as_str().unwrap().to_owned();
        canaries.iter().filter(of).map(verdict).collect()
    };
    assert_eq!(verdicts("forged_order", None), ["holds"; 8], "{said}");
    for kind in ["wrong_identity", "right_identity"] {
        let there = verdicts(kind, Some("vm/vm0002"));
        // Hypervisor, backup, monitoring, accounting and config: who goes by addresses or contacts is not asked.
        assert_eq!(there, ["holds"; 5], "{kind}: {said}");
        let gone = verdicts(kind, Some("vm/gone"));
        assert!(
            gone.len() == there.len() && gone.iter().all(|verdict| verdict == "unclear"),
            "{kind}: {said}"
        );
    }
    // And each of the eight is asked about another place, DNS, IPAM and the notifier, too.
    for kind in ["right_place", "wrong_place"] {
        assert_eq!(verdicts(kind, Some("vm/vm0002")), ["holds"; 8], "{kind}: {said}");
        assert_eq!(verdicts(kind, Some("vm/gone")), ["unclear"; 8], "{kind}: {said}");
    }
    // What is pinned is nobody's business but theirs.
    assert!(canaries.iter().all(|canary| canary.get("elsewhere").is_none()), "{said}");
    // A rehearsal has no budgets, and its kinds are protected.
    assert!(verdicts("over_budget", None).is_empty(), "{said}");
    let protected = verdicts("protected", None);
    assert!(!protected.is_empty() && protected.iter().all(|verdict| verdict == "holds"), "{said}");
    // What proves nothing is shown wherever one looks, and what holds is not.
    let (held, shown) = site.says(&["canaries"]);
    assert!(!held && shown.contains("vm/gone is not registered"), "{shown}");
    let shown = site.says(&["health"]).1;
    assert!(shown.contains("CANARIES") && shown.contains("vm/gone is not registered"), "{shown}");
    assert!(!shown.contains("forged order") && !shown.contains("PAUSED"), "{shown}");
    assert!(site.says(&["audit"]).0, "all of it is in the audit trail");
}

/// Nobody would find out: so it is said at the start, wherever one looks, and each day; and it hinders nothing.
#[test]
fn what_nobody_has_configured_is_said() {
    let lacking = ["no canaries of identity are configured", "no drill resource is configured"];
    let site = Site::start(2, "");
    let log = std::fs::read_to_string(site.folder.path().join("log")).unwrap();
    for shown in [log, site.says(&["health"]).1, site.says(&["digest"]).1] {
        assert!(lacking.iter().all(|lack| shown.contains(lack)), "{shown}");
    }
    assert_eq!(site::get(site.api, "/readyz").unwrap().0, 200);
    let site = Site::start(2, "[canaries]\nresources = [\"vm/vm0001\"]\ndrill = [\"vm/vm0002\"]\n");
    for shown in [site.says(&["health"]).1, site.says(&["digest"]).1] {
        assert!(!lacking.iter().any(|lack| shown.contains(lack)), "{shown}");
    }
}

#[test]
fn a_drill_is_begun_and_shown() {
    let site = Site::start(2, "[canaries]\ndrill = [\"vm/vm0002\", \"vm/gone\"]\n");
    // One of them cannot be held, which a person has to look at.
    let (held, said) = site.says(&["drill", "run", "-o", "json"]);
    let info: Value = serde_json::from_str(&said).unwrap();
    let of = |resource: &str| -> Value {
        let drills = info["drills"].as_array().unwrap();
        drills.iter().find(|drill| drill["resource"] == resource).unwrap().clone()
    };
    assert!(!held && of("vm/gone")["judged"]["verdict"]["verdict"] == "unclear", "{said}");
    let record = of("vm/vm0002")["deletion"].as_str().unwrap().to_owned();
    let shown = site.says(&["show", &record]).1;
    assert!(shown.contains("vm/vm0002") && shown.contains("drill"), "{shown}");
    let shown = site.says(&["drill"]).1;
    assert!(shown.contains(&record) && shown.contains("vm/gone is not registered"), "{shown}");
}

#[test]
fn where_there_are_none_it_is_said_why() {
    let site = Site::start(1, "[canaries]\noff = \"the broker is being moved\"\n");
    let (_, shown) = site.says(&["health"]);
    assert!(shown.contains("NO CANARIES ARE SENT: the broker is being moved"), "{shown}");
    let (done, said) = site.says(&["canaries", "run"]);
    assert!(!done && said.contains("no canaries are sent: the broker is being moved"), "{said}");
    assert!(site.says(&["canaries"]).1.contains("no canary was ever sent"));
    let (done, said) = site.says(&["drill", "run"]);
    assert!(!done && said.contains("no drills are held: the broker is being moved"), "{said}");
    assert!(site.says(&["drill"]).1.contains("no drill was ever held"));
}
