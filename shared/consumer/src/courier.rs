//! Takes answers to the broker: packed, sealed, confirmed, and again until they are.
use std::sync::Arc;

use sexton_bus::{Bus, Outgoing, Queue, Target};
use sexton_model::Instance;
use sexton_protocol::{Check, Event, Holder, Keyring, Message, Pack, Packed, Packer, Rejected, Report};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::options::Options;

/// Answers waiting for the broker. When it is full, performing waits too.
const WAITING_MAX: usize = 1024;
/// Answers published at once: enough to hide a confirm's round trip, few enough to repeat.
const AT_ONCE: usize = 256;
/// First and longest pause before an unconfirmed message is published again, in milliseconds.
const AGAIN_MS: (u64, u64) = (50, 5_000);

struct Parcel {
    event: Event<Report>,
    confirmed: Option<oneshot::Sender<()>>,
}

/// What every part of a consumer publishes with.
pub(crate) struct Post {
    pub(crate) instance: Instance,
    pub(crate) holder: Holder,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: Options,
    /// Nothing is published any more.
    pub(crate) halt: CancellationToken,
}

impl Post {
    pub(crate) fn event<T: Message>(&self, message: T) -> Event<T> {
        Event::new(format!("/consumer/{}", self.instance), self.clock.now(), message)
    }

    /// Seal a body for a queue; `None` if there is no key, which the start has checked.
    pub(crate) fn seal<T: Message>(&self, queue: Queue, packed: Packed) -> Option<Outgoing> {
        let seal = match self.keyring.sign(&self.holder, T::DIRECTION, &packed.body) {
            Ok(seal) => seal,
            Err(error) => {
                tracing::error!(%error, "cannot seal a message");
                return None;
            }
        };
        Some(Outgoing {
            target: Target::Queue(queue),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: None,
        })
    }

    /// Publish until every message is confirmed. False if the consumer was halted before.
    pub(crate) async fn until_confirmed(&self, mut messages: Vec<Outgoing>) -> bool {
        let mut pause_ms = AGAIN_MS.0;
        while !messages.is_empty() {
            let results = tokio::select! {
                biased;
                results = self.bus.publish(messages.clone()) => results,
                () = self.halt.cancelled() => return false,
            };
            let mut unconfirmed = Vec::new();
            for (message, result) in messages.into_iter().zip(results) {
                if let Err(error) = result {
                    tracing::warn!(%error, id = message.message_id, "not confirmed; published again");
                    self.metrics.republished();
                    unconfirmed.push(message);
                }
            }
            messages = unconfirmed;
            if !messages.is_empty() {
                tokio::select! {
                    biased;
                    () = self.clock.sleep(pause_ms) => {}
                    () = self.halt.cancelled() => return false,
                }
                pause_ms = (pause_ms * 2).min(AGAIN_MS.1);
            }
        }
        true
    }

    /// Count what was not accepted, and show it to people. False if the consumer was halted before that was confirmed.
    pub(crate) async fn reject(&self, check: Check, rejected: Rejected) -> bool {
        tracing::warn!(why = check.word(), reason = rejected.reason, "rejected a message");
        self.metrics.rejected(check.word());
        self.show(check, rejected).await
    }

    /// Show it, and leave counting to who calls. False if the consumer was halted before it was confirmed.
    pub(crate) async fn show(&self, check: Check, rejected: Rejected) -> bool {
        let rejected = Rejected { check: Some(check), ..rejected };
        let sealed = match Pack::one(self.event(rejected)).encode() {
            Ok(packed) => self.seal::<Rejected>(Queue::Rejected, packed),
            Err(error) => {
                tracing::error!(%error, "cannot say what was rejected");
                None
            }
        };
        match sealed {
            Some(message) => self.until_confirmed(vec![message]).await,
            None => true,
        }
    }
}

/// Hands answers to the one task that publishes them.
#[derive(Clone)]
pub(crate) struct Courier {
    parcels: mpsc::Sender<Parcel>,
    metrics: Arc<Metrics>,
}

impl Courier {
    /// The handle, and the task's work.
    pub(crate) fn new(post: Arc<Post>) -> (Self, impl Future<Output = ()>) {
        let (sender, parcels) = mpsc::channel(WAITING_MAX);
        (Self { parcels: sender, metrics: post.metrics.clone() }, carry(post, parcels))
    }

    /// Returns true once the broker has confirmed it; false if it never will.
    pub(crate) async fn deliver(&self, event: Event<Report>) -> bool {
        let (confirmed, confirmation) = oneshot::channel();
        let parcel = Parcel { event, confirmed: Some(confirmed) };
        let _waits = self.metrics.unconfirmed();
        self.parcels.send(parcel).await.is_ok() && confirmation.await.is_ok()
    }

    /// Send it if that costs no waiting: progress is worth nothing when it is late.
    pub(crate) fn mention(&self, event: Event<Report>) {
        if self.parcels.try_send(Parcel { event, confirmed: None }).is_err() {
            tracing::debug!("a progress report was dropped: answers wait for the broker");
        }
    }
}

async fn carry(post: Arc<Post>, mut parcels: mpsc::Receiver<Parcel>) {
    while let Some(first) = parcels.recv().await {
        let mut batch = vec![first];
        gather(&post, &mut parcels, &mut batch).await;
        let mut packer = Packer::new(post.options.pack);
        let mut messages = Vec::new();
        let mut confirmations = Vec::new();
        for Parcel { event, confirmed } in batch {
            match packer.push(&event) {
                Ok(full) => messages.extend(full),
                // Outcomes are bounded far below a pack's size. The lease repairs what cannot be said.
                Err(error) => tracing::error!(%error, "an answer cannot be encoded"),
            }
            confirmations.extend(confirmed);
        }
        messages.extend(packer.finish());
        let sealed =
            messages.into_iter().filter_map(|packed| post.seal::<Report>(Queue::Outcomes, packed)).collect();
        if !post.until_confirmed(sealed).await {
            return;
        }
        for confirmation in confirmations {
            // Nobody waits any more if its step's task was ended.
            let _ = confirmation.send(());
        }
    }
}

/// Whatever else is ready, waiting a little while less than a pack is there.
async fn gather(post: &Post, parcels: &mut mpsc::Receiver<Parcel>, batch: &mut Vec<Parcel>) {
    let patience = post.clock.sleep(post.options.linger_ms);
    tokio::pin!(patience);
    while batch.len() < AT_ONCE {
        if let Ok(parcel) = parcels.try_recv() {
            batch.push(parcel);
            continue;
        }
        if batch.len() >= post.options.pack {
            return;
        }
        tokio::select! {
            biased;
            parcel = parcels.recv() => match parcel {
                Some(parcel) => batch.push(parcel),
                None => return,
            },
            () = &mut patience => return,
        }
    }
}
