//! A subscription that outlives its channels.
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{info, warn};

use super::acks::Acks;
use super::connection::{Link, Live, pause, schedule};
use super::publish::{KEY_ID, MAC};
use super::{declare, failure};
use crate::message::Settle;
use crate::{Acker, BusError, Delivery, MAX_LINGER, Queue, Subscription};

/// For one attempt to open a channel and consume, on a connection that is up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A year: a deadline for those that have none.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct RabbitSubscription {
    terms: Arc<Terms>,
    acks: Arc<Acks>,
    stage: Stage,
}

/// What it takes to open it again.
struct Terms {
    link: Arc<Link>,
    queue: Queue,
    prefetch: u16,
    user: String,
}

struct Open {
    channel: Channel,
    consumer: Consumer,
    generation: u64,
}

/// Opening is kept here rather than in a caller's future, so that a caller who waits only a few milliseconds
/// at a time gets there nevertheless.
enum Stage {
    Open(Box<Open>),
    Opening(Pin<Box<dyn Future<Output = Option<Open>> + Send>>),
}

impl Terms {
    async fn attempt(&self, live: &Live) -> Result<Open, lapin::Error> {
        let channel = live.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let name = if self.queue.is_exclusive() {
            declare::exclusive(&channel, &self.queue, &self.user).await?
        } else {
            self.queue.to_string()
        };
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default()).await?;
        Ok(Open { channel, consumer, generation: live.generation })
    }

    async fn open(&self, deadline: Instant) -> Result<Open, BusError> {
        let doing = format!("subscribing to {}", self.queue);
        let live = self.link.up(deadline).await?;
        match timeout_at(deadline, self.attempt(&live)).await {
            Ok(Ok(open)) => Ok(open),
            Ok(Err(error)) => Err(failure::of_queue(&doing, &self.queue.to_string(), &error)),
            Err(_) => Err(failure::too_late(&doing)),
        }
    }

    /// Until it succeeds. `None` once the bus is closed.
    async fn open_again(self: Arc<Self>) -> Option<Open> {
        let mut schedule = schedule();
        let mut troubled = false;
        loop {
            // The outage of the connection is the watchdog's to report; only what comes after is reported here.
            let error = match self.link.up(Instant::now() + NEVER).await {
                Ok(_) => match self.open(Instant::now() + OPEN_TIMEOUT).await {
                    Ok(open) => {
                        info!(queue = %self.queue, "subscribed again");
                        return Some(open);
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error == BusError::Closed || self.link.is_closed() {
                return None;
            }
            if !troubled {
                warn!(queue = %self.queue, %error, "cannot subscribe again; trying until it works");
                troubled = true;
            }
            sleep(pause(&mut schedule)).await;
        }
    }
}

impl RabbitSubscription {
    pub(super) async fn open(
        link: Arc<Link>,
        queue: Queue,
        prefetch: u16,
        user: String,
        deadline: Instant,
    ) -> Result<Self, BusError> {
        let terms = Arc::new(Terms { link, queue, prefetch, user });
        let open = terms.open(deadline).await?;
        let acks = Arc::new(Acks::default());
        acks.begin(open.channel.clone());
        Ok(Self { terms, acks, stage: Stage::Open(Box::new(open)) })
    }

    fn lost(&mut self) {
        self.acks.end();
        self.stage = Stage::Opening(Box::pin(Arc::clone(&self.terms).open_again()));
    }

    fn received(&self, delivery: lapin::message::Delivery) -> Delivery {
        let tag = self.acks.delivered(delivery.delivery_tag);
        if self.terms.queue.is_exclusive() {
            self.acks.ack(&[tag]);
        }
        let properties = delivery.properties;
        let header = |name: &str| match properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
            _ => None,
        };
        Delivery {
            key_id: header(KEY_ID),
            mac: header(MAC),
            message_id: properties.message_id().as_ref().map(|id| id.as_str().to_owned()),
            user_id: properties.user_id().as_ref().map(|id| id.as_str().to_owned()),
            body: Bytes::from(delivery.data),
            redelivered: delivery.redelivered,
            tag,
        }
    }

    /// What is here already.
    fn ready(&mut self) -> Option<Delivery> {
        let Stage::Open(open) = &mut self.stage else { return None };
        match open.consumer.next().now_or_never()? {
            Some(Ok(delivery)) => Some(self.received(delivery)),
            Some(Err(_)) | None => {
                self.lost();
                None
            }
        }
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.ready() {
                return Some(delivery);
            }
            match &mut self.stage {
                Stage::Open(open) => {
                    let link = &self.terms.link;
                    let delivery = tokio::select! {
                        delivery = open.consumer.next() => delivery,
                        () = link.gone(open.generation) => None,
                    };
                    match delivery {
                        Some(Ok(delivery)) => return Some(self.received(delivery)),
                        Some(Err(_)) | None => self.lost(),
                    }
                }
                Stage::Opening(opening) => match opening.await {
                    Some(open) => {
                        self.acks.begin(open.channel.clone());
                        self.stage = Stage::Open(Box::new(open));
                    }
                    None => {
                        self.stage = Stage::Opening(Box::pin(std::future::ready(None)));
                        return None;
                    }
                },
            }
        }
    }

    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        let until = Instant::now() + linger.min(MAX_LINGER);
        let mut batch = Vec::new();
        if max == 0 {
            return batch;
        }
        match timeout_at(until, self.next()).await {
            Ok(Some(first)) => batch.push(first),
            Ok(None) => sleep_until(until).await,
            Err(_) => {}
        }
        while !batch.is_empty() && batch.len() < max {
            let Some(delivery) = self.ready() else { break };
            batch.push(delivery);
        }
        batch
    }

    fn acker(&self) -> Acker {
        Acker(Arc::clone(&self.acks) as Arc<dyn Settle>)
    }
}

/// Dropping the channel closes it, upon which the broker puts back what was not acked.
impl Drop for RabbitSubscription {
    fn drop(&mut self) {
        self.acks.end();
    }
}
