//! What a deletion would do, step by step, and what would stop it as things stand: shown before there is a record.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::belts::budget::Standing;
use crate::belts::healthy::Healthy;
use crate::belts::redundancy::Groups;
use crate::belts::{InForce, Policy, blocker};
use crate::catalogue::Nature;
use crate::decide::{Capacity, Context};
use crate::deletion::Deletion;
use crate::id::{Fence, Instance};
use crate::job::{Blocker, Job, Stage};
use crate::outlook::{Foresight, estimates};
use crate::plan::Performer;
use crate::time::{Day, Timestamp};

/// One stage, as it would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagePreview {
    /// Which.
    pub stage: Stage,
    /// When it would begin, at the earliest.
    pub at: Timestamp,
    /// What it would do, in order.
    pub steps: Vec<StepPreview>,
}

/// One step, as it would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepPreview {
    /// Its name in the plan.
    pub name: String,
    /// The instance that carries it out; none for the coordinator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// What it does to the world.
    pub nature: Nature,
    /// What would stop it if it were its turn now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Blocker>,
}

/// All stages of a deletion of which nothing has happened yet. What begins in working hours only is shown with the next
/// ones, rather than as stopped because now is none of them.
pub fn preview(
    d: &Deletion,
    (in_force, policy, groups): (&InForce, &Policy, &Groups),
    day: Day,
    now: Timestamp,
) -> Vec<StagePreview> {
    let estimates = estimates(d, &Foresight { day, hours: policy.windows.as_ref(), now });
    let always = Policy { windows: None, ..policy.clone() };
    let context = Context {
        now,
        day,
        in_force,
        policy: &always,
        review: None,
        fence: Fence::default(),
        capacity: &|_, _, _| Capacity::Free,
        standing: &|_| Standing::Unknown,
        // It has no grace yet that anything could have been lost of.
        healthy: &Healthy::always(),
        groups,
        answered: &|_| None,
    };
    let stage = |stage: Stage| {
        let job = d.stage_job(stage)?;
        let steps = d.plan.stage(stage).steps.iter().zip(0..).map(|(step, cursor)| {
            let at_it = Job { cursor, ..job.clone() };
            StepPreview {
                name: step.name.clone(),
                instance: match step.performer {
                    Performer::Subsystem { .. } => d.instance_for(step),
                    Performer::Coordinator(_) => None,
                },
                nature: step.nature,
                stopped: blocker(d, &at_it, &context),
            }
        });
        let at = estimates.get(&stage)?.at.max(now);
        Some(StagePreview { stage, at, steps: steps.collect() })
    };
    Stage::ALL.into_iter().filter_map(stage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::ceiling::Ceiling;
    use crate::belts::window::Windows;
    use crate::belts::{Pause, PauseSelector};
    use crate::decide::test_deletion;

    fn pause(subsystem: &str) -> Pause {
        let covers =
            PauseSelector { subsystem: Some(subsystem.parse().unwrap()), ..PauseSelector::default() };
        Pause { id: 1, covers, by: "ops".parse().unwrap(), reason: "look".into(), since: Timestamp(0) }
    }

    #[test]
    fn each_step_says_what_would_stop_it() {
        let (d, day, now, mut in_force) = test_deletion();
        let stopped = |in_force: &InForce| -> Vec<String> {
            let stages = preview(&d, (in_force, &Policy::default(), &Groups::default()), day, now);
            stages
                .iter()
                .flat_map(|stage| stage.steps.iter().map(move |step| (stage.stage, step)))
                .filter(|(_, step)| step.stopped.is_some())
                .map(|(stage, step)| format!("{stage} {}", step.name))
                .collect()
        };
        assert_eq!(stopped(&in_force), Vec::<String>::new());
        in_force.pauses = vec![pause("dns")];
        assert_eq!(stopped(&in_force), ["purge dns.forget"]);
        in_force.ceilings = crate::decide::test_ceiling(Ceiling::Soft);
        in_force.pauses.clear();
        let above = stopped(&in_force);
        assert!(
            above.iter().all(|step| step.starts_with("hard ") || step.starts_with("purge ")),
            "{above:?}"
        );
        assert_eq!(above.len(), 6);
    }

    #[test]
    fn stages_follow_each_other_and_name_who_carries_them_out() {
        let (d, day, now, in_force) = test_deletion();
        let stages = preview(&d, (&in_force, &Policy::default(), &Groups::default()), day, now);
        assert_eq!(stages.iter().map(|stage| stage.stage).collect::<Vec<_>>(), Stage::ALL);
        assert!(stages.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert!(stages.iter().all(|stage| stage.at >= now), "nothing begins in the past");
        let hard = &stages[2];
        assert_eq!(hard.steps[0].instance.as_ref().unwrap().to_string(), "hypervisor.main");
        assert_eq!((hard.steps[2].name.as_str(), &hard.steps[2].instance), ("inventory.remove", &None));
    }

    #[test]
    fn what_waits_for_working_hours_says_from_when() {
        let (d, _, now, in_force) = test_deletion();
        let hours = Windows::default();
        let stages = preview(
            &d,
            (&in_force, &Policy { windows: Some(hours.clone()), ..Policy::default() }, &Groups::default()),
            Day::Calendar,
            now,
        );
        let always = preview(
            &d,
            (&in_force, &Policy { windows: None, ..Policy::default() }, &Groups::default()),
            Day::Calendar,
            now,
        );
        for (stage, always) in stages.iter().zip(&always) {
            let bound = stage.stage >= Stage::Hard;
            assert!(!bound || hours.open(stage.at), "{} at {}", stage.stage, stage.at);
            assert!(stage.at >= always.at && (bound || stage.at == always.at), "{}", stage.stage);
            assert!(stage.steps.iter().all(|step| step.stopped.is_none()), "{}", stage.stage);
        }
    }
}
