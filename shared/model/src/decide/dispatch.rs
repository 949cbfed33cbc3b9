//! How a job takes the lock, goes from step to step, and ends.
use super::{COORDINATOR, Capacity, Change, Draft, Effect, Lane, OrderSpec, Refusal, heading, notice};
use crate::audit::What;
use crate::belts;
use crate::catalogue::Nature;
use crate::credit::Draw;
use crate::deletion::{Deletion, RecordStatus, Waiver, WaiverClaim};
use crate::id::{Instance, JobId};
use crate::job::{Job, JobKind, JobState, Out, Phase, Stage};
use crate::plan::{OwnStep, Performer, Step};
use crate::resource::Presence as ResourcePresence;
use crate::step::Mode;
use crate::time::Timestamp;

/// How much later than its deadline an order may be begun, in milliseconds: the clocks of consumers that act
/// differ by no more. Its lease ends later by that, beyond the longest call, and so does what must not come
/// before its end.
pub(super) const SKEW_MS: u64 = crate::beacon::SKEW_MS;

/// A due job takes the lock, or a belt says not now. One that is in line already goes on: whoever finds jobs in
/// the queue need not know which of the two they are.
pub(super) fn claim(draft: &mut Draft<'_>, id: JobId) -> Result<(), Refusal> {
    let job = draft.job(id)?;
    if matches!(job.state, JobState::Ready { .. }) {
        return proceed(draft, id);
    }
    let JobState::Scheduled { due_at: Some(due_at) } = job.state else {
        return Err(Refusal::NotInState { job: id, state: job.state.name() });
    };
    if due_at > draft.now() {
        return Err(Refusal::NotYet(id));
    }
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    if draft.deletion.jobs.iter().any(|j| j.kind < job.kind && !j.state.name().over()) {
        return Err(Refusal::NotItsTurn(id));
    }
    let kind = Some(job.kind);
    if let Some(by) = belts::blocker(&draft.deletion, &job, draft.context) {
        let mut audit = heading(draft.now(), What::Held, COORDINATOR, kind);
        audit.detail = by.to_string();
        draft.record(audit);
        let state = JobState::Held { due_at, by };
        draft.put(Job { state, ..job });
        return Ok(());
    }
    if let Some((instance, draw)) = wanted(draft, &job)
        && (draft.context.capacity)(&instance, Lane::Stages, draw) != Capacity::Free
    {
        return Err(Refusal::NoCredit(instance));
    }
    // Behind credit: what cannot begin now is not counted yet.
    if belts::unadmitted(&draft.deletion, &job, draft.context) {
        return Err(Refusal::NotAdmitted(id));
    }
    let mut audit = heading(draft.now(), What::Claimed, COORDINATOR, kind);
    audit.detail = belts::overridden(&draft.deletion, &job, draft.context);
    draft.record(audit);
    go_on(draft, job);
    Ok(())
}

/// A locked job without an order goes on.
pub(super) fn proceed(draft: &mut Draft<'_>, id: JobId) -> Result<(), Refusal> {
    let job = draft.job(id)?;
    match &job.state {
        JobState::Ready { .. } => {}
        JobState::Waiting { until, .. } if *until <= draft.now() => {}
        JobState::Waiting { .. } => return Err(Refusal::NotYet(id)),
        JobState::Scheduled { .. }
        | JobState::Held { .. }
        | JobState::Running(_)
        | JobState::Cancelling(_)
        | JobState::Parked { .. }
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => return Err(Refusal::NotInState { job: id, state: job.state.name() }),
    }
    draft.record(heading(draft.now(), What::Dispatched, COORDINATOR, Some(job.kind)));
    let before = job.state.clone();
    go_on(draft, job);
    let after = draft.job(id)?;
    let in_line = |s: &JobState| match s {
        JobState::Ready { blocked, .. } => Some(blocked.clone()),
        _ => None,
    };
    if in_line(&before).is_some() && in_line(&before) == in_line(&after.state) {
        return Err(Refusal::NotYet(id));
    }
    Ok(())
}

/// Is what held the job gone? Or is what it waits for?
pub(super) fn recheck(draft: &mut Draft<'_>, id: JobId) -> Result<(), Refusal> {
    let job = draft.job(id)?;
    if matches!(job.state, JobState::Ready { blocked: None, .. })
        && let Some(instance) = draft.deletion.wants(&job)
        && (draft.context.capacity)(&instance, lane(job.kind), Draw::ANY) == Capacity::Gone
    {
        let reason = format!("no consumer of {instance} is there, and none has been for long");
        let mut audit = heading(draft.now(), What::Parked, COORDINATOR, Some(job.kind));
        audit.detail.clone_from(&reason);
        draft.record(audit);
        park(draft, job, reason);
        return Ok(());
    }
    let blocked = belts::blocker(&draft.deletion, &job, draft.context);
    let (state, what) = match (&job.state, blocked) {
        // A hold may stand for months: a look that finds the same leaves no event.
        (JobState::Held { by, .. }, Some(now_by)) if *by == now_by => return Err(Refusal::NotYet(id)),
        (JobState::Held { due_at, .. }, Some(now_by)) => {
            (JobState::Held { due_at: *due_at, by: now_by }, What::Held)
        }
        (JobState::Held { due_at, .. }, None) => {
            (JobState::Scheduled { due_at: Some(*due_at) }, What::Unheld)
        }
        (JobState::Ready { since, blocked: Some(_) }, None) => {
            (JobState::Ready { since: *since, blocked: None }, What::Unheld)
        }
        // Another one stops it now: said, so that whoever lifts that one finds it.
        (JobState::Ready { since, blocked: Some(by) }, Some(now_by)) if *by != now_by => {
            (JobState::Ready { since: *since, blocked: Some(now_by) }, What::Held)
        }
        (JobState::Ready { .. }, _) => return Err(Refusal::NotYet(id)),
        (
            JobState::Scheduled { .. }
            | JobState::Running(_)
            | JobState::Waiting { .. }
            | JobState::Cancelling(_)
            | JobState::Parked { .. }
            | JobState::Done
            | JobState::Cancelled
            | JobState::Rescued,
            _,
        ) => return Err(Refusal::NotInState { job: id, state: job.state.name() }),
    };
    let mut audit = heading(draft.now(), what, COORDINATOR, Some(job.kind));
    if let JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. } = &state {
        audit.detail = by.to_string();
    }
    draft.record(audit);
    draft.put(Job { state, ..job });
    Ok(())
}

/// Give the job its next order, carry out the coordinator's own steps on the way, or end it.
pub(super) fn go_on(draft: &mut Draft<'_>, mut job: Job) {
    // Each round moves the cursor on, and a stage has at most `STEPS_MAX` steps.
    loop {
        let Some((stage, index, step)) = draft.step_at(&job) else {
            return finish(draft, job);
        };
        if job.kind != JobKind::Restore && passed(draft, &job, index, &step) {
            advance(&mut job);
            continue;
        }
        if let Some(by) = belts::blocker(&draft.deletion, &job, draft.context) {
            let since = draft.now();
            job.state = JobState::Ready { since, blocked: Some(by) };
            return draft.put(job);
        }
        match (&step.performer, draft.deletion.instance_for(&step)) {
            (Performer::Coordinator(own), _) => {
                match own {
                    OwnStep::RemoveFromInventory => {
                        draft.change(Change::Resource(ResourcePresence::Tombstone));
                    }
                    OwnStep::Receipt => draft.happened("receipt", stage.word()),
                }
                draft.own.push(step.name.clone());
                advance(&mut job);
            }
            (Performer::Subsystem { .. }, Some(instance)) => {
                return order(draft, job, (stage, index), &step, instance);
            }
            // A subsystem's step always has an instance; parking rather than panicking if it had none.
            (Performer::Subsystem { .. }, None) => {
                job.state = JobState::Parked { reason: format!("step {} has no instance", step.name) };
                return draft.put(job);
            }
        }
    }
}

/// Whether the step was waived, or is by what it depends on: what may still be there keeps what it uses. The notice never is.
fn passed(draft: &mut Draft<'_>, job: &Job, index: u16, step: &Step) -> bool {
    let slot = job.kind.slot();
    if draft.deletion.waivers.iter().any(|w| w.passes() && w.slot == slot && w.step == index) {
        return true;
    }
    let Some(cause) = draft.deletion.cause_of_passing(slot, step) else { return false };
    let waiver = Waiver {
        slot,
        step: index,
        claim: WaiverClaim::MayRemain,
        by: cause.by.clone(),
        evidence: format!("follows from: {}", cause.evidence),
        at: draft.now(),
        untouched: !job.touched,
        shown: None,
    };
    draft.change(Change::Waived(waiver));
    true
}

/// Move the cursor to the next step.
pub(super) fn advance(job: &mut Job) {
    job.cursor += 1;
    job.phase = if job.kind == JobKind::Restore { Phase::Act } else { Phase::Capture };
    job.touched = false;
    job.attempts = 0;
    job.in_vain = 0;
}

/// What is asked next of a step.
pub(super) fn mode(kind: JobKind, phase: Phase, nature: Nature) -> Mode {
    match (kind, phase, nature) {
        (JobKind::Restore, Phase::Verify, _) => Mode::Verify,
        (JobKind::Restore, Phase::Capture | Phase::Act, _) => Mode::Undo,
        (JobKind::Stage(Stage::Announce), _, Nature::Inspect) => Mode::Inspect,
        (JobKind::Stage(_), _, Nature::Inspect) => Mode::Reread,
        (JobKind::Stage(_), Phase::Capture, Nature::Reversible) => Mode::Capture,
        (JobKind::Stage(_), _, Nature::Reversible | Nature::Check | Nature::Adds | Nature::Destructive) => {
            Mode::Perform
        }
    }
}

/// What the order of a job asks of the step under its cursor; none once all are done, and for the coordinator's own.
pub fn mode_of(deletion: &Deletion, job: &Job) -> Option<Mode> {
    let (_, _, step) = deletion.step_at(job)?;
    deletion.instance_for(step).map(|_| mode(job.kind, job.phase, step.nature))
}

fn order(draft: &mut Draft<'_>, mut job: Job, (stage, index): (Stage, u16), step: &Step, instance: Instance) {
    let now = draft.now();
    let mode = mode(job.kind, job.phase, step.nature);
    if draft.context.review.is_some() {
        // In line, restores too: what the ledger says was done may not be all that was done.
        job.state = JobState::Ready { since: now, blocked: None };
        return draft.put(job);
    }
    if job.kind == JobKind::Restore {
        // What a stage ordered may still be begun until its deadline, by a clock that may be slow, and a call
        // begun then goes on for a call longer: undo after the one, look after the other.
        let quiet = stages_quiet_after(draft);
        let from = if mode == Mode::Verify { quiet.plus_ms(step.longest_call_ms) } else { quiet };
        if from > now {
            let reason = "waits until no order of the stages can be carried out any more".into();
            job.state = JobState::Waiting { until: from, reason };
            return draft.put(job);
        }
    }
    match (draft.context.capacity)(&instance, lane(job.kind), Draw::of(step, mode)) {
        Capacity::Free => {}
        Capacity::Full | Capacity::Down | Capacity::Gone => {
            let since = match job.state {
                JobState::Ready { since, .. } => since,
                _ => now,
            };
            job.state = JobState::Ready { since, blocked: None };
            return draft.put(job);
        }
    }
    let Term { deadline, lease_until, quiet_after } = term(step, now);
    let fence = draft.context.fence;
    if mode.changes() {
        job.quiet_after = job.quiet_after.max(quiet_after);
        job.touched = true;
    }
    job.state = JobState::Running(Out { fence, deadline, lease_until, started: false, performer: None });
    let order = OrderSpec {
        job: job.id,
        kind: job.kind,
        stage,
        step: index,
        mode,
        instance,
        fence,
        deadline,
        attempts: job.attempts,
    };
    draft.effects.push(Effect::Order(order));
    draft.put(job);
}

/// How long an order holds.
pub(super) struct Term {
    /// After this its consumer does nothing more for it.
    pub(super) deadline: Timestamp,
    /// After this it counts as lost.
    pub(super) lease_until: Timestamp,
    /// After this no consumer, whatever its clock says, changes anything for it.
    pub(super) quiet_after: Timestamp,
}

/// Of an order for `step` that is given, or extended, at `from`.
pub(super) fn term(step: &Step, from: Timestamp) -> Term {
    let deadline = from.plus_ms(step.deadline_ms);
    let lease_until = deadline.plus_ms(step.longest_call_ms).plus_ms(SKEW_MS);
    Term { deadline, lease_until, quiet_after: deadline.plus_ms(SKEW_MS) }
}

fn stages_quiet_after(draft: &Draft<'_>) -> Timestamp {
    draft
        .deletion
        .jobs
        .iter()
        .filter(|j| j.kind != JobKind::Restore)
        .map(|j| j.quiet_after)
        .max()
        .unwrap_or_default()
}

/// Every step is done: the job ends, its successor becomes due. Recycle does not end while anything may remain:
/// a name is not given away while what used it may still exist (I6).
fn finish(draft: &mut Draft<'_>, mut job: Job) {
    let now = draft.now();
    if job.kind == JobKind::Stage(Stage::Recycle)
        && let Some(reason) = keeps_the_name(draft)
    {
        return park(draft, job, reason);
    }
    job.state = JobState::Done;
    job.ended_at = Some(now);
    let kind = job.kind;
    draft.put(job);
    match kind {
        JobKind::Restore => {
            draft.change(Change::Status(RecordStatus::Cancelled));
            draft.happened("restored", "");
        }
        JobKind::Stage(Stage::Recycle) => {
            draft.change(Change::Resource(ResourcePresence::Recycled));
            draft.change(Change::Status(RecordStatus::Recycled));
            draft.happened("recycled", "");
        }
        JobKind::Stage(stage) => {
            draft.happened("stage_done", stage.word());
            let next = Stage::ALL[usize::from(stage.index()) + 1];
            if let Some(successor) = draft.deletion.stage_job(next).cloned() {
                let due_at = Some(draft.deletion.due_after(next, now, draft.context.day));
                draft.put(Job { state: JobState::Scheduled { due_at }, ..successor });
            }
        }
    }
}

/// Why the name cannot become free, and what a person can do about it.
fn keeps_the_name(draft: &Draft<'_>) -> Option<String> {
    let steps = draft.deletion.may_remain().join(", ");
    (!steps.is_empty()).then(|| {
        format!(
            "the name stays taken: {steps} waived as \"may remain\". Once somebody has seen that all of it is \
             gone, waive this as absent, with the evidence"
        )
    })
}

/// The first order that a job that is to be claimed will give, behind the coordinator's own steps.
fn wanted(draft: &Draft<'_>, job: &Job) -> Option<(Instance, Draw)> {
    let (step, instance) = draft.deletion.wanted(job)?;
    Some((instance, Draw::of(step, mode(job.kind, job.phase, step.nature))))
}

/// Whose credit a job's orders draw on.
pub(super) fn lane(kind: JobKind) -> Lane {
    match kind {
        JobKind::Stage(_) => Lane::Stages,
        JobKind::Restore => Lane::Restores,
    }
}

/// A person has to look.
pub(super) fn park(draft: &mut Draft<'_>, mut job: Job, reason: String) {
    draft.happened("parked", format!("{}: {reason}", job.kind));
    notice::failed(draft, &job, &reason);
    job.state = JobState::Parked { reason };
    draft.put(job);
}

/// Begin the restore: it takes over the lock in this very decision.
pub(super) fn begin_restore(draft: &mut Draft<'_>) {
    let id = JobId::of(draft.deletion.id, JobKind::RESTORE_SLOT);
    let mut job = Job::new(id, JobKind::Restore, Some(draft.now()));
    job.phase = Phase::Act;
    go_on(draft, job);
}
