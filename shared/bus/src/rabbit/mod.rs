//! The bus of many machines: RabbitMQ.
//!
//! A [`Rabbit`] keeps two connections, because a broker that is short of memory stops reading from connections
//! that publish, and an ack stuck behind a publish would never free that memory. Each has a watchdog that
//! builds a new one, with new channels, whenever it is lost, for as long as it takes. The client's own
//! recovery is off: it can give up without a word.
//!
//! - `connection`: the watchdog, and what is declared on every new connection.
//! - `publish`: lanes, each one task and one channel; a window of messages is sent as a whole, and its
//!   confirms are awaited as a whole.
//! - `subscribe`: a channel per subscription, opened again after every outage.
//!
//! Every wait but [`crate::Subscription::next`]'s is bounded by [`RabbitOptions::timeout`].
mod acks;
mod connection;
mod declare;
mod failure;
mod publish;
mod subscribe;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use tokio::time::{Instant, timeout_at};

use crate::{Bus, BusError, MAX_PREFETCH, Outgoing, PublishError, Queue, Subscription, Topology};
use connection::{Link, Role};
use publish::Publisher;
use subscribe::RabbitSubscription;

/// How to reach the broker.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps`. The user is what the broker stamps on messages.
    pub url: String,
    /// What to declare on every new connection. Only the coordinator may; the others find it there.
    pub declare: Option<Topology>,
    /// What the connection is called on the broker's own pages, such as the service and its host.
    pub name: String,
    /// Longest wait for a confirm, or for the broker to come back, until a call fails.
    pub timeout: Duration,
}

impl RabbitOptions {
    /// Ten seconds: longer than the election of a new leader or a broker's restart, shorter than a lease.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// The defaults: nothing is declared.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), declare: None, name: "sexton".to_owned(), timeout: Self::TIMEOUT }
    }
}

/// Without the address, which holds a password.
impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("name", &self.name)
            .field("declares", &self.declare.is_some())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A login at a RabbitMQ broker. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Rabbit {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<RabbitOptions>,
    uri: AMQPUri,
    /// Publishes, and asks questions.
    publishing: Arc<Link>,
    /// Begins with the first subscription: a scheduler has none.
    consuming: OnceLock<Arc<Link>>,
    publisher: Publisher,
}

/// Largest frame, unless the address says otherwise. The client keeps room for 64 of them for each connection, all
/// its life: with the broker's default of 128 KiB that is 8 MiB, most of what an idle consumer took. Few bodies are
/// larger than this, and those travel in several frames.
const FRAME_MAX_BYTES: u32 = 32 << 10;

/// Heartbeats, unless the address says otherwise: a dead peer is noticed within twice this.
const HEARTBEAT_S: u16 = 10;

impl Rabbit {
    /// Connect. If the broker cannot be reached in time this succeeds nonetheless and goes on trying, so that
    /// services may start in any order; [`Bus::healthy`] tells.
    ///
    /// # Errors
    /// If the address makes no sense, the login is refused, or the topology cannot be declared, all of which
    /// a person has to mend.
    pub async fn connect(options: RabbitOptions) -> Result<Self, BusError> {
        // Whoever comes first installs it; that it was installed before is fine.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut uri: AMQPUri = options.url.parse().map_err(|reason: String| BusError::Address { reason })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.frame_max.get_or_insert(FRAME_MAX_BYTES);
        let options = Arc::new(options);
        let publishing = Arc::new(Link::open(uri.clone(), Arc::clone(&options), Role::Publish));
        let first = publishing.up(Instant::now() + options.timeout).await;
        if let Err(error @ BusError::Refused { .. }) = first {
            return Err(error);
        }
        let user = uri.authority.userinfo.username.clone();
        let publisher = Publisher::start(&publishing, &user, options.timeout);
        Ok(Self {
            shared: Arc::new(Shared { options, uri, publishing, consuming: OnceLock::new(), publisher }),
        })
    }

    /// Close it for good, for all clones: subscriptions end, and nothing is published any more.
    pub fn close(&self) {
        self.shared.publishing.close();
        // Also if there is none yet, so that none begins later.
        self.consuming().close();
    }

    fn consuming(&self) -> &Arc<Link> {
        let shared = &self.shared;
        shared.consuming.get_or_init(|| {
            Arc::new(Link::open(shared.uri.clone(), Arc::clone(&shared.options), Role::Consume))
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.timeout
    }
}

#[async_trait]
impl Bus for Rabbit {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.shared.publisher.publish(messages).await
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        if prefetch == 0 || prefetch > MAX_PREFETCH {
            return Err(BusError::Prefetch { prefetch });
        }
        let user = self.shared.uri.authority.userinfo.username.clone();
        let link = Arc::clone(self.consuming());
        let subscription =
            RabbitSubscription::open(link, queue.clone(), prefetch, user, self.deadline()).await?;
        Ok(Box::new(subscription))
    }

    async fn depth(&self, queue: &Queue) -> Result<u64, BusError> {
        let name = queue.to_string();
        if queue.is_exclusive() {
            return Err(BusError::NoSuchQueue { queue: name });
        }
        let doing = format!("asking for the depth of {name}");
        let deadline = self.deadline();
        let connection = self.shared.publishing.up(deadline).await?;
        let ask = async {
            let channel = connection.create_channel().await?;
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await
        };
        match timeout_at(deadline, ask).await {
            Ok(Ok(answer)) => Ok(u64::from(answer.message_count())),
            Ok(Err(error)) => Err(failure::of_queue(&doing, &name, &error)),
            Err(_) => Err(failure::too_late(&doing)),
        }
    }

    fn reconnects(&self) -> u64 {
        let consuming = self.shared.consuming.get().map_or(0, |link| link.reconnects());
        self.shared.publishing.reconnects() + consuming
    }

    async fn healthy(&self) -> Result<(), BusError> {
        let doing = "asking whether it is there";
        let connection = self.shared.publishing.now()?;
        if connection.blocked() {
            return Err(BusError::Blocked);
        }
        match timeout_at(Instant::now() + HEALTH_WAIT, connection.create_channel()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure::of_call(doing, &error)),
            Err(_) => Err(failure::too_late(doing)),
        }
    }
}

/// A health check is asked for every few seconds, and an answer that takes longer is a no.
const HEALTH_WAIT: Duration = Duration::from_secs(2);
