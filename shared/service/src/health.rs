//! Health and metrics of a process, over HTTP, for whoever watches it.
//!
//! `GET /healthz` says that it lives, `GET /readyz` whether it can do its work now and, if not, each reason in a
//! line of its own, `GET /metrics` what it has counted, as Prometheus reads it. Nothing can be changed here, and
//! nothing secret is shown; still, other hosts may look only if the configuration says so.
//!
//! ```toml
//! [health]
//! listen = "127.0.0.1:9470"     # of every process that has no part of its own
//! [health."dns.main"]           # of this one: processes of one host cannot share an address
//! listen = "127.0.0.1:9471"
//! ```
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};

/// Longest time that one part of a process may take to say how it is: probes wait a few seconds at the most.
const PATIENCE: Duration = Duration::from_secs(3);

/// The section `[health]`.
#[derive(Debug, Default, Deserialize)]
struct Section {
    listen: Option<SocketAddr>,
    #[serde(default)]
    open: bool,
    #[serde(flatten)]
    of: BTreeMap<String, toml::Value>,
}

/// The part `[health."NAME"]` of one process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    listen: Option<SocketAddr>,
    /// Other hosts may look, too.
    #[serde(default)]
    open: bool,
}

/// A part of a process that can say how it is.
#[async_trait]
pub trait Watched: Send + Sync + 'static {
    /// Why it cannot do its work now; empty if it can. In words for people.
    async fn hindered(&self) -> Vec<String>;

    /// Its metrics are about to be read: look up what is not at hand.
    async fn about_to_be_read(&self) {}
}

/// How a process is doing. Without a `[health]` for it, everything here does nothing.
#[derive(Default)]
pub struct Health {
    watched: RwLock<Vec<Arc<dyn Watched>>>,
    address: Option<SocketAddr>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where `process` is to be watched, if anywhere, and which section says so.
fn part(config: &Config, process: &str) -> Result<Option<(SocketAddr, String)>, ConfigError> {
    let Section { listen, open, of } = config.section("health")?;
    if let Some((name, _)) = of.iter().find(|(_, value)| !value.is_table()) {
        let known = format!("expected listen, open, or a part such as [health.\"{process}\"]");
        return Err(config.mistake("health", format!("unknown field `{name}`: {known}")));
    }
    let (section, part) = if of.contains_key(process) {
        (format!("health.\"{process}\""), config.part("health", process)?)
    } else {
        ("health".to_owned(), Part { listen, open })
    };
    let Some(listen) = part.listen else { return Ok(None) };
    if !part.open && !listen.ip().is_loopback() {
        let why = "can be read by other hosts: expected a loopback address, or open = true";
        return Err(config.mistake(&section, format!("listen = {listen} {why}")));
    }
    Ok(Some((listen, section)))
}

impl Health {
    /// Begin to answer for `process`, which is not ready before something of it is watched. Metrics count from
    /// here on; what is measured before is lost. Once per process.
    ///
    /// # Errors
    /// If the configuration is wrong, or the address is taken.
    pub async fn start(
        config: &Config,
        process: &str,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let Some((listen, section)) = part(config, process)? else { return Ok(Arc::default()) };
        let listener = TcpListener::bind(listen).await.map_err(|why| {
            let each = format!(
                "processes of one host need an address each, such as [health.\"{process}\"] listen = …"
            );
            config.mistake(&section, format!("listening on {listen}: {why}; {each}"))
        })?;
        let address = listener.local_addr()?;
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        opentelemetry::global::set_meter_provider(provider);
        let health = Arc::new(Self { address: Some(address), ..Self::default() });
        let router = axum::Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state((health.clone(), registry));
        tracing::info!(%address, "health and metrics are shown");
        tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!(%error, "health is not shown any more");
            }
        });
        Ok(health)
    }

    /// Ask this part, too, from now on.
    pub fn watch(&self, part: Arc<dyn Watched>) {
        self.watched.write().unwrap_or_else(PoisonError::into_inner).push(part);
    }

    /// Where it answers.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    fn watched(&self) -> Vec<Arc<dyn Watched>> {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn hindered(&self) -> Vec<String> {
        let watched = self.watched();
        if watched.is_empty() {
            return vec!["it is starting: what it needs cannot be reached yet".to_owned()];
        }
        let mut reasons = Vec::new();
        for part in watched {
            match tokio::time::timeout(PATIENCE, part.hindered()).await {
                Ok(found) => reasons.extend(found),
                Err(_) => reasons.push(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        reasons
    }
}

type Shown = State<(Arc<Health>, Registry)>;

async fn ready(State((health, _)): Shown) -> impl IntoResponse {
    let reasons = health.hindered().await;
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.iter().map(|reason| format!("{reason}\n")).collect())
}

async fn metrics(State((health, registry)): Shown) -> impl IntoResponse {
    for part in health.watched() {
        // Old figures are better than none.
        let _ = tokio::time::timeout(PATIENCE, part.about_to_be_read()).await;
    }
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, encoder.format_type().to_owned())], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain".to_owned())],
            format!("{error}\n").into_bytes(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str, process: &str) -> Result<Option<SocketAddr>, String> {
        let config = Config::parse(std::path::Path::new("sexton.toml"), text, &["health"]).unwrap();
        part(&config, process).map(|found| found.map(|(listen, _)| listen)).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn each_process_may_have_an_address_of_its_own() {
        let both = "[health]\nlisten = \"127.0.0.1:1\"\n[health.\"dns.main\"]\nlisten = \"127.0.0.1:2\"\n";
        assert_eq!(listen(both, "dns.main").unwrap().unwrap().port(), 2);
        assert_eq!(listen(both, "scheduler").unwrap().unwrap().port(), 1);
        assert_eq!(listen("", "scheduler").unwrap(), None);
        assert_eq!(listen("[health.scheduler]\nlisten = \"127.0.0.1:3\"\n", "dns.main").unwrap(), None);
    }

    #[test]
    fn a_mistake_is_named() {
        let typo = listen("[health]\nlissten = 1\n", "x").unwrap_err();
        assert!(typo.starts_with("sexton.toml: [health]: unknown field `lissten`"), "{typo}");
        for heading in ["health", "health.\"x\""] {
            let open = listen(&format!("[{heading}]\nlisten = \"0.0.0.0:1\"\n"), "x").unwrap_err();
            let expected = format!("sexton.toml: [{heading}]: listen = 0.0.0.0:1 can be read by other hosts");
            assert!(open.starts_with(&expected), "{open}");
            assert!(open.ends_with("expected a loopback address, or open = true"), "{open}");
        }
        assert!(listen("[health]\nlisten = \"0.0.0.0:1\"\nopen = true\n", "x").unwrap().is_some());
        let typo = listen("[health.x]\nlissten = \"127.0.0.1:1\"\n", "x").unwrap_err();
        assert!(typo.contains("lissten"), "{typo}");
    }
}
