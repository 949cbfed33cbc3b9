//! What becomes of everything that is in queues at once.
use std::time::Duration;

use sexton_bus::{Bus, Outgoing, Queue};

use crate::simulation::bus::Published;
use crate::simulation::world::{World, held};

/// More than waits in one queue in any run.
const MANY: u16 = 1_024;

impl World {
    /// What would still be in a queue if nobody had taken it comes once more. Whether anything does.
    pub(super) async fn redeliver(&self) -> bool {
        let now = self.time.now();
        let published = std::mem::take(&mut *held(&self.traffic.published));
        let mut any = false;
        for Published { since, bus, message } in published {
            let waited = Duration::from_millis(now.ms_since(since));
            let left = message.ttl.and_then(|ttl| ttl.checked_sub(waited)).filter(|left| !left.is_zero());
            if let Some(left) = left {
                bus.publish(vec![Outgoing { ttl: Some(left), ..message }]).await;
                any = true;
            }
        }
        any
    }

    /// Whatever is in a queue, or on its way to one, is gone. Whether anything was.
    pub(super) async fn purge(&self) -> bool {
        self.empty(&[Queue::Outcomes, Queue::StageDue, Queue::Pulses]).await
    }

    /// The broker has nothing any more: neither what is in a queue, or on its way to one, nor what it has handed out and was not
    /// told is done, nor what it could deliver once more. Whoever has taken something goes on with it, and if they die it comes
    /// to nobody else. Whether there was anything.
    pub(super) async fn lose_all(&self) -> bool {
        let in_hand = self.consumers.iter().any(|one| one.hands.any());
        let in_queues = self.empty(&[Queue::Outcomes, Queue::StageDue, Queue::Pulses, Queue::Canaries]).await;
        held(&self.traffic.published).clear();
        let taken = std::mem::take(&mut *held(&self.traffic.taken));
        for (acker, tag) in taken {
            acker.ack_now(&[tag]);
        }
        in_hand || in_queues
    }

    /// These queues, and all that orders wait in. Whether anything was in one, or late.
    async fn empty(&self, others: &[Queue]) -> bool {
        let orders = self.consumers.iter().map(|one| Queue::Orders(one.instance().clone()));
        let queues: Vec<Queue> = orders.chain(others.iter().cloned()).collect();
        let mut any = false;
        for queue in queues {
            if self.bus.depth(&queue).await.unwrap_or(0) == 0 {
                continue;
            }
            let mut inbox = self.bus.consume(&queue, MANY).await.unwrap();
            let gone = inbox.next_batch(usize::from(MANY), Duration::ZERO).await;
            any |= !gone.is_empty();
            inbox.ack(gone.into_iter().map(|delivery| delivery.tag).collect()).await;
        }
        let late = std::mem::take(&mut *held(&self.traffic.late));
        any || !late.is_empty()
    }
}
