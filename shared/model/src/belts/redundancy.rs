//! Redundancy: never two members of one group in soft or later at the same time, unless the whole group is retired.
//!
//! A group is a name that resources state, such as `db-main`: its members can do each other's work, so one of them may
//! go, and two may not. A member **goes** from the claim of its soft stage until its record is over, by recycle, restore
//! or rescue. While one goes, no other begins a stage from soft on; of two that go already (because the group was to be
//! retired as a whole, and then a record was cancelled or a member was added) the one that has come further goes first,
//! and of two that have come as far the older record. So they never wait for each other.
//!
//! A group is **retired** if each of its members has a live record that is not being restored. What belongs to no group,
//! or is the only one left in it, is not bound. A stage that has begun is not stopped between two steps: half of it done
//! is no redundancy either.
//!
//! Groups are what resources state now, not what they stated when a record was made: the members that are left are what
//! counts.
use std::collections::{BTreeMap, HashMap};

use crate::deletion::{Deletion, RecordStatus};
use crate::id::{DeletionId, ResourceId};
use crate::job::{Blocker, Job, JobKind, JobState, Stage};

/// The live record of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    /// Which.
    pub deletion: DeletionId,
    /// The last stage of which anything was or may have been done, if that is soft or later.
    pub reached: Option<Stage>,
    /// It is being restored, and so will stay.
    pub restoring: bool,
}

impl Going {
    /// Where `deletion` stands; none if it is over.
    pub fn of(deletion: &Deletion) -> Option<Self> {
        deletion.status.live().then(|| Self {
            deletion: deletion.id,
            reached: deletion.jobs.iter().filter_map(reached).max(),
            restoring: deletion.status == RecordStatus::Restoring,
        })
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
            // Of an earlier record nobody wants to know.
            if member.going.is_none_or(|known| known.deletion == deletion.id) {
                member.going = going;
            }
        }
    }

    /// Take over where these deletions stand by now.
    pub fn note_all<'a>(&mut self, deletions: impl IntoIterator<Item = &'a Deletion>) {
        if self.is_empty() {
            return;
        }
        let of: HashMap<ResourceId, Vec<&Deletion>> =
            deletions.into_iter().fold(HashMap::new(), |mut of, deletion| {
                of.entry(deletion.record.resource.id.clone()).or_default().push(deletion);
                of
            });
        let members: Vec<ResourceId> = self.0.values().flatten().map(|m| m.resource.clone()).collect();
        for deletion in members.iter().filter_map(|resource| of.get(resource)).flatten() {
            self.note(deletion);
        }
    }

    /// The first group of `resource` in which another member goes first, and that member.
    fn first(&self, resource: &ResourceId, own: &Going) -> Option<(&str, &ResourceId)> {
        self.0.iter().find_map(|(name, members)| {
            members.iter().find(|member| member.resource == *resource)?;
            if members.iter().all(|m| m.going.is_some_and(|going| !going.restoring)) {
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
pub(super) fn blocker(deletion: &Deletion, job: &Job, groups: &Groups) -> Option<Blocker> {
    if groups.is_empty() || !bound(job) {
        return None;
    }
    let own = Going::of(deletion)?;
    let (group, other) = groups.first(&deletion.record.resource.id, &own)?;
    Some(Blocker::Redundancy { group: group.to_owned(), other: other.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, going: Option<(i64, Option<Stage>, bool)>) -> (String, Member) {
        let going =
            going.map(|(id, reached, restoring)| Going { deletion: DeletionId(id), reached, restoring });
        ("db-main".to_owned(), Member { resource: format!("vm/{name}").parse().unwrap(), going })
    }

    /// Who goes before `a`, which has come to `reached` under the record d-5.
    fn before(reached: Option<Stage>, others: &[Option<(i64, Option<Stage>, bool)>]) -> Option<String> {
        let names = ["b", "c", "d"];
        let others = names.into_iter().zip(others).map(|(name, going)| member(name, *going));
        let groups = Groups::of([member("a", Some((5, reached, false)))].into_iter().chain(others));
        let own = Going { deletion: DeletionId(5), reached, restoring: false };
        groups.first(&"vm/a".parse().unwrap(), &own).map(|(group, other)| format!("{group} {other}"))
    }

    #[test]
    fn one_of_a_group_goes_at_a_time() {
        let soft = Some(Stage::Soft);
        let b = Some("db-main vm/b".to_owned());
        assert_eq!(before(None, &[None, None]), None, "nobody else goes");
        assert_eq!(before(None, &[Some((1, None, false)), None]), None, "announced only");
        assert_eq!(before(None, &[Some((1, soft, false)), None]), b, "in soft");
        assert_eq!(before(None, &[Some((1, Some(Stage::Recycle), false)), None]), b, "nearly gone");
        assert_eq!(before(None, &[Some((1, soft, true)), None]), b, "not back yet");
        assert_eq!(before(None, &[]), None, "the only one left");
    }

    #[test]
    fn a_group_that_is_retired_as_a_whole_is_not_bound() {
        let soft = Some(Stage::Soft);
        assert_eq!(before(None, &[Some((1, soft, false)), Some((9, None, false))]), None);
        let back = before(None, &[Some((1, soft, false)), Some((9, None, true))]);
        assert_eq!(back, Some("db-main vm/b".to_owned()), "one of them is being restored, and stays");
    }

    #[test]
    fn two_that_go_never_wait_for_each_other() {
        let stages = [None, Some(Stage::Soft), Some(Stage::Hard), Some(Stage::Purge), Some(Stage::Recycle)];
        for own in stages {
            for other in stages {
                let (a, b) = (
                    Going { deletion: DeletionId(5), reached: own, restoring: false },
                    Going { deletion: DeletionId(7), reached: other, restoring: false },
                );
                let (b_first, a_first) = (goes_first(Some(&b), &a), goes_first(Some(&a), &b));
                assert!(!(a_first && b_first), "{own:?} {other:?}");
                assert_eq!(a_first || b_first, own.is_some() || other.is_some(), "{own:?} {other:?}");
            }
        }
    }

    #[test]
    fn what_was_decided_since_counts_rather_than_what_was_read() {
        let (mut d, _, now, _) = crate::decide::test_deletion();
        let id = d.record.resource.id.clone();
        let read = Going { deletion: d.id, reached: None, restoring: false };
        let other = member("other", None);
        let mut groups =
            Groups::of([("g".to_owned(), Member { resource: id, going: Some(read) }), ("g".into(), other.1)]);
        let own = Going { deletion: DeletionId(d.id.0 + 1), reached: None, restoring: false };
        let other = "vm/other".parse().unwrap();
        assert_eq!(groups.first(&other, &own), None);
        let soft = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap();
        soft.state = JobState::Ready { since: now, blocked: None };
        groups.note_all([&d]);
        assert!(groups.first(&other, &own).is_some(), "it was claimed since");
        d.status = RecordStatus::Rescued;
        groups.note_all([&d]);
        assert_eq!(groups.first(&other, &own), None, "and is over");
    }
}
