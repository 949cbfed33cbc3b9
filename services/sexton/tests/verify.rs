//! `sexton verify` against a running process: a history that was put in the place of another one, so that all chains hold,
//! is found by what was signed and kept outside.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use site::{Site, serve, sexton};
use waiting::until;

/// What a job table consists of that is set back whole, its witness included. The log of what is not in the file itself
/// yet may be there or not.
const JOB_TABLE: [&str; 4] = ["sexton.db", "sexton.db-wal", "sexton.db.witness", "sexton.db.witness.recent"];

fn path(site: &Site, name: &str) -> PathBuf {
    site.folder.path().join(name)
}

/// End it as whoever supervises it does.
fn stop(site: &mut Site) {
    let id = site.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(site.process.wait().unwrap().success());
}

/// Whether the command succeeds, and what it says.
fn ask(site: &Site, arguments: &[&str]) -> (bool, Value) {
    let url = format!("http://{}", site.api);
    let output =
        sexton().args(["--url", &url, "--actor", "test", "-o", "json"]).args(arguments).output().unwrap();
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), said)
}

fn verify(site: &Site, file: &Path, further: &[&str]) -> (bool, Value) {
    let (file, key) = (file.display().to_string(), path(site, "sexton.db.audit.public.toml"));
    ask(site, &[&["verify", &file, "--key", &key.display().to_string()], further].concat())
}

/// What a job table consists of that is put back alone: the witness, and what was signed, stay as they are.
const FILE: [&str; 2] = ["sexton.db", "sexton.db-wal"];

/// I15: a job table that was put back shows what it may have forgotten, and begins nothing before that was accepted.
#[test]
fn a_job_table_that_was_put_back_names_what_it_lost_and_waits_to_be_accepted() {
    let mut site = Site::start_with_days_of(2_000, 2, "[audit]\ncheckpoint_secs = 1\n");
    // It is announced five days before its date: in ten seconds.
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(10)).to_string();
    let (made, said) = site.says(&["delete", "vm/vm0001", "--on", &on, "--reason", "a test"]);
    assert!(made, "{said}");
    stop(&mut site);
    for name in FILE.into_iter().filter(|name| path(&site, name).exists()) {
        std::fs::copy(path(&site, name), path(&site, &format!("{name}.kept"))).unwrap();
    }
    site.process = serve(site.folder.path(), site.api);
    let forgotten = site.delete("vm/vm0002", None);
    let file = path(&site, "sexton.db.checkpoints");
    let signed = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the record's chain is signed", || signed().contains(&format!("{forgotten}\\\"")));
    stop(&mut site);
    let _ = std::fs::remove_file(path(&site, "sexton.db-shm"));
    for name in FILE {
        let (there, kept) = (path(&site, name), path(&site, &format!("{name}.kept")));
        let _ = std::fs::remove_file(&there);
        if kept.exists() {
            std::fs::rename(&kept, &there).unwrap();
        }
    }

    site.process = serve(site.folder.path(), site.api);
    let (_, shown) = ask(&site, &["review"]);
    assert_eq!(shown["review"]["epoch"], 2, "{shown}");
    let named = |chain: &Value| chain["chain"] == *forgotten && chain["seq"].as_i64() >= Some(1);
    assert!(shown["lost"]["chains"].as_array().unwrap().iter().any(named), "{shown}");
    assert!(shown["lost"]["not_compared"].is_null(), "{shown}");
    let (_, said) = site.says(&["review"]);
    let missing = format!("  {forgotten}: event ");
    assert!(said.contains("UNDER REVIEW") && said.contains("lost what was signed of them:"), "{said}");
    assert!(said.contains(&missing) && said.contains("was signed, and it is missing"), "{said}");
    assert!(!site.says(&["show", &forgotten]).0, "it knows nothing of that record");

    // It knows of the other one, whose announcement is long due by now.
    let other = || ask(&site, &["show", "vm/vm0001"]).1;
    let now = || ask(&site, &["health"]).1["now"].as_i64().unwrap();
    let due = other()["jobs"][0]["due_at"].as_i64().unwrap();
    until("it is due, and a few beacons have come since", || now() > due + 3_000_000);
    let waits = other();
    assert_eq!(waits["jobs"][0]["state"], "scheduled", "{waits}");
    assert_eq!(waits["trail"].as_array().unwrap().len(), 1, "nothing but its making: {waits}");
    let accepted = now();
    let (done, said) = site.says(&["review", "--accept", "--reason", "compared with the platform"]);
    assert!(done && said.contains("accepted: it goes on in epoch 2"), "{said}");
    until("it is announced", || other()["jobs"][0]["state"] == "done");
    let goes_on = other();
    assert!(goes_on["trail"][1]["event"]["at"].as_i64().unwrap() >= accepted, "{goes_on}");
    assert!(site.says(&["review"]).1.contains("no review is open"));
    let number = |id: &str| id.strip_prefix("d-").unwrap().parse::<i64>().unwrap();
    let again = site.delete("vm/vm0002", None);
    assert!(
        number(&again) > number(&forgotten),
        "{again} is called as {forgotten}, of which there is a signed trail"
    );
    assert!(site.says(&["audit"]).0, "all chains hold");
}

#[test]
fn a_history_in_the_place_of_another_one_is_named() {
    let mut site = Site::start(1, "[audit]\ncheckpoint_secs = 1\n");
    stop(&mut site);
    let there = JOB_TABLE.into_iter().filter(|name| path(&site, name).exists()).collect::<Vec<_>>();
    for name in &there {
        std::fs::copy(path(&site, name), path(&site, &format!("{name}.kept"))).unwrap();
    }
    site.process = serve(site.folder.path(), site.api);
    let record = site.delete("vm/vm0001", None);
    let file = path(&site, "sexton.db.checkpoints");
    let signed = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the record's chain is signed", || signed().contains(&format!("{record}\\\"")));
    let (holds, report) = verify(&site, &file, &[]);
    assert!(holds && report["compared"] == true && report["chains"] == 2, "{report}");
    // What is signed after the copy may be more than it has.
    let checkpoints = signed();
    let known = path(&site, "kept.checkpoints");
    std::fs::write(&known, &checkpoints[..=checkpoints.rfind('\n').unwrap()]).unwrap();
    let (copied, copy) = ask(&site, &["audit", "--of", "vm/vm0001"]);
    assert!(copied && copy["chain"] == *record && copy["events"][0]["seq"] == 1, "{copy}");
    let mut copy = copy;
    stop(&mut site);

    // What needs no server.
    let (holds, report) = verify(&site, &file, &["--offline"]);
    assert!(holds && report["compared"] == false && report["last"].as_i64() >= Some(2), "{report}");
    let kept = path(&site, "chain.json");
    let check = |copy: &Value| {
        std::fs::write(&kept, copy.to_string()).unwrap();
        verify(&site, &known, &["--offline", "--chain", &kept.display().to_string()])
    };
    let (holds, report) = check(&copy);
    assert!(holds && report["copy"]["signed"].as_i64() >= Some(1), "a whole chain, and signed: {report}");
    let body = copy["events"][0]["body"].as_str().unwrap().replace("a test", "a tent");
    copy["events"][0]["body"] = body.into();
    let (holds, report) = check(&copy);
    assert!(
        !holds && report["copy"]["why"].as_str().unwrap().contains("does not match its hash"),
        "{report}"
    );
    copy["events"] = Value::Array(Vec::new());
    let (holds, report) = check(&copy);
    assert!(!holds && report["copy"]["why"].as_str().unwrap().contains("it ends at event 0"), "{report}");
    let shorter = path(&site, "shorter");
    std::fs::write(&shorter, signed().split_once('\n').unwrap().1).unwrap();
    let (holds, report) = verify(&site, &shorter, &["--offline"]);
    assert!(!holds && report["bad"][0]["line"] == 1, "{report}");

    // Another history, under the same numbers. All of it holds, and nobody remembers the first one but the file.
    for name in JOB_TABLE {
        let _ = std::fs::remove_file(path(&site, name));
    }
    let _ = std::fs::remove_file(path(&site, "sexton.db-shm"));
    for name in &there {
        std::fs::rename(path(&site, &format!("{name}.kept")), path(&site, name)).unwrap();
    }
    let before = signed();
    site.process = serve(site.folder.path(), site.api);
    assert_eq!(site.delete("vm/vm0001", None), record, "this test is about nothing");
    let (holds, audit) = ask(&site, &["audit"]);
    assert!(holds, "{audit}");
    let (holds, report) = verify(&site, &file, &[]);
    assert!(!holds && report["bad"].as_array().unwrap().is_empty(), "{report}");
    let named = |chain: &Value| chain["chain"] == *record && chain["seq"].as_i64() >= Some(1);
    assert!(report["rewritten"].as_array().unwrap().iter().all(named), "{report}");
    assert_eq!(report["rewritten"].as_array().unwrap().len(), 1, "{report}");
    // The coordinator does not sign it either, and says so.
    until("it is told", || {
        let (_, health) = ask(&site, &["health"]);
        health["checkpoints"].as_str().is_some_and(|why| why.contains("is not what the job table holds"))
    });
    assert_eq!(signed(), before);
}
