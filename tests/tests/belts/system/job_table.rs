//! The job table of a system, which stays when the process that opened it is gone; and what others do to it.
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Options};

use super::footing::Footing;
use super::many::Database;

/// See the module.
pub enum JobTable {
    File(PathBuf),
    Database(Database),
}

impl JobTable {
    /// A new one on the footing of this test; a file lies in `folder`.
    pub fn new(folder: &Path) -> Self {
        match Footing::now() {
            Footing::Embedded => Self::File(folder.join("sexton.db")),
            Footing::Many => Self::Database(Database::new()),
        }
    }

    /// Opened, as by a process that starts.
    pub async fn open(&self, options: Options) -> Arc<dyn Ledger> {
        match self {
            Self::File(file) => Arc::new(SqliteLedger::open(file, options).await.unwrap()),
            Self::Database(database) => {
                PgLedger::migrate(&database.url(), options.day).await.unwrap();
                Arc::new(PgLedger::open(&database.url(), options).await.unwrap())
            }
        }
    }

    /// What somebody else does to it.
    pub fn execute(&self, sql: &str) {
        match self {
            Self::File(file) => sexton_testkit::job_table::alter(file, sql),
            Self::Database(database) => database.execute(sql),
        }
    }

    /// Whether these bytes stand anywhere in it, as they are or in hexadecimal, as a database shows what is no text.
    pub fn keeps(&self, bytes: &[u8]) -> bool {
        let rows = match self {
            Self::File(file) => {
                // What is not in the file itself yet is in its log.
                let log = std::fs::read(file.with_extension("db-wal")).unwrap_or_default();
                [std::fs::read(file).unwrap(), log].concat()
            }
            Self::Database(database) => database.rows(),
        };
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = |part: &[u8]| rows.windows(part.len()).any(|window| window == part);
        found(bytes) || found(digits.concat().as_bytes())
    }

    /// What was begun of these (`canaries`, `drills`) was begun so much earlier, in milliseconds.
    pub fn begun_earlier(&self, table: &str, ms: u64) {
        let us = ms * 1000;
        let body = match self {
            Self::File(_) => {
                format!("json_set(body, '$.begun_at', json_extract(body, '$.begun_at') - {us})")
            }
            Self::Database(_) => {
                let begun_at = format!("to_jsonb((body::jsonb ->> 'begun_at')::bigint - {us})");
                format!("jsonb_set(body::jsonb, '{{begun_at}}', {begun_at})::text")
            }
        };
        self.execute(&format!("UPDATE {table} SET body = {body}"));
    }

    /// Somebody else locks it, the file as a whole, or of a database what whoever looks for alarms writes first, until what
    /// is returned is dropped.
    pub fn lock(&self) -> Thief {
        let mut command = match self {
            Self::File(file) => {
                let script = "import sqlite3, sys\n\
                              job_table = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
                              job_table.execute('BEGIN IMMEDIATE')\n\
                              print('mine', flush=True)\n\
                              sys.stdin.read()\n";
                let mut python = Command::new("python3");
                python.args(["-c", script]).arg(file);
                python
            }
            Self::Database(database) => {
                let mut psql = database.psql();
                // No more than that: a lock of several tables might meet others half-way.
                let lock = "LOCK TABLE alarm_rounds IN ACCESS EXCLUSIVE MODE";
                psql.args(["-c", "BEGIN", "-c", lock, "-c", r"\! echo mine", "-f", "-"]);
                psql
            }
        };
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let thief = Thief(process);
        assert_eq!(line, "mine\n");
        thief
    }
}

/// Whoever has locked the job table.
pub struct Thief(Child);

impl Drop for Thief {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
