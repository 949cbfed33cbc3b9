//! Statements over many rows in a few fixed sizes, so that each is prepared once.
//!
//! Every statement crosses a thread (about 50 µs), whatever it does; a statement per row would make that the
//! limit. Sizes are fixed because every other text would be prepared anew.
use futures_util::future;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, Encode, Sqlite, Type};

use super::codes;
use crate::LedgerError;

/// Rows per statement. Powers of two, so that few statements make up any number of rows: what a statement costs
/// besides its rows is its way to the database's thread and back. The largest bounds what is kept prepared.
const SIZES: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

/// Turn an error of the database into the ledger's.
pub(super) fn store(doing: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerError {
    move |source| LedgerError::Store { doing, source: Box::new(source) }
}

/// Values to bind, in the order of the statement's parameters.
#[derive(Default)]
pub(super) struct Bind {
    values: SqliteArguments,
    failed: Option<sqlx::Error>,
}

impl Bind {
    /// Bind one more value.
    pub(super) fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(e) = self.values.add(value) {
            self.failed.get_or_insert(sqlx::Error::Encode(e));
        }
        self
    }

    fn ready(self) -> Result<SqliteArguments, sqlx::Error> {
        self.failed.map_or(Ok(self.values), Err)
    }
}

/// Run a statement without rows; how many it changed.
pub(super) async fn execute(
    db: &mut SqliteConnection,
    doing: &'static str,
    sql: &'static str,
    bind: Bind,
) -> Result<u64, LedgerError> {
    let values = bind.ready().map_err(store(doing))?;
    Ok(sqlx::query_with(sql, values).execute(db).await.map_err(store(doing))?.rows_affected())
}

/// Run a statement that has to change one row of `table`.
pub(super) async fn change_one(
    db: &mut SqliteConnection,
    (doing, table): (&'static str, &'static str),
    sql: &'static str,
    bind: Bind,
) -> Result<(), LedgerError> {
    codes::all_there(table, execute(db, doing, sql, bind).await?, 1)
}

/// Run a query.
pub(super) async fn rows(
    db: &mut SqliteConnection,
    doing: &'static str,
    sql: &'static str,
    bind: Bind,
) -> Result<Vec<SqliteRow>, LedgerError> {
    let values = bind.ready().map_err(store(doing))?;
    sqlx::query_with(sql, values).fetch_all(db).await.map_err(store(doing))
}

/// A statement over many rows.
pub(super) struct Chunked {
    texts: [String; SIZES.len()],
    columns: usize,
    /// Rows of nothing but NULL change nothing: then a statement of the next larger size does for any number of rows.
    padded: bool,
}

impl Chunked {
    /// `head (?, …), (?, …) tail`, with `columns` parameters a row.
    pub(super) fn new(head: &str, columns: usize, tail: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        let texts = SIZES.map(|size| format!("{head} {} {tail}", vec![row.as_str(); size].join(",")));
        Self { texts, columns, padded: false }
    }

    /// As [`Self::new`], for statements to which a row of NULLs says nothing.
    pub(super) fn padded(head: &str, columns: usize, tail: &str) -> Self {
        Self { padded: true, ..Self::new(head, columns, tail) }
    }

    /// The statement for some or all of `left` rows: its size and its text.
    fn fitting(&self, left: usize) -> Option<(usize, &str)> {
        if left == 0 {
            return None;
        }
        let mut sizes = SIZES.into_iter().zip(&self.texts);
        let found = if self.padded && left < SIZES[0] {
            sizes.rfind(|(size, _)| *size >= left)
        } else {
            sizes.find(|(size, _)| *size <= left)
        };
        found.map(|(size, text)| (size, text.as_str()))
    }

    /// Run it over all of `rows`, in as few statements as the sizes allow; how many rows were changed.
    ///
    /// The values of the next statement are made ready while the database's thread carries out the one before.
    pub(super) async fn execute<R>(
        &'static self,
        db: &mut SqliteConnection,
        doing: &'static str,
        rows: impl ExactSizeIterator<Item = R>,
        bind: impl Fn(R, &mut Bind),
    ) -> Result<u64, LedgerError> {
        let mut left = rows.len();
        let mut rows = rows;
        let mut ready = || {
            let (size, text) = self.fitting(left)?;
            let taken = left.min(size);
            left -= taken;
            let mut values = Bind::default();
            for row in rows.by_ref().take(taken) {
                bind(row, &mut values);
            }
            for _ in 0..(size - taken) * self.columns {
                values.add(None::<i64>);
            }
            Some((text, values))
        };
        let mut changed = 0;
        let mut now = ready();
        while let Some((text, values)) = now {
            let (done, next) = future::join(execute(db, doing, text, values), async { ready() }).await;
            changed += done?;
            now = next;
        }
        Ok(changed)
    }
}

/// Numbers as the JSON list that `json_each` takes.
pub(super) fn list(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

/// Close a connection, whatever comes of it.
pub(super) async fn close(db: SqliteConnection) {
    if let Err(error) = db.close().await {
        tracing::warn!(error = %error, "the job table's connection did not close cleanly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_taken_in_statements_of_fixed_sizes() {
        let (exact, padded) = (Chunked::new("", 1, ""), Chunked::padded("", 1, ""));
        let sizes = |statement: &Chunked, mut left: usize| {
            let mut sizes = Vec::new();
            while let Some((size, text)) = statement.fitting(left) {
                assert_eq!(text.matches('?').count(), size);
                sizes.push(size);
                left -= left.min(size);
            }
            sizes
        };
        assert_eq!(sizes(&exact, 197), [128, 64, 4, 1]);
        assert_eq!(sizes(&padded, 197), [256]);
        assert_eq!(sizes(&padded, 600), [256, 256, 128]);
        assert_eq!((sizes(&padded, 1), sizes(&padded, 256), sizes(&padded, 0)), (vec![1], vec![256], vec![]));
    }
}
