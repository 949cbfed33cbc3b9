//! The SMTP office against a real mail server.
//!
//! Wants `SEXTON_TEST_SMTP_URL` and `SEXTON_TEST_MAILDIR`, as `scripts/components/mail up` prints them. That
//! server refuses recipients called `refuse…` for good and those called `defer…` for now.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod kit;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_model::step::{Mode, Outcome, Presence, RetryClass};
use sexton_notifier::{DriverConfig, actions, driver, smtp};
use sexton_testkit::bench::{Bench, evidence, refusal, retry};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run scripts/components/mail up DIR and pass what it prints")
    })
}

struct Office {
    state: tempfile::TempDir,
    uuid: String,
    url: String,
    timeout_ms: u64,
}

impl Office {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        // Another for each test: they all write to one mailbox.
        let uuid = uuid::Uuid::new_v4().to_string();
        Self { state, uuid, url: variable("SEXTON_TEST_SMTP_URL"), timeout_ms: 10_000 }
    }

    fn driver(&self) -> Arc<dyn Driver> {
        let config = smtp::Config {
            instance: "notifier.main".parse().unwrap(),
            url: self.url.clone(),
            user: None,
            password: None,
            password_file: None,
            from: "Sexton <sexton@example.org>".into(),
            also_tell: Vec::new(),
            state: self.state.path().to_owned(),
            timeout_ms: self.timeout_ms,
        };
        driver(DriverConfig::Smtp(config)).unwrap()
    }

    async fn announcing(&self, contacts: Value) -> Bench {
        let mut bench = Bench::new(self.driver(), actions(), &self.uuid);
        bench.attributes = json!({ "contacts": contacts });
        bench.params.insert("due".into(), json!("2026-12-01"));
        bench.params.insert("zone".into(), json!("Europe/Berlin"));
        bench.params.insert("cancel".into(), json!("Call the night watch: +49 1"));
        let outcome = bench.pin().await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        bench
    }

    /// The messages about this test's machine, whole, in the order of their numbers.
    fn mail(&self) -> Vec<String> {
        let folder = PathBuf::from(variable("SEXTON_TEST_MAILDIR")).join("new");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            // Another test's message may just be moving in.
            let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
            let text = text.replace("\r\n", "\n");
            if text.contains(&self.uuid) {
                found.push(text);
            }
        }
        found.sort_by_key(|text| (header(text, "Message-ID"), header(text, "To")));
        found
    }
}

fn header(text: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
}

/// The calendar entry, whatever its encoding was.
fn entry(text: &str) -> String {
    let (_, part) =
        text.split_once("text/calendar").unwrap_or_else(|| panic!("no calendar entry in\n{text}"));
    part.replace("=\n", "").replace("=3D", "=").replace("\n ", "")
}

/// An entry has this attendee, and no other.
fn names_alone(entry: &str, to: &str) {
    let attendees: Vec<_> = entry.lines().filter(|line| line.starts_with("ATTENDEE")).collect();
    assert!(attendees.len() == 1 && attendees[0].ends_with(&format!(":mailto:{to}")), "{attendees:?}");
}

#[tokio::test]
async fn everybody_is_told_once_and_told_otherwise_once() {
    let office = Office::new();
    let bench = office.announcing(json!(["owner@example.org", "Second <second@example.org>"])).await;
    let manifest = bench.capture("announce").await;
    for _ in 0..2 {
        let how = evidence(&bench.perform_by("announce", &manifest).await, Presence::Present);
        assert!(how.contains("owner@example.org"), "{how}");
    }
    let mail = office.mail();
    assert_eq!(mail.len(), 2);
    for (text, to) in mail.iter().zip(["second@example.org", "owner@example.org"]) {
        assert!(header(text, "To").contains(to), "{text}");
        let subject = "vm/web01 will be deleted on 1 December 2026 (Europe/Berlin)";
        assert_eq!(header(text, "Subject"), subject);
        assert_eq!(header(text, "Auto-Submitted"), "auto-generated");
        assert!(header(text, "Message-ID").ends_with(".1@example.org>"), "{text}");
        assert!(text.contains("Call the night watch"), "{text}");
        let entry = entry(text);
        for line in ["METHOD:REQUEST", "SEQUENCE:1", "DTSTART;VALUE=DATE:20261201"] {
            assert!(entry.contains(line), "{line} is missing:\n{entry}");
        }
        names_alone(&entry, to);
    }
    for _ in 0..2 {
        let outcome = bench.undo("announce", &manifest).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        let outcome = bench.ask(Mode::Verify, "announce", Some(&manifest)).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }
    let mail = office.mail();
    assert_eq!(mail.len(), 4);
    let uid = bench.targets["uid"].as_str().unwrap();
    for (text, to) in mail[2..].iter().zip(["second@example.org", "owner@example.org"]) {
        assert_eq!(header(text, "Subject"), "vm/web01 stays: its deletion was cancelled");
        assert_eq!(header(text, "In-Reply-To"), header(&mail[0], "Message-ID"));
        let entry = entry(text);
        for line in ["METHOD:CANCEL", "SEQUENCE:2", "STATUS:CANCELLED", &format!("UID:{uid}")] {
            assert!(entry.contains(line), "{line} is missing:\n{entry}");
        }
        names_alone(&entry, to);
    }
    // A stop of the announcement is final for this order.
    refusal(&bench.perform_by("announce", &manifest).await);
    assert_eq!(office.mail().len(), 4);
    // A new deletion of the same machine goes on counting.
    let again = bench.capture("announce").await;
    evidence(&bench.perform_by("announce", &again).await, Presence::Present);
    assert!(office.mail().iter().any(|text| text.contains("SEQUENCE:3")));
}

#[tokio::test]
async fn one_bad_address_keeps_nobody_elses_mail_away() {
    let office = Office::new();
    let bench = office.announcing(json!(["refuse@example.org", "owner@example.org"])).await;
    let manifest = bench.capture("announce").await;
    for _ in 0..2 {
        let why = retry(&bench.perform_by("announce", &manifest).await, RetryClass::Failed);
        assert!(why.contains("refuse@example.org was rejected") && why.contains("550"), "{why}");
        assert_eq!(office.mail().len(), 1);
    }
    // Who never got it is not told otherwise either.
    let outcome = bench.undo("announce", &manifest).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    let mail = office.mail();
    assert_eq!(mail.len(), 2);
    assert!(mail.iter().all(|text| header(text, "To") == "owner@example.org"));
}

#[tokio::test]
async fn later_spends_no_attempt() {
    let office = Office::new();
    let bench = office.announcing(json!(["defer@example.org"])).await;
    let manifest = bench.capture("announce").await;
    let why = retry(&bench.perform_by("announce", &manifest).await, RetryClass::Spared);
    assert!(why.contains("451"), "{why}");
    assert_eq!(office.mail().len(), 0);
}

#[tokio::test]
async fn a_server_that_is_down_spends_no_attempt() {
    // Bound and closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let office = Office { url: format!("smtp://127.0.0.1:{port}"), ..Office::new() };
    let bench = office.announcing(json!(["owner@example.org"])).await;
    let manifest = bench.capture("announce").await;
    retry(&bench.perform_by("announce", &manifest).await, RetryClass::Spared);
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", silent.local_addr().unwrap());
    let office = Office { url, timeout_ms: 300, ..Office::new() };
    let bench = office.announcing(json!(["owner@example.org"])).await;
    let manifest = bench.capture("announce").await;
    let why = retry(&bench.perform_by("announce", &manifest).await, RetryClass::Failed);
    assert!(why.contains("owner@example.org"), "{why}");
}
