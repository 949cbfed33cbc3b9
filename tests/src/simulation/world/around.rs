//! The job table's surroundings: the time it reads, and where whoever works on it may be stopped.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sexton_ledger::sqlite::{Moment, Pass, Surroundings};
use sexton_model::{DeletionId, Timestamp};

use crate::simulation::gates::{Gates, HANDLER, STALLED_MS};
use crate::simulation::time::{StoreClock, Time};
use crate::simulation::weather::{Dice, Trouble};

/// All of them.
pub(super) struct Around {
    pub(super) time: Arc<Time>,
    pub(super) store: Arc<StoreClock>,
    pub(super) gates: Arc<Gates>,
    pub(super) dice: Arc<Dice>,
    pub(super) decided: Arc<Mutex<BTreeSet<DeletionId>>>,
    pub(super) commits: Arc<AtomicU64>,
}

impl Surroundings for Around {
    fn now(&self) -> Timestamp {
        self.store.read()
    }

    fn steady_ms(&self) -> u64 {
        self.time.since_begin_ms()
    }

    fn pass(&self, moment: Moment) -> Pass {
        let (at, turn) = match moment {
            Moment::BeforeRead => ("before a read", true),
            Moment::BeforeWrite => ("before a write", true),
            Moment::Committed(about) => {
                self.decided.lock().unwrap_or_else(PoisonError::into_inner).extend(about);
                self.commits.fetch_add(1, Ordering::SeqCst);
                self.gates.committed();
                ("after a commit", false)
            }
        };
        // Whoever is no handler of a coordinator is the world itself.
        let Ok(handler) = HANDLER.try_get() else { return Box::pin(std::future::ready(())) };
        self.gates.moved();
        if self.gates.dies(handler) {
            return Box::pin(std::future::pending());
        }
        let (gates, now) = (self.gates.clone(), self.time.now());
        if gates.stalls(handler) {
            let until = now.plus_ms(STALLED_MS);
            Box::pin(async move { gates.wait(handler.process, at, until).await })
        } else if self.dice.happens(Trouble::Stop) {
            Box::pin(async move { gates.wait(handler.process, at, now).await })
        } else if turn {
            Box::pin(async move { gates.turn(handler.process).await })
        } else {
            Box::pin(std::future::ready(()))
        }
    }
}
