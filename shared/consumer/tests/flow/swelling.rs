//! A bus that carries more than ours does: what is larger than any order may be can only come through another one.
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sexton_bus::{Acker, Bus, BusError, Delivery, Queue, Subscription};
use sexton_protocol::{Message, Order};
use sexton_testkit::bus::Instead;

/// The id of a message that arrives with one byte more than orders may have.
pub const SWOLLEN: &str = "swollen";

pub struct Swelling(pub Arc<dyn Bus>);

#[async_trait]
impl Instead for Swelling {
    fn behind(&self) -> &dyn Bus {
        &*self.0
    }
    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        Ok(Box::new(Swollen(self.0.consume(queue, prefetch).await?)))
    }
}

struct Swollen(Box<dyn Subscription>);

#[async_trait]
impl Subscription for Swollen {
    async fn next(&mut self) -> Option<Delivery> {
        self.0.next().await.map(swell)
    }
    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        self.0.next_batch(max, linger).await.into_iter().map(swell).collect()
    }
    fn acker(&self) -> Acker {
        self.0.acker()
    }
}

fn swell(mut delivery: Delivery) -> Delivery {
    if delivery.message_id.as_deref() == Some(SWOLLEN) {
        let mut body = delivery.body.to_vec();
        body.resize(Order::PACK_MAX_BYTES + 1, b' ');
        delivery.body = body.into();
    }
    delivery
}
