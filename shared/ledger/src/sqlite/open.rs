//! Opening the file: lock it, migrate it, check what it is and how durable it is, start the writer.
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sexton_model::Timestamp;
use sexton_model::audit::GENESIS;
use sexton_model::time::Day;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::SqliteLedger;
use super::clock::Clock;
use super::connection::{Bind, Db, execute, row, store};
use super::decider::Decider;
use super::find::Rounds;
use super::memory::Memory;
use super::readers::Readers;
use super::run::Setting;
use super::surroundings::{Around, Surroundings};
use super::syncing::{Durable, Syncer, log_of};
use super::writer::{WAITING, Writer};
use crate::known::Known;
use crate::policy::CurrentPolicy;
use crate::{LedgerError, Options, rules};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How long to wait for the file's lock: a handle that was just dropped gives it up within moments, another
/// process does not.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What the file is opened with to be written.
///
/// `synchronous` is NORMAL because commits are synced beside what comes next ([`super::syncing`]), and not within each.
/// `wal_autocheckpoint` is in pages: those of running deletions are written again and again; a checkpoint copies each
/// once and syncs the file, so one for every 64 MB of log is cheaper than one for every 4 (SQLite's default). Of
/// `cache_size`, in KiB, the tables' hot ends and the queue's index stay in memory; a larger cache takes memory, and gains
/// nothing that could be measured, since SQLite goes through all cached pages at every commit.
const WRITING: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
     PRAGMA wal_autocheckpoint = 16000; PRAGMA cache_size = -24576; PRAGMA temp_store = MEMORY";

/// How long a day is, in the words of the configuration.
fn described(day: Day) -> String {
    match day {
        Day::Calendar => "with calendar days (without rehearsal_day_ms)".to_owned(),
        Day::Rehearsal { length_ms } => format!("as a rehearsal (rehearsal_day_ms = {length_ms})"),
    }
}

impl SqliteLedger {
    /// Open the ledger at `path`, creating it if there is none, and start its writer on a thread of its own.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if another process has it open, if it was created with another day, or if SQLite
    /// would not keep what it commits; [`LedgerError::Store`] if it cannot be opened or migrated.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, LedgerError> {
        Self::open_with(path.as_ref(), WRITING, options, Around::default()).await
    }

    /// The same, in these surroundings instead of the machine's.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`].
    pub async fn open_in(
        path: impl AsRef<Path>,
        options: Options,
        around: Arc<dyn Surroundings>,
    ) -> Result<Self, LedgerError> {
        Self::open_with(path.as_ref(), WRITING, options, Around(Some(around))).await
    }

    /// The same, with other settings for the writer: for tests of what is refused.
    async fn open_with(
        path: &Path,
        writing: &str,
        options: Options,
        around: Around,
    ) -> Result<Self, LedgerError> {
        let lock = lock(path, LOCK_WAIT).await?;
        migrate(path).await?;
        let db = Db::open(path, writing)?;
        check_durable(&db)?;
        let clock = Arc::new(Clock::of(around.clone()));
        let (ledger, day) = identify(&db, options.day, clock.now())?;
        if day != options.day {
            return Err(LedgerError::Unfit(format!(
                "{}: this job table was created {}, and stays so; the configuration asks for one {}: change \
                 rehearsal_day_ms under [ledger], or name another file there",
                path.display(),
                described(day),
                described(options.day)
            )));
        }
        super::keys::let_all_go(&db)?;
        super::claims::fill(&db, &options.policy)?;
        let memory = Memory::read(&db)?;
        let (mark, _) = super::reviewing::standing(&db)?;
        let known = Arc::new(Known::new(ledger, mark));
        let out = Arc::new(Mutex::new(memory.out.clone()));
        let durable = Arc::<Durable>::default();
        let reads = Arc::new(Readers::start(path, around.clone(), durable.clone())?);
        let (commands, waiting) = mpsc::channel(WAITING);
        let setting = Setting { day, limits: options.limits, policy: CurrentPolicy::new(options.policy) };
        let decider = Decider::start(setting.clone())?;
        let writer = Writer {
            syncer: Syncer::start(log_of(path, around.clone())?, durable, known.clone())?,
            db,
            decider,
            memory,
            clock: clock.clone(),
            setting: setting.clone(),
            out: out.clone(),
            known: known.clone(),
            lock,
        };
        // A thread of its own: it blocks, and whoever decodes or encodes never has it wait for its turn.
        std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || writer.work(waiting))
            .map_err(store("starting the writer"))?;
        let rounds = Arc::new(Rounds::by(around.steady()));
        Ok(Self { reads, commands, clock, out, setting, known, rounds, attempt: None, around })
    }
}

/// Bring the file's tables up to this version; it is made if there is none.
async fn migrate(path: &Path) -> Result<(), LedgerError> {
    let file = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let mut db = file.disable_statement_logging().connect().await.map_err(store("opening the file"))?;
    // Not `run`: with its borrowed connection this future would not be `Send` (sqlx says so itself).
    MIGRATIONS.run_direct(None, &mut db, false).await.map_err(store("migrating the file"))?;
    sqlx::Connection::close(db).await.map_err(store("migrating the file"))
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

/// What was answered must survive a power failure.
fn check_durable(db: &Db) -> Result<(), LedgerError> {
    let doing = "checking how durable the file is";
    let ask = |pragma| row(db, doing, pragma, Bind::default());
    let journal: String = ask("PRAGMA journal_mode")?.try_get(0).map_err(store(doing))?;
    let synchronous: i64 = ask("PRAGMA synchronous")?.try_get(0).map_err(store(doing))?;
    let keys: i64 = ask("PRAGMA foreign_keys")?.try_get(0).map_err(store(doing))?;
    // 0 is OFF: what is copied out of the log, or overwritten in it, would not be synced before.
    if journal != "wal" || synchronous < 1 || keys != 1 {
        return Err(LedgerError::Unfit(format!(
            "expected journal_mode wal, synchronous 1 and foreign_keys 1, found {journal}, {synchronous} and \
             {keys}"
        )));
    }
    Ok(())
}

/// What this ledger is; it is made, now, if the file is new.
fn identify(db: &Db, day: Day, now: Timestamp) -> Result<(String, Day), LedgerError> {
    let doing = "identifying the ledger";
    let mut bind = Bind::default();
    // Whoever founds it was there: that is its first heartbeat.
    bind.add(uuid::Uuid::new_v4().to_string()).add(rules::text(&day)?).add(now.0).add(GENESIS.to_vec());
    let sql = "INSERT INTO ledger (one, ledger, epoch, day, beat_at, pause_head) VALUES (1, ?, 1, ?, ?, ?) \
               ON CONFLICT (one) DO NOTHING";
    if execute(db, doing, sql, bind)? > 0
        && let Some(ceiling) = rules::ceiling_at_founding(day, now)
    {
        let mut bind = Bind::default();
        bind.add(rules::text(&ceiling)?);
        execute(db, doing, "INSERT INTO ceilings (scope, body) VALUES ('', ?)", bind)?;
    }
    let row = row(db, doing, "SELECT ledger, day FROM ledger", Bind::default())?;
    let text: &str = row.try_get(1).map_err(store(doing))?;
    let day = super::codes::body("ledger", "day", text)?;
    Ok((row.try_get(0).map_err(store(doing))?, day))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sexton_model::belts::PauseSelector;
    use sexton_model::belts::ceiling::Ceiling;

    use super::super::surroundings::{Moment, Pass};
    use super::*;
    use crate::{DueReader as _, Ledger as _};
    use sexton_model::belts::Policy;

    #[tokio::test]
    async fn a_file_that_may_forget_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        migrate(&file).await.unwrap();
        check_durable(&Db::open(&file, WRITING).unwrap()).unwrap();
        for (other, found) in [
            ("PRAGMA synchronous = OFF", "found wal, 0 and 1"),
            ("PRAGMA foreign_keys = OFF", "found wal, 1 and 0"),
            ("PRAGMA journal_mode = DELETE", "found delete, 1 and 1"),
        ] {
            let unfit = Db::open(&file, &format!("{WRITING}; {other}")).unwrap();
            let error = check_durable(&unfit).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
            unfit.close();
            // Nor is a ledger opened on it.
            let options =
                Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
            let with = format!("{WRITING}; {other}");
            match SqliteLedger::open_with(&file, &with, options, Around::default()).await {
                Err(LedgerError::Unfit(reason)) => assert!(reason.contains(found), "{reason}"),
                other => panic!("{found}: {other:?}"),
            }
        }
    }

    /// A machine whose disk keeps nothing.
    struct Broken;

    impl Surroundings for Broken {
        fn now(&self) -> Timestamp {
            SystemTime::now().into()
        }

        fn steady_ms(&self) -> u64 {
            0
        }

        fn pass(&self, _: Moment) -> Pass {
            Box::pin(std::future::ready(()))
        }

        fn before_sync(&self) -> std::io::Result<()> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }

    #[tokio::test]
    async fn nothing_is_written_or_read_after_a_sync_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let options =
            Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
        let ledger = SqliteLedger::open_in(&file, options, Arc::new(Broken)).await.unwrap();
        let by: sexton_model::Actor = "operator".parse().unwrap();
        let paused = async || ledger.pause(PauseSelector::default(), &by, "maintenance").await.map(drop);
        let gone = |error: LedgerError| {
            let error = error.to_string();
            assert!(error.contains("the disk is gone"), "{error}");
        };
        gone(paused().await.unwrap_err());
        // Nobody asks meanwhile: the writer sleeps, and knows nothing of it.
        gone(ledger.lost().await);
        gone(ledger.facts().await.unwrap_err());
        gone(ledger.beacon().await.unwrap_err());
        gone(ledger.due(1).await.unwrap_err());
        paused().await.unwrap_err();
        // What was committed before anybody knew may be there; what was asked for afterwards is not.
        let db = Db::open(&file, "").unwrap();
        let pauses = row(&db, "counting", "SELECT count(*) FROM pauses", Bind::default()).unwrap();
        assert_eq!(pauses.try_get::<i64>(0).unwrap(), 1);
    }

    /// Whoever holds the lock may be another process: a lock belongs to the file that was opened, not to who did.
    #[tokio::test]
    async fn a_file_that_somebody_else_has_open_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let options =
            Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
        let first = SqliteLedger::open(&file, options.clone()).await.unwrap();
        match lock(&file, Duration::ZERO).await {
            Err(LedgerError::Unfit(reason)) => assert!(reason.contains("another process"), "{reason}"),
            other => panic!("{other:?}"),
        }
        drop(first);
        SqliteLedger::open(&file, options).await.unwrap();
    }

    /// A job table of before there were ceilings goes on as it was; one that nobody has used yet begins as a new one does.
    #[tokio::test]
    async fn an_older_file_with_records_goes_on() {
        const BEFORE_CEILINGS: i64 = 9;
        let record = "INSERT INTO deletions (id, resource, plan, live, status, audit_seq, audit_head) \
                      VALUES (1, 'vm/web01', 1, 0, 3, 1, zeroblob(32))";
        let rehearsal = Day::Rehearsal { length_ms: 1000 };
        for (day, record, ceiling) in [
            (Day::Calendar, None, Ceiling::Observe),
            (Day::Calendar, Some(record), Ceiling::Purge),
            (rehearsal, None, Ceiling::Purge),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ledger.db");
            let older = MIGRATIONS.iter().filter(|m| m.version <= BEFORE_CEILINGS).cloned().collect();
            let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
            let mut db = options.foreign_keys(false).connect().await.unwrap();
            sqlx::migrate::Migrator::with_migrations(older).run_direct(None, &mut db, false).await.unwrap();
            let ledger = "INSERT INTO ledger (one, ledger, epoch, day, pause_head) VALUES (1, 'x', 1, ?, ?)";
            let day_text = rules::text(&day).unwrap();
            sqlx::query(ledger).bind(day_text).bind(GENESIS.to_vec()).execute(&mut db).await.unwrap();
            if let Some(record) = record {
                sqlx::query(record).execute(&mut db).await.unwrap();
            }
            sqlx::Connection::close(db).await.unwrap();
            let options = Options { day, limits: crate::Limits::default(), policy: Policy::default() };
            let ledger = SqliteLedger::open(&file, options).await.unwrap();
            assert_eq!(ledger.ceilings().await.unwrap().everywhere(), ceiling, "{day:?}");
        }
    }

    /// Of an older file it is known when somebody was last there: what came after that was an outage, and nothing before.
    #[tokio::test]
    async fn an_older_file_was_healthy_until_its_last_checkpoint() {
        const BEFORE_HEARTBEATS: i64 = 20;
        let an_hour_ago = Timestamp(Timestamp::from(SystemTime::now()).0 - 3_600_000_000);
        for (checkpoint, outages) in [(an_hour_ago, 1), (Timestamp(0), 0)] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ledger.db");
            let older = MIGRATIONS.iter().filter(|m| m.version <= BEFORE_HEARTBEATS).cloned().collect();
            let mut db =
                SqliteConnectOptions::new().filename(&file).create_if_missing(true).connect().await.unwrap();
            sqlx::migrate::Migrator::with_migrations(older).run_direct(None, &mut db, false).await.unwrap();
            let ledger = "INSERT INTO ledger (one, ledger, epoch, day, checkpoint_at, pause_head) \
                          VALUES (1, 'x', 1, ?, ?, ?)";
            let bound = sqlx::query(ledger).bind(rules::text(&Day::Calendar).unwrap()).bind(checkpoint.0);
            bound.bind(GENESIS.to_vec()).execute(&mut db).await.unwrap();
            sqlx::Connection::close(db).await.unwrap();
            let options =
                Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
            let ledger = SqliteLedger::open(&file, options).await.unwrap();
            ledger.heartbeat().await.unwrap();
            let healthy = ledger.healthy().await.unwrap();
            let began = healthy.last().map(|last| last.began);
            assert_eq!((healthy.outages.len(), began), (outages, (outages > 0).then_some(checkpoint)));
        }
    }

    /// What was signed before chains were looked up by number is not signed again.
    #[tokio::test]
    async fn what_was_signed_of_an_older_file_is_known() {
        const BEFORE_NUMBERS: i64 = 33;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        let older = MIGRATIONS.iter().filter(|m| m.version <= BEFORE_NUMBERS).cloned().collect();
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut db = options.foreign_keys(false).connect().await.unwrap();
        sqlx::migrate::Migrator::with_migrations(older).run_direct(None, &mut db, false).await.unwrap();
        let ledger =
            "INSERT INTO ledger (one, ledger, epoch, day, pause_head, pause_seq) VALUES (1, 'x', 1, ?, ?, 2)";
        let day = rules::text(&Day::Calendar).unwrap();
        sqlx::query(ledger).bind(day).bind(GENESIS.to_vec()).execute(&mut db).await.unwrap();
        for written in [
            "INSERT INTO resources (number, id, kind, scope, presence, protected, body, audit_seq, audit_head) \
             VALUES (7, 'd-1/a', 'd-1', 's', 1, 0, '{}', 3, zeroblob(32)), \
             (8, 'vm/b', 'vm', 's', 1, 0, '{}', 3, zeroblob(32)), (9, 'vm/c', 'vm', 's', 1, 0, '{}', 3, zeroblob(32))",
            "INSERT INTO deletions (id, resource, plan, live, status, audit_seq, audit_head) \
             VALUES (1, 'vm/b', 1, 0, 3, 4, zeroblob(32)), (12, 'vm/c', 1, 0, 3, 4, zeroblob(32))",
            "INSERT INTO attested (chain, seq) VALUES ('pauses', 2), ('d-1/a', 3), ('vm/b', 2), ('d-1', 3), ('d-12', 4), \
             ('d-13', 1)",
        ] {
            sqlx::query(written).execute(&mut db).await.unwrap();
        }
        sqlx::Connection::close(db).await.unwrap();
        let options =
            Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
        let ledger = SqliteLedger::open(&file, options).await.unwrap();
        let (mut grown, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = ledger.grown(after.as_deref()).await.unwrap();
            assert_eq!(page.shrunk, []);
            grown.extend(page.heads.into_iter().map(|head| (head.chain, head.seq)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = [("vm/b", 3), ("vm/c", 3), ("d-1", 4)];
        assert_eq!(grown, expected.map(|(chain, seq)| (chain.to_owned(), seq)));
    }

    /// Whether the job table answers is asked of its facts, which are remembered: without the writer they are none.
    #[tokio::test]
    async fn without_its_writer_it_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            Options { day: Day::Calendar, limits: crate::Limits::default(), policy: Policy::default() };
        let mut ledger = SqliteLedger::open(folder.path().join("ledger.db"), options).await.unwrap();
        ledger.facts().await.unwrap();
        // The writer ends with the last handle that can ask it; this one asks nobody.
        let (commands, _) = mpsc::channel(1);
        ledger.commands = commands;
        for answer in [ledger.facts().await.map(drop), ledger.checkpoint().await.map(drop)] {
            match answer {
                Err(LedgerError::Unfit(reason)) => {
                    assert!(reason.contains("its writer has ended"), "{reason}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
