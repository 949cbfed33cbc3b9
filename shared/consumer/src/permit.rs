//! The right to change a resource, as long as it lasts.
use std::sync::Arc;
use std::time::Duration;

use sexton_model::{Fence, ResourceId, Timestamp};
use tokio::sync::watch;

use crate::driver::Obstacle;
use crate::fences::Fences;
use crate::hearing::Hearing;

/// What an admitted order may still do: asked anew before each change, since time passes, coordinators pause and
/// later orders come while a step is under way.
#[derive(Debug)]
pub(crate) struct Right {
    pub(crate) resource: ResourceId,
    pub(crate) fence: Fence,
    /// The pause revision under which the order was given.
    pub(crate) revision: i64,
    /// Whether it takes something back: no pause stops that.
    pub(crate) undoing: bool,
    /// Moved on by extensions.
    pub(crate) deadline: watch::Receiver<Timestamp>,
    pub(crate) hearing: Arc<Hearing>,
    pub(crate) fences: Arc<Fences>,
}

impl Right {
    /// The right to one change, if it exists at this very moment.
    pub(crate) fn permit(self: &Arc<Self>) -> Result<Permit, Obstacle> {
        self.holds()?;
        Ok(Permit { right: self.clone() })
    }

    /// Time, beacon and fence.
    fn holds(&self) -> Result<(), Obstacle> {
        self.hearing
            .judge(self.fence.epoch, self.revision, self.undoing)
            .map_err(|not_now| Obstacle::Busy(format!("not begun: {not_now}")))?;
        if self.time_left().is_zero() {
            return Err(Obstacle::Unclear("its deadline passed before the change was begun".to_owned()));
        }
        self.fences
            .admit(&self.resource, self.fence)
            .map_err(|higher| Obstacle::Busy(format!("not begun: overtaken by {higher}")))
    }

    pub(crate) fn time_left(&self) -> Duration {
        let deadline = *self.deadline.borrow();
        Duration::from_millis(self.hearing.ledger_now().map_or(0, |now| deadline.ms_since(now)))
    }
}

/// Minted by the SDK only, after key, deadline, fence, identity and a fresh beacon have been checked. A driver
/// cannot change anything without one. Time has passed since it was minted: right before each change ask
/// [`Permit::again`]. It is neither `Clone` nor `Copy`.
#[derive(Debug)]
pub struct Permit {
    right: Arc<Right>,
}

impl Permit {
    /// The fence that the order has: for names that are made of it, and to write down what was done. A change is made
    /// under the one that [`Permit::again`] gives.
    pub fn fence(&self) -> Fence {
        self.right.fence
    }

    /// Check once more, right before a change: is there time left, is the beacon fresh and nothing paused, did no
    /// later order come. Gives the fence to make the change under.
    ///
    /// # Errors
    /// Why the change must not be made now. What was changed before stays; the step is tried again.
    pub fn again(&self) -> Result<Fence, Obstacle> {
        self.right.holds()?;
        Ok(self.right.fence)
    }

    /// Time left until the deadline, extensions included.
    pub fn time_left(&self) -> Duration {
        self.right.time_left()
    }
}
