//! Whether a batch may be approved: exactly the set that was looked at, by somebody who requested none of it.
use super::{Member, digest};
use crate::access::is_own;
use crate::id::{Actor, ResourceId};
use crate::job::Stage;

/// Why a batch cannot be approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotApprove {
    /// It was approved, fits by now, or nobody waits any more.
    #[error("batch: there is no batch {0} that waits")]
    NoSuchBatch(i64),
    /// It is another set than the one that was looked at.
    #[error("digest: batch {batch} is another set by now; look at it again, its digest is {digest}")]
    OtherSet {
        /// Which.
        batch: i64,
        /// What it is.
        digest: String,
    },
    /// Whoever wants a deletion does not approve it.
    #[error("{by} requested {resource} of this batch: somebody who requested none of it has to approve it")]
    Requested {
        /// Who.
        by: Actor,
        /// The first of what was requested.
        resource: ResourceId,
    },
}

/// What whoever approves a batch of these approves.
pub fn digest_of_batch(stage: Stage, members: &[Member]) -> String {
    digest(stage, members.iter().map(|member| (member.job, &member.resource)))
}

/// Whether `by` may approve a batch in which these wait for its stage. `approved`: the digest of the set that `by` has
/// looked at.
///
/// # Errors
/// That nobody waits in it any more, or that it has to be looked at again, or approved by somebody else.
pub fn may_approve(
    (batch, stage): (i64, Stage),
    members: &[Member],
    by: &Actor,
    approved: &str,
) -> Result<(), CannotApprove> {
    if members.is_empty() {
        return Err(CannotApprove::NoSuchBatch(batch));
    }
    let digest = digest_of_batch(stage, members);
    if digest != approved {
        return Err(CannotApprove::OtherSet { batch, digest });
    }
    match members.iter().find(|member| is_own(&member.requested_by, by)) {
        Some(Member { resource, .. }) => {
            Err(CannotApprove::Requested { by: by.clone(), resource: resource.clone() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeletionId, JobId};

    fn member(id: i64, requested_by: &str) -> Member {
        Member {
            job: JobId::of(DeletionId(id), Stage::Hard.index()),
            resource: format!("vm/web{id}").parse().unwrap(),
            requested_by: requested_by.parse().unwrap(),
        }
    }

    #[test]
    fn a_batch_is_approved_as_it_was_looked_at_and_by_somebody_else() {
        let members = [member(1, "platform"), member(2, "ann")];
        let seen = digest_of_batch(Stage::Hard, &members);
        let approve =
            |set: &[Member], by: &str| may_approve((7, Stage::Hard), set, &by.parse().unwrap(), &seen);
        assert_eq!(approve(&members, "boss"), Ok(()));
        let refused = approve(&members, "ann").unwrap_err();
        let CannotApprove::Requested { by, resource } = &refused else { panic!("{refused}") };
        assert_eq!((by.as_str(), resource.to_string().as_str()), ("ann", "vm/web2"));
        assert!(approve(&members, "platform").is_err());
        let fewer = digest_of_batch(Stage::Hard, &members[..1]);
        assert_eq!(
            approve(&members[..1], "boss"),
            Err(CannotApprove::OtherSet { batch: 7, digest: fewer }),
            "fewer are another set, too"
        );
        assert_eq!(approve(&[], "boss"), Err(CannotApprove::NoSuchBatch(7)));
        let purge = may_approve((7, Stage::Purge), &members, &"boss".parse().unwrap(), &seen);
        assert!(purge.is_err(), "of another stage it is another set");
    }
}
