//! The broker: what wakes the coordinator and its consumers up.
//!
//! Two traits, [`Bus`] and [`Subscription`], and two implementations that pass one conformance suite:
//! [`rabbit::Rabbit`] for many machines and [`local::Local`] for one process. Nothing above this crate knows
//! which of them it stands on, and no other crate knows lapin.
//!
//! # Contract
//! - **At least once.** A message that was published with `Ok` is delivered until somebody acks it; it may be
//!   delivered more than once, and after an error it may have been published all the same. Publish again with
//!   the same `message_id`.
//! - **Nothing here is the truth.** The job table is; a message that is lost is repaired by a lease that runs
//!   out. So a bus may drop what is only a wake-up (stage-due, pulses, beacons, events), oldest first, and
//!   says so in [`topology`].
//! - **Who sent it is stamped, not claimed**: [`Delivery::user_id`] is the publisher's own login, which the
//!   broker validates.
//! - **Everything is bounded**: message size, queue length, prefetch, batch, and every wait.
//! - **An outage of the broker is not an error of the subscriber**: [`Subscription::next`] waits it out.
//!
//! # Why not dead-letter exchanges, transactions, or the client's own recovery
//! Rejected orders are published with their reason by whoever rejects them, because a dead-letter exchange
//! would collect expired ones and prefetched neighbours too. Publisher confirms give the one guarantee that is
//! needed at a fraction of a transaction's cost. And a recovery that gives up silently is worse than none:
//! connections are rebuilt from scratch here, for as long as it takes.
pub mod definitions;
pub mod local;
mod message;
pub mod rabbit;
pub mod topology;

use std::time::Duration;

use async_trait::async_trait;
pub use sexton_model::Instance;

pub use message::{
    Acker, BusError, CONTENT_TYPE, Delivery, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_LINGER, MAX_PREFETCH,
    Outgoing, PublishError, Queue, Tag, Target,
};
pub use topology::Topology;

/// A broker, seen by one login.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publish all of them; the results come in the same order. `Ok` means that the broker has confirmed (in
    /// one process: queued). What goes to one queue arrives in the order given, unless it had to be repeated.
    ///
    /// Returns within a bounded time, also during an outage.
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>>;

    /// Subscribe. Up to `prefetch` messages are handed out before the first of them is acked.
    ///
    /// # Errors
    /// If `prefetch` is not in `1..=`[`MAX_PREFETCH`], if the queue does not exist or may not be read, or if
    /// the broker cannot be reached in a bounded time.
    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError>;

    /// How many messages are ready in a queue, those handed out but not acked not counted.
    ///
    /// # Errors
    /// As [`Bus::consume`]. A queue that belongs to one subscription has no depth to ask for.
    async fn depth(&self, queue: &Queue) -> Result<u64, BusError>;

    /// Whether a message could be published now.
    ///
    /// # Errors
    /// Saying what stands in the way.
    async fn healthy(&self) -> Result<(), BusError>;

    /// How often a connection was built again after a loss. A bus that has none loses none.
    fn reconnects(&self) -> u64 {
        0
    }
}

/// A stream of deliveries. Dropping it puts back everything that was not acked.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery; waits for it across broker restarts of any length. `None` means that the bus has
    /// been closed for good. Safe to cancel: nothing is lost.
    async fn next(&mut self) -> Option<Delivery>;

    /// What is already here, up to `max`. If nothing is, waits for the first one for `linger`, but no longer
    /// than [`MAX_LINGER`], and takes what came with it. So an empty answer means that nothing came in that
    /// time, or that the bus is closed, in which case it comes only after that time too, lest a loop spins.
    /// Safe to cancel.
    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery>;

    /// Done with these. The tag of a connection that is gone is void: the broker delivers it again.
    async fn ack(&mut self, tags: Vec<Tag>) {
        self.acker().ack(tags).await;
    }

    /// Put these back, to be delivered again, to whoever comes first.
    async fn nack(&mut self, tags: Vec<Tag>) {
        self.acker().nack(tags).await;
    }

    /// A handle that acks from other tasks. It does not keep the subscription alive.
    fn acker(&self) -> Acker;
}
