//! What processes have used: CPU time and memory, from `/proc`.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Ticks of the kernel's clock in a second: fixed in what it tells programs, on every architecture of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds and memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// User and system time, in seconds.
    pub cpu: f64,
    /// Proportional set size in MiB: memory that several processes share is counted once.
    pub memory: f64,
}

/// Whose use is measured: a process and all that descend from it.
#[derive(Debug, Clone)]
pub enum Whose {
    /// By its number.
    Pid(u32),
    /// By the file with its number, which a script wrote.
    File(PathBuf),
}

impl Whose {
    /// What it has used so far.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn used(&self) -> anyhow::Result<Use> {
        let root = match self {
            Self::Pid(pid) => *pid,
            Self::File(file) => pid_in(file)?,
        };
        let processes = processes()?;
        anyhow::ensure!(processes.contains_key(&root), "process {root} is gone");
        let mut used = Use::default();
        for (pid, process) in &processes {
            if descends(*pid, root, &processes) {
                used.cpu += process.ticks / TICKS_PER_SECOND;
                used.memory += proportional_mib(*pid);
            }
        }
        Ok(used)
    }
}

fn pid_in(file: &Path) -> anyhow::Result<u32> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let pid = text.split_whitespace().next().unwrap_or_default();
    pid.parse().with_context(|| format!("{}: expected a process number", file.display()))
}

struct Process {
    parent: u32,
    /// With those of its children that have ended and were waited for.
    ticks: f64,
}

fn processes() -> anyhow::Result<BTreeMap<u32, Process>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since.
        if let Some(process) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|s| parse(&s)) {
            found.insert(pid, process);
        }
    }
    Ok(found)
}

/// The name stands in brackets and may hold anything: what follows the last one is counted, from the state on.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |n: usize| fields.get(n)?.parse::<f64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks })
}

fn descends(mut pid: u32, root: u32, processes: &BTreeMap<u32, Process>) -> bool {
    while pid != root {
        match processes.get(&pid) {
            Some(process) if process.parent != 0 => pid = process.parent,
            Some(_) | None => return false,
        }
    }
    true
}

/// 0 if the kernel does not say: then the process has ended, or belongs to somebody else.
fn proportional_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
