//! The job table: what it says of the deletion and of what is in force. All of it goes back with an older copy.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use sexton_model::belts::{InForce, Pause, PauseSelector};
use sexton_model::deletion::{Deletion, Hold, RecordStatus};
use sexton_model::job::{Blocker, Job, JobState, Stage};
use sexton_model::{Fence, Timestamp};

use super::fixed::{IN_FORCE, OPS, REASON, TICK};

/// A job, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Job);

impl Hash for Row {
    fn hash<H: Hasher>(&self, h: &mut H) {
        let job = &self.0;
        (job.kind, job.cursor, job.phase as u8, job.touched, job.attempts, job.in_vain).hash(h);
        (job.quiet_after, job.state.name()).hash(h);
        match &job.state {
            JobState::Scheduled { due_at } => due_at.hash(h),
            JobState::Held { due_at, by } => (due_at, by.to_string()).hash(h),
            JobState::Ready { blocked, .. } => blocked.as_ref().map(ToString::to_string).hash(h),
            JobState::Waiting { until, .. } => until.hash(h),
            JobState::Running(out) | JobState::Cancelling(out) => {
                (out.fence, out.deadline, out.lease_until, out.started).hash(h);
            }
            JobState::Parked { .. } | JobState::Done | JobState::Cancelled | JobState::Rescued => {}
        }
    }
}

/// What a pause covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Covers {
    /// Every stage.
    Everything,
    /// One of them.
    Only(Stage),
}

impl Covers {
    /// Those that are tried.
    pub const ALL: [Self; 3] = [Self::Everything, Self::Only(Stage::Soft), Self::Only(Stage::Hard)];

    /// Whether it covers `stage`; said once more than in the model, which is held against it.
    pub fn covers(self, stage: Stage) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(only) => only == stage,
        }
    }

    /// The pause. A second one of the same is the same again: only what is in force counts.
    fn pause(self) -> Pause {
        let (id, stage) = match self {
            Self::Everything => (1, None),
            Self::Only(stage) => (2 + i64::from(stage.index()), Some(stage)),
        };
        let covers = PauseSelector { stage, ..PauseSelector::default() };
        let reason = stage.map_or("everything", Stage::word).to_owned();
        Pause { id, covers, by: OPS.clone(), reason, since: Timestamp(0) }
    }
}

/// The hold of a number. Those on a record differ by nothing else.
pub fn hold(id: i64) -> Hold {
    Hold { id, origin: OPS.clone(), reason: REASON.to_owned(), since: Timestamp(0) }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    pub jobs: Vec<Row>,
    pub status: RecordStatus,
    pub manifests: [Option<bool>; 2],
    /// Numbers of the holds that stand, ascending.
    pub holds: Vec<i64>,
    pub pauses: BTreeSet<Covers>,
}

impl Table {
    /// The record was made.
    pub fn new(base: &Deletion) -> Self {
        Self {
            jobs: base.jobs.iter().cloned().map(Row).collect(),
            status: RecordStatus::Live,
            manifests: [None; 2],
            holds: Vec::new(),
            pauses: BTreeSet::new(),
        }
    }

    /// What is decided on.
    pub fn deletion(&self, base: &Deletion) -> Deletion {
        Deletion {
            jobs: self.jobs.iter().map(|row| row.0.clone()).collect(),
            status: self.status,
            holds: self.holds.iter().copied().map(hold).collect(),
            // Holds are numbered behind it.
            audit_seq: self.holds.last().copied().unwrap_or(0),
            ..base.clone()
        }
    }

    /// What was decided, but for manifests.
    pub fn write(&mut self, deletion: Deletion) {
        self.status = deletion.status;
        self.holds = deletion.holds.iter().map(|hold| hold.id).collect();
        self.jobs = deletion.jobs.into_iter().map(Row).collect();
    }

    /// What is in force.
    pub fn in_force(&self) -> Cow<'static, InForce> {
        if self.pauses.is_empty() {
            return Cow::Borrowed(&*IN_FORCE);
        }
        let pauses = self.pauses.iter().map(|covers| covers.pause()).collect();
        Cow::Owned(InForce { pauses, ..IN_FORCE.clone() })
    }

    /// The fences of orders that are out.
    pub fn fences(&self) -> impl Iterator<Item = Fence> {
        self.jobs.iter().filter_map(|row| row.0.state.out().map(|out| out.fence))
    }

    /// Whether an order of this fence is out.
    pub fn is_out(&self, fence: Fence) -> bool {
        self.fences().any(|out| out == fence)
    }

    /// What stops jobs.
    pub fn blockers(&self) -> impl Iterator<Item = (&Job, &Blocker)> {
        self.jobs.iter().filter_map(|Row(job)| match &job.state {
            JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. } => Some((job, by)),
            JobState::Scheduled { .. }
            | JobState::Ready { blocked: None, .. }
            | JobState::Running(_)
            | JobState::Waiting { .. }
            | JobState::Cancelling(_)
            | JobState::Parked { .. }
            | JobState::Done
            | JobState::Cancelled
            | JobState::Rescued => None,
        })
    }

    /// Whether a restore goes on.
    pub fn restoring(&self) -> bool {
        self.status == RecordStatus::Restoring
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.moments(&|at: &mut Timestamp| *at = Timestamp(at.0 - TICK));
    }

    /// Forget what no longer decides anything: texts, moments before now, numbers of holds other than their order.
    pub fn forget(&mut self) {
        self.moments(&clamp);
        for Row(job) in &mut self.jobs {
            job.ended_at = None;
            match &mut job.state {
                JobState::Waiting { reason, .. } | JobState::Parked { reason } => reason.clear(),
                JobState::Ready { since, .. } => *since = Timestamp(0),
                JobState::Scheduled { .. }
                | JobState::Held { .. }
                | JobState::Running(_)
                | JobState::Cancelling(_)
                | JobState::Done
                | JobState::Cancelled
                | JobState::Rescued => {}
            }
        }
        for (id, rank) in self.holds.iter_mut().zip(1..) {
            *id = rank;
        }
    }

    /// Every moment that decides anything.
    fn moments(&mut self, change: &dyn Fn(&mut Timestamp)) {
        for Row(job) in &mut self.jobs {
            change(&mut job.quiet_after);
            match &mut job.state {
                JobState::Scheduled { due_at: Some(at) }
                | JobState::Held { due_at: at, .. }
                | JobState::Waiting { until: at, .. } => change(at),
                JobState::Running(out) | JobState::Cancelling(out) => {
                    change(&mut out.deadline);
                    change(&mut out.lease_until);
                }
                JobState::Scheduled { due_at: None }
                | JobState::Ready { .. }
                | JobState::Parked { .. }
                | JobState::Done
                | JobState::Cancelled
                | JobState::Rescued => {}
            }
        }
    }

    /// Change every fence.
    pub fn renumber(&mut self, number: &dyn Fn(&mut Fence)) {
        for Row(job) in &mut self.jobs {
            if let JobState::Running(out) | JobState::Cancelling(out) = &mut job.state {
                number(&mut out.fence);
            }
        }
    }
}

/// Up to the next step of time: nothing happens in between. What is over is over.
pub fn clamp(at: &mut Timestamp) {
    *at = Timestamp((-(-at.0).div_euclid(TICK) * TICK).max(-TICK));
}
