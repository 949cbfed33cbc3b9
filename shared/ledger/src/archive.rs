//! The archive's side of the job table: finding what ended long ago, reading it whole, and exchanging its rows for a stub.
//!
//! A trait of its own, since it is a role of its own: on PostgreSQL the coordinators cannot remove a record, and who
//! can ([`crate::postgres::PgArchive`]) can write nothing but stubs.
use async_trait::async_trait;
use sexton_model::archive::{Document, EVENTS_MAX, Stub};
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, Kind, Timestamp};

use crate::LedgerError;

/// A record that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// Since when, by the store's clock.
    pub at: Timestamp,
    /// Which one.
    pub deletion: DeletionId,
}

/// Which stubs.
#[derive(Debug, Clone, Default)]
pub struct StubFilter {
    /// Only those of records that ended so.
    pub status: Option<RecordStatus>,
    /// Only those of resources of this kind.
    pub kind: Option<Kind>,
    /// Behind this id.
    pub after: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// See the module.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Records that ended before `before`, those that ended first first: behind `after`, at most `limit` (1 to 1000).
    /// What was purged waits for its receipt.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn ended(
        &self,
        before: Timestamp,
        after: Option<Ended>,
        limit: u32,
    ) -> Result<Vec<Ended>, LedgerError>;

    /// All of one record, as of one moment; none if there is none, or none any more. Whether it may be archived is said
    /// by [`Document::check`].
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if its chain is longer than [`EVENTS_MAX`]; else the store cannot be read.
    async fn whole(&self, id: DeletionId) -> Result<Option<Document>, LedgerError>;

    /// Insert the stub and remove the record with all that belongs to it, in one transaction. `false` if it was archived
    /// before: then nothing is written.
    ///
    /// # Errors
    /// If the record is not over, or not as the stub says: the database itself refuses. Else the store did not do it. In
    /// each case nothing is removed.
    async fn archive(&self, stub: &Stub) -> Result<bool, LedgerError>;
}

/// That a chain of so many events may be read whole.
pub(crate) fn readable(events: i64) -> Result<(), LedgerError> {
    if events <= EVENTS_MAX {
        return Ok(());
    }
    let count = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    Err(LedgerError::TooMany {
        what: "events of one record that is to be archived",
        found: count(events),
        most: count(EVENTS_MAX),
    })
}
