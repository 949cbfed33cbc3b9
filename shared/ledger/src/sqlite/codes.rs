//! Stored codes, and reading what is stored as text.
use serde::de::DeserializeOwned;
use sexton_model::audit::Hash;
use sexton_model::deletion::RecordStatus;
use sexton_model::resource::Presence;

use crate::LedgerError;

const STATUS: [RecordStatus; 5] = [
    RecordStatus::Live,
    RecordStatus::Restoring,
    RecordStatus::Cancelled,
    RecordStatus::Recycled,
    RecordStatus::Rescued,
];

const PRESENCE: [Presence; 3] = [Presence::Registered, Presence::Tombstone, Presence::Recycled];

/// What is wrong with a row.
pub(super) fn corrupt(table: &'static str, key: impl ToString, reason: impl ToString) -> LedgerError {
    LedgerError::Corrupt { table, key: key.to_string(), reason: reason.to_string() }
}

/// Every row that was to be changed is there, and no other was changed.
pub(super) fn all_there(table: &'static str, changed: u64, wanted: usize) -> Result<(), LedgerError> {
    if usize::try_from(changed).is_ok_and(|changed| changed == wanted) {
        return Ok(());
    }
    Err(corrupt(table, "a batch", format!("{wanted} rows were to be written, {changed} are there")))
}

pub(super) fn of_status(status: RecordStatus) -> i64 {
    status as i64
}

pub(super) fn status(code: i64) -> Result<RecordStatus, LedgerError> {
    let found = usize::try_from(code).ok().and_then(|n| STATUS.get(n).copied());
    found.ok_or_else(|| corrupt("deletions", "status", format!("{code} is no status")))
}

pub(super) fn of_presence(presence: Presence) -> i64 {
    presence as i64
}

pub(super) fn presence(code: i64) -> Result<Presence, LedgerError> {
    let found = usize::try_from(code).ok().and_then(|n| PRESENCE.get(n).copied());
    found.ok_or_else(|| corrupt("resources", "presence", format!("{code} is no presence")))
}

pub(super) fn hash(table: &'static str, key: impl ToString, bytes: &[u8]) -> Result<Hash, LedgerError> {
    bytes.try_into().map_err(|_| corrupt(table, key, "a hash is not 32 bytes long"))
}

/// Parse a stored body.
pub(super) fn body<T: DeserializeOwned>(
    table: &'static str,
    key: impl ToString,
    text: &str,
) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|e| corrupt(table, key, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for s in STATUS {
            assert_eq!(status(of_status(s)).unwrap(), s);
        }
        for p in PRESENCE {
            assert_eq!(presence(of_presence(p)).unwrap(), p);
        }
    }
}
