//! The queues of [`super::Local`], and what a subscription holds of one.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::lock;
use crate::topology::{Limits, Overflow};
use crate::{Delivery, Outgoing, PublishError, Queue, Tag};

/// A message on its way.
#[derive(Clone)]
pub(super) struct Message {
    body: Bytes,
    /// Shared between the copy that is held and the delivery's own.
    headers: Arc<Headers>,
    /// By the clock of the bus.
    expires: Option<Duration>,
    redelivered: bool,
}

struct Headers {
    key_id: String,
    mac: String,
    message_id: String,
    user: Arc<str>,
}

impl Message {
    pub(super) fn new(outgoing: Outgoing, user: &Arc<str>, now: Duration) -> Self {
        let Outgoing { target: _, body, key_id, mac, message_id, ttl } = outgoing;
        let headers = Arc::new(Headers { key_id, mac, message_id, user: Arc::clone(user) });
        Self { body, headers, expires: ttl.map(|ttl| now.saturating_add(ttl)), redelivered: false }
    }

    fn delivery(&self, number: u64) -> Delivery {
        Delivery {
            body: self.body.clone(),
            key_id: Some(self.headers.key_id.clone()),
            mac: Some(self.headers.mac.clone()),
            message_id: Some(self.headers.message_id.clone()),
            user_id: Some(self.headers.user.to_string()),
            redelivered: self.redelivered,
            tag: Tag { generation: 0, number },
        }
    }
}

pub(super) struct LocalQueue {
    limits: Limits,
    ready: Mutex<Ready>,
    /// Everyone who sleeps on this queue is woken when something is added, and looks.
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct Ready {
    messages: VecDeque<Message>,
    bytes: usize,
    /// No message expires before. Kept so that a full queue is not searched at every push.
    next_expiry: Option<Duration>,
}

impl Ready {
    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.body.len();
        Some(message)
    }

    fn drop_expired(&mut self, now: Duration) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        self.messages.retain(|message| message.expires.is_none_or(|at| at > now));
        self.bytes = self.messages.iter().map(|message| message.body.len()).sum();
        self.next_expiry = self.messages.iter().filter_map(|message| message.expires).min();
    }

    fn note_expiry(&mut self, message: &Message) {
        if let Some(at) = message.expires {
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
    }

    fn fits(&self, message: &Message, limits: &Limits) -> bool {
        self.messages.len() < limits.length as usize
            && self.bytes + message.body.len() <= limits.bytes as usize
    }
}

impl LocalQueue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ready: Mutex::default(), arrived: Notify::new() }
    }

    pub(super) fn push(
        &self,
        messages: impl Iterator<Item = Message>,
        (name, now): (&Queue, Duration),
        results: &mut Vec<Result<(), PublishError>>,
    ) {
        let mut ready = lock(&self.ready);
        for mut message in messages {
            if let Some(ttl) = self.limits.ttl {
                let latest = now.saturating_add(ttl);
                message.expires = Some(message.expires.map_or(latest, |at| at.min(latest)));
            }
            if !ready.fits(&message, &self.limits) {
                ready.drop_expired(now);
            }
            let full = !ready.fits(&message, &self.limits);
            if full && self.limits.overflow == Overflow::Refuse {
                results.push(Err(PublishError::Full { to: name.to_string() }));
                continue;
            }
            while !ready.fits(&message, &self.limits) && ready.pop().is_some() {}
            ready.bytes += message.body.len();
            ready.note_expiry(&message);
            ready.messages.push_back(message);
            results.push(Ok(()));
        }
        drop(ready);
        self.arrived.notify_waiters();
    }

    /// Put back to the front, in the order given, whatever the limits say: it was accepted once.
    fn put_back(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let mut ready = lock(&self.ready);
        for mut message in messages.into_iter().rev() {
            message.redelivered = true;
            ready.bytes += message.body.len();
            ready.note_expiry(&message);
            ready.messages.push_front(message);
        }
        drop(ready);
        self.arrived.notify_waiters();
    }

    pub(super) fn ready(&self, now: Duration) -> u64 {
        let mut ready = lock(&self.ready);
        ready.drop_expired(now);
        ready.messages.len() as u64
    }
}

/// What one subscription was handed out and has not settled.
pub(super) struct Held {
    source: Arc<LocalQueue>,
    prefetch: usize,
    window: Mutex<Window>,
    /// A subscriber that had reached its prefetch sleeps on this.
    pub(super) freed: Notify,
}

/// The deliveries from `first` on; a settled one leaves a gap until all before it are settled too.
struct Window {
    first: u64,
    slots: VecDeque<Option<Message>>,
    unsettled: usize,
    ended: bool,
}

impl Held {
    pub(super) fn new(source: Arc<LocalQueue>, prefetch: usize) -> Self {
        let window = Window { first: 1, slots: VecDeque::new(), unsettled: 0, ended: false };
        Self { source, prefetch, window: Mutex::new(window), freed: Notify::new() }
    }

    /// Take up to `max` from the queue, as far as the prefetch allows. Without `acks` nothing is held.
    pub(super) fn take(&self, max: usize, acks: bool, now: Duration) -> Vec<Delivery> {
        let mut window = lock(&self.window);
        let room = if acks { max.min(self.prefetch - window.unsettled) } else { max };
        let mut taken = Vec::new();
        let mut ready = lock(&self.source.ready);
        while taken.len() < room {
            let Some(message) = ready.pop() else { break };
            if message.expires.is_some_and(|at| at <= now) {
                continue;
            }
            if acks {
                taken.push(message.delivery(window.first + window.slots.len() as u64));
                window.slots.push_back(Some(message));
                window.unsettled += 1;
            } else {
                taken.push(message.delivery(0));
            }
        }
        taken
    }

    pub(super) fn settle(&self, tags: &[Tag], again: bool) {
        let mut back = Vec::new();
        let mut window = lock(&self.window);
        if window.ended {
            return;
        }
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        for tag in tags {
            let Some(index) = tag.number.checked_sub(window.first) else { continue };
            let Some(message) = usize::try_from(index).ok().and_then(|i| window.slots.get_mut(i)?.take())
            else {
                continue;
            };
            window.unsettled -= 1;
            if again {
                back.push(message);
            }
            while window.slots.front().is_some_and(Option::is_none) {
                window.slots.pop_front();
                window.first += 1;
            }
        }
        drop(window);
        self.source.put_back(back);
        self.freed.notify_waiters();
    }

    /// The subscription ends: everything it holds goes back, and later tags are void.
    pub(super) fn put_back_all(&self) {
        let mut window = lock(&self.window);
        window.ended = true;
        let back = window.slots.drain(..).flatten().collect();
        window.unsettled = 0;
        drop(window);
        self.source.put_back(back);
    }
}

/// Whether a topic matches a pattern in which `*` is one word and `#` any number of them.
pub(super) fn matches_topic(pattern: &str, topic: &str) -> bool {
    fn matches(pattern: &[&str], topic: &[&str]) -> bool {
        match pattern.split_first() {
            None => topic.is_empty(),
            Some((&"#", rest)) => (0..=topic.len()).any(|skipped| matches(rest, &topic[skipped..])),
            Some((&word, rest)) => topic
                .split_first()
                .is_some_and(|(&first, others)| (word == "*" || word == first) && matches(rest, others)),
        }
    }
    matches(&pattern.split('.').collect::<Vec<_>>(), &topic.split('.').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::matches_topic;

    #[test]
    fn topics() {
        for (pattern, topic, expected) in [
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.c", "a.b.b.c", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.c", false),
            ("a", "b", false),
        ] {
            assert_eq!(matches_topic(pattern, topic), expected, "{pattern} against {topic}");
        }
    }
}
