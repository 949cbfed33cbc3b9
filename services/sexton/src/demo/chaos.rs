//! Kills consumers and starts them again while the demo runs: an order that was taken and not answered is
//! delivered again, and done once.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sexton_consumer::{Driver, Options};
use sexton_coordinator::Engine;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::serve::embedded::Embedded;

use super::platform::Platform;

/// Time between two kills.
const EVERY: Duration = Duration::from_millis(450);

/// Consumers that do not live long.
pub struct Chaos {
    engine: Arc<Engine>,
    kills: Arc<AtomicU32>,
    task: JoinHandle<Embedded>,
    stop: CancellationToken,
}

/// Start all consumers of the platform, and begin to kill them one after the other.
pub fn start(embedded: Embedded, platform: &Platform, shutdown: CancellationToken) -> anyhow::Result<Chaos> {
    let mut consumers: BTreeMap<Instance, (SubsystemActions, Arc<dyn Driver>)> = BTreeMap::new();
    for instance in platform.instances() {
        consumers.insert(instance.clone(), platform.driver(&instance)?);
    }
    let engine = embedded.engine.clone();
    let kills = Arc::new(AtomicU32::new(0));
    let (counted, stop) = (kills.clone(), shutdown.child_token());
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let options = Options { pulse_ms: 1_000, ..Options::default() };
        let run = |instance: &Instance| {
            let (actions, driver) = consumers[instance].clone();
            embedded.spawn_consumer(instance, actions, driver, options.clone(), Arc::default())
        };
        let mut running: BTreeMap<Instance, JoinHandle<()>> =
            consumers.keys().map(|instance| (instance.clone(), run(instance))).collect();
        let victims: Vec<Instance> = consumers.keys().cloned().collect();
        for victim in victims.iter().cycle() {
            tokio::select! {
                () = stopped.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
            // Aborted, not asked: it is gone at its next await, whatever it was doing.
            if let Some(task) = running.insert(victim.clone(), run(victim)) {
                task.abort();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
        embedded
    });
    Ok(Chaos { engine, kills, task, stop })
}

impl Chaos {
    /// The coordinator's handlers.
    pub fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// How many were killed so far.
    pub fn kills(&self) -> u32 {
        self.kills.load(Ordering::Relaxed)
    }

    /// Stop killing. Returns how many were killed.
    pub async fn stop(self) -> u32 {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            eprintln!("the killer died: {error}");
        }
        self.kills.load(Ordering::Relaxed)
    }
}
