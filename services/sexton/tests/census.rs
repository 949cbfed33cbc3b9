//! Censuses as a platform hands them in and an operator sees them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use serde_json::{Value, json};
use site::{Site, get};
use waiting::until;

fn hand_in(site: &Site, census: &Value) -> (bool, String) {
    let file = site.folder.path().join("census.json");
    std::fs::write(&file, census.to_string()).unwrap();
    site.says(&["census", file.to_str().unwrap()])
}

/// A complete census of all machines of the demo's scope that are named.
fn census(names: &[&str], fewer: bool) -> Value {
    let listed: Vec<Value> =
        names.iter().map(|name| json!({ "id": format!("vm/{name}"), "scope": "demo" })).collect();
    json!({
        "kind": "vm", "scope": "demo", "credential": "census-ro", "total": listed.len(), "listed": listed,
        "fewer": fewer, "taken_at": chrono::Utc::now().to_rfc3339(),
    })
}

fn censuses(site: &Site, query: &str) -> Value {
    let (status, answer) = get(site.api, &format!("/v1/censuses{query}")).unwrap();
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn announce(site: &Site, id: &str) -> Value {
    let record: Value =
        serde_json::from_str(&get(site.api, &format!("/v1/deletions/{id}")).unwrap().1).unwrap();
    record["jobs"][0]["state"].clone()
}

#[test]
fn a_budget_by_percent_is_closed_until_a_census_is_believed() {
    let site = Site::start(
        3,
        "[budgets]\na_day = 5\npercent = 50\nstages = [\"announce\"]\n\
         [census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n",
    );
    let id = site.delete("vm/vm0001", None);
    until("it is held", || announce(&site, &id) == "held");
    let uncounted = "1 would begin, and no complete census says how many there are in demo";
    let said = site.says(&["show", &id]).1;
    assert!(said.contains(uncounted), "{said}");
    // One that is not believed opens nothing.
    let mut cut = census(&["vm0001", "vm0003"], false);
    cut["total"] = json!(3);
    assert!(!hand_in(&site, &cut).0);
    assert!(site.says(&["batches"]).1.contains(uncounted));
    assert_eq!(announce(&site, &id), "held");
    let (done, said) = hand_in(&site, &census(&["vm0001", "vm0002", "vm0003"], false));
    assert!(done, "{said}");
    until("it goes on by itself", || announce(&site, &id) == "done");
}

#[test]
fn a_burst_of_deletions_by_others_pauses_the_scope() {
    let site = Site::start(
        5,
        "[budgets]\na_day = 1\nstages = [\"hard\"]\n[alarms]\nlook_every_ms = 200\n\
         [census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0005\" }]\n",
    );
    let all = ["vm0001", "vm0002", "vm0003", "vm0004", "vm0005"];
    let (done, said) = hand_in(&site, &census(&all, false));
    assert!(done && said.contains("nothing is deleted because a census lacks it"), "{said}");
    let (counted, said) = hand_in(&site, &census(&["vm0001", "vm0002", "vm0005"], true));
    assert!(counted && said.contains("PAUSED      2 are gone since the last census: pause 1"), "{said}");
    let pauses: Value = serde_json::from_str(&get(site.api, "/v1/pauses").unwrap().1).unwrap();
    let [pause] = pauses.as_array().unwrap().as_slice() else { panic!("{pauses}") };
    let covers = &pause["covers"];
    assert!(
        pause["by"] == "coordinator" && *covers == json!({ "scope": "demo" }),
        "of whatever kind: {pause}"
    );
    let why =
        "2 of vm are gone that are not being removed here, where 1 may go in a day: somebody else deletes";
    let health = site.says(&["health"]).1;
    assert!(health.contains("PAUSED") && health.contains(why), "{health}");
    until("an alarm says so", || site.says(&["alarms"]).1.contains("foreign_deletions"));

    let id = site.delete("vm/vm0001", None);
    until("it is held", || announce(&site, &id) == "held");
    assert!(site.says(&["show", &id]).1.contains("somebody else deletes"));
    // Somebody has found out who it was.
    assert!(site.says(&["resume", "1", "--yes"]).0);
    until("it goes on", || announce(&site, &id) == "done");
    // In a rehearsal a day is over soon, and then the next census is missed.
    until("the alarm has ended", || !site.says(&["alarms"]).1.contains("foreign_deletions"));
    assert!(site.says(&["audit"]).0, "censuses and pause are in the audit trail");
}

/// Too few to pause anything are named once a day; and whoever budgets nothing has not said that others may delete any number.
#[test]
fn a_few_deletions_by_others_are_in_the_digest_and_many_pause_although_nothing_is_budgeted() {
    let site = Site::start(
        8,
        "[budgets]\nnone = true\n\
         [census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0008\" }]\n",
    );
    let all: Vec<String> = (1..=8).map(|n| format!("vm000{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(hand_in(&site, &census(&all, false)).0);
    assert!(!site.says(&["digest"]).1.contains("Deleted by others"), "nothing is gone");
    let (done, said) = hand_in(&site, &census(&all[1..], true));
    assert!(done && !said.contains("PAUSED"), "{said}");
    let digest = site.says(&["digest"]).1;
    for part in [
        "Deleted by others",
        "1 of vm in demo, found by census 2 at ",
        ": vm/vm0001\n",
        ", 1 deleted by others",
    ] {
        assert!(digest.contains(part), "{part:?} is missing in {digest}");
    }
    let (counted, said) = hand_in(&site, &census(&all[7..], true));
    assert!(counted && said.contains("PAUSED      6 are gone since the last census: pause 1"), "{said}");
    let health = site.says(&["health"]).1;
    assert!(health.contains("where 5 may go in a day: somebody else deletes"), "{health}");
}

/// A machine was moved, or somebody says so: whoever looks is told where it is listed, and where it is registered.
#[test]
fn what_is_listed_in_another_scope_than_it_is_registered_in_is_told() {
    let site = Site::start(2, "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0002\" }]\n");
    let mut moved = census(&["vm0001", "vm0002"], false);
    moved["listed"][0]["scope"] = json!("demo/other");
    let (done, said) = hand_in(&site, &moved);
    let told = "1        registered in another scope than they are listed in: vm/vm0001 (listed in demo/other, \
                registered in demo)\n";
    assert!(done && said.contains(told), "{said}");
    let listed = site.says(&["census"]).1;
    assert!(listed.contains(&format!("census 1: {}", told.trim_end())), "{listed}");
    let taken = censuses(&site, "")["items"][0].clone();
    assert_eq!(taken["misplaced"], json!({ "demo/other": 1 }));
    assert!(hand_in(&site, &census(&["vm0001", "vm0002"], false)).0);
    let listed = site.says(&["census"]).1;
    assert!(!listed.contains("registered in another scope"), "the newest one says otherwise: {listed}");
}

#[test]
fn a_listing_that_was_cut_is_refused_and_a_whole_one_finds_what_differs() {
    let site = Site::start(
        3,
        "[alarms]\nlook_every_ms = 200\n\
         [census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n",
    );
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
    let listed = site.says(&["census"]).1;
    assert!(listed.contains("NOT BELIEVED: vm in demo, by "), "{listed}");
    assert!(listed.contains("the sentinel vm/vm0003 is missing"), "the last one: {listed}");
    let alarms = || site.says(&["-o", "json", "alarms"]).1;
    until("an alarm says so", || alarms().contains("the sentinel vm/vm0003 is missing"));
    let (done, said) = hand_in(&site, &json!({ "kind": "vm", "token": "secret" }));
    assert!(!done && said.contains("token") && !said.contains("secret"), "{said}");
    let (done, said) = hand_in(&site, &census(&["vm0001", "vm0003", "vm0009"], 3));
    assert!(done && said.contains("census 1 is believed: 3 resources of vm in demo"), "{said}");
    assert!(said.contains("registered, not being removed here, and not there: vm/vm0002"), "{said}");
    assert!(said.contains("there, and not registered: vm/vm0009"), "{said}");
    let listed = site.says(&["census"]).1;
    assert!(
        listed.contains("census-ro") && listed.contains("refused, and one was believed since"),
        "{listed}"
    );
    assert!(site.says(&["name", "vm/vm0002"]).1.contains("vm/vm0002"), "it is still registered");
    assert!(site.says(&["list"]).1.trim().lines().count() <= 2, "and nothing deletes it");
    assert!(site.says(&["audit"]).0, "both refusals and the census are in the audit trail");
}

/// Another credential may see another part: what it does not see would be missing.
#[test]
fn one_under_another_credential_is_refused_until_that_is_meant() {
    let site = Site::start(3, "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n");
    let all = ["vm0001", "vm0002", "vm0003"];
    assert!(hand_in(&site, &census(&all, false)).0);
    let other = |names: &[&str]| {
        let mut other = census(names, false);
        other["credential"] = json!("tenant-ro");
        other
    };
    let (done, said) = hand_in(&site, &other(&all));
    let why =
        "credential: tenant-ro, and census 1 was taken with census-ro: state new_credential if that is meant";
    assert!(!done && said.contains(why), "{said}");
    let listed = site.says(&["census"]).1;
    assert!(listed.contains("NOT BELIEVED: vm in demo, by ") && listed.contains(why), "{listed}");
    // One that leaves out what it does not see is no better.
    let (done, said) = hand_in(&site, &other(&all[1..]));
    assert!(!done && said.contains(why), "{said}");

    let mut meant = other(&all);
    meant["new_credential"] = json!(true);
    let (done, said) = hand_in(&site, &meant);
    assert!(done && said.contains("census 2 is believed: 3 resources of vm in demo"), "{said}");
    // It was meant of that one: from now on the one before is another.
    let (done, said) = hand_in(&site, &census(&all, false));
    assert!(!done && said.contains("credential: census-ro, and census 2 was taken with tenant-ro"), "{said}");

    let (done, said) = hand_in(&site, &other(&[]));
    assert!(!done && said.contains("listed: nothing is listed; an empty listing is not believed"), "{said}");
    let mut old = other(&all);
    old["taken_at"] = json!((chrono::Utc::now() - chrono::Duration::minutes(61)).to_rfc3339());
    let (done, said) = hand_in(&site, &old);
    assert!(
        !done && said.contains("taken_at: it was begun at") && said.contains("at most 60 minutes ago"),
        "{said}"
    );
    assert!(site.says(&["list"]).1.trim().lines().count() <= 2, "and nothing is deleted");
    let audit = site.says(&["audit", "--access"]).1;
    assert!(
        audit.contains("tenant-ro, and census 1 was taken with census-ro"),
        "each refusal is kept: {audit}"
    );
    assert!(site.says(&["audit"]).0, "and so are the censuses");
}

#[test]
fn one_is_taken_from_whoever_holds_the_machines() {
    let site = Site::start(3, "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n");
    let take = |further: &[&str]| site.says(&[&["census", "take", "vm", "demo"][..], further].concat());
    let (done, said) = take(&[]);
    assert!(done && said.contains("census 1 is believed: 3 resources of vm in demo"), "{said}");
    assert!(said.contains("nothing is deleted because a census lacks it"), "{said}");
    assert!(site.says(&["census"]).1.contains("sandbox:hypervisor.main"), "with what, and where");

    let machine = |name: &str| site.folder.path().join(format!("platform/hypervisor/main/vms/{name}.json"));
    std::fs::copy(machine("vm0002"), machine("stray")).unwrap();
    std::fs::remove_file(machine("vm0002")).unwrap();
    let (done, said) = take(&[]);
    assert!(
        !done && said.contains("listed: 2, and census 1 listed 3: state fewer if that is meant"),
        "{said}"
    );
    let listed = site.says(&["census"]).1;
    assert!(listed.contains("1 registered, not being removed here, and not there: vm/vm0002\n"), "{listed}");
    let (done, said) = take(&["--fewer"]);
    assert!(done && said.contains("census 2 is believed: 2 resources of vm in demo"), "{said}");
    assert!(said.contains("registered, not being removed here, and not there: vm/vm0002"), "{said}");
    assert!(said.contains("there, and not registered: vm/stray"), "{said}");

    // Another machine stands where one was registered; then one that cannot be read.
    std::fs::copy(machine("stray"), machine("vm0002")).unwrap();
    let mut other: Value = serde_json::from_slice(&std::fs::read(machine("stray")).unwrap()).unwrap();
    other["identity"]["uuid"] = json!("00000000-0000-4000-8000-000000000077");
    std::fs::write(machine("vm0002"), other.to_string()).unwrap();
    let (done, said) = take(&["--fewer"]);
    assert!(
        !done && said.contains("vm/vm0002 at hypervisor.main is not the one that is registered"),
        "{said}"
    );
    std::fs::write(machine("vm0002"), "{").unwrap();
    let (done, said) = take(&["--fewer", "--within", "2"]);
    assert!(!done && said.contains("hypervisor.main has not listed everything within 2 s"), "{said}");
    std::fs::remove_file(machine("vm0002")).unwrap();

    let (done, said) = site.says(&["census", "take", "image", "demo"]);
    assert!(!done && said.contains("no subsystem lists all of kind image"), "{said}");
    assert!(site.says(&["pause", "--kind", "vm", "--reason", "a test"]).0);
    let (done, said) = take(&["--fewer"]);
    assert!(!done && said.contains("nobody is asked: pause 1: test: a test"), "{said}");
    assert_eq!(
        site.says(&["census"]).1.matches("sandbox:hypervisor.main").count(),
        2,
        "and no other was taken"
    );
    assert!(site.says(&["audit"]).0);
}

/// Nobody asks for it: it is taken each day, and what it lacks that was there before is what others have deleted.
#[test]
fn a_tick_takes_a_census_each_day_and_finds_what_others_deleted() {
    let site = Site::start(
        3,
        "[census]\nshrinks_percent = 50\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0003\" }]\n\
         take = [{ kind = \"vm\", scope = \"demo\", every_hours = 1 }]\n",
    );
    let newest = || censuses(&site, "")["items"][0].clone();
    until("one is taken, of all", || {
        let taken = newest();
        taken["counts"] == json!({ "demo": 3 }) && taken["missing"] == 0
    });
    assert!(newest()["credential"].as_str().unwrap().contains("sandbox:hypervisor.main"), "{}", newest());
    let machine = site.folder.path().join("platform/hypervisor/main/vms/vm0002.json");
    std::fs::remove_file(machine).unwrap();
    until("the next one is taken, and lacks it", || newest()["missing_named"] == json!(["vm/vm0002"]));
    let digest = site.says(&["digest"]).1;
    assert!(digest.contains("Deleted by others") && digest.contains(": vm/vm0002\n"), "{digest}");
    assert!(!digest.contains("no complete census"), "{digest}");
    assert!(site.says(&["name", "vm/vm0002"]).1.contains("vm/vm0002"), "it is still registered");
    assert!(site.says(&["list"]).1.trim().lines().count() <= 2, "and nothing deletes it");
    assert!(site.says(&["audit"]).0, "all of them are in the audit trail");
}

/// One that is to be taken each day and is never complete is shown wherever one looks, and told, until one is believed: none that
/// is handed in stands in for it.
#[test]
fn a_census_that_does_not_come_is_a_lack_until_one_is_believed() {
    let site = Site::start(
        2,
        "[alarms]\nlook_every_ms = 200\n[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/gone\" }]\n\
         take = [{ kind = \"vm\", scope = \"demo\" }]\n",
    );
    let lack = "no complete census of vm in demo, which [census] take has every 24 h: there was never one";
    let shown = |command: &str| site.says(&[command]).1.contains(lack);
    assert!(shown("health") && shown("digest"), "{}", site.says(&["health"]).1);
    until("it is said what came of the attempt", || {
        let health = site.says(&["health"]).1;
        health.contains("; the last attempt (") && health.contains("the sentinel vm/gone is missing")
    });
    let alarms = || site.says(&["-o", "json", "alarms"]).1;
    until("an alarm says so", || alarms().contains("the sentinel vm/gone is missing"));
    let listed = site.says(&["census"]).1;
    assert!(listed.contains("NOT BELIEVED: vm in demo, taken when it was time ("), "{listed}");
    let mut handed_in = census(&["gone", "vm0001", "vm0002"], true);
    (handed_in["more"], handed_in["new_credential"]) = (json!(true), json!(true));
    let (done, said) = hand_in(&site, &handed_in);
    assert!(!done && said.contains("scope: Sexton takes the censuses of vm in demo itself"), "{said}");
    assert_eq!(
        site.says(&["census"]).1.matches("NOT BELIEVED: vm in demo, taken when it was time (").count(),
        1
    );
    assert!(shown("health") && shown("digest"), "{}", site.says(&["health"]).1);

    // What was missing is there: the next one that Sexton takes is believed.
    let machine = |name: &str| site.folder.path().join(format!("platform/hypervisor/main/vms/{name}.json"));
    std::fs::copy(machine("vm0002"), machine("gone")).unwrap();
    let inventory = std::fs::read_to_string(site.folder.path().join("inventory.jsonl")).unwrap();
    let mut lines = inventory.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut gone = lines.find(|one| one["id"] == "vm/vm0002").unwrap();
    gone["id"] = json!("vm/gone");
    let file = site.folder.path().join("gone.jsonl");
    std::fs::write(&file, gone.to_string()).unwrap();
    let (done, said) = site.says(&["import", file.to_str().unwrap()]);
    assert!(done, "{said}");
    until("one is believed", || !shown("health") && !shown("digest"));
    let listed = site.says(&["census"]).1;
    assert!(
        listed.contains("refused, and one was believed since: vm in demo, taken when it was time ("),
        "{listed}"
    );
}

/// More than are asked for at once are all there, and no answer is longer than was asked for.
#[test]
fn censuses_are_listed_by_the_page_and_the_command_goes_through_all() {
    let site = Site::start(1, "[census]\nsentinels = [{ scope = \"demo\", resource = \"vm/vm0001\" }]\n");
    let many = 102;
    for _ in 0..many {
        let (status, answer) = site.post("/v1/censuses", "", &census(&["vm0001"], false).to_string());
        assert_eq!(status, 201, "{answer}");
    }
    let page = |query: &str| {
        let page = censuses(&site, query);
        let items = page["items"].as_array().unwrap();
        (items.iter().map(|one| one["census"].as_i64().unwrap()).collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(page("?limit=2"), (vec![102, 101], json!("101")));
    assert_eq!(page("?limit=2&after=2"), (vec![1], Value::Null));
    let (all, next) = page("");
    assert_eq!((all.len(), next), (100, json!("3")), "unless it is said");
    assert_eq!(page("?limit=5000").0.len(), many);
    for query in ["?limit=all", "?after=vm", "?before=3"] {
        assert_eq!(get(site.api, &format!("/v1/censuses{query}")).unwrap().0, 400, "{query}");
    }
    let (done, said) = site.says(&["-o", "json", "census"]);
    assert!(done, "{said}");
    let known: Value = serde_json::from_str(&said).unwrap();
    let numbers = known["believed"].as_array().unwrap().iter().map(|one| one["census"].as_i64().unwrap());
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=102).rev().collect::<Vec<i64>>());
}
