//! Coordinator, scheduler and consumers as tasks of this process.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sexton_bus::Topology;
use sexton_bus::local::Local;
use sexton_consumer::sandbox::Sandbox;
use sexton_consumer::{Condition as ConsumerCondition, Consumer, Driver, Metrics, Options, SystemClock};
use sexton_coordinator::watch::Condition as CoordinatorCondition;
use sexton_coordinator::{
    Alarmer, Archiver, Attester, Canaries, Ended, Engine, Options as EngineOptions, Plans, Witness, hours,
};
use sexton_ledger::Ledger;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_protocol::{BeaconSigner, BeaconVerifier, Holder, Keyring};
use sexton_scheduler::{Condition as SchedulerCondition, Looks, Scheduler};
use sexton_service::Health;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(test)]
mod tests;

/// The broker user of the scheduler.
const SCHEDULER: &str = "scheduler";

/// What signs, what archives, what tells, and what is asked every day, if anything is.
#[derive(Default)]
pub struct Kept {
    /// The heads of the audit trail's chains.
    pub attester: Option<Attester>,
    /// Records that are over.
    pub archiver: Option<Archiver>,
    /// Alarms and the digest.
    pub alarmer: Alarmer,
    /// What must be refused.
    pub canaries: Option<Canaries>,
    /// What says who lists which kind, if censuses are taken without anybody asking.
    pub lists: Option<Arc<Plans>>,
    /// Holidays.
    pub calendar: Option<hours::Calendar>,
}

/// What runs.
pub struct Embedded {
    /// The coordinator's handlers.
    pub engine: Arc<Engine>,
    bus: Local,
    keyring: Arc<Keyring>,
    verifier: BeaconVerifier,
    looks: Arc<Looks>,
    look_every: Duration,
    tasks: TaskTracker,
    /// Why the coordinator ended, if nobody asked it to.
    ended: Arc<Mutex<Option<Ended>>>,
    shutdown: CancellationToken,
}

impl Embedded {
    /// Start a coordinator and a scheduler. Keys are drawn anew: nothing that they prove outlives the process. What is
    /// `kept` does, so that has a key of its own.
    pub fn start(
        (ledger, witness): (Arc<dyn Ledger>, Arc<Witness>),
        kept: Kept,
        instances: &[Instance],
        unpacked: Vec<Instance>,
        look_every: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        let mut rng = rand::rng();
        let holders = instances.iter().cloned().map(Holder::Instance).chain([Holder::Scheduler]);
        let keyring = Arc::new(Keyring::generate(holders, &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let verifier = signer.verifier();
        let bus = Local::with_topology(Topology::for_instances(instances));
        let coordinator: Arc<dyn sexton_bus::Bus> = Arc::new(bus.clone());
        let engine = Engine::new(EngineOptions {
            ledger: ledger.clone(),
            bus: coordinator.clone(),
            keyring: keyring.clone(),
            signer,
            unpacked,
            witness,
        });
        let engine = engine.signing(kept.attester).archiving(kept.archiver).alarming(kept.alarmer);
        let engine = engine.with_canaries(kept.canaries).with_censuses(kept.lists);
        let engine = Arc::new(engine.with_calendar(kept.calendar));
        let tasks = TaskTracker::new();
        let ended = Arc::<Mutex<Option<Ended>>>::default();
        let (running, stop, why) = (engine.clone(), shutdown.clone(), ended.clone());
        tasks.spawn(async move {
            if let Err(error) = sexton_coordinator::run(running, coordinator, stop.clone()).await {
                *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                stop.cancel();
            }
        });
        let looks = Arc::<Looks>::default();
        let scheduler = Scheduler {
            due: ledger,
            bus: bus.as_user(SCHEDULER),
            keyring: keyring.clone(),
            every: look_every,
            looks: looks.clone(),
        };
        let stop = shutdown.clone();
        tasks.spawn(async move { scheduler.run(stop).await });
        Self { engine, bus, keyring, verifier, looks, look_every, tasks, ended, shutdown }
    }

    /// Show how coordinator and scheduler are doing.
    pub fn watch(&self, health: &Health) {
        let bus: Arc<dyn sexton_bus::Bus> = Arc::new(self.bus.clone());
        health.watch(Arc::new(CoordinatorCondition::new(self.engine.clone(), bus.clone())));
        health.watch(Arc::new(SchedulerCondition::new(self.looks.clone(), bus, self.look_every)));
    }

    /// Show how a consumer is doing.
    pub fn watch_consumer(
        &self,
        health: &Health,
        instance: &Instance,
        sandbox: Option<Sandbox>,
        metrics: &Arc<Metrics>,
    ) {
        let bus = self.bus.as_user(&instance.to_string());
        metrics.export(instance, &bus);
        let (instance, metrics) = (instance.clone(), metrics.clone());
        health.watch(Arc::new(ConsumerCondition { instance, metrics, bus, sandbox }));
    }

    /// Start a consumer. It ends with the others, or when its handle is aborted.
    pub fn spawn_consumer(
        &self,
        instance: &Instance,
        actions: SubsystemActions,
        driver: Arc<dyn Driver>,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> JoinHandle<()> {
        let holder = Holder::Instance(instance.clone());
        let consumer = Consumer {
            instance: instance.clone(),
            driver,
            actions,
            bus: self.bus.as_user(&instance.to_string()),
            keyring: Arc::new(self.keyring.only(&holder)),
            verifier: self.verifier.clone(),
            clock: Arc::new(SystemClock::default()),
            metrics,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options,
        };
        let (name, stop) = (instance.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            if let Err(error) = consumer.run(stop).await {
                tracing::error!(instance = %name, %error, "a consumer ended");
            }
        })
    }

    /// Wait until everything has ended after the shutdown.
    ///
    /// # Errors
    /// If it was the coordinator's end, rather than anybody's wish, that brought it about.
    pub async fn stopped(&self) -> Result<(), Ended> {
        self.tasks.close();
        self.tasks.wait().await;
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
