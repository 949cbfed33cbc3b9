//! Reading beside the writer: a few connections, each used by one thread at a time.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::connection::{Db, store};
use crate::LedgerError;

/// Connections that read: a handful of people and one scheduler.
const READERS: usize = 4;

/// What they are opened with. `cache_size` is in KiB.
const READING: &str =
    "PRAGMA foreign_keys = ON; PRAGMA query_only = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY";

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Db>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    /// Connections are opened when they are needed first.
    pub(super) fn new(path: &Path) -> Self {
        let turns = Arc::new(Semaphore::new(READERS));
        Self(Arc::new(Shared { path: path.to_owned(), idle: Mutex::default(), turns }))
    }

    /// Run `work`, which sees one state of the file: that of the last commit before it.
    ///
    /// # Errors
    /// Those of `work`, and if the file cannot be opened or read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let doing = "waiting for a connection to read";
        let turn = self.0.turns.clone().acquire_owned().await.map_err(store(doing))?;
        let shared = self.0.clone();
        let read = move || {
            let _turn = turn;
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let db = match idle {
                Some(db) => db,
                None => Db::open(&shared.path, READING)?,
            };
            let done = db.transaction("BEGIN", || work(&db));
            // One that is stuck in a transaction, or whose work panicked, is not used again.
            if db.idle() {
                shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
            }
            done
        };
        tokio::task::spawn_blocking(read).await.map_err(store(doing))?
    }
}
