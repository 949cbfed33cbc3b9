//! What the database's errors mean here.
use crate::LedgerError;

/// Says what was being done when the database refused.
pub(super) fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> LedgerError {
    move |source| LedgerError::Store { doing, source: Box::new(source) }
}

/// A row is not what this version writes.
pub(super) fn corrupt(
    table: &'static str,
    key: impl std::fmt::Display,
    reason: impl Into<String>,
) -> LedgerError {
    LedgerError::Corrupt { table, key: key.to_string(), reason: reason.into() }
}

/// Every row that was to be written is there.
pub(super) fn all_there(table: &'static str, changed: u64, wanted: usize) -> Result<(), LedgerError> {
    if usize::try_from(changed).is_ok_and(|n| n == wanted) {
        return Ok(());
    }
    Err(corrupt(table, "a batch", format!("{wanted} rows were to be written, {changed} are there")))
}

/// Whether the database refused a value itself, such as a text with a NUL character: no other try will go through.
pub(super) fn unfit_value(error: &LedgerError) -> bool {
    let LedgerError::Store { source, .. } = error else { return false };
    let code =
        source.downcast_ref::<sqlx::Error>().and_then(|e| e.as_database_error()).and_then(|e| e.code());
    code.is_some_and(|code| code.starts_with("22"))
}

/// Why a transaction was undone that may go through when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collision {
    /// An index that keeps rows unique refused: the lock, or the name.
    Unique,
    /// A deadlock or a serialisation failure: another transaction went first.
    Concurrent,
}

/// The collision behind an error, if it is one.
pub(super) fn collision(error: &LedgerError) -> Option<Collision> {
    let LedgerError::Store { source, .. } = error else { return None };
    let code = source.downcast_ref::<sqlx::Error>()?.as_database_error()?.code()?;
    match code.as_ref() {
        "23505" => Some(Collision::Unique),
        "40001" | "40P01" => Some(Collision::Concurrent),
        _ => None,
    }
}
