//! Refusals on their way into the audit trail, so bounded that nobody fills the job table by being refused.
//!
//! Contract: of each token so many refusals a minute are one event each; what comes on top is counted, and becomes one
//! event at the end of that minute, or when the coordinator is told to stop. Whoever shows no token that is known is
//! nobody, of whom one refusal a minute is written. A coordinator that is killed loses what it has counted in its last
//! minute, and nothing else.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sexton_ledger::Ledger;
use sexton_model::access::Refusal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whoever shows no token that is known. Starts with a character that no token's name has.
pub(super) const NOBODY: &str = "(nobody)";

/// Whoever is trusted to name others, and has named somebody else than it may.
pub(super) const TRUSTED: &str = "(trusted)";

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of one token that are one event each within a window: more than a person causes, and as many rows a day as
/// one busy record has.
const EACH: u32 = 30;
/// Those of nobody: an event a minute says that somebody is trying.
const NOBODYS: u32 = 1;

/// See the module.
pub(super) struct Refusals {
    ledger: Arc<dyn Ledger>,
    /// What is counted together: a minute.
    window: Duration,
    windows: Arc<Mutex<HashMap<String, Window>>>,
    /// Those that wait for the end of a window in which something is counted.
    counting: TaskTracker,
    /// All windows end now.
    over: CancellationToken,
}

/// What was refused to one of them since.
#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    more: u64,
}

/// What is done with one more refusal.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    Write,
    Count,
    /// The first that is counted: somebody has to write down how many there were when the window ends.
    CountUntil(Instant),
}

impl Window {
    fn see(&mut self, now: Instant, (length, most): (Duration, u32)) -> Then {
        if now.duration_since(self.began) >= length && self.more == 0 {
            *self = Self { began: now, written: 0, more: 0 };
        }
        if self.written < most {
            self.written += 1;
            return Then::Write;
        }
        self.more += 1;
        if self.more == 1 { Then::CountUntil(self.began + length) } else { Then::Count }
    }
}

impl Refusals {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let (counting, over) = (TaskTracker::new(), CancellationToken::new());
        Self { ledger, window: WINDOW, windows: Arc::default(), counting, over }
    }

    /// Write down what was counted, though its minute is not over: nobody asks any more.
    pub(super) async fn finish(&self) {
        self.over.cancel();
        self.counting.close();
        self.counting.wait().await;
    }

    /// Write it down, or count it.
    pub(super) async fn note(&self, by: &str, asked: &str, why: &str, status: u16) {
        let (now, most) = (Instant::now(), if by == NOBODY { NOBODYS } else { EACH });
        let then = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            // What is over is forgotten, so that there are never more than there are tokens in use.
            windows.retain(|_, window| window.more > 0 || now.duration_since(window.began) < self.window);
            let fresh = Window { began: now, written: 0, more: 0 };
            windows.entry(by.to_owned()).or_insert(fresh).see(now, (self.window, most))
        };
        match then {
            Then::Write => {
                tracing::warn!(by, asked, why, status, "refused");
                write(&*self.ledger, by, Refusal::new(asked, why, status, 0)).await;
            }
            Then::Count => {}
            Then::CountUntil(end) => {
                let (ledger, windows, by) = (self.ledger.clone(), self.windows.clone(), by.to_owned());
                let (last, over) = (Refusal::new(asked, why, status, 0), self.over.clone());
                self.counting.spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep_until(end) => {}
                        () = over.cancelled() => {}
                    }
                    let window = windows.lock().unwrap_or_else(PoisonError::into_inner).remove(&by);
                    // The event itself is the first of them.
                    let more = window.map_or(0, |window| window.more.saturating_sub(1));
                    tracing::warn!(by, more, "refused again and again");
                    write(&*ledger, &by, Refusal { more, ..last }).await;
                });
            }
        }
    }
}

async fn write(ledger: &dyn Ledger, by: &str, refusal: Refusal) {
    if let Err(error) = ledger.write_refusal(by, refusal.clone()).await {
        // It stays refused.
        tracing::error!(%error, by, ?refusal, "a refusal could not be written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_written_and_the_rest_is_counted() {
        let began = Instant::now();
        let mut window = Window { began, written: 0, more: 0 };
        assert_eq!(
            [window.see(began, (WINDOW, 2)), window.see(began, (WINDOW, 2))],
            [Then::Write, Then::Write]
        );
        assert_eq!(window.see(began, (WINDOW, 2)), Then::CountUntil(began + WINDOW));
        assert_eq!(window.see(began + WINDOW, (WINDOW, 2)), Then::Count, "until they are written down");
        assert_eq!(window.more, 2);
        let mut quiet = Window { began, written: 2, more: 0 };
        assert_eq!(quiet.see(began + WINDOW, (WINDOW, 2)), Then::Write, "a new minute");
    }

    async fn job_table(folder: &tempfile::TempDir) -> Arc<dyn Ledger> {
        let (day, policy) = (sexton_model::time::Day::Calendar, sexton_model::belts::Policy::default());
        let options = sexton_ledger::Options { day, limits: sexton_ledger::Limits::default(), policy };
        let ledger =
            sexton_ledger::sqlite::SqliteLedger::open(folder.path().join("ledger.db"), options).await;
        Arc::new(ledger.unwrap())
    }

    /// Five refusals, of which the first is written down at once.
    async fn refuse_five(refusals: &Refusals) {
        for _ in 0..5 {
            refusals.note(NOBODY, "GET /v1/health", "nobody knows it", 401).await;
        }
        assert_eq!(told(&*refusals.ledger).await, [0]);
    }

    /// Of each event, how many more it is of.
    async fn told(ledger: &dyn Ledger) -> Vec<u64> {
        let events = ledger.access_events(0, 10).await.unwrap().into_iter();
        events.map(|(_, event)| serde_json::from_value::<Refusal>(event.body).unwrap().more).collect()
    }

    #[tokio::test]
    async fn what_was_counted_is_one_event_when_the_window_ends() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = job_table(&folder).await;
        let window = Duration::from_secs(2);
        let refusals = Refusals { window, ..Refusals::new(ledger.clone()) };
        refuse_five(&refusals).await;
        let began = Instant::now();
        while told(&*ledger).await.len() < 2 && began.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            told(&*ledger).await,
            [0, 3],
            "the event of the window is of one refusal itself, and of three more"
        );
    }

    #[tokio::test]
    async fn at_a_clean_stop_what_was_counted_waits_for_no_window() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = job_table(&folder).await;
        let window = Duration::from_secs(3600);
        let refusals = Refusals { window, ..Refusals::new(ledger.clone()) };
        refuse_five(&refusals).await;
        refusals.finish().await;
        assert_eq!(told(&*ledger).await, [0, 3]);
    }
}
