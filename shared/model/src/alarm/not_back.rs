//! A cancel that does not bring back what it promises: within minutes, and whatever keeps it.
use crate::alarm::hold::Moment;
use crate::alarm::{Alarm, AlarmKind, Subject};
use crate::deletion::{Deletion, RecordStatus};
use crate::drill;
use crate::job::{Job, JobKind, JobState};
use crate::time::Timestamp;

/// What was cancelled alarms if it is not back so many milliseconds later: ten minutes, twice what is promised of it.
pub const NOT_BACK_MS: u64 = 10 * 60_000;

/// What was cancelled, and should be back by now.
#[derive(Debug, Clone, Copy)]
pub struct NotBack<'d> {
    /// Its restore; or what has to end before that, since its order is still out.
    pub job: &'d Job,
    /// When it was cancelled.
    pub since: Timestamp,
}

/// Whether it should be back by now. Its time begins with the cancel, or once no order of the stages can be carried out any more: a
/// restore waits for that. An order that is out for the first time, and has not reached its deadline, is within its time; one that was
/// given in vain before is not. A drill says by itself what came of it.
pub fn not_back<'d>(d: &'d Deletion, at: &Moment) -> Option<NotBack<'d>> {
    late(d, at).filter(|late| !within_its_time(late.job, at.now))
}

/// The alarm of what is late, and excused by an order that is within its time: raised by nobody, and ended by nobody where it is open
/// ([`Holding::keep`](crate::alarm::Holding::keep)). Each step of a restore begins with an order that is out for the first time: nothing
/// is back because of it, and whoever was called would hear that it is over, and of the next alarm a moment later.
pub fn excused(d: &Deletion, at: &Moment) -> Option<Alarm> {
    late(d, at).filter(|late| within_its_time(late.job, at.now)).map(|late| late.alarm(d))
}

/// What was cancelled so long ago that it has to be excused.
fn late<'d>(d: &'d Deletion, at: &Moment) -> Option<NotBack<'d>> {
    if d.status != RecordStatus::Restoring || drill::is_drill(d) {
        return None;
    }
    let since = cancelled_at(d)?;
    let job = d.jobs.iter().find(|job| !job.state.name().over())?;
    let stages = d.jobs.iter().filter(|job| job.kind != JobKind::Restore);
    let quiet = stages.map(|job| job.quiet_after).max().unwrap_or_default();
    let late = at.now >= since.max(quiet).plus_ms(at.rules.not_back_ms);
    late.then_some(NotBack { job, since })
}

/// A cancel ends at once every job that has not begun; whatever can still be cancelled has some, behind the end of cancel.
fn cancelled_at(d: &Deletion) -> Option<Timestamp> {
    let ended = d.jobs.iter().filter(|job| matches!(job.state, JobState::Cancelled));
    ended.filter_map(|job| job.ended_at).min()
}

fn within_its_time(job: &Job, now: Timestamp) -> bool {
    let first = job.attempts == 0 && job.in_vain == 0;
    first && job.state.out().is_some_and(|out| now < out.deadline)
}

impl NotBack<'_> {
    /// Why it is not back, in some words: the same ones at each look, as long as it stands at the same step.
    pub fn why(&self, d: &Deletion) -> String {
        if self.job.kind != JobKind::Restore {
            return format!("an order of {} is still out", self.job.kind);
        }
        let step = d.step_at(self.job).map(|(_, _, step)| format!(" at {}", step.name)).unwrap_or_default();
        let of = d.wants(self.job).map(|instance| format!(" of {instance}")).unwrap_or_default();
        let place = format!("its restore stands{step}{of}");
        match &self.job.state {
            JobState::Parked { reason } => format!("{place}, parked: {reason}"),
            JobState::Ready { blocked: Some(by), .. } => format!("{place}: {by}"),
            _ => place,
        }
    }

    /// That it is not back.
    pub(super) fn alarm(&self, d: &Deletion) -> Alarm {
        let (resource, scope) = (d.record.resource.id.clone(), d.record.resource.scope.clone());
        let subject = Subject::Deletion { deletion: d.id, resource };
        Alarm::new(AlarmKind::NotBack, Some(scope), subject, self.text(d), self.way_on(d))
    }

    /// What is the matter.
    fn text(&self, d: &Deletion) -> String {
        let (resource, since) = (&d.record.resource.id, self.since);
        format!("{resource} was cancelled at {since}, and is not back: {}", self.why(d))
    }

    /// What to do about it. Nobody tries again what is parked but who says so.
    fn way_on(&self, d: &Deletion) -> String {
        let id = d.id;
        let bring = format!("bring {} back by hand if it cannot wait", d.record.resource.id);
        if matches!(self.job.state, JobState::Parked { .. }) {
            return format!(
                "it is parked: sexton show {id}; put right what it says, then sexton retry {id}; {bring}"
            );
        }
        format!("look whether that consumer runs, and what it says: sexton health, sexton show {id}; {bring}")
    }
}
