//! Whether an end stays within reach of every state: what the checker's own liveness cannot say where histories go in
//! circles, as here, where people may pause and resume for ever.
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most steps that an end may be away.
const FARTHEST: usize = 400;

/// States that an end is known to be within reach of, by their hash. Each is looked at once, however many ways lead
/// through it.
#[derive(Debug, Default)]
pub struct Reach(Mutex<HashSet<u64>>);

impl Reach {
    /// Whether it is `over`, or will be if it goes `onward`, which is always possible.
    pub fn reaches<W: Hash>(
        &self,
        from: W,
        over: impl Fn(&W) -> bool,
        onward: impl Fn(&W) -> Option<W>,
    ) -> bool {
        let mut way = Vec::new();
        let mut at = from;
        while way.len() < FARTHEST {
            let mark = mark(&at);
            if over(&at) || self.known().contains(&mark) {
                self.known().extend(way);
                return true;
            }
            way.push(mark);
            let Some(next) = onward(&at) else { return false };
            at = next;
        }
        false
    }

    fn known(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mark(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
