//! Talking to the server: bounded in time and in size, and typed.
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sexton_consumer::driver::{Obstacle, StepContext};
use sexton_consumer::permit::Permit;

use super::answer::{self, Seen};

/// Largest answer, in bytes: some ten thousand targets of a few kilobytes each.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// Longest time to connect. Whoever is not connected by then is away, and was asked for nothing.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// What is kept of a complaint, in bytes.
const COMPLAINT_KEPT_BYTES: usize = 500;
/// A span longer than any server keeps samples, and a moment (in seconds) later than any sample: so one query
/// covers the whole range, samples with a wrong clock included.
const WHOLE_RANGE: &str = "150y";
const LATE_S: &str = "4102444800";

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    client: reqwest::Client,
    base: Url,
    authorization_file: Option<PathBuf>,
}

impl Server {
    pub(super) fn new(base: &str, authorization_file: Option<PathBuf>) -> anyhow::Result<Self> {
        // Another part of the process may have chosen already; then that choice stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse(base).map_err(|e| anyhow::anyhow!("url = {base:?}: {e}"))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && !base.cannot_be_a_base(),
            "url = {base:?}: expected http://… or https://…"
        );
        // A deletion that is redirected, or handed to a proxy of the environment, would go to who knows where.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .build()?;
        Ok(Self { client, base, authorization_file })
    }

    /// The value of an external label.
    pub(super) async fn external_label(
        &self,
        step: &StepContext,
        name: &str,
    ) -> Result<Option<String>, Obstacle> {
        let config = self.read(step, "status/config", &[]).await?;
        Ok(config["yaml"].as_str().and_then(|yaml| answer::external_label(yaml, name)))
    }

    /// The value of a command-line flag.
    pub(super) async fn flag(&self, step: &StepContext, name: &str) -> Result<Option<String>, Obstacle> {
        let flags = self.read(step, "status/flags", &[]).await?;
        Ok(answer::flag(&flags, name))
    }

    /// The targets of `uuid` that the server knows.
    pub(super) async fn targets(&self, step: &StepContext, uuid: &str) -> Result<Vec<Seen>, Obstacle> {
        let all = self.read(step, "targets", &[]).await?;
        answer::targets_of(all, uuid).map_err(|why| unclear(step, "targets", &why))
    }

    /// Whether series of `uuid` are listed. They may be although no sample is left; so this proves nothing when
    /// it is true, and saves the query for the samples.
    pub(super) async fn lists_series(&self, step: &StepContext, uuid: &str) -> Result<bool, Obstacle> {
        let selector = answer::selector(uuid);
        let query = [("match[]", selector.as_str()), ("start", "0"), ("end", LATE_S)];
        let listed = self.read(step, "series", &query).await?;
        answer::any_series(&listed).map_err(|why| unclear(step, "series", &why))
    }

    /// Whether any sample of `uuid` is left, at any time.
    pub(super) async fn has_samples(&self, step: &StepContext, uuid: &str) -> Result<bool, Obstacle> {
        // Of the functions over a range only this one keeps the names of metrics; without them two metrics of one
        // target would be the same, which is an error.
        let query = format!("count(last_over_time({}[{WHOLE_RANGE}]))", answer::selector(uuid));
        let found = self.read(step, "query", &[("query", query.as_str()), ("time", LATE_S)]).await?;
        answer::any_sample(&found).map_err(|why| unclear(step, "query", &why))
    }

    /// Delete every sample of `uuid`. The answer says nothing about whether there were any.
    pub(super) async fn delete_series(
        &self,
        step: &StepContext,
        uuid: &str,
        permit: &Permit,
    ) -> Result<(), Obstacle> {
        let selector = answer::selector(uuid);
        self.order(step, "admin/tsdb/delete_series", &[("match[]", selector.as_str())], permit).await
    }

    /// Free what deleted samples still occupy.
    pub(super) async fn clean_tombstones(&self, step: &StepContext, permit: &Permit) -> Result<(), Obstacle> {
        self.order(step, "admin/tsdb/clean_tombstones", &[], permit).await
    }

    async fn read(&self, step: &StepContext, path: &str, query: &[(&str, &str)]) -> Result<Value, Obstacle> {
        let (status, body) = self.send(step, Method::GET, path, query).await?;
        if status.is_success() {
            return answer::data(&body).map_err(|why| unclear(step, path, &why));
        }
        if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
            return Err(away(step, path, &format!("was lost behind a gateway ({status})")));
        }
        Err(complaint(step, path, status, &body))
    }

    /// Whatever changes something at the server.
    async fn order(
        &self,
        step: &StepContext,
        path: &str,
        query: &[(&str, &str)],
        permit: &Permit,
    ) -> Result<(), Obstacle> {
        // What was read before took its time, and so did the change before.
        permit.again()?;
        let (status, body) = self.send(step, Method::POST, path, query).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(());
        }
        Err(complaint(step, path, status, &body))
    }

    async fn send(
        &self,
        step: &StepContext,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(StatusCode, Vec<u8>), Obstacle> {
        let looks = method == Method::GET;
        // What only looks ends before the step does, so that it can still be said that nothing was changed.
        let left = if looks { step.time_left() * 3 / 4 } else { step.time_left() };
        let unanswered = |why: &str| if looks { away(step, path, why) } else { unclear(step, path, why) };
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self.client.request(method, format!("{base}/api/v1/{path}")).query(query);
        if let Some(file) = &self.authorization_file {
            request = request.header("authorization", secret(step, file).await?.expose_secret());
        }
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            let mut body = Vec::new();
            let mut chunks = response.bytes_stream();
            while let Some(chunk) = chunks.next().await {
                body.extend_from_slice(&chunk?);
                if body.len() > ANSWER_MAX_BYTES {
                    return Ok((status, None));
                }
            }
            Ok::<_, reqwest::Error>((status, Some(body)))
        };
        match tokio::time::timeout(left.max(Duration::from_millis(1)), answer).await {
            Err(_) => Err(unanswered("did not come in time")),
            Ok(Err(e)) if e.is_connect() => {
                Err(Obstacle::Busy(format!("{}: asking Prometheus for {path}: {}", step.resource, chain(e))))
            }
            Ok(Err(e)) => Err(unanswered(&chain(e))),
            Ok(Ok((_, None))) => {
                Err(unclear(step, path, &format!("is longer than {ANSWER_MAX_BYTES} bytes")))
            }
            Ok(Ok((status, Some(body)))) => Ok((status, body)),
        }
    }
}

/// The error and its causes, without the address, which may hold a password.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn secret(step: &StepContext, file: &std::path::Path) -> Result<SecretString, Obstacle> {
    let unclear = |e: &dyn std::fmt::Display| {
        Obstacle::Unclear(format!("{}: reading the authorization in {}: {e}", step.resource, file.display()))
    };
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || sexton_service::secret::read(&path)).await;
    read.map_err(|e| unclear(&e))?.map_err(|e| unclear(&format!("{e:#}")))
}

fn unclear(step: &StepContext, path: &str, why: &str) -> Obstacle {
    Obstacle::Unclear(format!("{}: Prometheus' answer to {path} {why}", step.resource))
}

/// A question that is not answered has changed nothing.
fn away(step: &StepContext, path: &str, why: &str) -> Obstacle {
    Obstacle::Busy(format!("{}: Prometheus' answer to {path} {why}", step.resource))
}

fn complaint(step: &StepContext, path: &str, status: StatusCode, body: &[u8]) -> Obstacle {
    let said = String::from_utf8_lossy(&body[..body.len().min(COMPLAINT_KEPT_BYTES)]);
    let text = format!("{}: Prometheus answers {path} with {status}: {}", step.resource, said.trim());
    if said.contains("admin APIs disabled") {
        return Obstacle::Refuse(format!("{text}; start it with --web.enable-admin-api"));
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Obstacle::Busy(text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Obstacle::Refuse(text),
        _ => Obstacle::Unclear(text),
    }
}
