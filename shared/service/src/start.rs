//! Arguments every service has, patience while its servers come up, and how it is told to stop.
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What every service is started with.
#[derive(Debug, clap::Args)]
pub struct CommonArguments {
    /// The configuration file.
    #[arg(long, short, env = "SEXTON_CONFIG", default_value = "sexton.toml")]
    pub config: PathBuf,
}

/// Longest pause between two attempts at start.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a service tries at start before it gives up and says why; its supervisor starts it again.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long what was begun may take once a service is told to stop. Whoever is killed leaves nothing else behind, so nothing
/// is worth more of it: a supervisor waits for ten seconds, or for thirty.
pub const WIND_DOWN: Duration = Duration::from_secs(4);
/// How long what blocks a thread may take behind that: a file that is being written is written within it.
const BLOCKING_MOST: Duration = Duration::from_secs(1);

/// Why an attempt at start failed. What is made into one by `?` may come right by itself.
#[derive(Debug)]
pub enum Failed {
    /// Whoever is to answer may come up yet.
    Yet(anyhow::Error),
    /// It would fail again, and for the same reason: a person has to mend it.
    ForGood(anyhow::Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Yet(error.into())
    }
}

impl Failed {
    /// For good, if that is so.
    pub fn when(for_good: bool, error: impl Into<anyhow::Error>) -> Self {
        if for_good { Self::ForGood(error.into()) } else { Self::Yet(error.into()) }
    }
}

/// Try `attempt` until it succeeds: servers and services are started together, in any order. `None` once the process is
/// told to stop, whatever it waits for then.
///
/// # Errors
/// The last error, after two minutes; at once one that is for good.
pub async fn patiently<T, F, Fut>(
    doing: &str,
    shutdown: &CancellationToken,
    attempt: F,
) -> anyhow::Result<Option<T>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Failed>>,
{
    let schedule = backoff::ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(100))
        .with_max_interval(LONGEST_PAUSE)
        .with_max_elapsed_time(Some(PATIENCE))
        .build();
    let once = || async {
        attempt().await.map_err(|failed| match failed {
            Failed::Yet(error) => backoff::Error::transient(error),
            Failed::ForGood(error) => backoff::Error::permanent(error),
        })
    };
    let complain = |error: anyhow::Error, pause: Duration| {
        tracing::warn!(doing, error = format!("{error:#}"), pause_ms = pause.as_millis(), "not yet");
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(None),
        done = backoff::future::retry_notify(schedule, once, complain) => done.map(Some),
    }
}

/// Run `work` until it ends, but for no longer than [`WIND_DOWN`] once the process is told to stop: then it is dropped where it
/// stands, and `None` is returned. For what waits for others, who may not be there.
pub async fn wind_down<T>(shutdown: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(WIND_DOWN).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}

/// Run the whole of a process on `runtime`, which ends with it. Dropped, a runtime waits for ever for threads that block: on a
/// file system that does not answer, on a pipe that nobody writes to. Here they have a second; then they end with the process,
/// as if it had been killed.
pub fn run_whole<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    // A defect must end the process, too.
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    runtime.shutdown_timeout(BLOCKING_MOST);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// If signals cannot be listened to.
pub fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;

    /// What becomes of it, and how often it was tried, if every attempt but the last fails so.
    async fn tried(attempts: usize, failed: fn() -> Failed) -> (anyhow::Result<Option<()>>, usize) {
        let (tried, shutdown) = (AtomicUsize::new(0), CancellationToken::new());
        let done = patiently("trying", &shutdown, || async {
            let nth = tried.fetch_add(1, Ordering::Relaxed) + 1;
            if nth < attempts { Err(failed()) } else { Ok(()) }
        });
        (done.await, tried.into_inner())
    }

    #[tokio::test]
    async fn what_may_come_up_yet_is_tried_again_and_nothing_else_is() {
        let (done, times) = tried(3, || Error::from(ErrorKind::ConnectionRefused).into()).await;
        assert!(done.is_ok() && times == 3, "{done:?} {times}");
        let (done, times) = tried(3, || Failed::when(true, Error::from(ErrorKind::InvalidInput))).await;
        assert!(done.is_err() && times == 1, "{done:?} {times}");
    }

    /// A process that ends while `blocks` keeps a thread; what it says when it has ended, and nothing if it panicked.
    fn ended(panics: bool, blocks: impl FnOnce() + Send + 'static) -> Receiver<u32> {
        let (ends, ended) = channel();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            let done = run_whole(runtime, async move {
                let (begun, begins) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    begun.send(()).unwrap();
                    blocks();
                });
                begins.await.unwrap();
                assert!(!panics, "the defect");
                7
            });
            ends.send(done).unwrap();
        });
        ended
    }

    /// As if a file system did not answer.
    #[test]
    fn what_blocks_for_ever_keeps_no_process_from_ending() {
        const AT_LAST: Duration = Duration::from_secs(20);
        for (panics, said) in [(false, Ok(7)), (true, Err(RecvTimeoutError::Disconnected))] {
            let (free, held) = channel::<()>();
            let ended = ended(panics, move || {
                held.recv().ok();
            });
            assert_eq!(ended.recv_timeout(AT_LAST), said);
            drop(free);
        }
    }

    #[test]
    fn what_blocks_for_a_moment_has_it_at_the_end() {
        let (writes, written) = channel();
        let ended = ended(false, move || {
            std::thread::sleep(Duration::from_millis(10));
            writes.send(()).unwrap();
        });
        assert_eq!(ended.recv(), Ok(7));
        assert_eq!(written.try_recv(), Ok(()));
    }

    #[tokio::test]
    async fn what_was_begun_is_ended_or_dropped_once_told_to_stop() {
        let shutdown = CancellationToken::new();
        assert_eq!(wind_down(&shutdown, async { 7 }).await, Some(7));
        shutdown.cancel();
        assert_eq!(wind_down(&shutdown, async { 7 }).await, Some(7), "it has time to end");
        assert_eq!(wind_down(&shutdown, std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn whoever_is_told_to_stop_waits_no_longer() {
        let shutdown = CancellationToken::new();
        let hanging = patiently("hanging", &shutdown, || async {
            shutdown.cancel();
            std::future::pending::<Result<(), Failed>>().await
        });
        assert!(matches!(hanging.await, Ok(None)));
        // Told before: nothing is begun.
        let done = patiently("trying", &shutdown, || async {
            Err::<(), _>(Error::from(ErrorKind::InvalidInput).into())
        });
        assert!(matches!(done.await, Ok(None)));
        let shutdown = CancellationToken::new();
        let pausing = patiently("pausing", &shutdown, || async {
            shutdown.cancel();
            Err::<(), _>(Error::from(ErrorKind::ConnectionRefused).into())
        });
        assert!(matches!(pausing.await, Ok(None)));
    }
}
