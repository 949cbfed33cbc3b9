//! What has piled up before a stage that is not counted, such as soft while nobody was there for the hypervisor.
//!
//! Soft needs no number of its own: as many begin it within a day as were announced within one, and announcing is
//! counted. That is so as long as each begins when it is due. What was due earlier comes on top, all at once: so
//! whatever has been due for longer than the span that is counted over is counted itself, against the same numbers.
//! What is due by now, and within that span, is no more than was announced in one, and asks nobody; nor does it
//! wait for what has piled up.
use super::{Budgets, day_us};
use crate::job::{Job, Stage};
use crate::time::{Day, Timestamp};

/// Nothing has piled up that has been due for less, in microseconds: many that are due at once take that long to
/// begin on a slow machine. Only a rehearsal's span is as short.
const LEAST_US: i64 = 60_000_000;

impl Budgets {
    /// Whether what has piled up before `stage` is counted, although nothing else of it is. Recycle is left out: it
    /// does nothing to a resource.
    pub fn counts_backlog(&self, stage: Stage) -> bool {
        self.each.is_some() && !self.stages.contains(&stage) && stage != Stage::Recycle
    }

    /// How many of those that have not begun `stage` are counted before they do: all of a stage that is counted, else the
    /// `backlog` among them, if that is.
    pub fn counted(&self, stage: Stage, waiting: u64, backlog: u64) -> u64 {
        if self.bind(stage) {
            waiting
        } else if self.counts_backlog(stage) {
            backlog
        } else {
            0
        }
    }

    /// What has been due since then, or for longer, has piled up at `now`.
    pub fn backlog_until(&self, now: Timestamp, day: Day) -> Timestamp {
        let span = day_us(day).saturating_mul(i64::from(self.days)).max(LEAST_US);
        Timestamp(now.0.saturating_sub(span))
    }

    /// Stages of which there are admissions: those that are counted, and those of which a backlog is.
    pub fn admitted(&self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |stage| self.bind(*stage) || self.counts_backlog(*stage))
    }

    /// Whether a job that has not begun `stage` is one of a backlog that is counted.
    pub fn backlog(&self, (stage, job): (Stage, &Job), now: Timestamp, day: Day) -> bool {
        job.state.due_at().is_some_and(|due| due <= self.backlog_until(now, day))
            && self.counts_backlog(stage)
    }
}

/// Whether a job may be one of a backlog, whatever the budgets: a quick look, since hardly any is.
pub(crate) fn may_be(job: &Job, now: Timestamp) -> bool {
    job.state.due_at().is_some_and(|due| now.0.saturating_sub(due.0) >= LEAST_US)
}
