//! Batches that exceed a budget, as an operator sees and approves them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use serde_json::{Value, json};
use site::{Site, get};
use waiting::until;

fn batches(site: &Site, path: &str) -> Value {
    serde_json::from_str(&get(site.api, path).unwrap().1).unwrap()
}

#[test]
fn a_batch_is_looked_at_and_approved_by_somebody_else() {
    let site = Site::start(3, "[budgets]\na_day = 2\n");
    assert!(site.says(&["batches"]).1.contains("nothing exceeds a budget"));
    assert!(
        site.says(&["health"])
            .1
            .contains("2 in a day in each scope, 50 in all together may begin announce, hard, purge")
    );
    // All of them are due at once; whoever comes first must not begin before the last one is there.
    assert!(site.says(&["pause", "--reason", "until all are there"]).0);
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        let on = (chrono::Utc::now().date_naive() + chrono::Days::new(5)).to_string();
        let (made, said) = site.says(&["delete", machine, "--on", &on, "--reason", "a test"]);
        assert!(
            made && said.contains("PAUSED      pause 1 stops announce, soft, hard, purge, recycle"),
            "{said}"
        );
    }
    let shown = site.says(&["show", "vm/vm0003"]).1;
    assert!(shown.matches("pause 1 covers it: ").count() >= 4, "{shown}");
    let digest = site.says(&["digest"]).1;
    assert!(
        digest.contains("pause 1 of everything since ") && digest.contains("until all are there"),
        "{digest}"
    );
    // Before they are due, too, it is said that they are paused.
    assert!(site.says(&["list"]).1.matches("until all are there").count() == 3);
    until("they are held", || {
        let list = batches(&site, "/v1/deletions");
        list["items"].as_array().unwrap().iter().filter(|line| line["state"] == json!("held")).count() == 3
    });
    let (seen, said) = site.says(&["resume", "1", "--dry-run"]);
    assert!(seen && said.contains("held as a batch: 3 would begin where 2 may in a day in demo"), "{said}");
    assert_eq!(batches(&site, "/v1/pauses").as_array().unwrap().len(), 1, "it was only looked at");
    let (done, said) = site.says(&["resume", "1"]);
    assert!(
        !done && said.contains("3 deletions would begin") && said.contains("--yes"),
        "nobody is there: {said}"
    );
    assert!(said.contains("held as a batch"), "it shows what would go on: {said}");
    assert_eq!(batches(&site, "/v1/pauses").as_array().unwrap().len(), 1, "it is in force");
    assert!(site.says(&["resume", "1", "--yes"]).0);
    until("they are frozen", || {
        batches(&site, "/v1/batches").as_array().unwrap().iter().any(|b| b["waiting"] == 3)
    });
    let listed = site.says(&["batches"]).1;
    assert!(
        listed.contains("needs approval") && listed.contains("3 would begin where 2 may in a day"),
        "{listed}"
    );
    assert!(site.says(&["health"]).1.contains("MORE THAN A BUDGET LETS BEGIN"));
    until("each of them says so", || {
        site.says(&["list"]).1.matches("batch 1 needs approval before announce").count() == 3
    });

    let (seen, said) = site.says(&["batches", "1"]);
    assert!(seen && said.contains("vm/vm0002") && said.contains("sexton approve 1 --digest "), "{said}");
    // Whoever would approve it is told what it waits for besides.
    assert!(site.says(&["pause", "--reason", "the storage is slow"]).0);
    for look in [&["batches"][..], &["batches", "1"]] {
        let said = site.says(look).1;
        let why =
            "batch 1 does not begin, approved or not: pause 2 of everything, by test: the storage is slow";
        assert!(said.contains(why), "{said}");
    }
    assert!(site.says(&["resume", "2", "--yes"]).0);
    let said = site.says(&["batches"]).1;
    assert!(!said.contains("does not begin"), "{said}");

    let frozen = batches(&site, "/v1/batches/1");
    let comes_back = |member: &Value| {
        member["undo"].as_str().unwrap().starts_with("everything: ") && member["cancel_until"].is_i64()
    };
    assert!(frozen["members"].as_array().unwrap().iter().all(comes_back), "{frozen}");
    let digest = frozen["digest"].as_str().unwrap().to_owned();
    let approve = |by: &str, digest: &str| {
        site.says_to(by, &["approve", "1", "--digest", digest, "--reason", "all are empty"])
    };
    let (done, said) = approve("test", &digest);
    assert!(!done && said.contains("somebody who requested none of it"), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(refused.contains("403 POST /v1/batches/1/approve"), "it is written down: {refused}");
    let (done, said) = approve("boss", &"0".repeat(64));
    assert!(!done && said.contains("another set by now"), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(refused.contains("409 POST /v1/batches/1/approve"), "it is written down: {refused}");
    let (done, said) = approve("boss", &digest);
    assert!(done && said.contains("3 deletions of it go on"), "{said}");
    let (done, said) = approve("boss", &digest);
    assert!(!done && said.contains("there is no batch 1 that waits"), "{said}");
    until("they are announced", || {
        let list = batches(&site, "/v1/deletions");
        list["items"].as_array().unwrap().iter().all(|line| line["job"] != json!({ "stage": "announce" }))
    });
    assert!(site.says(&["audit"]).0, "batch and approval are in the audit trail");
}

#[test]
fn too_many_of_one_day_are_foretold() {
    let site = Site::start(3, "[budgets]\na_day = 2\n");
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(30)).to_string();
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        let last = machine == "vm/vm0003";
        let crowd = "WARNING     3 would begin where 2 may in a day in ";
        let planned = site.says(&["plan", machine, "--on", &on]).1;
        assert_eq!(planned.contains(crowd), last, "{planned}");
        let (made, said) = site.says(&["delete", machine, "--on", &on, "--reason", "a test"]);
        assert!(made && said.contains(crowd) == last, "{said}");
    }
}

/// What a pause holds is not in the queue, and what has begun is no longer in it: both are of today's crowd.
#[test]
fn too_many_of_today_are_foretold_though_they_are_held_or_have_begun() {
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(5)).to_string();
    let delete =
        |site: &Site, machine: &str| site.says(&["delete", machine, "--on", &on, "--reason", "a test"]);
    let all = |site: &Site, wanted: &dyn Fn(&Value) -> bool| {
        let list = batches(site, "/v1/deletions");
        let items = list["items"].as_array().unwrap();
        items.len() == 2 && items.iter().all(wanted)
    };
    for paused in [true, false] {
        let site = Site::start(3, "[budgets]\na_day = 2\n");
        if paused {
            assert!(site.says(&["pause", "--reason", "look"]).0);
        }
        assert!(delete(&site, "vm/vm0001").0 && delete(&site, "vm/vm0002").0);
        let crowd = if paused {
            until("they are held", || all(&site, &|line| line["state"] == json!("held")));
            "WARNING     3 would begin where 2 may in a day in "
        } else {
            until("they are announced", || all(&site, &|line| line["job"] != json!({ "stage": "announce" })));
            "WARNING     1 would begin where 2 may in a day in "
        };
        let planned = site.says(&["plan", "vm/vm0003", "--on", &on]).1;
        assert!(planned.contains(crowd), "{planned}");
        let (made, said) = delete(&site, "vm/vm0003");
        assert!(made && said.contains(crowd), "{said}");
    }
}

/// Soft is not counted: a cancel brings it back. Many that waited for the end of a pause all the same begin only if
/// somebody else approves that.
#[test]
fn a_backlog_that_no_budget_counts_is_approved_before_its_pause_is_lifted() {
    let site = Site::start_with_days_of(500, 4, "[budgets]\na_day = 2\nstages = [\"recycle\"]\n");
    assert!(site.says(&["pause", "--stage", "soft", "--reason", "look"]).0);
    let held = |machines: &[&str]| {
        let list = site.says(&["list", "--state", "held"]).1;
        list.matches("vm/vm000").count() == machines.len() && machines.iter().all(|vm| list.contains(vm))
    };
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        site.delete(machine, None);
    }
    until("they wait before soft", || held(&["vm/vm0001", "vm/vm0002", "vm/vm0003"]));
    let (seen, said) = site.says(&["resume", "1", "--dry-run"]);
    assert!(seen && said.contains("at once, which needs approval: 3 would begin where 2 may"), "{said}");
    let crowd = || batches(&site, "/v1/pauses/1/stopped")["crowd"].clone();
    let digest = || crowd()["digest"].as_str().unwrap().to_owned();
    let first = digest();
    let approve = format!("--yes --approve {first}");
    let machines = ["vm/vm0001", "vm/vm0002", "vm/vm0003"];
    let columns = ["cancel at least until (UTC)", "what can be undone", "everything: "];
    for part in machines.into_iter().chain(columns).chain([approve.as_str()]) {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Of each it is said what a cancel would restore, and until when.
    let crowd = crowd();
    let members = crowd["members"].as_array().unwrap();
    let all_of_it = |member: &Value| {
        member["undo"].as_str().unwrap().starts_with("everything: ") && member["cancel_until"].is_i64()
    };
    assert!(members.len() == 3 && members.iter().all(all_of_it), "{crowd}");
    let (done, said) = site.says_to("boss", &["resume", "1"]);
    assert!(!done && said.contains("--yes") && said.contains("--approve DIGEST"), "nobody is there: {said}");
    let (done, said) = site.says_to("boss", &["resume", "1", "--yes"]);
    assert!(!done && said.contains("3 would begin soft at once"), "{said}");
    let (done, said) = site.says(&["resume", "1", "--yes", "--approve", &first]);
    assert!(!done && said.contains("somebody who requested none of them"), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(refused.contains("403 DELETE /v1/pauses/1"), "it is written down: {refused}");
    // As many, and not these.
    assert!(site.says(&["cancel", "vm/vm0002", "--reason", "kept"]).0);
    site.delete("vm/vm0004", None);
    until("another one waits in its place", || held(&["vm/vm0001", "vm/vm0003", "vm/vm0004"]));
    let (done, said) = site.says_to("boss", &["resume", "1", "--yes", "--approve", &first]);
    assert!(!done && said.contains("another set by now, of 3"), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(refused.contains("409 DELETE /v1/pauses/1"), "it is written down: {refused}");
    assert_eq!(batches(&site, "/v1/pauses").as_array().unwrap().len(), 1, "it is in force");
    let (done, said) = site.says_to("boss", &["resume", "1", "--yes", "--approve", &digest()]);
    assert!(done && said.contains("pause 1 is lifted"), "{said}");
    until("soft has begun", || site.says(&["list", "--state", "held"]).1.matches("vm/vm000").count() == 0);
}

/// Whoever lifts one pause of two is told that the other one holds the same.
#[test]
fn what_else_holds_what_a_pause_has_stopped_is_said_when_it_is_lifted() {
    let site = Site::start(1, "");
    assert!(site.says(&["pause", "--reason", "first"]).0);
    site.delete("vm/vm0001", None);
    let held = || site.says(&["list", "--state", "held"]).1.contains("vm/vm0001");
    until("it is held", held);
    assert!(site.says(&["pause", "--stage", "announce", "--reason", "second"]).0);
    let (done, said) = site.says(&["resume", "1", "--yes"]);
    assert!(
        done && said.contains("pause 1 is lifted; of what it stopped, what nothing else holds"),
        "{said}"
    );
    assert!(said.contains("STILL HELD  vm in ") && said.contains(" before announce: pause 2 of "), "{said}");
    until("it waits on", held);
    let (done, said) = site.says(&["resume", "2", "--yes"]);
    assert!(done && said.contains("pause 2 is lifted") && !said.contains("STILL HELD"), "{said}");
    until("it goes on", || !held());
}

/// Also where only what destroys is counted: the sum over what is to come is made before the first mail.
#[test]
fn too_many_are_approved_before_anybody_is_told() {
    let site = Site::start(3, "[budgets]\na_day = 2\nstages = [\"hard\", \"purge\"]\n");
    assert!(site.says(&["pause", "--reason", "until all are there"]).0);
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(5)).to_string();
    for machine in ["vm/vm0001", "vm/vm0002", "vm/vm0003"] {
        assert!(site.says(&["delete", machine, "--on", &on, "--reason", "a test"]).0);
    }
    let all = |wanted: &dyn Fn(&Value) -> bool| {
        let list = batches(&site, "/v1/deletions");
        list["items"].as_array().unwrap().iter().filter(|line| wanted(line)).count() == 3
    };
    until("they are held", || all(&|line| line["state"] == json!("held")));
    assert!(site.says(&["resume", "1", "--yes"]).0);
    until("they are frozen", || {
        let found = batches(&site, "/v1/batches");
        found.as_array().unwrap().iter().any(|b| b["waiting"] == 3 && b["needs_approval"] == json!(true))
    });
    let notices = site.folder.path().join("platform/notifier/main/announcements");
    let told = std::fs::read_dir(&notices).map(|found| found.count()).unwrap_or_default();
    assert_eq!(told, 0, "nobody was told");
    assert!(all(&|line| line["job"] == json!("announce") || line["job"]["stage"] == json!("announce")));
}

#[test]
fn what_cannot_be_approved_is_said() {
    let site = Site::start(1, "");
    for (path, body, status, part) in [
        ("/v1/batches/7/approve", json!({ "digest": "x", "reason": "y" }), 404, "there is no batch 7"),
        ("/v1/batches/x/approve", json!({ "digest": "x", "reason": "y" }), 422, "expected a number"),
        ("/v1/batches/7/approve", json!({ "digest": "x", "reason": " " }), 422, "reason"),
        ("/v1/batches/7/approve", json!({ "reason": "y" }), 422, "digest"),
    ] {
        let (answered, answer) = site.post(path, "", &body.to_string());
        assert!(answered == status && answer.contains(part), "{path} {body}: {answered} {answer}");
    }
    let (status, answer) = get(site.api, "/v1/batches/7").unwrap();
    assert!(status == 404 && answer.contains("batch 7"), "{answer}");
}
