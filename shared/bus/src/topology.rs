//! The one place where exchanges, queues, their limits, bindings, users and rights are declared, as data.
//!
//! Invariants:
//! - Nobody publishes through the default exchange, on which rights cannot be limited: every queue has an
//!   exchange of its own, [`Exchange::SEND`] and the queue's last name, and a right to publish is a right to
//!   write to that exchange. One queue has none and gets a copy of what another one gets ([`copied`]). An exchange never bears the name of a queue, since the broker's rights do not
//!   tell the two apart, and to write to a *queue* is to bind it.
//! - Durable queues are quorum queues: the loss of one node stops nobody. That includes the pulses: with their
//!   queue away, every subsystem would count as down.
//! - Every queue is bounded. Where a lost message costs a lease ([`Overflow::Refuse`]), the broker says no to
//!   the publisher; where it is only a wake-up or a sign of life, the oldest goes.
//! - Nobody may do more than their part takes: a coordinator, too, can neither consume an instance's orders nor answer in
//!   its place. It declares every queue and exchange, though, and to a broker that is the right to delete them: a
//!   coordinator that was taken over can throw orders away, with the queue they wait in. Their leases run out, and a
//!   coordinator that connects declares the queue again.
//! - No delivery limit: an order may be put back as often as its consumer lacks a fresh beacon.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Instance, Queue, Target};

/// What happens to a message that finds its queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused, and its publisher is told.
    Refuse,
    /// It displaces the oldest one.
    DropOldest,
}

/// How an exchange chooses among its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the exact routing key.
    Direct,
    /// All of them.
    Fanout,
    /// By pattern.
    Topic,
}

impl ExchangeKind {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
        }
    }
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ExchangeKind,
}

impl Exchange {
    /// What the names of the exchanges begin with that feed one queue each.
    pub const SEND: &'static str = "sexton.send.";
    /// The fanout of the beacon.
    pub const BEACON: &'static str = "sexton.fanout.beacon";
    /// The topic exchange of the events.
    pub const EVENTS: &'static str = "sexton.events";
}

/// The value of a queue's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A word.
    Text(&'static str),
    /// A number.
    Number(u32),
}

/// A durable queue, fed by one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableQueue {
    /// Which one.
    pub queue: Queue,
    /// Its limits.
    pub limits: Limits,
}

/// What a queue holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub length: u32,
    /// Bytes of all bodies.
    pub bytes: u32,
    /// What happens beyond.
    pub overflow: Overflow,
    /// Older ones are dropped.
    pub ttl: Option<Duration>,
}

/// Effectively no limit. A queue argument, because only newer brokers know "-1", and they default to 20.
const DELIVERY_LIMIT_OFF: u32 = 1_000_000_000;

impl Limits {
    /// Orders of one instance. Its credit bounds them to a few thousand; this is sixteen times the largest
    /// prefetch, and reached only if the coordinator forgets its credit.
    const ORDERS: Limits = Limits { length: 65_536, bytes: 512 << 20, overflow: Overflow::Refuse, ttl: None };
    /// Outcomes of all instances while no coordinator is up: the sum of all credits, with room.
    const OUTCOMES: Limits =
        Limits { length: 262_144, bytes: 1 << 30, overflow: Overflow::Refuse, ttl: None };
    /// Wake-ups say what the job table says too; the next round repeats them.
    const STAGE_DUE: Limits = Limits {
        length: 1024,
        bytes: 64 << 20,
        overflow: Overflow::DropOldest,
        ttl: Some(Duration::from_secs(60)),
    };
    /// Three missed pulses make a consumer *down*; an older one would say that it is up.
    const PULSES: Limits = Limits {
        length: 4096,
        bytes: 16 << 20,
        overflow: Overflow::DropOldest,
        ttl: Some(Duration::from_secs(15)),
    };
    /// For people to read. A flood of forged orders must not fill the disk.
    const REJECTED: Limits =
        Limits { length: 10_000, bytes: 64 << 20, overflow: Overflow::DropOldest, ttl: None };
    /// Whoever sent a canary sends it again within seconds, as long as nobody has seen it rejected.
    const CANARIES: Limits = Limits {
        length: 1024,
        bytes: 64 << 20,
        overflow: Overflow::DropOldest,
        ttl: Some(Duration::from_secs(60)),
    };
    /// A subscriber that reads no beacons for so long learns nothing from the old ones.
    pub const BEACON: Limits = Limits {
        length: 1024,
        bytes: 16 << 20,
        overflow: Overflow::DropOldest,
        ttl: Some(Duration::from_secs(10)),
    };
    /// A dashboard that is behind shows gaps rather than the past.
    pub const EVENTS: Limits = Limits {
        length: 10_000,
        bytes: 64 << 20,
        overflow: Overflow::DropOldest,
        ttl: Some(Duration::from_secs(60)),
    };

    /// The limits of a queue.
    pub fn of(queue: &Queue) -> Limits {
        match queue {
            Queue::Orders(_) => Self::ORDERS,
            Queue::Outcomes => Self::OUTCOMES,
            Queue::StageDue => Self::STAGE_DUE,
            Queue::Pulses => Self::PULSES,
            Queue::Rejected => Self::REJECTED,
            Queue::Canaries => Self::CANARIES,
            Queue::Beacon => Self::BEACON,
            Queue::Events { .. } => Self::EVENTS,
        }
    }

    /// The broker's arguments for a queue with these limits.
    pub fn arguments(&self, durable: bool) -> BTreeMap<&'static str, Argument> {
        let overflow = match self.overflow {
            Overflow::Refuse => "reject-publish",
            Overflow::DropOldest => "drop-head",
        };
        let mut arguments = BTreeMap::from([
            ("x-max-length", Argument::Number(self.length)),
            ("x-max-length-bytes", Argument::Number(self.bytes)),
            ("x-overflow", Argument::Text(overflow)),
        ]);
        if durable {
            arguments.insert("x-queue-type", Argument::Text("quorum"));
            arguments.insert("x-delivery-limit", Argument::Number(DELIVERY_LIMIT_OFF));
        }
        if let Some(ttl) = self.ttl {
            let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
            arguments.insert("x-message-ttl", Argument::Number(ttl_ms));
        }
        arguments
    }
}

/// The exchange and routing key that lead to a target.
pub fn route(target: &Target) -> (String, String) {
    match target {
        Target::Beacon => (Exchange::BEACON.to_owned(), String::new()),
        Target::Event { topic } => (Exchange::EVENTS.to_owned(), topic.clone()),
        Target::Queue(Queue::Orders(instance)) => (send("orders"), instance.to_string()),
        Target::Queue(Queue::Beacon) => (Exchange::BEACON.to_owned(), String::new()),
        Target::Queue(Queue::Events { pattern }) => (Exchange::EVENTS.to_owned(), pattern.clone()),
        Target::Queue(Queue::Outcomes) => (send("outcomes"), String::new()),
        Target::Queue(Queue::StageDue) => (send("stage-due"), String::new()),
        Target::Queue(Queue::Pulses) => (send("pulses"), String::new()),
        Target::Queue(Queue::Rejected | Queue::Canaries) => (send("rejected"), String::new()),
    }
}

/// The durable queue that gets a copy of whatever is published to `queue`.
pub fn copied(queue: &Queue) -> Option<Queue> {
    match queue {
        Queue::Rejected => Some(Queue::Canaries),
        Queue::Orders(_)
        | Queue::Outcomes
        | Queue::StageDue
        | Queue::Pulses
        | Queue::Canaries
        | Queue::Beacon
        | Queue::Events { .. } => None,
    }
}

fn send(name: &str) -> String {
    format!("{}{name}", Exchange::SEND)
}

/// The name of a queue that belongs to one subscription of `user`; `unique` tells it from its others.
pub fn exclusive_name(queue: &Queue, user: &str, unique: u64) -> String {
    let purpose = if matches!(queue, Queue::Beacon) { "beacon" } else { "events" };
    format!("sexton.{purpose}.{user}.{unique:016x}")
}

/// A login and what it may do: three anchored patterns over the names of queues and exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name, which the broker stamps on what it publishes.
    pub name: String,
    /// What it may declare and delete.
    pub configure: String,
    /// Exchanges it may publish to, and queues it may bind.
    pub write: String,
    /// Queues it may consume from, and exchanges it may bind to.
    pub read: String,
}

/// The login of the coordinator.
pub const COORDINATOR: &str = "coordinator";
/// The login of the scheduler.
pub const SCHEDULER: &str = "scheduler";

impl User {
    /// It declares everything, gives orders, and reads what is said in return: it takes nobody's orders, and answers
    /// for nobody. To bind a queue is to write to it and to read from its exchange.
    fn coordinator() -> Self {
        let own = format!(r"sexton\.(beacon|events)\.{COORDINATOR}\.[0-9a-f]{{16}}");
        let orders = escape("sexton.orders.") + ".+";
        let queues: Vec<String> =
            SINGLES.iter().cloned().chain(SINGLES.iter().filter_map(copied)).map(|q| q.to_string()).collect();
        let exchanges: Vec<String> = exchanges().into_iter().map(|exchange| exchange.name).collect();
        let told =
            [send("orders"), Exchange::BEACON.to_owned(), Exchange::EVENTS.to_owned(), send("rejected")];
        let all = |parts: [&[String]; 2], pattern: &str| {
            let names: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
            any_of(&names, Some(pattern))
        };
        User {
            name: COORDINATOR.to_owned(),
            configure: all([&exchanges, &queues], &format!("{orders}|{own}")),
            write: all([&told, &queues], &format!("{orders}|{own}")),
            read: all([&exchanges, &queues], &own),
        }
    }

    /// It may say that something is due, and nothing else.
    fn scheduler() -> Self {
        User {
            name: SCHEDULER.to_owned(),
            configure: NOTHING.to_owned(),
            write: any_of(&[&send("stage-due")], None),
            read: NOTHING.to_owned(),
        }
    }

    /// It reads its orders and the beacon, and answers.
    fn instance(instance: &Instance) -> Self {
        let name = instance.to_string();
        let own = format!("{}[0-9a-f]{{16}}", escape(&format!("sexton.beacon.{name}.")));
        let orders = Queue::Orders(instance.clone()).to_string();
        User {
            name,
            configure: any_of(&[], Some(&own)),
            write: any_of(&[&send("outcomes"), &send("pulses"), &send("rejected")], Some(&own)),
            read: any_of(&[&orders, Exchange::BEACON], Some(&own)),
        }
    }
}

/// Matches no name: an empty one cannot be declared.
const NOTHING: &str = "^$";

fn escape(name: &str) -> String {
    name.replace('.', r"\.")
}

fn any_of(names: &[&str], pattern: Option<&str>) -> String {
    let all: Vec<String> = names.iter().map(|name| escape(name)).chain(pattern.map(str::to_owned)).collect();
    format!("^({})$", all.join("|"))
}

/// Durable queues that there is one of each.
const SINGLES: [Queue; 4] = [Queue::Outcomes, Queue::StageDue, Queue::Pulses, Queue::Rejected];

fn exchanges() -> Vec<Exchange> {
    let mut exchanges = vec![
        Exchange { name: send("orders"), kind: ExchangeKind::Direct },
        Exchange { name: Exchange::BEACON.to_owned(), kind: ExchangeKind::Fanout },
        Exchange { name: Exchange::EVENTS.to_owned(), kind: ExchangeKind::Topic },
    ];
    for queue in SINGLES {
        let (name, _) = route(&Target::Queue(queue));
        exchanges.push(Exchange { name, kind: ExchangeKind::Fanout });
    }
    exchanges
}

/// Everything a broker must know to serve these instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Durable exchanges.
    pub exchanges: Vec<Exchange>,
    /// Durable queues. Each is bound to the exchange that [`route`] names, with its routing key.
    pub queues: Vec<DurableQueue>,
    /// Logins.
    pub users: Vec<User>,
}

impl Topology {
    /// The topology with a queue and a login for each of these.
    pub fn for_instances(instances: &[Instance]) -> Self {
        let queues = instances
            .iter()
            .cloned()
            .map(Queue::Orders)
            .chain(SINGLES)
            .chain(SINGLES.iter().filter_map(copied))
            .map(|queue| DurableQueue { limits: Limits::of(&queue), queue })
            .collect();
        let users = [User::coordinator(), User::scheduler()]
            .into_iter()
            .chain(instances.iter().map(User::instance))
            .collect();
        Topology { exchanges: exchanges(), queues, users }
    }

    /// Whether a durable queue is part of it.
    pub fn contains(&self, queue: &Queue) -> bool {
        self.queues.iter().any(|durable| durable.queue == *queue)
    }
}
