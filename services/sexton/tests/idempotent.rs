//! Requests under a key, on a served program: done once, whoever sends them again and whoever dies in between.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[allow(dead_code, reason = "a site of machines is not needed here")]
mod site;
mod waiting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};
use site::LOSE;

const KEEP: &str = "DROP TRIGGER lose";

/// A running `sexton serve` that nobody else talks to.
struct Served {
    api: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
    head: String,
}

impl Answer {
    fn replayed(&self) -> bool {
        self.head.contains("idempotent-replayed: true")
    }

    fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

impl Served {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these lines more in its configuration.
    fn start_with(further: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api = site::free_port();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap();
        let mut config = format!(
            "[ledger]\nsqlite = \"sexton.db\"\n[api]\nlisten = \"{api}\"\n[plans]\nfolder = \"{0}/plans\"\n\
             subsystems = \"{0}/subsystems\"\n",
            deploy.display()
        );
        for name in ["hypervisor", "ipam", "dns", "backup", "monitoring", "notifier", "accounting", "config"]
        {
            config.push_str(&format!(
                "[consumers.\"{name}.main\"]\ndriver = \"sandbox\"\nroot = \"platform\"\n"
            ));
        }
        config.push_str(further);
        std::fs::write(folder.path().join("sexton.toml"), config).unwrap();
        let process = site::serve(folder.path(), api);
        Self { api, folder, process }
    }

    /// Kill it where it stands, and start it again.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = site::serve(self.folder.path(), self.api);
    }

    fn sql(&self, sql: &str) {
        site::sql(self.folder.path(), sql);
    }

    fn ask(&self, headers: &str, method: &str, path: &str, body: &Value) -> Answer {
        let mut stream = TcpStream::connect(self.api).unwrap();
        stream.write_all(self.request(headers, method, path, body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null), head: head.to_lowercase() }
    }

    fn request(&self, headers: &str, method: &str, path: &str, body: &Value) -> String {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}",
            self.api,
        )
    }

    /// As `root`, under a key.
    fn under(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(&format!("sexton-actor: root\r\nidempotency-key: {key}\r\n"), method, path, body)
    }

    /// As `root`.
    fn get(&self, path: &str) -> Value {
        self.ask("sexton-actor: root\r\n", "GET", path, &Value::Null).body
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("sexton-actor: root\r\n", "POST", path, body)
    }

    fn pauses(&self) -> usize {
        self.get("/v1/pauses").as_array().unwrap().len()
    }

    fn register(&self, name: &str) {
        let answer = self.post("/v1/resources", &json!({ "resources": [resource(name)], "whole": true }));
        assert_eq!((answer.status, &answer.body["results"]), (200, &json!([null])), "{answer:?}");
    }
}

fn resource(name: &str) -> Value {
    json!({
        "id": format!("vm/{name}"), "scope": "tenants/acme", "identity": {"uuid": name},
        "criticality": "irreplaceable",
        "attributes": {"dns": {"none": true}, "ipam": {"none": true}, "notifier": {"none": true}},
    })
}

fn deletion(name: &str) -> Value {
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    json!({ "resource": format!("vm/{name}"), "on": on, "reason": "a test" })
}

fn reason() -> Value {
    json!({ "reason": "a test" })
}

/// Every kind of change, in an order in which each may be made, once. What is asked for, and what it takes from the
/// answers so far.
struct Change {
    key: &'static str,
    method: &'static str,
    path: String,
    body: Value,
}

/// Send one change after the other, with what `after` does to each, and compare what is answered then.
fn each_change(served: &mut Served, mut after: impl FnMut(&mut Served, &Change, &Answer)) {
    let digest = json!({ "digest": "x", "reason": "a test" });
    let change = |key, method, path: &str, body| Change { key, method, path: path.to_owned(), body };
    served.register("web01");
    served.register("other");
    let other =
        served.post("/v1/deletions", &deletion("other")).body["deletion"].as_str().unwrap().to_owned();
    let whole = json!({ "resources": [resource("web02"), resource("web03")], "whole": true });
    let half = json!({ "resources": [resource("web04"), { "id": "vm/web05", "scope": "x", "identity": {"uuid": "x"},
        "criticality": "reproducible" }], "whole": false });
    let token = json!({ "name": "ci", "role": "viewer", "everywhere": true });
    let shot = json!({ "deletion": other, "stage": "announce", "belt": "ceiling", "reason": "a test", "break_glass": true });
    let changes = [
        change("register", "POST", "/v1/resources", whole),
        change("register-half", "POST", "/v1/resources", half),
        change("priority", "PUT", "/v1/resources/vm/web01/priority", json!({ "priority": 7 })),
        change("hold-resource", "POST", "/v1/resources/vm/web01/holds", reason()),
        change("release-resource", "DELETE", "/v1/resources/vm/web01/holds?origin=root", Value::Null),
        change("create", "POST", "/v1/deletions", deletion("web01")),
        change("create-again", "POST", "/v1/deletions", deletion("web01")),
        change("hold", "POST", &format!("/v1/deletions/{other}/holds"), reason()),
        change("retry", "POST", &format!("/v1/deletions/{other}/retry"), json!({})),
        change(
            "waive",
            "POST",
            &format!("/v1/deletions/{other}/waive"),
            json!({ "claim": "absent", "mark": "ab12", "evidence": "x" }),
        ),
        change("override", "POST", "/v1/overrides", shot),
        change("take-back", "DELETE", "/v1/overrides/1", Value::Null),
        change("pause", "POST", "/v1/pauses", reason()),
        change("resume", "DELETE", "/v1/pauses/1", Value::Null),
        change(
            "ceiling",
            "POST",
            "/v1/ceilings",
            json!({ "everywhere": true, "to": "announce", "reason": "a test" }),
        ),
        change("approve", "POST", "/v1/batches/99/approve", digest),
        change("review", "POST", "/v1/review/accept", json!({ "epoch": 9, "reason": "x" })),
        change("token", "POST", "/v1/tokens", token),
        change("revoke", "DELETE", "/v1/tokens/ci", Value::Null),
        change("cancel", "POST", &format!("/v1/deletions/{other}/cancel"), reason()),
        change(
            "cancel-all",
            "POST",
            "/v1/cancellations",
            json!({ "scope": "tenants/acme", "reason": "a test" }),
        ),
    ];
    for change in &changes {
        let answer = served.under(change.key, change.method, &change.path, &change.body);
        assert!(answer.status < 500 && !answer.replayed(), "{}: {answer:?}", change.key);
        after(served, change, &answer);
    }
}

/// What must be so after all changes, each once.
fn each_was_made_once(served: &Served) {
    assert_eq!(served.pauses(), 0);
    let web01 = served.get("/v1/resources/vm/web01");
    assert_eq!((&web01["resource"]["priority"], &web01["holds"]), (&json!(7), &Value::Null), "{web01}");
    let other = served.get("/v1/deletions/vm/other");
    assert_eq!(other["trail"].as_array().unwrap().len(), 3, "made, held, cancelled: {other}");
    let overrides = served.get("/v1/overrides");
    assert_eq!(overrides.as_array().unwrap().len(), 0, "{overrides}");
    let access = served.get("/v1/audit/access?after=0");
    // What was refused is written down each time that it is asked for.
    let changed = access["events"].as_array().unwrap().iter().filter(|event| event["what"] != "refused");
    assert_eq!(changed.count(), 2, "issued, revoked: {access}");
}

#[test]
fn the_same_request_is_answered_the_same() {
    let mut served = Served::start();
    each_change(&mut served, |served, change, first| {
        let again = served.under(change.key, change.method, &change.path, &change.body);
        assert!(again.replayed(), "{}: {again:?}", change.key);
        if change.key == "token" {
            assert_eq!(again.status, 409);
            assert!(again.detail().contains("its secret was in that answer alone"), "{again:?}");
            return;
        }
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{}", change.key);
        let kind = if first.status < 300 { "application/json" } else { "application/problem+json" };
        assert!(again.head.contains(&format!("content-type: {kind}")), "{again:?}");
    });
    each_was_made_once(&served);
    // A secret that was shown once is nowhere.
    let body = json!({ "name": "secret", "role": "viewer", "everywhere": true });
    let issued = served.under("one more", "POST", "/v1/tokens", &body);
    assert_eq!(issued.status, 422, "a space is no part of a key: {issued:?}");
    let issued = served.under("one-more", "POST", "/v1/tokens", &body);
    let secret = issued.body["secret"].as_str().unwrap();
    for file in ["sexton.db", "sexton.db-wal", "log"] {
        let bytes = std::fs::read(served.folder.path().join(file)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{file}");
    }
}

#[test]
fn killed_between_the_change_and_its_answer_it_is_done_once() {
    let mut served = Served::start();
    served.sql(LOSE);
    each_change(&mut served, |served, change, first| {
        // The process that has answered still holds the key: for all it knows somebody is at work on it.
        let busy = served.under(change.key, change.method, &change.path, &change.body);
        assert_eq!(busy.status, 409, "{}: {busy:?}", change.key);
        assert!(busy.head.contains("retry-after: 1"), "{busy:?}");
        assert_eq!(busy.body["field"], "Idempotency-Key", "{busy:?}");
        served.restart();
        let again = served.under(change.key, change.method, &change.path, &change.body);
        assert!(!again.replayed(), "{}: its answer was not kept", change.key);
        match change.key {
            "token" => assert_eq!(again.status, 409, "{again:?}"),
            // What is cancelled twice says so, and is cancelled once.
            "cancel-all" => assert_eq!(again.status, 200, "{again:?}"),
            _ => assert_eq!((again.status, &again.body), (first.status, &first.body), "{}", change.key),
        }
        served.sql(KEEP);
        served.restart();
        let kept = served.under(change.key, change.method, &change.path, &change.body);
        if change.key != "cancel-all" {
            assert_eq!((kept.status, &kept.body), (again.status, &again.body), "{}", change.key);
        }
        served.sql(LOSE);
    });
    served.sql(KEEP);
    each_was_made_once(&served);
}

#[test]
fn a_key_is_one_requests_and_one_actors() {
    let served = Served::start();
    assert_eq!(served.under("k", "POST", "/v1/pauses", &reason()).status, 201);
    for (method, path, body) in [
        ("POST", "/v1/pauses", json!({ "reason": "another" })),
        ("POST", "/v1/pauses?x=y", reason()),
        ("DELETE", "/v1/pauses/1", Value::Null),
    ] {
        let other = served.under("k", method, path, &body);
        assert_eq!((other.status, &other.body["field"]), (422, &json!("Idempotency-Key")), "{other:?}");
        assert!(other.detail().contains("another request"), "{other:?}");
    }
    assert_eq!(served.pauses(), 1);
    let elses = served.ask("sexton-actor: boss\r\nidempotency-key: k\r\n", "POST", "/v1/pauses", &reason());
    assert_eq!((elses.status, served.pauses()), (201, 2));
    let long = "k".repeat(129);
    for wrong in ["", &long, "a b", "\u{e4}"] {
        let refused = served.under(wrong, "POST", "/v1/pauses", &reason());
        assert_eq!((refused.status, &refused.body["field"]), (422, &json!("Idempotency-Key")), "{wrong:?}");
    }
    let twice = served.ask(
        "sexton-actor: root\r\nidempotency-key: a\r\nidempotency-key: b\r\n",
        "POST",
        "/v1/pauses",
        &reason(),
    );
    assert_eq!(twice.status, 422, "{twice:?}");
    // Who may not is told so each time, and may be let later.
    let token = json!({ "name": "looks", "role": "viewer", "everywhere": true });
    let secret = served.post("/v1/tokens", &token).body["secret"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let headers = format!("authorization: Bearer {secret}\r\nidempotency-key: k\r\n");
        let refused = served.ask(&headers, "POST", "/v1/pauses", &reason());
        assert_eq!((refused.status, refused.replayed()), (403, false), "{refused:?}");
    }
    // What changes nothing takes no key.
    let looked = served.under("k", "GET", "/v1/pauses", &Value::Null);
    assert_eq!((looked.status, looked.replayed()), (200, false));
    served.register("web01");
    let preview = json!({ "resource": "vm/web01", "on": deletion("web01")["on"] });
    assert_eq!(served.under("k", "POST", "/v1/preview", &preview).status, 200);
    // And without one everything is done as often as it is asked for.
    for _ in 0..2 {
        assert_eq!(served.post("/v1/pauses", &reason()).status, 201);
    }
    assert_eq!(served.pauses(), 4);
}

/// Whoever asked first did not mean what was made since.
#[test]
fn a_scope_is_cancelled_as_it_was_when_it_was_first_asked_for() {
    let mut served = Served::start();
    served.register("web01");
    served.register("web02");
    assert_eq!(served.post("/v1/deletions", &deletion("web01")).status, 201);
    served.sql(LOSE);
    let body = json!({ "scope": "tenants/acme", "reason": "a test" });
    let first = served.under("k", "POST", "/v1/cancellations", &body);
    assert_eq!(first.body["items"][0]["cancelled"], true, "{first:?}");
    assert_eq!(served.post("/v1/deletions", &deletion("web02")).status, 201);
    served.restart();
    let again = served.under("k", "POST", "/v1/cancellations", &body);
    let items = again.body["items"].as_array().unwrap();
    let web02 = items.iter().find(|item| item["resource"] == "vm/web02").unwrap();
    assert_eq!(web02["cancelled"], false, "{again:?}");
    assert_eq!(served.get("/v1/deletions/vm/web02")["status"], "live");
    // Whoever asks now means it.
    assert_eq!(served.under("k2", "POST", "/v1/cancellations", &body).status, 200);
    assert_ne!(served.get("/v1/deletions/vm/web02")["status"], "live");
}

/// Nothing is noted of them: what has begun since they were first asked for is what was asked for.
#[test]
fn drills_begin_once_for_each_request() {
    // There is no such machine, so that each drill with it is over at once, and another one may begin.
    let mut served = Served::start_with("[canaries]\ndrill = [\"vm/drill01\"]\n");
    let run = |served: &Served, key: &str| served.under(key, "POST", "/v1/drills", &Value::Null);
    let begun = |info: &Value| info["drills"][0]["begun_at"].as_i64().unwrap();
    served.sql(LOSE);
    let first = run(&served, "k");
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.body["drills"][0]["judged"]["verdict"]["verdict"], "unclear", "{first:?}");
    served.restart();
    let again = run(&served, "k");
    assert!(!again.replayed(), "its answer was not kept");
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    served.sql(KEEP);
    served.restart();
    for replayed in [false, true] {
        let kept = run(&served, "k");
        assert_eq!((kept.replayed(), kept.status, &kept.body), (replayed, first.status, &first.body));
    }
    // Whoever asks under another key means another one, and so does whoever has none.
    let other = run(&served, "k2");
    assert!(other.status == 201 && begun(&other.body) > begun(&first.body), "{other:?}");
    let keyless = served.post("/v1/drills", &Value::Null);
    assert!(keyless.status == 201 && begun(&keyless.body) > begun(&other.body), "{keyless:?}");
    // The program sends its key.
    let url = format!("http://{}", served.api);
    let night = ["--idempotency-key", "night", "drill", "run", "-o", "json"];
    let (_, once) = sexton(&url, &night);
    let info: Value = serde_json::from_str(&once).unwrap();
    assert!(begun(&info) > begun(&keyless.body), "{once}");
    assert_eq!(sexton(&url, &night).1, once);
}

fn sexton(url: &str, arguments: &[&str]) -> (bool, String) {
    let output = site::sexton().args(["--url", url, "--actor", "root"]).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_program_takes_a_key_and_sends_again_what_was_lost() {
    let served = Served::start();
    let url = format!("http://{}", served.api);
    let pause = ["--idempotency-key", "night", "pause", "--reason", "a test"];
    let (good, first) = sexton(&url, &pause);
    assert!(good, "{first}");
    assert_eq!(sexton(&url, &pause), (true, first));
    assert_eq!(served.pauses(), 1);
    let (good, said) = sexton(&url, &["--idempotency-key", "night", "pause", "--reason", "another"]);
    assert!(!good && said.contains("Idempotency-Key"), "{said}");
    let lines: Vec<String> = (0..5).map(|n| resource(&format!("m{n}")).to_string()).collect();
    let file = served.folder.path().join("inventory.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    for _ in 0..2 {
        let (good, said) = sexton(&url, &["--idempotency-key", "import-1", "import", file, "--skip-bad"]);
        assert!(good, "{said}");
    }
    // Somebody in between loses the first answer.
    let between = TcpListener::bind("127.0.0.1:0").unwrap();
    let lossy = format!("http://{}", between.local_addr().unwrap());
    let api = served.api;
    let passing = std::thread::spawn(move || {
        let mut keys = Vec::new();
        for lose in [true, false] {
            let (mut from, _) = between.accept().unwrap();
            let request = read_request(&mut from);
            keys.extend(
                request.lines().find(|line| line.starts_with("idempotency-key: ")).map(str::to_owned),
            );
            let mut to = TcpStream::connect(api).unwrap();
            let closing = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            to.write_all(closing.as_bytes()).unwrap();
            let mut answer = String::new();
            to.read_to_string(&mut answer).unwrap();
            if !lose {
                from.write_all(answer.as_bytes()).unwrap();
            }
        }
        keys
    });
    let (good, said) = sexton(&lossy, &["pause", "--reason", "lost"]);
    assert!(good, "{said}");
    let keys = passing.join().unwrap();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
    assert_eq!(served.pauses(), 2);
}

/// A whole request.
fn read_request(from: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut part = [0; 4096];
    loop {
        let read = from.read(&mut part).unwrap();
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}
