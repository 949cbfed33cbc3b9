//! The notice, which starts the clock: soft waits until everybody was told, and the notice period after that.
//!
//! So it is not given up after a few attempts. It is tried for [`PATIENCE_DAYS`], and the deletion waits; then a person
//! has to look, and may have told everybody otherwise ([`acknowledge`]). No waiver lets it pass, also none of a step
//! that it depends on. One that comes back after it was sent ([`bounced`]) was not delivered: soft is held, and the same
//! acknowledgement lets it go on.
use super::dispatch::{advance, go_on, park};
use super::person::{given, second_person};
use super::{Change, Draft, Refusal, heading, seen};
use crate::audit::What;
use crate::deletion::{Deletion, REASON_MAX, RecordStatus, Waiver, WaiverClaim};
use crate::id::Actor;
use crate::job::{Job, JobKind, JobState, Stage};
use crate::retry;
use crate::time::{self, Day, Timestamp};

/// Policy days for which a notice is tried before a person's acknowledgement may replace it: a weekend without a mail
/// server needs nobody.
const PATIENCE_DAYS: i32 = 3;

/// What takes somebody else than who requested the deletion.
const TOLD: &str = "say that everybody was told otherwise";

/// Most that is written down of one notice having come back: it is held from the first on, and whoever reads mail by a
/// program may read the same mail again and again.
const BOUNCES_MAX: usize = 16;

/// Whether the step of a job is the notice. What tells people in a later stage does not start any clock.
pub(super) fn at(deletion: &Deletion, job: &Job) -> bool {
    job.kind == JobKind::Stage(Stage::Announce)
        && deletion.step_at(job).is_some_and(|(_, _, step)| step.notice)
}

/// If the step of the job is the notice: since when not everybody could be told. The first time this is written down.
pub(super) fn failed(draft: &mut Draft<'_>, job: &Job, reason: &str) -> Option<Timestamp> {
    if !at(&draft.deletion, job) {
        return None;
    }
    if let Some(since) = untold_since(&draft.deletion, job) {
        return Some(since);
    }
    let at = draft.now();
    draft.change(Change::Waived(Waiver {
        slot: job.kind.slot(),
        step: job.cursor,
        claim: WaiverClaim::Untold,
        by: Actor::coordinator(),
        evidence: reason.chars().take(REASON_MAX).collect(),
        at,
        untouched: !job.touched,
        shown: None,
    }));
    draft.happened("untold", reason);
    Some(at)
}

/// The notice was not delivered: it is tried again, until patience is over.
pub(super) fn try_again(draft: &mut Draft<'_>, mut job: Job, since: Timestamp, reason: &str) {
    let until = replaceable_from(draft, since);
    if draft.now() >= until {
        let reason = format!(
            "not everybody could be told since {since}: {reason}. Retry, or tell them otherwise and acknowledge it"
        );
        return park(draft, job, reason);
    }
    job.attempts = job.attempts.saturating_add(1);
    job.in_vain = 0;
    let delay_ms = retry::notice_delay_ms(job.id, job.attempts, draft.context.day.length_ms());
    let until = draft.now().plus_ms(delay_ms).min(until);
    job.state =
        JobState::Waiting { until, reason: format!("not everybody could be told since {since}: {reason}") };
    draft.put(job);
}

/// Everybody was told otherwise, says somebody else than who requested it. The notice period begins with this decision: the
/// announcement ends, and soft is due that long after its end. Whom it did not reach is what the person has looked at:
/// whoever has called one of them has not called those of whom it was said since.
pub(super) fn acknowledge(
    draft: &mut Draft<'_>,
    by: &Actor,
    mark: &str,
    reason: &str,
) -> Result<(), Refusal> {
    given("reason", reason)?;
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    if let Some(since) = came_back_since(&draft.deletion) {
        return acknowledge_what_came_back(draft, by, (mark, reason, since));
    }
    let job = draft.deletion.stage_job(Stage::Announce).filter(|job| at(&draft.deletion, job)).cloned();
    let mut job = job.ok_or(Refusal::NothingToAcknowledge)?;
    let since = untold_since(&draft.deletion, &job).ok_or(Refusal::NothingToAcknowledge)?;
    let from = replaceable_from(draft, since);
    if draft.now() < from {
        return Err(Refusal::StillTried(from));
    }
    if !matches!(job.state, JobState::Parked { .. }) {
        return Err(Refusal::NothingParked);
    }
    second_person(draft, by, TOLD)?;
    seen::same(&draft.deletion, mark)?;
    let mut audit = heading(draft.now(), What::Acknowledged, by.as_str(), Some(job.kind));
    audit.step = draft.deletion.step_at(&job).map(|(_, _, step)| step.name.clone());
    audit.detail = reason.to_owned();
    draft.record(audit);
    draft.change(Change::Waived(Waiver {
        slot: job.kind.slot(),
        step: job.cursor,
        claim: WaiverClaim::Told,
        by: by.clone(),
        evidence: reason.to_owned(),
        at: draft.now(),
        untouched: !job.touched,
        shown: None,
    }));
    advance(&mut job);
    go_on(draft, job);
    Ok(())
}

/// A notice that was sent came back: it does not count as delivered. What is said again of the same notice changes nothing,
/// and is not written down again; whom else it did not reach is.
pub(super) fn bounced(draft: &mut Draft<'_>, by: &Actor, reason: &str) -> Result<(), Refusal> {
    given("reason", reason)?;
    if draft.deletion.status != RecordStatus::Live {
        return Err(Refusal::NotLive(draft.deletion.status));
    }
    let step = sent_step(&draft.deletion).filter(|_| !draft.deletion.claimed(Stage::Soft));
    let step = step.ok_or(Refusal::NothingBounced)?;
    let sent = draft.deletion.stage_job(Stage::Announce).is_some_and(|job| job.state == JobState::Done);
    if !sent {
        return Err(Refusal::NotSentYet);
    }
    let known: Vec<&Waiver> = bounces(&draft.deletion, step).collect();
    if known.len() >= BOUNCES_MAX || known.iter().any(|bounce| bounce.evidence == reason) {
        return Err(Refusal::KnownToBeBack);
    }
    let first = known.is_empty();
    let mut audit = heading(draft.now(), What::Bounced, by.as_str(), Some(JobKind::Stage(Stage::Announce)));
    audit.detail = reason.to_owned();
    draft.record(audit);
    state(draft, step, WaiverClaim::Bounced, by, reason);
    if first {
        draft.happened("bounced", reason);
    }
    Ok(())
}

/// Since when the notice, which was sent, does not count as delivered, because it came back.
pub(crate) fn came_back_since(deletion: &Deletion) -> Option<Timestamp> {
    bounces(deletion, sent_step(deletion)?).last().map(|first| first.at)
}

/// What was said of the notice having come back, and is not acknowledged yet, if anything: the last first.
pub(super) fn came_back(deletion: &Deletion) -> Option<Vec<(&str, Timestamp)>> {
    let said: Vec<_> = bounces(deletion, sent_step(deletion)?).map(|w| (w.evidence.as_str(), w.at)).collect();
    (!said.is_empty()).then_some(said)
}

/// What was said of this notice having come back since everybody was told otherwise, the last first.
fn bounces(deletion: &Deletion, step: u16) -> impl Iterator<Item = &Waiver> {
    let about = move |w: &&Waiver| w.slot == JobKind::Stage(Stage::Announce).slot() && w.step == step;
    let since = deletion.waivers.iter().rev().filter(about).take_while(|w| w.claim != WaiverClaim::Told);
    since.filter(|w| w.claim == WaiverClaim::Bounced)
}

/// From when on an acknowledgement replaces a notice that came back then.
pub(crate) fn patience_ends(deletion: &Deletion, since: Timestamp, day: Day) -> Timestamp {
    time::add_days(since, PATIENCE_DAYS, deletion.record.due.zone.0, day)
}

/// The step of the announcement that tells people.
fn sent_step(deletion: &Deletion) -> Option<u16> {
    let step = deletion.plan.stage(Stage::Announce).steps.iter().position(|step| step.notice)?;
    u16::try_from(step).ok()
}

/// The notice period begins with this decision, as if the announcement had ended now.
fn acknowledge_what_came_back(
    draft: &mut Draft<'_>,
    by: &Actor,
    (mark, reason, since): (&str, &str, Timestamp),
) -> Result<(), Refusal> {
    let from = patience_ends(&draft.deletion, since, draft.context.day);
    if draft.now() < from {
        return Err(Refusal::CameBack(from));
    }
    second_person(draft, by, TOLD)?;
    seen::same(&draft.deletion, mark)?;
    let step = sent_step(&draft.deletion).ok_or(Refusal::NothingToAcknowledge)?;
    let soft = draft.deletion.stage_job(Stage::Soft).cloned().ok_or(Refusal::NothingToAcknowledge)?;
    let due = draft.deletion.due_after(Stage::Soft, draft.now(), draft.context.day);
    let due = match soft.state {
        JobState::Scheduled { due_at: Some(at) } | JobState::Held { due_at: at, .. } => at.max(due),
        _ => due,
    };
    let announce = JobKind::Stage(Stage::Announce);
    let mut audit = heading(draft.now(), What::Acknowledged, by.as_str(), Some(announce));
    audit.detail = reason.to_owned();
    draft.record(audit);
    state(draft, step, WaiverClaim::Told, by, reason);
    draft.put(Job { state: JobState::Scheduled { due_at: Some(due) }, ..soft });
    Ok(())
}

/// State something of the notice after it was sent. A cancel takes it back all the same.
fn state(draft: &mut Draft<'_>, step: u16, claim: WaiverClaim, by: &Actor, reason: &str) {
    draft.change(Change::Waived(Waiver {
        slot: JobKind::Stage(Stage::Announce).slot(),
        step,
        claim,
        by: by.clone(),
        evidence: reason.to_owned(),
        at: draft.now(),
        untouched: false,
        shown: None,
    }));
}

fn untold_since(deletion: &Deletion, job: &Job) -> Option<Timestamp> {
    untold_first(deletion, job).map(|w| w.at)
}

/// What was written down when not everybody could be told for the first time.
fn untold_first<'a>(deletion: &'a Deletion, job: &Job) -> Option<&'a Waiver> {
    let about = |w: &&Waiver| w.slot == job.kind.slot() && w.step == job.cursor;
    deletion.waivers.iter().filter(about).find(|w| w.claim == WaiverClaim::Untold)
}

/// The announcement that stands at its notice, not everybody having been told, and what was written down when that failed for the
/// first time.
pub(crate) fn undelivered(deletion: &Deletion) -> Option<(&Job, &Waiver)> {
    let job = deletion.stage_job(Stage::Announce).filter(|job| at(deletion, job))?;
    Some((job, untold_first(deletion, job)?))
}

/// From when on a person's acknowledgement replaces the notice.
fn replaceable_from(draft: &Draft<'_>, since: Timestamp) -> Timestamp {
    patience_ends(&draft.deletion, since, draft.context.day)
}
