//! Redundancy: never two members of one group in soft or later at the same time, unless the whole group is retired.
//!
//! A group is a name that resources state, such as `db-main`: its members can do each other's work, so one of them may
//! go, and two may not. A member **goes** from the claim of its soft stage until its record is over, by recycle, restore
//! or rescue. While one goes, no other begins a stage from soft on; of two that go already (because the group was to be
//! retired as a whole, and then a record was cancelled or a member was added) the one that has come further goes first,
//! and of two that have come as far the older record. So they never wait for each other.
//!
//! A group is **retired** if each of its members is: its soft stage has begun, or is due by now, its record is not being
//! restored, and nothing keeps it, neither a hold nor a protection (its own or the configuration's) nor a ceiling, nor that it
//! is a drill's and comes back. A record alone does not retire: it may be due in years, when the others are long gone. What belongs to no group, or is the
//! only one left in it, is not bound. A stage that has begun is not stopped between two steps: half of it done is no
//! redundancy either.
//!
//! Nor does a member retire whose soft stage **anything else than this belt** stops: it stays for now, and the others must
//! not leave it alone. That is what holds it since somebody looked at it, and what stops it *now*, whether or not anybody has
//! looked: a pause, a notice that came back, a batch that it is one of, or that it stands midway, parked or stopped between
//! two steps. A pause of one subsystem counts, too: which steps another member has left is not known here. Whom this belt
//! alone stops does retire: it waits for nothing but the others. So that this is true, this belt is asked last of all.
//!
//! Nobody waits in a circle. Whom something else stops waits for that alone, and that asks nothing of the group, so this
//! belt never keeps it from ending. Once it has ended, and somebody has looked if that held it, the member counts. The last
//! one of which this is true finds all others retired, and goes; at the next look so do they. Of two that only this belt
//! holds neither waits for the other, since both count. And a whole group that is frozen as one batch is not bound at all
//! before one of it goes: it waits for the approval.
//!
//! Not looked at is what takes more to know of a member than a few columns: whether it has lost grace, whether those are
//! there whom it needs, and whether it will be admitted. It counts until that holds it. And a member of two groups that is
//! held because of one counts as retired in the other, whose members may so leave it alone until that is over: whether it
//! waits there follows from all groups of its fellows, which are not read.
//!
//! Groups are what resources state now, not what they stated when a record was made: the members that are left are what
//! counts.
use std::collections::BTreeMap;

use super::ceiling::Ceiling;
use super::{InForce, Pause, Policy};
use crate::decide::{Context, notice};
use crate::deletion::{Deletion, RecordStatus};
use crate::drill;
use crate::id::{DeletionId, Kind, ResourceId, Scope};
use crate::job::{Blocker, Job, JobKind, JobState, Stage};
use crate::time::Timestamp;

/// The live record of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// Which.
    pub deletion: DeletionId,
    /// The last stage of which anything was or may have been done, if that is soft or later.
    pub reached: Option<Stage>,
    /// When its soft stage is due, if that is known, it has not begun, and nothing but this belt holds it.
    pub soft_due: Option<Timestamp>,
    /// Its soft stage is over.
    pub off: bool,
    /// Something else stops its soft stage, whoever looked at it last: it stands still midway, or the notice came back.
    pub stopped: bool,
    /// Its soft stage was one of a batch that waits when it was read: no deletion says so before somebody has looked.
    pub frozen: bool,
    /// It is being restored, and so will stay.
    pub restoring: bool,
    /// It may well stay: a hold or a protection is on it, or it is a drill's. What the configuration protects stays, too,
    /// which is looked up when one decides.
    pub kept: bool,
    /// Its scope, whose ceiling or pause may keep it.
    pub scope: Scope,
}

impl Going {
    /// Where `deletion` stands; none if it is over.
    pub fn of(deletion: &Deletion) -> Option<Self> {
        let stays = deletion.protected || !deletion.resource_holds.is_empty();
        Self::of_record(deletion).map(|going| Self { kept: going.kept || stays, ..going })
    }

    /// The same without what stands on its resource: that may have changed since what is known of the record was read.
    pub fn of_record(deletion: &Deletion) -> Option<Self> {
        let soft = deletion.stage_job(Stage::Soft).map(|job| &job.state);
        deletion.status.live().then(|| Self {
            deletion: deletion.id,
            reached: deletion.jobs.iter().filter_map(reached).max(),
            soft_due: soft.and_then(due),
            off: soft == Some(&JobState::Done),
            stopped: soft.is_some_and(stands_still) || notice::came_back_since(deletion).is_some(),
            frozen: false,
            restoring: deletion.status == RecordStatus::Restoring,
            kept: !deletion.holds.is_empty() || drill::is_drill(deletion),
            scope: deletion.record.resource.scope.clone(),
        })
    }

    /// Whether it, one of `kind`, is retired by `now`, as far as what is in force lets it.
    fn retires(&self, kind: &Kind, now: Timestamp, in_force: &InForce) -> bool {
        let InForce { ceilings, pauses, .. } = in_force;
        let begins = self.reached.is_some() || self.soft_due.is_some_and(|due| due <= now);
        begins
            && !self.restoring
            && !self.kept
            && (self.off || !self.waits(kind, pauses))
            && ceilings.height(&self.scope) >= Ceiling::needed_for(Stage::Soft)
    }

    /// Whether its soft stage, which is not over, waits for something else than its groups.
    fn waits(&self, kind: &Kind, pauses: &[Pause]) -> bool {
        let paused = |pause: &Pause| pause.covers.may_cover(Stage::Soft, kind, &self.scope);
        self.stopped || (self.frozen && self.reached.is_none()) || pauses.iter().any(paused)
    }
}

/// When what has not begun is due, if that is known and nothing but this belt holds it.
fn due(state: &JobState) -> Option<Timestamp> {
    match state {
        JobState::Scheduled { due_at } => *due_at,
        JobState::Held { due_at, by: Blocker::Redundancy { .. } } => Some(*due_at),
        JobState::Held { .. }
        | JobState::Ready { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Parked { .. }
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => None,
    }
}

/// Whether what has begun waits for a person, or for the end of what stopped it between two steps.
fn stands_still(state: &JobState) -> bool {
    match state {
        JobState::Ready { blocked, .. } => blocked.is_some(),
        JobState::Parked { .. } => true,
        JobState::Scheduled { .. }
        | JobState::Held { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => false,
    }
}

/// The stage of a job of which something was or may have been done. What was cancelled before it began was not.
fn reached(job: &Job) -> Option<Stage> {
    let JobKind::Stage(stage) = job.kind else { return None };
    let began = match job.state {
        JobState::Scheduled { .. } | JobState::Held { .. } | JobState::Cancelled => {
            job.cursor > 0 || job.touched
        }
        JobState::Ready { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Parked { .. }
        | JobState::Done
        | JobState::Rescued => true,
    };
    (began && stage >= Stage::Soft).then_some(stage)
}

/// One that states to belong to a group, and that is in the inventory or has a live record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub resource: ResourceId,
    /// Its live record.
    pub going: Option<Going>,
}

/// The groups of the deletions of one batch, with all of their members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<String, Vec<Member>>);

impl Groups {
    /// From members, each with the name of a group that it states.
    pub fn of(members: impl IntoIterator<Item = (String, Member)>) -> Self {
        let mut groups: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        for (name, member) in members {
            groups.entry(name).or_default().push(member);
        }
        Self(groups)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Take over where a deletion stands by now: what was read of it is older.
    pub fn note(&mut self, deletion: &Deletion) {
        if self.is_empty() {
            return;
        }
        let resource = &deletion.record.resource.id;
        let going = Going::of(deletion);
        for member in self.0.values_mut().flatten().filter(|member| member.resource == *resource) {
            let known = member.going.as_ref();
            // Of an earlier record nobody wants to know.
            if known.is_none_or(|known| known.deletion == deletion.id) {
                let frozen = known.is_some_and(|known| known.frozen);
                member.going = going.clone().map(|going| Going { frozen, ..going });
            }
        }
    }

    /// The first group of `resource` in which another member goes first, and that member. Whoever asks is about to begin.
    fn first(
        &self,
        resource: &ResourceId,
        own: &Going,
        (now, in_force, policy): (Timestamp, &InForce, &Policy),
    ) -> Option<(&str, &ResourceId)> {
        let retires = |member: &Member| match &member.going {
            None => false,
            Some(_) if policy.protected.contains(&member.resource) => false,
            Some(_) if member.resource == *resource => !own.restoring && !own.kept,
            Some(going) => going.retires(&member.resource.kind, now, in_force),
        };
        self.0.iter().find_map(|(name, members)| {
            members.iter().find(|member| member.resource == *resource)?;
            if members.iter().all(retires) {
                return None;
            }
            let first = members.iter().find(|m| m.resource != *resource && goes_first(m.going.as_ref(), own));
            first.map(|other| (name.as_str(), &other.resource))
        })
    }
}

/// Whether another member goes, and before the own one.
fn goes_first(other: Option<&Going>, own: &Going) -> bool {
    let Some(other) = other.filter(|other| other.reached.is_some()) else { return false };
    match other.reached.cmp(&own.reached) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => other.deletion < own.deletion,
        std::cmp::Ordering::Less => false,
    }
}

/// Whether this belt asks anything of `job`: a stage from soft on that has not begun.
pub fn bound(job: &Job) -> bool {
    let JobKind::Stage(stage) = job.kind else { return false };
    binds(stage) && matches!(job.state, JobState::Scheduled { .. } | JobState::Held { .. })
}

/// Whether this belt asks anything of a stage.
pub fn binds(stage: Stage) -> bool {
    stage >= Stage::Soft
}

/// What stops `job` of `deletion`, if another member of a group goes.
pub(super) fn blocker(deletion: &Deletion, job: &Job, context: &Context<'_>) -> Option<Blocker> {
    let Context { groups, now, in_force, policy, .. } = context;
    if groups.is_empty() || !bound(job) {
        return None;
    }
    let own = Going::of(deletion)?;
    let known = (*now, *in_force, *policy);
    let (group, other) = groups.first(&deletion.record.resource.id, &own, known)?;
    Some(Blocker::Redundancy { group: group.to_owned(), other: other.clone() })
}

#[cfg(test)]
mod tests;
