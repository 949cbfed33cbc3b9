//! What answers, progress and leases that ran out mean.
use super::dispatch::{advance, begin_restore, go_on, mode};
use super::{COORDINATOR, Change, Draft, Effect, Refusal, heading};
use crate::audit::What;
use crate::catalogue::Nature;
use crate::id::{Fence, Instance, JobId};
use crate::job::{Job, JobKind, JobState, Out, Phase, Stage};
use crate::plan::Step;
use crate::retry;
use crate::step::{Mode, Outcome, Presence, RetryClass};

/// The step an order is out for.
struct Asked {
    job: Job,
    out: Out,
    stage: Stage,
    index: u16,
    step: Step,
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
    let (stage, index, step) =
        draft.deletion.step_at(&job).map(|(s, i, step)| (s, i, step.clone())).ok_or(stale)?;
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
            let name = &asked.step.name;
            let reason = format!("{name} refused: {reason}");
            park(draft, asked.job, reason);
        }
    }
    Ok(())
}

fn done(draft: &mut Draft<'_>, asked: Asked, presence: Presence, finding: Option<&serde_json::Value>) {
    let Asked { mut job, stage, index, step, mode, .. } = asked;
    match mode {
        Mode::Inspect => {
            if let (Some(value), Some(instance)) = (finding, draft.deletion.instance_for(&step)) {
                draft.change(Change::Targets { instance, value: value.clone(), join: false });
            }
            advance(&mut job);
        }
        Mode::Capture => {
            let Some(value) = finding else {
                let again = Asked { job, out: asked.out, stage, index, step, mode };
                return try_again(draft, again, RetryClass::Failed, "a capture without a manifest");
            };
            draft.change(Change::Manifest { slot: stage.index(), step: index, value: value.clone() });
            job.phase = Phase::Act;
            job.attempts = 0;
            job.unstarted = 0;
        }
        Mode::Perform => {
            // Neither an error nor `unknown` ever counts as absent: only what was seen to be gone is done.
            if step.nature == Nature::Destructive && presence != Presence::Absent {
                let reason = format!("answered done, but what it removes is {presence:?}");
                let again = Asked { job, out: asked.out, stage, index, step, mode };
                return try_again(draft, again, RetryClass::Failed, &reason);
            }
            if let (Some(value), Some(instance)) = (finding, draft.deletion.instance_for(&step)) {
                draft.change(Change::Targets { instance, value: value.clone(), join: true });
            }
            advance(&mut job);
        }
        Mode::Undo => {
            // The attempts go on counting: an undo that never holds parks in the end.
            job.phase = Phase::Verify;
            job.unstarted = 0;
        }
        Mode::Verify => advance(&mut job),
    }
    go_on(draft, job);
}

fn try_again(draft: &mut Draft<'_>, asked: Asked, class: RetryClass, reason: &str) {
    let Asked { mut job, step, .. } = asked;
    let delay_ms = match class {
        RetryClass::Spared => retry::spared_delay_ms(job.id),
        RetryClass::Failed => {
            job.attempts += 1;
            if job.attempts >= step.max_attempts {
                let reason = format!("{} failed {} times: {reason}", step.name, job.attempts);
                return park(draft, job, reason);
            }
            retry::delay_ms(job.id, job.attempts)
        }
    };
    job.unstarted = 0;
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
    job.unstarted = 0;
    go_on(draft, job);
}

/// It needs a person.
pub(super) fn park(draft: &mut Draft<'_>, mut job: Job, reason: String) {
    draft.happened("parked", format!("{}: {reason}", job.kind));
    job.state = JobState::Parked { reason };
    draft.put(job);
}

/// The order that was out when it was cancelled is over: nothing of this job acts any more, the restore
/// begins.
fn end_cancelled(draft: &mut Draft<'_>, mut job: Job) {
    job.state = JobState::Cancelled;
    job.ended_at = Some(draft.now());
    draft.put(job);
    begin_restore(draft);
}

/// A consumer began or goes on. An order that is nearly over is extended, for its first performer only.
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
    let extend = step.long && out.deadline.ms_since(draft.now()) <= step.deadline_ms / 2;
    if !first && !extend {
        return Err(Refusal::NotYet(id));
    }
    out.started = true;
    out.performer = Some(performer);
    if extend {
        out.deadline = draft.now().plus_ms(step.deadline_ms);
        out.lease_until = out.deadline.plus_ms(step.longest_call_ms).plus_ms(crate::beacon::SKEW_MS);
        job.quiet_after = job.quiet_after.max(out.deadline);
        draft.effects.push(Effect::Extend { job: id, fence, performer, deadline: out.deadline });
    }
    let mut audit = heading(draft.now(), What::Extended, COORDINATOR, Some(job.kind));
    audit.step = Some(step.name);
    audit.fence = Some(fence);
    audit.detail = if extend { format!("until {}", out.deadline) } else { "began".into() };
    draft.record(audit);
    job.state = JobState::Running(out);
    draft.put(job);
    Ok(())
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
        job.unstarted = 0;
        if job.attempts >= step.max_attempts {
            let reason = format!("{} was begun {} times and never answered", step.name, job.attempts);
            park(draft, job, reason);
            return Ok(());
        }
    } else {
        let up = draft.deletion.instance_for(&step).is_some_and(|instance| {
            let lane = match job.kind {
                JobKind::Stage(_) => super::Lane::Stages,
                JobKind::Restore => super::Lane::Restores,
            };
            (draft.context.capacity)(&instance, lane) != super::Capacity::Down
        });
        if up {
            job.unstarted += 1;
        }
        if job.unstarted >= retry::UNSTARTED {
            let reason = format!(
                "{}: {} orders in a row were not answered although consumers are alive",
                step.name, job.unstarted
            );
            park(draft, job, reason);
            return Ok(());
        }
    }
    go_on(draft, job);
    Ok(())
}
