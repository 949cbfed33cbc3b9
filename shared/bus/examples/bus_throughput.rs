//! Messages per second, published with confirm and consumed with ack, over one queue.
//!
//! `cargo run --release -p sexton-bus --example bus_throughput -- [local|amqp://user:password@host/vhost] [COUNT] [BATCH]`
use std::sync::Arc;
use std::time::{Duration, Instant};

use sexton_bus::local::Local;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::{Bus, Outgoing, PublishError, Queue, Target, Topology};

const BODY_BYTES: usize = 500;
const PUBLISHERS: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bus: Arc<dyn Bus> = match arguments.next().as_deref() {
        None | Some("local") => Arc::new(Local::new()),
        Some(url) => {
            let declare = Some(Topology::for_instances(&[]));
            Arc::new(Rabbit::connect(RabbitOptions { declare, ..RabbitOptions::new(url) }).await?)
        }
    };
    let count: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let batch: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;

    let started = Instant::now();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| tokio::spawn(publish(Arc::clone(&bus), publisher, count / PUBLISHERS, batch)))
        .collect();
    let mut subscription = bus.consume(&Queue::Outcomes, 1024).await?;
    let expected = count / PUBLISHERS * PUBLISHERS;
    let mut received = 0;
    while received < expected {
        let deliveries = subscription.next_batch(256, Duration::from_millis(5)).await;
        received += deliveries.len();
        subscription.ack(deliveries.iter().map(|delivery| delivery.tag).collect()).await;
    }
    for publisher in publishers {
        publisher.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{expected} messages of {BODY_BYTES} bytes in {seconds:.2} s: {:.0}/s",
        expected as f64 / seconds
    );
    Ok(())
}

async fn publish(
    bus: Arc<dyn Bus>,
    publisher: usize,
    count: usize,
    batch: usize,
) -> Result<(), PublishError> {
    let body = vec![b'x'; BODY_BYTES];
    let mut next = 0;
    let mut refused: Vec<Outgoing> = Vec::new();
    while next < count || !refused.is_empty() {
        let mut messages = std::mem::take(&mut refused);
        while messages.len() < batch && next < count {
            messages.push(Outgoing {
                target: Target::Queue(Queue::Outcomes),
                body: body.clone().into(),
                key_id: "coordinator.2026".to_owned(),
                mac: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_owned(),
                message_id: format!("{publisher}-{next}"),
                ttl: None,
            });
            next += 1;
        }
        let results = bus.publish(messages.clone()).await;
        for (message, result) in messages.into_iter().zip(results) {
            match result {
                Err(PublishError::Full { .. }) => refused.push(message),
                other => other?,
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}
