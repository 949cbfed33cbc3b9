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
//! Nor does a member retire whose soft stage is held by **anything else than this belt**, such as a pause of its own
//! scope or a batch that waits for an approval: it stays for now, and the others must not leave it alone. One that is held
//! by this belt does: it waits for nothing but the others. So that this is true, this belt is asked last of all.
//!
//! Nobody waits in a circle. Whom something else stops waits for that alone, and that asks nothing of the group, so this
//! belt never keeps it from ending. Once it has ended and somebody has looked, the member counts. The last one of which
//! this is true finds all others retired, and goes; at the next look so do they. Of two that only this belt holds neither
//! waits for the other, since both count. And a whole group that is frozen as one batch is not bound at all before one of
//! it goes: it waits for the approval.
//!
//! Not looked at is what would stop a member that is due and held by nothing so far, because nobody has looked at it yet,
//! or because it waits for credit or to be admitted. It counts until it is held. Nor is what came since the last look at one
//! that this belt holds, such as a pause: that look is at most a minute old. And a member of two groups that is held because
//! of one counts as retired in the other, whose members may so leave it alone until that is over.
//!
//! Groups are what resources state now, not what they stated when a record was made: the members that are left are what
//! counts.
use std::collections::{BTreeMap, HashMap};

use super::Policy;
use super::ceiling::{Ceiling, Ceilings};
use crate::decide::Context;
use crate::deletion::{Deletion, RecordStatus};
use crate::drill;
use crate::id::{DeletionId, ResourceId, Scope};
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
    /// It is being restored, and so will stay.
    pub restoring: bool,
    /// It may well stay: a hold or a protection is on it, or it is a drill's. What the configuration protects stays, too,
    /// which is looked up when one decides.
    pub kept: bool,
    /// Its scope, whose ceiling may keep it.
    pub scope: Scope,
}

impl Going {
    /// Where `deletion` stands; none if it is over.
    pub fn of(deletion: &Deletion) -> Option<Self> {
        deletion.status.live().then(|| Self {
            deletion: deletion.id,
            reached: deletion.jobs.iter().filter_map(reached).max(),
            soft_due: deletion.stage_job(Stage::Soft).and_then(|job| due(&job.state)),
            restoring: deletion.status == RecordStatus::Restoring,
            kept: deletion.protected
                || !deletion.resource_holds.is_empty()
                || !deletion.holds.is_empty()
                || drill::is_drill(deletion),
            scope: deletion.record.resource.scope.clone(),
        })
    }

    /// Whether it is retired by `now`, as far as ceilings let it.
    fn retires(&self, now: Timestamp, ceilings: &Ceilings) -> bool {
        let begins = self.reached.is_some() || self.soft_due.is_some_and(|due| due <= now);
        begins
            && !self.restoring
            && !self.kept
            && ceilings.height(&self.scope) >= Ceiling::needed_for(Stage::Soft)
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
            if member.going.as_ref().is_none_or(|known| known.deletion == deletion.id) {
                member.going.clone_from(&going);
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

    /// The first group of `resource` in which another member goes first, and that member. Whoever asks is about to begin.
    fn first(
        &self,
        resource: &ResourceId,
        own: &Going,
        (now, ceilings, policy): (Timestamp, &Ceilings, &Policy),
    ) -> Option<(&str, &ResourceId)> {
        let retires = |member: &Member| match &member.going {
            None => false,
            Some(_) if policy.protected.contains(&member.resource) => false,
            Some(_) if member.resource == *resource => !own.restoring && !own.kept,
            Some(going) => going.retires(now, ceilings),
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
    let known = (*now, &in_force.ceilings, *policy);
    let (group, other) = groups.first(&deletion.record.resource.id, &own, known)?;
    Some(Blocker::Redundancy { group: group.to_owned(), other: other.clone() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NOW: Timestamp = Timestamp(10);

    fn going(id: i64, reached: Option<Stage>, restoring: bool) -> Going {
        let (soft_due, scope) = (reached.is_none().then_some(NOW), "tenants/acme".parse().unwrap());
        Going { deletion: DeletionId(id), reached, soft_due, restoring, kept: false, scope }
    }

    fn member(name: &str, record: Option<(i64, Option<Stage>, bool)>) -> (String, Member) {
        let going = record.map(|(id, reached, restoring)| going(id, reached, restoring));
        ("db-main".to_owned(), Member { resource: format!("vm/{name}").parse().unwrap(), going })
    }

    fn first(groups: &Groups, resource: &str, own: &Going) -> Option<String> {
        let ceilings = crate::decide::test_ceiling(Ceiling::Purge);
        let first = groups.first(&resource.parse().unwrap(), own, (NOW, &ceilings, &Policy::default()));
        first.map(|(group, other)| format!("{group} {other}"))
    }

    /// Who goes before `a`, which has come to `reached` under the record d-5.
    fn before(reached: Option<Stage>, others: &[Option<(i64, Option<Stage>, bool)>]) -> Option<String> {
        let names = ["b", "c", "d"];
        let others = names.into_iter().zip(others).map(|(name, going)| member(name, *going));
        let groups = Groups::of([member("a", Some((5, reached, false)))].into_iter().chain(others));
        first(&groups, "vm/a", &going(5, reached, false))
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

    /// `a` and `b` are due today, and `c` may be as well: then all of them go at once. Whatever else is true of it, `b`
    /// goes alone first.
    #[test]
    fn who_is_not_retired_now_is_not_retired_with_the_group() {
        let own = going(5, None, false);
        let b_goes = Some("db-main vm/b".to_owned());
        let by_policy = |c: Going, ceilings: &Ceilings, policy: &Policy| {
            let third = Member { resource: "vm/c".parse().unwrap(), going: Some(c) };
            let both =
                [member("a", Some((5, None, false))), member("b", Some((1, Some(Stage::Soft), false)))];
            let groups = Groups::of(both.into_iter().chain([("db-main".to_owned(), third)]));
            let first = groups.first(&"vm/a".parse().unwrap(), &own, (NOW, ceilings, policy));
            first.map(|(group, other)| format!("{group} {other}"))
        };
        let waits = |c: Going, ceilings: &Ceilings| by_policy(c, ceilings, &Policy::default());
        let open = crate::decide::test_ceiling(Ceiling::Purge);
        let c = || going(9, None, false);
        assert_eq!(waits(c(), &open), None, "due by now");
        assert_eq!(
            waits(Going { reached: Some(Stage::Hard), soft_due: None, ..c() }, &open),
            None,
            "it goes"
        );
        let later = Timestamp(NOW.0 + 1);
        assert_eq!(waits(Going { soft_due: Some(later), ..c() }, &open), b_goes, "due in years");
        assert_eq!(waits(Going { soft_due: None, ..c() }, &open), b_goes, "not announced");
        assert_eq!(waits(Going { kept: true, ..c() }, &open), b_goes, "held, protected, or a drill's");
        let observed = crate::decide::test_ceiling(Ceiling::Announce);
        assert_eq!(waits(c(), &observed), b_goes, "its scope may go no further than announce");
        let protecting =
            |name: &str| Policy { protected: [name.parse().unwrap()].into(), ..Policy::default() };
        assert_eq!(by_policy(c(), &open, &protecting("vm/c")), b_goes, "the configuration protects it");
        let off = Going { reached: Some(Stage::Soft), soft_due: None, ..c() };
        assert_eq!(by_policy(off, &open, &protecting("vm/c")), b_goes, "also what is off by now");
        assert_eq!(by_policy(c(), &open, &protecting("vm/d")), None, "that is none of them");
        let mine = Going { kept: true, ..own.clone() };
        let all = [("a", 5, None), ("b", 1, Some(Stage::Soft))];
        let groups = Groups::of(all.map(|(name, id, reached)| member(name, Some((id, reached, false)))));
        assert_eq!(first(&groups, "vm/a", &own), None);
        assert_eq!(first(&groups, "vm/a", &mine), b_goes, "a drill comes back, and has to leave one there");
    }

    #[test]
    fn who_is_held_by_anything_else_does_not_retire_by_then() {
        let (mut d, ..) = crate::decide::test_deletion();
        let mut soft_due = |state: JobState| {
            let soft = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap();
            soft.state = state;
            Going::of(&d).unwrap().soft_due
        };
        assert_eq!(soft_due(JobState::Scheduled { due_at: Some(NOW) }), Some(NOW));
        assert_eq!(soft_due(held(by_group())), Some(NOW), "it waits for nothing but the others");
        let pause = Blocker::Pause { pause: 1, what: "ops: something smells".into() };
        let untold = Blocker::Untold { since: NOW, from: NOW };
        let outage = Blocker::Outage { stage: Stage::Soft, lost_ms: 1, until: NOW };
        for by in [pause, untold, outage, Blocker::Protected] {
            assert_eq!(soft_due(held(by.clone())), None, "{by}");
        }
    }

    fn held(by: Blocker) -> JobState {
        JobState::Held { due_at: NOW, by }
    }

    fn by_group() -> Blocker {
        Blocker::Redundancy { group: "db-main".into(), other: "vm/a".parse().unwrap() }
    }

    /// Look at a member whose soft stage is due, as a claim or a recheck does: something else may stop it.
    fn look(members: &mut [(String, Member)], which: usize, stopped: bool) {
        let resource = members[which].1.resource.to_string();
        let own = members[which].1.going.clone().unwrap();
        if own.reached.is_some() {
            return;
        }
        let groups = Groups::of(members.to_vec());
        let looked_at = if stopped {
            Going { soft_due: due(&held(Blocker::Protected)), ..own }
        } else if first(&groups, &resource, &own).is_some() {
            Going { soft_due: due(&held(by_group())), ..own }
        } else {
            Going { reached: Some(Stage::Soft), soft_due: None, ..own }
        };
        members[which].1.going = Some(looked_at);
    }

    #[test]
    fn nobody_goes_without_one_that_stays_and_nobody_waits_for_ever() {
        let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        let stopped: [&[usize]; 5] = [&[1], &[3], &[1, 2], &[2, 3], &[1, 2, 3]];
        for (order, stopped) in orders.iter().flat_map(|order| stopped.map(|stopped| (order, stopped))) {
            let records = [("a", 1, Some(Stage::Soft)), ("b", 2, None), ("c", 3, None), ("d", 4, None)];
            let mut members = records.map(|(name, id, reached)| member(name, Some((id, reached, false))));
            let gone = |members: &[(String, Member)]| {
                members.iter().filter(|(_, m)| m.going.as_ref().unwrap().reached.is_some()).count()
            };
            // They were held before the others were due.
            for which in stopped {
                look(&mut members, *which, true);
            }
            for which in [order, order].into_iter().flatten() {
                look(&mut members, *which, stopped.contains(which));
            }
            assert_eq!(gone(&members), 1, "{stopped:?} stay, looked at in the order {order:?}");
            for which in [order, order].into_iter().flatten() {
                look(&mut members, *which, false);
            }
            assert_eq!(gone(&members), 4, "all may go again, looked at in the order {order:?}");
        }
    }

    #[test]
    fn what_stands_on_a_record_keeps_it() {
        let (d, ..) = crate::decide::test_deletion();
        assert!(!Going::of(&d).unwrap().kept);
        let hold = crate::deletion::Hold {
            id: 1,
            origin: "legal".parse().unwrap(),
            reason: "a lawsuit".into(),
            since: NOW,
        };
        let mut kept = [d.clone(), d.clone(), d.clone(), d];
        kept[0].protected = true;
        kept[1].holds.push(hold.clone());
        kept[2].resource_holds.push(hold);
        Arc::make_mut(&mut kept[3].record).requested_by = drill::actor();
        assert!(kept.iter().all(|d| Going::of(d).unwrap().kept));
    }

    #[test]
    fn two_that_go_never_wait_for_each_other() {
        let stages = [None, Some(Stage::Soft), Some(Stage::Hard), Some(Stage::Purge), Some(Stage::Recycle)];
        for own in stages {
            for other in stages {
                let (a, b) = (going(5, own, false), going(7, other, false));
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
        let read = going(d.id.0, None, false);
        let other = member("other", None);
        let mut groups =
            Groups::of([("g".to_owned(), Member { resource: id, going: Some(read) }), ("g".into(), other.1)]);
        let own = going(d.id.0 + 1, None, false);
        assert_eq!(first(&groups, "vm/other", &own), None);
        let soft = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Soft)).unwrap();
        soft.state = JobState::Ready { since: now, blocked: None };
        groups.note_all([&d]);
        assert!(first(&groups, "vm/other", &own).is_some(), "it was claimed since");
        d.status = RecordStatus::Rescued;
        groups.note_all([&d]);
        assert_eq!(first(&groups, "vm/other", &own), None, "and is over");
    }
}
