//! The spine in separate processes on PostgreSQL and RabbitMQ: an inventory is imported, machines are retired
//! through every stage and others cancelled, while the coordinator and a consumer are killed and started again
//! and the broker once. In the end the sandbox itself is asked.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

const MACHINES: usize = 60;
const RETIRED: std::ops::RangeInclusive<usize> = 1..=20;
const CANCELLED: std::ops::RangeInclusive<usize> = 21..=40;
/// Everything must be over by then: the longest wait is a cancel's, for the deadline of the order that was out.
const PATIENCE: Duration = Duration::from_secs(240);

fn name(n: usize) -> String {
    format!("vm{n:04}")
}

/// An installation, which is gone when this is dropped, however the test ends.
struct Installation {
    top: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Installation {
    fn start(folder: &Path) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let mut this = Self { top, folder: folder.join("dev"), url: String::new() };
        this.dev(&["up"]);
        let config = std::fs::read_to_string(this.folder.join("sexton.toml")).unwrap();
        let listen = config.lines().find_map(|l| l.strip_prefix("listen = ")).unwrap();
        this.url = format!("http://{}", listen.trim_matches('"'));
        this
    }

    fn dev(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.top.join("scripts/dev"))
            .args(arguments)
            .env("SEXTON_DEV_DIR", &self.folder)
            .env("PROFILE", "debug")
            .env("DAY_MS", "1500")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "scripts/dev {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_sexton(&self, arguments: &[&str]) -> Output {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(self.top.join("target"), PathBuf::from);
        Command::new(target.join("debug/sexton"))
            .args(["--url", &self.url, "--actor", "test", "-o", "json"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn sexton(&self, arguments: &[&str]) -> Value {
        let output = self.try_sexton(arguments);
        assert!(output.status.success(), "sexton {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn platform(&self) -> String {
        self.folder.join("platform").display().to_string()
    }

    fn describe(&self, n: usize) -> Value {
        self.sexton(&["sandbox", &self.platform(), "--describe", &name(n)])
    }

    /// Status by resource, of all records.
    fn statuses(&self) -> BTreeMap<String, String> {
        let page = self.sexton(&["list", "--limit", "1000"]);
        let items = page["items"].as_array().unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        items.iter().map(|d| (text(&d["resource"]), text(&d["status"]))).collect()
    }

    /// Look until `seen`, or fail.
    fn wait_until(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !seen(self) {
            if began.elapsed() > PATIENCE {
                let list = self.sexton(&["list", "--limit", "1000"]);
                panic!("not seen after {PATIENCE:?}: {what}\n{list:#}");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten() {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(15).collect();
                eprintln!("{}:", entry.path().display());
                last.iter().rev().for_each(|line| eprintln!("  {line}"));
            }
            let stopped = Command::new(self.top.join("scripts/dev"))
                .arg("down")
                .env("SEXTON_DEV_DIR", &self.folder)
                .status();
            eprintln!("stopped: {stopped:?}");
        }
    }
}

/// A date so many rehearsal days ahead.
fn date(days: u64) -> String {
    let output = Command::new("date").args(["-u", "-d", &format!("+{days} days"), "+%F"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn machines_are_retired_and_cancelled_while_everything_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    make_searchable(folder.path());
    let installation = Installation::start(folder.path());
    let made =
        installation.try_sexton(&["sandbox", &installation.platform(), "--machines", &MACHINES.to_string()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let inventory = folder.path().join("inventory.jsonl");
    std::fs::write(&inventory, &made.stdout).unwrap();
    let imported = installation.sexton(&["import", inventory.to_str().unwrap()]);
    assert_eq!(imported["imported"], MACHINES);
    let before: Vec<Value> = (1..=MACHINES).map(|n| installation.describe(n)).collect();

    let on = date(6);
    for n in RETIRED.chain(CANCELLED) {
        installation.sexton(&[
            "delete",
            &format!("vm/{}", name(n)),
            "--on",
            &on,
            "--reason",
            "contract ended",
        ]);
    }
    let twice = installation.try_sexton(&["delete", "vm/vm0001", "--on", &on, "--reason", "again"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("has a live deletion record already"));

    // Cancelled at all sorts of moments: some before anything, some in the middle, while things die.
    let mut killed = 0;
    for (turn, n) in CANCELLED.enumerate() {
        match turn {
            3 | 12 => crash(&installation, "coordinator"),
            6 | 16 => crash(&installation, "hypervisor.main"),
            9 => restart_broker(&installation),
            _ => {}
        }
        killed += usize::from([3, 12, 6, 16, 9].contains(&turn));
        let resource = format!("vm/{}", name(n));
        installation.wait_until("the cancel is taken", |i| {
            i.try_sexton(&["cancel", &resource, "--reason", "kept after all"]).status.success()
        });
        std::thread::sleep(Duration::from_millis(311));
    }
    assert_eq!(killed, 5);
    installation.wait_until("every record is over", |i| {
        i.statuses().values().all(|s| s == "recycled" || s == "cancelled")
    });

    let statuses = installation.statuses();
    for n in RETIRED {
        assert_eq!(statuses[&format!("vm/{}", name(n))], "recycled");
    }
    for n in CANCELLED {
        assert_eq!(statuses[&format!("vm/{}", name(n))], "cancelled");
    }
    // Everything of the cancelled and of the others is as it was.
    for n in *CANCELLED.start()..=MACHINES {
        assert_eq!(installation.describe(n), before[n - 1], "{}", name(n));
    }
    for n in RETIRED {
        let left = traces(Path::new(&installation.platform()), &name(n));
        assert!(left.is_empty(), "of {} is left: {left:?}", name(n));
    }
    for n in RETIRED.chain(CANCELLED) {
        let shown = installation.sexton(&["show", &format!("vm/{}", name(n))]);
        assert_eq!(shown["chain"], "verified", "{}", name(n));
    }
    installation.dev(&["down"]);
    assert!(!installation.folder.exists(), "scripts/dev down left its folder");
}

fn crash(installation: &Installation, service: &str) {
    installation.dev(&["kill", service]);
    installation.dev(&["restart", service]);
}

fn restart_broker(installation: &Installation) {
    let broker = installation.folder.join("rabbitmq").display().to_string();
    for command in ["kill", "up"] {
        let script = installation.top.join("scripts/components/rabbitmq");
        let output = Command::new(script).args([command, &broker]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// User postgres has its data below.
fn make_searchable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}

/// Files called after a machine. What was used stays on the account, what was sent stays sent, and a lock file
/// is only a lock.
fn traces(root: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if ["accounting", "notifier", "locks"].iter().any(|kept| path.ends_with(kept)) {
            continue;
        }
        if path.is_dir() {
            found.extend(traces(&path, name));
        } else if path.display().to_string().contains(name) {
            found.push(path);
        }
    }
    found
}
