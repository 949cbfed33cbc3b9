//! The invariants, checked after everything that happens: against what is really there, and by rules written down once
//! more rather than asked of the code they are about.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sexton_ledger::DeletionView;
use sexton_model::audit::{AuditEvent, What};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::step::Presence;
use sexton_model::{DeletionId, Fence, ResourceId, Timestamp};
use sexton_protocol::Order;

use super::platform::{Act, Does, State, Things, Truth, deed_of};

mod orders;
mod sequence;

use sequence::Sequences;

/// A rehearsal's day in all runs, in milliseconds.
pub const DAY_MS: u64 = 20_000;
/// A consumer's clock may be wrong by so much, in milliseconds, before it does nothing at all.
const SKEW_MS: u64 = 3_000;
/// After this many milliseconds every consumer that runs has heard of a new epoch.
const EPOCH_HEARD_MS: u64 = 6_000;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// How it shows.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

fn violated(invariant: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { invariant, what })
}

/// What was seen of one trail.
#[derive(Debug, Default)]
struct Trail {
    seen: i64,
    cancelled: bool,
    holds: u32,
    hard_claimed: bool,
}

/// Everything that is remembered for checking.
#[derive(Debug, Default)]
pub struct Checker {
    trails: BTreeMap<DeletionId, Trail>,
    sequences: Sequences,
    /// The highest fence that anything was changed under.
    acted: BTreeMap<ResourceId, Fence>,
    /// How a machine was when its record was made.
    snapshots: BTreeMap<DeletionId, Things>,
    /// Machines that others have changed: nobody promises how they are.
    pub disturbed: BTreeSet<ResourceId>,
    /// Everything is paused.
    pub paused: bool,
    paused_since: Option<Timestamp>,
    /// The job table is under review.
    pub reviewed: bool,
    /// The epoch, and since when.
    pub epoch: (u32, Timestamp),
    /// Decisions that were seen.
    pub events: u64,
    /// Changes that were seen.
    pub changes: u64,
}

impl Checker {
    /// It is that late, truly.
    pub fn at(&mut self, now: Timestamp) {
        self.paused_since = self.paused.then(|| self.paused_since.unwrap_or(now));
    }

    /// A record was made.
    pub fn created(&mut self, id: DeletionId, as_it_was: Things) {
        self.snapshots.insert(id, as_it_was);
    }

    /// The job table went back in time: nothing that was seen of it counts any more.
    pub fn went_back(&mut self, epoch: u32, at: Timestamp, machines: impl Iterator<Item = ResourceId>) {
        self.trails.clear();
        self.sequences.went_back();
        self.epoch = (epoch, at);
        self.disturbed.extend(machines);
    }

    /// Take note of a trail as it is, without judging it.
    pub fn adopt(&mut self, view: &DeletionView) {
        self.sequences.adopt(view);
        let trail = self.trails.entry(view.deletion.id).or_default();
        for row in &view.audit {
            trail.note(&row.event);
            trail.seen = row.seq;
        }
    }

    /// Decisions were made about a deletion. What is new, in words.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn decided(&mut self, view: &DeletionView, truth: &Truth) -> Result<Vec<String>, Violation> {
        let d = &view.deletion;
        let trail = self.trails.entry(d.id).or_default();
        let mut words = Vec::new();
        let before = trail.seen;
        for row in view.audit.iter().filter(|row| row.seq > before) {
            let event = &row.event;
            let told = || format!("{} #{}: {}", d.id, row.seq, in_words(event));
            words.push(told());
            self.events += 1;
            if row.seq != trail.seen + 1 {
                violated("I12", format!("{}, after #{}", told(), trail.seen))?;
            }
            trail.seen = row.seq;
            if event.ordered.is_some() {
                ordered(view, event, trail, (self.paused, self.reviewed), &told)?;
            }
            self.sequences.next(d, row, &told)?;
            orders::stopped(view, event, (self.paused, trail.holds), &told)?;
            if let Some(fence) = event.ordered {
                orders::leased(d, fence, &told)?;
            }
            settled(view, event, truth, &told)?;
            if event.what == What::Cancelled && trail.hard_claimed {
                violated("I5", format!("{}, after hard was claimed", told()))?;
            }
            trail.note(event);
        }
        self.sequences.stands(d, !words.is_empty())?;
        orders::restores(d)?;
        let locked = d.jobs.iter().filter(|job| job.state.name().locks()).count();
        if locked > 1 {
            violated("I3", format!("{}: {locked} jobs lock {}", d.id, d.record.resource.id))?;
        }
        Ok(words)
    }

    /// Something was changed under `order`, whose record stands so; `given` are all orders there ever were.
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
        if act.at > order.deadline.plus_ms(SKEW_MS) && !order.long {
            violated("I10", format!("{}: after the deadline {}", told(), order.deadline))?;
        }
        let highest = self.acted.entry(act.vm.clone()).or_insert(act.fence);
        if *highest > act.fence {
            violated("I10", format!("{}: after something was changed under {highest}", told()))?;
        }
        *highest = act.fence;
        if act.fence.epoch < self.epoch.0 {
            let late = act.at > self.epoch.1.plus_ms(EPOCH_HEARD_MS);
            return if late { violated("I15", format!("{}: of an epoch before", told())) } else { Ok(()) };
        }
        let Some(view) = view else { return violated("I2", format!("{}: there is no record", told())) };
        let d = &view.deletion;
        if !view.audit.iter().any(|row| row.event.ordered == Some(act.fence)) {
            violated("I12", format!("{}: no decision ordered it", told()))?;
        }
        orders::timely(act, order, d, self.paused_since, &told)?;
        let destructive = act.deed.does == Does::Removes;
        if act.was.state != State::Gone && d.record.resource.identity.get("uuid") != Some(&act.was.owner) {
            violated("I2", format!("{}: the record is about {:?}", told(), d.record.resource.identity))?;
        }
        if !d.status.live() || (destructive && d.status != RecordStatus::Live) {
            violated("I2", format!("{}: its record is {}", told(), d.status.word()))?;
        }
        match order.kind {
            JobKind::Stage(stage) => {
                early(view, stage, act.at, &told)?;
                if destructive && stage.reversible() {
                    violated("I4", format!("{}: in {stage}", told()))?;
                }
            }
            JobKind::Restore if act.undo => orders::quiet(order, given, &told)?,
            JobKind::Restore => violated("I4", format!("{}: by a restore", told()))?,
        }
        let definition = truth.thing(&act.vm, "definition");
        let may_remain = d.waivers.iter().any(|waiver| waiver.passes());
        let there = definition.state != State::Gone && definition.owner == act.was.owner;
        if act.thing == "address" && there && !may_remain {
            violated("I6", format!("{}: the machine that uses it is there", told()))?;
        }
        Ok(())
    }

    /// The run is over: what is there must be what the records say.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn ended(&self, view: &DeletionView, truth: &Truth) -> Result<(), Violation> {
        let d = &view.deletion;
        let vm = &d.record.resource.id;
        let ours = |owner: &str| d.record.resource.identity.get("uuid") == Some(owner);
        match d.status {
            RecordStatus::Recycled => {
                let waived = d.waivers.iter().any(|waiver| waiver.claim == WaiverClaim::MayRemain);
                let left = truth.of(vm).into_iter().find(|((_, thing), is)| {
                    ours(&is.owner) && is.state != State::Gone && removed_by_a_plan(thing)
                });
                match left {
                    Some(left) if !waived && !self.disturbed.contains(vm) => {
                        violated("I7", format!("{} is recycled, and there is {left:?}", d.id))
                    }
                    _ => Ok(()),
                }
            }
            RecordStatus::Cancelled if !self.disturbed.contains(vm) => {
                orders::verified(view)?;
                let Some(before) = self.snapshots.get(&d.id) else { return Ok(()) };
                // A later record of the same machine may have changed it again.
                let last = self.trails.keys().filter(|id| self.about(**id) == Some(vm)).max() == Some(&d.id);
                for (key, was) in before.iter().filter(|_| last) {
                    let is = truth.things.get(key);
                    if is != Some(was) {
                        violated("I4", format!("{} is cancelled, {key:?} was {was:?} and is {is:?}", d.id))?;
                    }
                }
                Ok(())
            }
            RecordStatus::Cancelled
            | RecordStatus::Live
            | RecordStatus::Restoring
            | RecordStatus::Rescued => Ok(()),
        }
    }

    fn about(&self, id: DeletionId) -> Option<&ResourceId> {
        self.snapshots.get(&id).and_then(|things| things.keys().next()).map(|(vm, _)| vm)
    }
}

fn removed_by_a_plan(thing: &str) -> bool {
    super::platform::DEEDS.iter().any(|deed| deed.does == Does::Removes && deed.things.contains(&thing))
}

impl Trail {
    fn note(&mut self, event: &AuditEvent) {
        match event.what {
            What::Cancelled => self.cancelled = true,
            What::HoldPlaced => self.holds += 1,
            What::HoldReleased => self.holds = self.holds.saturating_sub(1),
            _ => {}
        }
        self.hard_claimed |= event.job == Some(JobKind::Stage(Stage::Hard)) && event.what == What::Claimed;
    }
}

/// An order was given.
fn ordered(
    view: &DeletionView,
    event: &AuditEvent,
    trail: &Trail,
    (paused, reviewed): (bool, bool),
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
    if trail.cancelled {
        violated("I4", format!("{}: after the cancel", told()))?;
    }
    if paused {
        violated("pause", format!("{}: everything is paused", told()))?;
    }
    if trail.holds > 0 {
        violated("hold", format!("{}: it is held", told()))?;
    }
    early(view, stage, event.at, told)
}

/// That it is not before its date, nor before the grace since the stage before it.
fn early(
    view: &DeletionView,
    stage: Stage,
    at: Timestamp,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let d = &view.deletion;
    let offset = |stage: Stage| i64::from(d.plan.stage(stage).offset_days);
    let days = |days: i64| days * i64::try_from(DAY_MS).unwrap_or(i64::MAX) * 1000;
    let due = d.record.due.moment.map_or(i64::MAX, |moment| moment.0 + days(offset(stage)));
    if at.0 < due {
        violated("I1", format!("{}: {stage} is due at {}", told(), Timestamp(due)))?;
    }
    let Some(before) = Stage::ALL.into_iter().filter(|other| *other < stage).max() else { return Ok(()) };
    let done = |row: &&sexton_ledger::AuditRow| {
        row.event.job == Some(JobKind::Stage(before)) && row.event.state == Some(StateName::Done)
    };
    let Some(ended) = view.audit.iter().find(done).map(|row| row.event.at) else {
        return violated("I1", format!("{}: {before} has not ended", told()));
    };
    let grace = ended.0 + days(offset(stage) - offset(before));
    if at.0 < grace {
        violated("I1", format!("{}: the grace ends at {}", told(), Timestamp(grace)))?;
    }
    Ok(())
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

fn in_words(event: &AuditEvent) -> String {
    let job = event.job.map(|job| format!(" {job}")).unwrap_or_default();
    let step = event.step.as_deref().map(|step| format!(" {step}")).unwrap_or_default();
    let mode = event.mode.map(|mode| format!(" ({})", mode.word())).unwrap_or_default();
    let state = event.state.map(|state| format!(" -> {state:?}")).unwrap_or_default();
    let fence = event.ordered.map(|fence| format!(", ordered {fence}")).unwrap_or_default();
    let detail: String = event.detail.chars().take(120).collect();
    format!("{:?}{job}{step}{mode}{state}{fence} by {} {detail}", event.what, event.by)
}
