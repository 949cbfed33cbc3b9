//! A consumer: everything put together, and run until it is told to stop.
use std::sync::Arc;
use std::time::Duration;

use sexton_bus::{Bus, BusError, Queue, Subscription};
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_protocol::{AuthError, BeaconVerifier, Direction, Holder, Keyring, Pack, Pulse};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::courier::{Courier, Post};
use crate::driver::Driver;
use crate::hearing::Hearing;
use crate::intake::Intake;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::performer::Performer;
use crate::under_way::UnderWay;

/// Beacons kept for a listener that is slow; only the newest counts.
const BEACON_PREFETCH: u16 = 64;
/// Pause before the broker is asked again at start, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// What a consumer is made of.
pub struct Consumer {
    /// Whose orders it takes.
    pub instance: Instance,
    /// What reaches the subsystem.
    pub driver: Arc<dyn Driver>,
    /// What the subsystem's actions may do, embedded by the consumer's crate.
    pub actions: SubsystemActions,
    /// The broker, logged in as this instance.
    pub bus: Arc<dyn Bus>,
    /// The keys of this instance.
    pub keyring: Arc<Keyring>,
    /// The coordinators' public keys.
    pub verifier: BeaconVerifier,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Counters, for the health page.
    pub metrics: Arc<Metrics>,
    /// Which version pulses name.
    pub version: String,
    /// Bounds.
    pub options: Options,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// Why a consumer cannot run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// An option is out of bounds.
    #[error("option {0}")]
    Option(String),
    /// The actions are those of another subsystem.
    #[error("the actions are those of {found}, but the instance is {instance}")]
    Actions {
        /// What the catalogue file describes.
        found: String,
        /// Who this is.
        instance: Instance,
    },
    /// Its answers could not be sealed.
    #[error("no key for {instance}")]
    Key {
        /// Who this is.
        instance: Instance,
        /// Why.
        #[source]
        source: AuthError,
    },
    /// The broker will not let it take orders.
    #[error("subscribing to {queue}")]
    Bus {
        /// To what.
        queue: String,
        /// Why.
        #[source]
        source: BusError,
    },
    /// The bus was closed under it.
    #[error("the bus was closed")]
    Closed,
}

impl Consumer {
    /// Wait for the coordinators' first beacon, then take orders until `shutdown`, and let what is under way end.
    /// Nothing is lost however it ends: what was not answered is delivered again.
    ///
    /// Without a beacon nothing may be carried out: each order would only be answered "not now" and given again later.
    /// It does not pulse before either, so that it counts as down and nothing is ordered of it.
    ///
    /// # Errors
    /// If it is put together wrongly, or the broker refuses it for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ConsumerError> {
        self.check()?;
        let hearing = Arc::new(Hearing::new(self.clock.clone()));
        self.metrics.hears(&hearing);
        let halt = CancellationToken::new();
        // Whatever way this ends, also by being dropped: nobody goes on publishing.
        let _halt_in_the_end = halt.clone().drop_guard();
        let post = Arc::new(Post {
            instance: self.instance.clone(),
            holder: self.instance.clone().into(),
            bus: self.bus.clone(),
            keyring: self.keyring.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            options: self.options.clone(),
            halt: halt.clone(),
        });
        let listener = Listener::new(self.verifier.clone(), hearing.clone(), post.clone());
        let Some(mut beacon) = self.subscribe(Queue::Beacon, BEACON_PREFETCH, &shutdown).await? else {
            return Ok(());
        };
        if !self.hears_one(&listener, &mut beacon, &shutdown).await? {
            return Ok(());
        }
        let queue = Queue::Orders(self.instance.clone());
        let Some(orders) = self.subscribe(queue, self.options.prefetch, &shutdown).await? else {
            return Ok(());
        };
        tracing::info!(instance = %self.instance, "taking orders");
        let (courier, carrying) = Courier::new(post.clone());
        let intake = Intake {
            performer: Arc::new(Performer::new(
                self.instance.clone(),
                self.actions.clone(),
                self.driver.clone(),
                self.clock.clone(),
                hearing,
            )),
            courier,
            extensions: listener.extensions(),
            workers: Arc::new(Semaphore::new(self.options.concurrency)),
            under_way: UnderWay::default(),
            tasks: TaskTracker::new(),
            post: post.clone(),
        };
        tokio::select! {
            biased;
            ended = self.take(orders, intake, &shutdown) => ended,
            () = listener.listen(beacon) => Err(ConsumerError::Closed),
            () = carrying => Err(ConsumerError::Closed),
            () = pulse(&post, &self.version) => Err(ConsumerError::Closed),
        }
    }

    /// Waits for the first beacon; `false` if told to stop meanwhile.
    async fn hears_one(
        &self,
        listener: &Listener,
        beacon: &mut Box<dyn Subscription>,
        shutdown: &CancellationToken,
    ) -> Result<bool, ConsumerError> {
        tracing::info!(instance = %self.instance, "no beacon heard yet: orders are taken once one is");
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(false),
            heard = listener.listen_for_one(beacon) => heard.then_some(true).ok_or(ConsumerError::Closed),
        }
    }

    fn check(&self) -> Result<(), ConsumerError> {
        if let Some(mistake) = self.options.mistake() {
            return Err(ConsumerError::Option(mistake));
        }
        if self.actions.subsystem != self.instance.subsystem {
            let found = self.actions.subsystem.to_string();
            return Err(ConsumerError::Actions { found, instance: self.instance.clone() });
        }
        let holder = Holder::Instance(self.instance.clone());
        match self.keyring.sign(&holder, Direction::Outcome, b"") {
            Ok(_) => Ok(()),
            Err(source) => Err(ConsumerError::Key { instance: self.instance.clone(), source }),
        }
    }

    /// Waits out an outage; `None` if told to stop meanwhile.
    async fn subscribe(
        &self,
        queue: Queue,
        prefetch: u16,
        shutdown: &CancellationToken,
    ) -> Result<Option<Box<dyn Subscription>>, ConsumerError> {
        loop {
            let tried = tokio::select! {
                biased;
                tried = self.bus.consume(&queue, prefetch) => tried,
                () = shutdown.cancelled() => return Ok(None),
            };
            let source = match tried {
                Ok(subscription) => return Ok(Some(subscription)),
                Err(error @ (BusError::Unreachable { .. } | BusError::Blocked)) => error,
                Err(source) => return Err(ConsumerError::Bus { queue: queue.to_string(), source }),
            };
            tracing::warn!(error = %source, %queue, "cannot subscribe; trying again");
            tokio::select! {
                biased;
                () = self.clock.sleep(AGAIN_MS) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }

    async fn take(
        &self,
        mut orders: Box<dyn Subscription>,
        intake: Intake,
        shutdown: &CancellationToken,
    ) -> Result<(), ConsumerError> {
        let acker = orders.acker();
        let ended = loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                delivery = orders.next() => match delivery {
                    // The prefetch bounds how many are under way.
                    Some(delivery) => {
                        intake.tasks.spawn(intake.clone().handle(delivery, acker.clone()));
                    }
                    None => break Err(ConsumerError::Closed),
                },
            }
        };
        intake.tasks.close();
        let drained = tokio::time::timeout(Duration::from_millis(self.options.drain_ms), intake.tasks.wait());
        if drained.await.is_err() {
            tracing::warn!("stopped with steps under way; they are delivered again");
        }
        ended
    }
}

/// Say each few seconds that this copy lives. Never returns.
async fn pulse(post: &Post, version: &str) {
    let consumer = format!("{:016x}", post.clock.random());
    let version: String = version.chars().filter(char::is_ascii).take(64).collect();
    loop {
        let pulse = Pulse {
            instance: post.instance.clone(),
            consumer: consumer.clone(),
            version: version.clone(),
            concurrency: u32::try_from(post.options.concurrency).unwrap_or(1),
            answered: post.metrics.worked(),
            at: post.clock.now(),
        };
        let packed = Pack::one(post.event(pulse)).encode();
        let sealed = packed.ok().and_then(|packed| post.seal::<Pulse>(Queue::Pulses, packed));
        for result in post.bus.publish(sealed.into_iter().collect()).await {
            if let Err(error) = result {
                tracing::debug!(%error, "a pulse was not confirmed");
            }
        }
        post.clock.sleep(post.options.pulse_ms).await;
    }
}
