//! The consumers of a system, with their sandboxes, gates and clock.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sexton_backup::sandbox::SandboxBackup;
use sexton_bus::{Bus, Queue};
use sexton_consumer::{Clock, Consumer, Driver, Options, SystemClock};
use sexton_model::{Instance, Timestamp};
use sexton_monitoring::sandbox::SandboxMonitoring;
use sexton_protocol::Holder;
use tokio_util::sync::CancellationToken;

use super::plan::monitoring_of;
use super::waits::until;
use super::{System, backup, hypervisor, monitoring};
use crate::gate::Gate;

/// The consumers' clock.
#[derive(Default)]
pub struct Hands {
    machine: SystemClock,
    ahead_ms: AtomicU64,
}

impl Hands {
    /// Time passes at once, as for a machine that sleeps.
    pub fn advance(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.machine.now().plus_ms(self.ahead_ms.load(Ordering::SeqCst))
    }
    fn steady_ms(&self) -> u64 {
        self.machine.steady_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
    async fn sleep(&self, ms: u64) {
        self.machine.sleep(ms).await;
    }
    fn random(&self) -> u64 {
        self.machine.random()
    }
}

/// The sandboxes below `root` of monitoring, backup and the hypervisor, each behind a gate.
pub fn gates(root: &Path) -> [Arc<Gate>; 3] {
    let root = root.to_owned();
    let config = sexton_monitoring::sandbox::Config { root: root.clone(), instance: monitoring() };
    let at_monitoring = Gate::new(Arc::new(SandboxMonitoring::new(&config)));
    let config = sexton_backup::sandbox::Config { root: root.clone(), instance: backup() };
    let at_backup = Gate::new(Arc::new(SandboxBackup::new(&config)));
    let host = sexton_hypervisor::sandbox::Config { root, instance: hypervisor() };
    let host = sexton_hypervisor::driver(sexton_hypervisor::DriverConfig::Sandbox(host)).unwrap();
    [at_monitoring, at_backup, Gate::new(host)]
}

impl System {
    /// Start a consumer that has seen nothing yet, and wait until its pulse has arrived.
    pub async fn start_consumer(&mut self, instance: &Instance) {
        self.start_consumer_on(instance, self.as_user(&instance.to_string()));
        self.until_pulsed(instance).await;
    }

    /// The same on that bus, and nothing is waited for.
    pub fn start_consumer_on(&mut self, instance: &Instance, bus: Arc<dyn Bus>) {
        let (driver, actions): (Arc<dyn Driver>, _) = if *instance == monitoring() {
            (self.monitoring.clone(), monitoring_of(&self.plan))
        } else if *instance == backup() {
            (self.backup.clone(), sexton_backup::actions())
        } else if *instance == hypervisor() {
            (self.hypervisor.clone(), sexton_hypervisor::actions())
        } else {
            (self.keys_at(instance).clone(), sexton_hook::delivered_actions(&instance.subsystem).unwrap())
        };
        let consumer = Consumer {
            instance: instance.clone(),
            driver,
            actions,
            bus,
            keyring: Arc::new(self.keyring.only(&Holder::Instance(instance.clone()))),
            verifier: self.signer.verifier(),
            clock: self.clock.clone(),
            metrics: Arc::default(),
            version: "test".into(),
            options: Options::default(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { consumer.run(stopped).await.unwrap() });
        self.consumers.push((stop, running));
    }

    /// Until a pulse of the instance has arrived.
    pub async fn until_pulsed(&self, instance: &Instance) {
        until("a pulse arrives", async || self.pulsed(instance).await.is_some()).await;
    }

    /// All of them end.
    pub async fn stop_consumers(&mut self) {
        for (stop, running) in std::mem::take(&mut self.consumers) {
            stop.cancel();
            running.await.unwrap();
        }
    }

    /// Stop the consumer that was started last.
    pub async fn stop_last_consumer(&mut self) {
        let (stop, running) = self.consumers.pop().unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    /// Orders that wait in the queue of `instance`.
    pub async fn orders_waiting(&self, instance: &Instance) -> u64 {
        self.bus.depth(&Queue::Orders(instance.clone())).await.unwrap()
    }

    /// When the instance last pulsed.
    pub async fn pulsed(&self, instance: &Instance) -> Option<Timestamp> {
        self.ledger.health().await.unwrap().instances.get(instance).map(|(pulsed, _)| *pulsed)
    }
}
