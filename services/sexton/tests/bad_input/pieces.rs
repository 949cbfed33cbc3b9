//! Inventories that take several requests: how large those are, and what is said if one of them fails. Asked is a coordinator
//! that answers as a test tells it.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::served::{resource, sexton, with};

/// Largest request that is one of several.
const PIECE_MAX_BYTES: usize = 8 << 20;

/// Body of a request to register, and how many bytes it had.
struct Sent {
    bytes: usize,
    body: Value,
}

impl Sent {
    fn resources(&self) -> usize {
        self.body["resources"].as_array().unwrap().len()
    }

    /// All of them are registered, or could be.
    fn good(&self) -> (u16, Value) {
        (200, json!({"results": vec![Value::Null; self.resources()]}))
    }
}

/// Listens until the test ends, and answers each request as `answer` says, which is told how many came before.
fn coordinator(
    answer: impl Fn(usize, &Sent) -> (u16, Value) + Send + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<Sent>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Sent>>>::default());
    let seen = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let one = request(&mut stream);
            let mut all = seen.lock().unwrap();
            let (status, body) = answer(all.len(), &one);
            all.push(one);
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
    });
    (address, sent)
}

fn request(stream: &mut TcpStream) -> Sent {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    Sent { bytes: body.len(), body: serde_json::from_slice(&body).unwrap() }
}

/// Import these lines there, as a program reads it: whether it was good, what came of them, and what was complained of.
fn import(to: SocketAddr, lines: &[String], how: &[&str]) -> (bool, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let url = format!("http://{to}");
    let output =
        sexton(&[&["--url", url.as_str(), "-o", "json", "import", file.to_str().unwrap()], how].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.success(), answer, String::from_utf8(output.stderr).unwrap())
}

/// So many lines with so many bytes of attributes each.
fn inventory(lines: usize, bytes: usize) -> Vec<String> {
    let one = |n: usize| {
        let notes = json!({"dns": {"none": true}, "notifier": {"notes": "x".repeat(bytes)}});
        with(resource(&format!("vm{n:05}")), "attributes", notes).to_string()
    };
    (0..lines).map(one).collect()
}

#[test]
fn no_request_is_larger_than_what_is_taken() {
    // Far fewer than one request may have, but more than twice as many bytes as a piece may.
    let lines = inventory(1_200, 15_000);
    for how in [&["--skip-bad"][..], &["--dry-run"]] {
        let (address, sent) = coordinator(|_, sent| sent.good());
        let (good, answer, said) = import(address, &lines, how);
        assert!(good && said.is_empty(), "{how:?}: {said}");
        assert_eq!(answer["bad"], json!([]), "{how:?}");
        let sent = sent.lock().unwrap();
        assert!(sent.len() > 2, "{how:?}: {}", sent.len());
        assert_eq!(sent.iter().map(Sent::resources).sum::<usize>(), lines.len(), "{how:?}");
        assert!(sent.iter().all(|one| one.bytes <= PIECE_MAX_BYTES), "{how:?}");
    }
    // All or nothing is one request, whatever it takes.
    let (address, sent) = coordinator(|_, sent| sent.good());
    let (good, answer, said) = import(address, &lines, &[]);
    assert!(good && said.is_empty(), "{said}");
    assert_eq!((&answer["imported"], sent.lock().unwrap().len()), (&json!(lines.len()), 1));
    let (good, _, said) = import(address, &inventory(2_400, 15_000), &[]);
    assert!(!good && said.contains("33554432 bytes, at once") && said.contains("--skip-bad"), "{said}");
    assert_eq!(sent.lock().unwrap().len(), 1, "nothing was sent");
}

#[test]
fn what_was_imported_is_said_also_if_what_comes_behind_it_fails() {
    let mut lines = inventory(10_002, 0);
    lines[1] = "{\"id\":7}".to_owned();
    let refused = json!({"status": 413, "title": "Payload Too Large", "detail": "it is full"});
    // The second request fails; of the first one a line is refused.
    let answer = move |before: usize, sent: &Sent| {
        let (status, mut body) = sent.good();
        body["results"][0] = json!("there is no plan");
        if before == 0 { (status, body) } else { (413, refused.clone()) }
    };
    let ways: [(&[&str], usize, &str); 2] = [
        (&["--skip-bad"], 9_999, "lines from 10002 on are not known to be imported"),
        (&["--dry-run"], 0, "lines from 10002 on were not checked"),
    ];
    for (how, imported, unknown) in ways {
        let (address, _) = coordinator(answer.clone());
        let (good, answer, said) = import(address, &lines, how);
        assert!(!good && said.contains(unknown) && said.contains("it is full"), "{how:?}: {said}");
        assert_eq!((&answer["lines"], &answer["imported"]), (&json!(10_002), &json!(imported)), "{how:?}");
        let bad: Vec<_> = answer["bad"].as_array().unwrap().iter().map(|bad| &bad["line"]).collect();
        assert_eq!(bad, [&json!(1), &json!(2)], "{how:?}: {answer}");
    }
    // Where nothing is known, only the failure is said.
    let (address, _) =
        coordinator(|_, _| (413, json!({"status": 413, "title": "so", "detail": "it is full"})));
    let (good, answer, said) = import(address, &inventory(2, 0), &["--skip-bad"]);
    assert!(!good && answer.is_null() && said.contains("it is full"), "{said}");
}
