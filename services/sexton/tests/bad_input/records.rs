//! Records: what cannot be met, would never end, or is not there.
use crate::served::{Served, resource, said, with};
use chrono::NaiveDate;
use serde_json::{Value, json};

#[test]
fn a_date_that_cannot_be_met_is_said_when_the_record_is_made() {
    // Working hours would have it end later on some days of the week.
    let served = Served::start_as("nothing", &[("[windows]", "always = true")], &[]);
    let in_days = |days| {
        let date = chrono::Utc::now().date_naive() + chrono::Days::new(days);
        date.to_string()
    };
    let resources: Vec<_> = ["a", "b", "c"].map(resource).into();
    assert_eq!(served.post("/v1/resources", &json!({"resources": resources, "whole": true})).0, 200);
    let delete = |name: &str, on: u64, gone_by: u64| {
        let (on, gone_by) = (in_days(on), in_days(gone_by));
        let arguments = ["delete", name, "--on", &on, "--gone-by", &gone_by, "--reason", "x"];
        said(&served.sexton(&arguments))
    };
    // Announced now, off five days later, its data gone another eight days later (deploy/plans/vm.toml).
    let (off, gone) = (in_days(5), in_days(13));
    // By the policy's clock a day begins some minutes after midnight, so `gone_by` keeps a day's distance.
    let late = delete("vm/a", 1, 11);
    for part in [
        format!("WARNING     {} cannot be met", in_days(1)),
        format!("WARNING     gone by {} cannot be met", in_days(11)),
        format!("off from    {off}"),
        format!("data gone   {gone}"),
    ] {
        assert!(late.contains(&part), "expected {part:?} in {late}");
    }
    for (name, on, gone_by) in [("vm/b", 5, 13), ("vm/c", 9, 17)] {
        let said = delete(name, on, gone_by);
        assert!(
            said.contains(&format!("off from    {}", in_days(on))) && !said.contains("WARNING"),
            "{said}"
        );
    }
}

#[test]
fn a_record_that_would_wait_for_ever_is_refused() {
    let served = Served::start_without("dns.main");
    let (_, answer) = served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    assert_eq!(answer["results"], json!([null]), "its platform may register it all the same");
    let wanted = json!({"resource": "vm/a", "on": "2030-01-01", "reason": "x"});
    let (status, problem) = served.post("/v1/deletions", &wanted);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert_eq!((status, &problem["field"]), (422, &json!("resource")), "{problem}");
    assert!(detail.contains("needs dns.main"), "{problem}");
    assert_eq!(served.get("/v1/deletions").1["items"], json!([]));
}

#[test]
fn what_nobody_has_shown_to_be_reproducible_is_not_deleted_with_a_shorter_grace() {
    let hook = |at: &str| format!("driver = \"sandbox\"\nroot = \"platform\"\ninstance = \"{at}\"");
    let (cluster, machine) = (hook("cluster.main"), hook("machine.main"));
    let hooks = [("[consumers.\"cluster.main\"]", &*cluster), ("[consumers.\"machine.main\"]", &*machine)];
    let served = Served::start_as("nothing", &hooks, &[]);
    // The plan of memberships is for credentials.
    let register = |proof: Value| {
        let member = json!({
            "id": "membership/a", "scope": "storage", "identity": {"machine": "a"}, "exclusive": "machine/a",
            "criticality": "reproducible", "rebuilt": proof,
        });
        let (_, answer) = served.post("/v1/resources", &json!({"resources": [member], "whole": true}));
        assert_eq!(answer["results"], json!([null]), "{answer}");
    };
    let preview = json!({"resource": "membership/a", "on": "2030-01-01"});
    let wanted = with(preview.clone(), "reason", json!("x"));
    let proof_of = |on: NaiveDate| json!({"on": on, "evidence": "run 17"});
    let today = chrono::Utc::now().date_naive();
    for (proof, why) in [
        (Value::Null, "states no dated proof (`rebuilt`) that it can be rebuilt"),
        (proof_of(today - chrono::Days::new(400)), "days ago, and one holds 365 days"),
    ] {
        register(proof);
        for (path, body) in [("/v1/preview", &preview), ("/v1/deletions", &wanted)] {
            let (status, problem) = served.post(path, body);
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert_eq!(status, 422, "{path}: {problem}");
            assert!(detail.contains(why) && detail.contains("only grants the grace"), "{path}: {problem}");
        }
        let planned = served.sexton(&["plan", "membership/a", "--on", "2030-01-01", "--no-look"]);
        // Lines are broken where they are shown.
        let planned_said = said(&planned).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!planned.status.success() && planned_said.contains(why), "{planned_said}");
    }
    register(proof_of(today));
    let there = served.get("/v1/resources/membership/a").1;
    assert_eq!(there["resource"]["rebuilt"], proof_of(today), "{there}");
    assert_eq!(served.post("/v1/preview", &preview).0, 200);
    assert_eq!(served.post("/v1/deletions", &wanted).0, 201);
}

#[test]
fn what_is_not_there_is_told_apart() {
    let served = Served::start();
    served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    for (what, part) in [
        ("a", "vm/a?"),
        ("vm/a", "is registered, and there is no deletion record"),
        ("vm/b", "no such resource was ever registered"),
    ] {
        let said = said(&served.sexton(&["show", what]));
        assert!(said.contains(part), "{what}: {said}");
    }
}

#[test]
fn listings_go_on_behind_a_page() {
    let served = Served::start();
    let names: Vec<String> = (0..1100).map(|n| format!("m{n:04}")).collect();
    let all: Vec<Value> = names.iter().map(|name| resource(name)).collect();
    let (status, answer) = served.post("/v1/resources", &json!({"resources": all, "whole": true}));
    assert_eq!(status, 200, "{answer}");
    for name in &names {
        let record = json!({"resource": format!("vm/{name}"), "on": "2030-01-01", "reason": "x"});
        assert_eq!(served.post("/v1/deletions", &record).0, 201);
    }
    for (limit, length, more) in [("1050", 1050, true), ("5000", 1100, false)] {
        let output = served.sexton(&["list", "--limit", limit, "-o", "json"]);
        let page: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = page["items"].as_array().unwrap();
        let different: std::collections::BTreeSet<&str> =
            items.iter().map(|item| item["resource"].as_str().unwrap()).collect();
        assert_eq!((items.len(), different.len(), page["next"].is_string()), (length, length, more));
    }
    let text = said(&served.sexton(&["list", "--limit", "1050"]));
    assert!(text.contains("there are more"), "{text}");
    assert_eq!(said(&served.sexton(&["list", "--limit", "5000"])).matches("vm/m").count(), 1100);
}

#[test]
fn what_stands_on_a_record_is_listed_and_what_is_over_is_not_to_be_watched() {
    let served = Served::start();
    let said = |arguments: &[&str]| said(&served.sexton(arguments));
    assert!(said(&["health"]).contains("\nno jobs\n"), "{}", said(&["health"]));
    assert_eq!(served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true})).0, 200);
    let record = json!({"resource": "vm/a", "on": "2030-01-01", "reason": "x"});
    assert_eq!(served.post("/v1/deletions", &record).0, 201);
    assert!(!said(&["health"]).contains("no jobs"), "{}", said(&["health"]));
    let held = said(&["hold", "vm/a", "--reason", "a lawsuit"]);
    assert!(held.contains("is held (1 hold)"), "{held}");
    let held = said(&["hold", "vm/a", "--reason", "unpaid"]);
    assert!(held.contains("is held (2 holds)"), "{held}");
    let listed = said(&["list"]);
    assert!(listed.contains("scheduled") && listed.contains("hold: test: a lawsuit"), "{listed}");
    let cancelled = said(&["cancel", "vm/a", "--reason", "x"]);
    assert!(cancelled.contains("is cancelled, and over") && !cancelled.contains("watch"), "{cancelled}");
}
