//! The database: copied while it runs, and put back to that copy later.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sexton_api::{AcceptReview, LostInfo};
use sexton_model::Timestamp;

use super::judge;
use super::notes::Notes;
use super::port;
use super::services::Services;
use crate::installation::{Answer, Installation};
use crate::program::run;
use crate::waiting::wait_for;

/// Longest wait until somebody notices that the job table went back, and until it is accepted.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long whoever has to accept it looks at it: in that time nothing may be ordered.
const LOOKED_AT: Duration = Duration::from_secs(4);
/// What a coordinator has asked of the database before it was stopped is done or given up by then.
const IN_FLIGHT: Duration = Duration::from_secs(1);

pub struct Store<'a> {
    installation: &'a Installation,
    day_ms: u64,
    copied: Option<Timestamp>,
}

/// Where the database in this folder is spoken to, whether or not anybody is there just now.
pub fn address(folder: &Path) -> Option<SocketAddr> {
    port(folder, "pg").map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl<'a> Store<'a> {
    pub fn of(installation: &'a Installation, day_ms: u64) -> Self {
        Self { installation, day_ms, copied: None }
    }

    fn folder(&self) -> PathBuf {
        self.installation.folder().join("postgres")
    }

    /// Take a copy.
    pub fn copy(&mut self) {
        let folder = self.folder();
        let (data, copy) = (folder.join("data"), folder.join("copy"));
        let _ = std::fs::remove_dir_all(&copy);
        let env = std::fs::read_to_string(folder.join("env")).unwrap();
        let programs = env.lines().find_map(|line| line.strip_prefix("PG_BIN=")).unwrap();
        let port = port(&folder, "pg").unwrap().to_string();
        self.copied = Some(now());
        let mut command = Command::new(Path::new(programs).join("pg_basebackup"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "--checkpoint=fast", "-X", "stream"]);
        run(command.arg("-D").arg(&copy));
        run(Command::new("chown").arg("-R").arg(format!("--reference={}", data.display())).arg(&copy));
    }

    /// The copy takes the place of the database. Nothing may be ordered until a person has accepted that.
    pub fn put_back(&mut self, services: &Services<'_>, notes: &Notes) {
        let copied = self.copied.take().unwrap();
        let folder = self.folder();
        let (data, lost, copy) = (folder.join("data"), folder.join("lost"), folder.join("copy"));
        let dev = self.installation.folder();
        // Who decides is stopped from before it is read until the database is dead: what was decided between would be lost, and
        // not be named.
        let deciding = services.stop_all("coordinator");
        std::thread::sleep(IN_FLIGHT);
        let touched = wait_for(PATIENCE, || judge::touched_since(dev, self.day_ms, copied));
        notes.say(format!("of {} records decisions may be lost", touched.len()));
        notes.lose(touched);
        self.installation.kill_server("postgres");
        drop(deciding);
        let _ = std::fs::remove_dir_all(&lost);
        std::fs::rename(&data, &lost).unwrap();
        std::fs::rename(&copy, &data).unwrap();
        let back = now();
        self.installation.start_server("postgres");
        self.review();
        std::thread::sleep(LOOKED_AT);
        // Seen again after that time: whoever was killed meanwhile may have noticed only now.
        let (accepted, epoch) = self.accept();
        notes.reviewed(back, accepted);
        notes.say(format!("the job table went back, and was accepted in epoch {epoch}"));
    }

    /// The epoch of the review that is open, once whoever answers has compared the job table with what it has signed.
    fn review(&self) -> u32 {
        wait_for(PATIENCE, || {
            let shown = self.installation.ask(|client| async move { client.review().await });
            let shown = shown.done().ok_or("nobody answers".to_owned())?;
            let review = shown.review.ok_or("nobody has noticed that the job table went back".to_owned())?;
            match shown.lost {
                Some(LostInfo { not_compared: None, .. }) => Ok(review.epoch),
                other => Err(format!("what was signed and is lost is not named: {other:?}")),
            }
        })
    }

    /// When it was accepted at the earliest, and in which epoch.
    fn accept(&self) -> (Timestamp, u32) {
        let epoch = self.review();
        let accepted = now();
        wait_for(PATIENCE, || {
            let reason = "an older copy, put back by a test".to_owned();
            let body = AcceptReview { epoch, reason };
            let asked = self.installation.ask(|client| {
                let body = body.clone();
                async move { client.accept_review(&body).await }
            });
            match asked {
                Answer::Done(_) => Ok((accepted, epoch)),
                // By a request whose answer was lost.
                Answer::Refused(why) if why.contains("there is no review of epoch") => Ok((accepted, epoch)),
                Answer::Refused(why) => Err(why),
                Answer::Unknown => Err("nobody answers".to_owned()),
            }
        })
    }
}
