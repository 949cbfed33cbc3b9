//! The thread that syncs the log, so that one transaction becomes durable while the next is decided and written.
//!
//! A commit only appends to the log (`synchronous = NORMAL`: SQLite itself syncs before it copies anything out of it, and
//! before it begins it anew). What a transaction answers goes here with it, and nobody is answered before a sync that
//! began after its commit has succeeded. One sync does for all that are committed by then; they are answered in their
//! order. The log is recovered from its beginning up to the last commit that is whole, so whoever is answered rests on
//! nothing that a power failure could take away, and what was decided on top of what is not synced yet is lost with it.
//!
//! Readers see what is committed, and what they have seen goes to nobody before it is synced ([`Durable::wait`]); except
//! what only chooses what the writer is asked for, whose answer waits for a later sync.
//!
//! After a sync that failed nothing is written, read or answered any more: what the system has forgotten of the log nobody
//! knows, and a second sync that succeeded would say nothing about it. Whoever starts anew reads the log from the file,
//! where each commit carries a checksum.
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::connection::store;
use super::surroundings::Around;
use super::writer::{Answer, Command};
use crate::LedgerError;
use crate::known::Known;

/// Transactions that may wait to be synced, besides the one that the writer has just committed: none. It goes on as soon
/// as that is being synced; with more ahead it would write more and smaller ones.
const AHEAD: usize = 0;

/// Makes all that is committed durable.
pub(super) type SyncLog = Box<dyn FnMut() -> io::Result<()> + Send>;

/// What syncs the log of the file at `path`. There is one as soon as something was written.
///
/// # Errors
/// If there is none.
pub(super) fn log_of(path: &Path, around: Around) -> Result<SyncLog, LedgerError> {
    let doing = "opening the log of the file";
    // It lies beside the file itself, and not beside a link to it.
    let mut name = path.canonicalize().map_err(store(doing))?.into_os_string();
    name.push("-wal");
    // SQLite deletes its log with the last connection that closes, and the writer's is open for as long as this is used.
    let log = File::open(name).map_err(store(doing))?;
    Ok(Box::new(move || {
        around.before_sync()?;
        log.sync_data()
    }))
}

/// How far what is committed is durable.
#[derive(Debug)]
pub(super) struct Durable {
    /// Transactions that are committed, or about to be.
    committed: AtomicU64,
    /// Of these, how many are synced; or why no more will be.
    synced: Mutex<Result<u64, String>>,
    changed: Condvar,
    /// Whether no more will be.
    over: watch::Sender<bool>,
    /// Whether nobody hears any more what was read.
    unheard: AtomicBool,
}

impl Default for Durable {
    fn default() -> Self {
        let over = watch::Sender::new(false);
        let (committed, unheard) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { committed, synced: Mutex::new(Ok(0)), changed: Condvar::new(), over, unheard }
    }
}

impl Durable {
    /// Wait until all that is committed by now is durable.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if it cannot be made so, or nobody is left who would hear of it.
    pub(super) fn wait(&self) -> Result<(), LedgerError> {
        let committed = self.committed.load(Ordering::SeqCst);
        let waits = |synced: &mut Result<u64, String>| {
            !self.unheard.load(Ordering::SeqCst) && synced.as_ref().is_ok_and(|synced| *synced < committed)
        };
        let synced = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        match synced.as_ref() {
            Ok(synced) if *synced < committed => {
                Err(LedgerError::Unfit("nobody hears what was read".to_owned()))
            }
            Ok(_) => Ok(()),
            Err(why) => Err(lost(why)),
        }
    }

    /// Nobody hears any more what was read, so nobody waits for it to be durable: a disk may never answer.
    pub(super) fn unheard(&self) {
        // Under the lock: whoever has looked by now sleeps already.
        let synced = self.lock();
        self.unheard.store(true, Ordering::SeqCst);
        drop(synced);
        self.changed.notify_all();
    }

    /// Whether what is committed can still be made durable.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if not.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.lock().as_ref().map(|_| ()).map_err(|why| lost(why))
    }

    /// Wait until nothing that is committed can be made durable any more.
    pub(super) async fn over(&self) {
        // The sender lives as long as this does.
        self.over.subscribe().wait_for(|over| *over).await.ok();
    }

    fn reached(&self, synced: u64) {
        if let Ok(so_far) = self.lock().as_mut() {
            *so_far = synced;
        }
        self.changed.notify_all();
    }

    fn failed(&self, why: String) {
        *self.lock() = Err(why);
        self.changed.notify_all();
        self.over.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, Result<u64, String>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(why: &str) -> LedgerError {
    LedgerError::Unfit(format!(
        "its log could not be synced ({why}), so what was written last may be lost: look at the disk, and start Sexton anew"
    ))
}

/// What a transaction answers, once it is durable.
struct Committed {
    /// How many are committed with it.
    number: u64,
    group: Vec<Command>,
    answers: Vec<Answer>,
    /// The last one that is used; none if nothing was committed.
    fence: Option<i64>,
    /// The number that was raised last.
    raised: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Syncer {
    committed: SyncSender<Committed>,
    durable: Arc<Durable>,
    thread: JoinHandle<()>,
}

impl Syncer {
    /// Start the thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(super) fn start(
        sync: SyncLog,
        durable: Arc<Durable>,
        known: Arc<Known>,
    ) -> Result<Self, LedgerError> {
        let (committed, waiting) = sync_channel(AHEAD);
        let work = {
            let durable = durable.clone();
            move || answer(&waiting, sync, &durable, &known)
        };
        let thread = std::thread::Builder::new().name("ledger-syncer".to_owned()).spawn(work);
        Ok(Self { committed, durable, thread: thread.map_err(store("starting the syncer"))? })
    }

    /// As [`Durable::check`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.durable.check()
    }

    /// A transaction is about to be committed, and so seen by readers. [`Self::answer`], or [`Self::nothing`], has to follow:
    /// they wait for it.
    pub(super) fn committing(&self) {
        self.durable.committed.fetch_add(1, Ordering::SeqCst);
    }

    /// Have these answered once all that is committed by now is durable, fences and the number up to these among it.
    pub(super) fn answer(&self, group: Vec<Command>, answers: Vec<Answer>, (fence, raised): (i64, i64)) {
        self.pass_on(group, answers, (Some(fence), raised));
    }

    /// A transaction failed.
    pub(super) fn nothing(&self) {
        self.pass_on(Vec::new(), Vec::new(), (None, 0));
    }

    fn pass_on(&self, group: Vec<Command>, answers: Vec<Answer>, (fence, raised): (Option<i64>, i64)) {
        let number = self.durable.committed.load(Ordering::SeqCst);
        // The thread ends before its sender only if it panicked; who waits for an answer then finds that there is none.
        if self.committed.send(Committed { number, group, answers, fence, raised }).is_err() {
            self.durable.failed("its thread has ended".to_owned());
        }
    }

    /// Wait until all are answered. Whether all that is committed is durable.
    pub(super) fn end(self) -> bool {
        drop(self.committed);
        if self.thread.join().is_err() {
            self.durable.failed("its thread panicked".to_owned());
        }
        self.durable.check().is_ok()
    }
}

/// However the thread ends: whoever has read what is not synced then waits for it.
struct Ends<'a>(&'a Durable);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let synced = self.0.lock().clone();
        if synced.is_ok_and(|synced| synced < self.0.committed.load(Ordering::SeqCst)) {
            // The writer panicked between a commit and its answer, or this thread did.
            self.0.failed("its writer or its syncer has ended".to_owned());
        }
    }
}

fn answer(waiting: &Receiver<Committed>, mut sync: SyncLog, durable: &Durable, known: &Known) {
    let _ends = Ends(durable);
    while let Ok(first) = waiting.recv() {
        // All of them were committed before the sync begins.
        let all: Vec<Committed> = std::iter::once(first).chain(waiting.try_iter()).collect();
        if durable.check().is_ok() {
            match sync() {
                // What is known is told to a witness outside: never of what a power failure could take back.
                Ok(()) => {
                    all.iter().filter_map(|one| one.fence).for_each(|fence| known.note_fence(fence));
                    all.iter().for_each(|one| known.note_number(one.raised));
                    all.last().into_iter().for_each(|last| durable.reached(last.number));
                }
                Err(error) => {
                    tracing::error!(%error, "the log could not be synced: nothing is written or read until Sexton is started anew");
                    durable.failed(error.to_string());
                }
            }
        }
        for Committed { group, answers, .. } in all {
            for (command, answer) in group.into_iter().zip(answers) {
                // Whoever asked may be gone; what was decided stays decided.
                command.reply.send(durable.check().map(|()| answer)).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::{Scope, ScopedJoinHandle};
    use std::time::Duration;

    use sexton_model::Timestamp;
    use sexton_model::checkpoint::Mark;
    use tokio::sync::oneshot;

    use super::super::writer::Work;
    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const AT_LAST: Duration = Duration::from_secs(20);

    type Reply = oneshot::Receiver<Result<Answer, LedgerError>>;

    struct Begun {
        syncer: Syncer,
        durable: Arc<Durable>,
        known: Arc<Known>,
    }

    impl Begun {
        fn with(sync: SyncLog) -> Self {
            let mark = Mark { epoch: 1, fence: 0, number: 0, revision: 0, at: Timestamp(0) };
            let (durable, known) = (Arc::default(), Arc::new(Known::new("ledger".to_owned(), mark)));
            let syncer = Syncer::start(sync, Arc::clone(&durable), Arc::clone(&known)).unwrap();
            Self { syncer, durable, known }
        }

        fn commit(&self, fence: i64) -> Reply {
            let (reply, replied) = oneshot::channel();
            let command = Command { work: Work::Compare, attempt: None, reply };
            self.syncer.committing();
            self.syncer.answer(vec![command], vec![Answer::Pulse], (fence, fence));
            replied
        }

        /// Commit while the one before is synced, which keeps the writer from going on.
        fn commit_beside<'a>(&'a self, fence: i64, scope: &'a Scope<'a, '_>) -> ScopedJoinHandle<'a, Reply> {
            let beside = scope.spawn(move || self.commit(fence));
            std::thread::sleep(SOON);
            assert!(!beside.is_finished(), "more is ahead than one");
            beside
        }

        fn known_fence(&self) -> i64 {
            let mark = self.known.seen().mark;
            assert_eq!(mark.number, mark.fence, "neither is known before the other");
            mark.fence
        }
    }

    /// A sync that says that it began, and ends as it is told.
    fn told() -> (SyncLog, Receiver<()>, SyncSender<io::Result<()>>) {
        let (begun, begins) = mpsc::channel();
        let (ends, end) = sync_channel::<io::Result<()>>(9);
        let sync = move || {
            begun.send(()).unwrap();
            // Whoever has failed says nothing any more, and is not to wait for this.
            end.recv_timeout(AT_LAST).unwrap_or_else(|_| Err(io::Error::other("nobody says how it ends")))
        };
        (Box::new(sync), begins, ends)
    }

    #[test]
    fn nobody_is_answered_before_a_sync_that_began_after_the_commit() {
        let (sync, begins, ends) = told();
        let on = Begun::with(sync);
        let mut first = on.commit(7);
        begins.recv_timeout(AT_LAST).unwrap();
        std::thread::scope(|scope| {
            // Committed while the first is synced: that sync says nothing about it.
            let second = on.commit_beside(9, scope);
            assert!(first.try_recv().is_err());
            assert_eq!(on.known_fence(), 0);
            ends.send(Ok(())).unwrap();
            assert!(matches!(first.blocking_recv(), Ok(Ok(Answer::Pulse))));
            let mut second = second.join().unwrap();
            begins.recv_timeout(AT_LAST).unwrap();
            std::thread::sleep(SOON);
            assert!(second.try_recv().is_err());
            assert_eq!(on.known_fence(), 7);
            ends.send(Ok(())).unwrap();
            assert!(matches!(second.blocking_recv(), Ok(Ok(Answer::Pulse))));
        });
        assert_eq!(on.known_fence(), 9);
        assert!(on.syncer.end());
    }

    #[test]
    fn what_was_read_is_told_nobody_before_it_is_synced() {
        let (sync, begins, ends) = told();
        let on = Begun::with(sync);
        on.durable.wait().unwrap();
        let _reply = on.commit(7);
        begins.recv_timeout(AT_LAST).unwrap();
        let (has_waited, waited) = mpsc::channel();
        let durable = on.durable.clone();
        std::thread::spawn(move || has_waited.send(durable.wait().is_ok()).unwrap());
        assert!(waited.recv_timeout(SOON).is_err());
        ends.send(Ok(())).unwrap();
        assert!(waited.recv_timeout(AT_LAST).unwrap());
        // What failed to be committed keeps nobody waiting.
        on.syncer.committing();
        on.syncer.nothing();
        ends.send(Ok(())).unwrap();
        on.durable.wait().unwrap();
        assert!(on.syncer.end());
    }

    #[test]
    fn after_a_sync_that_failed_nobody_is_told_that_anything_is_kept() {
        let (sync, begins, ends) = told();
        let on = Begun::with(sync);
        let first = on.commit(7);
        begins.recv_timeout(AT_LAST).unwrap();
        let second = std::thread::scope(|scope| {
            let second = on.commit_beside(9, scope);
            // A second sync could succeed, and must not be asked.
            ends.send(Err(io::Error::other("the disk is gone"))).unwrap();
            ends.send(Ok(())).unwrap();
            second.join().unwrap()
        });
        for reply in [first, second, on.commit(11)] {
            let error = reply.blocking_recv().unwrap().unwrap_err().to_string();
            assert!(error.contains("the disk is gone"), "{error}");
        }
        for refused in [on.syncer.check(), on.durable.wait()] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("the disk is gone"), "{error}");
        }
        assert_eq!(on.known_fence(), 0);
        assert!(!on.syncer.end());
        assert!(begins.try_recv().is_err(), "it was synced again");
    }

    /// The writer may sleep for long meanwhile, and tells nobody.
    #[test]
    fn whoever_has_read_what_is_not_synced_hears_that_its_syncer_panicked() {
        let on = Begun::with(Box::new(|| -> io::Result<()> { panic!("the defect") }));
        let reply = on.commit(7);
        let (has_waited, waited) = mpsc::channel();
        let durable = on.durable.clone();
        std::thread::spawn(move || has_waited.send(durable.wait().is_ok()).unwrap());
        assert_eq!(waited.recv_timeout(AT_LAST), Ok(false));
        reply.blocking_recv().unwrap_err();
        assert!(!on.syncer.end());
    }

    #[test]
    fn all_are_answered_before_it_ends() {
        let on = Begun::with(Box::new(|| Ok(())));
        let replies = [on.commit(1), on.commit(2), on.commit(3)];
        assert!(on.syncer.end());
        for mut reply in replies {
            assert!(matches!(reply.try_recv(), Ok(Ok(Answer::Pulse))));
        }
    }

    /// SQLite keeps its log beside the file, wherever the link to it lies.
    #[test]
    fn the_log_of_a_link_is_that_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::write(&file, b"").unwrap();
        std::fs::write(folder.path().join("link.db-wal"), b"of another time").unwrap();
        assert!(log_of(&link, Around::default()).is_err());
        std::fs::write(folder.path().join("real.db-wal"), b"").unwrap();
        log_of(&link, Around::default()).unwrap()().unwrap();
    }
}
