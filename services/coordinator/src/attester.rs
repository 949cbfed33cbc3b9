//! Signs the heads of the audit chains, and keeps what was signed outside the database, too (the form is
//! [`sexton_model::attest`]; `sexton verify` compares).
//!
//! Contract: what was signed stands in the job table, where all coordinators continue one sequence, and in a file of each
//! coordinator. Before anything is signed, that file and the table are compared: its last line stands in the table under
//! its number, and what the table has beyond it follows from it and is signed by a key that is known here. Otherwise
//! nothing is signed and nothing is written, because whoever has changed the table could have a coordinator vouch for
//! it. The way out is a person's: keep the file, and move it away; a new one begins with the table's first.
//!
//! A ledger under review is not signed: it may be put back yet.
pub mod file;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sexton_ledger::{HASHES_MAX, Ledger, LedgerError};
use sexton_model::attest::{Head, Lost, Newest, Sequence, SignedCheckpoint, Unlinked};
use sexton_model::receipt::{Receipt, SignedReceipt};
use sexton_protocol::{AuthError, BeaconSigner, BeaconVerifier};

use file::{FileError, Open};

/// Signed checkpoints read at once: some megabytes.
const READ: u32 = 16;
/// Chains named in the log if they are shorter than what was signed of them.
const NAMED: usize = 10;

/// What an attester needs.
#[derive(Debug)]
pub struct Options {
    /// Where signed checkpoints are kept outside the database.
    pub file: PathBuf,
    /// How often the heads are signed.
    pub every: Duration,
    /// The key.
    pub signer: Arc<BeaconSigner>,
    /// Keys under which older ones may have been signed, besides this one.
    pub known: BeaconVerifier,
}

/// See the module.
#[derive(Debug)]
pub struct Attester {
    file: PathBuf,
    every: Duration,
    signer: Arc<BeaconSigner>,
    verifier: BeaconVerifier,
    /// Why nothing more was signed the last time.
    trouble: Mutex<Option<String>>,
}

/// Why nothing more is signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// The job table did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The file cannot be gone on with.
    #[error(transparent)]
    File(#[from] FileError),
    /// The table does not hold what the file ends with.
    #[error(
        "{}: its last line, number {number}, is not what the job table holds under that number: the table was set back \
         or changed. Compare (sexton verify); then keep the file, and move it away", file.display()
    )]
    Other {
        /// The file.
        file: PathBuf,
        /// The last line's number.
        number: i64,
    },
    /// What the table holds does not follow.
    #[error("the job table's signed checkpoint behind number {after} {why}")]
    Unlinked {
        /// What it should follow from.
        after: i64,
        /// Why it does not.
        why: Unlinked,
    },
    /// Nobody who is known here has signed it.
    #[error("the job table's signed checkpoint {number} is not authentic: {why}")]
    Forged {
        /// Its number.
        number: i64,
        /// Why.
        why: AuthError,
    },
    /// Chains have become shorter.
    #[error("events are missing that were signed: {0}")]
    Shrunk(String),
    /// It cannot be written down: a defect.
    #[error("a checkpoint cannot be written as JSON")]
    Unwritable(#[from] serde_json::Error),
    /// A task that writes ended: a defect.
    #[error("the file's task ended")]
    Died(#[from] tokio::task::JoinError),
}

/// How far one round over all chains has come.
#[derive(Debug, Default)]
pub struct Round {
    after: Option<String>,
    shrunk: Vec<String>,
}

impl Attester {
    /// See [`Options`].
    pub fn new(options: Options) -> Self {
        let Options { file, every, signer, known } = options;
        let verifier = signer.verifier().and(known);
        Self { file, every, signer, verifier, trouble: Mutex::default() }
    }

    /// How often a round is begun.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Sign a receipt, under the same key.
    ///
    /// # Errors
    /// If it cannot be written as JSON, which would be a defect.
    pub fn receipt(&self, receipt: &Receipt) -> Result<SignedReceipt, serde_json::Error> {
        sexton_protocol::receipt::sign(receipt, &self.signer)
    }

    /// What the job table has lost of all that this coordinator's file says was signed. What is younger than its last line may
    /// be lost besides.
    ///
    /// # Errors
    /// If the file or the job table cannot be read, or somebody has changed the file.
    pub async fn lost(&self, ledger: &dyn Ledger) -> Result<Vec<Lost>, NotSigned> {
        let heads: Vec<Head> = self.newest().await?.into_heads().collect();
        let mut lost = Vec::new();
        for some in heads.chunks(HASHES_MAX) {
            let events = some.iter().map(|head| (head.chain.clone(), head.seq)).collect();
            let stored = ledger.event_hashes(events).await?;
            lost.extend(some.iter().zip(&stored).filter_map(|(head, stored)| head.lost(stored.as_ref())));
        }
        Ok(lost)
    }

    /// The highest number of a record that this coordinator's file says was signed; 0 if it says of none, or there is no file. A line
    /// that is not what was signed is told in the log, and those around it count.
    ///
    /// # Errors
    /// If the file cannot be read, or is too large for that.
    pub async fn highest_record(&self) -> Result<i64, NotSigned> {
        let (path, verifier) = (self.file.clone(), self.verifier.clone());
        let read = tokio::task::spawn_blocking(move || file::newest_of_signed(&path, &verifier)).await?;
        let (newest, wrong) = match read {
            // It says nothing of what was signed, which is no evidence that nothing was.
            Err(FileError::Io(file, error)) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), "which numbers of records were signed is not known: there is no such file");
                return Ok(0);
            }
            read => read?,
        };
        if let Some(error) = wrong {
            tracing::warn!(%error, "not all numbers of records that were signed are known");
        }
        Ok(newest.highest_record())
    }

    async fn newest(&self) -> Result<Newest, NotSigned> {
        let (path, verifier) = (self.file.clone(), self.verifier.clone());
        Ok(tokio::task::spawn_blocking(move || file::newest(&path, &verifier)).await??)
    }

    /// Why nothing more was signed the last time, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sign the heads of some more chains, a thousand at the most. What is left of the round, if it is not over. What
    /// goes wrong ends it, and is told in the log and by [`Self::trouble`].
    pub async fn go_on(&self, ledger: &dyn Ledger, round: Round) -> Option<Round> {
        let (left, trouble) = match self.step(ledger, round).await {
            Ok(left) => (left, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &trouble {
            let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, source, "nothing more is signed of the audit trail");
        }
        if left.is_none() {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(|e| e.to_string());
        }
        left
    }

    async fn step(&self, ledger: &dyn Ledger, mut round: Round) -> Result<Option<Round>, NotSigned> {
        if ledger.review().await?.is_some() {
            return Ok(None);
        }
        // In this order: what has grown is read after the last one that is known. So a head that another coordinator
        // signs meanwhile stands under the very number that this one would use.
        let sequence = self.catch_up(ledger).await?;
        let grown = ledger.grown(round.after.as_deref()).await?;
        if !grown.heads.is_empty() {
            let facts = ledger.facts().await?;
            let attestation = sequence.next(facts.ledger, facts.epoch, facts.now, grown.heads.clone());
            let signed = self.signer.sign_checkpoint(&attestation)?;
            if !ledger.attest(attestation.number, signed, grown.heads).await? {
                // Another coordinator was faster: look again at what is left.
                return Ok(Some(round));
            }
        }
        round.shrunk.extend(grown.shrunk.iter().map(ToString::to_string));
        round.after = grown.next;
        if round.after.is_some() {
            return Ok(Some(round));
        }
        self.catch_up(ledger).await?;
        if round.shrunk.is_empty() {
            return Ok(None);
        }
        let more = round.shrunk.len().saturating_sub(NAMED);
        round.shrunk.truncate(NAMED);
        let named = round.shrunk.join("; ");
        Err(NotSigned::Shrunk(if more > 0 { format!("{named}; and {more} more") } else { named }))
    }

    /// Compare the file with the job table, and append to it what it lacks. Where both stand then.
    async fn catch_up(&self, ledger: &dyn Ledger) -> Result<Sequence, NotSigned> {
        let path = self.file.clone();
        let mut open = tokio::task::spawn_blocking(move || Open::at(&path)).await??;
        let mut sequence = self.end_of(ledger, &open).await?;
        loop {
            let more = ledger.attested_after(sequence.number(), READ).await?;
            let full = more.len() >= READ as usize;
            if open.last().is_none() && !more.is_empty() {
                tracing::warn!(file = %self.file.display(), "a new file of signed checkpoints: it says what the job table says");
            }
            for one in &more {
                let after = sequence.number();
                sequence.see(&one.body).map_err(|why| NotSigned::Unlinked { after, why })?;
                self.authentic(sequence.number(), one)?;
            }
            // Also if there are none: a line without end is not gone on with.
            open = tokio::task::spawn_blocking(move || open.append(&more).map(|()| open)).await??;
            if !full {
                return Ok(sequence);
            }
        }
    }

    /// Where the file ends, if the job table holds the same there.
    async fn end_of(&self, ledger: &dyn Ledger, open: &Open) -> Result<Sequence, NotSigned> {
        let Some(last) = open.last() else { return Ok(Sequence::default()) };
        let form = |why: Unlinked| FileError::Form { file: self.file.clone(), why: why.to_string() };
        let sequence = Sequence::behind(&last.body).map_err(form)?;
        let number = sequence.number();
        self.authentic(number, last)?;
        let stored = ledger.attested_after(number.saturating_sub(1), 1).await?;
        if stored.first() != Some(last) {
            return Err(NotSigned::Other { file: self.file.clone(), number });
        }
        Ok(sequence)
    }

    fn authentic(&self, number: i64, signed: &SignedCheckpoint) -> Result<(), NotSigned> {
        self.verifier.verify_checkpoint(signed).map_err(|why| NotSigned::Forged { number, why })
    }
}
