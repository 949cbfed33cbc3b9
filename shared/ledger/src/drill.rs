//! Drills, as both footings keep them: the last one with each resource.
use async_trait::async_trait;
use sexton_model::drill::{self, Drill};

use crate::rules::LedgerEvent;
use crate::{LedgerError, known};

/// What is known of drills.
#[async_trait]
pub trait Drills: Send + Sync {
    /// The last one with each resource, ascending by it.
    async fn drills(&self) -> Result<Vec<Drill>, LedgerError>;

    /// Write one down, unless what was read of its resource before is not what stands any more: then somebody else was
    /// faster, and it is false.
    async fn keep_drill(&self, before: Option<&Drill>, drill: &Drill) -> Result<bool, LedgerError>;
}

/// The event of one that was begun, got its record, or was judged.
pub(crate) fn kept(drill: &Drill, at: sexton_model::Timestamp) -> Result<LedgerEvent, LedgerError> {
    let body = known::value(drill)?;
    Ok(LedgerEvent { at, what: "drill".into(), by: drill::actor().to_string(), body })
}
