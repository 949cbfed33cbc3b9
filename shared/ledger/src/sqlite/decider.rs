//! A thread that decides one piece of a batch while the writer writes the one before.
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::connection::store;
use super::decided::{Batch, Left, Outcome};
use super::run::Setting;
use crate::LedgerError;

/// What was decided, and what the next batch is decided on.
type Decided = Result<(Left, Outcome), LedgerError>;

/// See the module. The thread ends with it.
#[derive(Debug)]
pub(super) struct Decider {
    batches: SyncSender<Batch>,
    decided: Receiver<Decided>,
}

impl Decider {
    /// Start the thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub(super) fn start(setting: Setting) -> Result<Self, LedgerError> {
        // One piece is under way at a time.
        let (batches, waiting) = sync_channel::<Batch>(1);
        let (answers, decided) = sync_channel(1);
        let work = move || {
            for batch in waiting {
                if answers.send(decide(batch, &setting)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ledger-decider".to_owned()).spawn(work);
        thread.map_err(store("starting the decider"))?;
        Ok(Self { batches, decided })
    }

    /// Begin to decide. Whoever begins has to [`Self::end`] it.
    ///
    /// # Errors
    /// If the thread has died, which is a defect.
    pub(super) fn begin(&self, batch: Batch) -> Result<(), LedgerError> {
        self.batches.send(batch).map_err(|_| died())
    }

    /// What was decided.
    ///
    /// # Errors
    /// Those of deciding; and as [`Self::begin`].
    pub(super) fn end(&self) -> Decided {
        self.decided.recv().map_err(|_| died())?
    }
}

/// Decide. A panic is a defect, and costs its own batch: whoever else waits goes on.
///
/// # Errors
/// Those of deciding, and if it panicked.
pub(super) fn decide(batch: Batch, setting: &Setting) -> Decided {
    let decided = std::panic::catch_unwind(AssertUnwindSafe(|| batch.decide(setting)));
    decided.unwrap_or_else(|_| Err(LedgerError::Unfit("deciding panicked".to_owned())))
}

fn died() -> LedgerError {
    LedgerError::Unfit("its decider has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use sexton_model::Timestamp;
    use sexton_model::belts::healthy::Healthy;
    use sexton_model::belts::redundancy::Groups;
    use sexton_model::time::Day;

    use super::*;
    use crate::Limits;
    use crate::batch::Loaded;

    use crate::policy::CurrentPolicy;
    /// A batch of no intents that says it has so many: to decide more than none is a defect, and panics.
    fn batch(intents: usize) -> Batch {
        let loaded = Loaded {
            now: Timestamp(1),
            day: Day::Calendar,
            epoch: 1,
            first_fence: 1,
            deletions: HashMap::new(),
            in_force: Arc::default(),
            review: None,
            standing: HashMap::new(),
            out: HashMap::new(),
            pulses: HashMap::new(),
            pinned: HashMap::new(),
            groups: Groups::default(),
            healthy: Healthy::always(),
        };
        Batch { loaded, intents: Arc::default(), piece: 0..intents, revision: 1 }
    }

    fn panicked(decided: Decided) -> bool {
        matches!(decided, Err(LedgerError::Unfit(why)) if why == "deciding panicked")
    }

    #[test]
    fn a_panic_costs_its_own_batch() {
        let setting =
            Setting { day: Day::Calendar, limits: Limits::default(), policy: CurrentPolicy::default() };
        let decider = Decider::start(setting.clone()).unwrap();
        for _ in 0..2 {
            decider.begin(batch(1)).unwrap();
            assert!(panicked(decider.end()));
            decider.begin(batch(0)).unwrap();
            decider.end().unwrap();
        }
        // And the same where the writer decides the first piece itself.
        assert!(panicked(decide(batch(1), &setting)));
    }
}
