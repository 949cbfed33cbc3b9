//! What holds for orders, whatever they are about: when none is given, how long they last, and what must not be beside them.
use std::collections::BTreeMap;

use sexton_ledger::DeletionView;
use sexton_model::Fence;
use sexton_model::audit::{AuditEvent, What};
use sexton_model::deletion::Deletion;
use sexton_model::job::{Job, JobKind, JobState, StateName};
use sexton_model::step::Mode;
use sexton_protocol::Order;

use super::{Act, Violation, violated};
use crate::simulation::platform::{Does, State, Truth};

pub(super) use crate::trail::course::{can_be_cancelled, verified};

/// By so many milliseconds the clocks of consumers that act differ at most: leases, and the quiet before an undo, cover it.
const SKEW_MS: u64 = 3_000;
/// What another one may get as soon as nobody has it, or what is refused from then on to whoever still uses it.
const GIVEN_AWAY: [&str; 3] = ["address", "name", "key"];

/// No stage begins or goes on of what is protected.
///
/// # Errors
/// What does not hold.
pub(super) fn stopped(
    view: &DeletionView,
    event: &AuditEvent,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let goes_on = event.ordered.is_some() && event.state != Some(StateName::Cancelled);
    if !matches!(event.job, Some(JobKind::Stage(_))) || !(goes_on || event.what == What::Claimed) {
        return Ok(());
    }
    if view.deletion.protected {
        violated("protection", format!("{}: it is protected", told()))?;
    }
    Ok(())
}

/// Nothing stops a restore.
///
/// # Errors
/// What does.
pub(super) fn restores(d: &Deletion) -> Result<(), Violation> {
    let waits =
        |job: &&Job| matches!(job.state, JobState::Held { .. } | JobState::Ready { blocked: Some(_), .. });
    match d.jobs.iter().filter(|job| job.kind == JobKind::Restore).find(waits) {
        Some(job) => violated("restore", format!("{}: {:?}", d.id, job.state)),
        None => Ok(()),
    }
}

/// The lease of an order that is out covers whatever may come of it: its deadline by the slowest clock, and a call that was
/// begun then.
///
/// # Errors
/// The invariant that does not hold.
pub(super) fn leased(d: &Deletion, fence: Fence, told: &impl Fn() -> String) -> Result<(), Violation> {
    for job in &d.jobs {
        let Some(out) = job.state.out().filter(|out| out.fence == fence) else { continue };
        let Some((_, _, step)) = d.step_at(job) else { continue };
        let covered = out.deadline.plus_ms(step.longest_call_ms).plus_ms(SKEW_MS);
        if out.lease_until < covered {
            violated("I10", format!("{}: leased until {}, not {covered}", told(), out.lease_until))?;
        }
    }
    Ok(())
}

/// A consumer has no more time than the plan gives to the step.
///
/// # Errors
/// The invariant that does not hold.
pub(super) fn timely(
    act: &Act,
    order: &Order,
    d: &Deletion,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let name = format!("{}.{}", act.deed.subsystem, act.deed.action);
    let step = d.plan.stages.iter().flat_map(|stage| &stage.steps).find(|step| step.name == name);
    if let Some(step) = step.filter(|step| order.deadline > order.issued_at.plus_ms(step.deadline_ms)) {
        let most = step.deadline_ms;
        violated("I10", format!("{}: its deadline is {}, not {most} ms", told(), order.deadline))?;
    }
    Ok(())
}

/// What holds of every change, however late, and whatever epoch ordered it: it is about the very machine that the order is
/// about, nothing is removed in a stage that can be taken back, a restore only takes back, and no address, name or key is given
/// away while the machine that uses it is there. Whatever people have waived: they say that something is gone only if it is, and
/// of what may remain none of these is to be released.
///
/// # Errors
/// The invariant that does not hold.
pub(super) fn always(
    act: &Act,
    order: &Order,
    truth: &Truth,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    if act.was.state != State::Gone && order.identity.get("uuid") != Some(&act.was.owner) {
        violated("I2", format!("{}: the order is about {:?}", told(), order.identity))?;
    }
    match order.kind {
        JobKind::Stage(stage) if can_be_cancelled(stage) && act.deed.does == Does::Removes => {
            violated("I4", format!("{}: in {stage}", told()))?;
        }
        JobKind::Restore if !act.undo => violated("I4", format!("{}: by a restore", told()))?,
        JobKind::Stage(_) | JobKind::Restore => {}
    }
    let definition = truth.thing(&act.vm, "definition");
    let there = definition.state != State::Gone && definition.owner == act.was.owner;
    if GIVEN_AWAY.contains(&act.thing) && there {
        violated("I6", format!("{}: the machine that uses it is there", told()))?;
    }
    Ok(())
}

/// Nothing is undone while an order of the stages may still be carried out, by the slowest clock.
///
/// # Errors
/// The invariant that does not hold.
pub(super) fn quiet(
    undo: &Order,
    given: &BTreeMap<Fence, Order>,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let of_a_stage = |other: &&Order| {
        other.deletion == undo.deletion
            && other.fence.epoch == undo.fence.epoch
            && other.kind != JobKind::Restore
            && other.mode == Mode::Perform
    };
    let may_come = |other: &&Order| other.deadline.plus_ms(SKEW_MS) > undo.issued_at;
    match given.values().filter(of_a_stage).find(may_come) {
        Some(other) => {
            let (fence, deadline) = (other.fence, other.deadline);
            violated("I4", format!("{}: {fence} may be carried out until {deadline}", told()))
        }
        None => Ok(()),
    }
}
