//! `sexton serve` as a process of its own, on a sandbox in a folder that is gone afterwards.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sexton_testkit::job_table;

use crate::waiting::{PATIENCE, until};

const INSTANCES: [&str; 8] = [
    "hypervisor.main",
    "ipam.main",
    "dns.main",
    "backup.main",
    "monitoring.main",
    "notifier.main",
    "accounting.main",
    "config.main",
];

/// A running `sexton serve` with machines to delete.
pub struct Site {
    pub api: SocketAddr,
    pub folder: tempfile::TempDir,
    pub process: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The machines outlive whoever made them.
        let stopped = sexton().arg("sandbox").arg(self.folder.path().join("platform")).arg("--stop").output();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("{log}");
        } else {
            let stopped = stopped.unwrap();
            assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        }
    }
}

/// A port that nobody has at the moment.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[allow(dead_code, reason = "not every test file needs all of it")]
impl Site {
    /// Start it, with these lines more in its configuration, and wait until it answers.
    pub fn start(machines: u16, further: &str) -> Self {
        Self::start_with_days_of(60_000, machines, further)
    }

    /// The same, where a day lasts so many milliseconds.
    pub fn start_with_days_of(day_ms: u32, machines: u16, further: &str) -> Self {
        Self::start_in_days_of(day_ms, machines, None, further)
    }

    /// The same, with another driver for the notifier, as it is configured.
    pub fn start_in_days_of(day_ms: u32, machines: u16, notifier: Option<&str>, further: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api = free_port();
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (deploy, platform) = (top.join("deploy"), folder.path().join("platform"));
        let mut config = format!(
            "[ledger]\nsqlite = \"sexton.db\"\nrehearsal_day_ms = {day_ms}\n[api]\nlisten = \"{api}\"\n\
             [plans]\nfolder = \"{0}/plans\"\nsubsystems = \"{0}/subsystems\"\n{further}\n",
            deploy.display()
        );
        for instance in INSTANCES {
            if let Some(notifier) = notifier.filter(|_| instance == "notifier.main") {
                config.push_str(&format!(
                    "[consumers.\"{instance}\"]\ninstance = \"{instance}\"\n{notifier}\n"
                ));
                continue;
            }
            config.push_str(&format!(
                "[consumers.\"{instance}\"]\ndriver = \"sandbox\"\nroot = \"{}\"\ninstance = \"{instance}\"\n",
                platform.display()
            ));
        }
        std::fs::write(folder.path().join("sexton.toml"), config).unwrap();
        let made =
            sexton().arg("sandbox").arg(&platform).args(["--machines", &machines.to_string()]).output();
        std::fs::write(folder.path().join("inventory.jsonl"), made.unwrap().stdout).unwrap();
        let process = serve(folder.path(), api);
        let site = Self { api, folder, process };
        let imported = sexton()
            .args(["--url", &format!("http://{api}"), "--actor", "test", "import"])
            .arg(site.folder.path().join("inventory.jsonl"))
            .output()
            .unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        site
    }

    /// Make a record for a machine whose announcement is due now; the caller's span goes with it.
    #[allow(dead_code, reason = "not every test file makes its records so")]
    pub fn delete(&self, machine: &str, traceparent: Option<&str>) -> String {
        let days_5 = Command::new("date").args(["-u", "-d", "+5 days", "+%F"]).output().unwrap().stdout;
        let on = String::from_utf8(days_5).unwrap();
        let body =
            serde_json::json!({ "resource": machine, "on": on.trim(), "reason": "a test" }).to_string();
        let traceparent = traceparent.map(|t| format!("traceparent: {t}\r\n")).unwrap_or_default();
        let (status, answer) = self.post("/v1/deletions", &traceparent, &body);
        assert_eq!(status, 201, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["deletion"].as_str().unwrap().to_owned()
    }
}

#[allow(dead_code, reason = "not every test file needs all of it")]
impl Site {
    /// What the program says, on both channels, and whether it ended well.
    pub fn says(&self, arguments: &[&str]) -> (bool, String) {
        self.says_to("test", arguments)
    }

    /// The same, to somebody else.
    pub fn says_to(&self, actor: &str, arguments: &[&str]) -> (bool, String) {
        let url = format!("http://{}", self.api);
        let output = sexton().args(["--url", &url, "--actor", actor]).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// End it, and start it on a new job table, which has never heard of this instance, and without it in the
    /// configuration.
    pub fn begin_without(&mut self, instance: &str) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for entry in self.folder.path().read_dir().unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("sexton.db") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let file = self.folder.path().join("sexton.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = config.split_once(&format!("[consumers.\"{instance}\"]")).unwrap();
        let after = rest.find("\n[").map_or("", |next| &rest[next..]);
        std::fs::write(&file, format!("{before}{after}")).unwrap();
        self.process = serve(self.folder.path(), self.api);
    }

    /// Status and body of a POST with these headers more.
    pub fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let api = self.api;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {api}\r\nsexton-actor: test\r\ncontent-type: application/json\r\n\
             {headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        ask(api, &request).unwrap()
    }

    /// Status and body of a DELETE.
    pub fn remove(&self, path: &str) -> (u16, String) {
        let api = self.api;
        let head = "sexton-actor: test\r\nconnection: close";
        ask(api, &format!("DELETE {path} HTTP/1.1\r\nhost: {api}\r\n{head}\r\n\r\n")).unwrap()
    }
}

/// From now on no answer is kept: as if whoever worked on the request died right after its change.
#[allow(dead_code, reason = "not every test file needs it")]
pub const LOSE: &str = "CREATE TRIGGER lose BEFORE UPDATE OF status ON request_keys \
     BEGIN SELECT RAISE(ABORT, 'a test loses the answer'); END";

/// Change the job table in this folder behind whoever serves it.
#[allow(dead_code, reason = "not every test file needs it")]
pub fn sql(folder: &Path, sql: &str) {
    job_table::alter(&folder.join("sexton.db"), sql);
}

/// `sexton serve` in this folder, as soon as it answers.
pub fn serve(folder: &Path, api: SocketAddr) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let process = sexton()
        .args(["serve", "--config", "sexton.toml"])
        .current_dir(folder)
        // Spans leave within a fraction of a second rather than after five.
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    until("the API answers", || get(api, "/readyz").is_some_and(|(status, _)| status == 200));
    process
}

pub fn sexton() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sexton"))
}

/// Status and body of a GET; `None` if nobody answers.
pub fn get(from: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(from, &format!("GET {path} HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\n\r\n"))
}

fn ask(of: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(of).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
