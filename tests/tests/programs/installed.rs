//! The programs, with a configuration, keys and addresses in a folder of their own.
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub const COORDINATOR: &str = "sexton-coordinator";
pub const SCHEDULER: &str = "sexton-scheduler";
/// One consumer for all of them: what is asked here is of the part that they share.
pub const CONSUMER: &str = "sexton-dns";
pub const ALL: &[&str] = &[COORDINATOR, SCHEDULER, CONSUMER];

/// Which one it is.
const INSTANCE: &str = "dns.main";
/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
pub struct Installed(tempfile::TempDir);

impl Installed {
    /// With keys, and addresses of a database that is not there.
    pub fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let keys = this.0.path().join("keys");
        let made = program("sexton").arg("keys").arg(keys).args(["--instances", INSTANCE]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        this.point_to("postgres://sexton:hunter2@127.0.0.1:1/sexton");
        this
    }

    /// The database is there.
    pub fn point_to(&self, url: &str) {
        for name in ["postgres.url", "scheduler.url"] {
            self.secret(name, url);
        }
    }

    /// A file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) {
        let mut made = std::fs::File::options();
        made.write(true).create(true).truncate(true).mode(0o600);
        made.open(self.0.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// A configuration that is good, of which each section can be replaced.
    pub fn configure(&self, replaced: &[(&str, &str)]) {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let plans = format!("folder = \"{0}/plans\"\nsubsystems = \"{0}/subsystems\"", deploy.display());
        let mut sections = vec![
            ("[ledger]", "postgres_url_file = \"postgres.url\""),
            ("[scheduler]", "postgres_url_file = \"scheduler.url\""),
            ("[broker]", "address = \"127.0.0.1:1\"\nvhost = \"sexton\""),
            ("[keys]", "folder = \"keys\""),
            ("[api]", "listen = \"127.0.0.1:0\""),
            ("[plans]", plans.as_str()),
            ("[consumers.\"dns.main\"]", "driver = \"sandbox\"\nroot = \"platform\""),
        ];
        for (heading, keys) in replaced {
            match sections.iter_mut().find(|(there, _)| there == heading) {
                Some((_, there)) => *there = *keys,
                None => sections.push((*heading, *keys)),
            }
        }
        let text: String = sections.iter().map(|(heading, keys)| format!("{heading}\n{keys}\n")).collect();
        std::fs::write(self.0.path().join("sexton.toml"), text).unwrap();
    }

    /// One of them, with this configuration; what it says goes to a file of its own, since several may run at once.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Running {
        let log = tempfile::Builder::new().prefix(name).suffix(".log").tempfile_in(self.0.path());
        let (says, log) = log.unwrap().keep().unwrap();
        let mut command = program(name);
        command.arg("--config").arg(self.0.path().join("sexton.toml")).args(arguments);
        if name == CONSUMER {
            command.args(["--instance", INSTANCE]);
        }
        let process = command.stdout(Stdio::null()).stderr(says).spawn();
        Running { process: process.unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }
}

fn program(name: &str) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(top.join("target"), PathBuf::from);
    let mut command = Command::new(target.join("debug").join(name));
    command.env_remove("SEXTON_CONFIG").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A process, ended with its test.
pub struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    /// How it has ended, if it has within that time.
    pub fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.process.try_wait().unwrap() {
                None if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                ended => return ended,
            }
        }
    }

    /// SIGTERM.
    pub fn tell_to_stop(&self) {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
