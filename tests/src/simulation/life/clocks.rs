//! The job table's clock, and the process that goes by it.
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
}
