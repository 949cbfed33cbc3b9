//! What can go wrong in the ledger.
use sexton_model::decide::Refusal;
use sexton_model::deletion::CannotDelete;
use sexton_model::{DeletionId, ResourceId};

/// The store did not do it; nothing of the batch is written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database could not be reached or refused. Safe to try again.
    #[error("the job table: {doing}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A row is not what this version writes.
    #[error("the job table: {table} {key}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The ledger cannot be used as it is.
    #[error("the job table cannot be used: {0}")]
    Unfit(String),
}

/// Why one item of a batch was not done; the others are not touched by that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// The model refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such deletion.
    #[error("there is no deletion {0}")]
    NoSuchDeletion(DeletionId),
    /// The resource is not registered.
    #[error("{0} is not registered")]
    NotRegistered(ResourceId),
    /// The resource has a live record already.
    #[error("{resource} has a live deletion record already: {deletion}")]
    AlreadyLive {
        /// The resource.
        resource: ResourceId,
        /// Its record.
        deletion: DeletionId,
    },
    /// The name is protected by a record that is not over.
    #[error("{resource}: the name is taken until {deletion} is recycled; the identity differs or it is gone")]
    NameTaken {
        /// The resource.
        resource: ResourceId,
        /// The record.
        deletion: DeletionId,
    },
    /// Something else of that name is registered, and nothing says that it is gone.
    #[error("{0} is registered with another identity: delete that one first")]
    OtherIdentity(ResourceId),
    /// The record cannot be made.
    #[error(transparent)]
    CannotDelete(#[from] CannotDelete),
    /// Another item of an all-or-nothing batch was bad.
    #[error("not done, because another line was refused")]
    WithTheRest,
}
