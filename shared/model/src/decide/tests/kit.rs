//! A deletion, a clock, and what surrounds them; answers like a consumer would.
use std::sync::Arc;

use serde_json::json;

use super::super::{Capacity, Change, Context, Decision, Effect, Event, Lane, OrderSpec, Refusal, decide};
use super::watch::Watch;
use crate::belts::budget::Standing;
use crate::belts::ceiling::{Ceiling, Ceilings, ScopeCeiling};
use crate::belts::healthy::Healthy;
use crate::belts::redundancy::Groups;
use crate::belts::{InForce, Pause, PauseSelector, Policy};
use crate::catalogue::Catalogue;
use crate::credit::Draw;
use crate::deletion::{Deletion, Due, Record};
use crate::id::{Actor, DeletionId, Fence, Instance, JobId};
use crate::job::{Job, JobKind, Stage, StateName};
use crate::plan::Plan;
use crate::resource::{Criticality, Resource};
use crate::step::{Mode, Outcome, Presence};
use crate::time::{Day, Timestamp};

/// A rehearsal's day: a minute, longer than any order of the plan below may act.
pub(super) const DAY: Day = Day::Rehearsal { length_ms: DAY_MS };
pub(super) const DAY_MS: u64 = 60_000;
/// The due date.
pub(super) const MOMENT: Timestamp = Timestamp(1_800_000_000_000_000);

const SUBSYSTEM: &str = r#"
subsystem = "hypervisor"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 10000
longest_call_ms = 5000
irreplaceable = ["volumes"]
about = "look"
[actions.tell]
nature = "reversible"
earliest = "announce"
deadline_ms = 10000
longest_call_ms = 5000
about = "tell"
[actions.stop]
slow = true
nature = "reversible"
earliest = "soft"
deadline_ms = 20000
longest_call_ms = 5000
about = "stop"
[actions.quiesce]
nature = "reversible"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 7000
long = true
about = "quiesce"
[actions.copy]
nature = "adds"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 5000
long = true
about = "copy"
[actions.undefine]
nature = "destructive"
earliest = "hard"
deadline_ms = 10000
longest_call_ms = 5000
ends_use_of = ["address"]
about = "undefine"
[actions.release]
nature = "destructive"
earliest = "hard"
deadline_ms = 10000
longest_call_ms = 5000
releases = ["address"]
about = "release"
[actions.wipe]
nature = "destructive"
earliest = "purge"
deadline_ms = 10000
longest_call_ms = 5000
about = "wipe"
"#;

const OTHER: &str = r#"
subsystem = "dns"
[actions.forget]
nature = "destructive"
earliest = "purge"
deadline_ms = 10000
longest_call_ms = 5000
about = "forget"
"#;

const PLAN: &str = r#"kind = "vm"
version = 1
criticality = "irreplaceable"
rehearsal = true
[stages.announce]
offset_days = -5
steps = [{ do = "hypervisor.inspect", rolling = ["snapshots"] }, { do = "hypervisor.tell" }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop", max_attempts = 3 }, { do = "hypervisor.copy" }, { do = "hypervisor.quiesce" }]
[stages.hard]
offset_days = 3
steps = [
  { do = "hypervisor.undefine" },
  { do = "hypervisor.release", after = ["hypervisor.undefine"] },
  { do = "inventory.remove", after = ["hypervisor.release"] },
]
[stages.purge]
offset_days = 8
steps = [{ do = "hypervisor.wipe", after = ["hypervisor.undefine"] }, { do = "dns.forget" }, { do = "receipt" }]
[stages.recycle]
offset_days = 38
steps = []
"#;

/// Without the steps that read targets again, as records have it that were made before there were any.
pub(crate) fn plan() -> Plan {
    let mut plan = plan_that_rereads();
    for stage in &mut plan.stages[1..] {
        stage.steps.retain(|step| step.nature != crate::catalogue::Nature::Inspect);
    }
    plan
}

/// The plan as it is parsed.
pub(super) fn plan_that_rereads() -> Plan {
    let mut catalogue = Catalogue::default();
    catalogue.add("hypervisor.toml", SUBSYSTEM).unwrap();
    catalogue.add("dns.toml", OTHER).unwrap();
    Plan::parse("vm.toml", PLAN, &catalogue, true).unwrap()
}

pub(super) fn resource() -> Resource {
    serde_json::from_value(json!({
        "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "1" }, "criticality": "irreplaceable",
    }))
    .unwrap()
}

pub(super) fn record(due: Due) -> Record {
    Record {
        resource: resource(),
        due,
        gone_by: None,
        requested_by: actor("platform"),
        reason: "no longer needed".into(),
        created_at: Timestamp(0),
    }
}

/// How far deletions of a scope may go, or of every scope.
pub(super) fn ceiling(scope: Option<&str>, ceiling: Ceiling) -> Ceilings {
    let scope = scope.map(|scope| scope.parse().unwrap());
    let said = ScopeCeiling { scope, ceiling, by: actor("ops"), reason: "tried".into(), since: Timestamp(0) };
    [said].into_iter().collect()
}

/// How far deletions of every scope may go.
pub(crate) fn all_ceilings(to: Ceiling) -> Ceilings {
    ceiling(None, to)
}

/// A new deletion, a rehearsal's day, its announcement's due time, and nothing that stops it.
pub(crate) fn before_anything() -> (Deletion, Day, Timestamp, InForce) {
    let bench = Bench::new();
    (bench.deletion, bench.day, bench.now, bench.in_force)
}

pub(super) fn actor(name: &str) -> Actor {
    name.parse().unwrap()
}

pub(super) fn stage(stage: Stage) -> JobId {
    JobId::of(DeletionId(1), stage.index())
}

pub(super) const RESTORE: JobId = JobId(JobId::SLOTS + JobKind::RESTORE_SLOT as i64);

/// What a consumer answers if all is well.
pub(super) fn good(mode: Mode, stage: Stage) -> Outcome {
    let presence =
        if mode == Mode::Perform && stage >= Stage::Hard { Presence::Absent } else { Presence::Present };
    let finding = match mode {
        Mode::Inspect | Mode::Capture => Some(json!({ "seen": true })),
        Mode::Reread => Some(json!({})),
        Mode::Perform | Mode::Undo | Mode::Verify => None,
    };
    Outcome::Done { presence, evidence: "seen".into(), finding }
}

/// One deletion under test. Cloned to try what would happen next.
#[derive(Clone)]
pub(super) struct Bench {
    pub deletion: Deletion,
    pub now: Timestamp,
    pub day: Day,
    pub in_force: InForce,
    pub policy: Policy,
    /// Of the hypervisor.
    pub capacity: Capacity,
    /// Of everybody else.
    pub elsewhere: Capacity,
    /// Of every job.
    pub standing: Standing,
    /// When anybody last answered anything.
    pub answered: Option<Timestamp>,
    /// The last order that was given, even if it is not out any more.
    pub last: Option<OrderSpec>,
    pub orders: Vec<OrderSpec>,
    pub fence: i64,
    pub epoch: u32,
    /// Set while the ledger is under review.
    pub review: Option<u32>,
    watch: Watch,
    pub(super) groups: Groups,
    pub(super) healthy: Healthy,
}

impl Bench {
    /// The mark of what a person has to look at now, if there is anything.
    pub(super) fn mark(&self) -> String {
        super::super::mark(&self.deletion).unwrap_or_default()
    }

    /// The same, said by somebody who has looked at what is there now.
    pub(super) fn looked(&self, event: Event) -> Event {
        let mark = self.mark();
        match event {
            Event::Waive { by, claim, evidence, .. } => Event::Waive { by, claim, mark, evidence },
            Event::Acknowledge { by, reason, .. } => Event::Acknowledge { by, mark, reason },
            other => other,
        }
    }

    /// What is shown is stated to belong to the deletion.
    pub(super) fn belongs(&self) -> Event {
        let (by, claim) = (actor("ops"), crate::deletion::WaiverClaim::Belongs);
        Event::Waive { by, claim, mark: self.mark(), evidence: "looked at it".into() }
    }

    pub(super) fn new() -> Self {
        Self::with(plan())
    }

    pub(super) fn with(mut plan: Plan) -> Self {
        plan.criticality = Criticality::Irreplaceable;
        let date = MOMENT.utc().date_naive();
        let due = Due { date, zone: "Europe/Berlin".parse().unwrap(), moment: Some(MOMENT) };
        let deletion = Deletion::draw_up(DeletionId(1), record(due), Arc::new(plan), DAY).unwrap();
        let now = deletion.date_of(Stage::Announce, DAY);
        Self {
            deletion,
            now,
            day: DAY,
            in_force: InForce { ceilings: ceiling(None, Ceiling::Purge), ..InForce::default() },
            policy: Policy::default(),
            capacity: Capacity::Free,
            elsewhere: Capacity::Free,
            standing: Standing::Admitted,
            answered: None,
            last: None,
            orders: Vec::new(),
            fence: 0,
            epoch: 1,
            review: None,
            watch: Watch::default(),
            groups: Groups::default(),
            healthy: Healthy::always(),
        }
    }

    /// Decide without taking it over.
    pub(super) fn ask(&self, event: &Event) -> Result<Decision, Refusal> {
        let capacity = |instance: &Instance, _: Lane, _: Draw| match instance.subsystem.as_str() {
            "hypervisor" => self.capacity,
            _ => self.elsewhere,
        };
        let fence = Fence { epoch: self.epoch, number: self.fence + 1 };
        let answered = |_: &Instance| self.answered;
        let standing = |_: JobId| self.standing.clone();
        let context = Context {
            now: self.now,
            day: self.day,
            in_force: &self.in_force,
            policy: &self.policy,
            review: self.review,
            fence,
            capacity: &capacity,
            standing: &standing,
            groups: &self.groups,
            healthy: &self.healthy,
            answered: &answered,
        };
        decide(&self.deletion, event, &context)
    }

    /// Decide, take it over, and check every invariant.
    pub(super) fn go(&mut self, event: &Event) -> Result<Decision, Refusal> {
        let before = self.deletion.clone();
        let decision = match self.ask(event) {
            Ok(decision) => decision,
            Err(refusal) => {
                self.watch.refused(&before, event, &refusal);
                return Err(refusal);
            }
        };
        self.fence += 1;
        self.deletion.audit_seq += 1;
        for change in &decision.changes {
            self.deletion.apply(change);
            let locks = self.deletion.jobs.iter().filter(|j| j.state.name().locks()).count();
            assert!(locks <= 1, "I3: {locks} jobs hold the lock after {change:?}");
        }
        let fence = Fence { epoch: self.epoch, number: self.fence };
        self.watch.decided(&before, &self.deletion, event, &decision, (self.now, fence));
        for effect in &decision.effects {
            if let Effect::Order(order) = effect {
                self.last = Some(order.clone());
                self.orders.push(order.clone());
            }
        }
        Ok(decision)
    }

    /// As [`Bench::go`], where a refusal is a mistake of the test.
    #[track_caller]
    pub(super) fn must(&mut self, event: &Event) -> Decision {
        self.go(event).unwrap_or_else(|refusal| panic!("{event:?}: {refusal}"))
    }

    pub(super) fn job(&self, id: JobId) -> &Job {
        self.deletion.job(id).unwrap()
    }

    pub(super) fn state(&self, id: JobId) -> StateName {
        self.job(id).state.name()
    }

    #[track_caller]
    pub(super) fn out(&self) -> OrderSpec {
        self.last.clone().expect("an order")
    }

    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(super) fn answer_event(&self, outcome: Outcome) -> Event {
        let order = self.out();
        Event::Outcome { job: order.job, from: order.instance, fence: order.fence, outcome }
    }

    #[track_caller]
    pub(super) fn answer(&mut self, outcome: Outcome) -> Decision {
        let event = self.answer_event(outcome);
        self.must(&event)
    }

    /// The consumer does what it was asked.
    #[track_caller]
    pub(super) fn comply(&mut self) -> Decision {
        let order = self.out();
        self.answer(good(order.mode, order.stage))
    }

    /// Wait until a stage is due, and claim it.
    #[track_caller]
    pub(super) fn claim(&mut self, which: Stage) -> Decision {
        if let crate::job::JobState::Scheduled { due_at: Some(due_at) } = self.job(stage(which)).state {
            self.now = self.now.max(due_at);
        }
        self.must(&Event::Claim { job: stage(which) })
    }

    /// All of a stage.
    #[track_caller]
    pub(super) fn complete(&mut self, which: Stage) {
        self.claim(which);
        while self.state(stage(which)) == StateName::Running {
            self.comply();
        }
        assert_eq!(self.state(stage(which)), StateName::Done);
    }

    /// A new deletion, run until the order for a step of a stage, in a mode, is out.
    #[track_caller]
    pub(super) fn at(which: Stage, step: u16, mode: Mode) -> Self {
        Self::new().run_to(which, step, mode)
    }

    /// Run until the order for a step of a stage, in a mode, is out.
    #[track_caller]
    pub(super) fn run_to(self, which: Stage, step: u16, mode: Mode) -> Self {
        let mut bench = self;
        for before in Stage::ALL.into_iter().filter(|s| *s < which) {
            bench.complete(before);
        }
        bench.claim(which);
        while (bench.out().step, bench.out().mode) != (step, mode) {
            bench.comply();
        }
        bench
    }

    /// The soft stage in each state that a stage job can be in before the end of cancel; where an order is
    /// out, it is the one to stop.
    #[track_caller]
    pub(super) fn soft_in(state: StateName) -> Self {
        let soft = stage(Stage::Soft);
        let mut bench = match state {
            StateName::Scheduled | StateName::Held => {
                let mut bench = Self::new();
                bench.complete(Stage::Announce);
                bench.now = bench.deletion.date_of(Stage::Soft, DAY);
                bench
            }
            _ => Self::at(Stage::Soft, 0, Mode::Perform),
        };
        match state {
            StateName::Held => {
                bench.in_force.pauses = vec![pause(PauseSelector::default())];
                bench.must(&Event::Claim { job: soft });
            }
            StateName::Ready => {
                bench.capacity = Capacity::Full;
                bench.comply();
                bench.capacity = Capacity::Free;
            }
            StateName::Waiting => drop(bench.answer(Outcome::failed("busy"))),
            StateName::Parked => drop(bench.answer(Outcome::refused("not mine"))),
            StateName::Cancelling | StateName::Cancelled => {
                bench.must(&cancel());
                if state == StateName::Cancelled {
                    bench.comply();
                }
            }
            StateName::Done => {
                while bench.state(soft) == StateName::Running {
                    bench.comply();
                }
            }
            StateName::Rescued => {
                bench = Self::at(Stage::Hard, 0, Mode::Perform);
                bench.wait_ms(DAY_MS);
                bench.must(&rescue());
            }
            StateName::Scheduled | StateName::Running => {}
        }
        bench
    }

    /// Go on with the restore until it is over.
    #[track_caller]
    pub(super) fn restore(&mut self) {
        while self.state(RESTORE) != StateName::Done {
            match self.job(RESTORE).state.clone() {
                crate::job::JobState::Running(_) => drop(self.comply()),
                crate::job::JobState::Waiting { until, .. } => {
                    self.now = self.now.max(until);
                    self.must(&Event::Proceed { job: RESTORE });
                }
                other => panic!("the restore is {other:?}"),
            }
        }
    }
}

pub(super) fn cancel() -> Event {
    Event::Cancel { by: actor("ops"), reason: "wanted back".into() }
}

pub(super) fn rescue() -> Event {
    Event::Rescue { by: actor("ops"), evidence: "started by hand".into() }
}

pub(super) fn place_hold() -> Event {
    Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() }
}

pub(super) fn pause(covers: PauseSelector) -> Pause {
    Pause { id: 1, covers, by: actor("ops"), reason: "stop".into(), since: Timestamp(0) }
}

/// The targets and manifests that a decision writes.
pub(super) fn findings(decision: &Decision) -> Vec<&Change> {
    decision
        .changes
        .iter()
        .filter(|c| matches!(c, Change::Targets { .. } | Change::Manifest { .. }))
        .collect()
}
