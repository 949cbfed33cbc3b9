//! Censuses as a platform hands them in and an operator sees them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use serde_json::{Value, json};
use site::Site;

fn hand_in(site: &Site, census: &Value) -> (bool, String) {
    let file = site.folder.path().join("census.json");
    std::fs::write(&file, census.to_string()).unwrap();
    site.says(&["census", file.to_str().unwrap()])
}

#[test]
fn a_listing_that_was_cut_is_refused_and_a_whole_one_finds_what_differs() {
    let site = Site::start(3, "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n");
    assert!(site.says(&["census"]).1.contains("no census was taken"));
    let listed = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({ "id": format!("vm/{name}"), "scope": "demo" })).collect()
    };
    let census = |names: &[&str], total: u64| {
        json!({
            "kind": "vm", "scope": "demo", "credential": "census-ro", "total": total, "listed": listed(names),
            "taken_at": chrono::Utc::now().to_rfc3339(),
        })
    };
    let (done, said) = hand_in(&site, &census(&["vm0001", "vm0003"], 3));
    assert!(!done && said.contains("total: the platform counts 3, and 2 are listed"), "{said}");
    let (done, said) = hand_in(&site, &census(&["vm0001", "vm0002"], 2));
    assert!(!done && said.contains("the sentinel vm/vm0003 is missing"), "{said}");
    let (done, said) = hand_in(&site, &json!({ "kind": "vm", "token": "secret" }));
    assert!(!done && said.contains("token") && !said.contains("secret"), "{said}");
    let (done, said) = hand_in(&site, &census(&["vm0001", "vm0003", "vm0009"], 3));
    assert!(done && said.contains("census 1 is believed: 3 resources of vm in demo"), "{said}");
    assert!(said.contains("registered, without a record, and not there: vm/vm0002"), "{said}");
    assert!(said.contains("there, and not registered: vm/vm0009"), "{said}");
    assert!(site.says(&["census"]).1.contains("census-ro"));
    assert!(site.says(&["name", "vm/vm0002"]).1.contains("vm/vm0002"), "it is still registered");
    assert!(site.says(&["list"]).1.trim().lines().count() <= 2, "and nothing deletes it");
    assert!(site.says(&["audit"]).0, "both refusals and the census are in the audit trail");
}
