//! Sexton as separate processes on PostgreSQL and RabbitMQ (`scripts/dev`), and the operator's program.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sexton_api::{Client, DeletionInfo, DeletionLine, ListQuery};
use sexton_model::job::StateName;

use crate::kept;

/// Length of a day in milliseconds. Between soft and hard are three of them: that long is a cancel certain to be
/// taken once soft is done.
pub const DAY_MS: u64 = 2_500;
/// Lines of each log that are shown when the test fails.
const LOG_LINES: usize = 15;

/// An installation, which is gone when this is dropped, however the test ends.
pub struct Installation {
    top: PathBuf,
    folder: PathBuf,
    /// Further variables of all processes.
    variables: Vec<(&'static str, &'static str)>,
    url: String,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Installation {
    /// Everything runs, with these sections in its configuration and these variables in its environment.
    pub fn start(folder: &Path, sections: &str, variables: &[(&'static str, &'static str)]) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let nowhere =
            Client::new("http://127.0.0.1:1", None, "test".parse::<sexton_model::Actor>().unwrap()).unwrap();
        std::fs::write(folder.join("consumers.toml"), sections).unwrap();
        let (folder, variables) = (folder.join("dev"), variables.to_vec());
        let mut this = Self { top, folder, variables, url: String::new(), client: nowhere, runtime };
        this.dev(&["up"]);
        let config = std::fs::read_to_string(this.folder.join("sexton.toml")).unwrap();
        let listen = config.lines().find_map(|l| l.strip_prefix("listen = ")).unwrap();
        this.url = format!("http://{}", listen.trim_matches('"'));
        this.client = Client::new(&this.url, None, "test".parse::<sexton_model::Actor>().unwrap()).unwrap();
        this
    }

    fn dev(&self, arguments: &[&str]) {
        let mut command = Command::new(self.top.join("scripts/dev"));
        // What cargo says of this test is not for the cargo that looks whether the programs are built: it would
        // build libraries again whose scripts ask for these variables.
        let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        for (name, _) in std::env::vars().filter(|(name, _)| own(name)) {
            command.env_remove(name);
        }
        let output = command
            .args(arguments)
            .env("SEXTON_DEV_DIR", &self.folder)
            .env("CONSUMERS", self.folder.with_file_name("consumers.toml"))
            .env("PROFILE", "debug")
            .env("DAY_MS", DAY_MS.to_string())
            .envs(self.variables.iter().copied())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/dev {arguments:?}: {complaint}");
    }

    /// SIGKILL, and a new process.
    pub fn crash(&self, service: &str) {
        self.dev(&["kill", service]);
        self.dev(&["restart", service]);
    }

    /// SIGKILL to a server, `rabbitmq` or `postgres`.
    pub fn kill_server(&self, server: &str) {
        self.server(server, "kill");
    }

    /// It starts again, and finds what it had written.
    pub fn start_server(&self, server: &str) {
        self.server(server, "up");
    }

    fn server(&self, server: &str, command: &str) {
        let script = self.top.join("scripts/components").join(server);
        let output = Command::new(script).arg(command).arg(self.folder.join(server)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Everything stops, and nothing is left behind.
    pub fn stop(&self) {
        self.dev(&["down"]);
        assert!(!self.folder.exists(), "scripts/dev down left its folder");
    }

    /// The operator's program.
    pub fn try_sexton(&self, arguments: &[&str]) -> Output {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(self.top.join("target"), PathBuf::from);
        Command::new(target.join("debug/sexton"))
            .args(["--url", &self.url, "--actor", "test", "-o", "json"])
            .args(arguments)
            .output()
            .unwrap()
    }

    pub fn sexton(&self, arguments: &[&str]) -> Value {
        let output = self.try_sexton(arguments);
        assert!(output.status.success(), "sexton {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Where each record stands, by resource; nothing while no coordinator answers.
    pub fn lines(&self) -> Option<BTreeMap<String, DeletionLine>> {
        let all = ListQuery { limit: Some(1000), ..ListQuery::default() };
        let page = self.runtime.block_on(self.client.deletions(&all)).ok()?;
        Some(page.items.into_iter().map(|line| (line.resource.to_string(), line)).collect())
    }

    /// Everything about a record; nothing while no coordinator answers.
    pub fn record(&self, resource: &str) -> Option<DeletionInfo> {
        self.runtime.block_on(self.client.deletion(resource)).ok()
    }

    fn show_logs(&self) {
        for entry in std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(LOG_LINES).collect();
            eprintln!("{}:", entry.path().display());
            last.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// A job that waits for a person would wait for ever.
pub fn none_is_parked(lines: &BTreeMap<String, DeletionLine>) {
    let parked = lines.values().filter(|line| line.state == Some(StateName::Parked));
    let parked: Vec<String> =
        parked.map(|line| format!("{} is parked: {:?}: {}", line.resource, line.job, line.why)).collect();
    assert!(parked.is_empty(), "{}", parked.join("\n"));
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
            let kept = kept::keep(&self.runtime, &self.folder);
            eprintln!("records, logs and configuration of the failed run are in {}", kept.display());
            let mut down = Command::new(self.top.join("scripts/dev"));
            eprintln!("stopped: {:?}", down.arg("down").env("SEXTON_DEV_DIR", &self.folder).status());
        }
    }
}
