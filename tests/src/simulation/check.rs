//! The invariants, checked after everything that happens: against what is really there, and by rules written down once
//! more rather than asked of the code they are about. What a trail alone shows is judged as that of a running system is
//! ([`crate::trail`]).
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sexton_ledger::DeletionView;
use sexton_model::audit::{self, AuditEvent, What};
use sexton_model::deletion::{Deletion, RecordStatus};
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::step::Presence;
use sexton_model::time::Day;
use sexton_model::{DeletionId, Fence, ResourceId, Timestamp};
use sexton_protocol::Order;

use super::allowed::Allowed;
use super::platform::{Act, Call, Does, State, Things, Truth, deed_of};
use super::script::Person;
use crate::trail::{Trail, in_words};

pub use crate::trail::Violation;
pub use ends::left;

pub mod addresses;
mod backups;
pub mod budgets;
pub mod canaries;
pub mod censuses;
mod dates;
mod ends;
pub mod lost;
mod orders;
pub mod parking;
pub mod pauses;
pub mod plans;
mod records;
mod sequence;
pub mod signed;

use budgets::Budgets;
use canaries::Canaries;
use dates::early;
use ends::outlived;
use lost::Lost;
use parking::Warrants;
use pauses::Pauses;
use plans::Pinned;
use records::{Records, is_live};
use sequence::Sequences;
use signed::Signed;

/// A rehearsal's day in all runs, in milliseconds.
pub const DAY_MS: u64 = 20_000;
/// A consumer's clock may be wrong by so much, in milliseconds, before it does nothing at all.
pub const SKEW_MS: u64 = 3_000;
/// What the job table's clock and a consumer's may gain on each other while a beacon is fresh, in milliseconds.
const DRIFT_MS: u64 = 120;
/// After this many milliseconds every consumer that runs has heard of a new epoch.
const EPOCH_HEARD_MS: u64 = 6_000;

fn violated(invariant: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { invariant, what })
}

/// Whether one order was given after another: in a later epoch, or later in the same.
fn newer(one: Fence, other: Fence) -> bool {
    (one.epoch, one.number) > (other.epoch, other.number)
}

/// What was seen of one trail.
#[derive(Debug, Default)]
struct Seen {
    /// By the rules that hold of any trail.
    trail: Trail,
    /// The chain.
    chain: audit::Checker,
}

/// Everything that is remembered for checking.
#[derive(Debug, Default)]
pub struct Checker {
    trails: BTreeMap<DeletionId, Seen>,
    sequences: Sequences,
    records: Records,
    /// The highest fence that each thing was changed under.
    acted: BTreeMap<(ResourceId, &'static str), Fence>,
    /// How a machine was when its record was made.
    snapshots: BTreeMap<DeletionId, Things>,
    /// Records that ended by a cancel, and whose machines were compared then with what they had been.
    taken_back: BTreeSet<DeletionId>,
    /// Machines that others have changed: nobody promises how they are.
    pub disturbed: BTreeSet<ResourceId>,
    /// Records of such machines in whose place there is another one by now, of which everything is asked.
    forgiven: BTreeSet<DeletionId>,
    /// Machines whose record waits for a person.
    pub parked: BTreeSet<ResourceId>,
    /// Machines whose last record is over, so that their names may be used again.
    pub recycled: BTreeSet<ResourceId>,
    /// Machines whose hard stage has not begun, and when it may.
    pub hard_due: BTreeMap<ResourceId, Timestamp>,
    /// What is paused.
    pub pauses: Pauses,
    /// The job table is under review.
    pub reviewed: bool,
    /// The epoch, and since when.
    pub epoch: (u32, Timestamp),
    /// Time that counts for no grace.
    pub lost: Lost,
    /// If the run has some.
    pub budgets: Option<Budgets>,
    /// They, when the job table was copied aside.
    backed_up: Option<Budgets>,
    /// Plans of records.
    pub pinned: Pinned,
    /// What must be refused.
    pub canaries: Canaries,
    /// What coordinators have signed.
    pub signed: Signed,
    /// What makes it right that a record stays parked.
    pub warrants: Warrants,
    /// Batches that were frozen, and those that somebody approved.
    pub frozen: u64,
    /// See [`Self::frozen`].
    pub approved: u64,
    /// Decisions that were seen.
    pub events: u64,
    /// Changes that were seen.
    pub changes: u64,
}

/// A record that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// How its machine was.
    pub as_it_was: Things,
    /// By which plan.
    pub plan: Arc<Plan>,
    /// Who asked for it.
    pub by: Person,
}

impl Checker {
    /// Nothing was seen yet.
    pub fn new(allowed: Option<Allowed>) -> Self {
        Self { budgets: allowed.map(Budgets::new), ..Self::default() }
    }

    /// It is that late by the job table's clock, and some coordinator runs or none does.
    pub fn at(&mut self, by_store: Timestamp, attended: bool) {
        if attended {
            self.lost.somebody(by_store);
        } else {
            self.lost.nobody(by_store);
        }
    }

    /// A record of this machine was made.
    pub fn created(&mut self, id: DeletionId, vm: &ResourceId, made: Made) {
        self.records.created(vm.clone(), id);
        // After the job table was put back a number may be another record's.
        self.forgiven.remove(&id);
        self.warrants.touched(vm);
        self.warrants.made(id, &made.as_it_was);
        self.snapshots.insert(id, made.as_it_was);
        self.pinned.created(id, made.plan);
        if let Some(budgets) = &mut self.budgets {
            budgets.created(id, made.by);
        }
    }

    /// A machine was recycled, and this is another one under its name: of it everything is asked, unless the job table was put back
    /// to before something that was decided about the name.
    pub fn made_anew(&mut self, vm: &ResourceId) {
        if self.warrants.made_anew(vm) && self.disturbed.remove(vm) {
            let before: Vec<DeletionId> =
                self.snapshots.keys().filter(|id| self.about(**id) == Some(vm)).copied().collect();
            self.forgiven.extend(before);
        }
    }

    /// Whether this record is known to have been made.
    pub fn knows(&self, id: DeletionId) -> bool {
        self.records.know(id)
    }

    /// The job table was copied aside.
    pub fn backed_up(&mut self) {
        self.backed_up.clone_from(&self.budgets);
        self.warrants.copied();
    }

    /// The job table went back in time: nothing that was seen of it counts any more, but for what had been in the copy.
    pub fn went_back(&mut self, epoch: u32, at: Timestamp) {
        self.trails.clear();
        self.taken_back.clear();
        self.parked.clear();
        self.recycled.clear();
        self.hard_due.clear();
        self.pinned.went_back();
        // The others stand as they would if nothing had happened to the job table.
        self.disturbed.extend(self.warrants.went_back().cloned());
        self.budgets.clone_from(&self.backed_up);
        self.sequences.went_back();
        self.records.went_back();
        self.signed.went_back();
        self.epoch = (epoch, at);
    }

    /// Take note of a trail as it is, without judging it.
    pub fn adopt(&mut self, view: &DeletionView) {
        self.sequences.adopt(view);
        self.records.stands(view);
        self.stands(&view.deletion);
        self.ends_by_a_cancel(&view.deletion);
        let seen = self.trails.entry(view.deletion.id).or_default();
        for row in &view.audit {
            seen.trail.note(row);
            // One that is broken is told when it goes on.
            seen.chain.see(row.seq, row.body.as_bytes(), row.hash).ok();
            self.pinned.note(view, &row.event);
        }
    }

    /// Decisions were made about a deletion. What is new, in words.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn decided(&mut self, view: &DeletionView, truth: &Truth) -> Result<Vec<String>, Violation> {
        let d = &view.deletion;
        let seen = self.trails.entry(d.id).or_default();
        let mut words = Vec::new();
        let before = seen.trail.seen;
        self.pinned.kept(view)?;
        for row in view.audit.iter().filter(|row| row.seq > before) {
            let event = &row.event;
            let told = || format!("{} #{}: {}", d.id, row.seq, in_words(event));
            words.push(told());
            self.events += 1;
            self.warrants.touched(&d.record.resource.id);
            let linked = seen.chain.see(row.seq, row.body.as_bytes(), row.hash);
            linked.or_else(|broken| violated("I12", format!("{}: {broken}", told())))?;
            if event.ordered.is_some() {
                ordered(view, (event, seen.trail.judged_at(event)), (self.reviewed, &self.lost), &told)?;
            }
            self.sequences.next(d, row, &told)?;
            seen.trail.see(view, row, Day::Rehearsal { length_ms: DAY_MS })?;
            orders::stopped(view, event, &told)?;
            self.pauses.decided(view, event, &told)?;
            if let Some(fence) = event.ordered {
                orders::leased(d, fence, &told)?;
            }
            if let (What::Claimed, Some(JobKind::Stage(stage))) = (event.what, event.job) {
                early(view, stage, (event.at, &self.lost), &told)?;
            }
            settled(view, event, truth, &told)?;
            if event.job == Some(JobKind::Stage(Stage::Recycle)) && event.state == Some(StateName::Done) {
                outlived(d, (truth, &self.disturbed), &told)?;
            }
            self.pinned.decided(view, event, &told)?;
            if let (What::Claimed, Some(JobKind::Stage(stage)), Some(budgets)) =
                (event.what, event.job, &mut self.budgets)
            {
                budgets.claimed(view, (stage, event.at), !self.lost.went_back(), &told)?;
            }
        }
        self.stands(d);
        if self.ends_by_a_cancel(d) {
            self.as_it_was(view, truth, true)?;
        }
        self.sequences.stands(d, !words.is_empty())?;
        orders::restores(d)?;
        self.pauses.stopped(d)?;
        self.records.stands(view);
        Ok(words)
    }

    /// All that was made and decided since the last look was told: nothing of it is in the way of anything else.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn beside(&self) -> Result<(), Violation> {
        self.records.beside()
    }

    /// Somebody went on to change something under `order`, whose record stands so, if that is asked for: whether or not anything
    /// was left to change, they may not have.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn called(
        &mut self,
        call: &Call,
        order: Option<&Order>,
        view: Option<&DeletionView>,
    ) -> Result<(), Violation> {
        let Call { vm, deed, fence, process, .. } = call;
        let told = || format!("{vm}: process {process} goes on with {} under {fence}", deed.action);
        let Some(order) = order else { return violated("I2", format!("{}: nobody ordered it", told())) };
        if newer(call.newest, *fence) {
            violated("I10", format!("{}: it was asked for {} before", told(), call.newest))?;
        }
        let late = call.by_store > order.deadline.plus_ms(SKEW_MS + DRIFT_MS);
        if late && !self.lost.heard(call.at) {
            return Ok(());
        }
        if late && !order.long {
            violated("I10", format!("{}: after the deadline {}", told(), order.deadline))?;
        }
        if fence.epoch < self.epoch.0 {
            if call.at > self.epoch.1.plus_ms(EPOCH_HEARD_MS) {
                violated("I15", format!("{}: of an epoch before", told()))?;
            }
            return Ok(());
        }
        let at = (call.at, deed.subsystem);
        view.map_or(Ok(()), |view| self.pauses.acted(at, order, &view.deletion, &told))
    }

    /// Something was changed under `order`, whose record stands so; `given` are all orders that there ever were.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn acted(
        &mut self,
        act: &Act,
        (order, given): (Option<&Order>, &BTreeMap<Fence, Order>),
        view: Option<&DeletionView>,
        truth: &Truth,
    ) -> Result<(), Violation> {
        self.changes += 1;
        let told = || {
            format!(
                "{} {}: {:?} -> {:?} by process {} under {}",
                act.vm, act.thing, act.was, act.now, act.process, act.fence
            )
        };
        let Some(order) = order else { return violated("I2", format!("{}: nobody ordered it", told())) };
        self.canaries.acted(act, order, &told)?;
        orders::always(act, order, truth, &told)?;
        self.warrants.touched(&act.vm);
        if act.fence.epoch >= self.epoch.0 {
            // Of an epoch before, the number may be another record's by now.
            self.pinned.acted(act, order, &told)?;
        }
        let late = act.by_store > order.deadline.plus_ms(SKEW_MS + DRIFT_MS);
        if late && !self.lost.heard(act.at) {
            // The clock jumped while the order was out: it is over for the job table, and its consumer cannot know that yet.
            // Whoever comes after it may be beside it, and its record be over.
            self.disturbed.insert(act.vm.clone());
            self.warrants.raced(&act.vm);
            return Ok(());
        }
        if late && !order.long {
            violated("I10", format!("{}: after the deadline {}", told(), order.deadline))?;
        }
        let before = self.epoch.0;
        if act.fence.epoch < before && act.at > self.epoch.1.plus_ms(EPOCH_HEARD_MS) {
            violated("I15", format!("{}: of an epoch before", told()))?;
        }
        let highest = self.acted.entry((act.vm.clone(), act.thing)).or_insert(act.fence);
        if newer(*highest, act.fence) {
            violated("I10", format!("{}: after it was changed under {highest}", told()))?;
        }
        *highest = act.fence;
        if act.fence.epoch < before {
            self.disturbed.insert(act.vm.clone());
            self.warrants.outlived(&act.vm);
            return Ok(());
        }
        let Some(view) = view else { return violated("I2", format!("{}: there is no record", told())) };
        let d = &view.deletion;
        if !view.audit.iter().any(|row| row.event.ordered == Some(act.fence)) {
            violated("I12", format!("{}: no decision ordered it", told()))?;
        }
        orders::timely(act, order, d, &told)?;
        self.pauses.acted((act.at, act.deed.subsystem), order, d, &told)?;
        let destructive = act.deed.does == Does::Removes;
        if act.was.state != State::Gone && d.record.resource.identity.get("uuid") != Some(&act.was.owner) {
            violated("I2", format!("{}: the record is about {:?}", told(), d.record.resource.identity))?;
        }
        if !is_live(d.status) || (destructive && d.status != RecordStatus::Live) {
            violated("I2", format!("{}: its record is {}", told(), d.status.word()))?;
        }
        if !self.disturbed.contains(&act.vm) && !truth.deceived.contains(&act.vm) {
            backups::destroyed(act, d, truth, &told)?;
        }
        match order.kind {
            // If the clock has gone back since it was given: it was not too early then.
            JobKind::Stage(stage) => {
                early(view, stage, (act.by_store.max(order.issued_at), &self.lost), &told)
            }
            JobKind::Restore => orders::quiet(order, given, &told),
        }
    }

    /// A record stands so. Of those that are over nothing is decided any more: it is the last one of its machine.
    fn stands(&mut self, d: &Deletion) {
        let vm = &d.record.resource.id;
        let parked = d.jobs.iter().any(|job| matches!(job.state, JobState::Parked { .. }));
        for (set, is) in
            [(&mut self.parked, parked), (&mut self.recycled, d.status == RecordStatus::Recycled)]
        {
            if is {
                set.insert(vm.clone());
            } else {
                set.remove(vm);
            }
        }
        match d.stage_job(Stage::Hard).map(|job| &job.state) {
            Some(JobState::Scheduled { due_at: Some(at) }) => self.hard_due.insert(vm.clone(), *at),
            Some(_) | None => self.hard_due.remove(vm),
        };
    }

    fn about(&self, id: DeletionId) -> Option<&ResourceId> {
        self.snapshots.get(&id).and_then(|things| things.keys().next()).map(|(vm, _)| vm)
    }
}

/// An order was given.
fn ordered(
    view: &DeletionView,
    (event, at): (&AuditEvent, Timestamp),
    (reviewed, lost): (bool, &Lost),
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    if reviewed {
        violated("I15", format!("{}: under review", told()))?;
    }
    let Some(JobKind::Stage(stage)) = event.job else { return Ok(()) };
    if event.state == Some(StateName::Cancelled) {
        // The last order of a cancelled stage is over, and the first one of the restore is given.
        return Ok(());
    }
    early(view, stage, (at, lost), told)
}

/// A step was answered: what is taken for absent is.
fn settled(
    view: &DeletionView,
    event: &AuditEvent,
    truth: &Truth,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let Some(deed) = event.step.as_deref().and_then(deed_of) else { return Ok(()) };
    if deed.does != Does::Removes || event.what != What::Settled {
        return Ok(());
    }
    if event.presence != Some(Presence::Absent) {
        let went_on = matches!(event.state, Some(StateName::Running | StateName::Ready | StateName::Done));
        return if went_on { violated("I9", format!("{}: nobody saw it gone", told())) } else { Ok(()) };
    }
    let resource = &view.deletion.record.resource;
    for thing in deed.things {
        let is = truth.thing(&resource.id, thing);
        if is.state != State::Gone && resource.identity.get("uuid") == Some(&is.owner) {
            violated("I9", format!("{}: {thing} is taken for absent, and is {is:?}", told()))?;
        }
    }
    Ok(())
}
