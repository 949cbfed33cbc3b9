//! What this process knows of the server's disk.
//!
//! What runs is not what the server would start with: between `config-set` and `config-write` a copy of this
//! consumer may die, and with the server's next start the reservation would come back. Nobody can read what is on its
//! disk. So absence of a pinned reservation counts only for a process that has itself had the configuration written
//! since it saw the reservation gone; any other has it written first, which changes nothing if it was before.
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::address::{Mac, Pinned};

/// Most reservations that are remembered. Forgetting one costs one more `config-write`.
const REMEMBERED_MAX: usize = 10_000;

/// The reservations that were gone when this process last had the configuration written.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<HashSet<(Ipv4Addr, u32, Mac)>>);

impl Written {
    fn set(&self) -> MutexGuard<'_, HashSet<(Ipv4Addr, u32, Mac)>> {
        // It is whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of them that were reservations are known to be gone.
    pub(super) fn covers(&self, pinned: &[Pinned]) -> bool {
        let set = self.set();
        pinned.iter().filter(|p| p.reservation).all(|p| set.contains(&key(p)))
    }

    /// They are gone, and the configuration was written afterwards.
    pub(super) fn remember(&self, pinned: &[Pinned]) {
        let mut set = self.set();
        if set.len() + pinned.len() > REMEMBERED_MAX {
            set.clear();
        }
        set.extend(pinned.iter().map(key));
    }

    /// They are about to be removed from what runs: an answer that is lost leaves the disk as it was.
    pub(super) fn forget(&self, pinned: &[Pinned]) {
        let mut set = self.set();
        for pinned in pinned {
            set.remove(&key(pinned));
        }
    }
}

fn key(pinned: &Pinned) -> (Ipv4Addr, u32, Mac) {
    (pinned.address, pinned.subnet, pinned.mac)
}
