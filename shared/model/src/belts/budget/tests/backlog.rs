//! What has piled up before a stage that is not counted.
use super::super::backlog::may_be;
use super::*;
use crate::job::Blocker;

/// A job of the test's deletion that has been due since then, and is held or not.
fn due_since(stage: Stage, due_at: Timestamp, held: bool) -> Job {
    let (d, ..) = crate::decide::test_deletion();
    let by = || Blocker::Hold { what: "look".to_owned() };
    let state = match held {
        true => JobState::Held { due_at, by: by() },
        false => JobState::Scheduled { due_at: Some(due_at) },
    };
    Job { state, ..d.stage_job(stage).unwrap().clone() }
}

#[test]
fn what_has_piled_up_before_a_stage_that_is_not_counted_is_counted() {
    let (day_us, now) = (86_400_000_000, Timestamp(1_800_000_000_000_000));
    let (budgets, day) = (Budgets::default(), Day::Calendar);
    let piled_up = |budgets: &Budgets, stage: Stage, since: i64, day: Day| {
        let [held, due] = [true, false]
            .map(|held| due_since(stage, Timestamp(now.0 - since), held))
            .map(|job| budgets.backlog((stage, &job), now, day) && may_be(&job, now));
        assert_eq!(held, due, "{stage}");
        due
    };
    assert!(piled_up(&budgets, Stage::Soft, day_us, day));
    assert!(!piled_up(&budgets, Stage::Soft, day_us - 1, day), "that is of today");
    for counted in [Stage::Announce, Stage::Hard, Stage::Purge] {
        assert!(!piled_up(&budgets, counted, day_us, day), "{counted} is counted anyway");
    }
    assert!(!piled_up(&budgets, Stage::Recycle, day_us, day), "it does nothing to a resource");
    assert!(!piled_up(&Budgets::none(), Stage::Soft, day_us, day));
    let of_a_week = super::budgets("days = 7\nstages = [\"hard\"]");
    assert!(piled_up(&of_a_week, Stage::Purge, 7 * day_us, day));
    assert!(!piled_up(&of_a_week, Stage::Purge, 7 * day_us - 1, day));
    let rehearsal = Day::Rehearsal { length_ms: 5 };
    assert!(!piled_up(&budgets, Stage::Soft, 59_000_000, rehearsal), "a slow machine begins, too");
    assert!(piled_up(&budgets, Stage::Soft, 60_000_000, rehearsal));
    let begun =
        Job { state: JobState::Parked { reason: "look".into() }, ..due_since(Stage::Soft, now, true) };
    assert!(!budgets.backlog((Stage::Soft, &begun), now, day));
    assert_eq!(
        budgets.admitted().collect::<Vec<_>>(),
        [Stage::Announce, Stage::Soft, Stage::Hard, Stage::Purge]
    );
    assert_eq!(Budgets::none().admitted().count(), 0);
}

#[test]
fn of_what_waits_before_a_stage_that_is_not_counted_only_the_backlog_is() {
    let counted = |budgets: &Budgets| Stage::ALL.map(|stage| budgets.counted(stage, 7, 3));
    assert_eq!(counted(&Budgets::default()), [7, 3, 7, 7, 0], "recycle does nothing to a resource");
    assert_eq!(counted(&budgets("stages = [\"recycle\"]")), [3, 3, 3, 3, 7]);
    assert_eq!(counted(&Budgets::none()), [0; 5]);
}

/// Four days of five: one of them begins as ever, and the others need an approval, as of every other stage.
#[test]
fn a_backlog_is_a_crowd_like_any_other() {
    let (budgets, population) = (Budgets::default(), Population::default());
    let soft = |many: i64| -> BTreeMap<Group, Vec<JobId>> {
        [(group("tenants/acme", Stage::Soft), jobs(1, many, Stage::Soft))].into()
    };
    let admission = admit((&budgets, &population), soft(15), Vec::new(), BTreeMap::new());
    let (_, members, why) = &admission.frozen[0];
    assert_eq!((members.len(), why.alone()), (15, true));
    assert_eq!(admit((&budgets, &population), soft(5), Vec::new(), BTreeMap::new()).admitted.len(), 1);
    let used = [(group("tenants/acme", Stage::Soft), 5)].into();
    let admission = admit((&budgets, &population), soft(1), Vec::new(), used);
    assert!(!admission.frozen[0].2.alone(), "tomorrow it fits");
}
