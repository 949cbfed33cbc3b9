//! What would begin at once when a pause is lifted, or a ceiling raised, and whether it may be.
use std::collections::BTreeMap;

use super::{Budgets, Exceeded, Group, charge, over};
use crate::belts::census::Population;
use crate::deletion::Deletion;
use crate::id::{Actor, ResourceId, Scope};
use crate::job::{Blocker, JobKind, JobState, Stage};

/// What would begin, or go on, at once if what holds so many of each group, or has stopped them midway, were
/// lifted, and is more than a number lets begin in stages that are not counted: nothing else would keep such a
/// crowd back. Of counted stages the admission makes a batch.
pub fn at_once(
    (budgets, population): (&Budgets, &Population),
    held: impl IntoIterator<Item = (Group, u64)>,
) -> Vec<(Group, Exceeded)> {
    let mut used = BTreeMap::new();
    let mut found = Vec::new();
    for (group, held) in held.into_iter().filter(|(group, held)| *held > 0 && !budgets.bind(group.stage)) {
        let members = usize::try_from(held).unwrap_or(usize::MAX);
        let why = over((budgets, population), &group, members, &used);
        charge(&mut used, &group, members);
        found.extend(why.map(|why| (group, why)));
    }
    found
}

/// Why a pause cannot be lifted so, or a ceiling raised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotResume {
    /// So many would begin at once that somebody has to approve that.
    #[error(
        "{members} would begin {stage} at once in {scope} ({why}): somebody who requested none of them has to approve that \
         when it is lifted, or raised"
    )]
    NeedsApproval {
        /// Which stage, of the first crowd.
        stage: Stage,
        /// In which scope.
        scope: Scope,
        /// How many of all crowds.
        members: u64,
        /// Which number the first one exceeds.
        why: Exceeded,
    },
    /// It is another crowd than the one that was looked at.
    #[error("at_once: {members} would begin at once by now, and not {looked_at}; look at it again")]
    OtherNumber {
        /// How many it is.
        members: u64,
        /// How many it was.
        looked_at: u64,
    },
    /// Whoever wants a deletion does not approve it.
    #[error(
        "{by} requested {resource}, which would begin at once: somebody who requested none of them has to approve that"
    )]
    Requested {
        /// Who.
        by: Actor,
        /// The first of what was requested.
        resource: ResourceId,
    },
}

/// Whether a pause may be lifted, or a ceiling raised, that keeps these crowds back ([`at_once`]). `approved`: how many whoever
/// does that has looked at, and approves.
///
/// # Errors
/// That it has to be approved, or looked at again.
pub fn may_resume(crowds: &[(Group, Exceeded)], approved: Option<u64>) -> Result<(), CannotResume> {
    let Some((group, why)) = crowds.first() else { return Ok(()) };
    let members = crowds.iter().map(|(_, why)| why.members).fold(0, u64::saturating_add);
    match approved {
        Some(looked_at) if looked_at == members => Ok(()),
        Some(looked_at) => Err(CannotResume::OtherNumber { members, looked_at }),
        None => {
            let (stage, scope) = (group.stage, group.scope.clone());
            Err(CannotResume::NeedsApproval { stage, scope, members, why: why.clone() })
        }
    }
}

/// Whether `by` may approve that these crowds begin. `held`: some of the deletions that are stopped, as far as one
/// looks at once; `lifted` says of a scope's blocker whether it goes.
///
/// # Errors
/// Naming one that `by` has requested.
pub fn may_approve<'a>(
    crowds: &[(Group, Exceeded)],
    by: &Actor,
    held: impl IntoIterator<Item = &'a Deletion>,
    lifted: impl Fn(&Scope, &Blocker) -> bool,
) -> Result<(), CannotResume> {
    let begins = |d: &Deletion| {
        let resource = &d.record.resource;
        d.jobs.iter().any(|job| {
            let (
                JobKind::Stage(stage),
                JobState::Held { by: blocker, .. } | JobState::Ready { blocked: Some(blocker), .. },
            ) = (job.kind, &job.state)
            else {
                return false;
            };
            let same = |(group, _): &(Group, Exceeded)| {
                group.stage == stage && group.scope == resource.scope && group.kind == resource.id.kind
            };
            lifted(&resource.scope, blocker) && crowds.iter().any(same)
        })
    };
    let own = held.into_iter().find(|d| d.record.requested_by == *by && begins(d));
    own.map_or(Ok(()), |own| {
        Err(CannotResume::Requested { by: by.clone(), resource: own.record.resource.id.clone() })
    })
}
