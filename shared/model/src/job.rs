//! Jobs: one stage of one deletion, or its restore. A job's state is the lock on its resource.
mod blocker;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Fence, JobId};
use crate::time::Timestamp;

pub use blocker::Blocker;

/// The stages, in order; each later and less reversible than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Look at everything, tell everybody.
    #[serde(alias = "prepare")]
    Announce,
    /// Switch off, reversibly.
    Soft,
    /// Take apart; claiming it is the end of cancel.
    Hard,
    /// Destroy data; claiming it is the point of no return.
    Purge,
    /// The name becomes free.
    Recycle,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 5] = [Self::Announce, Self::Soft, Self::Hard, Self::Purge, Self::Recycle];

    /// Its place among the stages, from 0; also its job's slot.
    pub fn index(self) -> u8 {
        self as u8
    }

    /// Whether everything a stage does can be taken back by a cancel.
    pub fn reversible(self) -> bool {
        match self {
            Self::Announce | Self::Soft => true,
            Self::Hard | Self::Purge | Self::Recycle => false,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Purge => "purge",
            Self::Recycle => "recycle",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The text is no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stage {0:?}: expected announce, soft, hard, purge or recycle")]
pub struct NoStage(pub String);

impl FromStr for Stage {
    type Err = NoStage;
    fn from_str(text: &str) -> Result<Self, NoStage> {
        if text == "prepare" {
            return Ok(Self::Announce);
        }
        Self::ALL
            .into_iter()
            .find(|s| s.word() == text)
            .ok_or_else(|| NoStage(text.chars().take(40).collect()))
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// One stage of a deletion.
    Stage(Stage),
    /// Takes back, in reverse order, what the stages before the end of cancel did.
    Restore,
}

impl JobKind {
    /// The slot of the restore, behind all stages.
    pub const RESTORE_SLOT: u8 = 5;

    /// Which place it has among its deletion's jobs; part of its id.
    pub fn slot(self) -> u8 {
        match self {
            Self::Stage(stage) => stage.index(),
            Self::Restore => Self::RESTORE_SLOT,
        }
    }

    /// The kind in `slot`.
    pub fn from_slot(slot: u8) -> Option<Self> {
        match slot {
            0..=4 => Some(Self::Stage(Stage::ALL[usize::from(slot)])),
            Self::RESTORE_SLOT => Some(Self::Restore),
            _ => None,
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => stage.fmt(f),
            Self::Restore => f.write_str("restore"),
        }
    }
}

/// An order that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// What the order is numbered with; answers under any other are stale.
    pub fence: Fence,
    /// After this the consumer does nothing more for it.
    pub deadline: Timestamp,
    /// After this the order counts as lost. Later than the deadline by the longest call and the skew.
    pub lease_until: Timestamp,
    /// The consumer said that it began.
    pub started: bool,
    /// Who performs it, by the nonce of its first progress message; extensions are bound to it.
    pub performer: Option<u64>,
}

/// Where a job stands. Each state says whether it locks the resource and who moves the job on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// No lock. The scheduler's wake-up, once due; without `due_at` its predecessor is not done.
    Scheduled {
        /// Due from then on.
        due_at: Option<Timestamp>,
    },
    /// No lock, still cancellable. Due, but a belt says not now: what lifts the belt, or a look each minute.
    Held {
        /// It was due then, and keeps its place in the queue.
        due_at: Timestamp,
        /// What says "not now".
        by: Blocker,
    },
    /// Locked, no order out: credit for the next subsystem, or the end of what stopped it between two steps. If the
    /// instance it is in line at is gone, it parks; a person can park it before.
    Ready {
        /// In line since then.
        since: Timestamp,
        /// What stopped it between two steps, if not only credit is missing.
        blocked: Option<Blocker>,
    },
    /// Locked, an order is out: its outcome, or its lease running out.
    Running(Out),
    /// Locked: its back-off. A person can park it.
    Waiting {
        /// Tried again then.
        until: Timestamp,
        /// Why it waits.
        reason: String,
    },
    /// Locked, cancelled while an order was out: the outcome or the lease of that order. Never dispatches
    /// again; the transaction that ends it claims the restore.
    Cancelling(Out),
    /// Locked. A person: retry, waive, rescue.
    Parked {
        /// Why it needs a person.
        reason: String,
    },
    /// Over: every step is done or waived.
    Done,
    /// Over: the deletion was cancelled.
    Cancelled,
    /// Over: a person saved the resource by hand.
    Rescued,
}

/// The bare name of a [`JobState`]: what is stored, listed and drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// See [`JobState::Scheduled`].
    Scheduled,
    /// See [`JobState::Held`].
    Held,
    /// See [`JobState::Ready`].
    Ready,
    /// See [`JobState::Running`].
    Running,
    /// See [`JobState::Waiting`].
    Waiting,
    /// See [`JobState::Cancelling`].
    Cancelling,
    /// See [`JobState::Parked`].
    Parked,
    /// See [`JobState::Done`].
    Done,
    /// See [`JobState::Cancelled`].
    Cancelled,
    /// See [`JobState::Rescued`].
    Rescued,
}

impl StateName {
    /// All names, in the order of the design's table; the position is the stored code.
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Held,
        Self::Ready,
        Self::Running,
        Self::Waiting,
        Self::Cancelling,
        Self::Parked,
        Self::Done,
        Self::Cancelled,
        Self::Rescued,
    ];

    /// Whether a job in this state holds the lock on its resource.
    pub fn locks(self) -> bool {
        match self {
            Self::Ready | Self::Running | Self::Waiting | Self::Cancelling | Self::Parked => true,
            Self::Scheduled | Self::Held | Self::Done | Self::Cancelled | Self::Rescued => false,
        }
    }

    /// Whether a job in this state is over.
    pub fn over(self) -> bool {
        match self {
            Self::Done | Self::Cancelled | Self::Rescued => true,
            Self::Scheduled
            | Self::Held
            | Self::Ready
            | Self::Running
            | Self::Waiting
            | Self::Cancelling
            | Self::Parked => false,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Held => "held",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Rescued => "rescued",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl JobState {
    /// When what has not begun is due, if that is known. Of what has begun nothing is.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { due_at } => *due_at,
            Self::Held { due_at, .. } => Some(*due_at),
            Self::Ready { .. }
            | Self::Running(_)
            | Self::Waiting { .. }
            | Self::Cancelling(_)
            | Self::Parked { .. }
            | Self::Done
            | Self::Cancelled
            | Self::Rescued => None,
        }
    }

    /// When the job is to be looked at again, if it is held by something that ends by itself at a known moment.
    pub fn again_at(&self) -> Option<Timestamp> {
        match self {
            Self::Held { by: Blocker::Outage { until, .. }, .. } => Some(*until),
            // Working hours too, but nobody is in a hurry there: the round over what is held finds it within a minute.
            Self::Held { .. }
            | Self::Scheduled { .. }
            | Self::Ready { .. }
            | Self::Running(_)
            | Self::Waiting { .. }
            | Self::Cancelling(_)
            | Self::Parked { .. }
            | Self::Done
            | Self::Cancelled
            | Self::Rescued => None,
        }
    }

    /// Its bare name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Scheduled { .. } => StateName::Scheduled,
            Self::Held { .. } => StateName::Held,
            Self::Ready { .. } => StateName::Ready,
            Self::Running(_) => StateName::Running,
            Self::Waiting { .. } => StateName::Waiting,
            Self::Cancelling(_) => StateName::Cancelling,
            Self::Parked { .. } => StateName::Parked,
            Self::Done => StateName::Done,
            Self::Cancelled => StateName::Cancelled,
            Self::Rescued => StateName::Rescued,
        }
    }

    /// The order that is out, if one is.
    pub fn out(&self) -> Option<&Out> {
        match self {
            Self::Running(out) | Self::Cancelling(out) => Some(out),
            Self::Scheduled { .. }
            | Self::Held { .. }
            | Self::Ready { .. }
            | Self::Waiting { .. }
            | Self::Parked { .. }
            | Self::Done
            | Self::Cancelled
            | Self::Rescued => None,
        }
    }
}

/// Which part of the step under the cursor comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its manifest is not committed yet.
    Capture,
    /// It may be performed; in a restore: undone.
    Act,
    /// In a restore: it was undone and is to be looked at once more.
    Verify,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id, which contains its deletion and its kind.
    pub id: JobId,
    /// Stage or restore.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// Index of the step it is at; the number of steps once all are done.
    pub cursor: u16,
    /// Which part of that step comes next.
    pub phase: Phase,
    /// The step at the cursor may have been performed: an order that changes something went out for it.
    pub touched: bool,
    /// Attempts spent on this part of the step.
    pub attempts: u16,
    /// Orders in a row that came to nothing without spending an attempt, by their weight; see
    /// [`crate::retry::in_vain_too_often`].
    pub in_vain: u16,
    /// No order of this job changes anything after this moment: the latest deadline of any that could,
    /// by a clock that is as slow as those of consumers may be.
    pub quiet_after: Timestamp,
    /// When it ended, for the successor's grace.
    pub ended_at: Option<Timestamp>,
}

impl Job {
    /// A job nobody has touched.
    pub fn new(id: JobId, kind: JobKind, due_at: Option<Timestamp>) -> Self {
        Self {
            id,
            kind,
            state: JobState::Scheduled { due_at },
            cursor: 0,
            phase: Phase::Capture,
            touched: false,
            attempts: 0,
            in_vain: 0,
            quiet_after: Timestamp::default(),
            ended_at: None,
        }
    }
}
