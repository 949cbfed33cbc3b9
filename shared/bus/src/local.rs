//! The bus of one process: the same contract, without a broker.
//!
//! A queue is a `VecDeque` behind a mutex that is held for microseconds and never across an await; sleepers
//! are woken through a `Notify`. What is not acked is kept by its subscription and goes back to the front of
//! the queue, in order, when the subscription is dropped. Nothing survives the process, and nothing has to:
//! leases repair it.
//!
//! Limits, overflow and age are those of [`crate::topology`]. Rights are not: in one process everyone could
//! reach everything anyway. The stamped user is the name the handle was made for.
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::message::Settle;
use crate::topology::{COORDINATOR, Limits, copied};
use crate::{
    Acker, Bus, BusError, Delivery, MAX_LINGER, MAX_PREFETCH, Outgoing, PublishError, Queue, Subscription,
    Tag, Target, Topology,
};

mod queue;

use queue::{LocalQueue, Message, matches_topic};

/// Where a bus has the time from by which messages expire: how long it is since some moment. It never goes back.
pub type Now = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A handle on the bus of this process, for one user. Clones share the bus.
#[derive(Clone)]
pub struct Local {
    core: Arc<Core>,
    user: Arc<str>,
}

struct Core {
    /// `None`: an instance's queue comes into being when it is first named.
    declared: Option<Topology>,
    now: Now,
    queues: Mutex<HashMap<Queue, Arc<LocalQueue>>>,
    /// The exclusive queues of the subscriptions that live.
    exclusive: Mutex<Vec<(Queue, Weak<LocalQueue>)>>,
    closed: Arc<AtomicBool>,
}

impl Local {
    /// A bus on which every instance has a queue; for the coordinator.
    pub fn new() -> Self {
        Self::build(None, machines())
    }

    /// A bus with exactly these queues; for the coordinator.
    pub fn with_topology(topology: Topology) -> Self {
        Self::build(Some(topology), machines())
    }

    /// The same, with another clock.
    pub fn by(now: Now, topology: Topology) -> Self {
        Self::build(Some(topology), now)
    }

    fn build(declared: Option<Topology>, now: Now) -> Self {
        let (queues, exclusive) = (Mutex::default(), Mutex::default());
        let core = Core { declared, now, queues, exclusive, closed: Arc::default() };
        Self { core: Arc::new(core), user: COORDINATOR.into() }
    }

    /// The same bus, for another user.
    pub fn as_user(&self, user: &str) -> Arc<dyn Bus> {
        Arc::new(Self { core: Arc::clone(&self.core), user: user.into() })
    }

    /// Close it for good: subscriptions end, and nothing is published any more.
    pub fn close(&self) {
        self.core.closed.store(true, Ordering::SeqCst);
        for queue in lock(&self.core.queues).values() {
            queue.arrived.notify_waiters();
        }
        for (_, queue) in lock(&self.core.exclusive).iter() {
            if let Some(queue) = queue.upgrade() {
                queue.arrived.notify_waiters();
            }
        }
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Core {
    fn queue(&self, queue: &Queue) -> Option<Arc<LocalQueue>> {
        let mut queues = lock(&self.queues);
        if let Some(found) = queues.get(queue) {
            return Some(Arc::clone(found));
        }
        if self.declared.as_ref().is_some_and(|topology| !topology.contains(queue)) {
            return None;
        }
        let made = Arc::new(LocalQueue::new(Limits::of(queue)));
        queues.insert(queue.clone(), Arc::clone(&made));
        Some(made)
    }

    fn add_exclusive(&self, queue: &Queue) -> Arc<LocalQueue> {
        let made = Arc::new(LocalQueue::new(Limits::of(queue)));
        let mut all = lock(&self.exclusive);
        all.retain(|(_, queue)| queue.strong_count() > 0);
        all.push((queue.clone(), Arc::downgrade(&made)));
        made
    }

    fn open(&self) -> Result<(), BusError> {
        if self.closed.load(Ordering::SeqCst) { Err(BusError::Closed) } else { Ok(()) }
    }

    /// Queue a run of messages for one target. Whoever sleeps on the queue is woken once, not per message.
    fn push_run(&self, user: &Arc<str>, run: Vec<Outgoing>, results: &mut Vec<Result<(), PublishError>>) {
        let Some(target) = run.first().map(|message| message.target.clone()) else { return };
        let now = (self.now)();
        let messages = run.into_iter().map(|message| Message::new(message, user, now));
        match &target {
            Target::Queue(name) => match self.queue(name) {
                Some(queue) => match copied(name).and_then(|copy| Some((self.queue(&copy)?, copy))) {
                    None => queue.push(messages, (name, now), results),
                    Some((copies, copy)) => {
                        let messages: Vec<Message> = messages.collect();
                        copies.push(messages.iter().cloned(), (&copy, now), &mut Vec::new());
                        queue.push(messages.into_iter(), (name, now), results);
                    }
                },
                None => {
                    results.extend(messages.map(|_| Err(PublishError::Unroutable { to: name.to_string() })))
                }
            },
            Target::Beacon | Target::Event { .. } => {
                let messages: Vec<Message> = messages.collect();
                results.extend(messages.iter().map(|_| Ok(())));
                let listeners: Vec<_> = lock(&self.exclusive)
                    .iter()
                    .filter(|(queue, _)| listens(queue, &target))
                    .cloned()
                    .collect();
                for (name, queue) in listeners {
                    if let Some(queue) = queue.upgrade() {
                        queue.push(messages.iter().cloned(), (&name, now), &mut Vec::new());
                    }
                }
            }
        }
    }
}

/// The machine's clock.
fn machines() -> Now {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

fn listens(queue: &Queue, target: &Target) -> bool {
    match (queue, target) {
        (Queue::Beacon, Target::Beacon) => true,
        (Queue::Events { pattern }, Target::Event { topic }) => matches_topic(pattern, topic),
        _ => false,
    }
}

#[async_trait]
impl Bus for Local {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        if self.core.open().is_err() {
            return messages.iter().map(|_| Err(PublishError::Closed)).collect();
        }
        let mut results = Vec::with_capacity(messages.len());
        let mut run: Vec<Outgoing> = Vec::new();
        for message in messages {
            let checked = message.check();
            if checked.is_err() || run.last().is_some_and(|last| last.target != message.target) {
                self.core.push_run(&self.user, std::mem::take(&mut run), &mut results);
            }
            match checked {
                Ok(()) => run.push(message),
                Err(error) => results.push(Err(error)),
            }
        }
        self.core.push_run(&self.user, run, &mut results);
        results
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        self.core.open()?;
        if prefetch == 0 || prefetch > MAX_PREFETCH {
            return Err(BusError::Prefetch { prefetch });
        }
        let exclusive = queue.is_exclusive();
        let source = if exclusive {
            self.core.add_exclusive(queue)
        } else {
            self.core.queue(queue).ok_or_else(|| BusError::NoSuchQueue { queue: queue.to_string() })?
        };
        let held = Arc::new(queue::Held::new(Arc::clone(&source), usize::from(prefetch)));
        Ok(Box::new(LocalSubscription {
            source,
            held,
            acks: !exclusive,
            now: Arc::clone(&self.core.now),
            closed: Arc::clone(&self.core.closed),
        }))
    }

    async fn depth(&self, queue: &Queue) -> Result<u64, BusError> {
        self.core.open()?;
        let missing = || BusError::NoSuchQueue { queue: queue.to_string() };
        if queue.is_exclusive() {
            return Err(missing());
        }
        Ok(self.core.queue(queue).ok_or_else(missing)?.ready((self.core.now)()))
    }

    async fn healthy(&self) -> Result<(), BusError> {
        self.core.open()
    }
}

struct LocalSubscription {
    source: Arc<LocalQueue>,
    held: Arc<queue::Held>,
    acks: bool,
    now: Now,
    closed: Arc<AtomicBool>,
}

impl LocalSubscription {
    /// Take up to `max` that are here; sleep until one is.
    async fn take(&self, max: usize) -> Vec<Delivery> {
        loop {
            let arrived = self.source.arrived.notified();
            let freed = self.held.freed.notified();
            tokio::pin!(arrived, freed);
            arrived.as_mut().enable();
            freed.as_mut().enable();
            if self.closed.load(Ordering::SeqCst) {
                return Vec::new();
            }
            let taken = self.held.take(max, self.acks, (self.now)());
            if !taken.is_empty() || max == 0 {
                return taken;
            }
            // Whichever it is, it looks again: so nobody draws, and a simulator sees the same each time.
            tokio::select! {
                biased;
                () = arrived => {}
                () = freed => {}
            }
        }
    }
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        self.take(1).await.pop()
    }

    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        let until = Instant::now() + linger.min(MAX_LINGER);
        let taken = tokio::time::timeout_at(until, self.take(max)).await.unwrap_or_default();
        if taken.is_empty() {
            tokio::time::sleep_until(until).await;
        }
        taken
    }

    fn acker(&self) -> Acker {
        Acker(Arc::clone(&self.held) as Arc<dyn Settle>)
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        self.held.put_back_all();
    }
}

impl Settle for queue::Held {
    fn ack(&self, tags: &[Tag]) {
        self.settle(tags, false);
    }

    fn nack(&self, tags: &[Tag]) {
        self.settle(tags, true);
    }
}

/// A panic elsewhere leaves no half-done change behind these locks, so a poisoned one is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
