//! What would begin at once when a pause is lifted, or a ceiling raised, and whether it may be: a crowd only once somebody who
//! requested none of it has approved exactly that set.
use std::collections::BTreeMap;

use ring::digest::{Context as Digest, SHA256};

use super::{Budgets, Exceeded, Group, charge, digest, over};
use crate::access::is_own;
use crate::belts::census::Population;
use crate::id::{Actor, JobId, ResourceId, Scope};
use crate::job::Stage;

/// One that waits in a batch, or would begin with a crowd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its job.
    pub job: JobId,
    /// Its resource.
    pub resource: ResourceId,
    /// Who asked for its deletion.
    pub requested_by: Actor,
}

/// All of one scope, kind and stage that would begin, or go on, at once, and are too many for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowd {
    /// Which.
    pub group: Group,
    /// Which number they exceed.
    pub why: Exceeded,
    /// All of them.
    pub members: Vec<Member>,
}

/// What would begin, or go on, at once if what holds so many of each group, or has stopped them midway, were lifted, and is
/// more than a number lets begin in stages that are not counted: nothing else would keep such a crowd back. Of counted stages
/// the admission makes a batch.
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

/// What somebody approves who lets these crowds begin: exactly this set, of each stage what a batch of it would have as its
/// digest. SHA-256.
pub fn digest_of_crowds<'a>(crowds: impl IntoIterator<Item = &'a Crowd>) -> String {
    let mut stages: BTreeMap<Stage, Vec<(JobId, &ResourceId)>> = BTreeMap::new();
    for crowd in crowds {
        let members = crowd.members.iter().map(|member| (member.job, &member.resource));
        stages.entry(crowd.group.stage).or_default().extend(members);
    }
    let mut all = Digest::new(&SHA256);
    all.update(b"sexton crowd\n");
    for (stage, members) in stages {
        all.update(digest(stage, members).as_bytes());
        all.update(b"\n");
    }
    all.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a pause cannot be lifted so, or a ceiling raised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotResume {
    /// So many would begin at once that somebody has to approve that.
    #[error(
        "{members} would begin {stage} at once in {scope} ({why}): somebody who requested none of them has to look at them, \
         and to approve exactly that set when it is lifted, or raised"
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
    #[error(
        "digest: what would begin at once is another set by now, of {members}; look at it again, its digest is {digest}"
    )]
    OtherSet {
        /// How many it is.
        members: u64,
        /// What it is.
        digest: String,
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

/// Whether `by` may lift a pause, or raise a ceiling, that keeps these crowds back. `approved`: the digest of those that `by`
/// has looked at, and approves.
///
/// # Errors
/// That it has to be approved, or looked at again, or approved by somebody else.
pub fn may_resume(crowds: &[&Crowd], by: &Actor, approved: Option<&str>) -> Result<(), CannotResume> {
    let Some(first) = crowds.first() else { return Ok(()) };
    let members = crowds.iter().map(|crowd| crowd.why.members).fold(0, u64::saturating_add);
    let Some(approved) = approved else {
        let Group { scope, stage, .. } = first.group.clone();
        return Err(CannotResume::NeedsApproval { stage, scope, members, why: first.why.clone() });
    };
    let digest = digest_of_crowds(crowds.iter().copied());
    if digest != approved {
        return Err(CannotResume::OtherSet { members, digest });
    }
    let mut all = crowds.iter().flat_map(|crowd| &crowd.members);
    match all.find(|member| is_own(&member.requested_by, by)) {
        Some(Member { resource, .. }) => {
            Err(CannotResume::Requested { by: by.clone(), resource: resource.clone() })
        }
        None => Ok(()),
    }
}
