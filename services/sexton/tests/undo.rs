//! What proves that a purge is complete, and a scope that is cancelled, in a served program.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sexton_protocol::BeaconSigner;
use site::{Site, get, serve};
use waiting::{until, until_within};

/// Purge is over thirteen days after a record was made, and the name is free thirty days later.
const DAY_MS: u32 = 1000;
/// Nothing is undone before the last order of a stage can be carried out no more, which takes a minute, and what is undone
/// is looked at once more.
const RESTORED: Duration = Duration::from_secs(300);

fn json(site: &Site, arguments: &[&str]) -> Value {
    let (_, said) = site.says(&[&["-o", "json"], arguments].concat());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Whether it holds, and what is said of it.
fn verify(site: &Site, receipt: &Path, key: &Path) -> (bool, Value) {
    let (receipt, key) = (receipt.display().to_string(), key.display().to_string());
    let (holds, said) = site.says(&["-o", "json", "verify", "--receipt", &receipt, "--key", &key]);
    (holds, serde_json::from_str(&said).unwrap_or(Value::String(said)))
}

#[test]
fn a_purge_ends_with_a_receipt_that_anybody_can_verify() {
    let site = Site::start_with_days_of(DAY_MS, 2, "[audit]\ncheckpoint_secs = 1\n");
    let path = |name: &str| -> PathBuf { site.folder.path().join(name) };
    let id = site.delete("vm/vm0001", None);
    let (there, said) = site.says(&["receipt", &id]);
    assert!(!there && said.contains("its purge is not over"), "{said}");
    assert!(!site.says(&["show", &id]).1.contains("receipt "), "nothing is said of it yet");
    until("it has a receipt", || site.says(&["receipt", "vm/vm0001"]).0);

    let (_, said) = site.says(&["receipt", &id]);
    for part in
        ["deleted vm/vm0001", "all of it is gone", "hypervisor.delete_volumes", "hypervisor.main", "absent"]
    {
        assert!(said.contains(part), "expected {part:?} in {said}");
    }
    assert!(said.starts_with("REHEARSAL: a day lasts 1000 ms\n"), "{said}");
    assert!(site.says(&["show", &id]).1.contains("receipt     all of it is gone"));
    let signed = json(&site, &["receipt", &id]);
    std::fs::write(path("receipt.json"), signed.to_string()).unwrap();
    let key = path("sexton.db.audit.public.toml");
    let (holds, found) = verify(&site, &path("receipt.json"), &key);
    assert!(holds && found["signature"] == "verified" && found["contents"] == "verified", "{found}");
    assert_eq!(found["receipt"]["rehearsal_day_ms"], DAY_MS, "{found}");
    let steps = found["receipt"]["steps"].as_array().unwrap();
    let wiped = steps.iter().find(|step| step["step"] == "hypervisor.delete_volumes").unwrap();
    assert_eq!(wiped["proof"]["presence"], "absent", "{wiped}");
    assert!(!wiped["proof"]["evidence"].as_str().unwrap().is_empty(), "{wiped}");
    assert!(found["receipt"]["targets"]["hypervisor.main"].is_object(), "{found}");
    // It rests on the chain that the trail shows.
    let shown = json(&site, &["show", &id]);
    let rests_on = &found["receipt"]["rests_on"];
    let event =
        shown["trail"].as_array().unwrap().iter().find(|line| line["seq"] == rests_on["seq"]).unwrap();
    assert_eq!(event["hash"], rests_on["hash"]);

    // What was changed, and what somebody else has signed.
    let body = signed["body"].as_str().unwrap();
    let mut changed = signed.clone();
    changed["body"] = body.replace("a test", "a tent").into();
    std::fs::write(path("changed.json"), changed.to_string()).unwrap();
    let (holds, found) = verify(&site, &path("changed.json"), &key);
    assert!(!holds && found["signature"].as_str().unwrap().starts_with("NOT VERIFIED"), "{found}");
    let stranger = BeaconSigner::generate(signed["key_id"].as_str().unwrap(), &mut rand::rng());
    std::fs::write(path("stranger.toml"), stranger.verifier().to_file()).unwrap();
    assert!(!verify(&site, &path("receipt.json"), &path("stranger.toml")).0);
    std::fs::write(path("no.json"), "{}").unwrap();
    let (holds, said) = verify(&site, &path("no.json"), &key);
    assert!(!holds && said.to_string().contains("it is no receipt"), "{said}");
}

/// What the store keeps, whoever asks: it is shown, a person states it, and the signed receipt names it with its date.
#[test]
fn an_archive_that_cannot_be_deleted_yet_is_named_in_the_receipt_with_its_date() {
    let site = Site::start_with_days_of(DAY_MS, 1, "[audit]\ncheckpoint_secs = 1\n");
    let locks = site.folder.path().join("platform/backup/main/locks");
    std::fs::create_dir_all(&locks).unwrap();
    std::fs::write(locks.join("vm0001.json"), r#"{ "locked until": "2099-06-30" }"#).unwrap();
    let id = site.delete("vm/vm0001", None);
    let parked = || {
        let shown = json(&site, &["show", &id]);
        let jobs = shown["jobs"].as_array().unwrap();
        jobs.iter().any(|job| job["state"] == "parked" && job["job"]["stage"] == "purge")
    };
    until("purge is parked", parked);
    let said = site.says(&["show", &id]).1;
    assert!(said.contains("locked by the store: present until 2099-06-30"), "{said}");
    assert!(!site.says(&["receipt", &id]).0, "its purge is not over");

    // It is stated of what was looked at: whoever names nothing is shown that, and nothing is waived.
    let arguments = ["waive", id.as_str(), "--may-remain", "--evidence", "the law wants it kept"];
    let mark = json(&site, &["show", &id])["mark"].as_str().unwrap().to_owned();
    let (done, said) = site.says_to("approver", &arguments);
    for part in ["backup.delete_archives", "present until 2099-06-30", &format!("Say --mark {mark}")] {
        assert!(!done && said.contains(part), "{part}: {said}");
    }
    let of_none = serde_json::json!({ "claim": "may_remain", "evidence": "x" }).to_string();
    let (status, answer) = site.post(&format!("/v1/deletions/{id}/waive"), "", &of_none);
    assert!(status == 422 && answer.contains("mark"), "{status} {answer}");
    let waive = |mark: &str| site.says_to("approver", &[&arguments[..], &["--mark", mark]].concat());
    let (done, said) = waive("000000000000");
    assert!(!done && said.contains("is not what was looked at") && said.contains(&mark), "{said}");
    assert!(parked(), "nothing was waived yet");
    let (done, said) = waive(&mark);
    assert!(done, "{said}");
    until("it has a receipt", || site.says(&["receipt", &id]).0);
    let (_, said) = site.says(&["receipt", &id]);
    let named = "what backup.delete_archives removes at backup.main is present until 2099-06-30";
    assert!(said.contains("NOT all of it is gone") && said.contains(named), "{said}");
    let file = site.folder.path().join("receipt.json");
    std::fs::write(&file, json(&site, &["receipt", &id]).to_string()).unwrap();
    let (_, found) = verify(&site, &file, &site.folder.path().join("sexton.db.audit.public.toml"));
    assert!(found["signature"] == "verified" && found["contents"] == "verified", "{found}");
    let remains = &found["receipt"]["remains"];
    assert_eq!(remains.as_array().unwrap().len(), 1, "{remains}");
    assert_eq!(remains[0]["until"], "2099-06-30", "{remains}");
    assert_eq!(remains[0]["evidence"], "the law wants it kept; shown was: present until 2099-06-30");
    assert_eq!(found["receipt"]["complete"], false, "{found}");
}

#[test]
fn a_scope_is_cancelled_in_the_order_of_priority_and_what_is_too_late_is_listed() {
    let site = Site::start_with_days_of(DAY_MS, 4, "[audit]\ncheckpoint_secs = 1\n");
    let late = site.delete("vm/vm0001", None);
    until("the first one cannot be cancelled any more", || {
        site.says(&["show", &late]).1.contains("cannot be cancelled any more")
            || site.says(&["show", &late]).1.contains("nothing any more")
    });
    let ids: Vec<String> = (2..=4).map(|n| site.delete(&format!("vm/vm000{n}"), None)).collect();
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(5)).to_string();
    let (done, said) = site.says(&["delete", "vm/vm0002", "--on", &on, "--reason", "twice"]);
    let live = format!("vm/vm0002 has a live deletion record already: {}", ids[0]);
    assert!(!done && said.contains(&live), "{said}");
    let scope = json(&site, &["show", &late])["resource"]["scope"].as_str().unwrap().to_owned();
    let top = scope.split('/').next().unwrap().to_owned();
    let (done, said) = site.says(&["priority", "vm/vm0004", "-5"]);
    assert!(done && said.contains("priority -5"), "{said}");
    for line in json(&site, &["list"])["items"].as_array().unwrap() {
        if line["id"] == late.as_str() {
            assert!(line["cancel"] == false, "{line}");
            continue;
        }
        let said = line["undo"].as_str().unwrap();
        assert!(said.starts_with("everything: "), "{line}");
        assert!(line["cancel"] == true && line["cancel_until"].is_i64(), "it says until when: {line}");
    }
    assert!(site.says(&["list"]).1.contains("until 2"), "and so does the table");

    let preview = json(&site, &["cancel", "--scope", &top, "--dry-run"]);
    let order = |report: &Value| -> Vec<String> {
        let items = report["items"].as_array().unwrap();
        items.iter().map(|item| item["deletion"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order(&preview), [&ids[2], &late, &ids[0], &ids[1]].map(String::clone), "{preview}");
    let first = &preview["items"][0];
    assert!(first["cancelled"] == true && first["until"].is_i64(), "{first}");
    assert!(preview["items"][1]["cancelled"] == false, "{preview}");
    assert_eq!(json(&site, &["show", &ids[0]])["status"], "live", "a preview changes nothing");
    // Nobody is there to confirm it.
    let (done, said) = site.says(&["cancel", "--scope", &top, "--reason", "wanted"]);
    assert!(!done && said.contains("--yes") && said.contains("3 deletions"), "{said}");

    let (done, said) = site.says(&["cancel", "--scope", &top, "--reason", "wanted", "--yes"]);
    assert!(!done, "one of them was too late: {said}");
    assert!(said.contains("3 deletions cancelled, 1 cannot be"), "{said}");
    assert_eq!(said.matches("NOT CANCELLED").count(), 1, "{said}");
    let (done, said) = site.says(&["cancel", &late, "--reason", "wanted"]);
    assert!(!done, "{said}");
    // What a belt refused is in the audit trail, whoever asked.
    let refused = |asked: &str, why: &str| {
        let log = json(&site, &["audit", "--access"]);
        let found = log["events"].as_array().unwrap().iter().any(|event| {
            let (request, said) = (event["body"]["request"].as_str(), event["body"]["why"].as_str());
            event["what"] == "refused"
                && event["by"] == "test"
                && request == Some(asked)
                && said.is_some_and(|said| said.contains(why))
        });
        assert!(found, "{asked}: {why}: {log}");
    };
    refused("POST /v1/deletions", &live);
    refused("POST /v1/cancellations", &format!("1 not cancelled: {late} of vm/vm0001: "));
    refused(&format!("POST /v1/deletions/{late}/cancel"), "too late to cancel: ");
    for id in &ids {
        let shown = json(&site, &["show", id]);
        assert!(["restoring", "cancelled"].contains(&shown["status"].as_str().unwrap()), "{shown}");
        let trail = shown["trail"].as_array().unwrap();
        assert_eq!(trail.iter().filter(|line| line["event"]["what"] == "cancelled").count(), 1, "{shown}");
    }
    // Once more: what comes back already is left alone, and says so.
    let again = json(&site, &["cancel", "--scope", &top, "--reason", "wanted", "--yes"]);
    assert!(order(&again).contains(&late), "{again}");
    for item in again["items"].as_array().unwrap().iter().filter(|item| item["deletion"] != late.as_str()) {
        assert!(item["cancelled"] == false && item["why"] == "it is being restored", "{item}");
    }
    let (done, said) = site.says(&["cancel", "--scope", "nowhere", "--reason", "wanted", "--yes"]);
    assert!(done && said.contains("no deletion of nowhere is live"), "{said}");
}

/// What a cancel that is too late is answered.
fn too_late(site: &Site, id: &str) -> String {
    let (status, answer) = site.post(&format!("/v1/deletions/{id}/cancel"), "", r#"{ "reason": "wanted" }"#);
    assert_eq!(status, 409, "{answer}");
    let problem: Value = serde_json::from_str(&answer).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("too late to cancel: "), "{detail}");
    detail.to_owned()
}

/// The state of a stage of this record.
fn state(site: &Site, id: &str, stage: &str) -> String {
    let shown = json(site, &["show", id]);
    let mut jobs = shown["jobs"].as_array().unwrap().iter();
    let job = jobs.find(|job| job["job"]["stage"] == stage).unwrap();
    job["state"].as_str().unwrap().to_owned()
}

#[test]
fn who_is_too_late_to_cancel_is_told_how_long_it_can_be_saved_by_hand() {
    let site = Site::start_with_days_of(DAY_MS, 1, "");
    // Days are short: it is to stay where its data is there.
    assert!(site.says(&["ceiling", "--everywhere", "--to", "hard", "--reason", "a test"]).0);
    let id = site.delete("vm/vm0001", None);
    until("hard is over, and purge is held", || state(&site, &id, "purge") == "held");
    // It is held since its date has come: nobody is promised a date that has passed.
    let told = "still there, but purge, whose date has passed, may begin any moment, once nothing holds it any more: ";
    let shown = site.says(&["show", &id]).1;
    let line = shown.lines().find(|line| line.starts_with("undo ")).unwrap();
    assert!(line.contains(told), "{shown}");
    assert!(!shown.lines().any(|line| line.starts_with("rescue ")), "{shown}");
    let detail = too_late(&site, &id);
    assert!(detail.contains(told) && !detail.contains("at the earliest"), "{detail}");
    assert!(detail.contains("save it by hand, then `rescue`"), "{detail}");
}

#[test]
fn who_is_too_late_for_that_is_told_what_is_not_destroyed_yet() {
    let site = Site::start_with_days_of(DAY_MS, 1, "");
    // So that purge stays half done.
    let locks = site.folder.path().join("platform/backup/main/locks");
    std::fs::create_dir_all(&locks).unwrap();
    std::fs::write(locks.join("vm0001.json"), r#"{ "locked until": "2099-06-30" }"#).unwrap();
    let id = site.delete("vm/vm0001", None);
    until("purge is parked", || state(&site, &id, "purge") == "parked");
    let detail = too_late(&site, &id);
    let left = "Not done yet: backup.delete_archives (may have begun), monitoring.delete_history. Hold it";
    assert!(detail.contains("purge has begun") && detail.contains(left), "{detail}");
    assert!(site.says(&["show", &id]).1.contains(left), "it is shown, too");
}

/// A page goes by the priorities as they are then: what was moved before it meanwhile is not forgotten.
#[test]
fn whose_priority_is_changed_while_a_scope_is_cancelled_comes_back_all_the_same() {
    let site = Site::start(3, "");
    let ids: Vec<String> = (1..=3).map(|n| site.delete(&format!("vm/vm000{n}"), None)).collect();
    let scope = json(&site, &["show", &ids[0]])["resource"]["scope"].as_str().unwrap().to_owned();
    let top = scope.split('/').next().unwrap();
    let page = |after: &Value| -> Value {
        let mut body = serde_json::json!({ "scope": top, "reason": "wanted", "limit": 1 });
        if !after.is_null() {
            body["after"] = after.clone();
        }
        let (status, answer) = site.post("/v1/cancellations", "", &body.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    };
    let first = page(&Value::Null);
    assert_eq!(first["items"][0]["deletion"], ids[0].as_str(), "{first}");
    assert_eq!(first["items"].as_array().unwrap().len(), 1, "{first}");
    let (done, said) = site.says(&["priority", "vm/vm0003", "-5"]);
    assert!(done, "{said}");
    let mut cancelled = vec![ids[0].clone()];
    let mut next = first["next"].clone();
    while !next.is_null() {
        let answered = page(&next);
        for item in answered["items"].as_array().unwrap().iter().filter(|item| item["cancelled"] == true) {
            cancelled.push(item["deletion"].as_str().unwrap().to_owned());
        }
        assert!(cancelled.len() <= ids.len(), "each is cancelled once: {cancelled:?}");
        next = answered["next"].clone();
    }
    cancelled.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(cancelled, all);
    for id in &ids {
        assert_ne!(json(&site, &["show", id])["status"], "live", "{id}");
    }
}

/// End it, and start it again with this configuration.
fn start_again(site: &mut Site, config: &str) {
    site.process.kill().unwrap();
    site.process.wait().unwrap();
    std::fs::write(site.folder.path().join("sexton.toml"), config).unwrap();
    site.process = serve(site.folder.path(), site.api);
}

/// Who waits for credit is restored by the priority that it has then, and not by the one it was cancelled with.
#[test]
fn restores_begin_by_priority_also_if_that_is_changed_while_they_wait() {
    let mut site = Site::start_with_days_of(500, 6, "[credit]\nrestores = 1\n");
    // On a plan with short deadlines, for which a restore waits.
    let plans = site.folder.path().join("plans");
    std::fs::create_dir(&plans).unwrap();
    std::fs::write(plans.join("vm.toml"), include_str!("../src/demo/plan.toml")).unwrap();
    let config = std::fs::read_to_string(site.folder.path().join("sexton.toml")).unwrap();
    let line = |line: &str| match line.starts_with("folder = ") {
        true => "folder = \"plans\"\n".to_owned(),
        false => format!("{line}\n"),
    };
    let config: String = config.lines().map(line).collect();
    let (without_the_last, _) = config.split_once("[consumers.\"config.main\"]").unwrap();
    start_again(&mut site, &config);
    // Days are short: they are to stay where they can be cancelled.
    assert!(site.says(&["ceiling", "--everywhere", "--to", "soft", "--reason", "a test"]).0);
    let ids: Vec<String> = (1..=6).map(|n| site.delete(&format!("vm/vm000{n}"), None)).collect();
    let prioritize = |site: &Site, n: u8, priority: &str| {
        let (done, said) = site.says(&["priority", &format!("vm/vm000{n}"), priority]);
        assert!(done, "{said}");
    };
    for (n, priority) in [(1, "10"), (2, "900"), (3, "30"), (4, "-5"), (5, "50"), (6, "100")] {
        prioritize(&site, n, priority);
    }
    let all_are = |site: &Site, name: &str, state: &str| {
        ids.iter().all(|id| {
            let shown = json(site, &["show", id]);
            let mut jobs = shown["jobs"].as_array().unwrap().iter();
            jobs.any(|job| (job["job"] == name || job["job"]["stage"] == name) && job["state"] == state)
        })
    };
    until("all are off", || all_are(&site, "soft", "done"));

    // Nobody is there who takes the last step of soft back, the first one of a restore: so all of them are in line.
    start_again(&mut site, without_the_last);
    until("nobody is there for config.main", || {
        let health: Value = serde_json::from_str(&get(site.api, "/v1/health").unwrap().1).unwrap();
        let mut instances = health["instances"].as_array().unwrap().iter();
        instances.any(|one| one["instance"] == "config.main" && one["down"] == true)
    });
    let scope = json(&site, &["show", &ids[0]])["resource"]["scope"].as_str().unwrap().to_owned();
    let top = scope.split('/').next().unwrap();
    let (done, said) = site.says(&["cancel", "--scope", top, "--reason", "wanted", "--yes"]);
    assert!(done, "{said}");
    until_within(RESTORED, "all of them are in line", || all_are(&site, "restore", "ready"));
    prioritize(&site, 6, "-50");
    prioritize(&site, 4, "200");
    start_again(&mut site, &config);
    let back = |id: &String| json(&site, &["show", id])["status"] == "cancelled";
    until_within(RESTORED, "all of them are back", || ids.iter().all(back));

    // Orders are numbered as they are given.
    let first_undo = |id: &String| {
        let shown = json(&site, &["show", id]);
        let trail = shown["trail"].as_array().unwrap().iter().map(|line| &line["event"]);
        let mut orders = trail.filter(|event| event["job"] == "restore" && event["ordered"].is_object());
        orders.next().unwrap()["ordered"]["number"].as_i64().unwrap()
    };
    let mut begun: Vec<(i64, usize)> = ids.iter().map(first_undo).zip(1..).collect();
    begun.sort_unstable();
    let order: Vec<usize> = begun.into_iter().map(|(_, machine)| machine).collect();
    assert_eq!(order, [6, 1, 3, 5, 4, 2]);
}

/// The file that describes a machine on the sandbox's host.
fn described(under: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(under).ok()?.map(|entry| entry.unwrap().path()).collect();
    let wanted = format!("{name}.json");
    let here = |path: &&PathBuf| {
        path.ends_with(&wanted) && std::fs::read_to_string(path).unwrap().contains("\"disks\"")
    };
    let found = entries.iter().find(here).cloned();
    found.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|folder| described(folder, name)))
}

/// An undo goes by the manifest that was captured: what somebody has changed since is not overwritten.
#[test]
fn what_others_changed_parks_a_restore_until_a_person_has_looked() {
    let site = Site::start_with_days_of(DAY_MS, 1, "");
    // Days are short: it is to stay where it can be cancelled.
    assert!(site.says(&["ceiling", "--everywhere", "--to", "soft", "--reason", "a test"]).0);
    let id = site.delete("vm/vm0001", None);
    let job = |name: &str| {
        let shown = json(&site, &["show", &id]);
        let jobs = shown["jobs"].as_array().unwrap().iter();
        jobs.filter(|job| job["job"] == name || job["job"]["stage"] == name)
            .map(|job| job["state"].as_str().unwrap().to_owned())
            .next()
    };
    until("it is off", || job("soft").as_deref() == Some("done"));
    let file = described(&site.folder.path().join("platform"), "vm0001").unwrap();
    let as_it_was = std::fs::read_to_string(&file).unwrap();
    let mut changed: Value = serde_json::from_str(&as_it_was).unwrap();
    assert_eq!(changed["power"], "off", "{changed}");
    // One that is there: nothing but the comparison with the manifest keeps it from being started so.
    let disks = changed["disks"].as_array_mut().unwrap();
    disks.push(disks[0].clone());
    std::fs::write(&file, changed.to_string()).unwrap();

    let (_, said) = site.says(&["cancel", &id, "--dry-run"]);
    assert!(said.contains("takes back") && said.contains("hypervisor.stop"), "{said}");
    // Nothing but the ceiling may hold it by now.
    assert!(said.contains("at least until") || said.contains("hard, whose date has passed"), "{said}");
    assert!(site.says(&["cancel", &id, "--reason", "wanted"]).0);
    until_within(RESTORED, "its restore is parked", || job("restore").as_deref() == Some("parked"));
    let (_, said) = site.says(&["show", &id]);
    assert!(said.contains("was changed by others since it was captured: its settings"), "{said}");
    let now: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&now["power"], &now["disks"]), (&changed["power"], &changed["disks"]), "nothing was touched");
    assert_eq!(json(&site, &["show", &id])["status"], "restoring");

    // The change is taken back by whoever made it; then it goes on.
    let mut again = now.clone();
    again["disks"] = serde_json::from_str::<Value>(&as_it_was).unwrap()["disks"].clone();
    std::fs::write(&file, again.to_string()).unwrap();
    assert!(site.says(&["retry", &id]).0);
    until_within(RESTORED, "it is back", || json(&site, &["show", &id])["status"] == "cancelled");
    let now: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(now["power"], "on", "{now}");
    // Once more: it says so.
    let (done, said) = site.says(&["cancel", &id, "--reason", "wanted"]);
    assert!(!done && said.contains("cancelled"), "{said}");
}
