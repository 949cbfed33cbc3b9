//! The arguments of the command line, who gives them, and who reads the answer.
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::served::{Served, said, sexton};
use serde_json::json;

#[test]
fn bad_arguments_name_the_argument_and_what_was_expected() {
    for (arguments, parts) in [
        (vec!["delete", "web01", "--on", "2030-01-01", "--reason", "x"], vec!["RESOURCE", "vm/"]),
        (vec!["delete", "vm/a", "--on", "tomorrow", "--reason", "x"], vec!["--on", "YYYY-MM-DD"]),
        (vec!["delete", "vm/a", "--on", "2030-02-30", "--reason", "x"], vec!["--on", "no such date"]),
        (
            vec!["delete", "vm/a", "--on", "2030-01-01", "--reason", "x", "--zone", "Mars"],
            vec!["--zone", "IANA"],
        ),
        (vec!["delete", "vm/a", "--reason", "x"], vec!["--on"]),
        (vec!["waive", "d-1", "--evidence", "x"], vec!["--absent"]),
        (vec!["waive", "d-1", "--absent", "--may-remain", "--evidence", "x"], vec!["--may-remain"]),
        (vec!["waive", "d-1", "--belongs", "ab12", "--mark", "cd34", "--evidence", "x"], vec!["--mark"]),
        (vec!["list", "--status", "gone"], vec!["--status", "recycled"]),
        (vec!["list", "--state", "gone"], vec!["--state", "parked"]),
        (vec!["list", "--limit", "many"], vec!["--limit"]),
        (vec!["pause", "--stage", "later", "--reason", "x"], vec!["--stage", "announce"]),
        (vec!["resume", "first"], vec!["PAUSE"]),
        (vec!["keys"], vec!["--instances"]),
        (vec!["keys", "folder", "--instances", "dns"], vec!["--instances", "dns"]),
        (vec!["keys", "rotate"], vec!["HOLDER"]),
        (vec!["keys", "rotate", "dns.main", "--folder", "no/keys"], vec!["no/keys"]),
        (vec!["import", "no/such.jsonl"], vec!["no/such.jsonl"]),
        (vec!["register", "no/such.json"], vec!["no/such.json"]),
        (vec!["-o", "xml", "list"], vec!["xml", "json"]),
    ] {
        let output = sexton(&arguments);
        let said = said(&output);
        assert!(!output.status.success(), "{arguments:?}: it was taken");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: expected {part:?} in: {said}");
        }
    }
}

#[test]
fn an_address_where_nobody_is_and_one_that_is_none_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let said_of = |url: &str| said(&sexton(&["--url", url, "health"]));
    let missing = said_of(&url);
    assert!(
        missing.contains(&format!("is it running at {url}?")) && missing.contains("SEXTON_URL"),
        "{missing}"
    );
    for nonsense in ["nonsense", "localhost:8470", "http://", "ftp://127.0.0.1"] {
        let said = said_of(nonsense);
        assert!(
            said.contains("SEXTON_URL") && said.contains("expected one such as http://"),
            "{nonsense}: {said}"
        );
    }
}

#[test]
fn who_asks_is_taken_from_the_user_and_asked_for_only_if_something_changes() {
    let served = Served::start();
    let (url, nowhere) = (format!("http://{}", served.address), tempfile::tempdir().unwrap());
    let run = |path: &std::ffi::OsStr, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sexton"));
        command.env_clear().env("PATH", path).env("SEXTON_URL", &url).args(arguments);
        command.output().unwrap()
    };
    let path = std::env::var_os("PATH").unwrap();
    let me = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let paused = run(&path, &["pause", "--reason", "x"]);
    assert!(paused.status.success(), "{}", said(&paused));
    assert_eq!(served.get("/v1/pauses").1[0]["by"], json!(me.trim()));
    // Where even `id` is not found.
    let path = nowhere.path().as_os_str();
    assert!(run(path, &["health"]).status.success());
    let refused = run(path, &["resume", "1"]);
    let refused = (refused.status.success(), said(&refused));
    assert!(!refused.0 && refused.1.contains("SEXTON_ACTOR"), "{refused:?}");
    assert!(!refused.1.contains("environment variable not found"), "{refused:?}");
    assert_eq!(served.get("/v1/pauses").1.as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for arguments in [&["completions", "zsh"][..], &["completions", "bash"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sexton"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        assert_eq!(said(&output), "", "{arguments:?}");
    }
}
