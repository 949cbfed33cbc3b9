//! What a batch asks for, and what became of it.
use std::sync::Arc;

use serde_json::Value;
use sexton_model::decide::{Effect, Event, OrderSpec};
use sexton_model::deletion::{Record, RecordStatus};
use sexton_model::plan::Plan;
use sexton_model::time::Day;
use sexton_model::{DeletionId, ResourceId, Timestamp};

/// One event for one deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Whose.
    pub deletion: DeletionId,
    /// What.
    pub event: Event,
}

/// An order to publish, with all that the consumer needs.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What is ordered.
    pub spec: OrderSpec,
    /// The record.
    pub record: Arc<Record>,
    /// The record's plan.
    pub plan: Arc<Plan>,
    /// The instance's pinned targets.
    pub targets: Option<Value>,
    /// The step's manifest, for a perform or undo of a reversible step and for the look at its undo.
    pub manifest: Option<Value>,
    /// The pause revision under which it was decided.
    pub revision: i64,
    /// What a day is: a plan's parameters may say until when something can be undone.
    pub day: Day,
}

/// What became of one intent.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Whose.
    pub deletion: DeletionId,
    /// The resource.
    pub resource: ResourceId,
    /// Orders to publish; at most one.
    pub dispatch: Option<Dispatch>,
    /// Everything else that is to happen.
    pub effects: Vec<Effect>,
    /// Where the record stands now.
    pub status: RecordStatus,
    /// Number of the decision's audit event.
    pub audit_seq: i64,
    /// When it was decided, by the store's clock.
    pub at: Timestamp,
    /// When a job that it is held by something that ends by itself is to be looked at again.
    pub again_at: Option<Timestamp>,
    /// Its record has ended, and others of its redundancy groups may have waited for that.
    pub leaves_groups: bool,
}
