//! What people decide: cancel, hold, park, retry, waive, rescue.
use super::dispatch::{self, advance, begin_restore, go_on, mode};
use super::drift::marked;
use super::{Change, Draft, Refusal, heading, notice, seen};
use crate::access::is_own;
use crate::audit::What;
use crate::belts::resource_hold::{HOLDS_MAX, RELEASE, is_others};
use crate::deletion::{Hold, REASON_MAX, RecordStatus, Waiver, WaiverClaim};
use crate::id::Actor;
use crate::job::{Blocker, Job, JobKind, JobState, Phase, Stage};
use crate::receipt::{PRESENT_UNTIL, present_until};
use crate::resource::Presence as ResourcePresence;
use crate::step::Mode;
use crate::undo::salvage;

pub(super) fn given(what: &'static str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() || text.chars().count() > REASON_MAX {
        return Err(Refusal::Missing(what));
    }
    Ok(())
}

/// What stopped a deletion is passed by what a second person says, and not by who requested it.
pub(super) fn second_person(draft: &Draft<'_>, by: &Actor, what: &'static str) -> Result<(), Refusal> {
    if is_own(&draft.deletion.record.requested_by, by) {
        return Err(Refusal::Requested { by: by.clone(), what });
    }
    Ok(())
}

/// The resource is wanted back. One decision: every stage job ends, and the restore takes over the lock, or
/// waits for the one order that is out.
pub(super) fn cancel(draft: &mut Draft<'_>, by: &Actor, reason: &str) -> Result<(), Refusal> {
    given("reason", reason)?;
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    if let Some(reached) =
        [Stage::Recycle, Stage::Purge, Stage::Hard].into_iter().find(|stage| draft.deletion.claimed(*stage))
    {
        let still = salvage(&draft.deletion, draft.context.day, draft.now());
        return Err(Refusal::TooLate { reached, still });
    }
    let mut audit = heading(draft.now(), What::Cancelled, by.as_str(), None);
    audit.detail = reason.to_owned();
    draft.record(audit);
    let mut out = false;
    for job in draft.deletion.jobs.clone() {
        let state = match job.state {
            JobState::Scheduled { .. }
            | JobState::Held { .. }
            | JobState::Ready { .. }
            | JobState::Waiting { .. }
            | JobState::Parked { .. } => JobState::Cancelled,
            JobState::Running(order) => {
                out = true;
                JobState::Cancelling(order)
            }
            JobState::Cancelling(_) | JobState::Done | JobState::Cancelled | JobState::Rescued => continue,
        };
        let ended_at = (state == JobState::Cancelled).then(|| draft.now());
        draft.put(Job { state, ended_at, ..job });
    }
    draft.happened("cancelled", reason);
    draft.change(Change::Status(RecordStatus::Restoring));
    if !out {
        begin_restore(draft);
    }
    Ok(())
}

/// One more reason not to go on.
pub(super) fn place_hold(draft: &mut Draft<'_>, by: &Actor, reason: &str) -> Result<(), Refusal> {
    given("reason", reason)?;
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    if draft.deletion.holds.len() >= HOLDS_MAX {
        return Err(Refusal::TooManyHolds);
    }
    let hold = Hold {
        // The audit chain's next number: unique within the deletion without a sequence of its own.
        id: draft.deletion.audit_seq + 1,
        origin: by.clone(),
        reason: reason.to_owned(),
        since: draft.now(),
    };
    let mut audit = heading(draft.now(), What::HoldPlaced, by.as_str(), None);
    audit.detail = reason.to_owned();
    draft.record(audit);
    draft.change(Change::HoldPlaced(hold));
    Ok(())
}

/// One reason less. What only this one held is due again at once. Whoever requested the deletion takes back what they have
/// placed themselves; what another has is released by somebody else.
pub(super) fn release_hold(draft: &mut Draft<'_>, hold: i64, by: &Actor) -> Result<(), Refusal> {
    let Some(found) = draft.deletion.holds.iter().find(|h| h.id == hold).cloned() else {
        return Err(Refusal::NoSuchHold(hold));
    };
    if is_others(&found, &draft.deletion.record.requested_by, by) {
        return Err(Refusal::Requested { by: by.clone(), what: RELEASE });
    }
    let mut audit = heading(draft.now(), What::HoldReleased, by.as_str(), None);
    audit.detail = format!("{}: {}", found.origin, found.reason);
    draft.record(audit);
    draft.change(Change::HoldReleased(hold));
    if !draft.deletion.holds.is_empty() {
        return Ok(());
    }
    for job in draft.deletion.jobs.clone() {
        let state = match &job.state {
            JobState::Held { due_at, by: Blocker::Hold { .. } } => {
                JobState::Scheduled { due_at: Some(*due_at) }
            }
            JobState::Ready { since, blocked: Some(Blocker::Hold { .. }) } => {
                JobState::Ready { since: *since, blocked: None }
            }
            JobState::Scheduled { .. }
            | JobState::Held { .. }
            | JobState::Ready { .. }
            | JobState::Running(_)
            | JobState::Waiting { .. }
            | JobState::Cancelling(_)
            | JobState::Parked { .. }
            | JobState::Done
            | JobState::Cancelled
            | JobState::Rescued => continue,
        };
        draft.put(Job { state, ..job });
    }
    Ok(())
}

fn parked(draft: &Draft<'_>) -> Result<Job, Refusal> {
    draft
        .deletion
        .jobs
        .iter()
        .find(|job| matches!(job.state, JobState::Parked { .. }))
        .cloned()
        .ok_or(Refusal::NothingParked)
}

/// A person has to look, says a person: about a job whose instance is gone, or that is put off again and again.
/// From there on it can be tried again, or its step let pass.
pub(super) fn park(draft: &mut Draft<'_>, by: &Actor, reason: &str) -> Result<(), Refusal> {
    given("reason", reason)?;
    let found = draft.deletion.jobs.iter().find(|job| match job.state {
        JobState::Ready { .. } | JobState::Waiting { .. } => true,
        JobState::Scheduled { .. }
        | JobState::Held { .. }
        | JobState::Running(_)
        | JobState::Cancelling(_)
        | JobState::Parked { .. }
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => false,
    });
    let job = found.cloned().ok_or(Refusal::NothingToPark)?;
    let mut audit = heading(draft.now(), What::Parked, by.as_str(), Some(job.kind));
    audit.detail = reason.to_owned();
    draft.record(audit);
    dispatch::park(draft, job, format!("parked by {by}: {reason}"));
    Ok(())
}

/// The parked step is tried again, with all its attempts.
pub(super) fn retry(draft: &mut Draft<'_>, by: &Actor) -> Result<(), Refusal> {
    let mut job = parked(draft)?;
    if draft.deletion.step_at(&job).is_none() {
        return Err(Refusal::NameInUse(draft.deletion.may_remain().join(", ")));
    }
    draft.record(heading(draft.now(), What::Retried, by.as_str(), Some(job.kind)));
    job.attempts = 0;
    job.in_vain = 0;
    // An undo that did not hold is done again: looking once more would only find the same.
    if job.phase == Phase::Verify {
        job.phase = Phase::Act;
    }
    go_on(draft, job);
    Ok(())
}

/// The parked step is let pass, unless what appeared is stated to belong to the deletion. At the end of recycle no step
/// is left: what is let pass then is everything that was waived as "may remain" before, and only because somebody has
/// seen that it is gone. Of a stage by somebody else than who requested the deletion; a restore takes nothing away. Whatever
/// is stated is stated of what the person has looked at.
pub(super) fn waive(
    draft: &mut Draft<'_>,
    by: &Actor,
    (claim, mark): (WaiverClaim, &str),
    evidence: &str,
) -> Result<(), Refusal> {
    given("evidence", evidence)?;
    let mut job = parked(draft)?;
    if matches!(claim, WaiverClaim::Untold | WaiverClaim::Told | WaiverClaim::Bounced)
        || notice::at(&draft.deletion, &job)
    {
        return Err(Refusal::NotWaived);
    }
    if job.kind != JobKind::Restore {
        second_person(draft, by, "let what stopped it pass")?;
    }
    seen::same(&draft.deletion, mark)?;
    if claim == WaiverClaim::Belongs {
        return belongs(draft, by, evidence, job);
    }
    let evidence = &with_date(claim, evidence, &job);
    let step = draft.deletion.step_at(&job).map(|(_, _, step)| step.name.clone());
    if step.is_none() && claim == WaiverClaim::MayRemain {
        return Err(Refusal::NameInUse(draft.deletion.may_remain().join(", ")));
    }
    let mut audit = heading(draft.now(), What::Waived, by.as_str(), Some(job.kind));
    audit.detail = format!("{}: {evidence}", claim.words());
    audit.step.clone_from(&step);
    draft.record(audit);
    draft.change(Change::Waived(Waiver {
        slot: job.kind.slot(),
        step: job.cursor,
        claim,
        by: by.clone(),
        evidence: evidence.clone(),
        at: draft.now(),
        untouched: !job.touched,
        shown: None,
    }));
    if step.is_some() {
        advance(&mut job);
    }
    go_on(draft, job);
    Ok(())
}

/// The evidence of what may remain, with the date until which it does if the subsystem has shown one: the receipt names
/// that, also if whoever states it has not written it down.
fn with_date(claim: WaiverClaim, evidence: &str, job: &Job) -> String {
    let shown = match &job.state {
        JobState::Parked { reason } if claim == WaiverClaim::MayRemain => present_until(reason),
        _ => None,
    };
    match shown.filter(|_| present_until(evidence).is_none()) {
        Some(date) => format!("{evidence}; shown was: {PRESENT_UNTIL}{date}"),
        None => evidence.to_owned(),
    }
}

/// What appeared is to be deleted, too. It is read again, since something else may have appeared meanwhile, and only what
/// was shown under the mark that the person has named joins the targets.
fn belongs(draft: &mut Draft<'_>, by: &Actor, evidence: &str, mut job: Job) -> Result<(), Refusal> {
    let step = draft.deletion.step_at(&job).map(|(_, _, step)| (step.name.clone(), step.nature));
    let JobState::Parked { reason } = &job.state else { return Err(Refusal::NothingParked) };
    let Some((step, nature)) = step else { return Err(Refusal::NothingAppeared) };
    if mode(job.kind, job.phase, nature) != Mode::Reread {
        return Err(Refusal::NothingAppeared);
    }
    let shown = reason.clone();
    if marked(&step, &shown).is_none() {
        return Err(Refusal::NothingAppeared);
    }
    let mut audit = heading(draft.now(), What::Waived, by.as_str(), Some(job.kind));
    audit.detail = format!("{}: {evidence}", WaiverClaim::Belongs.words());
    audit.step = Some(step);
    draft.record(audit);
    draft.change(Change::Waived(Waiver {
        slot: job.kind.slot(),
        step: job.cursor,
        claim: WaiverClaim::Belongs,
        by: by.clone(),
        evidence: evidence.to_owned(),
        at: draft.now(),
        untouched: !job.touched,
        shown: Some(shown),
    }));
    job.attempts = 0;
    job.in_vain = 0;
    go_on(draft, job);
    Ok(())
}

/// The resource was saved by hand, between the end of cancel and the point of no return.
pub(super) fn rescue(draft: &mut Draft<'_>, by: &Actor, evidence: &str) -> Result<(), Refusal> {
    given("evidence", evidence)?;
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    if !draft.deletion.claimed(Stage::Hard) {
        return Err(Refusal::NoRescue("it can still be cancelled"));
    }
    if draft.deletion.claimed(Stage::Purge) {
        return Err(Refusal::NoRescue("purge has begun"));
    }
    let quiet = draft.deletion.quiet_after();
    if draft.now() <= quiet {
        return Err(Refusal::OrderMayRun(quiet));
    }
    let mut audit = heading(draft.now(), What::Rescued, by.as_str(), None);
    audit.detail = evidence.to_owned();
    draft.record(audit);
    for job in draft.deletion.jobs.clone() {
        if !job.state.name().over() {
            draft.put(Job { state: JobState::Rescued, ended_at: Some(draft.now()), ..job });
        }
    }
    draft.change(Change::Status(RecordStatus::Rescued));
    draft.change(Change::Resource(ResourcePresence::Registered));
    draft.happened("rescued", evidence);
    Ok(())
}
