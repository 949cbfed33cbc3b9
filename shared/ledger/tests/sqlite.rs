//! The conformance suite on SQLite.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod conformance;

use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Intent, Ledger, LedgerError, NotDone, Options};
use sexton_model::DeletionId;
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

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.raw().await).await.unwrap();
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
