//! The job table on PostgreSQL: the conformance suite, and what only this footing has to show.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod archive;
mod canaries;
#[path = "../conformance/mod.rs"]
mod conformance;
mod database;
mod finders;
mod guards;
mod in_use;
mod keys;
#[path = "../older/mod.rs"]
mod older;
mod one_at_a_time;
mod races;
mod surveys;
mod upgrade;

use std::sync::Arc;

use async_trait::async_trait;
use sexton_ledger::postgres::PgArchive;
use sexton_ledger::{Archive, Ledger, LedgerError, Options};
use sexton_model::DeletionId;
use sexton_model::audit::Hash;

use crate::conformance::Fixture;
use crate::database::Database;

#[async_trait]
impl Fixture for Database {
    async fn open(&self, options: Options) -> Arc<dyn Ledger> {
        self.try_open(options).await.unwrap()
    }

    async fn try_open(&self, options: Options) -> Result<Arc<dyn Ledger>, LedgerError> {
        Ok(Database::open(self, options).await?)
    }

    async fn try_to_change_history(&self) -> Vec<Result<u64, String>> {
        let mut db = self.raw().await;
        let mut answers = Vec::new();
        for sql in [
            "UPDATE audit SET body = '{}'",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "UPDATE ledger_audit SET body = '{}'",
            "DELETE FROM ledger_audit",
            "TRUNCATE ledger_audit",
            "UPDATE signed_checkpoints SET body = '{}'",
            "DELETE FROM signed_checkpoints",
            "TRUNCATE signed_checkpoints",
            "UPDATE records SET body = '{}'",
            "UPDATE plans SET body = '{}'",
            "UPDATE manifests SET body = '{}'",
        ] {
            let answer = sqlx::query(sql).execute(&mut db).await;
            answers.push(answer.map(|done| done.rows_affected()).map_err(|e| e.to_string()));
        }
        answers
    }

    async fn change_event(&self, deletion: DeletionId, seq: i64) {
        let sql = "UPDATE audit SET body = replace(body, '\"by\":\"', '\"by\":\"x') \
                   WHERE deletion_id = $1 AND seq = $2";
        tamper(self, sql, deletion, seq).await;
    }

    async fn change_ledger_event(&self, chain: &str, seq: i64) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS append_only ON ledger_audit").execute(&mut db).await.unwrap();
        let sql = "UPDATE ledger_audit SET body = replace(body, '\"by\":\"', '\"by\":\"x') \
                   WHERE chain = $1 AND seq = $2";
        let done = sqlx::query(sql).bind(chain).bind(seq).execute(&mut db).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn remove_event(&self, deletion: DeletionId, seq: i64) {
        tamper(self, "DELETE FROM audit WHERE deletion_id = $1 AND seq = $2", deletion, seq).await;
    }

    async fn rewrite(&self, deletion: DeletionId, events: &[(i64, String, Hash)]) {
        let mut db = self.raw().await;
        sqlx::query("DROP TRIGGER IF EXISTS append_only ON audit").execute(&mut db).await.unwrap();
        for (seq, body, hash) in events {
            let sql = "UPDATE audit SET body = $1, hash = $2 WHERE deletion_id = $3 AND seq = $4";
            let done = sqlx::query(sql).bind(body).bind(&hash[..]).bind(deletion.0).bind(seq);
            assert_eq!(done.execute(&mut db).await.unwrap().rows_affected(), 1);
        }
        let head = events.last().unwrap().2.to_vec();
        let done =
            sqlx::query("UPDATE deletions SET audit_head = $1 WHERE id = $2").bind(head).bind(deletion.0);
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
            "CREATE FUNCTION unprotected() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN NEW.protected := false; RETURN NEW; END'",
            "CREATE TRIGGER unprotected BEFORE UPDATE ON resources FOR EACH ROW EXECUTE FUNCTION unprotected()",
            "CREATE FUNCTION uncounted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER uncounted BEFORE INSERT ON admitted FOR EACH ROW EXECUTE FUNCTION uncounted()",
        ] {
            self.execute(sql).await;
        }
    }

    async fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(PgArchive::open(&self.url(), conformance::stage::options().day).await.unwrap())
    }

    async fn copy(&self) {
        Database::copy(self).await;
    }

    async fn put_back(&self) {
        Database::put_back(self).await;
    }

    async fn compare(&self) -> Result<(), String> {
        match self.opened() {
            Some(ledger) => ledger.compare().await.unwrap(),
            None => Ok(()),
        }
    }
}

async fn tamper(database: &Database, sql: &'static str, deletion: DeletionId, seq: i64) {
    let mut db = database.raw().await;
    for guard in
        ["DROP TRIGGER IF EXISTS append_only ON audit", "DROP TRIGGER IF EXISTS only_archived ON audit"]
    {
        sqlx::query(guard).execute(&mut db).await.unwrap();
    }
    let done = sqlx::query(sql).bind(deletion.0).bind(seq).execute(&mut db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

conformance_tests!(Database::new());
