//! The bus of one process, with everything that may happen to a message on the way.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sexton_bus::{Acker, Bus, BusError, Delivery, Outgoing, PublishError, Queue, Subscription, Tag, Target};
use sexton_model::catalogue::Nature;
use sexton_model::job::JobKind;
use sexton_model::{Fence, Timestamp, canary};
use sexton_protocol::{Order, Pack, Report};
use tokio::sync::Notify;

use super::gates::{Gates, HANDLER, STALLED_MS};
use super::time::Time;
use super::weather::{Dice, Trouble};

/// What is on its way, and what was ordered.
#[derive(Default)]
pub struct Traffic {
    /// Delayed messages, with the bus they are published on at last.
    pub late: Mutex<Vec<(Arc<dyn Bus>, Outgoing)>>,
    /// Every order that was ever given, by its fence.
    pub orders: Mutex<BTreeMap<Fence, Order>>,
    /// Orders that may come once more.
    pub published: Mutex<Vec<Published>>,
    /// What was handed out since everything was lost last, whether or not it was acked.
    pub taken: Mutex<Vec<(Acker, Tag)>>,
}

impl Traffic {
    /// These were handed out by a subscription that has this acker.
    pub fn took(&self, acker: &Acker, deliveries: &[Delivery]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(deliveries.iter().map(|delivery| (acker.clone(), delivery.tag)));
    }
}

/// An order on its way.
pub struct Published {
    /// Since when.
    pub since: Timestamp,
    /// The bus it was published on.
    pub bus: Arc<dyn Bus>,
    /// The message that it is in.
    pub message: Outgoing,
}

/// What a message says, in words.
pub fn about(message: &Outgoing) -> String {
    let fences: Vec<String> = match &message.target {
        Target::Queue(Queue::Orders(_)) => {
            let orders = Pack::<Order>::decode(&message.body).map(|pack| pack.events).unwrap_or_default();
            let said = |order: Order| format!("{} for {}", order.fence, order.resource);
            orders.into_iter().map(|event| said(event.data)).collect()
        }
        Target::Queue(Queue::Outcomes) => {
            let reports = Pack::<Report>::decode(&message.body).map(|pack| pack.events).unwrap_or_default();
            let said = |report: Report| match report {
                Report::Outcome(outcome) => format!("outcome of {}", outcome.fence),
                Report::Progress(progress) => format!("progress of {}", progress.fence),
            };
            reports.into_iter().map(|event| said(event.data)).collect()
        }
        _ => Vec::new(),
    };
    let to = &message.target;
    if fences.is_empty() { format!("to {to}") } else { format!("to {to}: {}", fences.join(", ")) }
}

/// Whether an order may come once more, as late as it is still in its queue. A rehearsal's days are shorter than an order's time:
/// what is taken back, and what makes something anew, would come once more behind the next stage, as it does in no calendar.
fn may_come_again(order: &Order) -> bool {
    matches!(order.kind, JobKind::Stage(_))
        && order.nature != Nature::Adds
        && order.deletion != canary::DELETION
}

/// A process that may be stopped where it stands (SIGSTOP).
#[derive(Debug, Default)]
pub struct Frozen {
    /// Whether it is.
    pub now: Arc<AtomicBool>,
    ended: Notify,
    /// No beacon reaches it before; microseconds.
    deaf_until: AtomicI64,
}

impl Frozen {
    /// Whether it is.
    pub fn is(&self) -> bool {
        self.now.load(Ordering::SeqCst)
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.now.store(false, Ordering::SeqCst);
        self.ended.notify_waiters();
    }

    /// No beacon reaches it until then.
    pub fn deafen(&self, until: Timestamp) {
        self.deaf_until.store(until.0, Ordering::SeqCst);
    }

    fn deaf(&self, now: Timestamp) -> bool {
        now.0 < self.deaf_until.load(Ordering::SeqCst)
    }

    async fn ends(&self) {
        loop {
            let ended = self.ended.notified();
            if !self.is() {
                return;
            }
            ended.await;
        }
    }
}

/// The bus as one process sees it.
pub struct StormyBus {
    /// The bus itself.
    pub inner: Arc<dyn Bus>,
    /// Which process.
    pub process: usize,
    /// Whether it is a consumer, whose every task waits at gates; of a coordinator only its handlers do, since the world
    /// itself speaks through it, too.
    pub consumer: bool,
    /// Whether it is stopped.
    pub frozen: Arc<Frozen>,
    /// Where it waits.
    pub gates: Arc<Gates>,
    /// Chance.
    pub dice: Arc<Dice>,
    /// The true clock.
    pub time: Arc<Time>,
    /// All that is on its way.
    pub traffic: Arc<Traffic>,
}

impl StormyBus {
    fn note(&self, message: &Outgoing) {
        if let Target::Queue(Queue::Orders(_)) = &message.target
            && let Ok(pack) = Pack::<Order>::decode(&message.body)
        {
            if pack.events.iter().all(|event| may_come_again(&event.data)) {
                let mut published = self.traffic.published.lock().unwrap_or_else(PoisonError::into_inner);
                let (since, bus) = (self.time.now(), self.inner.clone());
                published.push(Published { since, bus, message: message.clone() });
            }
            let mut orders = self.traffic.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.extend(pack.events.into_iter().map(|event| (event.data.fence, event.data)));
        }
    }

    /// Whether this happens to a message of this process.
    fn happens(&self, trouble: Trouble, message: &Outgoing) -> bool {
        self.dice.happens_to(trouble, || format!("process {} {}", self.process, about(message)))
    }

    async fn one(&self, message: Outgoing) -> Result<(), PublishError> {
        self.note(&message);
        let unconfirmed = || PublishError::Unconfirmed { to: message.target.to_string(), waited_ms: 5_000 };
        if self.dice.happens(Trouble::Unconfirmed) {
            let comes = self.dice.below(2) == 0;
            let (process, about) = (self.process, about(&message));
            let came = if comes { "all the same" } else { "never" };
            self.dice.tell(Trouble::Unconfirmed, &format!("process {process} {about}, which comes {came}"));
            if comes {
                self.inner.publish(vec![message.clone()]).await;
            }
            return Err(unconfirmed());
        }
        if self.happens(Trouble::Lose, &message) {
            return Ok(());
        }
        if self.happens(Trouble::Delay, &message) {
            let mut late = self.traffic.late.lock().unwrap_or_else(PoisonError::into_inner);
            late.push((self.inner.clone(), message));
            return Ok(());
        }
        let twice = self.happens(Trouble::Repeat, &message);
        let messages = if twice { vec![message.clone(), message] } else { vec![message] };
        self.inner.publish(messages).await.pop().unwrap_or(Ok(()))
    }

    /// Whoever publishes may be stopped here, or die, or stall.
    async fn stand(&self, at: &'static str) {
        let handler = HANDLER.try_get().ok();
        if handler.is_some_and(|handler| self.gates.dies(handler)) {
            std::future::pending::<()>().await;
        }
        if handler.is_some_and(|handler| self.gates.stalls(handler)) {
            let until = self.time.now().plus_ms(STALLED_MS);
            self.gates.wait(self.process, at, until).await;
        }
        let waits = self.consumer || handler.is_some();
        if waits && self.dice.happens(Trouble::Stop) {
            self.gates.wait(self.process, at, self.time.now()).await;
        }
    }
}

#[async_trait]
impl Bus for StormyBus {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            self.stand("publish").await;
            self.gates.moved();
            results.push(self.one(message).await);
        }
        if !results.is_empty() {
            // Before whatever it came from is acked.
            self.stand("published").await;
        }
        results
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        let inner = self.inner.consume(queue, prefetch).await?;
        let (frozen, gates) = (self.frozen.clone(), self.gates.clone());
        let beacons = (*queue == Queue::Beacon).then(|| self.time.clone());
        let traffic = self.traffic.clone();
        Ok(Box::new(Stormy { inner, held: None, frozen, gates, beacons, traffic }))
    }

    async fn depth(&self, queue: &Queue) -> Result<u64, BusError> {
        self.inner.depth(queue).await
    }

    async fn healthy(&self) -> Result<(), BusError> {
        self.inner.healthy().await
    }
}

/// What a frozen process has taken off the line it sees when it goes on.
struct Stormy {
    inner: Box<dyn Subscription>,
    /// Arrived while it was frozen.
    held: Option<Delivery>,
    frozen: Arc<Frozen>,
    gates: Arc<Gates>,
    /// Of beacons: the true clock, by which they reach a process or do not.
    beacons: Option<Arc<Time>>,
    traffic: Arc<Traffic>,
}

#[async_trait]
impl Subscription for Stormy {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.held.is_none() {
                let delivery = self.inner.next().await?;
                if self.beacons.is_none() {
                    self.traffic.took(&self.inner.acker(), std::slice::from_ref(&delivery));
                }
                self.held = Some(delivery);
            }
            self.frozen.ends().await;
            self.gates.moved();
            let delivery = self.held.take();
            let lost = self.beacons.as_ref().is_some_and(|time| self.frozen.deaf(time.now()));
            if !lost {
                return delivery;
            }
        }
    }

    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        let deliveries = self.inner.next_batch(max, linger).await;
        self.traffic.took(&self.inner.acker(), &deliveries);
        deliveries
    }

    fn acker(&self) -> Acker {
        self.inner.acker()
    }
}
