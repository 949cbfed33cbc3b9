//! A connection to the file.
//!
//! It blocks, and is used where blocking is right: by the writer's own thread, and by readers on threads for that. What
//! a row costs is then what SQLite takes for it: a few microseconds. Through a connection that answers from another
//! thread every statement costs a way there and back, and many rows in one statement to make up for it cost a
//! temporary table each: 42,000 steps a second instead of 59,000, with twelve steps of 20,000 machines.
use std::path::Path;
use std::time::Duration;

use rusqlite::CachedStatement;
use rusqlite::types::Value;

use super::codes::{all_there, corrupt};
use crate::LedgerError;

/// How long SQLite waits for a lock inside the file: only a checkpoint or a backup takes one.
const BUSY: Duration = Duration::from_secs(10);

/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 256;

/// Turn an error of the database into the ledger's.
pub(super) fn store<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl FnOnce(E) -> LedgerError {
    move |source| LedgerError::Store { doing, source: Box::new(source) }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Db(rusqlite::Connection);

impl Db {
    /// Open a file that exists, with these settings, each a `PRAGMA`.
    pub(super) fn open(path: &Path, pragmas: &str) -> Result<Self, LedgerError> {
        let open = || {
            let flags =
                rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = rusqlite::Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.execute_batch(pragmas)?;
            Ok(connection)
        };
        open().map(Self).map_err(store::<rusqlite::Error>("opening the file"))
    }

    /// Run `work` in a transaction that begins with `begin`; it is rolled back if `work` fails.
    pub(super) fn transaction<T>(
        &self,
        begin: &'static str,
        work: impl FnOnce() -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.simple("beginning a transaction", begin)?;
        let done = match work() {
            Ok(done) => done,
            Err(error) => {
                self.roll_back();
                return Err(error);
            }
        };
        self.simple("committing", "COMMIT").inspect_err(|_| self.roll_back())?;
        Ok(done)
    }

    /// Run `work` in a transaction that begins with `begin`, and is rolled back whatever comes of it.
    pub(super) fn rehearsal<T>(
        &self,
        begin: &'static str,
        work: impl FnOnce() -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.simple("beginning a transaction", begin)?;
        let done = work();
        self.roll_back();
        done
    }

    /// If that fails, the next BEGIN does, too, and says so.
    fn roll_back(&self) {
        // Some errors have rolled back already.
        if !self.0.is_autocommit()
            && let Err(error) = self.simple("rolling back", "ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn simple(&self, doing: &'static str, sql: &'static str) -> Result<(), LedgerError> {
        self.prepare(doing, sql)?.execute(()).map(|_| ()).map_err(store(doing))
    }

    fn prepare(&self, doing: &'static str, sql: &'static str) -> Result<CachedStatement<'_>, LedgerError> {
        self.0.prepare_cached(sql).map_err(store(doing))
    }

    /// Whether no transaction is open.
    pub(super) fn idle(&self) -> bool {
        self.0.is_autocommit()
    }

    /// Close it, whatever comes of it.
    pub(super) fn close(self) {
        if let Err((_, error)) = self.0.close() {
            tracing::warn!(%error, "the job table's connection did not close cleanly");
        }
    }
}

/// Values to bind, in the order of the statement's parameters.
#[derive(Debug, Default)]
pub(super) struct Bind(Vec<Value>);

impl Bind {
    /// Numbers, and no more.
    pub(super) fn of<const N: usize>(values: [i64; N]) -> Self {
        Self(values.map(Value::from).into())
    }

    /// Bind one more value.
    pub(super) fn add(&mut self, value: impl Into<Value>) -> &mut Self {
        self.0.push(value.into());
        self
    }
}

/// Bind all that the statement has parameters for: of several texts for several sets of filters each uses its own of
/// the values. That it has too few values is an error, rather than a NULL.
fn bind_all(statement: &mut CachedStatement<'_>, bind: Bind) -> rusqlite::Result<()> {
    let (given, needed) = (bind.0.len(), statement.parameter_count());
    if given < needed {
        return Err(rusqlite::Error::InvalidParameterCount(given, needed));
    }
    for (number, value) in (1..=needed).zip(bind.0) {
        statement.raw_bind_parameter(number, value)?;
    }
    Ok(())
}

/// Run a statement without rows; how many it changed.
pub(super) fn execute(
    db: &Db,
    doing: &'static str,
    sql: &'static str,
    bind: Bind,
) -> Result<u64, LedgerError> {
    let mut statement = db.prepare(doing, sql)?;
    let run = || {
        bind_all(&mut statement, bind)?;
        statement.raw_execute()
    };
    Ok(run().map_err(store(doing))? as u64)
}

/// Run a statement that has to change one row of `table`.
pub(super) fn change_one(
    db: &Db,
    (doing, table): (&'static str, &'static str),
    sql: &'static str,
    bind: Bind,
) -> Result<(), LedgerError> {
    all_there(table, execute(db, doing, sql, bind)?, 1)
}

/// Run a statement once for each of `rows`, of which `write` binds and executes one; how many rows were changed.
pub(super) fn each<R>(
    db: &Db,
    doing: &'static str,
    sql: &'static str,
    rows: impl IntoIterator<Item = R>,
    write: impl Fn(&mut CachedStatement<'_>, R) -> rusqlite::Result<usize>,
) -> Result<u64, LedgerError> {
    let mut statement = db.prepare(doing, sql)?;
    let mut changed = 0;
    for row in rows {
        changed += write(&mut statement, row).map_err(store(doing))? as u64;
    }
    Ok(changed)
}

/// Run a query.
pub(super) fn rows(
    db: &Db,
    doing: &'static str,
    sql: &'static str,
    bind: Bind,
) -> Result<Vec<Row>, LedgerError> {
    let mut found = Vec::new();
    read(db, doing, sql, bind, |row| {
        found.push(row);
        Ok(())
    })?;
    Ok(found)
}

/// Run a query whose rows are `seen` one after the other, so that not all of them are kept.
pub(super) fn read(
    db: &Db,
    doing: &'static str,
    sql: &'static str,
    bind: Bind,
    mut seen: impl FnMut(Row) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut statement = db.prepare(doing, sql)?;
    let columns = statement.column_count();
    bind_all(&mut statement, bind).map_err(store(doing))?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(store(doing))? {
        let values = (0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<_>>();
        seen(Row(values.map_err(store(doing))?))?;
    }
    Ok(())
}

/// The one row of a query.
pub(super) fn row(db: &Db, doing: &'static str, sql: &'static str, bind: Bind) -> Result<Row, LedgerError> {
    rows(db, doing, sql, bind)?.pop().ok_or_else(|| corrupt("ledger", 1, "is missing"))
}

/// A row that was read.
#[derive(Debug)]
pub(super) struct Row(Vec<Value>);

impl Row {
    /// What stands in a column, from 0.
    pub(super) fn try_get<'r, T: Column<'r>>(&'r self, column: usize) -> Result<T, WrongColumn> {
        self.0.get(column).and_then(T::of).ok_or(WrongColumn(column))
    }
}

/// A column does not hold what was expected of it.
#[derive(Debug, thiserror::Error)]
#[error("column {0} is not of the expected type")]
pub(super) struct WrongColumn(usize);

/// What a column may be read as.
pub(super) trait Column<'r>: Sized {
    /// The value, if it is one of these.
    fn of(value: &'r Value) -> Option<Self>;
}

impl<'r> Column<'r> for i64 {
    fn of(value: &'r Value) -> Option<Self> {
        if let Value::Integer(number) = value { Some(*number) } else { None }
    }
}

macro_rules! narrower {
    ($($number:ty),*) => {$(
        impl<'r> Column<'r> for $number {
            fn of(value: &'r Value) -> Option<Self> {
                i64::of(value).and_then(|number| number.try_into().ok())
            }
        }
    )*};
}
narrower!(i16, i32, u16, u32);

impl<'r> Column<'r> for bool {
    fn of(value: &'r Value) -> Option<Self> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl<'r> Column<'r> for &'r str {
    fn of(value: &'r Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl<'r> Column<'r> for String {
    fn of(value: &'r Value) -> Option<Self> {
        <&str>::of(value).map(str::to_owned)
    }
}

impl<'r> Column<'r> for &'r [u8] {
    fn of(value: &'r Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes) } else { None }
    }
}

impl<'r, T: Column<'r>> Column<'r> for Option<T> {
    fn of(value: &'r Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::of(value).map(Some) }
    }
}

/// Numbers as the JSON list that `json_each` takes.
pub(super) fn list(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    format!("[{}]", numbers.join(","))
}
