//! Time and randomness, from outside.
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sexton_model::Timestamp;

/// What the SDK asks instead of the machine, so that a simulator can answer.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Milliseconds since some fixed moment; never goes back.
    fn steady_ms(&self) -> u64;

    /// Returns once `ms` milliseconds have passed.
    async fn sleep(&self, ms: u64);

    /// A number nobody can guess.
    fn random(&self) -> u64;
}

/// The machine's own.
#[derive(Debug)]
pub struct SystemClock {
    since: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { since: Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn steady_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}
