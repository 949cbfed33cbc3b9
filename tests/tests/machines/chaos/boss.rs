//! What somebody does who has asked for nothing: approve what is more than may begin, and stop everything for a while.
use std::time::{Duration, Instant, SystemTime};

use sexton_api::{ApproveRequest, PauseRequest, ResumeQuery};
use sexton_model::Timestamp;
use sexton_model::belts::{Pause, PauseSelector};

use super::Size;
use super::notes::Notes;
use crate::installation::{Answer, Installation};
use crate::machine::SCOPE;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// So long everything is paused.
const STOPPED: Duration = Duration::from_secs(4);
/// Why it is.
const LOOK: &str = "let us look first";

/// Of the machines that are to be gone in the end nobody's soft begins before it was approved: none may within a day. The
/// others are not limited.
pub fn budgets() -> String {
    format!(
        "\n[budgets]\na_day = 1000\neverywhere = 10000\nstages = [\"soft\"]\n\
         scopes = [{{ scope = \"{SCOPE}\", a_day = 0 }}]\n"
    )
}

pub struct Boss {
    /// After so many faults everything is paused.
    from: usize,
    looked: Option<Instant>,
    /// The pause that is in force, since when at the latest, and when that was seen.
    pause: Option<(i64, Timestamp, Instant)>,
    lifted: bool,
    /// Whether one was tried that asked for the deletions.
    refused: bool,
}

impl Boss {
    pub fn of(size: &Size) -> Self {
        Self { from: size.faults / 3, looked: None, pause: None, lifted: false, refused: false }
    }

    /// Whether everything was paused, and no longer is.
    pub fn is_done(&self) -> bool {
        self.lifted && self.pause.is_none()
    }

    /// Do what is to be done now.
    pub fn look(&mut self, installation: &Installation, notes: &Notes) {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        self.approve(installation, notes);
        if notes.faults() >= self.from {
            self.stop(installation, notes);
        }
    }

    fn approve(&mut self, installation: &Installation, notes: &Notes) {
        let batches = installation.ask(|client| async move { client.batches().await });
        for info in batches.done().unwrap_or_default().iter().filter(|info| info.needs_approval) {
            let batch = info.batch;
            let shown = installation.ask(|client| async move { client.batch(batch).await });
            let Some(shown) = shown.done() else { continue };
            let body = ApproveRequest { digest: shown.digest, reason: "they are empty".to_owned() };
            if !self.refused {
                let own = installation.ask(|client| {
                    let body = body.clone();
                    async move { client.approve(batch, &body).await.map(drop) }
                });
                self.refused = matches!(own, Answer::Refused(_));
                if let Answer::Done(()) = own {
                    notes.mistake(format!("I11: batch {batch} was approved by who asked for it"));
                }
            }
            // Noted before: the answer may be lost.
            notes.approve(shown.members.iter().map(|member| member.deletion));
            let asked = installation.ask_as_another(|client| {
                let body = body.clone();
                async move { client.approve(batch, &body).await }
            });
            match asked {
                Answer::Done(approved) => notes.say(format!("of batch {batch} {} go on", approved.members)),
                // Mostly: it was approved before, and the answer was lost, or somebody has left it meanwhile.
                Answer::Refused(why) => notes.say(format!("batch {batch} is not approved: {why}")),
                Answer::Unknown => {}
            }
        }
    }

    /// Pause everything, once; and lift that whenever it has been in force for long enough: a job table that was put back may
    /// have forgotten it, or have it again.
    fn stop(&mut self, installation: &Installation, notes: &Notes) {
        let pauses = installation.ask(|client| async move { client.pauses().await });
        let Some(pauses) = pauses.done() else { return };
        match pauses.iter().find(|pause| pause.reason == LOOK) {
            Some(pause) => self.lift(pause, installation, notes),
            None => {
                self.pause = None;
                if !self.lifted {
                    place(installation, notes);
                }
            }
        }
    }

    fn lift(&mut self, pause: &Pause, installation: &Installation, notes: &Notes) {
        let id = pause.id;
        let (_, since, seen) = match self.pause {
            Some(known) if known.0 == id => known,
            Some(_) | None => (id, now(), Instant::now()),
        };
        self.pause = Some((id, since, seen));
        if seen.elapsed() < STOPPED {
            return;
        }
        // What is too many to go on at once is approved with it.
        let stopped = installation.ask(|client| async move { client.stopped_by(id).await });
        let Some(stopped) = stopped.done() else { return };
        let digest = stopped.crowd.map(|crowd| crowd.digest);
        let until = now();
        let asked = installation.ask_as_another(|client| {
            let query = ResumeQuery { digest: digest.clone() };
            async move { client.resume(id, query).await.map(drop) }
        });
        match asked {
            Answer::Done(()) => {
                notes.say("everything goes on");
                notes.paused(since, until);
                self.lifted = true;
            }
            // Mostly: others wait by now than those that were looked at.
            Answer::Refused(why) => notes.say(format!("the pause is not lifted: {why}")),
            Answer::Unknown => {}
        }
    }
}

fn place(installation: &Installation, notes: &Notes) {
    let asked = installation.ask(|client| {
        let body = PauseRequest { covers: PauseSelector::default(), reason: LOOK.to_owned() };
        async move { client.pause(&body).await.map(drop) }
    });
    match asked {
        Answer::Done(()) => notes.say("everything is paused"),
        Answer::Refused(why) => notes.say(format!("nothing is paused: {why}")),
        // The next look shows whether it was placed.
        Answer::Unknown => {}
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
