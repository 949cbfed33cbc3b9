//! The topology in the form RabbitMQ loads at start (`management.load_definitions`, or
//! `rabbitmqctl import_definitions`).
//!
//! Passwords are written as the broker keeps them, salted and hashed. A user without one gets an empty hash,
//! with which the broker lets nobody in: definitions without passwords are safe to publish, and useful once
//! `rabbitmqctl change_password` was called.
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::topology::{Argument, Limits, Topology, route};
use crate::{Queue, Target};

impl Topology {
    /// The definitions for one virtual host, with a password for each user that has one in `passwords`.
    /// Salts are random, so two calls differ.
    pub fn definitions(&self, vhost: &str, passwords: &BTreeMap<String, String>) -> Value {
        let users: Vec<Value> = self
            .users
            .iter()
            .map(|user| {
                let hash = passwords.get(&user.name).map(|p| password_hash(rand::random(), p));
                json!({
                    "name": user.name,
                    "password_hash": hash.unwrap_or_default(),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": [],
                })
            })
            .collect();
        let permissions: Vec<Value> = self
            .users
            .iter()
            .map(|user| {
                json!({
                    "user": user.name, "vhost": vhost,
                    "configure": user.configure, "write": user.write, "read": user.read,
                })
            })
            .collect();
        json!({
            "users": users,
            "vhosts": [{ "name": vhost }],
            "permissions": permissions,
            "exchanges": self.exchange_definitions(vhost),
            "queues": self.queue_definitions(vhost),
            "bindings": self.binding_definitions(vhost),
        })
    }

    fn exchange_definitions(&self, vhost: &str) -> Vec<Value> {
        self.exchanges
            .iter()
            .map(|exchange| {
                json!({
                    "name": exchange.name, "vhost": vhost, "type": exchange.kind.as_str(),
                    "durable": true, "auto_delete": false, "internal": false, "arguments": {},
                })
            })
            .collect()
    }

    fn queue_definitions(&self, vhost: &str) -> Vec<Value> {
        self.queues
            .iter()
            .map(|durable| {
                json!({
                    "name": durable.queue.to_string(), "vhost": vhost,
                    "durable": true, "auto_delete": false, "arguments": arguments(&durable.limits),
                })
            })
            .collect()
    }

    fn binding_definitions(&self, vhost: &str) -> Vec<Value> {
        self.queues
            .iter()
            .map(|durable| {
                let (exchange, key) = route(&Target::Queue(Queue::clone(&durable.queue)));
                json!({
                    "source": exchange, "vhost": vhost, "destination": durable.queue.to_string(),
                    "destination_type": "queue", "routing_key": key, "arguments": {},
                })
            })
            .collect()
    }
}

fn arguments(limits: &Limits) -> BTreeMap<&'static str, Value> {
    let value = |argument| match argument {
        Argument::Text(text) => Value::from(text),
        Argument::Number(number) => Value::from(number),
    };
    limits.arguments(true).into_iter().map(|(name, argument)| (name, value(argument))).collect()
}

/// The broker's form of a password: base64 of the salt followed by SHA-256 over salt and password.
fn password_hash(salt: [u8; 4], password: &str) -> String {
    let digest = digest(&SHA256, &[&salt, password.as_bytes()].concat());
    let mut salted = salt.to_vec();
    salted.extend_from_slice(digest.as_ref());
    STANDARD.encode(salted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;

    /// Those of the example configurations.
    const DEFAULT_INSTANCES: [&str; 8] = [
        "hypervisor.main",
        "ipam.main",
        "dns.main",
        "backup.main",
        "monitoring.main",
        "notifier.main",
        "accounting.main",
        "config.main",
    ];

    fn default_topology() -> Topology {
        let instances: Vec<Instance> = DEFAULT_INSTANCES.iter().map(|i| i.parse().unwrap()).collect();
        Topology::for_instances(&instances)
    }

    /// `SEXTON_UPDATE_SNAPSHOTS=1 cargo test -p sexton-bus` writes the file.
    #[test]
    fn the_deployed_definitions_are_these() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rabbitmq/topology.json");
        let mut built =
            serde_json::to_string_pretty(&default_topology().definitions("/", &BTreeMap::new())).unwrap();
        built.push('\n');
        if std::env::var_os("SEXTON_UPDATE_SNAPSHOTS").is_some() {
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            std::fs::write(path, &built).unwrap();
        }
        let deployed = std::fs::read_to_string(path).unwrap();
        assert!(deployed == built, "{path} differs from the topology; run with SEXTON_UPDATE_SNAPSHOTS=1");
    }

    #[test]
    fn the_deployed_definitions_are_for_the_instances_of_the_examples() {
        for example in ["sexton.toml", "sexton-many.toml"] {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/").to_owned() + example;
            let text = std::fs::read_to_string(file).unwrap();
            let mut named: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("[consumers.\"")?.strip_suffix("\"]"))
                .collect();
            let mut deployed = DEFAULT_INSTANCES;
            named.sort_unstable();
            deployed.sort_unstable();
            assert_eq!(named, deployed, "{example}");
        }
    }

    #[test]
    fn without_a_password_nobody_gets_in() {
        let passwords = BTreeMap::from([("scheduler".to_owned(), "s3cret".to_owned())]);
        let definitions = default_topology().definitions("/", &passwords);
        for user in definitions["users"].as_array().unwrap() {
            let has_one = user["name"] == "scheduler";
            assert_eq!(user["password_hash"] != "", has_one, "{user}");
        }
        assert!(!definitions.to_string().contains("s3cret"));
    }

    /// From the broker's documentation of its hashes: salt 0x908DC60A, password "test12".
    #[test]
    fn the_hash_is_the_brokers() {
        assert_eq!(
            password_hash([0x90, 0x8d, 0xc6, 0x0a], "test12"),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
    }

    #[test]
    fn no_exchange_is_named_like_a_queue() {
        let topology = default_topology();
        for exchange in &topology.exchanges {
            assert!(topology.queues.iter().all(|queue| queue.queue.to_string() != exchange.name));
        }
    }
}
