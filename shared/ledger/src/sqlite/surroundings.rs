//! What a job table takes from the machine it runs on, for whoever stands in for it: its clocks, whether its disk keeps
//! what is synced, and the moments at which whoever asks may be stopped.
//!
//! A simulator puts its own in place; without one the clock is the process's, and nobody is stopped.
use std::pin::Pin;
use std::sync::Arc;
use std::{fmt, io};

use sexton_model::{DeletionId, Timestamp};

use crate::round::Steady;

/// Where a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is read yet.
    BeforeRead,
    /// Nothing is written yet.
    BeforeWrite,
    /// It is committed, with decisions about these; whoever asked does not know yet.
    Committed(Vec<DeletionId>),
}

/// Waits until whoever asked may go on. Dropped with the question if it is given up.
pub type Pass = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time, and who goes on when.
pub trait Surroundings: Send + Sync + 'static {
    /// The store's clock. It may go back; what the job table takes for now does not.
    fn now(&self) -> Timestamp;

    /// Milliseconds that have passed since some moment, however the store's clock was set meanwhile. Never less than before.
    fn steady_ms(&self) -> u64;

    /// Whoever asks has come to this moment.
    fn pass(&self, moment: Moment) -> Pass;

    /// The log is about to be synced.
    ///
    /// # Errors
    /// If the disk is to fail: it is taken for the failure of that sync.
    fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody's, if somebody stands in for the machine.
#[derive(Clone, Default)]
pub(super) struct Around(pub(super) Option<Arc<dyn Surroundings>>);

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Around(stood in for)" } else { "Around(the machine)" })
    }
}

impl Around {
    /// What rests are measured by.
    pub(super) fn steady(&self) -> Steady {
        match self.0.clone() {
            Some(around) => Steady::of(move || around.steady_ms()),
            None => Steady::default(),
        }
    }

    /// The log is about to be synced.
    ///
    /// # Errors
    /// If the disk is to fail.
    pub(super) fn before_sync(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |around| around.before_sync())
    }

    /// Whoever asks has come to this moment.
    pub(super) async fn pass(&self, moment: impl FnOnce() -> Moment) {
        if let Some(around) = &self.0 {
            around.pass(moment()).await;
        }
    }
}
