//! A notice that cannot be delivered, as an operator sees it: the mail server is a real socket, of which nobody is there
//! at first.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use site::{Site, free_port, get};
use waiting::until;

/// Long enough for what is to be seen before three of them are over.
const DAY_MS: u32 = 3_000;

/// `sexton serve` whose notifier sends its mail to this address, and one machine that is announced now.
fn announcing() -> (Site, SocketAddr) {
    let relay = free_port();
    let notifier = format!(
        "driver = \"smtp\"\nurl = \"smtp://{relay}\"\nfrom = \"sexton@example.org\"\nstate = \"spool\""
    );
    let site = Site::start_in_days_of(DAY_MS, 1, Some(&notifier), "");
    site.delete("vm/vm0001", None);
    (site, relay)
}

fn record(site: &Site) -> Value {
    serde_json::from_str(&get(site.api, "/v1/deletions/vm/vm0001").unwrap().1).unwrap()
}

/// Microseconds since 1970 of a moment in the record.
fn moment(of: &Value) -> i64 {
    of.as_i64().unwrap_or_else(|| panic!("no moment: {of}"))
}

/// The announcement has ended, and soft begins no sooner than the notice period, five days, after that.
fn soft_waits(site: &Site) {
    let seen = record(site);
    let ended = moment(&seen["jobs"][0]["ended_at"]);
    let due = moment(&seen["jobs"][1]["due_at"]);
    assert!(due - ended >= 5 * i64::from(DAY_MS) * 1000, "{seen}");
}

/// As much of a mail server as a client needs that has nothing to hide: it takes every message. What it has taken.
fn take_mail(at: SocketAddr) -> Arc<Mutex<String>> {
    let listener = TcpListener::bind(at).unwrap();
    let taken = Arc::new(Mutex::new(String::new()));
    let mail = taken.clone();
    std::thread::spawn(move || listener.incoming().for_each(|client| serve(client.unwrap(), &mail)));
    taken
}

fn serve(mut client: TcpStream, mail: &Mutex<String>) {
    let lines = BufReader::new(client.try_clone().unwrap()).lines();
    let mut text = false;
    let _ = client.write_all(b"220 relay\r\n");
    for line in lines.map_while(Result::ok) {
        let answer = match line.get(..4) {
            _ if text && line != "." => {
                // A long line is broken in two by a sign at its end.
                let (line, end) = line.strip_suffix('=').map_or((&*line, "\n"), |line| (line, ""));
                *mail.lock().unwrap() += &format!("{line}{end}");
                continue;
            }
            Some("DATA") => "354 go on",
            Some("QUIT") => return,
            _ => "250 taken",
        };
        text = answer.starts_with("354");
        let _ = client.write_all(format!("{answer}\r\n").as_bytes());
    }
}

#[test]
fn a_mail_that_cannot_be_delivered_delays_the_deletion_and_says_so() {
    let (site, relay) = announcing();
    until("it fails", || site.says(&["show", "vm/vm0001"]).1.contains("not everybody could be told since"));
    let shown = site.says(&["show", "vm/vm0001"]).1;
    assert!(shown.contains("untold      notifier.announce (announce): failed first at "), "{shown}");
    assert_eq!(record(&site)["jobs"][1]["state"], json!("scheduled"));
    let mail = take_mail(relay);
    let back = Instant::now();
    until("it is delivered", || record(&site)["jobs"][0]["state"] == json!("done"));
    let mail = mail.lock().unwrap().clone();
    let offer = mail.lines().find(|line| line.starts_with("What a cancel restores: everything"));
    assert!(offer.is_some_and(|line| line.contains("; at least until 2")), "until when, too:\n{mail}");
    assert!(back.elapsed().as_millis() < 3 * u128::from(DAY_MS), "nobody had to do anything");
    soft_waits(&site);
}

#[test]
fn after_three_days_somebody_acknowledges_that_everybody_was_told_otherwise() {
    let (site, _) = announcing();
    until("it fails", || site.says(&["show", "vm/vm0001"]).1.contains("not everybody could be told since"));
    let reason = ["acknowledge", "vm/vm0001", "--reason", "called the owner by phone"];
    let (done, said) = site.says_to("boss", &reason);
    assert!(!done && said.contains("still tried: it can be acknowledged from"), "{said}");
    until("it is parked", || record(&site)["jobs"][0]["state"] == json!("parked"));
    let shown = site.says(&["show", "vm/vm0001"]).1;
    let seen = record(&site);
    let mark = seen["mark"].as_str().unwrap();
    assert!(shown.contains(&format!("sexton acknowledge d-1 --mark {mark} --reason")), "{shown}");
    let acknowledge = |by: &str| site.says_to(by, &[&reason[..], &["--mark", mark]].concat());
    let untold = moment(&seen["waivers"][0]["at"]);
    let parked = moment(&seen["trail"].as_array().unwrap().last().unwrap()["event"]["at"]);
    assert!(parked - untold >= 3 * i64::from(DAY_MS) * 1000, "{seen}");
    let waive = ["waive", "vm/vm0001", "--absent", "--mark", mark, "--evidence", "in a hurry"];
    let (done, said) = site.says(&waive);
    assert!(!done && said.contains("a notice is not waived"), "{said}");
    let told = json!({ "claim": "told", "mark": mark, "evidence": "x" });
    let (status, answer) = site.post("/v1/deletions/d-1/waive", "", &told.to_string());
    assert!(status == 409 && answer.contains("a notice is not waived"), "{answer}");
    let unreasoned = json!({ "mark": mark, "reason": " " });
    for (body, lacks) in [(unreasoned, "reason"), (json!({ "reason": "called" }), "mark")] {
        let (status, answer) = site.post("/v1/deletions/d-1/acknowledge", "", &body.to_string());
        assert!(status == 422 && answer.contains(lacks), "{answer}");
    }
    let (done, said) = acknowledge("test");
    let own = "test requested this deletion: somebody else has to say that everybody was told otherwise";
    assert!(!done && said.contains(own), "{said}");
    assert!(site.says(&["-o", "json", "audit", "--access"]).1.contains(own), "it is written down");
    let (done, said) = acknowledge("boss");
    assert!(done && said.contains("counts as delivered"), "{said}");
    soft_waits(&site);
    let shown = site.says(&["show", "vm/vm0001", "--trail"]).1;
    assert!(shown.contains("\"told otherwise\" by boss: called the owner by phone"), "{shown}");
    assert!(shown.contains("acknowledged"), "{shown}");
    let (done, said) = acknowledge("boss");
    assert!(!done && said.contains("nothing to acknowledge"), "{said}");
    assert!(site.says(&["audit"]).0);
}

#[test]
fn a_mail_that_comes_back_holds_soft_until_somebody_acknowledges() {
    let (site, relay) = announcing();
    take_mail(relay);
    let bounced = || site.says(&["bounced", "vm/vm0001", "--reason", "owner@example.org: no such box"]);
    until("it is delivered", || record(&site)["jobs"][0]["state"] == json!("done"));
    let (done, said) = bounced();
    assert!(done && said.contains("does not count as delivered"), "{said}");
    let (done, said) = bounced();
    assert!(!done && said.contains("it is known that the notice came back"), "{said}");
    until("soft is due, and held", || record(&site)["jobs"][1]["state"] == json!("held"));
    let shown = site.says(&["show", "vm/vm0001"]).1;
    assert!(shown.contains("came back   notifier.announce (announce) at "), "{shown}");
    assert!(shown.contains("the notice came back at"), "{shown}");
    let reason = ["acknowledge", "vm/vm0001", "--reason", "called them by phone"];
    let acknowledge = |mark: &str| site.says_to("boss", &[&reason[..], &["--mark", mark]].concat());
    let mark = || record(&site)["mark"].as_str().unwrap().to_owned();
    let seen = mark();
    assert!(site.says(&["bounced", "vm/vm0001", "--reason", "deputy@example.org: no such box"]).0);
    until("three days have passed", || {
        let (done, said) = acknowledge(&seen);
        assert!(!done, "the deputy was not known of when that was looked at: {said}");
        let early = said.contains("the notice came back: it can be acknowledged from");
        assert!(early || said.contains("is not what was looked at"), "{said}");
        !early
    });
    // Whoever names nothing is shown whom it did not reach.
    let (done, said) = site.says_to("boss", &reason);
    let all = ["owner@example.org", "deputy@example.org", &format!("Say --mark {}", mark())];
    assert!(!done && all.iter().all(|part| said.contains(part)), "{said}");
    let (done, said) = acknowledge(&mark());
    assert!(done, "{said}");
    let acknowledged = record(&site);
    let told = acknowledged["waivers"].as_array().unwrap().last().unwrap().clone();
    let bounced_at = moment(&acknowledged["waivers"][0]["at"]);
    assert!(moment(&told["at"]) - bounced_at >= 3 * i64::from(DAY_MS) * 1000, "{acknowledged}");
    let due = moment(&acknowledged["jobs"][1]["due_at"]);
    assert!(due - moment(&told["at"]) >= 5 * i64::from(DAY_MS) * 1000, "{acknowledged}");
}

/// A report that the notice about this machine reached nobody, as a mail server writes it.
fn report(machine: &str) -> String {
    format!(
        "From: MAILER-DAEMON@relay\nSubject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"part\"\n\n\
         --part\nContent-Type: text/plain\n\nIt could not be delivered.\n\n\
         --part\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay\n\n\
         Final-Recipient: rfc822; owner@example.org\nAction: failed\nStatus: 5.1.1\n\n\
         --part\nContent-Type: text/rfc822-headers\n\n\
         Subject: {machine} will be deleted on 1 December 2026 (Europe/Berlin)\n\n--part--\n"
    )
}

/// The program of deploy/README.md that reads such mail, for this site.
fn reader(site: &Site) -> PathBuf {
    let text = include_str!("../../../deploy/README.md");
    let (_, program) = text.split_once("#!/usr/bin/env python3\n").unwrap();
    let (program, _) = program.split_once("\n```\n").unwrap();
    let token = ", SEXTON_TOKEN_FILE=\"/etc/sexton/bounced.token\"";
    let (url, installed) = ("http://127.0.0.1:8470", "/usr/local/bin/sexton");
    assert!([token, url, installed].iter().all(|part| program.contains(part)), "{program}");
    let program = program
        .replace(token, ", SEXTON_ACTOR=\"postmaster\"")
        .replace(url, &format!("http://{}", site.api))
        .replace(installed, env!("CARGO_BIN_EXE_sexton"));
    let file = site.folder.path().join("bounced.py");
    std::fs::write(&file, program).unwrap();
    file
}

/// What the mail server is told by it: 0 that it was taken, 75 that it is to be tried again.
fn read_mail(program: &Path, mail: &str) -> Option<i32> {
    let mut python = Command::new("python3").arg(program).stdin(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(mail.as_bytes()).unwrap();
    python.wait().unwrap().code()
}

#[test]
fn a_mail_that_comes_back_is_tried_again_only_if_that_changes_the_answer() {
    let (site, relay) = announcing();
    let program = reader(&site);
    let read = || read_mail(&program, &report("vm/vm0001"));
    assert_eq!(read(), Some(75), "its consumer has not said yet that it was sent");
    assert_eq!(read_mail(&program, &report("vm/nobody")), Some(0), "there is no record of it");
    take_mail(relay);
    until("it is delivered", || record(&site)["jobs"][0]["state"] == json!("done"));
    let came_back = || site.says(&["show", "vm/vm0001"]).1.matches("came back   notifier.announce").count();
    assert_eq!(came_back(), 0);
    assert_eq!([read(), read()], [Some(0); 2], "it is taken, and then known");
    assert_eq!(came_back(), 1);
    let (done, said) = site.says(&["cancel", "vm/vm0001", "--reason", "it is still needed"]);
    assert!(done, "{said}");
    assert_eq!(read(), Some(0), "the record is over");
    assert_eq!(came_back(), 1);
}
