//! `sexton serve` as a process of its own, asked by hand, and what it is asked.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use crate::waiting;
use serde_json::{Value, json};

pub fn sexton(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sexton"))
        .env_remove("SEXTON_CONFIG")
        .env_remove("SEXTON_URL")
        .env_remove("SEXTON_TOKEN_FILE")
        .env("SEXTON_ACTOR", "test")
        .args(arguments)
        .output()
        .unwrap()
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap()
}

/// A configuration that is good, of which each section can be replaced.
pub fn configuration(replaced: &[(&str, &str)]) -> String {
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

/// A running `sexton serve`, ended when this is dropped.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Served {
    pub fn start() -> Self {
        Self::start_without("nothing")
    }

    pub fn start_without(instance: &str) -> Self {
        Self::start_as(instance, &[], &[])
    }

    /// Without one instance, with further sections, and files beside the configuration.
    pub fn start_as(instance: &str, sections: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
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
        // It listens before it answers.
        waiting::until("the server answers", || {
            TcpStream::connect(address).is_ok() && this.get("/v1/health").0 == 200
        });
        this
    }

    /// One request by hand, so that it can be as wrong as one likes.
    pub fn ask(&self, method: &str, path: &str, actor: Option<&str>, body: &[u8]) -> (u16, Value) {
        self.ask_for(&self.address.to_string(), method, path, actor, body)
    }

    pub fn ask_for(
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

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, Some("test"), body.to_string().as_bytes())
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, Some("test"), b"")
    }

    pub fn sexton(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        sexton(&[&["--url", url.as_str()], arguments].concat())
    }

    /// End it, and run `sexton` in its place.
    pub fn end_and(mut self, arguments: &[&str]) -> Output {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        sexton(arguments)
    }

    pub fn names(&self) -> Vec<String> {
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

pub fn resource(name: &str) -> Value {
    json!({
        "id": format!("vm/{name}"), "scope": "acme", "identity": {"uuid": name}, "criticality": "irreplaceable",
        "attributes": {"dns": {"none": true}, "ipam": {"none": true}, "notifier": {"none": true}},
    })
}

pub fn with(mut value: Value, field: &str, new: Value) -> Value {
    value[field] = new;
    value
}
