//! Logs as JSON lines or text, and traces over OTLP if an address is configured.
use std::io::IsTerminal;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::trace;

/// What is logged if nothing is said. The broker's client would log whole messages that nobody took,
/// and the tracing library that it was started.
const LOG: &str = "info,lapin=error,opentelemetry=warn";

/// The section `[telemetry]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// What is logged, as `RUST_LOG` says it; that variable wins. Without either, `info`.
    #[serde(default)]
    pub log: Option<String>,
    /// JSON lines instead of text.
    #[serde(default)]
    pub json: bool,
    /// Where traces go: the address of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`. Without one
    /// nothing is traced.
    #[serde(default)]
    pub otlp: Option<String>,
    /// Which share of the deletions is traced, 0 to 1; all of them if nothing is said. The same in all processes.
    #[serde(default)]
    pub traced: Option<f64>,
}

/// Keeps telemetry running; flushes what is left when dropped.
#[must_use = "telemetry ends when this is dropped"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            eprintln!("the last traces were not sent: {error}");
        }
    }
}

impl Telemetry {
    /// Start logging (to standard error) and tracing for `service`. Once per process.
    ///
    /// # Errors
    /// If the filter or the collector's address is malformed, or telemetry runs already.
    pub fn start(service: &'static str, options: &Options) -> anyhow::Result<Self> {
        // Already installed is fine: every TLS client of the process needs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let filter = match std::env::var("RUST_LOG") {
            Ok(filter) => filter,
            Err(_) => options.log.clone().unwrap_or_else(|| LOG.to_owned()),
        };
        let filter = EnvFilter::try_new(&filter).with_context(|| format!("the log filter {filter:?}"))?;
        let lines = if options.json {
            fmt::layer().json().with_writer(std::io::stderr).boxed()
        } else {
            fmt::layer().with_ansi(coloured(&std::io::stderr())).with_writer(std::io::stderr).boxed()
        };
        let share = options.traced.unwrap_or(1.0);
        anyhow::ensure!((0.0..=1.0).contains(&share), "[telemetry]: traced = {share}: expected 0 to 1");
        let provider = options.otlp.as_deref().map(|address| exporter(service, address)).transpose()?;
        tracing_subscriber::registry().with(filter).with(lines).try_init().context("starting telemetry")?;
        if let Some(provider) = &provider {
            trace::install(provider.tracer("sexton"), share);
        }
        Ok(Self(provider))
    }
}

/// Whether lines may be coloured: never in a file or a journal, where the codes stay as they are.
fn coloured(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Where a collector at `address` takes traces. Some write the whole address, as the exporter itself wants it.
fn traces_address(address: &str) -> String {
    const PATH: &str = "/v1/traces";
    let address = address.trim_end_matches('/');
    format!("{}{PATH}", address.strip_suffix(PATH).unwrap_or(address))
}

fn exporter(service: &'static str, address: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_address(address))
        .build()
        .with_context(|| {
            format!("telemetry.otlp {address:?}: expected the address of an OTLP/HTTP collector")
        })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(trace::Ids::default())
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_to_the_collectors_one_address() {
        for address in
            ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces", "http://c:4318/v1/traces/"]
        {
            assert_eq!(traces_address(address), "http://c:4318/v1/traces");
        }
        assert_eq!(traces_address("http://c/otel"), "http://c/otel/v1/traces");
    }

    #[test]
    fn the_delivered_examples_give_the_collector_and_no_path() {
        for example in ["sexton.toml", "sexton-many.toml"] {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/").to_owned() + example;
            let text = std::fs::read_to_string(file).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("# otlp = ")).unwrap();
            assert_eq!(line, "\"http://127.0.0.1:4318\"", "{example}");
        }
    }
}
