//! Alarms and the digest, as an operator sees them; and what whoever is limited to a scope does not.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use serde_json::{Value, json};
use site::Site;
use waiting::until;

fn secret(site: &Site, name: &str, role: &str, scope: Option<&str>) -> String {
    let scopes: Vec<&str> = scope.into_iter().collect();
    let body = json!({ "name": name, "role": role, "scopes": scopes, "everywhere": scope.is_none() });
    let (status, answer) = site.post("/v1/tokens", "", &body.to_string());
    assert_eq!(status, 201, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["secret"].as_str().unwrap().to_owned()
}

/// What the program says to whoever shows this token.
fn says_with(site: &Site, secret: &str, arguments: &[&str]) -> (bool, String) {
    use std::os::unix::fs::PermissionsExt;
    let file = site.folder.path().join("own.token");
    std::fs::write(&file, secret).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = site::sexton()
        .args(["--url", &format!("http://{}", site.api), "--token-file", file.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_alarm_is_listed_seen_and_hidden_from_other_scopes() {
    let site = Site::start(
        3,
        "[budgets]\na_day = 2\n[alarms]\nlook_every_ms = 200\n[alarms.command]\nprogram = \"true\"\n",
    );
    let health = site.says(&["health"]).1;
    assert!(health.contains("NO SECOND ROUTE: alarms have no second route beside command"), "{health}");
    assert!(site.says(&["alarms"]).1.contains("no alarm holds"));
    assert!(site.says(&["pause", "--reason", "until all are there"]).0);
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        site.delete(machine, None);
    }
    until("they are held", || site.says(&["list", "--state", "held"]).1.matches("vm/vm000").count() == 3);
    assert!(site.says(&["resume", "1", "--yes"]).0);
    until("an alarm says so", || site.says(&["alarms"]).1.contains("frozen_batch"));
    until("its route was told", || {
        let listed: Value = serde_json::from_str(&site.says(&["-o", "json", "alarms"]).1).unwrap();
        listed["items"][0]["told"]["command"]["phase"] == "raised"
    });
    let listed = site.says(&["alarms"]).1;
    assert!(listed.contains("batch 1") && listed.contains("sexton batches 1"), "{listed}");
    assert!(site.says(&["health"]).1.contains("ALARMS: 1 alarm open, 0 critical, 1 seen by nobody"));
    let digest = site.says(&["digest"]).1;
    for part in
        ["REHEARSAL", "Open alarms", "batch 1 needs approval", "Due in the next 7 days", "Held (3 by budget)"]
    {
        assert!(digest.contains(part), "{part:?} is missing in {digest}");
    }

    let demo = secret(&site, "demo-operator", "operator", Some("demo"));
    let other = secret(&site, "other-operator", "operator", Some("other"));
    let viewer = secret(&site, "viewer", "viewer", None);
    assert!(says_with(&site, &demo, &["alarms"]).1.contains("frozen_batch"));
    assert!(says_with(&site, &other, &["alarms"]).1.contains("no alarm holds"));
    assert!(!says_with(&site, &other, &["health"]).1.contains("ALARMS"));
    let digest = says_with(&site, &other, &["digest"]).1;
    assert!(digest.contains("0 stages due") && !digest.contains("demo"), "{digest}");
    let acknowledge = ["alarms", "acknowledge", "1", "--reason", "we look at it"];
    let (done, said) = says_with(&site, &other, &acknowledge);
    assert!(!done && said.contains("there is no alarm 1 within other"), "{said}");
    let (done, said) = says_with(&site, &viewer, &acknowledge);
    assert!(!done && said.contains("needs the role operator"), "{said}");
    let (done, said) = says_with(&site, &demo, &acknowledge);
    assert!(done && said.contains("alarm 1 is seen"), "{said}");
    assert!(site.says(&["alarms"]).1.contains("demo-operator: we look at it"));
    assert!(site.says(&["health"]).1.contains("0 seen by nobody"));
    assert!(site.says(&["audit"]).0, "that is in the audit trail, whose chains hold");

    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        assert!(site.says(&["cancel", machine, "--reason", "kept"]).0);
    }
    until("it is over", || site.says(&["alarms"]).1.contains("no alarm holds"));
    assert!(site.says(&["alarms", "--all"]).1.contains("frozen_batch"));
    for (path, body, status, part) in [
        ("/v1/alarms/1/acknowledge", json!({ "reason": "x" }), 409, "alarm 1 is over"),
        ("/v1/alarms/77/acknowledge", json!({ "reason": "x" }), 404, "there is no alarm 77"),
        ("/v1/alarms/x/acknowledge", json!({ "reason": "x" }), 422, "expected a number"),
        ("/v1/alarms/1/acknowledge", json!({ "reason": " " }), 422, "reason"),
        ("/v1/alarms/1/acknowledge", json!({}), 422, "reason"),
    ] {
        let (answered, answer) = site.post(path, "", &body.to_string());
        assert!(answered == status && answer.contains(part), "{path} {body}: {answered} {answer}");
    }
}
