//! The job table's clock, the process that goes by it, and everything at once.
use sexton_model::Timestamp;

use crate::simulation::check::{DAY_MS, Violation};
use crate::simulation::tally::DOWN_FOR_DAYS;
use crate::simulation::world::World;

impl World {
    /// The job table's clock is set to be so far ahead of the truth; everybody's, if they follow.
    pub(super) fn set_time(&mut self, ahead_ms: i64, everybody: bool) {
        let before = self.store.shown();
        self.store.set_ahead(ahead_ms);
        self.checker.lost.clock_set((before, self.store.shown()), self.time.now());
        if everybody {
            for one in &self.consumers {
                one.clock.set_ahead(ahead_ms);
            }
        }
    }

    /// All clocks show the truth from now on.
    pub(super) fn set_clocks_right(&mut self) {
        self.store.drift(0);
        for one in &self.consumers {
            one.clock.drift(0);
        }
        self.set_time(0, true);
    }

    /// The process that writes the job table dies, with all coordinators in it, and is started again.
    pub(super) async fn reopen(&mut self, for_ms: u64) -> bool {
        if self.ledger.is_none() {
            return false;
        }
        let again_at = self.time.now().plus_ms(for_ms);
        self.close_ledger(again_at).await;
        self.open_ledger().await;
        true
    }

    /// Consumers, coordinators, the scheduler and the job table are down for so long. Whether they were not before.
    ///
    /// # Errors
    /// If what was done right before that must not be.
    pub(super) async fn go_down(&mut self, for_ms: u64) -> Result<bool, Violation> {
        if self.ledger.is_none() {
            return Ok(false);
        }
        self.compare().await?;
        let since = self.time.now();
        let until = since.plus_ms(for_ms);
        for number in 0..self.consumers.len() {
            self.kill_consumer(number, until).await;
        }
        // Of two copies the one may have begun what the other had in hand, before it died, too.
        self.quiet().await;
        self.look().await?;
        self.close_ledger(until).await;
        self.down = Some((since, until));
        Ok(true)
    }

    /// If everything is down, and it is time, the job table is opened. Whether nothing is down any more.
    pub(in crate::simulation) async fn end_being_down(&mut self, now: Timestamp) -> bool {
        let Some((since, until)) = self.down else { return true };
        if now < until {
            return false;
        }
        self.down = None;
        self.open_ledger().await;
        let down_ms = now.ms_since(since);
        if down_ms > DAY_MS {
            self.dice.count(DOWN_FOR_DAYS);
        }
        self.say(format!("everything was down for {down_ms} ms"));
        true
    }
}
