//! The scheduler: asks the job table what is due and publishes `stage-due`, a bounded wake-up.
//!
//! Contract: it decides nothing and remembers nothing. It sees of the ledger only the reader of what is due.
//! Two of them do no harm, and without any the coordinators still find what is due, a tick later. Its cost
//! grows with what is due, not with what is stored.
mod watch;

use std::sync::Arc;
use std::time::Duration;

use sexton_bus::{Bus, Outgoing, Queue, Target};
use sexton_ledger::{DueReader, LedgerError};
use sexton_model::{JobId, Timestamp};
use sexton_protocol::message::STAGE_DUE_MAX;
use sexton_protocol::{Direction, Event, Holder, Keyring, Pack, StageDue};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use watch::{Condition, Looks};

/// Jobs asked for per instance and tick: what an instance can take in a second, not what is stored.
const PER_INSTANCE: u32 = 512;
/// A wake-up that nobody took in this time is worth nothing: the next tick says it again.
const TTL: Duration = Duration::from_secs(5);

/// What a scheduler needs.
pub struct Scheduler {
    /// Reads what is due.
    pub due: Arc<dyn DueReader>,
    /// The broker, as the scheduler's user.
    pub bus: Arc<dyn Bus>,
    /// Holds the scheduler's key.
    pub keyring: Arc<Keyring>,
    /// How often it looks.
    pub every: Duration,
    /// What it has seen, for health and metrics.
    pub looks: Arc<Looks>,
}

impl Scheduler {
    /// Look once and wake the coordinators. Returns how many jobs are due.
    ///
    /// # Errors
    /// If the job table cannot be read; the next tick tries again.
    pub async fn tick(&self) -> Result<usize, LedgerError> {
        let due = self.due.due(PER_INSTANCE).await?;
        let messages: Vec<Outgoing> =
            due.chunks(STAGE_DUE_MAX).filter_map(|jobs| self.wake_up(jobs)).collect();
        let mut published = 0;
        if !messages.is_empty() {
            for result in self.bus.publish(messages).await {
                match result {
                    Ok(()) => published += 1,
                    Err(error) => {
                        tracing::warn!(%error, "a wake-up was not published; the next tick says it again");
                    }
                }
            }
        }
        self.looks.saw(due.len(), published);
        Ok(due.len())
    }

    fn wake_up(&self, jobs: &[JobId]) -> Option<Outgoing> {
        let message = StageDue { jobs: jobs.to_vec() };
        let now = Timestamp::from(std::time::SystemTime::now());
        let packed = Pack::one(Event::new("/scheduler", now, message))
            .encode()
            .inspect_err(|error| tracing::error!(%error, "a wake-up cannot be written down"))
            .ok()?;
        let seal = self
            .keyring
            .sign(&Holder::Scheduler, Direction::StageDue, &packed.body)
            .inspect_err(|error| tracing::error!(%error, "a wake-up cannot be sealed"))
            .ok()?;
        Some(Outgoing {
            target: Target::Queue(Queue::StageDue),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: Some(TTL),
        })
    }

    /// Look at every tick until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            // It decides nothing: whatever it waits for, nothing is lost by leaving it.
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                done = self.tick() => done,
            };
            if let Err(error) = done {
                self.looks.failed();
                tracing::error!(%error, "what is due could not be read");
            }
        }
    }
}
