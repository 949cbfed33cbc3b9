//! Puts the topology on a broker.
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection};

use crate::topology::{Argument, ExchangeKind, Limits, Topology, exclusive_name, route};
use crate::{Queue, Target};

/// Every durable exchange, queue and binding. Declaring what exists changes nothing; the broker refuses if it
/// exists with other limits.
pub(super) async fn all(connection: &Connection, topology: &Topology) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    for exchange in &topology.exchanges {
        let kind = match exchange.kind {
            ExchangeKind::Direct => lapin::ExchangeKind::Direct,
            ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
            ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        };
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(exchange.name.as_str().into(), kind, durable, FieldTable::default()).await?;
    }
    for declared in &topology.queues {
        let name = declared.queue.to_string();
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.as_str().into(), durable, arguments(&declared.limits, true)).await?;
        bind(&channel, &declared.queue, &name).await?;
    }
    Ok(())
}

/// A queue that ends with its subscription. Its name is new every time, since the broker may not have noticed
/// yet that the former one's connection is gone.
pub(super) async fn exclusive(channel: &Channel, queue: &Queue, user: &str) -> Result<String, lapin::Error> {
    let name = exclusive_name(queue, user, rand::random());
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(name.as_str().into(), own, arguments(&Limits::of(queue), false)).await?;
    bind(channel, queue, &name).await?;
    Ok(name)
}

async fn bind(channel: &Channel, queue: &Queue, name: &str) -> Result<(), lapin::Error> {
    let (exchange, key) = route(&Target::Queue(queue.clone()));
    let options = QueueBindOptions::default();
    channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

fn arguments(limits: &Limits, durable: bool) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, argument) in limits.arguments(durable) {
        let value = match argument {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(text)),
            Argument::Number(number) => AMQPValue::LongLongInt(i64::from(number)),
        };
        table.insert(name.into(), value);
    }
    table
}
