//! What is registered: one by one, and whole inventories.
use crate::served::{Served, resource, said, with};
use serde_json::{Value, json};

#[test]
fn a_resource_that_nothing_could_be_done_about_is_refused_and_the_others_with_it_or_not() {
    let served = Served::start();
    let elsewhere = with(resource("b"), "instances", json!({"dns": "internla"}));
    let pool = with(resource("c"), "id", json!("pool/c"));
    let body = |whole: bool| json!({"resources": [resource("a"), elsewhere, pool], "whole": whole});
    let (status, answer) = served.post("/v1/resources", &body(true));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(status, 200);
    let why = |n: usize| results[n].as_str().unwrap();
    assert!(
        why(0).contains("another line")
            && why(2).contains("no plan for pool, only for image, membership, vm"),
        "{answer}"
    );
    assert!(
        why(1).contains("instances.dns") && why(1).contains("dns.internla") && why(1).contains("dns.main")
    );
    assert!(served.names().is_empty(), "all or nothing");
    let (_, answer) = served.post("/v1/resources", &body(false));
    assert_eq!(answer["results"][0], Value::Null, "{answer}");
    assert_eq!(served.names(), ["vm/a"]);
    for (attributes, parts) in [
        (
            json!({"dnss": {}, "ipam": {"none": true}}),
            ["attributes.dnss: no subsystem reads it", "config, dns, "],
        ),
        (json!({"ipam": {"none": true}}), ["attributes.dns: missing", "\"none\": true"]),
        (json!({"dns": {"none": true}, "ipam": null}), ["attributes.ipam: missing", "\"none\": true"]),
        (json!({}), ["attributes.", "missing"]),
    ] {
        let misspelt = with(resource("e"), "attributes", attributes);
        let (_, answer) = served.post("/v1/resources", &json!({"resources": [misspelt], "whole": true}));
        let why = answer["results"][0].as_str().unwrap();
        assert!(parts.iter().all(|part| why.contains(part)), "{answer}");
        assert_eq!(served.names(), ["vm/a"]);
    }
    let nested = format!("{{\"resources\":[{{\"attributes\":{{\"dns\":{}", "[".repeat(100_000));
    let (status, problem) = served.ask("POST", "/v1/resources", Some("test"), nested.as_bytes());
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("recursion"), "{problem}");
    let rebuilt = |proof: Value| json!({"resources": [with(resource("d"), "rebuilt", proof)]});
    for (wrong, field) in [
        (json!({"resources": []}), "resources"),
        (json!({"resources": [with(resource("d"), "identity", json!({}))]}), "resources[0].identity"),
        (json!({"resources": [with(resource("d"), "scope", json!(""))]}), "resources[0].scope"),
        (
            json!({"resources": [with(resource("d"), "criticality", json!("low"))]}),
            "resources[0].criticality",
        ),
        (json!({"resources": [with(resource("d"), "colour", json!("red"))]}), "resources[0].colour"),
        (rebuilt(json!({"on": "tomorrow", "evidence": "run 17"})), "resources[0].rebuilt.on"),
        (rebuilt(json!({"on": "2026-11-01", "evidence": "run\n17"})), "resources[0].rebuilt.evidence"),
        // It would travel with every order.
        (
            json!({"resources": [with(resource("d"), "attributes", json!({"dns": "x".repeat(16_384)}))]}),
            "resources[0].attributes",
        ),
        (json!({"resources": [with(resource("d"), "groups", json!([""]))]}), "resources[0].groups"),
    ] {
        let (status, problem) = served.post("/v1/resources", &wrong);
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }
    assert_eq!(served.names(), ["vm/a"]);
}

#[test]
fn an_inventory_is_taken_whole_or_line_by_line() {
    let served = Served::start();
    let jsonl = served.folder.path().join("inventory.jsonl");
    let lines = [resource("a").to_string(), "{\"id\":7}".to_owned(), resource("b").to_string()];
    std::fs::write(&jsonl, lines.join("\n")).unwrap();
    let csv = served.folder.path().join("inventory.csv");
    let none = r#""{""none"":true}""#;
    let text = format!(
        "id,scope,criticality,identity.uuid,attributes.dns,attributes.ipam,attributes.notifier\n\
         vm/c,acme,irreplaceable,c,{none},{none},{none}\nvm/d,acme,dear,d,{none},{none},{none}\n"
    );
    std::fs::write(&csv, text).unwrap();
    for (file, place) in [(&jsonl, "inventory.jsonl:2: id: "), (&csv, "inventory.csv:3: criticality ")] {
        let output = served.sexton(&["import", file.to_str().unwrap()]);
        assert!(!output.status.success() && said(&output).contains(place), "{}", said(&output));
        assert!(served.names().is_empty(), "a part of a bad file was taken");
    }
    for file in [&jsonl, &csv] {
        let output = served.sexton(&["import", "--skip-bad", file.to_str().unwrap()]);
        assert!(!output.status.success(), "a line was bad");
    }
    assert_eq!(served.names(), ["vm/a", "vm/b", "vm/c"]);
}

/// The answer to an import, as a program reads it: whether it was good, and the lines with what is wrong with them.
fn imported(served: &Served, lines: &[Value], how: &[&str]) -> (bool, Value, Vec<(u64, String)>) {
    let file = served.folder.path().join("inventory.jsonl");
    let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(&file, text.join("\n")).unwrap();
    let output = served.sexton(&[&["-o", "json", "import", file.to_str().unwrap()], how].concat());
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let line = |bad: &Value| (bad["line"].as_u64().unwrap(), bad["reason"].as_str().unwrap().to_owned());
    let bad = answer["bad"].as_array().unwrap().iter().map(line).collect();
    (output.status.success(), json!([answer["lines"], answer["imported"]]), bad)
}

/// Exactly these lines are bad, each for a reason that says so.
#[track_caller]
fn named(bad: &[(u64, String)], expected: &[(u64, &str)]) {
    assert_eq!(bad.len(), expected.len(), "{bad:?}");
    for ((line, why), (expected, part)) in bad.iter().zip(expected) {
        assert!(line == expected && why.contains(*part), "line {expected}, {part:?}: {bad:?}");
    }
}

/// One bad line of each sort among good ones: all of them are named in one run, and none of the others.
#[test]
fn whatever_is_wrong_with_an_inventory_is_said_in_one_run_and_by_its_lines() {
    let served = Served::start();
    let there = json!({"resources": [resource("there")], "whole": true});
    assert_eq!(served.post("/v1/resources", &there), (200, json!({"results": [null]})));
    let unread = json!({"id": 7});
    let planless = with(resource("c"), "id", json!("pool/c"));
    let other = with(resource("there"), "identity", json!({"uuid": "another"}));
    let lines =
        [resource("a"), other.clone(), unread.clone(), planless.clone(), resource("a"), resource("b")];
    let expected = [
        (2, "vm/there is registered with another identity"),
        (3, "id: "),
        (4, "id: there is no plan for pool"),
        (5, "vm/a stands in line 1 already"),
    ];
    let ways: [&[&str]; 3] = [&[], &["--dry-run"], &["--dry-run", "--skip-bad"]];
    for how in ways {
        let (good, counted, bad) = imported(&served, &lines, how);
        assert_eq!((good, counted), (false, json!([6, 0])), "{how:?}");
        named(&bad, &expected);
        assert_eq!(served.names(), ["vm/there"], "{how:?}");
    }
    // Each alone, and whoever finds it: what is not said by the file itself is said by the coordinator.
    for (one, why) in [(unread, "id: "), (planless, "no plan"), (other, "another identity")] {
        for how in &ways[..2] {
            let (good, counted, bad) = imported(&served, &[resource("a"), one.clone(), resource("b")], how);
            assert_eq!((good, counted), (false, json!([3, 0])), "{how:?}");
            named(&bad, &[(2, why)]);
            assert_eq!(served.names(), ["vm/there"], "{how:?}");
        }
    }
    let (good, counted, bad) = imported(&served, &[resource("a"), resource("b")], &["--dry-run"]);
    assert_eq!((good, counted, bad), (true, json!([2, 0]), Vec::new()));
    assert_eq!(served.names(), ["vm/there"], "only checked");
    let (good, counted, bad) = imported(&served, &lines, &["--skip-bad"]);
    assert_eq!((good, counted), (false, json!([6, 2])));
    named(&bad, &expected);
    assert_eq!(served.names(), ["vm/a", "vm/b", "vm/there"]);
}

#[test]
fn a_line_that_is_too_long_is_one_bad_line_among_others() {
    let served = Served::start();
    let lines = [resource("a"), json!("x".repeat(1 << 20)), resource("b")];
    let ways: [(&[&str], usize); 2] = [(&[], 0), (&["--skip-bad"], 2)];
    for (how, count) in ways {
        let (good, counted, bad) = imported(&served, &lines, how);
        assert_eq!((good, counted), (false, json!([3, count])), "{how:?}");
        named(&bad, &[(2, "longer than 1048576 bytes")]);
    }
    assert_eq!(served.names(), ["vm/a", "vm/b"]);
}

/// As it is asked by a program: which of them were refused, and which were not registered only because of those.
#[test]
fn of_all_or_nothing_the_answer_tells_what_was_refused_from_the_rest() {
    let served = Served::start();
    let register = |resources: Value, more: Value| {
        let mut body = more;
        body["resources"] = resources;
        served.post("/v1/resources", &body)
    };
    let there = json!([resource("there")]);
    assert_eq!(register(there.clone(), json!({"dry_run": true})), (200, json!({"results": [null]})));
    assert!(served.names().is_empty(), "only checked");
    register(there, json!({}));
    let other = with(resource("there"), "identity", json!({"uuid": "another"}));
    let planless = with(resource("c"), "id", json!("pool/c"));
    for (list, rest) in [
        (json!([resource("a"), other, resource("b")]), json!([0, 2])),
        (json!([planless, resource("a"), other]), json!([1])),
    ] {
        let (status, answer) = register(list, json!({"whole": true}));
        assert_eq!((status, &answer["with_the_rest"]), (200, &rest), "{answer}");
        assert!(answer["results"].as_array().unwrap().iter().all(Value::is_string), "{answer}");
    }
    assert_eq!(served.names(), ["vm/there"]);
}

/// Each import states all of a resource, whatever it is that it leaves out.
#[test]
fn what_an_inventory_leaves_out_is_taken_back_and_what_it_says_again_stays() {
    let served = Served::start();
    let file = served.folder.path().join("inventory.csv");
    let none = r#""{""none"":true}""#;
    let import = |columns: &str, fields: &str| {
        let text = format!(
            "id,scope,criticality,identity.uuid,attributes.dns,attributes.ipam,attributes.notifier{columns}\n\
             vm/a,acme,irreplaceable,a,{none},{none},{none}{fields}\n"
        );
        std::fs::write(&file, text).unwrap();
        let output = served.sexton(&["import", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        let there = served.get("/v1/resources").1["items"][0]["resource"].clone();
        (there["groups"].clone(), there["priority"].clone(), there["protected"].clone())
    };
    let stated = (json!(["db-main", "front"]), json!(7), json!(true));
    for _ in 0..2 {
        assert_eq!(import(",groups,priority,protected", ",db-main;front,7,true"), stated);
    }
    let nothing = (Value::Null, json!(100), json!(false));
    assert_eq!(import(",groups,priority,protected", ",,,"), nothing);
    assert_eq!(import(",groups,priority,protected", ",db-main;front,7,true"), stated);
    assert_eq!(import("", ""), nothing);
}
