//! Reading beside the writer: a few threads, each with a connection of its own.
//!
//! Why not the runtime's threads for what blocks: drivers that hang may hold all of them, and then nobody would read the
//! job table either. These end with the handle, which waits until they have closed the file.
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use super::connection::{Db, store};
use super::surroundings::{Around, Moment};
use super::syncing::Durable;
use crate::LedgerError;

/// Threads that read: for a handful of people and one scheduler.
const READERS: usize = 4;

/// What they open the file with. `cache_size` is in KiB.
const READING: &str =
    "PRAGMA foreign_keys = ON; PRAGMA query_only = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY";

/// Done on a reader's thread, with its connection, if it has opened one.
type Job = Box<dyn FnOnce(&mut Option<Db>) + Send>;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<Path>,
    /// Never holds more jobs than there are turns. None once it is being dropped.
    jobs: Option<Sender<Job>>,
    turns: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    around: Around,
    durable: Arc<Durable>,
}

impl Readers {
    /// Start the threads. Each opens the file when it reads first.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(super) fn start(path: &Path, around: Around, durable: Arc<Durable>) -> Result<Self, LedgerError> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..READERS).map(|_| {
            let waiting = waiting.clone();
            let thread = std::thread::Builder::new().name("ledger-reader".to_owned());
            thread.spawn(move || work(&waiting)).map_err(store("starting a reader"))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.into(),
            jobs: Some(jobs),
            turns: Arc::new(Semaphore::new(READERS)),
            threads,
            around,
            durable,
        })
    }

    /// Whether what is committed can still be made durable.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if not.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.durable.check()
    }

    /// Wait until nothing that is committed can be made durable any more.
    pub(super) async fn over(&self) {
        self.durable.over().await;
    }

    /// Run `work`, which sees one state of the file: that of the last commit before it. What it says is durable.
    ///
    /// # Errors
    /// Those of `work`, and if the file cannot be opened, read or synced.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let durable = self.durable.clone();
        self.read_at(work, move || durable.wait()).await
    }

    /// The same of what may still be lost, for whoever only has the writer asked about what was found.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) async fn read_to_ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let durable = self.durable.clone();
        self.read_at(work, move || durable.check()).await
    }

    async fn read_at<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, LedgerError> + Send + 'static,
        sure: impl FnOnce() -> Result<(), LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.around.pass(|| Moment::BeforeRead).await;
        let doing = "waiting for a connection to read";
        let turn = self.turns.clone().acquire_owned().await.map_err(store(doing))?;
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let job: Job = Box::new(move |connection| {
            let done = read(&path, connection, work).and_then(|done| sure().map(|()| done));
            drop(turn);
            // Whoever asked may be gone.
            reply.send(done).ok();
        });
        let ended = || LedgerError::Unfit("its readers have ended".to_owned());
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())?;
        answer.await.map_err(store("reading, which panicked"))?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        // Whoever asked was borrowing this, and is gone: nobody is left for whom it would have to be durable.
        self.durable.unheard();
        for thread in self.threads.drain(..) {
            // A panic was caught, and told to whoever asked.
            thread.join().ok();
        }
    }
}

/// Do what is asked until nobody can ask any more. A panic is a defect, and costs its own read and the connection.
fn work(waiting: &Mutex<Receiver<Job>>) {
    let mut connection = None;
    loop {
        // Whoever waits for a job holds the lock, and the others wait for that.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if std::panic::catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            tracing::error!("a read of the job table panicked");
        }
    }
}

fn read<T>(
    path: &Path,
    connection: &mut Option<Db>,
    work: impl FnOnce(&Db) -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let db = match connection.take() {
        Some(db) => db,
        None => Db::open(path, READING)?,
    };
    let done = db.transaction("BEGIN", || work(&db));
    // One that is stuck in a transaction, or whose work panicked, is not used again.
    if db.idle() {
        *connection = Some(db);
    }
    done
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sexton_model::belts::Policy;
    use sexton_model::checkpoint::Mark;
    use sexton_model::time::Day;

    use super::super::syncing::Syncer;
    use super::*;
    use crate::known::Known;
    use crate::sqlite::SqliteLedger;
    use crate::{DueReader, Ledger, Limits, Options};

    const AT_LAST: Duration = Duration::from_secs(20);

    fn ledger(folder: &Path) -> impl Future<Output = Result<SqliteLedger, LedgerError>> {
        let options = Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
        SqliteLedger::open(folder.join("ledger.db"), options)
    }

    /// As if drivers hung in every thread that the runtime has for them.
    #[test]
    fn reads_go_on_while_everything_that_may_block_hangs() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (free, held) = channel::<()>();
        runtime.block_on(async {
            let ledger = ledger(folder.path()).await.unwrap();
            let hung = tokio::task::spawn_blocking(move || held.recv());
            let reads = async { (ledger.health().await.unwrap(), ledger.due(10).await.unwrap()) };
            tokio::time::timeout(AT_LAST, reads).await.expect("reads wait for what hangs");
            drop(free);
            hung.await.unwrap().unwrap_err();
        });
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_read() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger(folder.path()).await.unwrap();
        for _ in 0..=READERS {
            let panics = |_: &Db| -> Result<(), LedgerError> { panic!("the defect") };
            let answer = ledger.reads.read(panics).await;
            assert!(matches!(answer, Err(LedgerError::Store { .. })), "{answer:?}");
        }
        ledger.health().await.unwrap();
    }

    /// Nobody has the file open any more once the handle is gone.
    #[tokio::test]
    async fn they_end_with_the_handle() {
        let folder = tempfile::tempdir().unwrap();
        let readers = ledger(folder.path()).await.unwrap().reads;
        readers.read(|_| Ok(())).await.unwrap();
        let (ended, told) = channel::<()>();
        let (first, began) = channel();
        // Asked for and given up: the handle waits for it all the same.
        let reading = readers.read(move |_| {
            first.send(()).ok();
            drop(ended);
            Ok(())
        });
        tokio::select! {
            biased;
            _ = reading => {}
            () = std::future::ready(()) => {}
        }
        drop(readers);
        began.try_recv().unwrap();
        told.try_recv().unwrap_err();
    }

    /// As if the disk did not answer: what was read and is not durable keeps nobody who has given up.
    #[tokio::test]
    async fn they_end_with_the_handle_also_if_a_sync_never_does() {
        let folder = tempfile::tempdir().unwrap();
        let _ledger = ledger(folder.path()).await.unwrap();
        let (durable, known) = (Arc::<Durable>::default(), Known::new("ledger".to_owned(), Mark::default()));
        let syncer = Syncer::start(Box::new(|| Ok(())), durable.clone(), Arc::new(known)).unwrap();
        // Durable once that is passed on, and it is not.
        syncer.committing();
        let readers = Readers::start(&folder.path().join("ledger.db"), Around::default(), durable).unwrap();
        let (first, began) = channel();
        let reading = readers.read(move |_| {
            first.send(()).ok();
            Ok(())
        });
        tokio::select! {
            biased;
            _ = reading => {}
            () = std::future::ready(()) => {}
        }
        began.recv_timeout(AT_LAST).unwrap();
        let (ends, ended) = channel();
        std::thread::spawn(move || {
            drop(readers);
            ends.send(()).ok();
        });
        ended.recv_timeout(AT_LAST).expect("the handle waits for what hangs");
        syncer.nothing();
        assert!(syncer.end());
    }
}
