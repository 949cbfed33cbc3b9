//! What of a crowd stands behind its first piece. What a pause, a ceiling or working hours kept back is looked at in pieces once
//! that is over: the first one is in line while the others are still held by something that is no longer there. They are due
//! as it is, so they are counted with it.
use std::collections::{BTreeMap, BTreeSet};

use super::{BATCH_MAX, Group};
use crate::belts::ceiling::Ceiling;
use crate::belts::{InForce, PauseSelector, Policy};
use crate::id::JobId;
use crate::time::{Day, Timestamp};

/// The number of no pause.
const NO_PAUSE: i64 = 0;

/// Which of these, that are `held`, stand behind the pieces that are `due`: a job, its group, and the number of the pause that
/// held it when somebody looked, or 0, which no pause has. Those that go on, in the order that they are given in; no more of a
/// group than make one batch with its piece. A batch is of one group, and what is beyond that becomes the next one.
pub fn stand_behind<'a>(
    due: impl IntoIterator<Item = (JobId, &'a Group)>,
    held: impl IntoIterator<Item = (JobId, &'a Group, i64)>,
    in_force: (&InForce, &Policy),
    at: (Timestamp, Day),
) -> BTreeSet<JobId> {
    let mut pieces = BTreeSet::new();
    let mut many: BTreeMap<&Group, usize> = BTreeMap::new();
    for (job, group) in due {
        pieces.insert(job);
        *many.entry(group).or_default() += 1;
    }
    let mut behind = BTreeSet::new();
    for (job, group, pause) in held {
        if pieces.contains(&job) || !goes_on((group, pause), in_force, at) {
            continue;
        }
        let many = many.entry(group).or_default();
        if *many < BATCH_MAX {
            *many += 1;
            behind.insert(job);
        }
    }
    behind
}

/// Whether one of this group goes on as soon as somebody looks at it, that a pause of this number, or a ceiling or working
/// hours (0, which no pause has), held when somebody did: nothing that holds many at once holds it any more. Of a group that is
/// still held as a whole nothing goes on; what of it passes by an override does so alone.
///
/// Whether a pause of one subsystem, a hold or another belt holds it now is known only once it is looked at. Until then it
/// is one of the crowd.
fn goes_on(
    (group, pause): (&Group, i64),
    (in_force, policy): (&InForce, &Policy),
    (now, day): (Timestamp, Day),
) -> bool {
    let open = || policy.windows.as_ref().is_none_or(|windows| day.is_rehearsal() || windows.open(now));
    in_force.pauses.iter().all(|other| other.id != pause && !covers(&other.covers, group))
        && in_force.ceilings.height(&group.scope) >= Ceiling::needed_for(group.stage)
        && (group.stage.reversible() || open())
}

/// Whether a pause, a ceiling or working hours hold all of this group, so that nothing of it would begin if it were admitted.
pub fn is_stopped(group: &Group, in_force: (&InForce, &Policy), at: (Timestamp, Day)) -> bool {
    !goes_on((group, NO_PAUSE), in_force, at)
}

/// Whether it covers all of a group, whatever the plan of each.
fn covers(covers: &PauseSelector, group: &Group) -> bool {
    covers.subsystem.is_none() && covers.may_cover(group.stage, &group.kind, &group.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::Pause;
    use crate::belts::ceiling::ScopeCeiling;
    use crate::belts::window::Windows;
    use crate::id::DeletionId;
    use crate::job::Stage;

    /// 4 January 2022, a Tuesday, at 10:00 UTC.
    const OPEN: Timestamp = Timestamp(1_641_290_400_000_000);
    /// The same day at 20:00.
    const CLOSED: Timestamp = Timestamp(1_641_326_400_000_000);

    fn group(stage: Stage) -> Group {
        Group { scope: "tenants/acme".parse().unwrap(), kind: "vm".parse().unwrap(), stage }
    }

    fn pause(id: i64, covers: PauseSelector) -> Pause {
        Pause { id, covers, by: "ops".parse().unwrap(), reason: "look".into(), since: Timestamp(0) }
    }

    fn in_force(ceiling: Ceiling, pauses: Vec<Pause>) -> InForce {
        let by = "ops".parse().unwrap();
        let said = ScopeCeiling { scope: None, ceiling, by, reason: "look".into(), since: Timestamp(0) };
        InForce { pauses, ceilings: [said].into_iter().collect(), one_shots: Vec::new() }
    }

    /// Whether one that a ceiling or working hours kept back (0), or that pause, goes on.
    fn on(stage: Stage, pause: i64, in_force: &InForce, now: Timestamp) -> bool {
        let policy = Policy { windows: Some(Windows::default()), ..Policy::default() };
        goes_on((&group(stage), pause), (in_force, &policy), (now, Day::Calendar))
    }

    fn job(id: i64) -> JobId {
        JobId::of(DeletionId(id), Stage::Hard.index())
    }

    /// Which of the jobs of a group with these ids, held by the pause 7, stand behind the pieces.
    fn behind(due: &[(i64, &Group)], held: &[(i64, &Group)], in_force: &InForce) -> BTreeSet<JobId> {
        let due = due.iter().map(|(id, group)| (job(*id), *group));
        let held = held.iter().map(|(id, group)| (job(*id), *group, 7));
        stand_behind(due, held, (in_force, &Policy::default()), (OPEN, Day::Calendar))
    }

    #[test]
    fn what_is_due_and_what_is_rightly_held_stands_behind_nothing() {
        let (hard, purge) = (group(Stage::Hard), group(Stage::Purge));
        let held = [(1, &hard), (2, &hard), (3, &purge)];
        let free = in_force(Ceiling::Purge, Vec::new());
        assert_eq!(behind(&[(1, &hard)], &held, &free), BTreeSet::from([job(2), job(3)]));
        let low = in_force(Ceiling::Hard, Vec::new());
        assert_eq!(behind(&[(1, &hard)], &held, &low), BTreeSet::from([job(2)]));
        let paused = in_force(Ceiling::Purge, vec![pause(7, PauseSelector::default())]);
        assert_eq!(behind(&[(1, &hard)], &held, &paused), BTreeSet::new());
    }

    #[test]
    fn no_more_of_a_group_stand_behind_its_piece_than_make_one_batch_with_it() {
        let (hard, purge) = (group(Stage::Hard), group(Stage::Purge));
        let free = in_force(Ceiling::Purge, Vec::new());
        let most = i64::try_from(BATCH_MAX).unwrap();
        let mut held: Vec<(i64, &Group)> = (3..most + 3).map(|id| (id, &hard)).collect();
        held.push((most + 3, &purge));
        let found = behind(&[(1, &hard), (2, &hard)], &held, &free);
        assert_eq!(found.len(), BATCH_MAX - 2 + 1, "of another group there is one");
        assert!(found.contains(&job(most)) && !found.contains(&job(most + 1)), "the first ones");
        assert!(found.contains(&job(most + 3)));
    }

    #[test]
    fn what_was_lifted_goes_on_as_soon_as_somebody_looks() {
        let free = in_force(Ceiling::Purge, Vec::new());
        assert!(on(Stage::Hard, 7, &free, OPEN), "the pause is lifted");
        assert!(on(Stage::Hard, 0, &free, OPEN), "the ceiling is raised, or the hours have come");
        assert!(on(Stage::Soft, 0, &free, CLOSED), "that begins at any hour");
        let rehearsal = Day::Rehearsal { length_ms: 1000 };
        let policy = Policy::default();
        assert!(goes_on((&group(Stage::Hard), 0), (&free, &policy), (CLOSED, rehearsal)));
        let other = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
        assert!(on(Stage::Hard, 7, &in_force(Ceiling::Purge, vec![pause(8, other)]), OPEN));
    }

    #[test]
    fn what_is_rightly_held_does_not() {
        assert!(!on(Stage::Hard, 0, &in_force(Ceiling::Purge, Vec::new()), CLOSED), "nobody is at work");
        let low = in_force(Ceiling::Soft, Vec::new());
        assert!(!on(Stage::Hard, 0, &low, OPEN), "one may pass by an override, and the others do not");
        assert!(!on(Stage::Hard, 7, &low, OPEN), "of the pause it is free, and of the ceiling not");
        assert!(on(Stage::Soft, 0, &low, OPEN));
        let outer = PauseSelector { scope: Some("tenants".parse().unwrap()), ..PauseSelector::default() };
        for covers in [PauseSelector::default(), outer] {
            let another = in_force(Ceiling::Purge, vec![pause(8, covers)]);
            assert!(!on(Stage::Hard, 7, &another, OPEN), "another pause holds all of them");
        }
    }

    #[test]
    fn a_pause_of_a_subsystem_holds_only_what_it_was_seen_to_hold() {
        let dns = PauseSelector { subsystem: Some("dns".parse().unwrap()), ..PauseSelector::default() };
        let dns = in_force(Ceiling::Purge, vec![pause(8, dns)]);
        assert!(!on(Stage::Hard, 8, &dns, OPEN), "its plan has steps of it");
        assert!(on(Stage::Hard, 7, &dns, OPEN), "nobody has looked at its plan");
    }
}
