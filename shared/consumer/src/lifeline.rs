//! What connects a step under way with the coordinators: its progress out, its extensions in.
use sexton_model::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::driver::Progress;
use crate::hearing::Hearing;

/// How often a deadline is compared with the ledger's time, in milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;

/// The step's end of it.
#[derive(Debug)]
pub struct Lifeline {
    pub(crate) progress: watch::Sender<Option<(u64, u64)>>,
    deadline: watch::Receiver<Timestamp>,
    begun: watch::Sender<bool>,
}

/// The consumer's end of it.
#[derive(Debug)]
pub struct Tether {
    /// What the driver last reported: done, total.
    pub progress: watch::Receiver<Option<(u64, u64)>>,
    /// Sending a later deadline lets the step go on.
    pub deadline: watch::Sender<Timestamp>,
    /// Becomes true once the order is admitted and the driver is about to be asked.
    pub begun: watch::Receiver<bool>,
}

impl Lifeline {
    /// A step that must end at `deadline`, unless its tether says later.
    pub fn new(deadline: Timestamp) -> (Self, Tether) {
        let (progress, reported) = watch::channel(None);
        let (extend, extended) = watch::channel(deadline);
        let (begin, begun) = watch::channel(false);
        let lifeline = Self { progress, deadline: extended, begun: begin };
        (lifeline, Tether { progress: reported, deadline: extend, begun })
    }

    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress(self.progress.clone())
    }

    /// The deadline, as extensions move it on.
    pub(crate) fn deadline(&self) -> watch::Receiver<Timestamp> {
        self.deadline.clone()
    }

    /// Returns once the ledger's time has passed the deadline, extensions included.
    pub(crate) async fn run_out(&self, hearing: &Hearing, clock: &dyn Clock) {
        let mut deadline = self.deadline.clone();
        loop {
            let until = *deadline.borrow_and_update();
            let left_ms = hearing.ledger_now().map_or(0, |now| until.ms_since(now));
            if left_ms == 0 {
                return;
            }
            // In short pieces: timers stand still while a machine sleeps, the ledger's time does not.
            let piece_ms = left_ms.min(LOOK_EVERY_MS);
            tokio::select! {
                biased;
                () = clock.sleep(piece_ms) => {}
                // Once nobody can extend it any more, only time passes.
                Ok(()) = deadline.changed() => {}
                else => clock.sleep(piece_ms).await,
            }
        }
    }
}
