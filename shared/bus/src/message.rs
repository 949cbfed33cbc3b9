//! What travels over the bus, and what can go wrong.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Instance;

/// Largest body, 1 MiB: a pack of 16 orders is a few tens of kilobytes, and a broker replicates every byte.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What every body is said to be. What is in it is no business of the bus; that all of them are of this form
/// makes them legible to tools at the broker.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Largest `message_id`, `key_id`, `mac` or topic, in bytes: the protocol's short strings end here.
pub const MAX_HEADER_BYTES: usize = 255;

/// Largest prefetch. Above a few hundred it buys no speed, and all of it is delivered again after a crash.
pub const MAX_PREFETCH: u16 = 4096;

/// Longest wait of [`crate::Subscription::next_batch`], so that its caller sees a shutdown in time.
pub const MAX_LINGER: Duration = Duration::from_secs(1);

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub target: Target,
    /// At most [`MAX_BODY_BYTES`].
    pub body: Bytes,
    /// Names the key of `mac`.
    pub key_id: String,
    /// The proof over `body`, as text.
    pub mac: String,
    /// The same when a message is published again.
    pub message_id: String,
    /// Dropped when it was not delivered for so long. `None`: as long as the queue keeps it.
    pub ttl: Option<Duration>,
}

impl Outgoing {
    /// Whether this may be published at all, which needs no broker to tell.
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        if self.body.len() > MAX_BODY_BYTES {
            return Err(PublishError::Oversized { bytes: self.body.len() });
        }
        let topic = match &self.target {
            Target::Event { topic } => topic.as_str(),
            Target::Queue(_) | Target::Beacon => "",
        };
        let headers = [
            ("message_id", &*self.message_id),
            ("key_id", &*self.key_id),
            ("mac", &*self.mac),
            ("topic", topic),
        ];
        for (header, text) in headers {
            if text.len() > MAX_HEADER_BYTES {
                return Err(PublishError::Header { header, bytes: text.len() });
            }
        }
        match &self.target {
            Target::Queue(queue @ (Queue::Beacon | Queue::Events { .. } | Queue::Canaries)) => {
                Err(PublishError::Unroutable { to: queue.to_string() })
            }
            Target::Queue(_) | Target::Beacon | Target::Event { .. } => Ok(()),
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One queue; without it the message is [`PublishError::Unroutable`]. The queues of one subscriber
    /// ([`Queue::Beacon`], [`Queue::Events`]) cannot be named here, nor can the one that gets copies
    /// ([`Queue::Canaries`]).
    Queue(Queue),
    /// Everyone who listens to the beacon; nobody is fine too.
    Beacon,
    /// Everyone whose pattern matches; nobody is fine too.
    Event {
        /// Words joined by dots, such as `deletion.hard.done`.
        topic: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Queue(queue) => queue.fmt(f),
            Target::Beacon => f.write_str("the beacon"),
            Target::Event { topic } => write!(f, "event {topic}"),
        }
    }
}

/// A queue to consume from. The names, limits and rights are in [`crate::topology`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Queue {
    /// `sexton.orders.<subsystem>.<instance>`: what an instance is to do.
    Orders(Instance),
    /// `sexton.outcomes`: the consumers' answers.
    Outcomes,
    /// `sexton.stage-due`: the scheduler's wake-ups.
    StageDue,
    /// `sexton.pulses`: signs of life, worth nothing when they are old.
    Pulses,
    /// `sexton.rejected`: orders that were refused, with the reason, for people.
    Rejected,
    /// `sexton.canaries`: the same once more, for the coordinators, who look for canaries among them. Nothing is published
    /// to it by itself: whatever goes to [`Queue::Rejected`] arrives here, too.
    Canaries,
    /// A queue of this subscription alone that gets every beacon, in order. Needs no acks; the oldest are
    /// dropped when it is not read.
    Beacon,
    /// A queue of this subscription alone that gets the events that match. Needs no acks; the oldest are
    /// dropped when it is not read.
    Events {
        /// Words joined by dots, where `*` stands for one word and `#` for any number of them.
        pattern: String,
    },
}

impl Queue {
    /// Whether it belongs to one subscription, begins and ends with it, and knows no acks.
    pub fn is_exclusive(&self) -> bool {
        matches!(self, Queue::Beacon | Queue::Events { .. })
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Queue::Orders(instance) => write!(f, "sexton.orders.{instance}"),
            Queue::Outcomes => f.write_str("sexton.outcomes"),
            Queue::StageDue => f.write_str("sexton.stage-due"),
            Queue::Pulses => f.write_str("sexton.pulses"),
            Queue::Rejected => f.write_str("sexton.rejected"),
            Queue::Canaries => f.write_str("sexton.canaries"),
            Queue::Beacon => f.write_str("sexton.beacon"),
            Queue::Events { pattern } => write!(f, "sexton.events {pattern}"),
        }
    }
}

/// A message that was delivered. Nothing in it is to be believed before its proof was checked, but for
/// `user_id`, which the broker has.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The body, as published.
    pub body: Bytes,
    /// Which key the proof is said to be made with.
    pub key_id: Option<String>,
    /// The proof.
    pub mac: Option<String>,
    /// The publisher's id for it.
    pub message_id: Option<String>,
    /// The login it was published with. Only a publisher that is none of ours leaves it out.
    pub user_id: Option<String>,
    /// It may have been delivered before. A hint, no more.
    pub redelivered: bool,
    /// What to ack it with.
    pub tag: Tag,
}

/// Names a delivery of one subscription. Copy it, keep it, hand it back; it has no other meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Which channel of the subscription; another one begins after an outage.
    pub(crate) generation: u64,
    /// Counted from 1 within the generation.
    pub(crate) number: u64,
}

/// What an implementation does with tags. Neither may wait.
pub(crate) trait Settle: Send + Sync {
    fn ack(&self, tags: &[Tag]);
    fn nack(&self, tags: &[Tag]);
}

/// Acks deliveries of one subscription, from any task.
#[derive(Clone)]
pub struct Acker(pub(crate) Arc<dyn Settle>);

impl Acker {
    /// Done with these. A tag that is settled already, or void, is passed over.
    pub async fn ack(&self, tags: Vec<Tag>) {
        self.0.ack(&tags);
    }

    /// As [`Self::ack`], for where nothing can be awaited: an ack never waits.
    pub fn ack_now(&self, tags: &[Tag]) {
        self.0.ack(tags);
    }

    /// Put these back.
    pub async fn nack(&self, tags: Vec<Tag>) {
        self.0.nack(&tags);
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acker")
    }
}

/// Why a message counts as not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The body is too large; it never will be published.
    #[error("the body has {bytes} bytes, more than {MAX_BODY_BYTES}: split the pack")]
    Oversized {
        /// Its size.
        bytes: usize,
    },
    /// A header is too long; it never will be published.
    #[error("{header} has {bytes} bytes, more than {MAX_HEADER_BYTES}")]
    Header {
        /// Which one.
        header: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The queue does not exist.
    #[error("no queue {to}: is the instance in the broker's definitions?")]
    Unroutable {
        /// The target.
        to: String,
    },
    /// The queue is at its limit. Try later.
    #[error("{to} is at its limit: its consumers are behind or down")]
    Full {
        /// The target.
        to: String,
    },
    /// No confirmation came in time. It may have been published: publish it again with the same id.
    #[error("the broker did not confirm a message to {to} within {waited_ms} ms")]
    Unconfirmed {
        /// The target.
        to: String,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// This login may not publish there.
    #[error("the broker refuses a message to {to}: {reason}")]
    Refused {
        /// The target.
        to: String,
        /// The broker's words.
        reason: String,
    },
    /// The bus has been closed.
    #[error("the bus is closed")]
    Closed,
}

impl PublishError {
    /// Whether the same message never will be published, however often that is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Oversized { .. } | Self::Header { .. } => true,
            Self::Unroutable { .. }
            | Self::Full { .. }
            | Self::Unconfirmed { .. }
            | Self::Refused { .. }
            | Self::Closed => false,
        }
    }
}

/// Why a subscription, or a question about the broker, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The broker's address makes no sense. The address is not repeated, since it may hold a password.
    #[error("the broker's address: {reason}; expected amqp://user:password@host:port/vhost")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// No connection at the moment.
    #[error("the broker cannot be reached while {doing}: {reason}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// The last error.
        reason: String,
    },
    /// This login may not do that.
    #[error("the broker refuses {doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The broker's words.
        reason: String,
    },
    /// The queue has not been declared.
    #[error("no queue {queue}: is the instance in the broker's definitions?")]
    NoSuchQueue {
        /// Its name.
        queue: String,
    },
    /// It takes no messages because it is short of memory or disk.
    #[error("the broker accepts no messages: it is short of memory or disk")]
    Blocked,
    /// Out of bounds.
    #[error("a prefetch of {prefetch}: expected 1 to {MAX_PREFETCH}")]
    Prefetch {
        /// What was asked for.
        prefetch: u16,
    },
    /// The bus has been closed.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    /// Whether the same call fails in the same way for ever, however often that is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Prefetch { .. } => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NoSuchQueue { .. }
            | Self::Blocked
            | Self::Closed => false,
        }
    }
}
