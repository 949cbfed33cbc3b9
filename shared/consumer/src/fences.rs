//! The highest fence seen per resource: an order with a lower one is stale, whoever delivers it.
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sexton_model::{Fence, ResourceId};

/// Resources remembered at least; twice as many at the most. An instance has a few hundred orders out, and a
/// resource that was forgotten is still covered by its orders' deadlines.
const REMEMBERED: usize = 32_768;

/// Two generations: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<ResourceId, Fence>,
    old: HashMap<ResourceId, Fence>,
}

impl Generations {
    fn highest(&self, resource: &ResourceId) -> Option<Fence> {
        self.young.get(resource).max(self.old.get(resource)).copied()
    }
}

/// Highest fences, in memory; bounded.
#[derive(Debug, Default)]
pub struct Fences {
    seen: Mutex<Generations>,
}

impl Fences {
    /// Take note of `fence`.
    ///
    /// # Errors
    /// The higher fence that was seen before.
    pub fn admit(&self, resource: &ResourceId, fence: Fence) -> Result<(), Fence> {
        let mut seen = self.lock();
        match seen.highest(resource) {
            Some(higher) if higher.refuses(fence) => return Err(higher),
            Some(same) if same == fence => return Ok(()),
            Some(_) | None => {}
        }
        if seen.young.len() >= REMEMBERED {
            seen.old = std::mem::take(&mut seen.young);
        }
        seen.young.insert(resource.clone(), fence);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
