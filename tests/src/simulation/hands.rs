//! What a consumer has in hand while it changes something, and what becomes of it when the process was stopped for longer than
//! the lease: it goes on as if nothing had been, and has to be refused. Both are counted, for a process that is stopped
//! while it has nothing to do shows nothing.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_consumer::Obstacle;
use sexton_model::{Fence, Timestamp};
use sexton_protocol::Order;

use super::check::SKEW_MS;
use super::weather::Dice;

/// A process went on, and had an order in hand whose lease was over.
pub const PAST_LEASE: &str = "went on past its lease";
/// What it had in hand then was not carried out.
pub const REFUSED_THEN: &str = "refused then";

/// All of one process.
#[derive(Debug, Default)]
pub struct Hands {
    /// Orders in hand, and whether their leases were over when the process went on.
    of: Mutex<BTreeMap<Fence, bool>>,
}

impl Hands {
    /// An order is taken in hand.
    pub fn take(self: &Arc<Self>, fence: Fence, dice: &Arc<Dice>) -> InHand {
        self.held().insert(fence, false);
        InHand { hands: self.clone(), fence, dice: dice.clone(), waits: AtomicBool::default() }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.held().is_empty()
    }

    /// The process goes on at this moment of the job table's, which has given these orders. How many leases are over of what
    /// it has in hand.
    pub fn go_on(&self, now: Timestamp, given: &BTreeMap<Fence, Order>) -> usize {
        let over = |order: &Order| now > order.deadline.plus_ms(order.longest_call_ms).plus_ms(SKEW_MS);
        let mut many = 0;
        for (fence, late) in self.held().iter_mut() {
            if given.get(fence).is_some_and(over) {
                *late = true;
                many += 1;
            }
        }
        many
    }

    /// The process dies: nothing of it is refused.
    pub fn drop_all(&self) {
        self.held().clear();
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Fence, bool>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One order in hand.
#[derive(Debug)]
pub struct InHand {
    hands: Arc<Hands>,
    fence: Fence,
    dice: Arc<Dice>,
    /// It is at a call: whoever ends it there lets it do nothing more.
    waits: AtomicBool,
}

impl InHand {
    /// Make this call with it.
    pub async fn at<T>(&self, call: impl Future<Output = T>) -> T {
        self.waits.store(true, Ordering::SeqCst);
        let came = call.await;
        self.waits.store(false, Ordering::SeqCst);
        came
    }

    /// This is what was said when it asked whether it may change something.
    ///
    /// # Errors
    /// The same.
    pub fn may<T>(&self, said: Result<T, Obstacle>) -> Result<T, Obstacle> {
        if said.is_err() {
            self.refused();
        }
        said
    }

    fn refused(&self) {
        if self.hands.held().remove(&self.fence) == Some(true) {
            self.dice.count(REFUSED_THEN);
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if self.waits.load(Ordering::SeqCst) {
            self.refused();
        }
        self.hands.held().remove(&self.fence);
    }
}
