//! Sexton as separate processes on PostgreSQL and RabbitMQ (`scripts/dev`), and the operator's program.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use sexton_api::{Client, ClientError, DeletionInfo, DeletionLine, IDEMPOTENCY_KEY, ListQuery, Problem};
use sexton_model::Actor;
use sexton_model::job::StateName;

use crate::{alive, kept};

/// Length of a day in milliseconds, unless a test has another one.
pub const DAY_MS: u64 = 2_500;
/// Longest wait for an answer. Whoever is stopped accepts connections all the same.
const ANSWER: Duration = Duration::from_secs(15);
/// Lines of each log that are shown when the test fails.
const LOG_LINES: usize = 15;
/// What runs in any case when it is stopped: a coordinator, PostgreSQL, RabbitMQ and its port mapper.
const PROGRAMS: [&str; 4] = ["sexton-coordinator", "postgres", "beam.smp", "epmd"];
/// Ports on which these listen at least: the API's, PostgreSQL's, the port mapper's, and RabbitMQ's for AMQP, management,
/// metrics, and its cluster.
const PORTS_LEAST: usize = 7;

/// An installation, which is gone when this is dropped, however the test ends.
pub struct Installation {
    top: PathBuf,
    folder: PathBuf,
    /// Further variables of all processes.
    variables: Vec<(String, String)>,
    day_ms: u64,
    /// Where the coordinators are.
    urls: Vec<String>,
    clients: Vec<Client>,
    /// The same coordinators, asked by somebody else.
    others: Vec<Client>,
    /// Whom to ask first: the coordinator that answered last.
    first: AtomicUsize,
    runtime: tokio::runtime::Runtime,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Answer<T> {
    /// It was answered.
    Done(T),
    /// It was refused, for a reason.
    Refused(String),
    /// Nobody answered, or whether it was done is not known to whoever did.
    Unknown,
}

impl<T> Answer<T> {
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(answer) => Some(answer),
            Self::Refused(_) | Self::Unknown => None,
        }
    }
}

impl Installation {
    /// Everything runs, with these sections in its configuration and these variables in its environment.
    pub fn start(folder: &Path, sections: &str, variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self::start_with_days_of(DAY_MS, folder, sections, variables.iter().map(owned).collect())
    }

    /// The same, with days of such a length in milliseconds.
    pub fn start_with_days_of(
        day_ms: u64,
        folder: &Path,
        sections: &str,
        variables: Vec<(String, String)>,
    ) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::fs::write(folder.join("consumers.toml"), sections).unwrap();
        let mut this = Self {
            top,
            folder: folder.join("dev"),
            variables,
            day_ms,
            urls: Vec::new(),
            clients: Vec::new(),
            others: Vec::new(),
            first: AtomicUsize::new(0),
            runtime,
        };
        this.dev(&["up"]);
        for config in ["sexton.toml", "coordinator+2.toml"] {
            // Mostly there is but one coordinator.
            let Ok(config) = std::fs::read_to_string(this.folder.join(config)) else { continue };
            let listen = config.lines().find_map(|l| l.strip_prefix("listen = ")).unwrap();
            let url = format!("http://{}", listen.trim_matches('"'));
            for (clients, actor) in [(&mut this.clients, "test"), (&mut this.others, "boss")] {
                clients.push(Client::new(&url, None, actor.parse::<Actor>().unwrap()).unwrap());
            }
            this.urls.push(url);
        }
        this
    }

    /// Where everything of it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn dev(&self, arguments: &[&str]) {
        self.dev_with(arguments, &[]);
    }

    fn dev_with(&self, arguments: &[&str], variables: &[(&str, &str)]) {
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
            .env("DAY_MS", self.day_ms.to_string())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/dev {arguments:?}: {complaint}");
    }

    /// SIGKILL.
    pub fn kill(&self, service: &str) {
        self.dev(&["kill", service]);
    }

    /// A new process, whose command begins with these words.
    pub fn start_again(&self, service: &str, prefix: &str) {
        self.dev_with(&["restart", service], &[("PREFIX", prefix)]);
    }

    /// SIGKILL to a server: `postgres`, `rabbitmq`, or the node `rabbitmq2` of a cluster.
    pub fn kill_server(&self, server: &str) {
        self.server(server, "kill");
    }

    /// It starts again, and finds what it had written.
    pub fn start_server(&self, server: &str) {
        self.server(server, "up");
    }

    fn server(&self, server: &str, command: &str) {
        let script = self.top.join("scripts/components").join(server.trim_end_matches(char::is_numeric));
        let output = Command::new(script).arg(command).arg(self.folder.join(server)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Everything stops, and nothing is left behind: no folder, no process that has to do with it, and no port on which
    /// one of them listened.
    pub fn stop(&self) {
        let folder = self.folder.canonicalize().unwrap();
        let processes = alive::processes(&folder);
        // Whoever is not found while everything runs would not be found afterwards.
        for program in PROGRAMS {
            let runs = |line: &String| Path::new(line.split(' ').next().unwrap()).ends_with(program);
            assert!(processes.values().any(runs), "{program} is not found: {processes:#?}");
        }
        let ports = alive::ports(processes.into_keys());
        assert!(ports.len() >= PORTS_LEAST, "{ports:?}");
        self.dev(&["down"]);
        assert!(!self.folder.exists(), "scripts/dev down left its folder");
        let left = alive::processes(&folder);
        assert!(left.is_empty(), "scripts/dev down left processes: {left:#?}");
        let left: Vec<u16> = alive::listening().into_values().filter(|port| ports.contains(port)).collect();
        assert!(left.is_empty(), "scripts/dev down left somebody who listens on {left:?}");
    }

    /// The operator's program.
    pub fn try_sexton(&self, arguments: &[&str]) -> Output {
        self.try_sexton_at(0, arguments)
    }

    /// The same, of which the coordinator of this number is asked.
    pub fn try_sexton_at(&self, nth: usize, arguments: &[&str]) -> Output {
        self.program(nth).args(["--actor", "test"]).args(arguments).output().unwrap()
    }

    /// The same, by whoever has the token in `file`.
    pub fn try_sexton_with_token(&self, nth: usize, file: &Path, arguments: &[&str]) -> Output {
        let mut program = self.program(nth);
        program.env_remove("SEXTON_ACTOR").arg("--token-file").arg(file);
        program.args(arguments).output().unwrap()
    }

    fn program(&self, nth: usize) -> Command {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(self.top.join("target"), PathBuf::from);
        let mut program = Command::new(target.join("debug/sexton"));
        program.args(["--url", &self.urls[nth], "-o", "json"]);
        program
    }

    pub fn sexton(&self, arguments: &[&str]) -> Value {
        let output = self.try_sexton(arguments);
        assert!(output.status.success(), "sexton {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ask one coordinator after the other, until one knows.
    pub fn ask<T, F>(&self, call: impl FnMut(Client) -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.ask_by(&self.clients, call)
    }

    /// The same, by somebody who has asked for no deletion: some things take one.
    pub fn ask_as_another<T, F>(&self, call: impl FnMut(Client) -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.ask_by(&self.others, call)
    }

    fn ask_by<T, F>(&self, clients: &[Client], mut call: impl FnMut(Client) -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let first = self.first.load(Ordering::Relaxed);
        for nth in (first..first + clients.len()).map(|nth| nth % clients.len()) {
            let client = clients[nth].clone();
            let asked = async { tokio::time::timeout(ANSWER, call(client)).await };
            let answer = match self.runtime.block_on(asked) {
                Ok(Ok(answer)) => Answer::Done(answer),
                Ok(Err(ClientError::Problem(problem))) if is_decided(&problem) => {
                    Answer::Refused(problem.detail)
                }
                Ok(Err(_)) | Err(_) => continue,
            };
            self.first.store(nth, Ordering::Relaxed);
            return answer;
        }
        Answer::Unknown
    }

    /// Machines of files below `root`, as an inventory names them.
    pub fn make_sandbox(&self, root: &Path, machines: usize) -> Vec<Value> {
        let made = self.sexton(&["sandbox", root.to_str().unwrap(), "--machines", &machines.to_string()]);
        made.as_array().unwrap().clone()
    }

    /// Where each record stands, by resource; nothing while no coordinator answers.
    pub fn lines(&self) -> Option<BTreeMap<String, DeletionLine>> {
        let all = ListQuery { limit: Some(1000), ..ListQuery::default() };
        let page = self.ask(|client| {
            let all = all.clone();
            async move { client.deletions(&all).await }
        });
        let page = page.done()?;
        // The newest come first, and the newest of a resource counts.
        Some(page.items.into_iter().rev().map(|line| (line.resource.to_string(), line)).collect())
    }

    /// Everything about a record; nothing while no coordinator answers.
    pub fn record(&self, resource: &str) -> Option<DeletionInfo> {
        let record = self.ask(|client| async move { client.deletion(resource).await });
        record.done()
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

/// Whether the coordinator has refused it. Otherwise it is not known: the job table did not answer, or somebody is still
/// at work on what was sent first.
fn is_decided(problem: &Problem) -> bool {
    (400..500).contains(&problem.status) && problem.field.as_deref() != Some(IDEMPOTENCY_KEY)
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
            let kept = kept::keep(&self.runtime, &self.folder, self.day_ms);
            eprintln!("records, logs and configuration of the failed run are in {}", kept.display());
            let mut down = Command::new(self.top.join("scripts/dev"));
            eprintln!("stopped: {:?}", down.arg("down").env("SEXTON_DEV_DIR", &self.folder).status());
        }
    }
}
