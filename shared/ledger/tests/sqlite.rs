//! The conformance suite on SQLite.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod conformance;
mod older;

use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Archive, Intent, Ledger, LedgerError, NotDone, Options};
use sexton_model::DeletionId;
use sexton_model::audit::Hash;
use sexton_model::decide::Event;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::conformance::Fixture;
use crate::conformance::stage::{Stagehand, actor};

/// A file of its own in a directory of its own.
struct OneFile {
    dir: tempfile::TempDir,
    opened: Mutex<Weak<SqliteLedger>>,
}

impl OneFile {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), opened: Mutex::default() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("ledger.db")
    }

    async fn raw(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).foreign_keys(true).connect().await.unwrap()
    }
}

#[async_trait]
impl Fixture for OneFile {
    async fn open(&self, options: Options) -> Arc<dyn Ledger> {
        self.try_open(options).await.unwrap()
    }

    async fn try_open(&self, options: Options) -> Result<Arc<dyn Ledger>, LedgerError> {
        let ledger = Arc::new(SqliteLedger::open(self.path(), options).await?);
        *self.opened.lock().unwrap() = Arc::downgrade(&ledger);
        Ok(ledger)
    }

    async fn try_to_change_history(&self) -> Vec<Result<u64, String>> {
        let mut db = self.raw().await;
        let mut answers = Vec::new();
        for sql in [
            "UPDATE audit SET body = '{}'",
            "DELETE FROM audit",
            "UPDATE ledger_audit SET body = '{}'",
            "DELETE FROM ledger_audit",
            "UPDATE records SET body = '{}'",
            "INSERT OR REPLACE INTO audit SELECT * FROM audit",
            "UPDATE signed_checkpoints SET body = '{}'",
            "DELETE FROM signed_checkpoints",
            "INSERT OR REPLACE INTO signed_checkpoints SELECT * FROM signed_checkpoints",
        ] {
            let answer = sqlx::query(sql).execute(&mut db).await;
            answers.push(answer.map(|done| done.rows_affected()).map_err(|e| e.to_string()));
        }
        answers
    }

    async fn change_event(&self, deletion: DeletionId, seq: i64) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS audit_keeps_events").execute(&mut db).await.unwrap();
        let sql = "UPDATE audit SET body = replace(body, '\"by\":\"', '\"by\":\"x') WHERE deletion_id = ? AND seq = ?";
        let done = sqlx::query(sql).bind(deletion.0).bind(seq).execute(&mut db).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn change_ledger_event(&self, chain: &str, seq: i64) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS ledger_audit_keeps_events").execute(&mut db).await.unwrap();
        let sql = "UPDATE ledger_audit SET body = replace(body, '\"by\":\"', '\"by\":\"x') WHERE chain = ? AND seq = ?";
        let done = sqlx::query(sql).bind(chain).bind(seq).execute(&mut db).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn remove_event(&self, deletion: DeletionId, seq: i64) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS audit_loses_no_event").execute(&mut db).await.unwrap();
        let sql = "DELETE FROM audit WHERE deletion_id = ? AND seq = ?";
        let done = sqlx::query(sql).bind(deletion.0).bind(seq).execute(&mut db).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn rewrite(&self, deletion: DeletionId, events: &[(i64, String, Hash)]) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS audit_keeps_events").execute(&mut db).await.unwrap();
        for (seq, body, hash) in events {
            let sql = "UPDATE audit SET body = ?, hash = ? WHERE deletion_id = ? AND seq = ?";
            let done = sqlx::query(sql).bind(body).bind(&hash[..]).bind(deletion.0).bind(seq);
            assert_eq!(done.execute(&mut db).await.unwrap().rows_affected(), 1);
        }
        let head = events.last().unwrap().2.to_vec();
        let done =
            sqlx::query("UPDATE deletions SET audit_head = ? WHERE id = ?").bind(head).bind(deletion.0);
        assert_eq!(done.execute(&mut db).await.unwrap().rows_affected(), 1);
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.raw().await).await.unwrap();
    }

    async fn attempt(&self, sql: &'static str) -> Result<u64, String> {
        let done = sqlx::query(sql).execute(&mut self.raw().await).await;
        done.map(|done| done.rows_affected()).map_err(|e| e.to_string())
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.raw().await).await.unwrap()
    }

    async fn break_belts(&self) {
        for sql in [
            "CREATE TRIGGER unprotected AFTER UPDATE ON resources WHEN new.protected BEGIN \
             UPDATE resources SET protected = 0 WHERE id = new.id; END",
            "CREATE TRIGGER uncounted AFTER INSERT ON admitted BEGIN DELETE FROM admitted; END",
        ] {
            self.execute(sql).await;
        }
    }

    async fn archive(&self) -> Arc<dyn Archive> {
        self.opened.lock().unwrap().upgrade().unwrap()
    }

    async fn copy(&self) {
        let copy = self.dir.path().join("copy.db").display().to_string();
        sqlx::query("VACUUM INTO ?").bind(copy).execute(&mut self.raw().await).await.unwrap();
    }

    async fn put_back(&self) {
        // The writer that was dropped ends by itself; it holds the lock until then.
        let lock = std::fs::File::options().write(true).open(self.dir.path().join("ledger.db.lock")).unwrap();
        tokio::task::block_in_place(|| lock.lock().unwrap());
        // Removed, not overwritten: a reader that is closed late must not write into the copy.
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.dir.path().join(format!("ledger.db{end}")));
        }
        std::fs::copy(self.dir.path().join("copy.db"), self.path()).unwrap();
    }

    async fn compare(&self) -> Result<(), String> {
        let opened = self.opened.lock().unwrap().upgrade();
        match opened {
            Some(ledger) => ledger.compare().await.unwrap(),
            None => Ok(()),
        }
    }
}

conformance_tests!(async { OneFile::new() });

/// A number that a failed transaction gave is given again, to somebody else: nothing of the first may be remembered
/// under it. On one thread, so that the commands stand in line together and are one transaction.
#[tokio::test]
async fn a_number_given_again_is_not_the_first_ones() {
    let fixture = OneFile::new();
    let on = Stagehand::new(&fixture).await;
    let (bad, good) = (on.register("bad").await, on.register("good").await);
    // What belongs to `bad` cannot be committed, and only the COMMIT says so.
    let mut db = fixture.raw().await;
    for sql in [
        "CREATE TABLE nowhere (id INTEGER PRIMARY KEY)",
        "CREATE TABLE late (of INTEGER REFERENCES nowhere (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER bad_record AFTER INSERT ON deletions WHEN new.resource = 'vm/bad' BEGIN \
         INSERT INTO late VALUES (1); END",
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let (first, second) = (on.wanted(&bad).await, on.wanted(&good).await);
    let number = DeletionId(1);
    let hold = |why: &str| Event::PlaceHold { by: actor("ops"), reason: why.into() };
    let look = Intent { deletion: number, event: hold("a guess") };
    let (failed, guessed, made) = tokio::join!(
        on.ledger.create(vec![first]),
        on.ledger.run(vec![look]),
        on.ledger.create(vec![second])
    );
    failed.unwrap_err();
    assert_eq!(guessed.unwrap()[0].as_ref().unwrap_err(), &NotDone::NoSuchDeletion(number));
    assert_eq!(made.unwrap(), [Ok(number)]);
    let decided = on.one(number, hold("the owner asks for it")).await.unwrap();
    assert_eq!(decided.resource, good);
}

/// A ledger with a record on hold, whose file lets a statement change nothing and says nothing of it.
async fn swallowing(trigger: &'static str) -> (Stagehand, DeletionId, OneFile) {
    let fixture = OneFile::new();
    let on = Stagehand::new(&fixture).await;
    let id = on.doomed("web01").await;
    let hold = Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() };
    on.one(id, hold).await.unwrap();
    fixture.execute(trigger).await;
    (on, id, fixture)
}

fn release(deletion: DeletionId) -> Intent {
    Intent { deletion, event: Event::ReleaseHold { hold: 2, by: actor("legal") } }
}

fn corrupt<T: std::fmt::Debug>(answer: Result<T, LedgerError>, of: &str) {
    match answer {
        Err(LedgerError::Corrupt { table, reason, .. }) => {
            assert_eq!(table, of);
            assert!(reason.contains("1 rows were to be written, 0 are there"), "{reason}");
        }
        other => panic!("{of}: expected that a row is missed, got {other:?}"),
    }
}

#[tokio::test]
async fn a_row_of_a_deletion_that_does_not_change_is_said() {
    for trigger in [
        "CREATE TRIGGER kept BEFORE DELETE ON holds BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER kept BEFORE UPDATE ON deletions BEGIN SELECT RAISE(IGNORE); END",
    ] {
        let (on, id, _fixture) = swallowing(trigger).await;
        let answer = on.ledger.run(vec![release(id)]).await.unwrap().remove(0);
        assert!(
            matches!(&answer, Err(NotDone::Corrupt(_, why)) if why.contains("0 are there")),
            "{trigger}: {answer:?}"
        );
        let view = on.view(id).await;
        assert_eq!((view.deletion.holds.len(), view.audit.len()), (1, 2), "nothing was decided");
    }
}

#[tokio::test]
async fn a_job_that_does_not_change_is_said() {
    let trigger =
        "CREATE TRIGGER kept BEFORE UPDATE ON jobs WHEN new.id % 8 = 4 BEGIN SELECT RAISE(IGNORE); END";
    let (on, id, _fixture) = swallowing(trigger).await;
    let event = Event::Cancel { by: actor("ops"), reason: "kept".into() };
    let answer = on.ledger.run(vec![Intent { deletion: id, event }]).await.unwrap().remove(0);
    assert!(
        matches!(&answer, Err(NotDone::Corrupt(_, why)) if why.contains("5 rows were to be written, 4 are there")),
        "{answer:?}"
    );
}

/// Rows that were remembered and are gone: they are read again, and what is decided then is true.
#[tokio::test]
async fn what_is_remembered_and_gone_is_read_again() {
    let (on, id, _fixture) = swallowing("DELETE FROM holds").await;
    let answer = on.ledger.run(vec![release(id)]).await.unwrap().remove(0);
    assert_eq!(answer.unwrap_err(), NotDone::Refused(sexton_model::decide::Refusal::NoSuchHold(2)));
}

#[tokio::test]
async fn a_resource_that_does_not_change_is_said() {
    let trigger =
        "CREATE TRIGGER kept BEFORE UPDATE OF presence ON resources BEGIN SELECT RAISE(IGNORE); END";
    let (on, id, _fixture) = swallowing(trigger).await;
    on.ledger.run(vec![release(id)]).await.unwrap().remove(0).unwrap();
    let last = on.play_to(id, |name, _| name == "ipam.release").await.unwrap();
    let event = Event::Outcome {
        job: last.spec.job,
        from: last.spec.instance.clone(),
        fence: last.spec.fence,
        outcome: conformance::stage::right_answer(&last),
    };
    corrupt(on.ledger.run(vec![Intent { deletion: id, event }]).await, "resources");
    assert_eq!(on.state(id, sexton_model::job::Stage::Hard).await, sexton_model::job::StateName::Running);
}

#[tokio::test]
async fn a_count_that_is_not_there_is_not_kept_silently() {
    let (on, id, _fixture) = swallowing("DELETE FROM job_counts WHERE state = 8").await;
    let cancel = Event::Cancel { by: actor("ops"), reason: "kept".into() };
    let answer = on.ledger.run(vec![Intent { deletion: id, event: cancel }]).await;
    match answer {
        Err(LedgerError::Corrupt { table: "job_counts", .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// The ledger's own row: fences, pauses, checkpoints and reviews go by it.
#[tokio::test]
async fn a_ledger_without_its_row_does_nothing_silently() {
    let fixture = OneFile::new();
    let on = Stagehand::new(&fixture).await;
    let id = on.doomed("web01").await;
    let hold = |why: &str| Intent {
        deletion: id,
        event: Event::PlaceHold { by: actor("legal"), reason: why.into() },
    };
    on.ledger.run(vec![hold("one")]).await.unwrap();
    let mut db = fixture.raw().await;
    sqlx::query("DELETE FROM ledger").execute(&mut db).await.unwrap();
    // What a batch takes from the row is remembered, so the first to notice is who writes it.
    corrupt(on.ledger.run(vec![hold("two")]).await, "ledger");
    assert_eq!(on.view(id).await.audit.len(), 2, "nothing was decided");
    on.ledger.checkpoint().await.unwrap_err();
    let covers = sexton_model::belts::PauseSelector::default();
    on.ledger.pause(covers, &actor("ops"), "stop").await.unwrap_err();
    on.ledger.create(vec![on.wanted(&"vm/web01".parse().unwrap()).await]).await.unwrap_err();
}

/// A pause that was lifted by hand: the writer's own look finds none, and says so.
#[tokio::test]
async fn a_trigger_that_swallows_a_change_is_noticed() {
    let fixture = OneFile::new();
    let on = Stagehand::new(&fixture).await;
    let mut db = fixture.raw().await;
    let covers = sexton_model::belts::PauseSelector::default();
    let pause = on.ledger.pause(covers.clone(), &actor("ops"), "stop").await.unwrap().pause;
    for sql in [
        "CREATE TRIGGER kept BEFORE DELETE ON pauses BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER still BEFORE UPDATE OF checkpoints, pause_seq ON ledger BEGIN SELECT RAISE(IGNORE); END",
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    corrupt(on.ledger.resume(pause.id, &actor("ops"), None).await, "pauses");
    assert_eq!(on.ledger.pauses().await.unwrap().len(), 1);
    corrupt(on.ledger.checkpoint().await, "ledger");
    corrupt(on.ledger.pause(covers, &actor("ops"), "stop").await, "ledger");
    assert_eq!(on.ledger.pauses().await.unwrap().len(), 1);
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// The file that an early version left.
async fn older_file(fixture: &OneFile) {
    const BEFORE_CEILINGS: i64 = 9;
    let options = SqliteConnectOptions::new().filename(fixture.path()).create_if_missing(true);
    let wal = options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal).foreign_keys(true);
    let mut db = wal.connect().await.unwrap();
    let older = MIGRATIONS.iter().filter(|m| m.version <= BEFORE_CEILINGS).cloned().collect();
    sqlx::migrate::Migrator::with_migrations(older).run_direct(None, &mut db, false).await.unwrap();
    let day = serde_json::to_string(&conformance::stage::DAY).unwrap();
    let head = older::head().to_vec();
    for query in [
        sqlx::query(
            "INSERT INTO ledger (one, ledger, epoch, day, last_deletion, pause_head) \
             VALUES (1, 'older', 1, ?, 1, zeroblob(32))",
        )
        .bind(day),
        sqlx::query(
            "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) \
             VALUES ('vm/web01', 'vm', 'tenants/acme', 0, 0, ?, 0, zeroblob(32))",
        )
        .bind(older::RESOURCE),
        sqlx::query("INSERT INTO plans (number, digest, body) VALUES (1, zeroblob(32), ?)").bind(older::PLAN),
        sqlx::query(
            "INSERT INTO deletions (id, resource, plan, live, status, audit_seq, audit_head) \
             VALUES (1, 'vm/web01', 1, 1, 0, 1, ?)",
        )
        .bind(head.clone()),
        sqlx::query(
            "INSERT INTO records (deletion_id, kind, scope, body) VALUES (1, 'vm', 'tenants/acme', ?)",
        )
        .bind(older::RECORD),
        sqlx::query("INSERT INTO audit (number, deletion_id, seq, body, hash) VALUES (1, 1, 1, ?, ?)")
            .bind(older::EVENT)
            .bind(head),
    ] {
        query.execute(&mut db).await.unwrap();
    }
    for job in older::JOBS {
        let due = (job == older::JOBS.start).then_some(older::MADE);
        let sql = "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, wants, rank, due_at, cursor, \
                   phase, touched, attempts, unstarted, quiet_after, started) \
                   VALUES (?, 1, 'vm/web01', 0, 0, ?, 0, ?, 2, ?, 0, 0, 0, 0, 0, 0, 0)";
        let job = sqlx::query(sql).bind(job).bind(i64::from(due.is_some()));
        job.bind(due.map(|_| "hypervisor.main")).bind(due).execute(&mut db).await.unwrap();
    }
    let count =
        "UPDATE job_counts SET jobs = (SELECT count(*) FROM jobs AS j WHERE j.state = job_counts.state)";
    sqlx::query(count).execute(&mut db).await.unwrap();
    sqlx::Connection::close(db).await.unwrap();
}

/// A file of an early version goes on as it was. Who was reading it when it was brought up to date reads on what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_file_is_brought_up_to_date_under_a_reader_and_goes_on() {
    let fixture = OneFile::new();
    older_file(&fixture).await;
    let mut reader = fixture.raw().await;
    let columns = "SELECT count(*) FROM pragma_table_info('ledger') WHERE name = 'beat_at'";
    let (begin, commit) = ("BEGIN", "COMMIT");
    sqlx::query(begin).execute(&mut reader).await.unwrap();
    let jobs = "SELECT count(*) FROM jobs";
    let count = async |reader: &mut SqliteConnection, sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(reader).await.unwrap()
    };
    assert_eq!(count(&mut reader, jobs).await, 5);
    let on = Stagehand::new(&fixture).await;
    assert_eq!((count(&mut reader, columns).await, count(&mut reader, jobs).await), (0, 5));
    sqlx::query(commit).execute(&mut reader).await.unwrap();
    assert_eq!(count(&mut reader, columns).await, 1);
    older::goes_on(&on).await;
    fixture.compare().await.unwrap();
}
