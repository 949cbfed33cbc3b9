//! A job as a flat row: the only place where a state's data becomes nullable columns and back.
use sexton_model::decide::Lane;
use sexton_model::deletion::Deletion;
use sexton_model::id::Fence;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Out, Phase, StateName};
use sexton_model::{DeletionId, JobId, ResourceId, Timestamp};

use crate::LedgerError;

/// One row of the job table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Contains deletion and slot.
    pub id: JobId,
    /// Position in [`StateName::ALL`].
    pub state: i16,
    /// Tied to the state by a CHECK; the lock is a partial unique index on it.
    pub locks: bool,
    /// In line for credit or due: in the queue index. Not while blocked.
    pub queued: bool,
    /// Held by a belt: in the index of what is looked at again.
    pub held: bool,
    /// Which line it stands in: the instance needed next, empty for the coordinator's own steps. NULL while
    /// not queued, so that going from step to step does not touch the index.
    pub wants: Option<String>,
    /// 0 a restore, 1 in line, 2 due.
    pub rank: i16,
    /// When it was due or in line; microseconds.
    pub due_at: Option<i64>,
    /// See [`Job::cursor`].
    pub cursor: i16,
    /// 0 capture, 1 act, 2 verify.
    pub phase: i16,
    /// See [`Job::touched`].
    pub touched: bool,
    /// See [`Job::attempts`].
    pub attempts: i16,
    /// See [`Job::in_vain`].
    pub unstarted: i16,
    /// See [`Job::quiet_after`]; microseconds.
    pub quiet_after: i64,
    /// See [`Job::ended_at`]; microseconds.
    pub ended_at: Option<i64>,
    /// The order that is out.
    pub fence_epoch: Option<i32>,
    /// Its number.
    pub fence_number: Option<i64>,
    /// Its deadline; microseconds.
    pub deadline: Option<i64>,
    /// When to look again: lease or back-off; microseconds.
    pub wake_at: Option<i64>,
    /// The order's consumer began.
    pub started: bool,
    /// The performer's nonce, as a signed integer of the same bits.
    pub performer: Option<i64>,
    /// The instance the order is out at: what credit is counted by.
    pub out_at: Option<String>,
    /// Why it is held, blocked, waiting or parked. A blocker is JSON.
    pub reason: Option<String>,
}

impl JobRow {
    /// The row of `job`, which is one of `deletion`'s.
    pub fn of(deletion: &Deletion, job: &Job) -> Self {
        let name = job.state.name();
        let out = job.state.out();
        let (queued, due_at, wake_at, reason) = match &job.state {
            JobState::Scheduled { due_at } => (due_at.is_some(), *due_at, None, None),
            JobState::Held { due_at, by } => (false, Some(*due_at), None, blocker_text(by)),
            JobState::Ready { since, blocked: None } => (true, Some(*since), None, None),
            JobState::Ready { since, blocked: Some(by) } => (false, Some(*since), None, blocker_text(by)),
            JobState::Running(out) | JobState::Cancelling(out) => (false, None, Some(out.lease_until), None),
            JobState::Waiting { until, reason } => (false, None, Some(*until), Some(reason.clone())),
            JobState::Parked { reason } => (false, None, None, Some(reason.clone())),
            JobState::Done | JobState::Cancelled | JobState::Rescued => (false, None, None, None),
        };
        let wants = deletion.wants(job).map(|i| i.to_string());
        Self {
            id: job.id,
            state: code(name),
            locks: name.locks(),
            queued,
            held: name == StateName::Held,
            wants: queued.then(|| wants.clone().unwrap_or_default()),
            rank: match (job.kind, name.locks()) {
                (JobKind::Restore, _) => 0,
                (JobKind::Stage(_), true) => 1,
                (JobKind::Stage(_), false) => 2,
            },
            due_at: due_at.map(|t| t.0),
            cursor: small(job.cursor),
            phase: match job.phase {
                Phase::Capture => 0,
                Phase::Act => 1,
                Phase::Verify => 2,
            },
            touched: job.touched,
            attempts: small(job.attempts),
            unstarted: small(job.in_vain),
            quiet_after: job.quiet_after.0,
            ended_at: job.ended_at.map(|t| t.0),
            fence_epoch: out.map(|o| i32::try_from(o.fence.epoch).unwrap_or(i32::MAX)),
            fence_number: out.map(|o| o.fence.number),
            deadline: out.map(|o| o.deadline.0),
            wake_at: wake_at.map(|t| t.0),
            started: out.is_some_and(|o| o.started),
            performer: out.and_then(|o| o.performer).map(u64::cast_signed),
            out_at: out.and(wants),
            reason,
        }
    }

    /// The job a row stands for.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if the columns do not fit the state.
    pub fn job(&self) -> Result<Job, LedgerError> {
        let corrupt = |reason: &str| LedgerError::Corrupt {
            table: "jobs",
            key: self.id.to_string(),
            reason: reason.to_owned(),
        };
        let name = usize::try_from(self.state).ok().and_then(|n| StateName::ALL.get(n).copied());
        let name = name.ok_or_else(|| corrupt("unknown state"))?;
        let kind = JobKind::from_slot(self.id.slot()).ok_or_else(|| corrupt("unknown slot"))?;
        let due_at = self.due_at.map(Timestamp);
        let need = |value: Option<i64>, what: &str| value.map(Timestamp).ok_or_else(|| corrupt(what));
        let text = || self.reason.clone().unwrap_or_default();
        let blocker = || -> Result<Option<Blocker>, LedgerError> {
            self.reason.as_deref().map(serde_json::from_str).transpose().map_err(|e| corrupt(&e.to_string()))
        };
        let state = match name {
            StateName::Scheduled => JobState::Scheduled { due_at },
            StateName::Held => JobState::Held {
                due_at: need(self.due_at, "held without due_at")?,
                by: blocker()?.ok_or_else(|| corrupt("held without a reason"))?,
            },
            StateName::Ready => {
                JobState::Ready { since: need(self.due_at, "ready without due_at")?, blocked: blocker()? }
            }
            StateName::Running | StateName::Cancelling => {
                let (Some(epoch), Some(number)) = (self.fence_epoch, self.fence_number) else {
                    return Err(corrupt("an order without a fence"));
                };
                let out = Out {
                    fence: Fence { epoch: u32::try_from(epoch).unwrap_or(0), number },
                    deadline: need(self.deadline, "an order without a deadline")?,
                    lease_until: need(self.wake_at, "an order without a lease")?,
                    started: self.started,
                    performer: self.performer.map(i64::cast_unsigned),
                };
                if name == StateName::Running { JobState::Running(out) } else { JobState::Cancelling(out) }
            }
            StateName::Waiting => {
                JobState::Waiting { until: need(self.wake_at, "waiting without an end")?, reason: text() }
            }
            StateName::Parked => JobState::Parked { reason: text() },
            StateName::Done => JobState::Done,
            StateName::Cancelled => JobState::Cancelled,
            StateName::Rescued => JobState::Rescued,
        };
        let phase = match self.phase {
            0 => Phase::Capture,
            1 => Phase::Act,
            2 => Phase::Verify,
            _ => return Err(corrupt("unknown phase")),
        };
        let count = |n: i16, what: &str| u16::try_from(n).map_err(|_| corrupt(what));
        Ok(Job {
            id: self.id,
            kind,
            state,
            cursor: count(self.cursor, "cursor below zero")?,
            phase,
            touched: self.touched,
            attempts: count(self.attempts, "attempts below zero")?,
            in_vain: count(self.unstarted, "unstarted below zero")?,
            quiet_after: Timestamp(self.quiet_after),
            ended_at: self.ended_at.map(Timestamp),
        })
    }

    /// Whose job it is.
    pub fn deletion(&self) -> DeletionId {
        self.id.deletion()
    }

    /// The lane its orders count in.
    pub fn lane(&self) -> Lane {
        if self.id.slot() == JobKind::RESTORE_SLOT { Lane::Restores } else { Lane::Stages }
    }
}

/// The stored code of a state.
pub fn code(name: StateName) -> i16 {
    name as i16
}

fn small(n: u16) -> i16 {
    i16::try_from(n).unwrap_or(i16::MAX)
}

fn blocker_text(by: &Blocker) -> Option<String> {
    serde_json::to_string(by).ok()
}

/// The resource column of a deletion's jobs: the lock is on it.
pub fn resource_of(deletion: &Deletion) -> &ResourceId {
    &deletion.record.resource.id
}
