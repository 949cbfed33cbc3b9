//! Arguments every service has, patience while its servers come up, and how it is told to stop.
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

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

/// Try `attempt` until it succeeds: servers and services are started together, in any order.
///
/// # Errors
/// The last error, after two minutes.
pub async fn patiently<T, F, Fut>(doing: &str, attempt: F) -> anyhow::Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let schedule = backoff::ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(100))
        .with_max_interval(LONGEST_PAUSE)
        .with_max_elapsed_time(Some(PATIENCE))
        .build();
    let once = || async { attempt().await.map_err(backoff::Error::transient) };
    let complain = |error: anyhow::Error, pause: Duration| {
        tracing::warn!(doing, error = format!("{error:#}"), pause_ms = pause.as_millis(), "not yet");
    };
    backoff::future::retry_notify(schedule, once, complain).await
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
