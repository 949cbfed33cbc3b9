//! Records that ended long ago leave the job table for files, and a signed stub stays.
//!
//! Contract: in this order, and each only after the one before: the record is read whole and checked, its chain against
//! its head; its file is written, synced, read back and checked (`shelf`); one transaction inserts the stub and removes the rows.
//! So one may die between any two lines: whoever comes next makes the same document, finds the same file, and goes on. A
//! record that is not over, whose chain is broken, or under whose name another file lies, stays where it is, and that is
//! reported.
//!
//! One archiver works in a folder at a time (a lock file); coordinators that share a folder take turns. Under review
//! nothing is archived: a person compares what is there.
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sexton_ledger::{Archive, Ended, Ledger, LedgerError};
use sexton_model::archive::{NotArchivable, Stub};
use sexton_model::time::add_days;
use sexton_model::{DeletionId, Timestamp};
use sexton_protocol::archive::{seal, sign_stub, verify_stub};
use sexton_protocol::{AuthError, BeaconSigner, BeaconVerifier};

use self::shelf::{Shelf, ShelfError};

/// Records in one step of a round: seconds of work, after which one may stop.
const PER_STEP: u32 = 100;

/// What an archiver needs.
pub struct Options {
    /// The archive's side of the job table.
    pub store: Arc<dyn Archive>,
    /// Where files are kept. It has to exist: a folder that is missing may be a disk that is not there.
    pub folder: PathBuf,
    /// How many policy days after its end a record is archived (days of UTC), at least 1.
    pub after_days: u32,
    /// Signs files and stubs.
    pub signer: Arc<BeaconSigner>,
    /// Other keys that files may have been signed with before.
    pub known: BeaconVerifier,
}

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that were archived.
    pub archived: AtomicU64,
    /// Times that a record could not be: the same one counts each time it is tried.
    pub refused: AtomicU64,
}

/// See the module.
pub struct Archiver {
    store: Arc<dyn Archive>,
    folder: PathBuf,
    after_days: i32,
    signer: Arc<BeaconSigner>,
    keys: BeaconVerifier,
    /// What it has done.
    pub counters: Counters,
}

/// How far a round over the job table has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    after: Option<Ended>,
}

/// Why one record was not archived. Nothing of it was removed.
#[derive(Debug, thiserror::Error)]
enum NotArchived {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Record(#[from] NotArchivable),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("it cannot be written down")]
    Json(#[from] serde_json::Error),
}

impl Archiver {
    /// An archiver for this store and folder.
    pub fn new(options: Options) -> Self {
        let Options { store, folder, after_days, signer, known } = options;
        let keys = signer.verifier().and(known);
        let after_days = i32::try_from(after_days.max(1)).unwrap_or(i32::MAX);
        Self { store, folder, after_days, signer, keys, counters: Counters::default() }
    }

    /// Archive some records that ended long ago. Returns where the round goes on, if there may be more.
    ///
    /// # Errors
    /// If the job table cannot be read; the next round tries again. What cannot be archived is logged and counted.
    pub async fn go_on(&self, ledger: &dyn Ledger, round: Round) -> Result<Option<Round>, LedgerError> {
        if ledger.review().await?.is_some() {
            return Ok(None);
        }
        let facts = ledger.facts().await?;
        let before = add_days(facts.now, -self.after_days, chrono_tz::UTC, facts.day);
        let found = self.store.ended(before, round.after, PER_STEP).await?;
        let Some(last) = found.last().copied() else { return Ok(None) };
        let (folder, keys) = (self.folder.clone(), self.keys.clone());
        let shelf = match blocking(move || Shelf::open(&folder, keys)).await {
            Ok(shelf) => Arc::new(shelf),
            Err(ShelfError::Locked(_)) => {
                tracing::debug!("another coordinator archives");
                return Ok(None);
            }
            Err(error) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = &error as &dyn std::error::Error, "nothing is archived");
                return Ok(None);
            }
        };
        for one in &found {
            self.note(one.deletion, self.one(&shelf, one.deletion, facts.now).await);
        }
        Ok((found.len() >= PER_STEP as usize).then_some(Round { after: Some(last) }))
    }

    /// Check that a stub was signed by a key that is known here.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify(&self, stub: &Stub) -> Result<(), AuthError> {
        verify_stub(stub, &self.keys)
    }

    fn note(&self, deletion: DeletionId, done: Result<Option<String>, NotArchived>) {
        match done {
            Ok(Some(file)) => {
                self.counters.archived.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%deletion, file, "archived");
            }
            Ok(None) => {}
            Err(error) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                let error = &error as &dyn std::error::Error;
                tracing::error!(%deletion, error, "not archived, it stays in the job table");
            }
        }
    }

    /// Archive one record; the file's name, unless somebody else was quicker.
    async fn one(
        &self,
        shelf: &Arc<Shelf>,
        id: DeletionId,
        now: Timestamp,
    ) -> Result<Option<String>, NotArchived> {
        let Some(document) = self.store.whole(id).await? else { return Ok(None) };
        document.check()?;
        let name = document.file_name();
        let file = seal(&document, &self.signer)?;
        let (shelf, to) = (shelf.clone(), name.clone());
        let sha256 = blocking(move || shelf.keep(&to, &file)).await?;
        let stub = sign_stub(document.entry(now, sha256), &self.signer)?;
        Ok(self.store.archive(&stub).await?.then_some(name))
    }
}

/// A sync takes as long as the disk takes.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShelfError> + Send + 'static,
) -> Result<T, ShelfError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ShelfError::Io(PathBuf::new(), std::io::Error::other(error))),
    }
}
