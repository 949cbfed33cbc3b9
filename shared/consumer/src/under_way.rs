//! Orders under way in this process: a broker may deliver one again while its first delivery is still worked on.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_model::Fence;
use tokio::sync::oneshot;

/// Fences of the orders under way, with who waits for their end. Bounded by the prefetch.
#[derive(Debug, Default, Clone)]
pub(crate) struct UnderWay(Arc<Mutex<HashMap<Fence, Vec<oneshot::Sender<()>>>>>);

/// What a delivery is.
pub(crate) enum Turn {
    /// The only one of its order at the moment: work on it.
    First(Working),
    /// A repeat. Told once the first is settled; an error if it ended without.
    Repeat(oneshot::Receiver<()>),
}

/// Held while an order is worked on.
pub(crate) struct Working {
    all: UnderWay,
    fence: Fence,
}

impl UnderWay {
    /// Join the work on the order of this fence.
    pub(crate) fn join(&self, fence: Fence) -> Turn {
        let mut all = self.lock();
        if let Some(waiting) = all.get_mut(&fence) {
            let (settle, settled) = oneshot::channel();
            waiting.push(settle);
            return Turn::Repeat(settled);
        }
        all.insert(fence, Vec::new());
        Turn::First(Working { all: self.clone(), fence })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fence, Vec<oneshot::Sender<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Working {
    /// The order is settled: its repeats are, too.
    pub(crate) fn settled(self) {
        for waiting in self.all.lock().remove(&self.fence).unwrap_or_default() {
            // Nobody waits any more if that delivery's task was ended.
            let _ = waiting.send(());
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.all.lock().remove(&self.fence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Fence = Fence { epoch: 1, number: 7 };

    #[tokio::test]
    async fn a_repeat_ends_as_the_first_does() {
        let all = UnderWay::default();
        for settled in [true, false] {
            let Turn::First(working) = all.join(FENCE) else { panic!("nothing is under way") };
            let Turn::Repeat(repeat) = all.join(FENCE) else { panic!("it is under way") };
            assert!(matches!(all.join(Fence { number: 8, ..FENCE }), Turn::First(_)), "another order");
            if settled {
                working.settled()
            } else {
                drop(working)
            }
            assert_eq!(repeat.await.is_ok(), settled);
        }
        assert!(all.lock().is_empty());
    }
}
