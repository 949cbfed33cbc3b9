//! Another's name and address in a served program: whoever states them of its own machine has nothing of the other's removed.
//! DNS servers and Kea hold no identity: what is a machine's there follows from what is stated.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
#[allow(dead_code, reason = "a site of machines is not needed here")]
mod site;
mod waiting;

use serde_json::{Value, json};
use served::{Served, deletion, detail, resource, said};

const MAC: &str = "52:54:00:12:34:56";

fn with_address(name: &str, scope: &str, host: &str, mac: &str, address: &str) -> Value {
    let mut resource = resource(name, scope);
    resource["attributes"]["dns"] = json!({ "names": [host], "addresses": [address] });
    resource["attributes"]["ipam"] = json!({ "mac": mac, "addresses": [address], "subnet": 1 });
    resource
}

fn register(served: &Served, secret: &str, resource: &Value) -> Option<String> {
    let body = json!({ "resources": [resource], "whole": false });
    let (status, answer) = served.with(secret, "POST", "/v1/resources", &body);
    assert_eq!(status, 200, "{answer}");
    answer["results"][0].as_str().map(str::to_owned)
}

/// What the program says, on one line.
fn on_one_line(served: &Served, secret: &str, arguments: &[&str]) -> (bool, String) {
    let output = served.sexton(secret, arguments);
    (output.status.success(), said(&output).split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn whoever_states_anothers_name_and_address_is_refused_and_not_told_whose_they_are() {
    let served = Served::start(false);
    let (all, acme) =
        (served.token("all", "requester", &[]), served.token("acme", "requester", &["tenants/acme"]));
    let theirs = with_address("theirs", "tenants/other", "web.lab.test", MAC, "192.0.2.10");
    // In other words, which mean the same.
    let mine = with_address("mine", "tenants/acme", "WEB.lab.test.", "52-54-00-12-34-56", "192.0.2.10");
    for (secret, resource) in [(&all, &theirs), (&acme, &mine)] {
        assert_eq!(register(&served, secret, resource), None);
    }
    let claim = "dns.main: names web.lab.test, addresses 192.0.2.10";
    let on = deletion("mine")["on"].as_str().unwrap().to_owned();
    for arguments in [
        vec!["delete", "vm/mine", "--on", &on, "--reason", "a test"],
        vec!["plan", "vm/mine", "--on", &on, "--no-look"],
    ] {
        let (done, said) = on_one_line(&served, &acme, &arguments);
        assert!(!done && said.contains(claim) && !said.contains("theirs"), "{said}");
        let (done, said) = on_one_line(&served, &all, &arguments);
        assert!(!done && said.contains(claim) && said.contains("vm/theirs"), "who sees both: {said}");
    }
    let refused = |(by, request, why): &(String, String, String)| {
        by == "acme" && request == "POST /v1/deletions" && why.contains(claim)
    };
    assert!(served.refusals().iter().any(refused), "it is written down: {:?}", served.refusals());

    // The other way round the machine that is being deleted keeps what it has until it is gone.
    let own = with_address("mine", "tenants/acme", "mine.lab.test", "52:54:00:12:34:57", "192.0.2.11");
    assert_eq!(register(&served, &acme, &own), None);
    served.delete(&all, "theirs");
    let why = register(&served, &acme, &mine).unwrap();
    assert!(why.contains("it is not free yet") && !why.contains("theirs"), "{why}");
    let why = register(&served, &all, &mine).unwrap();
    assert!(
        why.contains("vm/theirs (d-1), not before 20") && why.contains("unless that is cancelled"),
        "{why}"
    );
    let second = with_address("second", "tenants/acme", "web.lab.test", MAC, "192.0.2.10");
    let both = json!({ "resources": [mine, second], "whole": false });
    let (_, answer) = served.with(&all, "POST", "/v1/resources", &both);
    let told = |line: &Value| line.as_str().is_some_and(|why| why.contains("vm/theirs (d-1), not before 20"));
    let told: Vec<bool> = answer["results"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(told, [true; 2], "{answer}");
    let (status, answer) = served.with(&acme, "POST", "/v1/deletions", &deletion("mine"));
    assert_eq!(status, 201, "what it has by now is its own: {}", detail(&answer));
    let unclear = with_address("new", "tenants/acme", "w\\101b.lab.test", MAC, "192.0.2.10");
    let why = register(&served, &acme, &unclear).unwrap();
    assert!(why.starts_with("attributes.dns.names: "), "{why}");
}
