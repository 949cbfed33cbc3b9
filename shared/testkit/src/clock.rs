//! A clock that stands still until it is told otherwise.
use async_trait::async_trait;
use sexton_consumer::Clock;
use sexton_model::Timestamp;
use tokio::sync::watch;

/// 2026-12-01 00:00 UTC, where this clock begins.
const BEGIN: Timestamp = Timestamp(1_796_083_200_000_000);

/// Time that passes only by [`ManualClock::advance`].
#[derive(Debug)]
pub struct ManualClock {
    ms: watch::Sender<u64>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { ms: watch::Sender::new(0) }
    }
}

impl ManualClock {
    /// Let `ms` milliseconds pass at once; whoever sleeps until then wakes up.
    pub fn advance(&self, ms: u64) {
        self.ms.send_modify(|now| *now += ms);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        BEGIN.plus_ms(*self.ms.borrow())
    }

    fn steady_ms(&self) -> u64 {
        *self.ms.borrow()
    }

    async fn sleep(&self, ms: u64) {
        let mut passing = self.ms.subscribe();
        let until = self.steady_ms().saturating_add(ms);
        // The sender is this clock itself, so it cannot be gone.
        let _ = passing.wait_for(|now| *now >= until).await;
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}
