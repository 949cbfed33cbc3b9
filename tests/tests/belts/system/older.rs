//! Processes that speak as 0.1.0 did: what they publish says no more than that version could say, and what they are
//! delivered they understand no better. What that is stands in the schemas it had (`shared/protocol/tests/written/0.1.0`).
//! What they decide and do is this version's.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use jsonschema::Validator;
use serde_json::{Value, json};
use sexton_bus::topology::COORDINATOR;
use sexton_bus::{Acker, Bus, BusError, Delivery, Outgoing, PublishError, Queue, Subscription, Target};
use sexton_model::Instance;
use sexton_protocol::{BeaconSigner, Direction, Holder, Keyring, Seal};
use sexton_testkit::bus::{Double, Instead};

use super::System;

/// A message as 0.1.0 knew it.
struct Known {
    schema: Value,
    by: Validator,
}

/// All of them, by their names.
static KNOWN: LazyLock<BTreeMap<String, Known>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/protocol/tests/written/0.1.0");
    let known = |entry: std::io::Result<std::fs::DirEntry>| {
        let file = entry.unwrap().path();
        let schema: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let by = jsonschema::validator_for(&schema).unwrap();
        (file.file_stem().unwrap().to_str().unwrap().to_owned(), Known { schema, by })
    };
    std::fs::read_dir(folder).unwrap().map(known).collect()
});

fn known(event: &Value) -> &'static Known {
    let kind = event["type"].as_str().unwrap();
    KNOWN.get(kind.trim_start_matches("dev.sexton.").trim_end_matches(".v1")).unwrap()
}

/// A message as 0.1.0 would have said it: without what it could not say, and with what it wrote out although that said
/// nothing.
fn said(body: &[u8]) -> Vec<u8> {
    let mut events: Vec<Value> = serde_json::from_slice(body).unwrap();
    for event in &mut events {
        let Known { schema, by } = known(event);
        let fields = schema["properties"].as_object().unwrap();
        let data = event["data"].as_object_mut().unwrap();
        data.retain(|name, _| fields.contains_key(name));
        for (name, field) in fields {
            if let Some(nothing) = field.get("default") {
                data.entry(name.clone()).or_insert_with(|| nothing.clone());
            }
        }
        if let Err(why) = by.validate(&event["data"]) {
            panic!("0.1.0 could not say {event}: {why}");
        }
        event["datacontenttype"] = json!("application/json");
    }
    serde_json::to_vec(&events).unwrap()
}

/// The bus of a process of 0.1.0.
struct Older {
    inner: Arc<dyn Bus>,
    keyring: Arc<Keyring>,
    signer: Arc<BeaconSigner>,
    /// Whose consumer it is; without one it is a coordinator.
    consumer: Option<Instance>,
    /// It lives, and takes no orders: all that are given are another copy's.
    busy: bool,
}

impl Older {
    /// What has other words needs another proof.
    fn seal(&self, target: &Target, body: &[u8]) -> Seal {
        let by = |instance: &Instance, direction| {
            self.keyring.sign(&Holder::Instance(instance.clone()), direction, body).unwrap()
        };
        match (target, &self.consumer) {
            (Target::Queue(Queue::Orders(instance)), None) => by(instance, Direction::Order),
            (Target::Queue(Queue::Rejected), None) => self.signer.sign(Direction::Rejected, body),
            (Target::Beacon, None) => self.signer.sign(Direction::Beacon, body),
            (Target::Event { .. }, None) => self.signer.sign(Direction::Event, body),
            (Target::Queue(Queue::Outcomes), Some(own)) => by(own, Direction::Outcome),
            (Target::Queue(Queue::Pulses), Some(own)) => by(own, Direction::Pulse),
            (Target::Queue(Queue::Rejected), Some(own)) => by(own, Direction::Rejected),
            (target, consumer) => panic!("{consumer:?} of 0.1.0 publishes to {target}"),
        }
    }
}

#[async_trait]
impl Instead for Older {
    fn behind(&self) -> &dyn Bus {
        &*self.inner
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let in_its_words = |message: Outgoing| {
            let body = said(&message.body);
            let Seal { key_id, mac } = self.seal(&message.target, &body);
            Outgoing { body: body.into(), key_id, mac, ..message }
        };
        let messages = messages.into_iter().map(in_its_words).collect();
        self.inner.publish(messages).await
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        let nothing = Queue::Events { pattern: "nobody.says.this".into() };
        let busy = self.busy && matches!(queue, Queue::Orders(_));
        let inner = self.inner.consume(if busy { &nothing } else { queue }, prefetch).await?;
        Ok(Box::new(Ears { inner, keyring: self.keyring.clone(), queue: queue.clone() }))
    }
}

/// What a process of 0.1.0 is delivered.
struct Ears {
    inner: Box<dyn Subscription>,
    keyring: Arc<Keyring>,
    queue: Queue,
}

impl Ears {
    /// What that version would have refused says something that this one does not know either, and is refused in the same
    /// way: both read the whole message, or nothing of it.
    fn understood(&self, delivery: Delivery) -> Delivery {
        let user = || delivery.user_id.as_deref().unwrap().parse::<Instance>().unwrap();
        let (direction, holder) = match &self.queue {
            Queue::Orders(instance) => (Direction::Order, instance.clone()),
            Queue::Outcomes => (Direction::Outcome, user()),
            Queue::Pulses => (Direction::Pulse, user()),
            // Of a beacon that version passed over what it did not know, wake-ups are as they were, and it read no others.
            Queue::Beacon | Queue::StageDue | Queue::Rejected | Queue::Canaries | Queue::Events { .. } => {
                return delivery;
            }
        };
        let mut events: Vec<Value> = serde_json::from_slice(&delivery.body).unwrap();
        let mut strange = false;
        for event in &mut events {
            let refused = known(event).by.validate(&event["data"]).err().map(|why| why.to_string());
            if let Some(why) = refused {
                event["data"][format!("0.1.0 does not know it: {why}")] = Value::Null;
                strange = true;
            }
        }
        if !strange {
            return delivery;
        }
        let body = serde_json::to_vec(&events).unwrap();
        let Seal { key_id, mac } = self.keyring.sign(&Holder::Instance(holder), direction, &body).unwrap();
        Delivery { body: body.into(), key_id: Some(key_id), mac: Some(mac), ..delivery }
    }
}

#[async_trait]
impl Subscription for Ears {
    async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.inner.next().await?;
        Some(self.understood(delivery))
    }

    async fn next_batch(&mut self, max: usize, linger: Duration) -> Vec<Delivery> {
        let deliveries = self.inner.next_batch(max, linger).await;
        deliveries.into_iter().map(|delivery| self.understood(delivery)).collect()
    }

    fn acker(&self) -> Acker {
        self.inner.acker()
    }
}

impl System {
    fn older(&self, consumer: Option<&Instance>, busy: bool) -> Arc<dyn Bus> {
        let user = consumer.map_or_else(|| COORDINATOR.to_owned(), ToString::to_string);
        Arc::new(Double(Older {
            inner: self.as_user(&user),
            keyring: self.keyring.clone(),
            signer: self.signer.clone(),
            consumer: consumer.cloned(),
            busy,
        }))
    }

    /// Start a consumer of 0.1.0, and wait until its pulse has arrived.
    pub async fn start_older_consumer(&mut self, instance: &Instance) {
        self.start_consumer_on(instance, self.older(Some(instance), false));
        self.until_pulsed(instance).await;
    }

    /// The same; it leaves all orders to other copies.
    pub async fn start_busy_older_consumer(&mut self, instance: &Instance) {
        self.start_consumer_on(instance, self.older(Some(instance), true));
        self.until_pulsed(instance).await;
    }

    /// The next coordinator that is started is one of 0.1.0.
    pub fn coordinate_as_0_1_0(&mut self) {
        self.coordinate_on(self.older(None, false));
    }

    /// The next coordinator that is started is one of this version again.
    pub fn coordinate_as_today(&mut self) {
        self.coordinate_on(self.as_user(COORDINATOR));
    }
}
