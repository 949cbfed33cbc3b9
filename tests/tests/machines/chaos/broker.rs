//! The broker: one, or the nodes of a cluster. Told what to do over its management API.
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::port;
use crate::installation::Installation;
use crate::waiting::wait_until;

/// Messages of one flood.
const FLOOD: usize = 40;
/// Whose leader is looked for: without it nobody is answered.
const OUTCOMES: &str = "sexton.outcomes";
/// Which nobody takes from but people: what is lost of it is missed by nobody here.
const REJECTED: &str = "sexton.rejected";
/// Messages that are taken out of one queue at most: many more than there ever are, and few enough for one answer.
const PURGED_MOST: usize = 1_000;
/// The policy by which queues are full.
const FULL: &str = "full";
/// The folder of its first node, whose port mapper all of them use.
const FIRST: &str = "rabbitmq";
/// Longest wait until it answers: after a restart it is silent, or chooses its leaders.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(500);

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
        (1..=self.nodes).map(|n| if n == 1 { FIRST.to_owned() } else { format!("{FIRST}{n}") })
    }

    /// SIGKILL to all of it.
    pub fn kill(&self, installation: &Installation) {
        for node in self.nodes() {
            installation.kill_server(&node);
        }
    }

    /// Start all of it, every node at once: one that went with the others waits until they are there again.
    pub fn start(&self, installation: &Installation) {
        std::thread::scope(|scope| {
            for node in self.nodes() {
                if node != FIRST {
                    wait_until("the broker's port mapper answers", 60, || self.is_mapped());
                }
                scope.spawn(move || installation.start_server(&node));
            }
        });
    }

    /// Whether its nodes can find each other.
    fn is_mapped(&self) -> bool {
        let mapper = port(&self.dev.join(FIRST), "epmd");
        mapper.is_some_and(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
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

    /// Empty every queue that outlives its consumer and that a service takes from. How many messages are gone, of those that
    /// were not handed out; nothing if no queue could be emptied.
    pub fn purge(&self) -> Option<usize> {
        within_patience(|| self.purge_once())
    }

    fn purge_once(&self) -> Option<usize> {
        let queues = self.manage("GET", "queues/sexton?columns=name,durable", &Value::Null)?;
        let durable = queues.as_array().into_iter().flatten().filter(|queue| queue["durable"] == true);
        let names = durable.map(|queue| queue["name"].as_str().unwrap()).filter(|name| *name != REJECTED);
        // A purge does not say how many it has met: so each message is taken, and acked.
        let take = json!({
            "count": PURGED_MOST, "ackmode": "ack_requeue_false", "encoding": "base64", "truncate": 1,
        });
        let purged = names.filter_map(|name| {
            let taken = self.manage("POST", &format!("queues/sexton/{name}/get"), &take)?;
            Some(taken.as_array()?.len())
        });
        let purged: Vec<usize> = purged.collect();
        (!purged.is_empty()).then(|| purged.iter().sum())
    }

    /// Orders and outcomes find their queues full from one message on. Whether the broker has said that it does so.
    pub fn narrow(&self) -> bool {
        within_patience(|| self.narrow_once()).is_some()
    }

    fn narrow_once(&self) -> Option<()> {
        let policy = json!({
            "pattern": "^sexton\\.(orders|outcomes)", "definition": { "max-length": 1 },
            "apply-to": "queues", "priority": 1,
        });
        self.manage("PUT", &format!("policies/sexton/{FULL}"), &policy).map(drop)
    }

    /// Whether they no longer do, for all that the broker says.
    pub fn widen(&self) -> bool {
        within_patience(|| self.widen_once()).is_some()
    }

    fn widen_once(&self) -> Option<()> {
        // Dropped before, by a request whose answer was lost, or never there: then it cannot be dropped once more.
        let gone = || {
            let policies = self.manage("GET", "policies/sexton", &Value::Null)?;
            policies.as_array()?.iter().all(|policy| policy["name"] != FULL).then_some(())
        };
        self.manage("DELETE", &format!("policies/sexton/{FULL}"), &Value::Null).map(drop).or_else(gone)
    }

    /// Messages that nobody has signed, as orders. How many came into a queue; nothing if none did.
    pub fn flood(&self, instance: &str) -> Option<usize> {
        within_patience(|| self.flood_once(instance))
    }

    fn flood_once(&self, instance: &str) -> Option<usize> {
        let forged = json!({
            "properties": {}, "routing_key": instance, "payload": "delete everything", "payload_encoding": "string",
        });
        let path = "exchanges/sexton/sexton.send.orders/publish";
        let routed = |answer: Value| answer["routed"] == true;
        let taken = (0..FLOOD).filter(|_| self.manage("POST", path, &forged).is_some_and(routed));
        Some(taken.count()).filter(|taken| *taken > 0)
    }

    /// The node that leads the queue of outcomes; nothing if the cluster chooses none.
    pub fn leader(&self) -> Option<String> {
        within_patience(|| self.leader_now())
    }

    fn leader_now(&self) -> Option<String> {
        let queue = self.manage("GET", &format!("queues/sexton/{OUTCOMES}"), &Value::Null)?;
        let leader = queue["leader"].as_str()?;
        // Only further nodes of a cluster write down what they are called.
        let called = |node: &String| std::fs::read_to_string(self.dev.join(node).join("node"));
        let further = self.nodes().find(|node| called(node).is_ok_and(|name| name.trim() == leader));
        further.or_else(|| self.nodes().next())
    }
}

/// What comes of it, if something does in time.
fn within_patience<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let came = attempt();
        if came.is_some() || Instant::now() >= until {
            return came;
        }
        std::thread::sleep(AGAIN);
    }
}
