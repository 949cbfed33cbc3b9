//! What this coordinator has seen of the job table, kept outside of it: so that a table that was set back in
//! time is noticed at the next start, too (invariant I15; the rule is [`sexton_model::checkpoint`]).
//!
//! Contract: two files. The *witness* is written every second, whole and durable (written aside, synced,
//! renamed). The *recent* one beside it is written after each batch, before its orders are published and anybody is
//! told, and before whoever has changed something by the API is answered, in place and without a sync: it survives the death of this process, not that of the machine. So of
//! every order that was ever published, a coordinator that is killed still knows; one whose machine loses power
//! may have forgotten the last second. What was ordered in that second is noticed when it is answered: the trail
//! knows nothing of that order (`Engine::doubt`); what is no record's decision, such as a ceiling, is not. A witness that cannot be kept for a minute stops publishing.
//!
//! Each coordinator has a witness of its own: it vouches for what it has decided itself. It should not lie where
//! the database lies, lest both be set back together.
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sexton_ledger::Ledger;
use sexton_model::checkpoint::{self, Checkpoint, Start};

/// Largest file that is read: sixteen landmarks take two kilobytes.
const FILE_MAX_BYTES: u64 = 1 << 16;
/// Length of the recent file in bytes: one page, written at once. What is shorter is filled with blanks.
const RECENT_BYTES: usize = 4096;
/// A witness that was not kept for so long is no witness: nothing is published until it is kept again.
const STALE: Duration = Duration::from_secs(60);
/// How long to wait for a predecessor that is on its way out.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Where the witness has the time from: [`Instant::now`], or what a test says. It never goes back.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

/// See the module. Dropping it gives up its lock.
pub struct Witness {
    file: PathBuf,
    now: Now,
    recent: Mutex<File>,
    /// When it was kept last.
    kept: Mutex<Instant>,
    /// Locked: two coordinators with one witness would overwrite what the other has seen.
    _lock: File,
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl Witness {
    /// Read the witness at `file` and confront the ledger with it; make it if the ledger is new, or if `new` says
    /// that a person knows that it may be.
    ///
    /// # Errors
    /// If it is missing although it should not be, cannot be read or written, or is about another ledger.
    pub async fn open(file: &Path, ledger: &dyn Ledger, new: bool) -> anyhow::Result<Self> {
        Self::open_at(file, ledger, new, Arc::new(Instant::now)).await
    }

    /// The same, with another clock.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_at(file: &Path, ledger: &dyn Ledger, new: bool, now: Now) -> anyhow::Result<Self> {
        let about = || format!("the witness {}", file.display());
        let lock = lock(&beside(file, ".lock")).with_context(about)?;
        let recent_file = beside(file, ".recent");
        let seen = read(file).with_context(about)?;
        let facts = ledger.facts().await?;
        match checkpoint::start(seen.as_ref(), &facts.ledger, facts.decided, new).with_context(about)? {
            Start::Make => tracing::info!(file = %file.display(), "a new witness"),
            Start::Compare => {
                // A recent file may be torn by a loss of power: then it says nothing but that, and the witness stands.
                let recent =
                    text(&recent_file).with_context(|| format!("reading {}", recent_file.display()))?;
                let recent = recent.and_then(|text| match recent_of(&text, &facts.ledger) {
                    Ok(known) => Some(known),
                    Err(why) => {
                        let (file, why) = (recent_file.display(), format!("{why:#}"));
                        tracing::warn!(%file, why, "what was seen last is not known: the witness alone stands");
                        None
                    }
                });
                for known in seen.into_iter().chain(recent) {
                    if let Some(review) = ledger.confront(&known).await.with_context(about)? {
                        tracing::error!(epoch = review.epoch, behind = %review.behind, "nothing is dispatched: sexton review");
                    }
                }
            }
        }
        let recent = File::options().create(true).truncate(false).write(true).open(&recent_file);
        let recent = recent.with_context(|| format!("opening {}", recent_file.display()))?;
        let (recent, kept) = (Mutex::new(recent), Mutex::new(now()));
        let this = Self { file: file.to_owned(), now, recent, kept, _lock: lock };
        let known = ledger.checkpoint().await?;
        this.keep(&known).with_context(about)?;
        this.note(|| known).with_context(about)?;
        Ok(this)
    }

    /// Keep what is known, durably. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// If it cannot be written; the old one stays.
    pub fn keep(&self, known: &Checkpoint) -> io::Result<()> {
        let aside = beside(&self.file, ".new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(known)?)?;
        file.sync_all()?;
        std::fs::rename(&aside, &self.file)?;
        // The name, too, has to be on disk.
        let folder = self.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = (self.now)();
        Ok(())
    }

    /// For how long it could not be kept, if that is too long for anything to be published.
    pub fn stale(&self) -> Option<Duration> {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let age = (self.now)().saturating_duration_since(kept);
        (age > STALE).then_some(age)
    }

    /// Note what is `known`, so that it outlives this process. Takes microseconds.
    ///
    /// # Errors
    /// If it cannot be written, or the witness itself was not kept for a minute: then nothing may be published.
    pub fn note(&self, known: impl FnOnce() -> Checkpoint) -> io::Result<()> {
        if let Some(age) = self.stale() {
            return Err(io::Error::other(format!("the witness was not kept for {} s", age.as_secs())));
        }
        let file = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for under the lock: what is written later is never older.
        let mut text = serde_json::to_vec(&known())?;
        text.resize(text.len().max(RECENT_BYTES), b' ');
        file.write_all_at(&text, 0)
    }
}

fn read(file: &Path) -> anyhow::Result<Option<Checkpoint>> {
    text(file)?.map(|text| checkpoint_of(&text)).transpose()
}

fn checkpoint_of(text: &str) -> anyhow::Result<Checkpoint> {
    let damaged = "it is damaged. If you know that the ledger is the latest one, remove it and start with --new-witness";
    seen_by(text).context(damaged)
}

/// What the recent file says of this ledger; or why nothing.
fn recent_of(text: &str, ledger: &str) -> anyhow::Result<Checkpoint> {
    let recent = seen_by(text)?;
    ensure!(recent.ledger == ledger, "it is about the ledger {}, and this is {ledger}", recent.ledger);
    Ok(recent)
}

/// What a file says, if that is whole and somebody can have seen it.
fn seen_by(text: &str) -> anyhow::Result<Checkpoint> {
    let seen: Checkpoint = serde_json::from_str(text)?;
    seen.can_be()?;
    Ok(seen)
}

/// What is in a file, if it is there.
fn text(file: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(found) if found.len() > FILE_MAX_BYTES => bail!("larger than {FILE_MAX_BYTES} bytes"),
        Ok(_) => {}
    }
    Ok(Some(String::from_utf8_lossy(&std::fs::read(file)?).into_owned()))
}

fn lock(file: &Path) -> anyhow::Result<File> {
    let locked = File::options().create(true).truncate(false).write(true).open(file).with_context(|| {
        format!(
            "opening {}: [ledger] witness has to name a file in a folder that can be written",
            file.display()
        )
    })?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match locked.try_lock() {
            Ok(()) => return Ok(locked),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "{} is locked by another process: each coordinator needs a witness of its own ([ledger] witness)",
                file.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sexton_model::DeletionId;
    use sexton_model::checkpoint::{Decision, Landmark, Mark};
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    fn known() -> Checkpoint {
        let landmark = Landmark { deletion: DeletionId(7), seq: 3, hash: "0".repeat(64) };
        let mark = Mark { epoch: 2, number: 9, fence: 40, revision: 5, ..Mark::default() };
        let decision = Decision { number: 8, chain: "vm/web01".to_owned(), seq: 2, hash: "1".repeat(64) };
        Checkpoint {
            ledger: "7b21".to_owned(),
            mark,
            landmarks: vec![landmark],
            records: 9,
            decision: Some(decision),
        }
    }

    /// What is taken is read again as it was written, by the recent file, too, of which a part says nothing.
    #[test]
    fn fuzz_witnesses() {
        Fuzz::new("witnesses", Form::Json).seed(serde_json::to_vec(&known()).unwrap()).slow(2).run(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            let known = checkpoint_of(&text).map_err(|error| {
                let why = format!("{error:#}");
                assert!(why.contains("--new-witness"), "{why}");
                why
            })?;
            let again = serde_json::to_string(&known).unwrap();
            assert_eq!(checkpoint_of(&again).unwrap(), known);
            assert_eq!(recent_of(&format!("{again}   "), &known.ledger).unwrap(), known);
            recent_of(&again, &format!("{}x", known.ledger)).unwrap_err();
            recent_of(&again[..again.floor_char_boundary(again.len() / 2)], &known.ledger).unwrap_err();
            compared(&known);
            Ok(())
        });
    }

    /// What a ledger is told by a witness that was taken, whatever stands in it.
    fn compared(known: &Checkpoint) {
        assert_eq!(checkpoint::start(Some(known), &known.ledger, true, false), Ok(Start::Compare));
        assert_eq!(
            checkpoint::behind(known, known.mark, Vec::new(), None),
            None,
            "it stands where it was seen"
        );
        let found = Mark { epoch: 2, number: 9, fence: 40, revision: 5, ..Mark::default() };
        let missing = (known.landmarks.clone(), known.decision.clone());
        if let Some(behind) = checkpoint::behind(known, found, missing.0, missing.1) {
            let epochs = (known.mark.epoch.max(found.epoch), behind.next_epoch());
            assert!(epochs.0 < epochs.1, "it enters {} after {}: {behind}", epochs.1, epochs.0);
            // One behind it, and from there on one after the other.
            for count in [known.mark.number, known.mark.revision] {
                assert!(count < i64::MAX - 1_000_000, "nobody counts on behind {count}: {behind}");
            }
        }
        let records = checkpoint::numbered_behind(7, known.records);
        assert!((7..=7 + checkpoint::RECORDS_AHEAD).contains(&records), "records go on behind {records}");
    }

    /// A ledger that entered an epoch behind it would be stuck there.
    #[test]
    fn a_witness_that_cannot_be_is_damaged_and_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coordinator.witness");
        std::fs::write(&file, serde_json::to_vec(&known()).unwrap()).unwrap();
        assert_eq!(read(&file).unwrap(), Some(known()));
        for mark in [
            Mark { epoch: u32::MAX, ..known().mark },
            Mark { number: i64::MAX, ..known().mark },
            Mark { revision: i64::MAX, ..known().mark },
        ] {
            let text = serde_json::to_string(&Checkpoint { mark, ..known() }).unwrap();
            std::fs::write(&file, &text).unwrap();
            let why = format!("{:#}", read(&file).unwrap_err());
            assert!(why.contains("damaged") && why.contains("at the most"), "{why}");
            let why = format!("{:#}", recent_of(&text, "7b21").unwrap_err());
            assert!(why.contains("at the most") && !why.contains("--new-witness"), "{why}");
        }
        let another = recent_of(&serde_json::to_string(&known()).unwrap(), "7b22").unwrap_err();
        assert_eq!(another.to_string(), "it is about the ledger 7b21, and this is 7b22");
        std::fs::write(&file, vec![b' '; usize::try_from(FILE_MAX_BYTES).unwrap() + 1]).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("larger than 65536 bytes"));
    }
}
