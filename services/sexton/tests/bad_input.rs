//! Bad input from the outside of the program: files, requests, arguments. Each error names what is wrong and what was
//! expected, and nothing is half applied.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod waiting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn sexton(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sexton"))
        .env_remove("SEXTON_CONFIG")
        .env_remove("SEXTON_URL")
        .env_remove("SEXTON_TOKEN_FILE")
        .env("SEXTON_ACTOR", "test")
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap()
}

/// A configuration that is good, of which each section can be replaced.
fn configuration(replaced: &[(&str, &str)]) -> String {
    let deploy = deploy();
    let plans = format!("folder = \"{0}/plans\"\nsubsystems = \"{0}/subsystems\"", deploy.display());
    let mut sections = vec![
        ("[ledger]".to_owned(), "sqlite = \"sexton.db\"".to_owned()),
        ("[api]".to_owned(), "listen = \"127.0.0.1:0\"".to_owned()),
        ("[plans]".to_owned(), plans),
        ("[telemetry]".to_owned(), "log = \"warn\"".to_owned()),
    ];
    for name in ["hypervisor", "ipam", "dns", "backup", "monitoring", "notifier", "accounting", "config"] {
        let keys = "driver = \"sandbox\"\nroot = \"platform\"".to_owned();
        sections.push((format!("[consumers.\"{name}.main\"]"), keys));
    }
    for (heading, keys) in replaced {
        match sections.iter_mut().find(|(there, _)| there == heading) {
            Some((_, there)) => *there = (*keys).to_owned(),
            None => sections.push(((*heading).to_owned(), (*keys).to_owned())),
        }
    }
    sections.iter().map(|(heading, keys)| format!("{heading}\n{keys}\n")).collect()
}

#[test]
fn a_bad_configuration_names_section_key_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sexton.toml");
    let dns = "[consumers.\"dns.main\"]";
    for (heading, keys, parts) in [
        ("[apii]", "", vec!["[apii] is unknown", "known are"]),
        ("[api]", "listen = \"here\"", vec!["[api]", "listen", "socket address"]),
        ("[api]", "listen = \"0.0.0.0:1\"", vec!["[api]", "token_file"]),
        (
            "[api]",
            "listen = \"127.0.0.1:0\"\ntoken_file = \"no.token\"",
            vec!["[api]", "token_file", "no.token"],
        ),
        ("[ledger]", "sqlit = \"x\"", vec!["[ledger]", "sqlit"]),
        ("[ledger]", "", vec!["[ledger]", "missing field `sqlite`"]),
        ("[plans]", "folder = \"nowhere\"\nsubsystems = \"nowhere\"", vec!["[plans]", "folder", "nowhere"]),
        (
            "[consumers.\"dsn.main\"]",
            "driver = \"sandbox\"\nroot = \"x\"",
            vec!["dsn.main", "actions", "nobody knows"],
        ),
        ("[credit]", "per_instance = 0", vec!["[credit]", "per_instance", "1 to 65536"]),
        ("[credit]", "instances = { dns = 4 }", vec!["[credit]", "dns"]),
        ("[windows]", "", vec!["[windows]: zone: expected an IANA time zone", "always = true"]),
        ("[windows]", "zone = \"UTC\"\nto = \"08:00\"", vec!["[windows]: to = \"08:00\"", "after from"]),
        ("[windows]", "zone = \"UTC\"\ndays = [\"tues\"]", vec!["[windows]: days: expected", "\"tues\""]),
        ("[windows]", "always = true\nfrom = \"09:00\"", vec!["[windows]: always = true: expected no other"]),
        (
            "[windows]",
            "zone = \"UTC\"\nholidays = \"no.ics\"",
            vec!["[windows]: holidays = ", "no.ics: cannot be opened"],
        ),
        ("[telemetry]", "log = 7", vec!["[telemetry]", "log"]),
        ("[consumers.\"dns\"]", "driver = \"sandbox\"", vec!["consumers", "dns"]),
        (dns, "driver = \"fax\"", vec!["dns.main", "fax", "sandbox"]),
        (dns, "driver = \"sandbox\"\nroot = 1", vec!["dns.main", "root", "path"]),
        (dns, "driver = \"sandbox\"\nroot = \"x\"\nrot = 1", vec!["dns.main", "rot"]),
        (dns, "driver = \"sandbox\"", vec!["dns.main", "missing field `root`"]),
        (
            dns,
            "driver = \"sandbox\"\nroot = \"x\"\ninstance = \"dns.other\"",
            vec!["dns.main", "instance", "heading"],
        ),
        (
            dns,
            "driver = \"rfc2136\"\nserver = \"127.0.0.1:53\"\nkey_name = \"k\"\nzones = []",
            vec!["key_secret"],
        ),
        (dns, "root = \"x\"", vec!["dns.main", "driver"]),
        ("[workers.\"dns.main\"]", "concurrency = 0", vec!["workers", "dns.main", "concurrency", "1 to 256"]),
        ("[workers.\"dns.mian\"]", "concurrency = 1", vec!["workers", "dns.mian", "[consumers"]),
    ] {
        std::fs::write(&file, configuration(&[(heading, keys)])).unwrap();
        let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert!(!output.status.success(), "{heading} {keys}: it was taken");
        for part in parts.into_iter().chain(["sexton.toml"]) {
            assert!(said.contains(part), "{heading} {keys}: expected {part:?} in: {said}");
        }
    }
    std::fs::write(&file, "[api\n").unwrap();
    assert!(said(&sexton(&["serve", "--config", file.to_str().unwrap()])).contains("line 1"));
    let missing = said(&sexton(&["serve", "--config", "no/such.toml"]));
    assert!(missing.contains("no/such.toml") && missing.contains("--config"), "{missing}");
}

#[test]
fn a_calendar_of_holidays_that_is_over_is_told() {
    let event = "BEGIN:VEVENT\r\nSUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20191225\r\nEND:VEVENT\r\n";
    let calendar = format!("BEGIN:VCALENDAR\r\n{event}END:VCALENDAR\r\n");
    let windows = "zone = \"Europe/Berlin\"\nholidays = \"old.ics\"";
    let served = Served::start_as("nothing", &[("[windows]", windows)], &[("old.ics", &calendar)]);
    let over = "the calendar of holidays ended on 2019-12-25";
    let shown = said(&served.sexton(&["health"]));
    for part in ["begin tue, wed, thu 09:00 to 15:00 Europe/Berlin, not on holidays: ", over] {
        assert!(shown.contains(part), "expected {part:?} in: {shown}");
    }
    let log = std::fs::read_to_string(served.folder.path().join("log")).unwrap();
    assert!(log.contains(over), "{log}");
    let (status, health) = served.ask("GET", "/v1/health", Some("test"), b"");
    assert_eq!((status, &health["windows"]["holidays_until"]), (200, &json!("2019-12-25")));
}

#[test]
fn a_job_table_of_another_day_is_told_from_the_configuration_in_its_words() {
    let served = Served::start();
    let file = served.folder.path().join("sexton.toml");
    let rehearsal = "sqlite = \"sexton.db\"\nrehearsal_day_ms = 60000";
    std::fs::write(&file, configuration(&[("[ledger]", rehearsal)])).unwrap();
    let output = served.end_and(&["serve", "--config", file.to_str().unwrap()]);
    let said = said(&output);
    assert!(!output.status.success());
    for part in ["sexton.db", "calendar days", "rehearsal_day_ms = 60000", "[ledger]"] {
        assert!(said.contains(part), "expected {part:?} in: {said}");
    }
    assert!(!said.contains("length_ms"), "{said}");
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

#[test]
fn a_sandbox_that_is_no_place_yet_is_said_at_the_start() {
    let served = Served::start();
    let log = std::fs::read_to_string(served.folder.path().join("log")).unwrap();
    for instance in ["hypervisor", "ipam", "dns", "backup", "monitoring", "notifier", "accounting", "config"]
    {
        let place = format!("platform/{instance}/main/place.json is missing");
        assert!(log.contains(&place), "expected {place:?} in: {log}");
    }
    assert!(!log.contains('\u{1b}'), "colours in a file: {log:?}");
}

#[test]
fn what_is_not_there_is_told_apart() {
    let served = Served::start();
    served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    for (what, part) in [
        ("a", "vm/a?"),
        ("vm/a", "is registered, and there is no deletion record"),
        ("vm/b", "no such resource was ever registered"),
    ] {
        let said = said(&served.sexton(&["show", what]));
        assert!(said.contains(part), "{what}: {said}");
    }
}

#[test]
fn a_bad_plan_names_file_line_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (file, plans) = (folder.path().join("sexton.toml"), folder.path().join("plans"));
    std::fs::create_dir(&plans).unwrap();
    let keys = format!("folder = \"plans\"\nsubsystems = \"{}/subsystems\"", deploy().display());
    std::fs::write(&file, configuration(&[("[plans]", &keys)])).unwrap();
    let good = std::fs::read_to_string(deploy().join("plans/vm.toml")).unwrap();
    for (from, to, parts) in [
        ("kind = \"vm\"", "kind = \"VM!\"", vec!["kind"]),
        ("version = 2", "version = \"one\"", vec!["vm.toml"]),
        ("offset_days = 3", "", vec!["offset_days"]),
        ("offset_days = 3", "offset_days = -9", vec!["hard"]),
        ("dns.remove", "dns.forget", vec!["dns.forget"]),
        ("{ do = \"dns.inspect\" }", "{ do = \"dns.inspect\", afterr = [] }", vec!["afterr"]),
        (
            ", after = [\"hypervisor.undefine\"] },\n  { do = \"monitoring",
            " },\n  { do = \"monitoring",
            vec!["address"],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(plans.join("vm.toml"), good.replacen(from, to, 1)).unwrap();
        let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert!(!output.status.success(), "{to}: it was taken");
        for part in parts.into_iter().chain(["vm.toml"]) {
            assert!(said.contains(part), "{to}: expected {part:?} in: {said}");
        }
    }
}

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

/// A running `sexton serve`, ended when this is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        Self::start_without("nothing")
    }

    fn start_without(instance: &str) -> Self {
        Self::start_as(instance, &[], &[])
    }

    /// Without one instance, with further sections, and files beside the configuration.
    fn start_as(instance: &str, sections: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago; nobody else asks for it by number.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let listen = format!("listen = \"{address}\"");
        let config = configuration(&[&[("[api]", listen.as_str())], sections].concat());
        let part = format!("[consumers.\"{instance}\"]\ndriver = \"sandbox\"\nroot = \"platform\"\n");
        let config = config.replace(&part, "");
        let file = folder.path().join("sexton.toml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sexton"))
            .args(["serve", "--config", file.to_str().unwrap()])
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, address, folder };
        waiting::until("the server listens", || TcpStream::connect(address).is_ok());
        this
    }

    /// One request by hand, so that it can be as wrong as one likes.
    fn ask(&self, method: &str, path: &str, actor: Option<&str>, body: &[u8]) -> (u16, Value) {
        self.ask_for(&self.address.to_string(), method, path, actor, body)
    }

    fn ask_for(
        &self,
        host: &str,
        method: &str,
        path: &str,
        actor: Option<&str>,
        body: &[u8],
    ) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let actor = actor.map(|a| format!("sexton-actor: {a}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{actor}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who sends too much may be answered, and cut off, before the end.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, Some("test"), body.to_string().as_bytes())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, Some("test"), b"")
    }

    fn sexton(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        sexton(&[&["--url", url.as_str()], arguments].concat())
    }

    /// End it, and run `sexton` in its place.
    fn end_and(mut self, arguments: &[&str]) -> Output {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        sexton(arguments)
    }

    fn names(&self) -> Vec<String> {
        let (_, page) = self.get("/v1/resources");
        let items = page["items"].as_array().unwrap();
        items.iter().map(|i| i["resource"]["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn resource(name: &str) -> Value {
    json!({
        "id": format!("vm/{name}"), "scope": "acme", "identity": {"uuid": name}, "criticality": "irreplaceable",
        "attributes": {"dns": {"none": true}, "ipam": {"none": true}, "notifier": {"none": true}},
    })
}

fn with(mut value: Value, field: &str, new: Value) -> Value {
    value[field] = new;
    value
}

#[test]
fn a_bad_request_names_the_field_and_changes_nothing() {
    let served = Served::start();
    let (status, answer) =
        served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    assert_eq!((status, &answer["results"]), (200, &json!([null])));
    let good = json!({"resource": "vm/a", "on": "2030-01-01", "reason": "x"});
    let far = "x".repeat(1001);
    for (field, wrong, part) in [
        ("resource", json!("a"), "vm/"),
        ("resource", json!(7), "string"),
        ("resource", json!("pool/a"), "no plan for pool"),
        ("on", json!("2030-02-30"), "no such date"),
        ("on", json!("1.1.2030"), "YYYY-MM-DD"),
        ("on", json!(20300101), "string"),
        ("on", json!("2020-01-01"), "is past; today is"),
        ("on", json!("2130-01-01"), "days ahead"),
        ("on", Value::Null, "string"),
        ("zone", json!("Europe/Atlantis"), "IANA"),
        ("gone_by", json!("2029-12-31"), "before"),
        ("gone_by", json!("soon"), "YYYY-MM-DD"),
        ("reason", json!(["x"]), "string"),
        ("force", json!(true), "unknown field"),
    ] {
        let (status, problem) = served.post("/v1/deletions", &with(good.clone(), field, wrong.clone()));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{field} = {wrong}: {problem}");
        assert!(detail.contains(field) && detail.contains(part), "{field} = {wrong}: {problem}");
    }
    let nested = format!("{{\"resource\":{}", "[".repeat(100_000));
    let large = format!("{{\"resource\":\"{}\"}}", "x".repeat(8 << 20));
    let twice = format!("{good}{good}");
    for (body, status, part) in [
        ("", 422, "body"),
        ("delete everything", 422, "body"),
        ("[]", 422, "body"),
        ("{\"resource\":\"vm/a\",\"reason\":\"x\"}", 422, "missing field `on`"),
        ("{\"on\":\"2030-01-01\",\"on\":\"2030-01-02\"}", 422, "duplicate field `on`"),
        (nested.as_str(), 422, "resource"),
        (large.as_str(), 413, "at most"),
        (twice.as_str(), 422, "nothing after"),
    ] {
        let (found, problem) = served.ask("POST", "/v1/deletions", Some("test"), body.as_bytes());
        let detail = problem["detail"].as_str().unwrap_or_default();
        let short: String = body.chars().take(60).collect();
        assert!(found == status && detail.contains(part), "{short}: {found} {problem}");
    }
    let reason = with(good.clone(), "reason", json!(far));
    assert!(
        served.post("/v1/deletions", &reason).1["detail"]
            .as_str()
            .unwrap()
            .contains("reason: expected 1 to 1000")
    );
    for (method, path, actor, status, part) in [
        ("POST", "/v1/deletions", None, 422, "sexton-actor"),
        ("POST", "/v1/deletions", Some(""), 422, "sexton-actor"),
        ("GET", "/v1/deletions?limit=many", Some("test"), 400, "limit"),
        ("GET", "/v1/deletions?colour=red", Some("test"), 400, "colour"),
        ("GET", "/v1/deletions?state=gone", Some("test"), 400, "state"),
        ("GET", "/v1/deletions?scope=%20", Some("test"), 400, "scope"),
        ("GET", "/v1/deletions/seventeen", Some("test"), 422, "d-17"),
        ("GET", "/v1/deletions/d-17", Some("test"), 404, "d-17"),
        ("GET", "/v1/deletions/%ff/a", Some("test"), 400, "UTF-8"),
        ("GET", "/v1/names/pool/a", Some("test"), 404, "no plan for pool"),
        ("DELETE", "/v1/deletions/d-1/holds/first", Some("test"), 422, "hold"),
        ("DELETE", "/v1/pauses/first", Some("test"), 422, "pause"),
        ("PUT", "/v1/deletions", Some("test"), 405, "Method Not Allowed"),
        ("GET", "/v2", Some("test"), 404, "nothing at this address"),
    ] {
        let (found, problem) = served.ask(method, path, actor, good.to_string().as_bytes());
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(part), "{method} {path}: {found} {problem}");
    }
    assert_eq!(served.get("/v1/deletions").1["items"], json!([]), "a bad request made a record");
    assert_eq!(served.post("/v1/deletions", &good).0, 201, "the good one is taken");
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
fn a_date_that_cannot_be_met_is_said_when_the_record_is_made() {
    let served = Served::start();
    let in_days = |days| {
        let date = chrono::Utc::now().date_naive() + chrono::Days::new(days);
        date.to_string()
    };
    let resources: Vec<_> = ["a", "b", "c"].map(resource).into();
    assert_eq!(served.post("/v1/resources", &json!({"resources": resources, "whole": true})).0, 200);
    let delete = |name: &str, on: u64, gone_by: u64| {
        let (on, gone_by) = (in_days(on), in_days(gone_by));
        let arguments = ["delete", name, "--on", &on, "--gone-by", &gone_by, "--reason", "x"];
        said(&served.sexton(&arguments))
    };
    // Announced now, off five days later, its data gone another eight days later (deploy/plans/vm.toml).
    let (off, gone) = (in_days(5), in_days(13));
    let late = delete("vm/a", 1, 12);
    for part in [
        format!("WARNING     {} cannot be met", in_days(1)),
        format!("WARNING     gone by {} cannot be met", in_days(12)),
        format!("off from    {off}"),
        format!("data gone   {gone}"),
    ] {
        assert!(late.contains(&part), "expected {part:?} in {late}");
    }
    for (name, on, gone_by) in [("vm/b", 5, 13), ("vm/c", 9, 17)] {
        let said = delete(name, on, gone_by);
        assert!(
            said.contains(&format!("off from    {}", in_days(on))) && !said.contains("WARNING"),
            "{said}"
        );
    }
}

#[test]
fn a_pause_that_would_stop_nothing_is_refused_and_what_is_known_is_named() {
    let served = Served::start();
    for (selector, wrong, known) in [("kind", "vmm", "vm"), ("subsystem", "hypervsor", "hypervisor")] {
        let pause = |name| said(&served.sexton(&["pause", &format!("--{selector}"), name, "--reason", "x"]));
        let refused = pause(wrong);
        assert!(
            refused.contains(&format!("covers.{selector}: nobody knows {wrong}; known are ")),
            "{refused}"
        );
        assert!(refused.contains(known), "{refused}");
        assert_eq!(served.get("/v1/pauses").1, json!([]), "{selector}");
        let taken = pause(known);
        assert!(taken.contains("is in force"), "{taken}");
        assert!(served.sexton(&["resume", taken.split(' ').nth(1).unwrap()]).status.success(), "{taken}");
    }
    // What scopes there are, nobody knows.
    assert!(served.sexton(&["pause", "--scope", "tenants/acme", "--reason", "x"]).status.success());
}

#[test]
fn a_resource_that_nothing_could_be_done_about_is_refused_and_the_others_with_it_or_not() {
    let served = Served::start();
    let elsewhere = with(resource("b"), "instances", json!({"dns": "internla"}));
    let pool = with(resource("c"), "id", json!("pool/c"));
    let body = |whole: bool| json!({"resources": [resource("a"), elsewhere, pool], "whole": whole});
    let (status, answer) = served.post("/v1/resources", &body(true));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(status, 200);
    let why = |n: usize| results[n].as_str().unwrap();
    assert!(why(0).contains("another line") && why(2).contains("no plan for pool, only for vm"), "{answer}");
    assert!(
        why(1).contains("instances.dns") && why(1).contains("dns.internla") && why(1).contains("dns.main")
    );
    assert!(served.names().is_empty(), "all or nothing");
    let (_, answer) = served.post("/v1/resources", &body(false));
    assert_eq!(answer["results"][0], Value::Null, "{answer}");
    assert_eq!(served.names(), ["vm/a"]);
    for (attributes, parts) in [
        (
            json!({"dnss": {}, "ipam": {"none": true}}),
            ["attributes.dnss: no subsystem reads it", "config, dns, "],
        ),
        (json!({"ipam": {"none": true}}), ["attributes.dns: missing", "\"none\": true"]),
        (json!({"dns": {"none": true}, "ipam": null}), ["attributes.ipam: missing", "\"none\": true"]),
        (json!({}), ["attributes.", "missing"]),
    ] {
        let misspelt = with(resource("e"), "attributes", attributes);
        let (_, answer) = served.post("/v1/resources", &json!({"resources": [misspelt], "whole": true}));
        let why = answer["results"][0].as_str().unwrap();
        assert!(parts.iter().all(|part| why.contains(part)), "{answer}");
        assert_eq!(served.names(), ["vm/a"]);
    }
    let nested = format!("{{\"resources\":[{{\"attributes\":{{\"dns\":{}", "[".repeat(100_000));
    let (status, problem) = served.ask("POST", "/v1/resources", Some("test"), nested.as_bytes());
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("recursion"), "{problem}");
    for (wrong, field) in [
        (json!({"resources": []}), "resources"),
        (json!({"resources": [with(resource("d"), "identity", json!({}))]}), "resources[0].identity"),
        (json!({"resources": [with(resource("d"), "scope", json!(""))]}), "resources[0].scope"),
        (
            json!({"resources": [with(resource("d"), "criticality", json!("low"))]}),
            "resources[0].criticality",
        ),
        (json!({"resources": [with(resource("d"), "colour", json!("red"))]}), "resources[0].colour"),
        // It would travel with every order.
        (
            json!({"resources": [with(resource("d"), "attributes", json!({"dns": "x".repeat(16_384)}))]}),
            "resources[0].attributes",
        ),
        (json!({"resources": [with(resource("d"), "groups", json!([""]))]}), "resources[0].groups"),
    ] {
        let (status, problem) = served.post("/v1/resources", &wrong);
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }
    assert_eq!(served.names(), ["vm/a"]);
}

#[test]
fn an_inventory_is_taken_whole_or_line_by_line() {
    let served = Served::start();
    let jsonl = served.folder.path().join("inventory.jsonl");
    let lines = [resource("a").to_string(), "{\"id\":7}".to_owned(), resource("b").to_string()];
    std::fs::write(&jsonl, lines.join("\n")).unwrap();
    let csv = served.folder.path().join("inventory.csv");
    let none = r#""{""none"":true}""#;
    let text = format!(
        "id,scope,criticality,identity.uuid,attributes.dns,attributes.ipam,attributes.notifier\n\
         vm/c,acme,irreplaceable,c,{none},{none},{none}\nvm/d,acme,dear,d,{none},{none},{none}\n"
    );
    std::fs::write(&csv, text).unwrap();
    for (file, place) in [(&jsonl, "inventory.jsonl:2: id: "), (&csv, "inventory.csv:3: criticality ")] {
        let output = served.sexton(&["import", file.to_str().unwrap()]);
        assert!(!output.status.success() && said(&output).contains(place), "{}", said(&output));
        assert!(served.names().is_empty(), "a part of a bad file was taken");
    }
    for file in [&jsonl, &csv] {
        let output = served.sexton(&["import", "--skip-bad", file.to_str().unwrap()]);
        assert!(!output.status.success(), "a line was bad");
    }
    assert_eq!(served.names(), ["vm/a", "vm/b", "vm/c"]);
}

#[test]
fn a_record_that_would_wait_for_ever_is_refused() {
    let served = Served::start_without("dns.main");
    let (_, answer) = served.post("/v1/resources", &json!({"resources": [resource("a")], "whole": true}));
    assert_eq!(answer["results"], json!([null]), "its platform may register it all the same");
    let wanted = json!({"resource": "vm/a", "on": "2030-01-01", "reason": "x"});
    let (status, problem) = served.post("/v1/deletions", &wanted);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert_eq!((status, &problem["field"]), (422, &json!("resource")), "{problem}");
    assert!(detail.contains("needs dns.main"), "{problem}");
    assert_eq!(served.get("/v1/deletions").1["items"], json!([]));
}

#[test]
fn without_a_token_a_page_of_another_name_is_not_answered() {
    let served = Served::start();
    let all = json!({"resources": [resource("a")], "whole": true}).to_string();
    for host in ["evil.example", "", "127.0.0.1.evil.example:80"] {
        let (status, problem) = served.ask_for(host, "POST", "/v1/resources", Some("test"), all.as_bytes());
        assert_eq!(status, 421, "{host:?}: {problem}");
    }
    assert!(served.names().is_empty());
    assert_eq!(served.ask_for("localhost", "GET", "/v1/health", None, b"").0, 200);
}

#[test]
fn listings_go_on_behind_a_page() {
    let served = Served::start();
    let names: Vec<String> = (0..1100).map(|n| format!("m{n:04}")).collect();
    let all: Vec<Value> = names.iter().map(|name| resource(name)).collect();
    let (status, answer) = served.post("/v1/resources", &json!({"resources": all, "whole": true}));
    assert_eq!(status, 200, "{answer}");
    for name in &names {
        let record = json!({"resource": format!("vm/{name}"), "on": "2030-01-01", "reason": "x"});
        assert_eq!(served.post("/v1/deletions", &record).0, 201);
    }
    for (limit, length, more) in [("1050", 1050, true), ("5000", 1100, false)] {
        let output = served.sexton(&["list", "--limit", limit, "-o", "json"]);
        let page: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = page["items"].as_array().unwrap();
        let different: std::collections::BTreeSet<&str> =
            items.iter().map(|item| item["resource"].as_str().unwrap()).collect();
        assert_eq!((items.len(), different.len(), page["next"].is_string()), (length, length, more));
    }
    let text = said(&served.sexton(&["list", "--limit", "1050"]));
    assert!(text.contains("there are more"), "{text}");
    assert_eq!(said(&served.sexton(&["list", "--limit", "5000"])).matches("vm/m").count(), 1100);
}
