//! How much one call may ask for, the same on both footings. A call writes all of its list in few transactions, and
//! everybody else waits for each of them: who has more calls again.
use crate::LedgerError;

/// Most intents of one [`crate::Ledger::run`]: on PostgreSQL a batch numbers its orders from one block of fences, and blocks are
/// 1024 numbers apart. More would number two batches' orders alike.
pub const RUN_MAX: usize = 1024;
/// Most resources of one [`crate::Ledger::register`]: as many as one request of the API registers. All or nothing is
/// one transaction.
pub const REGISTER_MAX: usize = 10_000;
/// Most records of one [`crate::Ledger::create`]: about as much to write as registering that many, which is done
/// just before by whoever makes many at once.
pub const CREATE_MAX: usize = 10_000;
/// Most copies of one [`crate::Ledger::pulse`]: eight times what a coordinator takes from the queue at once, 32
/// messages of 16.
pub const PULSE_MAX: usize = 4096;
/// Most hashes of one [`crate::Ledger::event_hashes`]: as many as a signed checkpoint has heads, each a look-up in an
/// index.
pub const HASHES_MAX: usize = sexton_model::attest::HEADS_MAX;

/// That a list is not longer than it may be.
pub(crate) fn within(what: &'static str, found: usize, most: usize) -> Result<(), LedgerError> {
    if found <= most { Ok(()) } else { Err(LedgerError::TooMany { what, found, most }) }
}

/// Most announcements that are read to foretell a crowd, each time a record is made: more than most budgets let begin in a
/// day. Of more than that it is said that there are more; a crowd is held all the same.
pub const ANNOUNCED_MAX: u32 = 2_000;
