//! The ways to start a system.
use std::sync::Arc;

use sexton_coordinator::{Canaries, alarms};
use sexton_ledger::Limits;
use sexton_model::belts::Policy;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::time::Day;
use sexton_model::{Instance, ResourceId};

use super::plan::{PLAN, announcing, plans, quick_soft, rehearsal};
use super::standing::Standing;
use super::{System, instances, instances_of, keys, ops, web01};

impl System {
    /// Everything runs, and `vm/web01` is registered.
    pub async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// With the whole plan being this one.
    pub async fn start_on(plan: &str) -> Self {
        Self::start_on_within(plan, Limits::default()).await
    }

    /// The same, with other limits.
    pub async fn start_on_within(plan: &str, limits: Limits) -> Self {
        let mut system = Self::stopped(plan, sexton_ledger::Options { limits, ..rehearsal() }).await;
        system.start_everything().await;
        system
    }

    /// As it is delivered, with `instead` in the plan for `part` of it.
    pub async fn start_with(part: &str, instead: &str) -> Self {
        let mut system = Self::stopped(&PLAN.replacen(part, instead, 1), rehearsal()).await;
        system.start_everything().await;
        system
    }

    /// The same with several parts of the plan, with other limits, and by this policy.
    pub async fn start_within(limits: Limits, policy: Policy, changes: &[(&str, &str)]) -> Self {
        let options = sexton_ledger::Options { limits, policy, ..rehearsal() };
        let plan =
            changes.iter().fold(PLAN.to_owned(), |plan, (part, instead)| plan.replacen(part, instead, 1));
        let mut system = Self::stopped(&plan, options).await;
        system.start_everything().await;
        system
    }

    /// Everything runs, on a plan with a notice: whoever is silenced at monitoring was told.
    pub async fn start_announcing() -> Self {
        let mut system = Self::stopped(PLAN, rehearsal()).await;
        system.plan = announcing();
        system.start_everything().await;
        system
    }

    /// Everything runs, and the consumer of this instance was started last. With a soft stage of short deadlines: a
    /// restore waits for them.
    pub async fn start_with_last(last: &Instance) -> Self {
        let mut system = Self::stopped(&quick_soft(), rehearsal()).await;
        system.start_coordinator();
        for instance in instances().into_iter().filter(|instance| instance != last) {
            system.start_consumer(&instance).await;
        }
        system.start_consumer(last).await;
        system
    }

    /// Everything runs, on a plan that was copied before plans had their bounds: a step has these parameters.
    pub async fn start_on_older(step: &str, params: serde_json::Value) -> Self {
        let mut system = Self::stopped(PLAN, rehearsal()).await;
        let mut plan = serde_json::to_value(&*system.plan).unwrap();
        let steps = plan.pointer_mut("/stages/1/steps").and_then(|steps| steps.as_array_mut()).unwrap();
        let found = steps.iter_mut().find(|found| found["name"] == step).unwrap();
        found["params"] = params;
        system.plan = Arc::new(serde_json::from_value(plan).unwrap());
        system.start_everything().await;
        system
    }

    /// Nothing runs, with the whole plan being this one.
    pub async fn not_started_on(plan: &str) -> Self {
        Self::stopped(plan, rehearsal()).await
    }

    /// Nothing runs, and no membership is registered: on the plan of these.
    pub async fn not_started_with_keys() -> Self {
        Self::on(Standing::new(), keys::plan(), rehearsal(), (alarms::Options::default(), None)).await
    }

    /// `vm/web01` is registered, and nothing runs.
    pub async fn not_started() -> Self {
        Self::stopped(PLAN, rehearsal()).await
    }

    /// Nothing runs, and whoever is asked to look has little time.
    pub async fn not_started_with_quick_looks() -> Self {
        let look = "{ do = \"monitoring.inspect\" }";
        let quick = "{ do = \"monitoring.inspect\", deadline_ms = 2000, longest_call_ms = 200 }";
        Self::stopped(&PLAN.replacen(look, quick, 1), rehearsal()).await
    }

    /// Nothing runs, on a plan that was copied when targets were not read again yet, as all of 0.1.0 were. With a soft stage
    /// of short deadlines: a restore waits for them.
    pub async fn not_started_on_a_plan_of_0_1_0() -> Self {
        let mut system = Self::stopped(&quick_soft(), rehearsal()).await;
        let mut plan = (*system.plan).clone();
        for stage in &mut plan.stages {
            stage.steps.retain(|step| !step.name.contains('@'));
        }
        system.plan = Arc::new(plan);
        system
    }

    /// Nothing runs, and a machine is there for canaries, which have to be answered within so many milliseconds.
    pub async fn with_canaries(within_ms: u64) -> Self {
        Self::with_canaries_by(within_ms, Policy::default()).await
    }

    /// The same, by this policy.
    pub async fn with_canaries_by(within_ms: u64, policy: Policy) -> Self {
        Self::with_canaries_told(within_ms, policy, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn with_canaries_told(within_ms: u64, policy: Policy, telling: alarms::Options) -> Self {
        let canary: ResourceId = "vm/canary01".parse().unwrap();
        let canaries = Canaries::new(Arc::new(plans(PLAN)), vec![canary.clone()], within_ms);
        let options = sexton_ledger::Options { policy, ..rehearsal() };
        let system = Self::stopped_with(PLAN, options, (telling, Some(canaries))).await;
        system.build(&canary);
        system.register_named(&canary, false).await;
        system
    }

    /// Everything runs, and drills are held with `vm/web01`.
    pub async fn start_drilling() -> Self {
        let mut system = Self::with_drills(vec![web01()]).await;
        system.start_everything().await;
        system
    }

    /// Nothing runs, and drills are held with these. With a soft stage of short deadlines: a restore waits for them.
    pub async fn with_drills(drill: Vec<ResourceId>) -> Self {
        Self::with_drills_told(drill, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn with_drills_told(drill: Vec<ResourceId>, telling: alarms::Options) -> Self {
        let plan = quick_soft();
        let canaries = Canaries::new(Arc::new(plans(&plan)), Vec::new(), 1_000).drilling(drill);
        Self::stopped_with(&plan, rehearsal(), (telling, Some(canaries))).await
    }

    /// In calendar days, of which none has to pass: every stage is due at once. Only this policy may say otherwise. With a
    /// soft stage of short deadlines: a restore waits for them.
    pub async fn start_in_calendar_days(policy: Policy) -> Self {
        Self::start_telling(policy, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn start_telling(policy: Policy, telling: alarms::Options) -> Self {
        let plan = quick_soft();
        let plan: Vec<_> = plan
            .lines()
            .map(|line| if line.starts_with("offset_days") { "offset_days = 0" } else { line })
            .collect();
        // What is held is looked at again at once, and not within a minute.
        let limits = Limits { look_again_ms: 100, ..Limits::default() };
        let options = sexton_ledger::Options { day: Day::Calendar, limits, policy };
        let mut system = Self::stopped_with(&plan.join("\n"), options, (telling, None)).await;
        for ceiling in Ceiling::ALL.into_iter().skip(1) {
            let (by, reason) = (ops(), "this is about something else".to_owned());
            let new = NewCeiling { scope: None, to: Some(ceiling), by, reason };
            system.ledger.set_ceiling(new, None).await.unwrap().unwrap();
        }
        system.start_everything().await;
        system
    }

    /// On a plan with a notice, in which whoever is silenced at monitoring was told, and alarms are told so.
    pub async fn start_announcing_on_call(telling: alarms::Options) -> Self {
        let mut system = Self::stopped_with(PLAN, rehearsal(), (telling, None)).await;
        system.plan = announcing();
        system.start_everything().await;
        system
    }

    async fn stopped(plan: &str, options: sexton_ledger::Options) -> Self {
        Self::stopped_with(plan, options, (alarms::Options::default(), None)).await
    }

    async fn stopped_with(
        plan: &str,
        options: sexton_ledger::Options,
        asked: (alarms::Options, Option<Canaries>),
    ) -> Self {
        let plan = plans(plan).of_kind(&"vm".parse().unwrap()).unwrap().clone();
        let system = Self::on(Standing::new(), plan, options, asked).await;
        system.register(false).await;
        system
    }

    pub async fn start_everything(&mut self) {
        self.start_coordinator();
        for instance in instances_of(&self.plan) {
            self.start_consumer(&instance).await;
        }
    }
}
