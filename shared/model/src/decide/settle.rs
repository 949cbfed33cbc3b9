//! What answers, progress and leases that ran out mean.
use super::dispatch::{Term, advance, begin_restore, go_on, lane, mode, park, term};
use super::{COORDINATOR, Capacity, Change, Draft, Effect, PlanStep, Refusal, heading};
use super::{drift, notice};
use crate::audit::What;
use crate::belts;
use crate::catalogue::Nature;
use crate::credit::Draw;
use crate::id::{Fence, Instance, JobId};
use crate::job::{Job, JobState, Out, Phase, Stage};
use crate::retry;
use crate::step::{self, Mode, Outcome, Presence, RetryClass};
use crate::time::Timestamp;

/// The step an order is out for.
struct Asked {
    job: Job,
    out: Out,
    stage: Stage,
    index: u16,
    step: PlanStep,
    mode: Mode,
}

/// The order `fence` of job `id`, if it is still out and `from`, if given, is who was asked. An answer is to an
/// order of this epoch: what was out when the ledger went back runs into its lease, and is given again.
fn asked(draft: &Draft<'_>, id: JobId, fence: Fence, from: Option<&Instance>) -> Result<Asked, Refusal> {
    let job = draft.job(id)?;
    let stale = Refusal::Stale { job: id, fence };
    if from.is_some() && fence > draft.context.fence {
        return Err(Refusal::NeverGiven { job: id, fence });
    }
    if from.is_some() && fence.epoch != draft.context.fence.epoch {
        return Err(stale);
    }
    let out = *job.state.out().filter(|out| out.fence == fence).ok_or(stale.clone())?;
    let (stage, index, step) = draft.step_at(&job).ok_or(stale)?;
    if let Some(from) = from
        && draft.deletion.instance_for(&step).as_ref() != Some(from)
    {
        return Err(Refusal::NotAsked { job: id, from: from.clone() });
    }
    let mode = mode(job.kind, job.phase, step.nature);
    Ok(Asked { job, out, stage, index, step, mode })
}

/// A consumer answered.
pub(super) fn outcome(
    draft: &mut Draft<'_>,
    id: JobId,
    from: &Instance,
    fence: Fence,
    outcome: &Outcome,
) -> Result<(), Refusal> {
    let asked = asked(draft, id, fence, Some(from))?;
    let mut audit = heading(draft.now(), What::Settled, COORDINATOR, Some(asked.job.kind));
    audit.step = Some(asked.step.name.clone());
    audit.mode = Some(asked.mode);
    audit.fence = Some(fence);
    match outcome {
        Outcome::Done { presence, evidence, .. } => {
            audit.presence = Some(*presence);
            audit.detail.clone_from(evidence);
        }
        Outcome::Retry { reason, .. } | Outcome::Refused { reason } => audit.detail.clone_from(reason),
    }
    draft.record(audit);
    if matches!(asked.job.state, JobState::Cancelling(_)) {
        // What the step created joins the targets all the same: the restore has to find it.
        if let (Mode::Perform, Outcome::Done { finding: Some(value), .. }) = (asked.mode, outcome) {
            let instance = from.clone();
            draft.change(Change::Targets { instance, value: value.clone(), join: true });
        }
        end_cancelled(draft, asked.job);
        return Ok(());
    }
    match outcome {
        // A call that was under way came in after the undo: it is undone once more. If it is somebody else's
        // doing, the undo refuses, and that parks.
        Outcome::Refused { reason } if asked.mode == Mode::Verify => undo_again(draft, asked, reason),
        Outcome::Done { presence, finding, .. } => done(draft, asked, *presence, finding.as_ref()),
        Outcome::Retry { class, reason } => try_again(draft, asked, *class, reason),
        Outcome::Refused { reason } => {
            let reason = step::refusal(&asked.step.name, reason);
            park(draft, asked.job, reason);
        }
    }
    Ok(())
}

fn done(draft: &mut Draft<'_>, asked: Asked, presence: Presence, finding: Option<&serde_json::Value>) {
    if let Some(reason) = unbelievable(asked.mode, asked.step.nature, presence, finding) {
        return try_again(draft, asked, RetryClass::Failed, &reason);
    }
    let Asked { mut job, stage, index, step, mode, .. } = asked;
    match mode {
        Mode::Inspect => {
            if let (Some(value), Some(instance)) = (finding, draft.deletion.instance_for(&step)) {
                draft.change(Change::Targets { instance, value: value.clone(), join: false });
            }
            advance(&mut job);
        }
        Mode::Reread => {
            let appeared = finding.cloned().unwrap_or_default();
            return drift::reread(draft, job, (stage, index), &step, &appeared);
        }
        Mode::Capture => {
            if let Some(value) = finding {
                draft.change(Change::Manifest { slot: stage.index(), step: index, value: value.clone() });
            }
            job.phase = Phase::Act;
            job.attempts = 0;
            job.in_vain = 0;
        }
        Mode::Perform => {
            if let (Some(value), Some(instance)) = (finding, draft.deletion.instance_for(&step)) {
                draft.change(Change::Targets { instance, value: value.clone(), join: true });
            }
            advance(&mut job);
        }
        Mode::Undo => {
            // The attempts go on counting: an undo that never holds parks in the end.
            job.phase = Phase::Verify;
            job.in_vain = 0;
        }
        Mode::Verify => advance(&mut job),
    }
    go_on(draft, job);
}

/// Why a `done` does not count, if it does not. The SDK never says such a thing; whoever holds the key of an
/// instance may.
pub(crate) fn unbelievable(
    mode: Mode,
    nature: Nature,
    presence: Presence,
    finding: Option<&serde_json::Value>,
) -> Option<String> {
    let wanted = match (mode, nature) {
        // From hard on it may be gone. Whether it may before is known to whom knows what was pinned.
        (Mode::Reread, _) if presence == Presence::Absent => Presence::Absent,
        // Neither an error nor `unknown` ever counts as absent: only what was seen to be gone is done.
        (Mode::Perform, Nature::Destructive) => Presence::Absent,
        // What is to be deleted, was switched off or came back is there: if it is not, a person has to look.
        (Mode::Perform, Nature::Inspect | Nature::Check | Nature::Adds | Nature::Reversible)
        | (Mode::Inspect | Mode::Reread | Mode::Capture | Mode::Undo | Mode::Verify, _) => Presence::Present,
    };
    if presence != wanted {
        return Some(format!("{mode:?} was answered done, but {presence:?} was seen, not {wanted:?}"));
    }
    let looks = match mode {
        Mode::Inspect | Mode::Reread | Mode::Capture => true,
        Mode::Perform | Mode::Undo | Mode::Verify => false,
    };
    let says = finding.is_some_and(|finding| mode != Mode::Reread || finding.is_object());
    (looks && !says).then(|| format!("{mode:?} was answered done, but says nothing of what was seen"))
}

fn try_again(draft: &mut Draft<'_>, asked: Asked, class: RetryClass, reason: &str) {
    let Asked { mut job, out, step, .. } = asked;
    if let Some(since) = notice::failed(draft, &job, reason) {
        return notice::try_again(draft, job, since, reason);
    }
    // A long step that was not extended because of a belt has not failed.
    let stopped = step.long
        && draft.now() >= out.deadline
        && belts::blocker(&draft.deletion, &job, draft.context).is_some();
    let class = if stopped { RetryClass::Spared } else { class };
    let delay_ms = match class {
        RetryClass::Spared => {
            job.in_vain += 1;
            if retry::in_vain_too_often(job.kind, job.in_vain) {
                let reason = format!("{} was put off too often: {reason}", step.name);
                return park(draft, job, reason);
            }
            retry::spared_delay_ms(job.id, job.kind, job.in_vain)
        }
        RetryClass::Failed => {
            job.attempts += 1;
            job.in_vain = 0;
            if job.attempts >= step.max_attempts {
                let reason = format!("{} failed {} times: {reason}", step.name, job.attempts);
                return park(draft, job, reason);
            }
            retry::delay_ms(job.id, job.kind, job.attempts)
        }
    };
    job.state = JobState::Waiting { until: draft.now().plus_ms(delay_ms), reason: reason.to_owned() };
    draft.put(job);
}

fn undo_again(draft: &mut Draft<'_>, asked: Asked, reason: &str) {
    let Asked { mut job, step, .. } = asked;
    job.attempts += 1;
    if job.attempts >= step.max_attempts {
        let reason = format!("{}: its undo does not hold: {reason}", step.name);
        return park(draft, job, reason);
    }
    job.phase = Phase::Act;
    job.in_vain = 0;
    go_on(draft, job);
}

/// The order that was out when it was cancelled is over: nothing of this job acts any more, the restore
/// begins.
fn end_cancelled(draft: &mut Draft<'_>, mut job: Job) {
    job.state = JobState::Cancelled;
    job.ended_at = Some(draft.now());
    draft.put(job);
    begin_restore(draft);
}

/// A consumer began or goes on. An order whose time grows short is extended, for its first performer only, and
/// not while a belt covers the job: it ends at its deadline then, and its outcome finds the belt.
///
/// Extended with three quarters of the deadline left: an extension may be lost, and nothing says so. The next two
/// come before the performer has to stop.
pub(super) fn progress(
    draft: &mut Draft<'_>,
    id: JobId,
    from: &Instance,
    fence: Fence,
    performer: u64,
) -> Result<(), Refusal> {
    let Asked { mut job, mut out, step, .. } = asked(draft, id, fence, Some(from))?;
    if matches!(job.state, JobState::Cancelling(_)) || out.performer.is_some_and(|p| p != performer) {
        return Err(Refusal::Stale { job: id, fence });
    }
    if draft.now() >= out.deadline {
        return Err(Refusal::Stale { job: id, fence });
    }
    let first = !out.started;
    let stopped = belts::blocker(&draft.deletion, &job, draft.context);
    let extend = step.long
        && stopped.is_none()
        && out.deadline.ms_since(draft.now()) <= step.deadline_ms - step.deadline_ms / 4;
    if !first && !extend {
        return Err(Refusal::NotYet(id));
    }
    out.started = true;
    out.performer = Some(performer);
    if extend {
        let Term { deadline, lease_until, quiet_after } = term(&step, draft.now());
        out.deadline = deadline;
        out.lease_until = lease_until;
        job.quiet_after = job.quiet_after.max(quiet_after);
        draft.effects.push(Effect::Extend { job: id, fence, performer, deadline: out.deadline });
    }
    let mut audit = heading(draft.now(), What::Extended, COORDINATOR, Some(job.kind));
    audit.step = Some(step.name.clone());
    audit.fence = Some(fence);
    audit.detail = if extend { format!("until {}", out.deadline) } else { "began".into() };
    draft.record(audit);
    job.state = JobState::Running(out);
    draft.put(job);
    Ok(())
}

/// What an order weighs that nobody began or answered. An outage weighs nothing. Consumers that answered others since
/// it was `given` are busy, or lost it; those that answered nothing at all take orders and die.
fn in_vain(draft: &Draft<'_>, job: &Job, instance: &Instance, given: Timestamp) -> u16 {
    match (draft.context.capacity)(instance, lane(job.kind), Draw::ANY) {
        Capacity::Down | Capacity::Gone => 0,
        Capacity::Free | Capacity::Full
            if (draft.context.answered)(instance).is_some_and(|at| at >= given) =>
        {
            1
        }
        Capacity::Free | Capacity::Full => retry::SILENT,
    }
}

/// Nobody answered in time.
pub(super) fn lease_over(draft: &mut Draft<'_>, id: JobId, fence: Fence) -> Result<(), Refusal> {
    let Asked { mut job, out, step, mode, .. } = asked(draft, id, fence, None)?;
    if draft.now() < out.lease_until {
        return Err(Refusal::NotYet(id));
    }
    let mut audit = heading(draft.now(), What::LeaseOver, COORDINATOR, Some(job.kind));
    audit.step = Some(step.name.clone());
    audit.mode = Some(mode);
    audit.fence = Some(fence);
    draft.record(audit);
    if matches!(job.state, JobState::Cancelling(_)) {
        end_cancelled(draft, job);
        return Ok(());
    }
    if out.started {
        job.attempts += 1;
        job.in_vain = 0;
        if job.attempts >= step.max_attempts {
            let reason = format!("{} was begun {} times and never answered", step.name, job.attempts);
            park(draft, job, reason);
            return Ok(());
        }
    } else {
        // Not begun, so not extended either.
        let given = Timestamp(out.deadline.0 - i64::try_from(step.deadline_ms * 1000).unwrap_or(0));
        job.in_vain +=
            draft.deletion.instance_for(&step).map_or(0, |instance| in_vain(draft, &job, &instance, given));
        if retry::in_vain_too_often(job.kind, job.in_vain) {
            let reason =
                format!("{}: order after order was not answered although consumers are alive", step.name);
            park(draft, job, reason);
            return Ok(());
        }
    }
    go_on(draft, job);
    Ok(())
}
