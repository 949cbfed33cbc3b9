//! The receipts' side of the job table: whose are due, keeping them, and reading one.
//!
//! A receipt is signed with a key that the job table does not have, so the decision that ends a purge cannot make it.
//! Which ones are missing is found on demand, by looking at records in the order of their numbers; no decision writes a
//! mark for it, and no table of decisions has a column or an index for it.
use async_trait::async_trait;
use sexton_model::DeletionId;
use sexton_model::attest::Head;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::receipt::SignedReceipt;

use crate::LedgerError;
use crate::row::code;

/// Records that one call looks at.
pub(crate) const LOOK: i64 = 4096;
/// Most receipts that one call keeps: one transaction.
pub const RECEIPTS_MAX: usize = 64;

/// Some records without a receipt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptsDue {
    /// Those whose purge is over, ascending.
    pub deletions: Vec<DeletionId>,
    /// Give this as `after` for the next ones; none if these were the last.
    pub next: Option<DeletionId>,
}

/// A receipt that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReceipt {
    /// Whose.
    pub deletion: DeletionId,
    /// The event of its chain that it rests on.
    pub rests_on: Head,
    /// The receipt.
    pub signed: SignedReceipt,
}

/// See the module.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// Records whose purge is over and that have no receipt, behind `after`: at most [`RECEIPTS_MAX`], among some four
    /// thousand that are looked at.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn receipts_due(&self, after: DeletionId) -> Result<ReceiptsDue, LedgerError>;

    /// Keep receipts, at most [`RECEIPTS_MAX`]; one of a record that has one, or that is not there any more, is left
    /// out. How many were kept.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more; if a record's purge is not over, or its chain does not hold that
    /// event: the database itself refuses. Else the store did not do it. In each case none is kept.
    async fn keep_receipts(&self, new: Vec<NewReceipt>) -> Result<u64, LedgerError>;

    /// The receipt of a record that is not archived; the archive's file has that of one that is.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn receipt(&self, id: DeletionId) -> Result<Option<SignedReceipt>, LedgerError>;
}

/// The slot of the job that has to be over, and the code of its state.
pub(crate) fn purged() -> (i64, i16) {
    (i64::from(JobKind::Stage(Stage::Purge).slot()), code(StateName::Done))
}

/// The page that ends with what was looked at last, unless it is full before.
pub(crate) fn page(deletions: Vec<DeletionId>, looked: Option<i64>) -> ReceiptsDue {
    let full = deletions.last().filter(|_| deletions.len() >= RECEIPTS_MAX).copied();
    ReceiptsDue { next: full.or(looked.map(DeletionId)), deletions }
}
