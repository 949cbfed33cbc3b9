//! The invariants as far as an audit trail shows them, by rules written down once more rather than asked of the code
//! they are about. The simulator asks after every decision, the chaos test asks of what stands in the job table.
use std::fmt;

use sexton_ledger::{AuditRow, DeletionView};
use sexton_model::audit::{AuditEvent, What};
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::step::{Mode, Presence};
use sexton_model::time::Day;
use sexton_model::{Fence, Timestamp};

pub mod course;

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

/// What was seen of one trail, event by event.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Number of the last event.
    pub seen: i64,
    cancelled: bool,
    holds: u32,
    hard_claimed: bool,
    over: bool,
    /// The order that is out.
    out: Option<Fence>,
    /// The last one that was given.
    given: Option<Fence>,
    /// The latest moment of an event: a clock that was set back says earlier ones afterwards.
    latest: Option<Timestamp>,
}

impl Trail {
    /// Judge the next event of `view`'s trail, and take note of it.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn see(&mut self, view: &DeletionView, row: &AuditRow, day: Day) -> Result<(), Violation> {
        let event = &row.event;
        let broken = |(invariant, why): (&'static str, String)| Violation {
            invariant,
            what: format!("{} #{}: {}: {why}", view.deletion.id, row.seq, in_words(event)),
        };
        self.judge(view, row, day).map_err(broken)?;
        self.note(row);
        Ok(())
    }

    /// By when it may be judged whether an event is too early. What has begun was not too early then, if the clock has gone
    /// back since.
    pub fn judged_at(&self, event: &AuditEvent) -> Timestamp {
        match event.what {
            What::Claimed => event.at,
            _ => self.latest.map_or(event.at, |latest| latest.max(event.at)),
        }
    }

    /// Take note of the next event without judging it.
    pub fn note(&mut self, row: &AuditRow) {
        let event = &row.event;
        self.seen = row.seq;
        self.latest = self.latest.max(Some(event.at));
        match event.what {
            What::Cancelled => self.cancelled = true,
            What::HoldPlaced => self.holds += 1,
            What::HoldReleased => self.holds = self.holds.saturating_sub(1),
            What::Settled | What::LeaseOver => self.out = None,
            What::Rescued => self.over = true,
            What::Created
            | What::Claimed
            | What::Held
            | What::Unheld
            | What::Dispatched
            | What::Extended
            | What::Parked
            | What::Retried
            | What::Waived
            | What::Acknowledged
            | What::Bounced => {}
        }
        if event.ordered.is_some() {
            (self.out, self.given) = (event.ordered, event.ordered);
        }
        self.hard_claimed |= event.job == Some(JobKind::Stage(Stage::Hard)) && event.what == What::Claimed;
        let last = matches!(event.job, Some(JobKind::Restore | JobKind::Stage(Stage::Recycle)));
        self.over |= last && event.state == Some(StateName::Done);
    }

    fn judge(&self, view: &DeletionView, row: &AuditRow, day: Day) -> Result<(), (&'static str, String)> {
        let event = &row.event;
        if row.seq != self.seen + 1 {
            return Err(("I12", format!("it comes after #{}", self.seen)));
        }
        if event.fence.is_some() && event.fence != self.out {
            return Err(("I10", format!("{:?} was out", self.out)));
        }
        if event.what == What::Cancelled && self.hard_claimed {
            return Err(("I5", "hard was claimed".to_owned()));
        }
        if let Some(why) = taken_for_absent(view, event) {
            return Err(("I9", why));
        }
        if let Some(fence) = event.ordered {
            self.order(event, fence)?;
        }
        let begins = event.ordered.is_some() || event.what == What::Claimed;
        // What ends a cancelled stage gives the restore's first order.
        if let Some(JobKind::Stage(stage)) = event.job.filter(|_| begins)
            && event.state != Some(StateName::Cancelled)
        {
            if self.cancelled {
                return Err(("I4", "it was cancelled".to_owned()));
            }
            if self.holds > 0 {
                return Err(("hold", "it is held".to_owned()));
            }
            if let Some(why) = early(view, stage, self.judged_at(event), day) {
                return Err(("I1", why));
            }
        }
        Ok(())
    }

    /// An order was given.
    fn order(&self, event: &AuditEvent, fence: Fence) -> Result<(), (&'static str, String)> {
        if self.over {
            return Err(("I5", "it was over".to_owned()));
        }
        if self.given.is_some_and(|before| before >= fence) {
            return Err(("I10", format!("{:?} was given before", self.given)));
        }
        if self.out.is_some() && event.fence != self.out {
            return Err(("I3", format!("{:?} is still out", self.out)));
        }
        Ok(())
    }
}

/// A destructive step went on although it was not seen that what it is about is gone.
fn taken_for_absent(view: &DeletionView, event: &AuditEvent) -> Option<String> {
    let (JobKind::Stage(stage), Some(presence)) = (event.job?, event.presence) else { return None };
    let steps = &view.deletion.plan.stage(stage).steps;
    let step = steps.iter().find(|step| Some(&step.name) == event.step.as_ref())?;
    let destructive = step.nature == Nature::Destructive && event.mode == Some(Mode::Perform);
    let stays = matches!(event.state, Some(StateName::Waiting | StateName::Parked));
    (destructive && presence != Presence::Absent && !stays)
        .then(|| format!("{presence:?} was taken for absent"))
}

/// Why it is too early for anything of `stage` at `at`: its date, or the grace since the stage before it. Of rehearsals,
/// where the date is a moment.
pub fn early(view: &DeletionView, stage: Stage, at: Timestamp, day: Day) -> Option<String> {
    let d = &view.deletion;
    let offset = |stage: Stage| i64::from(d.plan.stage(stage).offset_days);
    let days = |days: i64| days * i64::try_from(day.length_ms()).unwrap_or(i64::MAX) * 1000;
    let due = d.record.due.moment.map_or(i64::MAX, |moment| moment.0 + days(offset(stage)));
    if at.0 < due {
        return Some(format!("{stage} is due at {}", Timestamp(due)));
    }
    let before = Stage::ALL.into_iter().filter(|other| *other < stage).max()?;
    let done = |row: &&AuditRow| {
        row.event.job == Some(JobKind::Stage(before)) && row.event.state == Some(StateName::Done)
    };
    let Some(ended) = view.audit.iter().find(done).map(|row| row.event.at) else {
        return Some(format!("{before} has not ended"));
    };
    let grace = ended.0 + days(offset(stage) - offset(before));
    (at.0 < grace).then(|| format!("the grace ends at {}", Timestamp(grace)))
}

/// How many jobs of this record hold the lock on its resource: those that have begun and are not over, whatever they wait for.
pub fn locks(view: &DeletionView) -> usize {
    let holds = |state: &JobState| match state {
        JobState::Ready { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Parked { .. } => true,
        JobState::Scheduled { .. }
        | JobState::Held { .. }
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => false,
    };
    view.deletion.jobs.iter().filter(|job| holds(&job.state)).count()
}

/// One event on one line.
pub fn in_words(event: &AuditEvent) -> String {
    let job = event.job.map(|job| format!(" {job}")).unwrap_or_default();
    let step = event.step.as_deref().map(|step| format!(" {step}")).unwrap_or_default();
    let mode = event.mode.map(|mode| format!(" ({})", mode.word())).unwrap_or_default();
    let state = event.state.map(|state| format!(" -> {state:?}")).unwrap_or_default();
    let fence = event.ordered.map(|fence| format!(", ordered {fence}")).unwrap_or_default();
    let detail: String = event.detail.chars().take(120).collect();
    format!("{:?}{job}{step}{mode}{state}{fence} by {} {detail}", event.what, event.by)
}

#[cfg(test)]
mod tests;
