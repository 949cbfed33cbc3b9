//! The world that is checked: one deletion in the job table, network, consumers, people, and what is really there.
mod bounds;
mod clock;
mod fixed;
mod network;
mod onward;
mod rules;
mod table;

use sexton_model::belts::budget::Standing;
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::redundancy::Groups;
use sexton_model::credit::Draw;
use sexton_model::decide::{Capacity, Change, Context, Decision, Effect, Event, Lane, Refusal, decide};
use sexton_model::deletion::Deletion;
use sexton_model::job::{Job, JobKind, Stage};
use sexton_model::step::Mode;
use sexton_model::{Fence, Instance, JobId, Timestamp};

pub use bounds::{Bounds, Shape};
pub use fixed::{IN_FORCE, OPS, REASON, TICK, drawn_up};
pub use table::{Row, clamp, hold};

use fixed::{DAY, POLICY};
use network::{Answer, Call, Order, Says};
use rules::Account;
use table::{Covers, Table};

/// What is really there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Truth {
    /// What the two reversible steps switch off.
    pub on: [bool; 2],
    /// What hard and purge destroy.
    pub gone: [bool; 2],
    /// The fence of its last change, where it holds one.
    pub held: Option<Fence>,
}

/// Everything that decides what may happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub table: Table,
    /// An older copy of it.
    kept: Option<Table>,
    /// Its epoch; above 1 if it was put back.
    pub epoch: u32,
    /// It was put back, and nobody has accepted that yet.
    pub review: bool,
    orders: Vec<Order>,
    calls: Vec<Call>,
    /// Orders over which consumers sleep, each right before its change.
    asleep: Vec<Order>,
    answers: Vec<Answer>,
    pub truth: Truth,
    pub account: Account,
    /// What is left of the bounds.
    pub left: Bounds,
    /// A rule that was broken by the last act.
    pub broken: Option<&'static str>,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    Claim(JobId),
    Proceed(JobId),
    Recheck(JobId),
    LeaseOver(JobId, Fence),
    Deliver(usize, bool),
    /// Which order, whether it is delivered once more, what is answered at once.
    Begin(usize, bool, Option<Says>),
    Land(usize),
    /// Which order, whether it is delivered once more: its consumer falls asleep over it.
    Sleep(usize, bool),
    Wake(usize),
    Cancel,
    Retry,
    Hold,
    Release(i64),
    Pause(Covers),
    Resume(Covers),
    /// The job table is copied.
    Keep,
    /// It is put back to the copy, which is noticed.
    Return,
    /// A person accepts that.
    Accept,
    Tick,
}

impl World {
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            table: Table::new(bounds.shape.base()),
            kept: None,
            epoch: 1,
            review: false,
            orders: Vec::new(),
            calls: Vec::new(),
            asleep: Vec::new(),
            answers: Vec::new(),
            truth: Truth { on: bounds.was, gone: [false; 2], held: None },
            account: Account::default(),
            left: bounds.clone(),
            broken: None,
        }
    }

    /// The job of a stage.
    pub fn job_of(&self, stage: Stage) -> &Job {
        &self.table.jobs[usize::from(stage.index())].0
    }

    /// The restore, if there is one.
    pub fn restore(&self) -> Option<&Job> {
        self.table.jobs.iter().map(|row| &row.0).find(|job| job.kind == JobKind::Restore)
    }

    /// Whether the resource is as it was before anybody touched it.
    pub fn as_it_was(&self) -> bool {
        self.truth.on == self.left.was
    }

    /// Whether a cancel is taken now. It is one of what may happen in every state, so what is seen of it here happens.
    pub fn takes_a_cancel(&self) -> bool {
        self.after(&Act::Cancel).is_some_and(|next| next.broken.is_none())
    }

    /// The same world when hard has just been claimed; none if it cannot be now.
    pub fn just_claimed(&self) -> Option<World> {
        let claimed = self.after(&Act::Claim(self.job_of(Stage::Hard).id))?;
        claimed.job_of(Stage::Hard).state.name().locks().then_some(claimed)
    }

    /// Whether nothing is left of what the plan destroys.
    pub fn all_gone(&self) -> bool {
        let purges = !self.left.shape.base().plan.stage(Stage::Purge).steps.is_empty();
        self.truth.gone[0] && (self.truth.gone[1] || !purges)
    }

    /// Whether a copy of the job table is kept that waits for an answer.
    pub fn copy_waits(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.fences().next().is_some())
    }

    /// Whether an answer to an order of this fence is under way.
    pub fn is_answered(&self, fence: Fence) -> bool {
        self.answers.iter().any(|answer| answer.fence == fence)
    }

    /// How many consumers sleep over an order of this mode although a later one has changed the thing.
    pub fn overtaken(&self, mode: Mode) -> usize {
        let older = |order: &&Order| order.mode == mode && Some(order.fence) < self.truth.held;
        self.asleep.iter().filter(older).count()
    }

    /// Whether a consumer sleeps over the very order that has last changed the thing.
    pub fn repeats(&self) -> bool {
        self.asleep.iter().any(|order| Some(order.fence) == self.truth.held)
    }

    fn deletion(&self) -> Deletion {
        self.table.deletion(self.left.shape.base())
    }

    fn decide(&self, deletion: &Deletion, event: &Event) -> Result<Decision, Refusal> {
        let capacity = |_: &Instance, _: Lane, _: Draw| Capacity::Free;
        let answered = |_: &Instance| None;
        let in_force = self.table.in_force();
        // Greater than any that is remembered: those are numbered from 1.
        let fence = Fence { epoch: self.epoch, number: 1_000 };
        let context = Context {
            now: Timestamp(0),
            day: DAY,
            in_force: &in_force,
            policy: &POLICY,
            review: self.review.then_some(self.epoch),
            fence,
            capacity: &capacity,
            standing: &|_| Standing::Unknown,
            groups: &Groups::default(),
            healthy: &Healthy::always(),
            answered: &answered,
        };
        decide(deletion, event, &context)
    }

    /// Everything anybody may do now, whether or not it will be refused.
    pub fn acts(&self, acts: &mut Vec<Act>) {
        if self.broken.is_some() {
            return;
        }
        // Where the job table is put back, leases run out only after that: there are states enough.
        let leases = self.left.leases > 0 && self.left.returns == 0;
        let fences = if leases { self.fences() } else { Vec::new() };
        for row in &self.table.jobs {
            let id = row.0.id;
            acts.extend([Act::Claim(id), Act::Proceed(id)]);
            acts.extend(fences.iter().map(|fence| Act::LeaseOver(id, *fence)));
        }
        for index in 0..self.answers.len() {
            acts.extend([Act::Deliver(index, false), Act::Deliver(index, true)]);
        }
        for (index, order) in self.orders.iter().enumerate() {
            acts.push(Act::Begin(index, false, None));
            if self.left.copies > 0 {
                acts.push(Act::Begin(index, true, None));
            }
            if self.left.failures > 0 {
                acts.extend([Says::Failed, Says::Refused].map(|says| Act::Begin(index, false, Some(says))));
            }
            if self.left.naps > 0 && order.mode.changes() {
                acts.push(Act::Sleep(index, false));
                if self.left.copies > 0 {
                    acts.push(Act::Sleep(index, true));
                }
            }
        }
        acts.extend((0..self.calls.len()).map(Act::Land));
        acts.extend((0..self.asleep.len()).map(Act::Wake));
        acts.extend([Act::Cancel, Act::Retry, Act::Tick]);
        self.stops(acts);
    }

    /// What stops a deletion, and lets it go on.
    fn stops(&self, acts: &mut Vec<Act>) {
        if self.anything_stops() {
            acts.extend(self.table.jobs.iter().map(|row| Act::Recheck(row.0.id)));
        }
        if self.left.holds > 0 {
            acts.push(Act::Hold);
        }
        acts.extend(self.table.holds.iter().map(|id| Act::Release(*id)));
        if self.left.pauses > 0 {
            acts.extend(Covers::ALL.map(Act::Pause));
        }
        acts.extend(self.table.pauses.iter().map(|covers| Act::Resume(*covers)));
        match &self.kept {
            None if self.left.returns > 0 => acts.push(Act::Keep),
            None => {}
            Some(_) => acts.push(Act::Return),
        }
        if self.review {
            acts.push(Act::Accept);
        }
    }

    /// Whether anything stops a job, or still may: else to look again says nothing.
    fn anything_stops(&self) -> bool {
        self.left.holds > 0
            || self.left.pauses > 0
            || !self.table.holds.is_empty()
            || !self.table.pauses.is_empty()
            || self.table.blockers().next().is_some()
    }

    /// The world afterwards; none if nothing changed.
    pub fn after(&self, act: &Act) -> Option<World> {
        let mut next = self.clone();
        match act {
            Act::Claim(job) => next.commit(&Event::Claim { job: *job })?,
            Act::Proceed(job) => next.commit(&Event::Proceed { job: *job })?,
            Act::Recheck(job) => next.commit(&Event::Recheck { job: *job })?,
            Act::LeaseOver(job, fence) => {
                next.left.leases -= 1;
                next.commit(&Event::LeaseOver { job: *job, fence: *fence })?;
            }
            Act::Cancel => next.commit(&Event::Cancel { by: OPS.clone(), reason: REASON.into() })?,
            Act::Retry => next.commit(&Event::Retry { by: OPS.clone() })?,
            Act::Hold => {
                next.left.holds -= 1;
                next.commit(&Event::PlaceHold { by: OPS.clone(), reason: REASON.into() })?;
            }
            Act::Release(hold) => {
                next.commit(&Event::ReleaseHold { hold: *hold, by: OPS.clone() })?;
            }
            Act::Pause(covers) => {
                next.left.pauses -= 1;
                next.table.pauses.insert(*covers).then_some(())?;
            }
            Act::Resume(covers) => next.table.pauses.remove(covers).then_some(())?,
            Act::Keep => next.kept = Some(next.table.clone()),
            Act::Return => next.put_back()?,
            Act::Accept => next.review = false,
            Act::Deliver(index, again) => next.deliver(*index, *again)?,
            Act::Begin(index, again, says) => next.begin(*index, *again, *says),
            Act::Land(index) => {
                let call = next.calls.remove(*index);
                next.land(&call.order);
            }
            Act::Sleep(index, again) => next.sleep(*index, *again),
            Act::Wake(index) => {
                let order = next.asleep.remove(*index);
                next.land(&order);
            }
            Act::Tick => next.tick()?,
        }
        next.forget();
        (next != *self).then_some(next)
    }

    /// The job table is an older one: it has entered a new epoch, and what it says has to be reviewed.
    fn put_back(&mut self) -> Option<()> {
        self.left.returns -= 1;
        self.table = self.kept.take()?;
        // What was changed stays changed.
        let newest = self.account.newest;
        self.account = Account { holds: self.table.holds.len(), newest, ..Account::default() };
        self.epoch += 1;
        self.review = true;
        Some(())
    }

    fn commit(&mut self, event: &Event) -> Option<()> {
        let before = self.deletion();
        let Ok(decision) = self.decide(&before, event) else { return self.refused(&before, event) };
        let mut after = before.clone();
        for change in &decision.changes {
            after.apply(change);
            if after.jobs.iter().filter(|j| j.state.name().locks()).count() > 1 {
                self.broken = Some("I3: two jobs hold the lock within one decision");
            }
            if let Change::Manifest { step, value, .. } = change {
                let which = self.which(*step);
                let slot = &mut self.table.manifests[which];
                *slot = slot.or(value.as_bool());
            }
        }
        self.judge(&before, &after, event, &decision);
        self.table.write(after);
        for effect in decision.effects {
            let Effect::Order(o) = effect else { continue };
            let (job, stage, step, mode) = (o.job, o.stage, o.step, o.mode);
            let back = matches!(mode, Mode::Undo | Mode::Verify);
            let manifest = self.table.manifests[self.which(step)].filter(|_| back);
            self.orders.push(Order {
                fence: o.fence,
                job,
                stage,
                step,
                mode,
                deadline: o.deadline,
                manifest,
            });
        }
        Some(())
    }
}
