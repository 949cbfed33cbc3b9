//! What can break, and how it ends.
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::network;
use super::proxy::{Passes, Proxy};
use super::site::Site;

/// What a proxy stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Broker,
    Database,
    /// Kea's control agent.
    Kea,
    /// What the hooks ask, of accounting and of configuration management.
    Hooks,
}

impl Server {
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Database => "database",
            Self::Kea => "DHCP server",
            Self::Hooks => "hooked services",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to a service, which is started again at the end.
    Killed(String),
    /// SIGSTOP to a service, past its leases, and SIGCONT.
    Stopped(String),
    /// All of it, however many nodes it has.
    BrokerKilled,
    /// The node of a cluster that leads the queue of outcomes.
    LeaderKilled,
    DatabaseKilled,
    /// All connections are closed.
    Cut(Server),
    /// Nothing passes, and all of it comes late.
    Stalled(Server),
    /// What is answered is lost, and then the connections.
    AnswersLost(Server),
    /// Every queue is emptied; and if none held anything, once more of what was handed out.
    Purged,
    /// Orders and outcomes do not fit into their queues, and these processes, all of one consumer, are killed and started again at
    /// the end: a queue is full only while nobody takes from it.
    QueuesFull(Vec<String>),
    /// A consumer gets forged orders.
    Flooded,
    /// One consumer reaches nobody.
    CutOff,
    /// The database is copied at the beginning and put back to that at the end.
    PutBack,
}

impl Fault {
    /// What no other fault touches meanwhile.
    pub fn touches(&self) -> Vec<&str> {
        let broker = Server::Broker.word();
        match self {
            Self::Killed(service) | Self::Stopped(service) => vec![service.as_str()],
            Self::CutOff => vec![network::SERVICE],
            Self::BrokerKilled | Self::LeaderKilled | Self::Purged | Self::Flooded => vec![broker],
            Self::QueuesFull(consumer) => {
                consumer.iter().map(String::as_str).chain(std::iter::once(broker)).collect()
            }
            Self::DatabaseKilled | Self::PutBack => vec![Server::Database.word()],
            Self::Cut(server) | Self::Stalled(server) | Self::AnswersLost(server) => vec![server.word()],
        }
    }

    /// What it is counted under.
    pub fn sort(&self) -> String {
        let of = |service: &str| match service.split(['.', '+']).next() {
            Some(service @ ("coordinator" | "scheduler")) => service.to_owned(),
            Some(subsystem) => format!("consumer ({subsystem})"),
            None => service.to_owned(),
        };
        match self {
            Self::Killed(service) => format!("{} killed", of(service)),
            Self::Stopped(service) => format!("{} stopped past its leases", of(service)),
            Self::BrokerKilled => "broker killed".into(),
            Self::LeaderKilled => "leader of the broker's cluster killed".into(),
            Self::DatabaseKilled => "database killed".into(),
            Self::Cut(what) => format!("connections to the {} cut", what.word()),
            Self::Stalled(what) => format!("connections to the {} stalled", what.word()),
            Self::AnswersLost(what) => format!("answers of the {} lost", what.word()),
            Self::Purged => "all queues purged".into(),
            Self::QueuesFull(_) => "queues full, and all processes of a consumer killed".into(),
            Self::Flooded => "forged orders".into(),
            Self::CutOff => "consumer cut off by the network".into(),
            Self::PutBack => "database put back to an older copy".into(),
        }
    }

    /// For how long. In a short run leases are over after nine seconds, else after 78 at most, but for purges.
    pub fn lasts(&self, short: bool, random: &mut StdRng) -> Duration {
        let ms = match (self, short) {
            (Self::Stopped(_) | Self::CutOff, true) => 10_000..12_000,
            (Self::Stopped(_), false) => 80_000..100_000,
            (Self::CutOff, false) => 20_000..100_000,
            (Self::Killed(_), _) => 0..3_000,
            (Self::BrokerKilled | Self::LeaderKilled | Self::DatabaseKilled, true) => 200..1_000,
            (Self::BrokerKilled | Self::LeaderKilled | Self::DatabaseKilled, false) => 200..10_000,
            (Self::Stalled(_), true) => 2_000..4_000,
            (Self::Stalled(_), false) => 2_000..30_000,
            // Seldom asked: an answer should be lost in that time.
            (Self::AnswersLost(Server::Kea | Server::Hooks), true) => 3_000..8_000,
            (Self::AnswersLost(Server::Kea | Server::Hooks), false) => 5_000..20_000,
            (Self::AnswersLost(Server::Broker | Server::Database), _) => 1_000..6_000,
            // Several orders should come for who is dead.
            (Self::QueuesFull(_), _) => 3_000..8_000,
            (Self::Cut(_) | Self::Purged | Self::Flooded, _) => 0..1,
            (Self::PutBack, _) => 10_000..25_000,
        };
        Duration::from_millis(random.random_range(ms))
    }

    /// How much has come until now of all faults like this one, if that is known only when it has ended: of answers that
    /// are lost, connections that stall, queues that are full, and who is cut off. Of all others `begin` says whether something
    /// has. Whether a process that was stopped or killed would have done anything meanwhile nobody sees from here: it misses
    /// its beacons and its pulses, or its looks at the job table, and that is taken for something.
    pub fn traces(&self, site: &Site<'_>) -> Option<usize> {
        match self {
            Self::AnswersLost(server) => Some(proxy(site, *server).lost()),
            Self::Stalled(server) => Some(proxy(site, *server).kept()),
            Self::QueuesFull(_) => Some(site.refused()),
            Self::CutOff => Some(site.network.as_ref().unwrap().unheard()),
            Self::Killed(_)
            | Self::Stopped(_)
            | Self::BrokerKilled
            | Self::LeaderKilled
            | Self::DatabaseKilled
            | Self::Cut(_)
            | Self::Purged
            | Self::Flooded
            | Self::PutBack => None,
        }
    }

    /// Whether it has begun, and something came of it unless `traces` will say that. If not (who has ended by himself cannot be
    /// killed, queues may be empty, and a broker may not answer who is to break it), nothing is to be ended.
    pub fn begin(&self, site: &mut Site<'_>) -> bool {
        match self {
            Self::Killed(service) => return site.services.kill(service),
            Self::Stopped(service) => return site.services.signal(service, "STOP"),
            Self::BrokerKilled => site.broker.kill(site.installation),
            Self::LeaderKilled => {
                let Some(node) = site.broker.leader() else { return false };
                site.installation.kill_server(&node);
                site.dead_node = Some(node);
            }
            Self::DatabaseKilled => site.installation.kill_server("postgres"),
            Self::Cut(server) => return proxy(site, *server).cut(),
            Self::Stalled(server) => proxy(site, *server).let_pass(Passes::Nothing),
            Self::AnswersLost(server) => proxy(site, *server).let_pass(Passes::Requests),
            Self::Purged => {
                let Some(purged) = purge(site) else { return false };
                site.notes.say(format!("{purged} messages are gone"));
                return purged > 0;
            }
            Self::QueuesFull(consumer) => {
                for service in consumer {
                    site.services.keep_down(service);
                }
                if !site.broker.narrow() {
                    // It may have heard it all the same: so this is to be ended.
                    site.notes.say("whether the broker takes a policy is not known");
                }
            }
            Self::Flooded => {
                let Some(taken) = site.broker.flood("dns.main") else { return false };
                site.notes.say(format!("{taken} forged orders were taken by the broker"));
            }
            Self::CutOff => site.network.as_ref().unwrap().cut(),
            Self::PutBack => site.store.copy(),
        }
        true
    }

    /// Whether it has ended: a broker may not answer who is to mend it.
    pub fn end(&self, site: &mut Site<'_>) -> bool {
        match self {
            Self::Killed(service) => start_again(site, service),
            Self::Stopped(service) => {
                site.services.signal(service, "CONT");
            }
            Self::BrokerKilled => site.broker.start(site.installation),
            Self::LeaderKilled => site.installation.start_server(&site.dead_node.take().unwrap()),
            Self::DatabaseKilled => site.installation.start_server("postgres"),
            Self::Stalled(server) | Self::AnswersLost(server) => {
                proxy(site, *server).let_pass(Passes::Everything);
            }
            Self::QueuesFull(consumer) => {
                for service in consumer {
                    // Once, however often the broker has to be asked.
                    if site.services.is_killed(service) {
                        start_again(site, service);
                    }
                }
                return site.broker.widen();
            }
            Self::CutOff => site.network.as_ref().unwrap().mend(),
            Self::PutBack => site.store.put_back(&site.services, site.notes),
            Self::Cut(_) | Self::Purged | Self::Flooded => {}
        }
        true
    }
}

/// One that was killed.
fn start_again(site: &mut Site<'_>, service: &str) {
    if service == network::SERVICE {
        site.ground.take_dead_locks_away();
    }
    site.services.start(service);
}

/// How many messages are gone; nothing if the broker does not answer.
fn purge(site: &Site<'_>) -> Option<usize> {
    let purged = site.broker.purge()?;
    if purged > 0 {
        return Some(purged);
    }
    // What was handed out comes back into its queue when the connections are closed, and nobody is to take it again before.
    site.to_broker.let_pass(Passes::Nothing);
    site.to_broker.cut();
    let purged = site.broker.purge();
    site.to_broker.let_pass(Passes::Everything);
    purged
}

fn proxy<'a>(site: &'a Site<'_>, server: Server) -> &'a Proxy {
    match server {
        Server::Broker => &site.to_broker,
        Server::Database => &site.to_database,
        Server::Kea | Server::Hooks => &site.ground.proxies()[&server],
    }
}
