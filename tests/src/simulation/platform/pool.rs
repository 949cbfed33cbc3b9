//! Who holds which address. Each machine is made with one of its own, and uses it for as long as it is defined. An address that is
//! released goes to a newcomer at once, a machine that nobody asks to delete: the worst that may become of one that is released too
//! early, or by whoever was told that it is gone.
//!
//! Who found the address, and comes to release it when it was released meanwhile, releases nothing: by what they found, which is the
//! old holder's entry and not the number. A subsystem that releases by number alone is not simulated: one order that two copies carry
//! out at once would take the address from the newcomer there, and only a fence at the target could stop that.
use std::collections::BTreeMap;

use sexton_consumer::Found;
use sexton_consumer::driver::StepContext;

use super::SimulatedDriver;

/// An address that was released was given to a newcomer.
pub const GIVEN_ANEW: &str = "address given to another";

/// All addresses.
#[derive(Debug, Default)]
pub struct Pool {
    /// The one that each machine was made with, by the machine's UUID.
    made_with: BTreeMap<String, u64>,
    /// Who holds each.
    holders: BTreeMap<u64, String>,
    /// Those that were released, each with the newcomer that has it now.
    newcomers: BTreeMap<u64, String>,
}

impl Pool {
    /// A machine appears. If it is in the place of another, it has that one's address, unless it was released.
    pub(super) fn appear(&mut self, uuid: &str, instead_of: Option<&str>) {
        let kept = instead_of.and_then(|before| self.of(before));
        let address = kept.unwrap_or(self.holders.len() as u64);
        self.holders.insert(address, uuid.to_owned());
        self.made_with.insert(uuid.to_owned(), address);
    }

    /// The address that a machine was made with.
    pub fn of(&self, uuid: &str) -> Option<u64> {
        self.made_with.get(uuid).copied()
    }

    /// Whoever holds the address of this machine does so no more, and a newcomer does.
    pub(super) fn release(&mut self, uuid: &str) {
        if let Some(address) = self.of(uuid) {
            let newcomer = format!("newcomer {address}");
            self.holders.insert(address, newcomer.clone());
            self.newcomers.insert(address, newcomer);
        }
    }

    /// An address is released, whoever holds it.
    fn release_by_number(&mut self, address: u64) {
        // It stays known, so that no other machine is made with it.
        self.holders.insert(address, String::new());
    }

    /// The newcomer that was given the address that this machine was made with.
    pub fn newcomer(&self, uuid: &str) -> Option<&str> {
        self.newcomers.get(&self.of(uuid)?).map(String::as_str)
    }

    /// A newcomer that does not hold its address any more, for somebody went on to release it who was told that it is gone.
    pub fn robbed(&self) -> Option<(u64, &str)> {
        let robbed = |(address, newcomer): &(&u64, &String)| self.holders.get(*address) != Some(*newcomer);
        self.newcomers.iter().find(robbed).map(|(address, newcomer)| (*address, newcomer.as_str()))
    }
}

impl SimulatedDriver {
    /// Somebody has looked for the address of a machine.
    pub(super) fn looked_for_address(&self, step: &StepContext, found: &Found) {
        let mut absent = self.absent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if matches!(found, Found::Absent(_)) {
            absent.insert(step.fence);
        } else {
            absent.remove(&step.fence);
        }
    }

    /// Whether whoever goes on to change something was told right before that the machine has no address any more. Nothing comes
    /// between these two, so it is not what somebody else was told who carries out the same order.
    pub(super) fn goes_on_all_the_same(&self, step: &StepContext) -> bool {
        let mut absent = self.absent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        absent.remove(&step.fence)
    }

    /// An address is released by its number, as it was pinned, whoever holds it by now.
    pub(super) fn release_what_was_pinned(&self, step: &StepContext) {
        let pinned = step.targets.get("address").and_then(|address| address.get("at")?.as_u64());
        if let Some(address) = pinned {
            self.truth().pool.release_by_number(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_released_is_another_ones_at_once() {
        let mut pool = Pool::default();
        pool.appear("a", None);
        pool.appear("b", None);
        assert_ne!(pool.of("a"), pool.of("b"));
        pool.appear("c", Some("a"));
        assert_eq!(pool.of("c"), pool.of("a"), "it was not released");
        assert_eq!((pool.newcomer("c"), pool.robbed()), (None, None));
        pool.release("c");
        assert!(pool.newcomer("c").is_some() && pool.newcomer("b").is_none() && pool.robbed().is_none());
        pool.appear("d", None);
        assert_ne!(pool.of("d"), pool.of("c"), "it is the newcomer's");
        pool.release_by_number(pool.of("c").unwrap());
        assert!(pool.robbed().is_some());
    }
}
