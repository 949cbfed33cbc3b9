//! What a deletion would do, step by step, and what would stop it as things stand: shown before there is a record.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::belts::budget::{self, Group, Standing};
use crate::belts::census::Population;
use crate::belts::healthy::Healthy;
use crate::belts::redundancy::Groups;
use crate::belts::{Belt, InForce, Policy, Verdict, blocker, verdicts, window};
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
    /// What every belt would say if it were to begin now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub belts: Vec<BeltPreview>,
}

/// What one belt would say of a stage now, of any of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeltPreview {
    /// Which.
    pub belt: Belt,
    /// Whether it would stop it.
    pub holds: bool,
    /// Why, or what lets it pass, where there is more to say than that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
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

/// What a preview goes by, as things stand.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Pauses and ceilings.
    pub in_force: &'a InForce,
    /// What the configuration says.
    pub policy: &'a Policy,
    /// Its redundancy groups, as if it had a record.
    pub groups: &'a Groups,
    /// What has begun within the span of the budgets.
    pub begun: &'a BTreeMap<Group, u64>,
    /// How many there are, as censuses say.
    pub population: &'a Population,
}

/// All stages of a deletion of which nothing has happened yet, with every belt's verdict as if each were to begin now. A step
/// that begins in working hours only is not shown as stopped because now is none of them; the belt's own verdict says when
/// the next ones are.
pub fn preview(d: &Deletion, sight: Sight<'_>, day: Day, now: Timestamp) -> Vec<StagePreview> {
    let Sight { in_force, policy, groups, .. } = sight;
    let estimates = estimates(d, &Foresight { day, hours: policy.windows.as_ref(), now });
    let always = Policy { windows: None, ..policy.clone() };
    let strict = Context {
        now,
        day,
        in_force,
        policy,
        review: None,
        fence: Fence::default(),
        capacity: &|_, _, _| Capacity::Free,
        standing: &|_| Standing::Unknown,
        // It has no grace yet that anything could have been lost of.
        healthy: &Healthy::always(),
        groups,
        answered: &|_| None,
    };
    let context = Context { policy: &always, ..strict };
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
        let belts = belts(d, (stage, job), &strict, sight);
        Some(StagePreview { stage, at, steps: steps.collect(), belts })
    };
    Stage::ALL.into_iter().filter_map(stage).collect()
}

/// What every belt says: of several steps that one stops, the first counts.
fn belts(
    d: &Deletion,
    (stage, job): (Stage, &Job),
    context: &Context<'_>,
    sight: Sight<'_>,
) -> Vec<BeltPreview> {
    let mut all = verdicts(d, job, context);
    let steps = u16::try_from(d.plan.stage(stage).steps.len()).unwrap_or(u16::MAX);
    for cursor in 1..steps {
        for (known, later) in all.iter_mut().zip(verdicts(d, &Job { cursor, ..job.clone() }, context)) {
            known.stopped = known.stopped.take().or(later.stopped);
        }
    }
    let say = |Verdict { belt, stopped }| {
        let (holds, said) = match (belt, stopped) {
            (_, Some(by)) => (true, by.to_string()),
            (Belt::Budget, None) => counted(d, stage, context, sight),
            (Belt::Window, None) => (false, hours(stage, job, context)),
            (Belt::HealthyTime, None) => (false, "it has no grace yet that could be lost".to_owned()),
            (Belt::Consumers, None) => (false, "asked when it is due".to_owned()),
            (_, None) => (false, String::new()),
        };
        BeltPreview { belt, holds, said }
    };
    all.into_iter().map(say).collect()
}

/// Whether one more may begin now.
fn counted(d: &Deletion, stage: Stage, context: &Context<'_>, sight: Sight<'_>) -> (bool, String) {
    if !context.policy.counts(stage, context.day) {
        return (false, "not counted".to_owned());
    }
    let resource = &d.record.resource;
    let group = Group { scope: resource.scope.clone(), kind: resource.id.kind.clone(), stage };
    let budgets = context.policy.budgets(context.day);
    match budget::exceeded((&budgets, sight.population), &group, 1, sight.begun) {
        Some(exceeded) => (true, exceeded.to_string()),
        None => (false, "room for it now".to_owned()),
    }
}

fn hours(stage: Stage, job: &Job, context: &Context<'_>) -> String {
    let bound = !context.day.is_rehearsal() && window::bound(stage, job);
    match context.policy.windows.as_ref().filter(|_| bound) {
        Some(hours) => format!("open now ({hours})"),
        None => "at any hour".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::ceiling::Ceiling;
    use crate::belts::window::Windows;
    use crate::belts::{Pause, PauseSelector};
    use crate::decide::test_deletion;

    fn shown(
        d: &Deletion,
        (in_force, policy): (&InForce, &Policy),
        day: Day,
        now: Timestamp,
    ) -> Vec<StagePreview> {
        let (groups, begun, population) = (Groups::default(), BTreeMap::new(), Population::default());
        let sight = Sight { in_force, policy, groups: &groups, begun: &begun, population: &population };
        preview(d, sight, day, now)
    }

    fn pause(subsystem: &str) -> Pause {
        let covers =
            PauseSelector { subsystem: Some(subsystem.parse().unwrap()), ..PauseSelector::default() };
        Pause { id: 1, covers, by: "ops".parse().unwrap(), reason: "look".into(), since: Timestamp(0) }
    }

    #[test]
    fn each_step_says_what_would_stop_it() {
        let (d, day, now, mut in_force) = test_deletion();
        let stopped = |in_force: &InForce| -> Vec<String> {
            let stages = shown(&d, (in_force, &Policy::default()), day, now);
            stages
                .iter()
                .flat_map(|stage| stage.steps.iter().map(move |step| (stage.stage, step)))
                .filter(|(_, step)| step.stopped.is_some())
                .map(|(stage, step)| format!("{stage} {}", step.name))
                .collect()
        };
        assert_eq!(stopped(&in_force), Vec::<String>::new());
        in_force.pauses = vec![pause("dns")];
        assert_eq!(stopped(&in_force), ["purge hypervisor.wipe", "purge dns.forget"], "purge does not begin");
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
        let stages = shown(&d, (&in_force, &Policy::default()), day, now);
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
        let by = |windows| Policy { windows, ..Policy::default() };
        let stages = shown(&d, (&in_force, &by(Some(hours.clone()))), Day::Calendar, now);
        let always = shown(&d, (&in_force, &by(None)), Day::Calendar, now);
        for (stage, always) in stages.iter().zip(&always) {
            let bound = stage.stage >= Stage::Hard;
            assert!(!bound || hours.open(stage.at), "{} at {}", stage.stage, stage.at);
            assert!(stage.at >= always.at && (bound || stage.at == always.at), "{}", stage.stage);
            assert!(stage.steps.iter().all(|step| step.stopped.is_none()), "{}", stage.stage);
        }
    }

    #[test]
    fn what_the_configuration_protects_is_stopped_at_every_step() {
        let (d, day, now, in_force) = test_deletion();
        let protecting = |id: &str| {
            let policy = Policy { protected: [id.parse().unwrap()].into(), ..Policy::default() };
            let stages = shown(&d, (&in_force, &policy), day, now);
            let mut steps = stages.iter().flat_map(|stage| &stage.steps);
            steps.all(|step| step.stopped == Some(Blocker::Protected))
        };
        assert!(protecting(&d.record.resource.id.to_string()));
        assert!(!protecting("vm/another"));
    }

    #[test]
    fn every_belt_says_what_it_would_say_now() {
        let (mut d, _, _, mut in_force) = test_deletion();
        in_force.pauses = vec![pause("dns")];
        in_force.ceilings = crate::decide::test_ceiling(Ceiling::Soft);
        d.protected = true;
        // A Sunday.
        let now = crate::time::start_of("2026-11-29".parse().unwrap(), chrono_tz::UTC);
        let resource = d.record.resource.clone();
        let group = |stage| Group { scope: resource.scope.clone(), kind: resource.id.kind.clone(), stage };
        let begun = BTreeMap::from([(group(Stage::Hard), budget::A_DAY)]);
        let policy = Policy { windows: Some(Windows::default()), ..Policy::default() };
        let (groups, population) = (Groups::default(), Population::default());
        let sight = Sight {
            in_force: &in_force,
            policy: &policy,
            groups: &groups,
            begun: &begun,
            population: &population,
        };
        let stages = preview(&d, sight, Day::Calendar, now);
        let holding = |stage: usize| -> Vec<Belt> {
            stages[stage].belts.iter().filter(|said| said.holds).map(|said| said.belt).collect()
        };
        let all = [Belt::Protection, Belt::Pause, Belt::Ceiling, Belt::Window, Belt::Budget];
        assert_eq!(holding(0), [Belt::Protection], "announce");
        assert_eq!(holding(2), all.iter().copied().filter(|b| *b != Belt::Pause).collect::<Vec<_>>(), "hard");
        assert_eq!(
            holding(3),
            all.iter().copied().filter(|b| *b != Belt::Budget).collect::<Vec<_>>(),
            "purge"
        );
        let said = |stage: usize, belt: Belt| {
            stages[stage].belts.iter().find(|said| said.belt == belt).unwrap().said.clone()
        };
        assert!(said(2, Belt::Budget).contains("5 have"), "{}", said(2, Belt::Budget));
        let opens = Windows::default().next_opening(now);
        assert!(
            said(2, Belt::Window).contains(&opens.to_string()),
            "the next ones: {}",
            said(2, Belt::Window)
        );
        assert_eq!(said(3, Belt::Budget), "room for it now");
        // The one that is shown with a step is the first of them.
        assert!(stages.iter().all(|stage| stage.steps.iter().all(|s| s.stopped == Some(Blocker::Protected))));
    }
}
