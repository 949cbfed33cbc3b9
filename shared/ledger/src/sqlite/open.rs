//! Opening the file: lock it, migrate it, check what it is and how durable it is, start the writer.
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sexton_model::audit::GENESIS;
use sexton_model::time::Day;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::SqliteLedger;
use super::chunk::{Bind, execute, store};
use super::clock::Clock;
use super::find::Rounds;
use super::memory::Memory;
use super::run::Setting;
use super::writer::{WAITING, Writer};
use crate::known::Known;
use crate::{LedgerError, Options, rules};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How long to wait for the file's lock: a handle that was just dropped gives it up within moments, another
/// process does not.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How long SQLite waits for a lock inside the file: only a checkpoint or a backup takes one.
const BUSY: Duration = Duration::from_secs(10);

/// Connections that read: a handful of people and one scheduler.
const READERS: u32 = 4;

/// Statements kept prepared: all there are, in all their sizes.
const STATEMENTS: usize = 256;

impl SqliteLedger {
    /// Open the ledger at `path`, creating it if there is none, and start its writer in the current runtime.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if another process has it open, if it was created with another day, or if SQLite
    /// would not keep what it commits; [`LedgerError::Store`] if it cannot be opened or migrated.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, LedgerError> {
        let path = path.as_ref();
        Self::open_through(path, writing(path), options).await
    }

    /// The same, with a connection for the writer that is set otherwise: for tests of what is refused.
    async fn open_through(
        path: &Path,
        writing: SqliteConnectOptions,
        options: Options,
    ) -> Result<Self, LedgerError> {
        let lock = lock(path, LOCK_WAIT).await?;
        let mut db = writing.connect().await.map_err(store("opening the file"))?;
        // Not `run`: with its borrowed connection this future would not be `Send` (sqlx says so itself).
        MIGRATIONS
            .run_direct(None, &mut db, false)
            .await
            .map_err(|e| LedgerError::Store { doing: "migrating the file", source: Box::new(e) })?;
        check_durable(&mut db).await?;
        let (ledger, day) = identify(&mut db, options.day).await?;
        if day != options.day {
            return Err(LedgerError::Unfit(format!(
                "it was created with {day:?}, which cannot be changed to {:?}",
                options.day
            )));
        }
        let memory = Memory::read(&mut db).await?;
        let (mark, _) = super::reviewing::standing(&mut db).await?;
        let known = Arc::new(Known::new(ledger, mark));
        let clock = Arc::new(Clock::default());
        let out = Arc::new(Mutex::new(memory.out.clone()));
        let reads = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A file does not hang up.
            .test_before_acquire(false)
            .connect_with(common(path).pragma("query_only", "ON"))
            .await
            .map_err(store("opening the file to read"))?;
        let (commands, waiting) = mpsc::channel(WAITING);
        let setting = Arc::new(Setting { day, limits: options.limits.clone() });
        let writer = Writer {
            db,
            memory,
            clock: clock.clone(),
            setting,
            out: out.clone(),
            known: known.clone(),
            lock,
        };
        tokio::spawn(writer.work(waiting));
        Ok(Self {
            commands,
            reads,
            clock,
            out,
            limits: options.limits,
            known,
            day,
            rounds: Rounds::default(),
        })
    }
}

fn common(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

fn writing(path: &Path) -> SqliteConnectOptions {
    common(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // In pages. The pages of running deletions are written again and again; a checkpoint copies each once
        // and syncs the file, so one for every 64 MB of log is cheaper than one for every 4 (SQLite's default).
        .pragma("wal_autocheckpoint", "16000")
        // Kibibytes: the tables' hot ends and the queue's index stay in memory.
        .pragma("cache_size", "-131072")
        .pragma("temp_store", "MEMORY")
        .thread_name(|n| format!("ledger-writer-{n}"))
}

/// Take the lock beside the file, or find that somebody else writes it.
async fn lock(path: &Path, patience: Duration) -> Result<File, LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed =
        |source: std::io::Error| LedgerError::Store { doing: "locking the file", source: Box::new(source) };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
    let until = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::Unfit(format!(
                    "another process has it open ({} is locked)",
                    name.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// What was committed must survive a power failure.
async fn check_durable(db: &mut SqliteConnection) -> Result<(), LedgerError> {
    let doing = "checking how durable the file is";
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *db).await.map_err(store(doing))?;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *db).await.map_err(store(doing))?;
    let keys: i64 =
        sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *db).await.map_err(store(doing))?;
    // 2 is FULL, 3 is EXTRA.
    if journal != "wal" || synchronous < 2 || keys != 1 {
        return Err(LedgerError::Unfit(format!(
            "expected journal_mode wal, synchronous 2 and foreign_keys 1, found {journal}, {synchronous} and \
             {keys}"
        )));
    }
    Ok(())
}

/// What this ledger is; it is made if the file is new.
async fn identify(db: &mut SqliteConnection, day: Day) -> Result<(String, Day), LedgerError> {
    let doing = "identifying the ledger";
    let mut bind = Bind::default();
    bind.add(uuid::Uuid::new_v4().to_string()).add(rules::text(&day)?).add(GENESIS.to_vec());
    let sql = "INSERT INTO ledger (one, ledger, epoch, day, pause_head) VALUES (1, ?, 1, ?, ?) \
               ON CONFLICT (one) DO NOTHING";
    execute(db, doing, sql, bind).await?;
    let row = sqlx::query("SELECT ledger, day FROM ledger").fetch_one(db).await.map_err(store(doing))?;
    let text: &str = row.try_get(1).map_err(store(doing))?;
    let day = super::codes::body("ledger", "day", text)?;
    Ok((row.try_get(0).map_err(store(doing))?, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_may_forget_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let fit = writing(&file);
        check_durable(&mut fit.connect().await.unwrap()).await.unwrap();
        for (unfit, found) in [
            (writing(&file).synchronous(SqliteSynchronous::Normal), "found wal, 1 and 1"),
            (writing(&file).foreign_keys(false), "found wal, 2 and 0"),
            (writing(&file).journal_mode(SqliteJournalMode::Delete), "found delete, 2 and 1"),
        ] {
            let error = check_durable(&mut unfit.connect().await.unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
            // Nor is a ledger opened on it.
            let options = Options { day: Day::Calendar, limits: crate::Limits::default() };
            match SqliteLedger::open_through(&file, unfit, options).await {
                Err(LedgerError::Unfit(reason)) => assert!(reason.contains(found), "{reason}"),
                other => panic!("{found}: {other:?}"),
            }
        }
    }

    /// Whoever holds the lock may be another process: a lock belongs to the file that was opened, not to who did.
    #[tokio::test]
    async fn a_file_that_somebody_else_has_open_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let options = Options { day: Day::Calendar, limits: crate::Limits::default() };
        let first = SqliteLedger::open(&file, options.clone()).await.unwrap();
        match lock(&file, Duration::ZERO).await {
            Err(LedgerError::Unfit(reason)) => assert!(reason.contains("another process"), "{reason}"),
            other => panic!("{other:?}"),
        }
        drop(first);
        SqliteLedger::open(&file, options).await.unwrap();
    }
}
