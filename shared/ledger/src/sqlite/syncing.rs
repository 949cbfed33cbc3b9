//! The thread that syncs the log, so that one transaction becomes durable while the next is decided and written.
//!
//! A commit only appends to the log (`synchronous = NORMAL`: SQLite itself syncs before it copies anything out of it, and
//! before it begins it anew). What a transaction answers goes here with it, and nobody is answered before a sync that
//! began after its commit has succeeded. One sync does for all that are committed by then; they are answered in their
//! order. The log is recovered from its beginning up to the last commit that is whole, so whoever is answered rests on
//! nothing that a power failure could take away, and what was decided on top of what is not synced yet is lost with it.
//!
//! Readers may see what is committed and not synced, as they may see what is committed and not answered: they show it to
//! people, and whatever is done about it is asked of the writer first, whose answer waits for a later sync.
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::connection::store;
use super::writer::{Answer, Command};
use crate::LedgerError;

/// Transactions that may be committed while one is synced: enough for the writer not to wait, and few enough for no
/// answer to wait behind many.
const AHEAD: usize = 1;

/// Makes all that is committed durable.
pub(super) type SyncLog = Box<dyn FnMut() -> io::Result<()> + Send>;

/// What a transaction answers, once it is durable.
type Committed = (Vec<Command>, Vec<Answer>);

/// See the module.
#[derive(Debug)]
pub(super) struct Syncer {
    committed: SyncSender<Committed>,
    failed: Arc<OnceLock<String>>,
    thread: JoinHandle<()>,
}

/// What syncs the log of the file at `path`. There is one as soon as something was written.
///
/// # Errors
/// If there is none.
pub(super) fn log_of(path: &Path) -> Result<SyncLog, LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    // SQLite deletes its log with the last connection that closes, and the writer's is open for as long as this is used.
    let log = File::open(name).map_err(store("opening the log of the file"))?;
    Ok(Box::new(move || log.sync_data()))
}

impl Syncer {
    /// Start the thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(super) fn start(sync: SyncLog) -> Result<Self, LedgerError> {
        let (committed, waiting) = sync_channel(AHEAD);
        let failed = Arc::new(OnceLock::new());
        let work = {
            let failed = failed.clone();
            move || answer(&waiting, sync, &failed)
        };
        let thread = std::thread::Builder::new().name("ledger-syncer".to_owned()).spawn(work);
        Ok(Self { committed, failed, thread: thread.map_err(store("starting the syncer"))? })
    }

    /// Whether another transaction may be begun: not after a sync has failed. What the system has forgotten of the log by
    /// then nobody knows, and a second sync that succeeds would say nothing about it.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if not.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.failed.get().map_or(Ok(()), |why| Err(lost(why)))
    }

    /// Have these answered once they are durable.
    pub(super) fn answer(&self, group: Vec<Command>, answers: Vec<Answer>) {
        // The thread ends before its sender only if it panicked; who waits for an answer then finds that there is none.
        if self.committed.send((group, answers)).is_err() {
            self.failed.get_or_init(|| "its thread has ended".to_owned());
        }
    }

    /// Wait until all are answered.
    pub(super) fn end(self) {
        drop(self.committed);
        if self.thread.join().is_err() {
            tracing::error!("the syncer panicked");
        }
    }
}

fn answer(waiting: &Receiver<Committed>, mut sync: SyncLog, failed: &OnceLock<String>) {
    while let Ok(first) = waiting.recv() {
        // All of them were committed before the sync begins.
        let all: Vec<Committed> = std::iter::once(first).chain(waiting.try_iter()).collect();
        if failed.get().is_none()
            && let Err(error) = sync()
        {
            let why = failed.get_or_init(|| error.to_string());
            tracing::error!(%why, "the log could not be synced: nothing more is written until Sexton is started anew");
        }
        for (group, answers) in all {
            for (command, answer) in group.into_iter().zip(answers) {
                // Whoever asked may be gone; what was decided stays decided.
                command.reply.send(failed.get().map_or(Ok(answer), |why| Err(lost(why)))).ok();
            }
        }
    }
}

fn lost(why: &str) -> LedgerError {
    LedgerError::Unfit(format!(
        "its log could not be synced ({why}), so what was written last may be lost: look at the disk, and start Sexton anew"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::writer::Work;
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    type Reply = oneshot::Receiver<Result<Answer, LedgerError>>;

    fn command() -> (Command, Reply) {
        let (reply, replied) = oneshot::channel();
        (Command { work: Work::Compare, attempt: None, reply }, replied)
    }

    fn commit(syncer: &Syncer) -> Reply {
        let (command, reply) = command();
        syncer.answer(vec![command], vec![Answer::Pulse]);
        reply
    }

    /// A sync that says that it began, and ends as it is told.
    fn told() -> (SyncLog, Receiver<()>, SyncSender<io::Result<()>>) {
        let (begun, begins) = mpsc::channel();
        let (ends, end) = sync_channel::<io::Result<()>>(9);
        let sync = move || {
            begun.send(()).unwrap();
            end.recv().unwrap()
        };
        (Box::new(sync), begins, ends)
    }

    #[test]
    fn nobody_is_answered_before_a_sync_that_began_after_the_commit() {
        let (sync, begins, ends) = told();
        let syncer = Syncer::start(sync).unwrap();
        let mut first = commit(&syncer);
        begins.recv().unwrap();
        // Committed while the first is synced: that sync says nothing about it.
        let mut second = commit(&syncer);
        std::thread::sleep(SOON);
        assert!(first.try_recv().is_err());
        ends.send(Ok(())).unwrap();
        assert!(matches!(first.blocking_recv(), Ok(Ok(Answer::Pulse))));
        begins.recv().unwrap();
        std::thread::sleep(SOON);
        assert!(second.try_recv().is_err());
        ends.send(Ok(())).unwrap();
        assert!(matches!(second.blocking_recv(), Ok(Ok(Answer::Pulse))));
        syncer.check().unwrap();
        syncer.end();
    }

    #[test]
    fn after_a_sync_that_failed_nobody_is_told_that_anything_is_kept() {
        let (sync, begins, ends) = told();
        let syncer = Syncer::start(sync).unwrap();
        let first = commit(&syncer);
        begins.recv().unwrap();
        let second = commit(&syncer);
        // A second sync could succeed, and must not be asked.
        ends.send(Err(io::Error::other("the disk is gone"))).unwrap();
        ends.send(Ok(())).unwrap();
        for reply in [first, second] {
            let error = reply.blocking_recv().unwrap().unwrap_err().to_string();
            assert!(error.contains("the disk is gone"), "{error}");
        }
        let error = syncer.check().unwrap_err().to_string();
        assert!(error.contains("the disk is gone"), "{error}");
        let third = commit(&syncer);
        assert!(third.blocking_recv().unwrap().is_err());
        syncer.end();
        assert!(begins.try_recv().is_err(), "it was synced again");
    }

    #[test]
    fn all_are_answered_before_it_ends() {
        let syncer = Syncer::start(Box::new(|| Ok(()))).unwrap();
        let replies = [commit(&syncer), commit(&syncer), commit(&syncer)];
        syncer.end();
        for mut reply in replies {
            assert!(matches!(reply.try_recv(), Ok(Ok(Answer::Pulse))));
        }
    }
}
