//! What a decision is: changes, which are written, and effects, which happen after the commit.
use serde_json::Value;

use crate::audit::AuditEvent;
use crate::deletion::{Hold, RecordStatus, Waiver};
use crate::id::{Fence, Instance, JobId};
use crate::job::{Job, JobKind, Stage};
use crate::resource::Presence as ResourcePresence;
use crate::step::Mode;
use crate::time::Timestamp;

/// One thing to be written, in the transaction that decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The job is this now (inserted if it is new).
    Job(Job),
    /// The record stands there now.
    Status(RecordStatus),
    /// A hold was placed.
    HoldPlaced(Hold),
    /// A hold is gone.
    HoldReleased(i64),
    /// A step was let pass.
    Waived(Waiver),
    /// Targets of an instance: pinned anew, or joined by what a step created.
    Targets {
        /// Whose.
        instance: Instance,
        /// What.
        value: Value,
        /// Merge by key into what is there, rather than replace it.
        join: bool,
    },
    /// The manifest of a step; the first one written stays.
    Manifest {
        /// The stage's slot.
        slot: u8,
        /// The step's index in it.
        step: u16,
        /// What an exact undo needs.
        value: Value,
    },
    /// The resource in the inventory.
    Resource(ResourcePresence),
}

/// One order to give after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderSpec {
    /// The job it is for.
    pub job: JobId,
    /// The job's kind.
    pub kind: JobKind,
    /// The stage whose step it is: in a restore, the one that is taken back.
    pub stage: Stage,
    /// The step's index in that stage.
    pub step: u16,
    /// What is asked.
    pub mode: Mode,
    /// Who is asked.
    pub instance: Instance,
    /// Its number.
    pub fence: Fence,
    /// After this nothing more is done for it.
    pub deadline: Timestamp,
    /// Attempts spent before it.
    pub attempts: u16,
}

/// What is to happen after the commit. All of it may be lost: the lease repairs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Give an order.
    Order(OrderSpec),
    /// Tell the performer that it may go on until then.
    Extend {
        /// Which job.
        job: JobId,
        /// Under which fence.
        fence: Fence,
        /// Who.
        performer: u64,
        /// Until when.
        deadline: Timestamp,
    },
    /// Tell whoever listens.
    Happened {
        /// What, in one word: `stage_done`, `parked`, `drift`, `restored`, …
        what: &'static str,
        /// The stage or the reason.
        detail: String,
    },
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Written together, in this order.
    pub changes: Vec<Change>,
    /// Happen afterwards.
    pub effects: Vec<Effect>,
    /// Written with the changes.
    pub audit: AuditEvent,
}
