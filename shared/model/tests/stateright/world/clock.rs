//! Time, which is kept relative to now, and what it lets everybody forget.
use sexton_model::decide::Event;
use sexton_model::{Fence, Timestamp};

use super::World;
use super::fixed::TICK;
use super::network::Answer;
use super::table::clamp;

impl World {
    /// Time passes: a call that is due to land has to land first.
    pub(super) fn tick(&mut self) -> Option<()> {
        if self.calls.iter().any(|c| c.until <= Timestamp(0)) {
            return None;
        }
        let back = |at: &mut Timestamp| *at = Timestamp(at.0 - TICK);
        self.table.tick();
        if let Some(kept) = &mut self.kept {
            kept.tick();
        }
        self.orders.iter_mut().for_each(|o| back(&mut o.deadline));
        self.calls.iter_mut().for_each(|c| {
            back(&mut c.until);
            back(&mut c.order.deadline);
        });
        Some(())
    }

    /// Forget what no longer decides anything: texts, moments before now, numbers other than their order.
    pub(super) fn forget(&mut self) {
        self.table.forget();
        if let Some(kept) = &mut self.kept {
            kept.forget();
        }
        // What is not begun by its deadline never is.
        self.orders.retain(|o| o.deadline > Timestamp(0));
        self.calls.iter_mut().for_each(|c| clamp(&mut c.order.deadline));
        self.answers.sort();
        self.answers.dedup();
        self.lose_outdated();
        let rank = self.fences();
        let number = |fence: &mut Fence| {
            fence.number = rank.iter().position(|f| f == fence).unwrap_or(0) as i64 + 1;
        };
        self.table.renumber(&number);
        if let Some(kept) = &mut self.kept {
            kept.renumber(&number);
        }
        self.orders.iter_mut().for_each(|o| number(&mut o.fence));
        self.calls.iter_mut().for_each(|c| number(&mut c.order.fence));
        self.asleep.iter_mut().for_each(|o| number(&mut o.fence));
        self.answers.iter_mut().for_each(|a| number(&mut a.fence));
        if let Some(held) = &mut self.truth.held {
            number(held);
        }
        if let Some(newest) = &mut self.account.newest {
            number(newest);
        }
        self.orders.sort();
        self.calls.sort();
        self.asleep.sort();
        self.answers.sort();
    }

    /// Every fence that is still remembered, ascending.
    pub(super) fn fences(&self) -> Vec<Fence> {
        let mut all: Vec<_> = self.table.fences().collect();
        all.extend(self.kept.iter().flat_map(|kept| kept.fences()));
        all.extend(self.orders.iter().map(|o| o.fence));
        all.extend(self.calls.iter().map(|c| c.order.fence));
        all.extend(self.asleep.iter().map(|o| o.fence));
        all.extend(self.truth.held);
        all.extend(self.account.newest);
        all.extend(self.answers.iter().map(|a| a.fence));
        all.sort();
        all.dedup();
        all
    }

    /// Try every outdated answer, then lose all but the newest few. What an older copy waits for is not outdated: it
    /// may come back.
    fn lose_outdated(&mut self) {
        let table = &self.table;
        let kept = |fence: Fence| self.kept.as_ref().is_some_and(|kept| kept.is_out(fence));
        let (fresh, mut outdated): (Vec<_>, Vec<_>) = std::mem::take(&mut self.answers)
            .into_iter()
            .partition(|answer| table.is_out(answer.fence) || kept(answer.fence));
        if !outdated.is_empty() {
            let deletion = self.deletion();
            let counts = |event: Event| self.decide(&deletion, &event).is_ok();
            if outdated.iter().filter_map(Answer::event).any(counts) {
                self.broken = Some("I10: an outdated answer counted");
            }
        }
        outdated.drain(..outdated.len().saturating_sub(usize::from(self.left.ghosts)));
        self.answers = outdated;
        self.answers.extend(fresh);
    }
}
