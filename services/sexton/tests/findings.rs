//! Findings as an operator sees them: what is there and nobody has registered, and what it takes to have it deleted.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[allow(dead_code, reason = "only how a file is made private is needed here")]
mod served;
mod site;
mod waiting;

use serde_json::{Value, json};
use served::private;
use site::{Site, get, sexton};

const SENTINEL: &str = "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n";

fn findings(site: &Site) -> Value {
    let (status, answer) = get(site.api, "/v1/findings").unwrap();
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// A census of these and of the three that are registered.
fn hand_in(site: &Site, more: &[(&str, &str)], total: usize) -> (bool, String) {
    let mut listed: Vec<Value> =
        (1..=3).map(|number| json!({ "id": format!("vm/vm000{number}"), "scope": "demo" })).collect();
    let stray = |(name, scope): &(&str, &str)| json!({ "id": format!("vm/{name}"), "scope": scope, "identity": { "uuid": format!("of-{name}") } });
    listed.extend(more.iter().map(stray));
    let census = json!({
        "kind": "vm", "scope": "demo", "credential": "census-ro", "total": total, "listed": listed,
        "fewer": true, "new_credential": true, "taken_at": chrono::Utc::now().to_rfc3339(),
    });
    let file = site.folder.path().join("census.json");
    std::fs::write(&file, census.to_string()).unwrap();
    site.says(&["census", file.to_str().unwrap()])
}

#[test]
fn what_instances_hold_and_nobody_has_registered_is_shown_with_what_a_person_would_press() {
    let site = Site::start(3, SENTINEL);
    assert!(site.says(&["findings"]).1.contains("no census speaks of this"));
    assert_eq!(findings(&site), json!({ "items": [], "censuses": [] }));
    let machine = |name: &str| site.folder.path().join(format!("platform/hypervisor/main/vms/{name}.json"));
    std::fs::copy(machine("vm0002"), machine("stray")).unwrap();
    let (done, said) = site.says(&["census", "take", "vm", "demo"]);
    assert!(done && said.contains("there, and not registered: vm/stray"), "{said}");
    let found = findings(&site);
    let [finding] = found["items"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&finding["resource"], &finding["instance"]), (&json!("vm/stray"), &json!("hypervisor.main")));
    assert!(finding["identity"]["uuid"].is_string() && finding["scope"].is_null(), "{finding}");
    let record = &finding["record"];
    assert_eq!(record["lacks"], json!(["scope", "criticality", "date"]));
    assert_eq!(record["delete"].get("on"), None, "{record}");
    let (done, said) = site.says(&["findings"]);
    assert!(done && said.contains("vm in demo: by census 1, begun at "), "{said}");
    for part in [
        "vm/stray  of no known scope, {\"uuid\":",
        ", at hypervisor.main; first seen ",
        "| sexton register -\n",
        "sexton delete vm/stray --on DATE --reason 'found by census 1 of vm in demo, begun at ",
        "1 finding. Nothing is deleted because nobody has registered it",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }

    // Neither is taken as it is.
    for (path, body) in [("/v1/resources", &record["register"]), ("/v1/deletions", &record["delete"])] {
        let (status, answer) = site.post(path, "", &body.to_string());
        assert!((400..500).contains(&status), "{path}: {status} {answer}");
    }
    assert!(site.says(&["name", "vm/stray"]).1.contains("vm/stray is free"), "nothing was made of it");
    let mut resource = record["register"]["resources"][0].clone();
    resource["scope"] = json!("demo");
    resource["criticality"] = json!("irreplaceable");
    resource["attributes"] =
        json!({ "dns": { "none": true }, "ipam": { "none": true }, "notifier": { "none": true } });
    let body = json!({ "resources": [resource], "whole": true }).to_string();
    let (status, answer) = site.post("/v1/resources", "", &body);
    assert_eq!((status, answer.contains("\"results\":[null]")), (200, true), "{answer}");
    assert_eq!(findings(&site)["items"], json!([]), "it is registered");
}

#[test]
fn where_the_last_census_was_refused_there_are_none_and_it_is_said_why() {
    let site = Site::start(3, SENTINEL);
    let (done, said) = hand_in(&site, &[("vm0009", "demo")], 4);
    assert!(done, "{said}");
    assert_eq!(findings(&site)["items"][0]["identity"], json!({ "uuid": "of-vm0009" }));
    let (done, said) = hand_in(&site, &[("vm0009", "demo")], 5);
    assert!(!done && said.contains("the platform counts 5, and 4 are listed"), "{said}");
    let found = findings(&site);
    assert_eq!((&found["items"], &found["censuses"][0]["standing"]), (&json!([]), &json!("refused")));
    let said = site.says(&["findings"]).1;
    assert!(said.contains("NO FINDINGS of vm in demo: the newest census was not believed"), "{said}");
    assert!(said.contains("the platform counts 5, and 4 are listed"), "{said}");
}

/// What this command shows to a new token, which is limited to these scopes, or to none.
fn shown(site: &Site, name: &str, scopes: &[&str], what: &str) -> Value {
    let body = json!({ "name": name, "role": "viewer", "scopes": scopes, "everywhere": scopes.is_empty() });
    let (status, issued) = site.post("/v1/tokens", "", &body.to_string());
    assert_eq!(status, 201, "{issued}");
    let issued: Value = serde_json::from_str(&issued).unwrap();
    let file = site.folder.path().join("own.token");
    private(&file, issued["secret"].as_str().unwrap());
    let url = format!("http://{}", site.api);
    let mut command = sexton();
    command.env_remove("SEXTON_ACTOR").args(["--url", &url, "-o", "json", "--token-file"]).arg(&file);
    let output = command.arg(what).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn what_is_of_no_known_scope_is_named_by_a_census_only_to_who_is_limited_to_none() {
    let site = Site::start(3, SENTINEL);
    let machine = |name: &str| site.folder.path().join(format!("platform/hypervisor/main/vms/{name}.json"));
    std::fs::copy(machine("vm0002"), machine("stray")).unwrap();
    let (done, said) = site.says(&["census", "take", "vm", "demo"]);
    assert!(done && said.contains("there, and not registered: vm/stray"), "{said}");
    let told = |name: &str, scopes: &[&str]| {
        let known = shown(&site, name, scopes, "census");
        let found = shown(&site, &format!("{name}-too"), scopes, "findings");
        let taken = &known["believed"][0];
        [taken["unknown"].clone(), taken["unknown_named"].clone(), found["censuses"][0]["unknown"].clone()]
    };
    assert_eq!(told("all", &[]), [json!(1), json!(["vm/stray"]), json!(1)]);
    assert_eq!(told("demo", &["demo"]), [json!(0), json!([]), json!(0)]);
}

#[test]
fn a_token_finds_what_is_of_its_scopes() {
    let site = Site::start(3, SENTINEL);
    let (done, said) = hand_in(&site, &[("vm0008", "demo/ours"), ("vm0009", "demo/theirs")], 5);
    assert!(done, "{said}");
    let sees = |name: &str, scopes: &[&str]| {
        let found = shown(&site, name, scopes, "findings");
        let ids = found["items"].as_array().unwrap().iter().map(|one| one["resource"].clone());
        (ids.collect::<Vec<_>>(), found["censuses"].as_array().unwrap().len())
    };
    assert_eq!(sees("all", &[]), (vec![json!("vm/vm0008"), json!("vm/vm0009")], 1));
    assert_eq!(sees("ours", &["demo/ours"]), (vec![json!("vm/vm0008")], 1));
    assert_eq!(sees("lab", &["lab"]), (Vec::new(), 0));
    let known = shown(&site, "lab-census", &["lab"], "census");
    assert_eq!(known, json!({ "believed": [], "latest": [] }), "nor any census");
    let said = site.says(&["-o", "json", "findings", "--scope", "demo/theirs"]).1;
    assert!(said.contains("vm/vm0009") && !said.contains("vm/vm0008"), "{said}");
}
