//! A bus on which a test sees what the consumer asks of it, and so knows what it has taken note of.
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sexton_bus::{Acker, Bus, BusError, Delivery, Outgoing, PublishError, Queue, Subscription, Target};
use sexton_testkit::bus::Instead;
use tokio::sync::watch;

/// One thing that was asked of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Subscribe(Queue),
    /// It is done with the beacons before this one.
    NextBeacon,
    Pulse,
}

/// Everything that was asked, in order.
#[derive(Default)]
pub struct Notes(watch::Sender<Vec<Asked>>);

impl Notes {
    fn add(&self, asked: Asked) {
        self.0.send_modify(|all| all.push(asked));
    }

    pub fn all(&self) -> Vec<Asked> {
        self.0.borrow().clone()
    }

    /// How often a beacon was asked for.
    pub fn beacons(&self) -> usize {
        beacons(&self.0.borrow())
    }

    /// Until a beacon was asked for more often than that.
    pub async fn until_beacons_exceed(&self, count: usize) {
        self.0.subscribe().wait_for(|all| beacons(all) > count).await.unwrap();
    }
}

fn beacons(all: &[Asked]) -> usize {
    all.iter().filter(|asked| **asked == Asked::NextBeacon).count()
}

pub struct Noted {
    pub inner: Arc<dyn Bus>,
    pub notes: Arc<Notes>,
}

#[async_trait]
impl Instead for Noted {
    fn behind(&self) -> &dyn Bus {
        &*self.inner
    }
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        if messages.iter().any(|message| message.target == Target::Queue(Queue::Pulses)) {
            self.notes.add(Asked::Pulse);
        }
        self.inner.publish(messages).await
    }
    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        self.notes.add(Asked::Subscribe(queue.clone()));
        let inner = self.inner.consume(queue, prefetch).await?;
        if *queue != Queue::Beacon {
            return Ok(inner);
        }
        Ok(Box::new(Beacons { inner, notes: self.notes.clone() }))
    }
}

struct Beacons {
    inner: Box<dyn Subscription>,
    notes: Arc<Notes>,
}

#[async_trait]
impl Subscription for Beacons {
    async fn next(&mut self) -> Option<Delivery> {
        self.notes.add(Asked::NextBeacon);
        self.inner.next().await
    }
    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        self.inner.next_batch(max, linger).await
    }
    fn acker(&self) -> Acker {
        self.inner.acker()
    }
}
