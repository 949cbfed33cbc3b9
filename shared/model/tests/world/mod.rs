//! The world that is checked: ledger, network, consumers, and what is really there.
#![expect(clippy::unwrap_used, reason = "a fixed plan and record; a mistake in them fails every test")]

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use sexton_model::belts::budget::Standing;
use sexton_model::belts::ceiling::{Ceiling, ScopeCeiling};
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::redundancy::Groups;
use sexton_model::belts::{InForce, Policy};
use sexton_model::catalogue::Catalogue;
use sexton_model::credit::Draw;
use sexton_model::decide::{Capacity, Change, Context, Decision, Effect, Event, Lane, Refusal, decide};
use sexton_model::deletion::{Deletion, Record, RecordStatus};
use sexton_model::job::{Job, JobKind, JobState, Stage};
use sexton_model::plan::Plan;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::time::{Day, Timestamp};
use sexton_model::{DeletionId, Fence, Instance, JobId};

/// One step of time: half a deadline, and a longest call. In milliseconds.
const TICK_MS: u64 = 5_000;
const TICK: i64 = TICK_MS as i64 * 1000;
const DAY: Day = Day::Rehearsal { length_ms: TICK_MS };

const SUBSYSTEM: &str = r#"
subsystem = "world"
actions.look = { nature = "inspect", earliest = "announce", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
actions.off = { nature = "reversible", earliest = "soft", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
actions.destroy = { nature = "destructive", earliest = "hard", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
"#;
const PLAN: &str = r#"kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
stages.announce = { offset_days = -1, steps = [{ do = "world.look", max_attempts = 2 }] }
stages.hard = { offset_days = 1, steps = [{ do = "world.destroy", name = "a", max_attempts = 2 }] }
stages.purge = { offset_days = 2, steps = [{ do = "world.destroy", name = "b", max_attempts = 2 }] }
stages.recycle = { offset_days = 3, steps = [] }
[stages.soft]
offset_days = 0
steps = [{ do = "world.off", name = "c", max_attempts = 2 }, { do = "world.off", name = "d", max_attempts = 2 }]
"#;

/// What limits the search; every number is for a whole history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Orders that may be delivered once more.
    pub copies: u8,
    /// Leases that may run out.
    pub leases: u8,
    /// Answers other than "done", by a consumer's choice.
    pub failures: u8,
    /// Outdated answers that the network keeps at a time; each is tried when it becomes outdated.
    pub ghosts: u8,
    /// Calls land a step of time later rather than at once.
    pub slow_calls: bool,
}

/// A job, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Job);

impl Hash for Row {
    fn hash<H: Hasher>(&self, h: &mut H) {
        let job = &self.0;
        (job.kind, job.cursor, job.phase as u8, job.touched, job.attempts, job.in_vain).hash(h);
        (job.quiet_after, job.state.name()).hash(h);
        match &job.state {
            JobState::Scheduled { due_at } => due_at.hash(h),
            JobState::Waiting { until, .. } => until.hash(h),
            JobState::Running(out) | JobState::Cancelling(out) => {
                (out.fence, out.deadline, out.lease_until, out.started).hash(h);
            }
            JobState::Ready { .. } | JobState::Held { .. } | JobState::Parked { .. } => {}
            JobState::Done | JobState::Cancelled | JobState::Rescued => {}
        }
    }
}

/// An order under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    fence: Fence,
    job: JobId,
    stage: Stage,
    step: u16,
    mode: Mode,
    deadline: Timestamp,
}

/// A call that was begun and has not landed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    order: Order,
    until: Timestamp,
}

/// An answer under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    fence: Fence,
    job: JobId,
    says: Says,
}

impl Answer {
    fn event(&self) -> Option<Event> {
        let outcome = match self.says {
            Says::Done(mode, seen) => Outcome::Done {
                presence: if mode == Mode::Perform && self.job.slot() >= Stage::Hard.index() {
                    Presence::Absent
                } else {
                    Presence::Present
                },
                evidence: String::new(),
                finding: match mode {
                    Mode::Inspect | Mode::Capture => Some(seen.into()),
                    Mode::Reread => Some(serde_json::json!({})),
                    Mode::Perform | Mode::Undo | Mode::Verify => None,
                },
            },
            Says::Failed => Outcome::failed(""),
            Says::Refused => Outcome::refused(""),
        };
        let from = "world.main".parse().ok()?;
        Some(Event::Outcome { job: self.job, from, fence: self.fence, outcome })
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Says {
    /// Done, in this mode; of a capture: what it saw.
    Done(Mode, bool),
    Failed,
    Refused,
}

/// What is really there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Truth {
    /// What the two reversible steps switch off.
    pub on: [bool; 2],
    /// What hard and purge destroy.
    pub gone: [bool; 2],
}

/// Everything that decides what may happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub jobs: Vec<Row>,
    pub status: RecordStatus,
    manifests: [Option<bool>; 2],
    orders: Vec<Order>,
    calls: Vec<Call>,
    answers: Vec<Answer>,
    pub truth: Truth,
    left: Bounds,
    /// A call of a stage landed after the cancel.
    pub late: bool,
    /// A rule that was broken by the last act.
    pub broken: Option<&'static str>,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    Claim(JobId),
    Proceed(JobId),
    LeaseOver(JobId, Fence),
    Deliver(usize, bool),
    /// Which order, whether it is delivered once more, what is answered at once.
    Begin(usize, bool, Option<Says>),
    Land(usize),
    Cancel,
    Retry,
    Tick,
}

pub fn job_of(world: &World, stage: Stage) -> &Job {
    &world.jobs[usize::from(stage.index())].0
}

/// Which of the two reversible steps of soft it is: before them targets are read again.
fn which(step: u16) -> usize {
    usize::from(step.saturating_sub(1)) % 2
}

/// The record; its dates lie long before everything, so that only the grace counts, which is relative.
static BASE: LazyLock<Deletion> = LazyLock::new(|| {
    let mut catalogue = Catalogue::default();
    catalogue.add("world.toml", SUBSYSTEM).unwrap();
    let plan = Plan::parse("vm.toml", PLAN, &catalogue, true).unwrap();
    let record: Record = serde_json::from_value(serde_json::json!({
        "resource": {
            "id": "vm/web01", "scope": "a", "identity": { "uuid": "1" }, "criticality": "reproducible",
        },
        "due": { "date": "2020-01-01", "zone": "UTC", "moment": -1_000_000_000_000_000i64 },
        "requested_by": "platform", "reason": "over", "created_at": 0,
    }))
    .unwrap();
    Deletion::draw_up(DeletionId(1), record, Arc::new(plan), DAY).unwrap()
});

/// Nothing stops it.
static IN_FORCE: LazyLock<InForce> = LazyLock::new(|| {
    let by = "ops".parse().unwrap();
    let (ceiling, reason) = (Ceiling::Purge, "as far as it goes".to_owned());
    let ceilings =
        [ScopeCeiling { scope: None, ceiling, by, reason, since: Timestamp(0) }].into_iter().collect();
    InForce { ceilings, ..InForce::default() }
});

static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);

impl World {
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            jobs: BASE.jobs.iter().cloned().map(Row).collect(),
            status: RecordStatus::Live,
            manifests: [None; 2],
            orders: Vec::new(),
            calls: Vec::new(),
            answers: Vec::new(),
            truth: Truth { on: [true; 2], gone: [false; 2] },
            left: bounds.clone(),
            late: false,
            broken: None,
        }
    }

    fn deletion(&self) -> Deletion {
        let jobs = self.jobs.iter().map(|row| row.0.clone()).collect();
        Deletion { jobs, status: self.status, ..BASE.clone() }
    }

    fn decide(&self, event: &Event) -> Result<Decision, Refusal> {
        let capacity = |_: &Instance, _: Lane, _: Draw| Capacity::Free;
        let answered = |_: &Instance| None;
        let fence = Fence { epoch: 1, number: 1_000 };
        let (now, day) = (Timestamp(0), DAY);
        let context = Context {
            now,
            day,
            in_force: &IN_FORCE,
            policy: &POLICY,
            review: None,
            fence,
            capacity: &capacity,
            standing: &|_| Standing::Unknown,
            groups: &Groups::default(),
            healthy: &Healthy::always(),
            answered: &answered,
        };
        decide(&self.deletion(), event, &context)
    }

    fn fences(&self) -> Vec<Fence> {
        let mut all: Vec<_> = self.jobs.iter().filter_map(|row| row.0.state.out().map(|o| o.fence)).collect();
        all.extend(self.orders.iter().map(|o| o.fence));
        all.extend(self.calls.iter().map(|c| c.order.fence));
        all.extend(self.answers.iter().map(|a| a.fence));
        all.sort();
        all.dedup();
        all
    }

    /// Everything anybody may do now, whether or not it will be refused.
    pub fn acts(&self, acts: &mut Vec<Act>) {
        if self.broken.is_some() {
            return;
        }
        for row in &self.jobs {
            acts.push(Act::Claim(row.0.id));
            acts.push(Act::Proceed(row.0.id));
            if self.left.leases > 0 {
                acts.extend(self.fences().into_iter().map(|fence| Act::LeaseOver(row.0.id, fence)));
            }
        }
        for index in 0..self.answers.len() {
            acts.extend([Act::Deliver(index, false), Act::Deliver(index, true)]);
        }
        for index in 0..self.orders.len() {
            acts.push(Act::Begin(index, false, None));
            if self.left.copies > 0 {
                acts.push(Act::Begin(index, true, None));
            }
            if self.left.failures > 0 {
                acts.extend([Says::Failed, Says::Refused].map(|says| Act::Begin(index, false, Some(says))));
            }
        }
        acts.extend((0..self.calls.len()).map(Act::Land));
        acts.extend([Act::Cancel, Act::Retry, Act::Tick]);
    }

    /// The world afterwards; none if nothing changed.
    pub fn after(&self, act: &Act) -> Option<World> {
        let mut next = self.clone();
        match act {
            Act::Claim(job) => next.commit(&Event::Claim { job: *job })?,
            Act::Proceed(job) => next.commit(&Event::Proceed { job: *job })?,
            Act::LeaseOver(job, fence) => {
                next.left.leases -= 1;
                next.commit(&Event::LeaseOver { job: *job, fence: *fence })?;
            }
            Act::Cancel => {
                let event = Event::Cancel { by: "ops".parse().ok()?, reason: "back".into() };
                next.commit(&event)?;
            }
            Act::Retry => next.commit(&Event::Retry { by: "ops".parse().ok()? })?,
            Act::Deliver(index, again) => next.deliver(*index, *again)?,
            Act::Begin(index, again, says) => next.begin(*index, *again, *says),
            Act::Land(index) => {
                let call = next.calls.remove(*index);
                next.land(&call.order);
            }
            Act::Tick => next.tick()?,
        }
        next.normalise();
        (next != *self).then_some(next)
    }

    fn commit(&mut self, event: &Event) -> Option<()> {
        let cancel = matches!(event, Event::Cancel { .. });
        let claimed = self.deletion().claimed(Stage::Hard);
        let Ok(decision) = self.decide(event) else {
            if cancel && self.status == RecordStatus::Live && !claimed {
                self.broken = Some("a cancel before the end of cancel was refused");
                return Some(());
            }
            return None;
        };
        if cancel && (claimed || self.truth.gone[0]) {
            self.broken = Some("I5: a cancel after the end of cancel was accepted");
        }
        let mut deletion = self.deletion();
        for change in &decision.changes {
            deletion.apply(change);
            if deletion.jobs.iter().filter(|j| j.state.name().locks()).count() > 1 {
                self.broken = Some("I3: two jobs hold the lock within one decision");
            }
            if let Change::Manifest { step, value, .. } = change {
                let slot = &mut self.manifests[which(*step)];
                *slot = slot.or(value.as_bool());
            }
        }
        let cancelled = self.status != RecordStatus::Live;
        self.status = deletion.status;
        self.jobs = deletion.jobs.into_iter().map(Row).collect();
        for effect in decision.effects {
            let Effect::Order(o) = effect else { continue };
            if o.kind != JobKind::Restore && (cancelled || self.status != RecordStatus::Live) {
                self.broken = Some("I4: a stage's order after the cancel");
            }
            let (job, stage, step, mode) = (o.job, o.stage, o.step, o.mode);
            self.orders.push(Order { fence: o.fence, job, stage, step, mode, deadline: o.deadline });
        }
        Some(())
    }

    /// An answer arrives; `again`: and will arrive once more.
    fn deliver(&mut self, index: usize, again: bool) -> Option<()> {
        let answer = self.answers[index].clone();
        let current = self.jobs.iter().any(|r| r.0.state.out().is_some_and(|o| o.fence == answer.fence));
        if again && (self.left.ghosts == 0 || !current) {
            return None;
        }
        if !again {
            self.answers.remove(index);
        }
        let event = answer.event()?;
        let done = self.commit(&event);
        if !current && done.is_some() {
            self.broken = Some("I10: an outdated answer counted");
        }
        // A refused answer is gone as well.
        Some(())
    }

    /// A consumer takes an order, in time, and does it or says that it cannot.
    fn begin(&mut self, index: usize, again: bool, says: Option<Says>) {
        let order = self.orders[index].clone();
        if again {
            self.left.copies -= 1;
        } else {
            self.orders.remove(index);
        }
        match says {
            Some(says) => {
                self.left.failures -= 1;
                self.answers.push(Answer { fence: order.fence, job: order.job, says });
            }
            None if self.left.slow_calls && order.mode.changes() => {
                let until = Timestamp(TICK);
                self.calls.push(Call { order, until });
            }
            None => self.land(&order),
        }
    }

    /// The call takes effect, and is answered.
    fn land(&mut self, order: &Order) {
        let which = which(order.step);
        let says = match (order.mode, order.stage) {
            (Mode::Inspect | Mode::Reread, _) => Says::Done(order.mode, true),
            (Mode::Capture, _) => Says::Done(order.mode, self.truth.on[which]),
            (Mode::Perform, Stage::Soft) => {
                self.late |= self.status == RecordStatus::Restoring;
                self.truth.on[which] = false;
                Says::Done(order.mode, true)
            }
            (Mode::Perform, stage) => {
                self.truth.gone[usize::from(stage == Stage::Purge)] = true;
                Says::Done(order.mode, true)
            }
            (Mode::Undo, _) => match self.manifests[which] {
                Some(before) => {
                    self.truth.on[which] = before;
                    Says::Done(order.mode, true)
                }
                None => {
                    self.broken = Some("an undo without a manifest");
                    Says::Refused
                }
            },
            (Mode::Verify, _) if Some(self.truth.on[which]) == self.manifests[which] => {
                Says::Done(order.mode, true)
            }
            (Mode::Verify, _) => Says::Refused,
        };
        self.answers.push(Answer { fence: order.fence, job: order.job, says });
    }

    /// Time passes: a call that is due to land has to land first.
    fn tick(&mut self) -> Option<()> {
        if self.calls.iter().any(|c| c.until <= Timestamp(0)) {
            return None;
        }
        let back = |at: &mut Timestamp| *at = Timestamp(at.0 - TICK);
        for Row(job) in &mut self.jobs {
            back(&mut job.quiet_after);
            match &mut job.state {
                JobState::Scheduled { due_at: Some(at) } | JobState::Waiting { until: at, .. } => back(at),
                JobState::Running(out) | JobState::Cancelling(out) => {
                    back(&mut out.deadline);
                    back(&mut out.lease_until);
                }
                _ => {}
            }
        }
        self.orders.iter_mut().for_each(|o| back(&mut o.deadline));
        self.calls.iter_mut().for_each(|c| {
            back(&mut c.until);
            back(&mut c.order.deadline);
        });
        Some(())
    }

    /// Try every outdated answer, then lose all but the newest few.
    fn lose_outdated(&mut self) {
        let current: Vec<_> = self.jobs.iter().filter_map(|row| row.0.state.out().map(|o| o.fence)).collect();
        let (fresh, mut outdated): (Vec<_>, Vec<_>) =
            self.answers.drain(..).partition(|answer| current.contains(&answer.fence));
        for answer in &outdated {
            if answer.event().is_some_and(|event| self.decide(&event).is_ok()) {
                self.broken = Some("I10: an outdated answer counted");
            }
        }
        outdated.drain(..outdated.len().saturating_sub(usize::from(self.left.ghosts)));
        self.answers = outdated;
        self.answers.extend(fresh);
    }

    /// Forget what no longer decides anything: texts, moments before now, numbers other than their order.
    fn normalise(&mut self) {
        let clamp = |at: &mut Timestamp| {
            // Up to the next step: nothing happens in between.
            *at = Timestamp((-(-at.0).div_euclid(TICK) * TICK).max(-TICK));
        };
        for Row(job) in &mut self.jobs {
            clamp(&mut job.quiet_after);
            job.ended_at = None;
            match &mut job.state {
                JobState::Scheduled { due_at: Some(at) } => clamp(at),
                JobState::Waiting { until, reason } => {
                    clamp(until);
                    reason.clear();
                }
                JobState::Running(out) | JobState::Cancelling(out) => {
                    clamp(&mut out.deadline);
                    clamp(&mut out.lease_until);
                }
                JobState::Parked { reason } => reason.clear(),
                JobState::Ready { since, .. } => *since = Timestamp(0),
                _ => {}
            }
        }
        // What is not begun by its deadline never is.
        self.orders.retain(|o| o.deadline > Timestamp(0));
        self.calls.iter_mut().for_each(|c| clamp(&mut c.order.deadline));
        self.answers.sort();
        self.answers.dedup();
        self.lose_outdated();
        let rank = self.fences();
        let number = |fence: &mut Fence| {
            fence.number = rank.iter().position(|f| f == fence).unwrap_or(0) as i64 + 1;
        };
        for Row(job) in &mut self.jobs {
            if let JobState::Running(out) | JobState::Cancelling(out) = &mut job.state {
                number(&mut out.fence);
            }
        }
        self.orders.iter_mut().for_each(|o| number(&mut o.fence));
        self.calls.iter_mut().for_each(|c| number(&mut c.order.fence));
        self.answers.iter_mut().for_each(|a| number(&mut a.fence));
        self.orders.sort();
        self.calls.sort();
        self.answers.sort();
    }
}
