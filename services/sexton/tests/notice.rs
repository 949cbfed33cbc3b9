//! A notice that cannot be delivered, as an operator sees it: the mail server is a real socket, of which nobody is there
//! at first.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
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
    let acknowledge = || site.says_to("boss", &reason);
    let (done, said) = acknowledge();
    assert!(!done && said.contains("still tried: it can be acknowledged from"), "{said}");
    until("it is parked", || record(&site)["jobs"][0]["state"] == json!("parked"));
    let shown = site.says(&["show", "vm/vm0001"]).1;
    assert!(shown.contains("sexton acknowledge d-1 --reason"), "{shown}");
    let seen = record(&site);
    let untold = moment(&seen["waivers"][0]["at"]);
    let parked = moment(&seen["trail"].as_array().unwrap().last().unwrap()["event"]["at"]);
    assert!(parked - untold >= 3 * i64::from(DAY_MS) * 1000, "{seen}");
    let (done, said) = site.says(&["waive", "vm/vm0001", "--absent", "--evidence", "in a hurry"]);
    assert!(!done && said.contains("a notice is not waived"), "{said}");
    let (status, answer) =
        site.post("/v1/deletions/d-1/waive", "", &json!({ "claim": "told", "evidence": "x" }).to_string());
    assert!(status == 409 && answer.contains("a notice is not waived"), "{answer}");
    let (status, answer) = site.post("/v1/deletions/d-1/acknowledge", "", "{\"reason\": \" \"}");
    assert!(status == 422 && answer.contains("reason"), "{answer}");
    let (done, said) = site.says(&reason);
    let own = "test requested this deletion: somebody else has to say that everybody was told otherwise";
    assert!(!done && said.contains(own), "{said}");
    assert!(site.says(&["-o", "json", "audit", "--access"]).1.contains(own), "it is written down");
    let (done, said) = acknowledge();
    assert!(done && said.contains("counts as delivered"), "{said}");
    soft_waits(&site);
    let shown = site.says(&["show", "vm/vm0001", "--trail"]).1;
    assert!(shown.contains("\"told otherwise\" by boss: called the owner by phone"), "{shown}");
    assert!(shown.contains("acknowledged"), "{shown}");
    let (done, said) = acknowledge();
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
    // By these words the program that reads such mail tells that nothing is left to be tried again.
    let known = "it is known that the notice came back";
    let (done, said) = bounced();
    assert!(!done && said.contains(known), "{said}");
    assert!(include_str!("../../../deploy/README.md").contains(&format!("\"{known}\" not in said.stderr")));
    until("soft is due, and held", || record(&site)["jobs"][1]["state"] == json!("held"));
    let shown = site.says(&["show", "vm/vm0001"]).1;
    assert!(shown.contains("came back   notifier.announce (announce) at "), "{shown}");
    assert!(shown.contains("the notice came back at"), "{shown}");
    until("three days have passed", || {
        let arguments = ["acknowledge", "vm/vm0001", "--reason", "called the owner by phone"];
        let (done, said) = site.says_to("boss", &arguments);
        assert!(done || said.contains("the notice came back: it can be acknowledged from"), "{said}");
        done
    });
    let acknowledged = record(&site);
    let told = acknowledged["waivers"].as_array().unwrap().last().unwrap().clone();
    let bounced_at = moment(&acknowledged["waivers"][0]["at"]);
    assert!(moment(&told["at"]) - bounced_at >= 3 * i64::from(DAY_MS) * 1000, "{acknowledged}");
    let due = moment(&acknowledged["jobs"][1]["due_at"]);
    assert!(due - moment(&told["at"]) >= 5 * i64::from(DAY_MS) * 1000, "{acknowledged}");
}
