//! Which deliveries of a channel are settled, and how to say so with the fewest words.
//!
//! Acks leave in the order in which they are decided, under one lock, because an ack of many covers what was
//! acked alone before, and the broker closes a channel over an ack that comes second. Handing an ack to the
//! client does not wait: what is on its way is bounded by the prefetch.
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};

use crate::Tag;
use crate::message::Settle;

/// The settled and unsettled deliveries of a subscription's current channel.
#[derive(Default)]
pub(super) struct Acks(Mutex<Current>);

#[derive(Default)]
struct Current {
    generation: u64,
    channel: Option<Channel>,
    window: Window,
}

impl Acks {
    /// A new channel: all earlier tags are void.
    pub(super) fn begin(&self, channel: Channel) {
        let mut current = self.lock();
        current.generation += 1;
        current.channel = Some(channel);
        current.window = Window::default();
    }

    /// No channel: all tags are void.
    pub(super) fn end(&self) {
        let mut current = self.lock();
        current.channel = None;
    }

    /// Make the tag for a delivery that is about to be handed out.
    pub(super) fn delivered(&self, number: u64) -> Tag {
        let mut current = self.lock();
        current.window.delivered(number);
        Tag { generation: current.generation, number }
    }

    fn settle(&self, tags: &[Tag], send: impl Fn(&Channel, Settled)) {
        let mut current = self.lock();
        let Current { generation, channel: Some(channel), window } = &mut *current else { return };
        for settled in window.settle(tags, *generation) {
            send(channel, settled);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first poll puts the frame into the client's buffer; that the channel is gone is no news worth having.
impl Settle for Acks {
    fn ack(&self, tags: &[Tag]) {
        self.settle(tags, |channel, settled| {
            let options = BasicAckOptions { multiple: settled.multiple };
            drop(channel.basic_ack(settled.number, options).now_or_never());
        });
    }

    fn nack(&self, tags: &[Tag]) {
        self.settle(tags, |channel, settled| {
            let options = BasicNackOptions { multiple: settled.multiple, requeue: true };
            drop(channel.basic_nack(settled.number, options).now_or_never());
        });
    }
}

/// One thing to tell the broker.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    number: u64,
    /// It holds for all up to this one, too.
    multiple: bool,
}

/// The deliveries from `first` on, and whether each is settled. All before `first` are.
struct Window {
    first: u64,
    settled: VecDeque<bool>,
}

impl Default for Window {
    fn default() -> Self {
        Self { first: 1, settled: VecDeque::new() }
    }
}

impl Window {
    fn delivered(&mut self, number: u64) {
        while self.first + (self.settled.len() as u64) <= number {
            self.settled.push_back(false);
        }
    }

    /// Mark them, and say what to tell the broker. Whatever is settled already, or was never delivered on
    /// this channel, is passed over.
    fn settle(&mut self, tags: &[Tag], generation: u64) -> Vec<Settled> {
        let mut fresh: Vec<u64> =
            tags.iter().filter(|tag| tag.generation == generation).map(|tag| tag.number).collect();
        fresh.sort_unstable();
        fresh.retain(|number| self.mark(*number));
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.first += 1;
        }
        let prefix = fresh.partition_point(|number| *number < self.first);
        let (together, alone) = fresh.split_at(prefix);
        let together = together.last().map(|last| Settled { number: *last, multiple: true });
        together.into_iter().chain(alone.iter().map(|&number| Settled { number, multiple: false })).collect()
    }

    fn mark(&mut self, number: u64) -> bool {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.settled.get_mut(index)) {
            Some(settled) => !std::mem::replace(settled, true),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(window: &mut Window, numbers: &[u64]) -> Vec<(u64, bool)> {
        let tags: Vec<Tag> = numbers.iter().map(|&number| Tag { generation: 3, number }).collect();
        window.settle(&tags, 3).into_iter().map(|settled| (settled.number, settled.multiple)).collect()
    }

    #[test]
    fn a_prefix_is_acked_at_once_and_the_rest_alone() {
        let mut window = Window::default();
        (1..=8).for_each(|number| window.delivered(number));
        assert_eq!(told(&mut window, &[3, 5]), [(3, false), (5, false)]);
        assert_eq!(told(&mut window, &[2, 1]), [(2, true)], "3 is settled already, and must not be repeated");
        assert_eq!(told(&mut window, &[4, 6, 8]), [(6, true), (8, false)]);
        assert_eq!(told(&mut window, &[8, 1, 99]), [], "settled, settled, never delivered");
        assert_eq!(told(&mut window, &[7]), [(7, true)]);
        assert!(window.settled.is_empty());
    }

    #[test]
    fn a_tag_of_another_channel_is_void() {
        let mut window = Window::default();
        window.delivered(1);
        assert_eq!(window.settle(&[Tag { generation: 2, number: 1 }], 3), []);
    }
}
