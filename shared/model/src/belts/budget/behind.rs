//! What of a crowd stands behind its first piece. What a pause, a ceiling or working hours kept back is looked at in pieces once
//! that is over: the first one is in line while the others are still held by something that is no longer there. They are due
//! as it is, so they are counted with it.
use super::Group;
use crate::belts::ceiling::Ceiling;
use crate::belts::{InForce, PauseSelector, Policy, within};
use crate::time::{Day, Timestamp};

/// Whether one of this group goes on as soon as somebody looks at it, that a pause of this number, or a ceiling or working
/// hours (0, which no pause has), held when somebody did: nothing that holds many at once holds it any more. Of a group that is
/// still held as a whole nothing goes on; what of it passes by an override does so alone.
///
/// Whether a pause of one subsystem, a hold or another belt holds it now is known only once it is looked at. Until then it
/// is one of the crowd.
pub fn goes_on(
    (group, pause): (&Group, i64),
    (in_force, policy): (&InForce, &Policy),
    (now, day): (Timestamp, Day),
) -> bool {
    let open = || policy.windows.as_ref().is_none_or(|windows| day.is_rehearsal() || windows.open(now));
    in_force.pauses.iter().all(|other| other.id != pause && !covers(&other.covers, group))
        && in_force.ceilings.height(&group.scope) >= Ceiling::needed_for(group.stage)
        && (group.stage.reversible() || open())
}

/// Whether it covers all of a group, whatever the plan of each.
fn covers(covers: &PauseSelector, group: &Group) -> bool {
    let PauseSelector { stage, kind, scope, subsystem } = covers;
    subsystem.is_none()
        && stage.is_none_or(|stage| stage == group.stage)
        && kind.as_ref().is_none_or(|kind| *kind == group.kind)
        && scope.as_ref().is_none_or(|outer| within(&group.scope, outer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::Pause;
    use crate::belts::ceiling::ScopeCeiling;
    use crate::belts::window::Windows;
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
