//! The job table in one SQLite file: the footing for one machine.
//!
//! Contract: one process uses the file, which a lock file beside it holds; one thread writes. It drains what
//! waits, decides all of it in one `BEGIN IMMEDIATE` transaction, commits once, and has it
//! answered once the log is synced, while it writes the next (`syncing`): what was answered is on disk. Views and
//! listings read through a few connections of their own and see the last commit.
//!
//! The store's clock is this process's, in microseconds, kept from going back.
//!
//! Dropping the handle is as good as a crash: the writer ends when nobody can ask it any more, and the next
//! [`SqliteLedger::open`] goes on from the last commit.
mod access;
mod admitting;
mod alarms;
mod archive;
mod attesting;
mod behind;
mod below;
mod canary;
mod census;
mod claims;
mod clock;
mod codes;
mod connection;
mod counts;
mod decided;
mod decider;
mod drill;
mod exclusive;
mod find;
mod groups;
mod healthy;
mod inventory;
mod jobs;
mod keys;
mod ledger;
mod lifting;
mod listing;
mod load;
mod memory;
mod one_shots;
mod open;
mod pausing;
mod readers;
mod receipts;
mod rehearsal;
mod resource_holds;
mod restores;
mod reviewing;
mod run;
mod strangers;
mod surroundings;
mod survey;
mod syncing;
mod verify;
mod views;
mod watched;
mod write;
mod writer;

use std::sync::{Arc, Mutex};

use sexton_model::request_key::Attempt;
use tokio::sync::{mpsc, oneshot};

pub use self::surroundings::{Moment, Pass, Surroundings};

use self::clock::Clock;
use self::memory::OutCounts;
use self::readers::Readers;
use self::run::Setting;
use self::surroundings::Around;
use self::writer::{Answer, Command, Work};
use crate::LedgerError;
use crate::known::Known;

/// A ledger in a SQLite file. Cheap to share; the writer ends with the last handle.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    /// Before the writer, whose end others wait for: then nobody has the file open.
    reads: Arc<Readers>,
    commands: mpsc::Sender<Command>,
    clock: Arc<Clock>,
    out: Arc<Mutex<OutCounts>>,
    setting: Setting,
    known: Arc<Known>,
    rounds: Arc<find::Rounds>,
    /// Whose one change this handle is for, if it is.
    attempt: Option<Attempt>,
    around: Around,
}

impl SqliteLedger {
    /// Compare what the writer remembers with the table, and say what differs. They never should; this reads
    /// all that is remembered, so it is for tests and for whoever doubts it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn compare(&self) -> Result<Result<(), String>, LedgerError> {
        match self.ask(Work::Compare).await? {
            Answer::Compare(result) => Ok(result),
            other => Err(mixed_up(&other)),
        }
    }

    async fn ask(&self, work: Work) -> Result<Answer, LedgerError> {
        let about = match (&self.around.0, &work) {
            (Some(_), Work::Run(batch)) => batch.iter().map(|intent| intent.deletion).collect(),
            _ => Vec::new(),
        };
        self.around.pass(|| Moment::BeforeWrite).await;
        let (reply, answer) = oneshot::channel();
        let command = Command { work, attempt: self.attempt.clone(), reply };
        self.commands.send(command).await.map_err(|_| gone())?;
        let answer = answer.await.map_err(|_| gone())??;
        self.around.pass(|| Moment::Committed(about)).await;
        Ok(answer)
    }
}

fn gone() -> LedgerError {
    LedgerError::Unfit("its writer has ended".to_owned())
}

fn mixed_up(answer: &Answer) -> LedgerError {
    LedgerError::Unfit(format!("its writer answered another question: {answer:?}"))
}
