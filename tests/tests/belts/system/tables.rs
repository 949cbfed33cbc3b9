//! Tables of another version below a system. Of many machines only: a file is brought up to date by the one process that
//! opens it.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sexton_bus::topology::SCHEDULER;
use sexton_coordinator::Witness;
use sexton_ledger::Ledger;
use sexton_ledger::postgres::PgDueReader;
use sexton_protocol::Holder;
use sexton_scheduler::Scheduler;

use super::System;
use super::job_table::JobTable;
use super::many::Database;

/// What is there goes into the earlier version's tables, as far as they have a place for it, by statements that these allow:
/// their checks and triggers are in force. They were made in an order in which none refers to a later one.
const CARRY_OVER: &str = "DO $$
DECLARE
    made record;
    named text;
BEGIN
    FOR made IN SELECT c.oid, c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY c.oid
    LOOP
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO named FROM pg_attribute a
            WHERE a.attrelid = made.oid AND a.attnum > 0 AND NOT a.attisdropped;
        EXECUTE format('INSERT INTO public.%1$I (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM today.%1$I',
            made.relname, named);
    END LOOP;
    FOR made IN SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
    LOOP
        EXECUTE format('SELECT setval(''public.%1$I'', last_value, is_called) FROM today.%1$I', made.relname);
    END LOOP;
END
$$";

/// The project's own migrations up to this one, in their order.
fn migrations(last: u32) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/ledger/migrations/postgres");
    let version = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.split_once('_').unwrap().0.parse::<u32>().unwrap()
    };
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|file| version(file) <= last).collect();
    files.sort();
    files
}

impl System {
    fn database(&self) -> &Database {
        match &self.standing.as_ref().unwrap().job_table {
            JobTable::Database(database) => database,
            JobTable::File(file) => panic!("{} is no database", file.display()),
        }
    }

    /// Where its database is, for the owner of the tables.
    pub fn database_url(&self) -> String {
        self.database().url()
    }

    pub fn options(&self) -> sexton_ledger::Options {
        self.options.clone()
    }

    /// The tables are as the migrations up to `last` make them, with what was in today's as far as they have a place for it. No
    /// coordinator may run.
    pub fn set_tables_back(&self, last: u32) {
        assert!(self.coordinator.is_none(), "a coordinator is at work on them");
        let mut psql = self.database().psql();
        psql.args(["-1", "-c", "ALTER SCHEMA public RENAME TO today", "-c", "CREATE SCHEMA public"]);
        psql.args(["-c", "GRANT USAGE ON SCHEMA public TO PUBLIC"]);
        for file in migrations(last) {
            psql.arg("-f").arg(file);
        }
        psql.args(["-c", CARRY_OVER]);
        psql.args(["-c", "CREATE TABLE _sqlx_migrations (LIKE today._sqlx_migrations INCLUDING ALL)"]);
        let noted = format!(
            "INSERT INTO _sqlx_migrations SELECT * FROM today._sqlx_migrations WHERE version <= {last}"
        );
        let output = psql.args(["-c", &noted, "-c", "DROP SCHEMA today CASCADE"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A scheduler, as a process of its own has it.
    pub async fn scheduler(&self) -> Scheduler {
        Scheduler {
            due: Arc::new(PgDueReader::open(&self.database_url()).await.unwrap()),
            bus: self.as_user(SCHEDULER),
            keyring: Arc::new(self.keyring.only(&Holder::Scheduler)),
            every: Duration::from_millis(50),
            looks: Arc::default(),
        }
    }

    /// The next coordinator that is started has opened the job table, and its witness, itself. What the one before knew is
    /// gone, as with its process.
    pub fn coordinate_with(&mut self, ledger: Arc<dyn Ledger>, witness: Witness) {
        self.ledger = ledger;
        self.witness = Arc::new(witness);
        self.engine = Arc::new(self.another_engine());
    }
}
