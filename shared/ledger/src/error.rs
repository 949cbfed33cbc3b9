//! What can go wrong in the ledger.
use sexton_model::access::CannotRegister;
use sexton_model::belts::budget::{CannotApprove, CannotResume};
use sexton_model::belts::ceiling::CannotSet;
use sexton_model::belts::census::NotBelieved;
use sexton_model::belts::census::listing::NotTaken;
use sexton_model::belts::one_shot::CannotOverride;
use sexton_model::belts::pauses::TooManyPauses;
use sexton_model::belts::resource_hold::CannotHold;
use sexton_model::checkpoint::Behind;
use sexton_model::claims::{Contested, NoClaim};
use sexton_model::decide::Refusal;
use sexton_model::deletion::CannotDelete;
use sexton_model::exclusive::CannotShare;
use sexton_model::survey::CannotSurvey;
use sexton_model::{Actor, DeletionId, ResourceId, Scope};

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
    /// The ledger is an older one than was seen before. Nothing was done; it has to be confronted with what is
    /// known (see [`crate::Ledger::confront`]).
    #[error("{0}")]
    WentBack(Box<Behind>),
    /// A call asks for more than one call may. Nothing was done: call with less, several times.
    #[error("{found} {what} in one call: at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// There are as many pauses as may be. Nothing was done.
    #[error(transparent)]
    Pauses(#[from] TooManyPauses),
    /// Nothing was done: the attempt at a request that would have done it was taken for dead, and another one has begun
    /// since, or has done it.
    #[error("another attempt at this request has begun since: nothing was done by this one")]
    Overtaken,
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
    /// Its rows are not what this version writes: a person has to look at them. Nothing of it goes on.
    #[error("{0} cannot be read: {1}")]
    Corrupt(DeletionId, String),
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
    /// Whoever registers it may not do so.
    #[error(transparent)]
    Register(#[from] CannotRegister),
    /// Something else of that name is registered, and nothing says that it is gone.
    #[error("{0} is registered with another identity: delete that one first")]
    OtherIdentity(ResourceId),
    /// It would be another scope's while its record decides by this one.
    #[error(
        "scope: {resource} stays in {from} as long as it has a live deletion record ({deletion}): cancel that first, and \
         move it when it has come back"
    )]
    StaysInScope {
        /// The resource.
        resource: ResourceId,
        /// The scope that it is registered in.
        from: Scope,
        /// Its record.
        deletion: DeletionId,
    },
    /// Whoever requested the deletion of one of a redundancy group takes none out of it.
    #[error(
        "groups: {resource} stays in {group}: {by} requested the deletion of one of that redundancy group, so somebody else \
         has to take it out"
    )]
    StaysInGroup {
        /// What would leave it.
        resource: ResourceId,
        /// The group.
        group: String,
        /// Who.
        by: Actor,
    },
    /// Another one is registered for what it states, or not seen to be gone from there.
    #[error(transparent)]
    Exclusive(#[from] CannotShare),
    /// Another one claims the same by what it states.
    #[error(transparent)]
    Contested(#[from] Contested),
    /// What it has to itself cannot be told from what it states.
    #[error(transparent)]
    NoClaim(#[from] NoClaim),
    /// The record cannot be made.
    #[error(transparent)]
    CannotDelete(#[from] CannotDelete),
    /// The ceiling cannot be set so.
    #[error(transparent)]
    Ceiling(#[from] CannotSet),
    /// The batch cannot be approved.
    #[error(transparent)]
    Approval(#[from] CannotApprove),
    /// The pause cannot be lifted so, or the ceiling raised.
    #[error(transparent)]
    Resume(#[from] CannotResume),
    /// The census is not believed.
    #[error(transparent)]
    Census(#[from] NotBelieved),
    /// The resource cannot be held so.
    #[error(transparent)]
    Hold(#[from] CannotHold),
    /// Nothing is let pass.
    #[error(transparent)]
    Override(#[from] CannotOverride),
    /// Nobody is asked for a survey.
    #[error(transparent)]
    Survey(#[from] CannotSurvey),
    /// No census is taken.
    #[error(transparent)]
    Taking(#[from] NotTaken),
    /// Another item of an all-or-nothing batch was bad.
    #[error("not done, because another line was refused")]
    WithTheRest,
}

/// Tables whose rows belong to one deletion each: one that is spoilt stops nobody else.
const OF_ONE_DELETION: [&str; 8] =
    ["deletions", "records", "plans", "jobs", "holds", "waivers", "targets", "manifests"];

impl LedgerError {
    /// Whether rows of a single deletion are to blame.
    pub(crate) fn spoilt(&self) -> bool {
        matches!(self, Self::Corrupt { table, .. } if OF_ONE_DELETION.contains(table))
    }

    /// What a batch of one that failed with this is answered: rows that are spoilt fail that item, and everything
    /// else fails the call.
    pub(crate) fn alone(self, deletion: DeletionId) -> Result<NotDone, Self> {
        if !self.spoilt() {
            return Err(self);
        }
        tracing::error!(%deletion, error = %self, "a deletion cannot be read");
        Ok(NotDone::Corrupt(deletion, self.to_string()))
    }
}
