//! Processes, told apart by id *and* start time, and signalled through a descriptor.
//!
//! The system gives ids out again. So a process is opened first, then compared, then signalled through what
//! was opened: whatever happens to the id in between, no other process is hit.
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Duration;

/// How often a file must be seen open until its holder counts as a user of it, and how long after each other. A
/// copy of this consumer that reads headers has a file open for less than a millisecond.
const LOOKS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since the host booted, as `/proc/PID/stat` says.
    pub started: u64,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// The number of the user whose rights this consumer has: what it reads with.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Process {
    /// The live process with this id, if there is one. One that has ended and waits for its parent is gone.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(stat) = gone_is_none(fs::read_to_string(format!("/proc/{pid}/stat")))? else {
            return Ok(None);
        };
        match parse_stat(&stat) {
            Some((state, started)) if !matches!(state, 'Z' | 'X' | 'x') => Ok(Some(Self { pid, started })),
            Some(_) => Ok(None),
            None => Err(io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat is unreadable"))),
        }
    }

    /// Whether it still lives; another process under the same id is not this one.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn lives(self) -> io::Result<bool> {
        Ok(Self::of(self.pid)? == Some(self))
    }

    /// Its command line; `None` if it is gone.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn command_line(self) -> io::Result<Option<Vec<String>>> {
        let Some(raw) = gone_is_none(fs::read(format!("/proc/{}/cmdline", self.pid)))? else {
            return Ok(None);
        };
        if !self.lives()? {
            return Ok(None);
        }
        Ok(Some(split_command_line(&raw)))
    }

    /// Hold on to it; `None` if it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(self) -> io::Result<Option<Held>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // Compared after opening: what is compared is what will be signalled.
        if !self.lives()? {
            return Ok(None);
        }
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd always names the same open file")]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Some(Held { descriptor }))
    }
}

/// One process, whatever becomes of its id.
#[derive(Debug)]
pub struct Held {
    descriptor: AsyncFd<OwnedFd>,
}

impl Held {
    /// Ask it to end.
    ///
    /// # Errors
    /// If the system refuses; that it has ended is fine.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Make it end.
    ///
    /// # Errors
    /// If the system refuses; that it has ended is fine.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Wait until it has ended, at most this long; whether it has.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn ended(&self, within: Duration) -> io::Result<bool> {
        match tokio::time::timeout(within, self.descriptor.readable()).await {
            Ok(ready) => ready.map(|_| true),
            Err(_) => Ok(false),
        }
    }
}

/// All live processes with their command lines.
///
/// # Errors
/// If `/proc` cannot be read, or hides the processes of others: then absence could not be told.
pub fn all() -> io::Result<Vec<(Process, Vec<String>)>> {
    if gone_is_none(fs::read("/proc/1/cmdline"))?.is_none() {
        return Err(io::Error::other("/proc hides the processes of others, so none can be called absent"));
    }
    let mut found = Vec::new();
    for pid in ids()? {
        let Some(raw) = gone_is_none(fs::read(format!("/proc/{pid}/cmdline")))? else { continue };
        if raw.is_empty() {
            continue;
        }
        if let Some(process) = Process::of(pid)? {
            found.push((process, split_command_line(&raw)));
        }
    }
    Ok(found)
}

/// A live process other than `but` that has this file open, if one is seen. Without the rights of root only one's own
/// processes are seen, so `None` proves nothing by itself.
///
/// # Errors
/// If the file or `/proc` cannot be read.
pub fn holder_of(path: &Path, but: Option<u32>) -> io::Result<Option<u32>> {
    let wanted = fs::metadata(path)?;
    for pid in ids()?.into_iter().filter(|pid| Some(*pid) != but) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            match fs::metadata(descriptor.path()) {
                Ok(open) if open.dev() == wanted.dev() && open.ino() == wanted.ino() => return Ok(Some(pid)),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(None)
}

/// A process other than `but` that has this file open at every one of several looks: whoever only reads what is in it,
/// as this consumer and its copies do, has it open for a moment.
///
/// # Errors
/// As [`holder_of`].
pub async fn holder_that_stays(path: &Path, but: Option<Process>) -> io::Result<Option<u32>> {
    for look in 1.. {
        let looked = path.to_owned();
        let holder = tokio::task::spawn_blocking(move || holder_of(&looked, but.map(|but| but.pid))).await;
        let holder = holder.map_err(io::Error::other)??;
        if holder.is_none() || look == LOOKS {
            return Ok(holder);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

fn ids() -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The state and the start time in a line of `/proc/PID/stat`. The program's name in it may hold anything,
/// also spaces and brackets; so everything is counted from the last bracket.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of the line; the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

fn split_command_line(raw: &[u8]) -> Vec<String> {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    raw.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// A process may end at any time, also between two reads.
fn gone_is_none<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_full_of_brackets_does_not_shift_the_fields() {
        let numbers: Vec<String> = (4..=30).map(|n| n.to_string()).collect();
        let line = format!("77 (a) b) Z 1 (c) S {}", numbers.join(" "));
        assert_eq!(parse_stat(&line), Some(('S', 22)));
        for broken in ["", "77", "77 (a", "77 (a)", "77 (a) S 1 2 3"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_command_line_is_split_at_its_zeros() {
        assert_eq!(split_command_line(b"a\0b c\0\0"), ["a", "b c", ""]);
    }

    #[tokio::test]
    async fn another_process_under_the_same_id_is_never_held() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap().unwrap();
        let earlier = Process { started: process.started - 1, ..process };
        assert!(!earlier.lives().unwrap());
        assert!(earlier.open().unwrap().is_none());
        let held = process.open().unwrap().unwrap();
        assert!(!held.ended(Duration::ZERO).await.unwrap());
        held.kill().unwrap();
        assert!(held.ended(Duration::from_secs(10)).await.unwrap());
        // Not waited for by its parent yet, and gone all the same.
        assert!(!process.lives().unwrap());
        child.wait().unwrap();
        held.kill().unwrap();
    }

    #[test]
    fn an_open_file_has_a_holder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = std::process::id();
        assert_eq!(holder_of(file.path(), None).unwrap(), Some(own));
        assert_eq!(holder_of(file.path(), Some(own)).unwrap(), None);
        let path = file.into_temp_path();
        assert_eq!(holder_of(&path, None).unwrap(), None);
    }
}
