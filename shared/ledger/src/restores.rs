//! Restoring many: which records of a scope are live, and who is restored first.
//!
//! The priority is the resource's, as it is registered now, not as its record remembers it: it may be changed while
//! restores wait for credit. It is read when a line is, and stands in no index.
use async_trait::async_trait;
use sexton_model::deletion::RecordStatus;
use sexton_model::{Actor, DeletionId, ResourceId, Scope};

use crate::{LedgerError, NotDone};

/// Most live records that one scope is asked for: more are cancelled scope by scope.
pub const WITHIN_MAX: usize = 20_000;
/// Restores in one line that are compared by priority, the oldest of them: several rounds of all credit, unless more is configured.
pub(crate) const COMPARED: i64 = 4096;

/// A record that is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRecord {
    /// Which one.
    pub deletion: DeletionId,
    /// What it deletes.
    pub resource: ResourceId,
    /// Live, or being restored.
    pub status: RecordStatus,
    /// The resource's priority as it is now: lower is restored first.
    pub priority: i16,
}

/// See the module.
#[async_trait]
pub trait Restores: Send + Sync + 'static {
    /// The live records of a scope and of those below it, in the order in which they would be restored: by priority,
    /// then by number.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more than [`WITHIN_MAX`]; else the store cannot be read.
    async fn live_within(&self, scope: &Scope) -> Result<Vec<LiveRecord>, LedgerError>;

    /// Change a registered resource's priority, and nothing else of it: one event of its chain, unless it is the same.
    ///
    /// # Errors
    /// If the store did not do it. That the resource is not there is the inner result.
    async fn prioritize(
        &self,
        resource: &ResourceId,
        priority: i16,
        by: &Actor,
    ) -> Result<Result<(), NotDone>, LedgerError>;
}

/// Where the scopes below one begin and end: everything between, the end left out, begins with it and a slash.
pub(crate) fn below(scope: &Scope) -> (String, String) {
    (format!("{scope}/"), format!("{scope}0"))
}

/// That it is not more than may be asked for.
pub(crate) fn few(found: Vec<LiveRecord>) -> Result<Vec<LiveRecord>, LedgerError> {
    if found.len() > WITHIN_MAX {
        return Err(LedgerError::TooMany {
            what: "live records of one scope",
            found: found.len(),
            most: WITHIN_MAX,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn what_is_below_a_scope_lies_between_its_bounds() {
        let (from, to) = below(&"tenants/acme".parse().unwrap());
        let within = |scope: &str| scope >= from.as_str() && scope < to.as_str();
        assert!(["tenants/acme/a", "tenants/acme/z/9", "tenants/acme/_"].into_iter().all(within));
        assert!(
            !["tenants/acme", "tenants/acme-two", "tenants/acme2", "tenants/b", "tenants"]
                .into_iter()
                .any(within)
        );
    }
}
