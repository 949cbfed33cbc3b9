//! The AsyncAPI document says what runs: every queue with where it is read from and how one publishes to it, what
//! coordinator and scheduler may send, and what coordinators read.
use std::collections::BTreeSet;

use serde_json::json;
use sexton_bus::topology::{COORDINATOR, SCHEDULER, copied, route};
use sexton_bus::{Queue, Target, Topology};
use sexton_protocol::schema::asyncapi;

/// It stands for all instances.
const INSTANCE: &str = "dns.main";
const ANY_INSTANCE: &str = "{instance}";

/// Whether coordinators read it.
fn is_read(queue: &Queue) -> bool {
    match queue {
        Queue::Outcomes | Queue::StageDue | Queue::Pulses | Queue::Canaries => true,
        // By consumers, people, and whoever listens.
        Queue::Orders(_) | Queue::Rejected | Queue::Beacon | Queue::Events { .. } => false,
    }
}

/// As it stands in a user's rights.
fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}

#[test]
fn the_document_says_what_runs() {
    let topology = Topology::for_instances(&[INSTANCE.parse().unwrap()]);
    let document = asyncapi();
    let channels = document["channels"].as_object().unwrap();
    let operations = document["operations"].as_object().unwrap();
    let user = |name: &str| topology.users.iter().find(|user| user.name == name).unwrap();
    let durable: Vec<Queue> = topology.queues.iter().map(|durable| durable.queue.clone()).collect();
    // Of these every subscriber has one of their own.
    let exclusive = [Queue::Beacon, Queue::Events { pattern: "{topic}".to_owned() }];
    let (mut named, mut exchanges) = (BTreeSet::new(), BTreeSet::new());
    for queue in durable.iter().chain(&exclusive) {
        let (exchange, routing_key) = route(&Target::Queue(queue.clone()));
        let address = if queue.is_exclusive() { exchange.clone() } else { queue.to_string() };
        let address = address.replace(INSTANCE, ANY_INSTANCE);
        let described = channels.iter().find(|(_, channel)| channel["address"] == address.as_str());
        let (name, channel) = described.unwrap_or_else(|| panic!("{address} is not described"));
        named.insert(name);

        let published_to =
            json!({"exchange": exchange, "routingKey": routing_key.replace(INSTANCE, ANY_INSTANCE)});
        assert_eq!(channel["x-published-to"], published_to, "{name}");

        let copy = durable.iter().any(|source| copied(source).as_ref() == Some(queue));
        let sends = |who: &str| !copy && user(who).write.contains(&escaped(&exchange));
        let mut expected = BTreeSet::new();
        expected.extend((sends(COORDINATOR) || sends(SCHEDULER)).then_some("send"));
        expected.extend(is_read(queue).then_some("receive"));
        let of_it = operations.values().filter(|o| o["channel"]["$ref"] == format!("#/channels/{name}"));
        let said: BTreeSet<&str> = of_it.map(|o| o["action"].as_str().unwrap()).collect();
        assert_eq!(said, expected, "{name}");
        assert!(!is_read(queue) || user(COORDINATOR).read.contains(&escaped(&queue.to_string())), "{name}");

        // Coordinators sign what everybody may read; orders, and what others say, are sealed.
        let orders = matches!(queue, Queue::Orders(_));
        let sealed = orders || sends(SCHEDULER) || sends(INSTANCE);
        let signed = sends(COORDINATOR) && !orders;
        let about = channel["description"].as_str().unwrap();
        let said = (about.contains("HMAC-SHA256"), about.contains("Ed25519"));
        assert_eq!(said, (sealed, signed), "{name}: {about}");
        exchanges.insert(exchange);
    }
    assert_eq!(named, channels.keys().collect::<BTreeSet<_>>(), "a channel that is none");
    let declared: BTreeSet<String> =
        topology.exchanges.iter().map(|exchange| exchange.name.clone()).collect();
    assert_eq!(exchanges, declared);
}
