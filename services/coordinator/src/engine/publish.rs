//! What an engine says: orders and events after each commit, beacons, and what it does not accept.
//!
//! Contract: nothing of it is an error of what was decided. What no broker confirms is counted and logged, and the lease
//! repairs it. What is not accepted has no lease: until it is confirmed that it is shown, it is put back.
use std::sync::atomic::Ordering;

use sexton_bus::{Delivery, Outgoing, Queue, Tag, Target};
use sexton_ledger::{Decided, Intent, LedgerError, NotDone};
use sexton_model::Timestamp;
use sexton_protocol::{Broadcast, Direction, Event as Envelope, Pack, Rejected};

use super::Engine;
use crate::follow;
use crate::intake::NotAccepted;

impl Engine {
    /// Publish what was decided; orders that cannot be written down come back.
    pub(super) async fn publish(
        &self,
        results: &[Result<Decided, NotDone>],
        followed: Option<follow::Batch>,
    ) -> Vec<Intent> {
        // They end when the orders are published.
        let orders = followed.map(|batch| batch.decided(results)).unwrap_or_default();
        let mut decided = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(one) => decided.push(one),
                Err(NotDone::Refused(refusal)) => {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%refusal, "nothing to decide");
                }
                Err(other) => tracing::warn!(%other, "an event for nothing"),
            }
        }
        let Some(now) = decided.iter().map(|d| d.at).max() else { return Vec::new() };
        self.receipts.note(&decided);
        let ordered = decided.iter().filter(|d| d.dispatch.is_some()).count();
        self.counters.decided.fetch_add(decided.len() as u64, Ordering::Relaxed);
        self.counters.ordered.fetch_add(ordered as u64, Ordering::Relaxed);
        // Nothing is ordered that would be forgotten if this process died and the job table went back.
        if !self.noted() && ordered > 0 {
            self.counters.unpublished.fetch_add(ordered as u64, Ordering::Relaxed);
            tracing::error!(ordered, "not published, leases will repair it");
            return Vec::new();
        }
        let messages = self.outbox.messages(&decided, &orders, now);
        self.send(messages.outgoing).await;
        messages.unwritable
    }

    /// Orders that cannot be written down: their jobs park, or, if only a look was ordered, what comes instead may be
    /// as unwritable. That spends an attempt each time, so it ends.
    pub(super) async fn settle_unwritable(&self, mut unwritable: Vec<Intent>) -> Result<(), LedgerError> {
        while !unwritable.is_empty() {
            let done = self.ledger.run(unwritable).await?;
            unwritable = self.publish(&done, None).await;
        }
        Ok(())
    }

    /// Note what is known of the job table, so that it outlives this process. Whether it was noted.
    pub(crate) fn noted(&self) -> bool {
        let noted = self.witness.note(|| self.ledger.known());
        if let Err(error) = &noted {
            tracing::error!(%error, "the witness cannot be written");
        }
        noted.is_ok()
    }

    /// Tell every consumer the time and the pause revision of a fresh read.
    ///
    /// # Errors
    /// If the ledger cannot be read: then there is no beacon, and consumers stop within seconds.
    pub async fn beacon(&self) -> Result<(), LedgerError> {
        let beacon = self.ledger.beacon().await?;
        let message = self.outbox.broadcast(Broadcast::Beacon(beacon), beacon.read_at);
        self.send(message.into_iter().collect()).await;
        Ok(())
    }

    /// Show people what was not accepted, each with why. Those come back of which no broker has confirmed it: they are to be
    /// delivered again, lest they are gone without a word.
    pub(super) async fn reject(&self, queue: &str, bad: Vec<(&Delivery, NotAccepted)>) -> Vec<Tag> {
        let (mut tags, mut messages) = (Vec::with_capacity(bad.len()), Vec::with_capacity(bad.len()));
        for (delivery, why) in bad {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(queue, %why, user = delivery.user_id.as_deref(), "message rejected");
            if let Some(message) = self.rejection(queue, delivery, &why) {
                tags.push(delivery.tag);
                messages.push(message);
            }
        }
        if messages.is_empty() {
            return Vec::new();
        }
        let mut again = Vec::new();
        for (tag, published) in tags.into_iter().zip(self.bus.publish(messages).await) {
            let Err(error) = published else { continue };
            self.counters.unpublished.fetch_add(1, Ordering::Relaxed);
            if error.is_final() {
                tracing::error!(queue, %error, "what was rejected can never be shown");
            } else {
                tracing::warn!(queue, %error, "what was rejected is not shown yet; it is put back");
                again.push(tag);
            }
        }
        again
    }

    /// The message that shows it; none if it cannot be written down, which would be a defect.
    fn rejection(&self, queue: &str, delivery: &Delivery, why: &NotAccepted) -> Option<Outgoing> {
        let rejected = Rejected::new(
            &why.to_string(),
            queue,
            delivery.message_id.as_deref(),
            delivery.user_id.as_deref(),
            &delivery.body,
        );
        let now = Timestamp::from(std::time::SystemTime::now());
        let packed = match Pack::one(Envelope::new("/coordinator", now, rejected)).encode() {
            Ok(packed) => packed,
            Err(error) => {
                tracing::error!(queue, %error, "cannot say what was rejected");
                return None;
            }
        };
        let seal = self.outbox.signer.sign(Direction::Rejected, &packed.body);
        Some(Outgoing {
            target: Target::Queue(Queue::Rejected),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: None,
        })
    }

    pub(super) async fn send(&self, messages: Vec<Outgoing>) {
        if messages.is_empty() {
            return;
        }
        for error in self.bus.publish(messages).await.into_iter().filter_map(Result::err) {
            self.counters.unpublished.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "not published; its lease will repair it");
        }
    }
}
