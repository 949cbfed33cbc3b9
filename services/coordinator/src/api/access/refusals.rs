//! Refusals on their way into the audit trail, so bounded that nobody fills the job table by being refused.
//!
//! Contract: of each token so many refusals a minute are one event each; what comes on top is counted, and becomes one
//! event at the end of that minute, or when the coordinator is told to stop: it says of each request how often, so that whoever is
//! refused one thing again and again hides no other by it. Whoever shows no token that is known is
//! nobody, of whom one refusal a minute is written. It is so before anybody is told, and whether or not somebody still waits
//! for the answer. A coordinator that is killed loses what it has counted in its last minute, and nothing else that somebody
//! was told; one that was told to stop answers for a moment longer whoever only looks, and writes down nothing of that any more.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::response::Response;
use sexton_ledger::Ledger;
use sexton_model::access::{CountedRefusals, Refusal};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::need::need;
use super::tasks::Tasks;
use crate::api::problem::Denial;

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
/// Requests that are told apart of what is counted, each with each status: there are fewer than a hundred, and of most one status
/// refuses. What comes on top is counted with all.
const KINDS: usize = 256;
/// What none of the API's requests is: whoever asks invents it, so it is told as one.
const UNKNOWN: &str = "(no known request)";

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Method and path.
    request: String,
    /// Method and route: one of those that there are, or [`UNKNOWN`].
    kind: String,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        let method = request.method();
        let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let kind = match need(method, route) {
            // Whoever asks for the headers alone asks for the same.
            Some(_) if *method == Method::HEAD => format!("GET {route}"),
            Some(_) => format!("{method} {route}"),
            None => UNKNOWN.to_owned(),
        };
        Self { request: format!("{method} {}", request.uri().path()), kind }
    }
}

/// See the module.
pub(super) struct Refusals {
    ledger: Arc<dyn Ledger>,
    /// What is counted together: a minute.
    window: Duration,
    windows: Arc<Mutex<HashMap<String, Window>>>,
    /// Those that write, that wait for the end of a window in which something is counted, and that may be refused yet.
    tasks: Tasks,
    /// All windows end now.
    over: CancellationToken,
}

/// What was refused to one of them since.
#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    more: u64,
    /// How many of these by kind and status, as far as they are told apart.
    kinds: BTreeMap<(String, u16), u64>,
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
    fn begun(began: Instant) -> Self {
        Self { began, written: 0, more: 0, kinds: BTreeMap::new() }
    }

    fn see(&mut self, now: Instant, (length, most): (Duration, u32), (kind, status): (&str, u16)) -> Then {
        if now.duration_since(self.began) >= length && self.more == 0 {
            *self = Self::begun(now);
        }
        if self.written < most {
            self.written += 1;
            return Then::Write;
        }
        let kind = (kind.to_owned(), status);
        if self.kinds.len() < KINDS || self.kinds.contains_key(&kind) {
            *self.kinds.entry(kind).or_default() += 1;
        }
        self.more += 1;
        if self.more == 1 { Then::CountUntil(self.began + length) } else { Then::Count }
    }

    /// What was counted, of which the event itself is the first.
    fn counted(self, first: Refusal) -> Refusal {
        let kinds = self.kinds.into_iter();
        let counted = kinds.map(|((request, status), count)| CountedRefusals { request, status, count });
        Refusal { more: self.more.saturating_sub(1), counted: counted.collect(), ..first }
    }
}

impl Refusals {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let (tasks, over) = (Tasks::new(), CancellationToken::new());
        Self { ledger, window: WINDOW, windows: Arc::default(), tasks, over }
    }

    /// Write down what was counted, though its minute is not over: nobody asks any more. What was asked for by somebody who
    /// has hung up may still be refused until this is over.
    pub(super) async fn finish(&self) {
        self.over.cancel();
        self.tasks.over().await;
    }

    /// What goes on here ends when this is dropped.
    pub(super) fn ending(&self) -> DropGuard {
        self.tasks.ending()
    }

    /// Write it down, or count it, also if whoever asks hangs up meanwhile. Whether that is done.
    pub(super) async fn note(&self, by: &str, asked: &Asked, why: &str, status: u16) -> bool {
        let Asked { request, kind } = asked;
        let (request, kind) = (request.as_str(), kind.as_str());
        let (now, most) = (Instant::now(), if by == NOBODY { NOBODYS } else { EACH });
        let then = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            // What is over is forgotten, so that there are never more than there are tokens in use.
            windows.retain(|_, window| window.more > 0 || now.duration_since(window.began) < self.window);
            let window = windows.entry(by.to_owned()).or_insert_with(|| Window::begun(now));
            window.see(now, (self.window, most), (kind, status))
        };
        if then != Then::Write {
            tracing::debug!(by, asked = request, why, status, "refused, and counted");
        }
        match then {
            Then::Write => {
                tracing::warn!(by, asked = request, why, status, "refused");
                let (ledger, by) = (self.ledger.clone(), by.to_owned());
                let refusal = Refusal::new(request, why, status, 0);
                let writing = self.tasks.spawn(async move { write(&*ledger, &by, refusal).await });
                writing.await.ok().flatten().unwrap_or(false)
            }
            Then::Count => true,
            Then::CountUntil(end) => {
                let (ledger, windows, by) = (self.ledger.clone(), self.windows.clone(), by.to_owned());
                let (first, over) = (Refusal::new(request, why, status, 0), self.over.clone());
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep_until(end) => {}
                        () = over.cancelled() => {}
                    }
                    let window = windows.lock().unwrap_or_else(PoisonError::into_inner).remove(&by);
                    let refusal = match window {
                        Some(window) => window.counted(first),
                        None => first,
                    };
                    tracing::warn!(by, more = refusal.more, "refused again and again");
                    write(&*ledger, &by, refusal).await
                });
                true
            }
        }
    }
}

/// Whether it is written down.
async fn write(ledger: &dyn Ledger, by: &str, refusal: Refusal) -> bool {
    let written = ledger.write_refusal(by, refusal.clone()).await;
    if let Err(error) = &written {
        // It stays refused.
        tracing::error!(%error, by, ?refusal, "a refusal could not be written down");
    }
    written.is_ok()
}

/// Who asks for what, for whoever works on it.
#[derive(Clone)]
pub(in crate::api) struct Noting {
    refusals: Arc<Refusals>,
    by: String,
    asked: Asked,
}

impl Noting {
    pub(super) fn new(refusals: Arc<Refusals>, by: String, asked: Asked) -> Self {
        Self { refusals, by, asked }
    }

    /// If this answer refuses something, write that down, or count it, once: it says no more of it then. Whether all that it
    /// refuses is noted.
    pub(in crate::api) async fn note(&self, answer: &mut Response) -> bool {
        let Some(Denial(why)) = answer.extensions_mut().remove::<Denial>() else { return true };
        self.refusals.note(&self.by, &self.asked, &why, answer.status().as_u16()).await
    }

    /// As [`Tasks::room`].
    pub(in crate::api) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.refusals.tasks.room().await
    }

    /// As [`Tasks::spawn`].
    pub(in crate::api) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.refusals.tasks.spawn(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_written_and_the_rest_is_counted() {
        let began = Instant::now();
        let mut window = Window::begun(began);
        let look = ("GET /v1/tokens", 403);
        let mut see = |at: Instant| window.see(at, (WINDOW, 2), look);
        assert_eq!([see(began), see(began)], [Then::Write, Then::Write]);
        assert_eq!(see(began), Then::CountUntil(began + WINDOW));
        assert_eq!(see(began + WINDOW), Then::Count, "until they are written down");
        assert_eq!(window.more, 2);
        let mut quiet = Window { written: 2, ..Window::begun(began) };
        assert_eq!(quiet.see(began + WINDOW, (WINDOW, 2), look), Then::Write, "a new minute");
    }

    /// Whoever is refused the same again and again, and then something else.
    #[test]
    fn what_is_counted_is_told_apart_by_request_and_status() {
        let began = Instant::now();
        let mut window = Window::begun(began);
        let asked = [("GET /v1/tokens", 403), ("POST /v1/review/accept", 403), ("GET /v1/tokens", 401)];
        for kind in [asked[0]].repeat(5).into_iter().chain(asked) {
            window.see(began, (WINDOW, 2), kind);
        }
        let refusal = window.counted(Refusal::new("GET /v1/tokens", "a reason", 403, 0));
        let counted: Vec<(&str, u16, u64)> =
            refusal.counted.iter().map(|one| (one.request.as_str(), one.status, one.count)).collect();
        let expected =
            [("GET /v1/tokens", 401, 1), ("GET /v1/tokens", 403, 4), ("POST /v1/review/accept", 403, 1)];
        assert_eq!((refusal.more, counted.as_slice()), (5, expected.as_slice()));
    }

    #[test]
    fn what_is_told_apart_is_bounded_and_the_rest_counted() {
        let began = Instant::now();
        let mut window = Window::begun(began);
        let kinds: Vec<String> = (0..KINDS + 7).map(|number| format!("GET /v1/{number}")).collect();
        for kind in kinds.iter().chain(&kinds) {
            window.see(began, (WINDOW, 0), (kind.as_str(), 403));
        }
        let refusal = window.counted(Refusal::new("GET /v1/0", "a reason", 403, 0));
        assert_eq!((refusal.counted.len(), refusal.more), (KINDS, 2 * (KINDS as u64 + 7) - 1));
        assert!(refusal.counted.iter().all(|one| one.count == 2), "{refusal:?}");
    }

    #[test]
    fn what_is_asked_for_is_one_of_the_requests_that_there_are_or_none() {
        let asked = |method: &str| {
            let request = axum::http::Request::builder().method(method).uri("/v1/deletions");
            Asked::of(&request.body(axum::body::Body::empty()).unwrap())
        };
        let invented = asked("INVENTED");
        assert_eq!((invented.request.as_str(), invented.kind.as_str()), ("INVENTED /v1/deletions", UNKNOWN));
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
        let health = "GET /v1/health".to_owned();
        let asked = Asked { request: health.clone(), kind: health };
        for _ in 0..5 {
            assert!(refusals.note(NOBODY, &asked, "nobody knows it", 401).await);
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
