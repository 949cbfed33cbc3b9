//! A served program without machines, and whoever asks it with a token.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output};

use serde_json::{Value, json};

use crate::site;

pub const CONFIGURED: &str = "the-configured-token-of-32-letters";

/// What a job table consists of. The log of what is not in the file itself yet may be there or not.
const JOB_TABLE: [&str; 2] = ["sexton.db", "sexton.db-wal"];

/// A running `sexton serve` that nobody else talks to.
pub struct Served {
    pub api: SocketAddr,
    pub folder: tempfile::TempDir,
    process: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(dead_code, reason = "not every test file needs all of it")]
impl Served {
    /// With a configured token, or without one.
    pub fn start(configured: bool) -> Self {
        Self::start_with(configured, "")
    }

    /// The same, with these lines more in its configuration.
    pub fn start_with(configured: bool, further: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api = site::free_port();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap();
        let token = if configured { "token_file = \"api.token\"\n" } else { "" };
        let mut config = format!(
            "[ledger]\nsqlite = \"sexton.db\"\n[api]\nlisten = \"{api}\"\n{token}[plans]\nfolder = \"{0}/plans\"\n\
             subsystems = \"{0}/subsystems\"\n{further}",
            deploy.display()
        );
        for name in ["hypervisor", "ipam", "dns", "backup", "monitoring", "notifier", "accounting", "config"]
        {
            config.push_str(&format!(
                "[consumers.\"{name}.main\"]\ndriver = \"sandbox\"\nroot = \"platform\"\n"
            ));
        }
        std::fs::write(folder.path().join("sexton.toml"), config).unwrap();
        private(&folder.path().join("api.token"), CONFIGURED);
        let process = site::serve(folder.path(), api);
        Self { api, folder, process }
    }

    /// Kill it, and start it again.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = site::serve(self.folder.path(), self.api);
    }

    /// Stop it as whoever supervises it does, and start it again.
    pub fn stop_and_start(&mut self) {
        self.stop();
        self.process = site::serve(self.folder.path(), self.api);
    }

    fn stop(&mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    /// Copy the job table while nobody writes it.
    pub fn keep_job_table(&mut self) {
        self.stop();
        for name in JOB_TABLE.into_iter().filter(|name| self.folder.path().join(name).exists()) {
            let kept = self.folder.path().join(format!("{name}.kept"));
            std::fs::copy(self.folder.path().join(name), kept).unwrap();
        }
        self.process = site::serve(self.folder.path(), self.api);
    }

    /// Put back what was kept of the job table, and nothing of what is known of it outside.
    pub fn put_job_table_back(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(self.folder.path().join("sexton.db-shm"));
        for name in JOB_TABLE {
            let there = self.folder.path().join(name);
            let _ = std::fs::remove_file(&there);
            let kept = self.folder.path().join(format!("{name}.kept"));
            if kept.exists() {
                std::fs::rename(kept, there).unwrap();
            }
        }
        self.process = site::serve(self.folder.path(), self.api);
    }

    /// Status and answer of a request with these headers more.
    pub fn ask(&self, headers: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.api).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.api,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// With a token.
    pub fn with(&self, secret: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask(&format!("authorization: Bearer {secret}\r\n"), method, path, body)
    }

    /// As whoever is trusted because of the loopback address.
    pub fn trusted(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask("sexton-actor: root\r\n", method, path, body)
    }

    /// A new token's secret; everywhere, if no scope is given.
    pub fn token(&self, name: &str, role: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": name, "role": role, "scopes": scopes, "everywhere": scopes.is_empty() });
        let (status, issued) = self.trusted("POST", "/v1/tokens", &body);
        assert_eq!(status, 201, "{issued}");
        issued["secret"].as_str().unwrap().to_owned()
    }

    pub fn register(&self, name: &str, scope: &str) {
        let body = json!({ "resources": [resource(name, scope)], "whole": true });
        let (status, answer) = self.trusted("POST", "/v1/resources", &body);
        assert_eq!((status, &answer["results"]), (200, &json!([null])), "{answer}");
    }

    /// The number of a new record.
    pub fn delete(&self, secret: &str, name: &str) -> String {
        let (status, made) = self.with(secret, "POST", "/v1/deletions", &deletion(name));
        assert_eq!(status, 201, "{made}");
        made["deletion"].as_str().unwrap().to_owned()
    }

    /// What is written down of tokens and refusals.
    pub fn events(&self) -> Vec<Value> {
        self.trusted("GET", "/v1/audit/access", &Value::Null).1["events"].as_array().unwrap().clone()
    }

    /// Who was refused what, and why.
    pub fn refusals(&self) -> Vec<(String, String, String)> {
        let events = self.events().into_iter().filter(|event| event["what"] == "refused");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        events.map(|e| (text(&e["by"]), text(&e["body"]["request"]), text(&e["body"]["why"]))).collect()
    }

    /// The program, with a token of its own.
    pub fn sexton(&self, secret: &str, arguments: &[&str]) -> Output {
        let file = self.folder.path().join("own.token");
        private(&file, secret);
        let url = format!("http://{}", self.api);
        let mut sexton = site::sexton();
        sexton.env_remove("SEXTON_ACTOR").args(["--url", &url, "--token-file"]).arg(file);
        sexton.args(arguments).output().unwrap()
    }
}

/// A file that only its owner reads.
pub fn private(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[allow(dead_code, reason = "not every test file needs all of it")]
pub fn resource(name: &str, scope: &str) -> Value {
    json!({
        "id": format!("vm/{name}"), "scope": scope, "identity": {"uuid": name}, "criticality": "irreplaceable",
        "attributes": {"dns": {"none": true}, "ipam": {"none": true}, "notifier": {"none": true}},
    })
}

#[allow(dead_code, reason = "not every test file needs all of it")]
pub fn deletion(name: &str) -> Value {
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    json!({ "resource": format!("vm/{name}"), "on": on, "reason": "a test" })
}

#[allow(dead_code, reason = "not every test file needs all of it")]
pub fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap_or_default()
}

#[allow(dead_code, reason = "not every test file needs all of it")]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
