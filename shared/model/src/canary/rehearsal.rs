//! What the job table itself has to refuse, as it is tried there: with resources that nobody has, by the functions that
//! everything else goes through, in a transaction that is always rolled back.
//!
//! Contract: this says with what it is tried, and what came of it. Nothing of it is ever written.
//!
//! Each is tried as if nothing else stopped it ([`allowing`]): in a scope that is only observed, or outside working hours,
//! a broken belt would hide behind another one.
use std::collections::BTreeMap;

use super::Rehearsed;
use crate::belts::InForce;
use crate::belts::budget::{Budgets, Limit};
use crate::belts::ceiling::{Ceiling, ScopeCeiling};
use crate::decide::Refusal;
use crate::deletion::{Deletion, Due, Zone};
use crate::id::{JobId, Kind, ResourceId};
use crate::job::{Blocker, Job, JobState, Stage};
use crate::rebuilt::Rebuilt;
use crate::resource::{Criticality, Identity, Resource};
use crate::time::Timestamp;

/// The scope of what is tried: its own, so that no other's budget is looked at. A configured number of it counts.
pub const SCOPE: &str = "sexton/canaries";

/// A resource that nobody has, of this kind: `number` tells those of one rehearsal apart. Whatever its plan is for, it may
/// have a record: that it can be rebuilt was shown the day before `now`.
///
/// # Errors
/// If it cannot be named, which would be a defect.
pub fn resource(of: &Kind, number: usize, protected: bool, now: Timestamp) -> Result<Resource, String> {
    let today = now.utc().date_naive();
    let rebuilt =
        Rebuilt { on: today.pred_opt().unwrap_or(today), evidence: "there is none of it".to_owned() };
    let name = format!("sexton-canary-{number}");
    let identity = BTreeMap::from([("canary".to_owned(), name.clone())]);
    Ok(Resource {
        id: ResourceId { kind: of.clone(), name: name.parse().map_err(|why| format!("{why}"))? },
        scope: SCOPE.parse().map_err(|why| format!("{why}"))?,
        identity: Identity::try_from(identity).map_err(|why| why.to_string())?,
        criticality: Criticality::Reproducible,
        rebuilt: Some(rebuilt),
        priority: 0,
        groups: Vec::new(),
        exclusive: None,
        instances: BTreeMap::new(),
        protected,
        attributes: BTreeMap::new(),
    })
}

/// When a record of it is due: now.
pub fn due(now: Timestamp) -> Due {
    Due { date: now.utc().date_naive(), zone: Zone(chrono_tz::UTC), moment: Some(now) }
}

/// Nothing is paused, and deletions of every scope may go to the end.
pub fn allowing() -> InForce {
    let everything = ScopeCeiling {
        scope: None,
        ceiling: Ceiling::Purge,
        by: super::actor(),
        reason: "a rehearsal".into(),
        since: Timestamp::default(),
    };
    InForce { ceilings: [everything].into_iter().collect(), ..InForce::default() }
}

/// The stage that the budget is tried at: the one that matters most of those that are counted. None if none is: then
/// whoever configures it wants no limit, and there is no belt that could hold.
pub fn counted_stage(budgets: &Budgets) -> Option<Stage> {
    let by_weight = [Stage::Hard, Stage::Purge, Stage::Soft, Stage::Announce, Stage::Recycle];
    by_weight.into_iter().find(|stage| budgets.bind(*stage))
}

/// How many have to have begun already for not one more to be let go: as many as the least of these numbers allows.
pub fn spent(limits: &[Limit]) -> u64 {
    limits.iter().map(|limit| limit.most).min().unwrap_or_default()
}

/// A record that has come as far as `stage`, which is due: its jobs before that are done.
pub fn arrive(deletion: &mut Deletion, stage: Stage, now: Timestamp) {
    for (before, job) in Stage::ALL.into_iter().zip(&mut deletion.jobs) {
        if before < stage {
            job.state = JobState::Done;
            job.cursor = u16::try_from(deletion.plan.stage(before).steps.len()).unwrap_or(u16::MAX);
            job.ended_at = Some(now);
        } else if before == stage {
            job.state = JobState::Scheduled { due_at: Some(now) };
        }
    }
}

/// What the claim of a job has shown: `job` as it is after it, and why nothing was decided, if so. Only what `wanted` likes
/// has to stop it.
pub fn claimed(job: &Job, refusal: Option<&Refusal>, wanted: impl Fn(&Blocker) -> bool) -> Rehearsed {
    match (&job.state, refusal) {
        (_, Some(why)) => Rehearsed::Failed(format!("nothing was decided about its claim: {why}")),
        (JobState::Held { by, .. }, None) if wanted(by) => Rehearsed::Stopped(format!("held: {by}")),
        (JobState::Held { by, .. }, None) => Rehearsed::Passed(format!("only something else holds it: {by}")),
        (
            JobState::Scheduled { .. }
            | JobState::Ready { .. }
            | JobState::Running(_)
            | JobState::Waiting { .. }
            | JobState::Cancelling(_)
            | JobState::Parked { .. }
            | JobState::Done
            | JobState::Cancelled
            | JobState::Rescued,
            None,
        ) => Rehearsed::Passed(format!("it was claimed, and is {}", job.state.name())),
    }
}

/// What all of them show together: one that goes through is enough.
pub fn together(each: Vec<(JobId, Rehearsed)>) -> Rehearsed {
    let all = each.len();
    let passed = each.iter().filter(|(_, came)| matches!(came, Rehearsed::Passed(_))).count();
    let weight = |came: &Rehearsed| match came {
        Rehearsed::Passed(_) => 0,
        Rehearsed::Failed(_) => 1,
        Rehearsed::Stopped(_) => 2,
    };
    match each.into_iter().map(|(_, came)| came).min_by_key(weight) {
        Some(Rehearsed::Passed(how)) if all > 1 => Rehearsed::Passed(format!("{passed} of {all}: {how}")),
        Some(came) => came,
        None => Rehearsed::Failed("there was nothing to claim".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::budget::Counted;
    use crate::decide::{test_deletion, test_plan};
    use crate::id::Instance;
    use crate::rebuilt::unproven;

    #[test]
    fn a_resource_that_nobody_has_is_of_its_kind_and_scope() {
        let kind: Kind = "vm".parse().unwrap();
        let now = Timestamp(1_796_083_200_000_000);
        let (one, two) = (resource(&kind, 1, true, now).unwrap(), resource(&kind, 2, false, now).unwrap());
        assert_eq!(
            (one.id.to_string(), one.scope.as_str(), one.protected),
            ("vm/sexton-canary-1".into(), SCOPE, true)
        );
        assert!(one.id != two.id && one.identity != two.identity && !two.protected);
        // Also by a clock that is read anew, and a little behind.
        for at in [now, Timestamp(now.0 - 1)] {
            assert_eq!(unproven(&one, at), None);
        }
    }

    #[test]
    fn the_stage_that_cannot_be_taken_back_is_tried_first() {
        assert_eq!(counted_stage(&Budgets::default()), Some(Stage::Hard));
        assert_eq!(counted_stage(&Budgets::none()), None);
    }

    #[test]
    fn the_least_number_is_spent() {
        let limit = |most| Limit { counted: Counted::Everywhere, most, days: 1, uncounted: false };
        assert_eq!(spent(&[limit(50), limit(5)]), 5);
        assert_eq!(spent(&[]), 0);
    }

    #[test]
    fn what_has_arrived_at_a_stage_has_the_ones_before_behind_it() {
        let (mut deletion, ..) = test_deletion();
        let now = Timestamp(7_000_000);
        arrive(&mut deletion, Stage::Hard, now);
        let hard = deletion.stage_job(Stage::Hard).unwrap();
        assert_eq!(hard.state, JobState::Scheduled { due_at: Some(now) });
        for before in [Stage::Announce, Stage::Soft] {
            let job = deletion.stage_job(before).unwrap();
            assert_eq!((&job.state, job.ended_at), (&JobState::Done, Some(now)));
            assert_eq!(usize::from(job.cursor), test_plan().stage(before).steps.len());
        }
        assert_eq!(deletion.stage_job(Stage::Purge).unwrap().state, JobState::Scheduled { due_at: None });
    }

    #[test]
    fn only_what_has_to_stop_a_claim_counts() {
        let (deletion, ..) = test_deletion();
        let job = deletion.stage_job(Stage::Announce).unwrap();
        let held = |by| Job { state: JobState::Held { due_at: Timestamp(0), by }, ..job.clone() };
        let protected = |by: &Blocker| matches!(by, Blocker::Protected);
        let stopped = claimed(&held(Blocker::Protected), None, protected);
        assert!(matches!(&stopped, Rehearsed::Stopped(how) if how.contains("protected")), "{stopped:?}");
        let hold = Blocker::Hold { what: "legal: case 7".into() };
        assert!(matches!(claimed(&held(hold), None, protected), Rehearsed::Passed(_)));
        assert!(matches!(claimed(job, None, protected), Rehearsed::Passed(_)));
        let instance: Instance = "dns.main".parse().unwrap();
        let refused = claimed(job, Some(&Refusal::NoCredit(instance)), protected);
        assert!(matches!(refused, Rehearsed::Failed(_)), "{refused:?}");
    }

    #[test]
    fn one_that_goes_through_is_enough() {
        let of =
            |came: &[Rehearsed]| together((0..).map(JobId).zip(came.iter().cloned()).collect::<Vec<_>>());
        let (stopped, passed, failed) = (
            Rehearsed::Stopped("held".into()),
            Rehearsed::Passed("claimed".into()),
            Rehearsed::Failed("no credit".into()),
        );
        assert_eq!(of(&[stopped.clone(), stopped.clone()]), stopped);
        assert_eq!(of(&[stopped.clone(), failed.clone()]), failed);
        assert_eq!(of(&[stopped, failed.clone(), passed]), Rehearsed::Passed("1 of 3: claimed".into()));
        assert!(matches!(of(&[]), Rehearsed::Failed(_)));
    }
}
