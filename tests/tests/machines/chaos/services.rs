//! The processes of the installation, and what a supervisor does for them: who has ended is started again.
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::installation::Installation;

pub struct Services<'a> {
    installation: &'a Installation,
    names: Vec<String>,
    /// Words before the command of a service.
    prefixes: BTreeMap<String, String>,
    /// Killed, and not to be started yet.
    killed: BTreeSet<String>,
    /// How often one has ended by itself.
    pub ended: BTreeMap<String, usize>,
}

impl<'a> Services<'a> {
    /// Those that run.
    pub fn of(installation: &'a Installation) -> Self {
        let files = std::fs::read_dir(installation.folder().join("run")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".pid").map(str::to_owned)).collect();
        names.sort();
        Self {
            installation,
            names,
            prefixes: BTreeMap::new(),
            killed: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// SIGKILL. Nothing if it has just ended.
    pub fn kill(&mut self, service: &str) -> bool {
        let lives = self.pid(service).is_some();
        if lives {
            self.killed.insert(service.to_owned());
            self.installation.kill(service);
        }
        lives
    }

    /// The same, and nobody starts it before [`Self::start`], also if it has just ended.
    pub fn keep_down(&mut self, service: &str) {
        self.kill(service);
        self.killed.insert(service.to_owned());
    }

    /// Whether it was killed, and not started since.
    pub fn is_killed(&self, service: &str) -> bool {
        self.killed.contains(service)
    }

    pub fn start(&mut self, service: &str) {
        let prefix = self.prefixes.get(service).map_or("", String::as_str);
        self.installation.start_again(service, prefix);
        self.killed.remove(service);
    }

    /// From now on its command begins with these words.
    pub fn move_behind(&mut self, service: &str, prefix: String) {
        self.prefixes.insert(service.to_owned(), prefix);
        self.kill(service);
        self.start(service);
    }

    /// SIGSTOP or SIGCONT. Nothing if it has just ended.
    pub fn signal(&self, service: &str, signal: &str) -> bool {
        let Some(pid) = self.pid(service) else { return false };
        let sent = Command::new("kill").args(["-s", signal, &pid]).output();
        sent.is_ok_and(|output| output.status.success())
    }

    /// SIGSTOP to all whose names begin so, and SIGCONT when what is returned is dropped.
    pub fn stop_all(&self, name: &str) -> Stopped<'_> {
        let names = self.names.iter().filter(|service| service.starts_with(name));
        let stopped = Stopped { services: self, names: names.cloned().collect() };
        for service in &stopped.names {
            // One that has just ended does nothing more, either.
            self.signal(service, "STOP");
        }
        stopped
    }

    /// Start whoever has ended by itself: a coordinator does, if it finds no broker at its start.
    pub fn supervise(&mut self) {
        for service in self.names.clone() {
            if !self.killed.contains(&service) && self.pid(&service).is_none() {
                *self.ended.entry(service.clone()).or_default() += 1;
                self.start(&service);
            }
        }
    }

    /// The number of its process, if that lives: the file also says when it was started.
    fn pid(&self, service: &str) -> Option<String> {
        let file = self.installation.folder().join("run").join(format!("{service}.pid"));
        let text = std::fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold blanks.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let lives = !["Z", "X"].contains(fields.first()?) && *fields.get(19)? == started;
        lives.then(|| pid.to_owned())
    }
}

/// Services that are stopped as long as this is there.
pub struct Stopped<'a> {
    services: &'a Services<'a>,
    names: Vec<String>,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        for service in &self.names {
            self.services.signal(service, "CONT");
        }
    }
}
