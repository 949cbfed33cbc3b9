//! The broker: one, or the nodes of a cluster. Told what to do over its management API.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::port;

/// Messages of one flood.
const FLOOD: usize = 40;
/// Whose leader is looked for: without it nobody is answered.
const OUTCOMES: &str = "sexton.outcomes";

#[derive(Debug, Clone)]
pub struct Broker {
    dev: PathBuf,
    nodes: usize,
}

impl Broker {
    /// That of the installation in this folder.
    pub fn of(dev: &Path, nodes: usize) -> Self {
        Self { dev: dev.to_owned(), nodes }
    }

    pub fn is_cluster(&self) -> bool {
        self.nodes > 1
    }

    /// The names of its nodes, as `scripts/dev` calls their folders.
    fn nodes(&self) -> impl Iterator<Item = String> {
        (1..=self.nodes).map(|n| if n == 1 { "rabbitmq".to_owned() } else { format!("rabbitmq{n}") })
    }

    /// Where it is spoken to, whether or not anybody is there just now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let ports = self.nodes().filter_map(|node| port(&self.dev.join(node), "amqp"));
        ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect()
    }

    /// Ask the first node that answers.
    fn manage(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        self.nodes().find_map(|node| {
            let url = format!("http://127.0.0.1:{}/api/{path}", port(&self.dev.join(node), "management")?);
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", "--max-time", "20", "-u", "guest:guest", "-X", method]);
            if !body.is_null() {
                curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
            }
            let output = curl.arg(url).output().unwrap();
            // Most of what changes something is answered by nothing.
            let answer = || serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            output.status.success().then(answer)
        })
    }

    /// Empty every queue that outlives its consumer. How many there were.
    pub fn purge(&self) -> usize {
        let queues = self.manage("GET", "queues/sexton?columns=name,durable", &Value::Null);
        let queues = queues.unwrap_or_default();
        let durable = queues.as_array().into_iter().flatten().filter(|queue| queue["durable"] == true);
        let purged = durable.filter(|queue| {
            let path = format!("queues/sexton/{}/contents", queue["name"].as_str().unwrap());
            self.manage("DELETE", &path, &Value::Null).is_some()
        });
        purged.count()
    }

    /// Orders and outcomes find their queues full from one message on.
    pub fn narrow(&self) -> bool {
        let policy = json!({
            "pattern": "^sexton\\.(orders|outcomes)", "definition": { "max-length": 1 },
            "apply-to": "queues", "priority": 1,
        });
        self.manage("PUT", "policies/sexton/full", &policy).is_some()
    }

    pub fn widen(&self) -> bool {
        self.manage("DELETE", "policies/sexton/full", &Value::Null).is_some()
    }

    /// Messages that nobody has signed, as orders. How many were taken.
    pub fn flood(&self, instance: &str) -> usize {
        let forged = json!({
            "properties": {}, "routing_key": instance, "payload": "delete everything", "payload_encoding": "string",
        });
        let path = "exchanges/sexton/sexton.send.orders/publish";
        (0..FLOOD).filter(|_| self.manage("POST", path, &forged).is_some()).count()
    }

    /// The node that leads the queue of outcomes.
    pub fn leader(&self) -> Option<String> {
        let queue = self.manage("GET", &format!("queues/sexton/{OUTCOMES}"), &Value::Null)?;
        let leader = queue["leader"].as_str()?;
        // Only further nodes of a cluster write down what they are called.
        let called = |node: &String| std::fs::read_to_string(self.dev.join(node).join("node"));
        let further = self.nodes().find(|node| called(node).is_ok_and(|name| name.trim() == leader));
        further.or_else(|| self.nodes().next())
    }
}
