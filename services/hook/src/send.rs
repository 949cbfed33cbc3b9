//! Asking: one bounded HTTP request, or one bounded command.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::ExposeSecret;
use serde_json::Value;
use sexton_consumer::driver::Obstacle;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::answer::Answer;
use crate::definition::{Http, Transport};
use crate::template::{Template, Values, Writing};

/// Largest answer, in bytes: it is about one object.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// What is kept of an answer for people, in bytes.
const SAID_BYTES: usize = 300;

/// Longest time to connect: half of what a look may take. Whoever is not connected by then is away, and a call to it has
/// changed nothing.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It changes nothing, whether it is answered or not.
    Look,
    /// It may have been carried out although no answer came.
    Change,
}

impl Purpose {
    /// What it means that no whole answer came.
    fn unanswered(self, text: String) -> Obstacle {
        match self {
            Self::Look => Obstacle::Busy(text),
            Self::Change => Obstacle::Unclear(text),
        }
    }
}

/// Sends requests and runs commands.
#[derive(Debug)]
pub(crate) struct Sender {
    client: reqwest::Client,
    base_url: Option<Url>,
    secret_headers: Vec<(HeaderName, PathBuf)>,
}

impl Sender {
    pub(crate) fn new(
        base_url: Option<&str>,
        secret_headers: BTreeMap<String, PathBuf>,
    ) -> anyhow::Result<Self> {
        // Another part of the process may have chosen already; then that choice stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base_url = base_url
            .map(|text| {
                Url::parse(text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none())
                    .ok_or_else(|| anyhow::anyhow!("base_url = {text:?}: expected http://… or https://…"))
            })
            .transpose()?;
        let secret_headers = secret_headers
            .into_iter()
            .map(|(name, file)| {
                let parsed = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|e| anyhow::anyhow!("secret_headers.{name}: {e}"))?;
                Ok((parsed, file))
            })
            .collect::<anyhow::Result<_>>()?;
        // A request that is redirected, or handed to a proxy of the environment, would take its secrets, and its
        // deletion, to who knows where.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .build()?;
        Ok(Self { client, base_url, secret_headers })
    }

    /// Ask, and say what came back, whatever it is.
    ///
    /// # Errors
    /// If nothing whole came back in `limit`: [`Obstacle::Busy`] where that means that nothing was done.
    pub(crate) async fn ask(
        &self,
        what: &str,
        purpose: Purpose,
        transport: Transport<'_>,
        values: &Values<'_>,
        limit: Duration,
    ) -> Result<Answer, Obstacle> {
        let asked = async {
            match transport {
                Transport::Http(http) => self.http(what, purpose, http, values).await,
                Transport::Command(command) => run(what, command, values).await,
            }
        };
        tokio::time::timeout(limit, asked).await.map_err(|_| {
            purpose.unanswered(format!("{what}: no whole answer within {} ms", limit.as_millis()))
        })?
    }

    fn url(&self, what: &str, http: &Http, values: &Values<'_>) -> Result<Url, Obstacle> {
        let refuse = |why: &str| Obstacle::Refuse(format!("{what}: the address {why}"));
        let filled = http.url.fill(values, Writing::Url)?;
        let path =
            filled.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(refuse("has a segment that means another folder"));
        }
        let text = match (&self.base_url, filled.starts_with('/')) {
            (Some(base), true) => format!("{}{filled}", base.as_str().trim_end_matches('/')),
            (None, true) => return Err(refuse("begins with /, but no base_url is configured")),
            (_, false) => filled,
        };
        Url::parse(&text).map_err(|e| refuse(&e.to_string()))
    }

    async fn headers(&self, what: &str, http: &Http, values: &Values<'_>) -> Result<HeaderMap, Obstacle> {
        let refuse = |name: &str| Obstacle::Refuse(format!("{what}: the value of the header {name} is none"));
        let mut headers = HeaderMap::new();
        for (name, template) in &http.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse(name))?;
            let value = template.fill(values, Writing::Plain)?;
            headers.insert(parsed, HeaderValue::from_str(&value).map_err(|_| refuse(name))?);
        }
        for (name, file) in &self.secret_headers {
            let unclear = |e: &dyn std::fmt::Display| {
                Obstacle::Unclear(format!("{what}: reading the header {name} in {}: {e}", file.display()))
            };
            let path = file.clone();
            let read = tokio::task::spawn_blocking(move || sexton_service::secret::read(&path)).await;
            let secret = read.map_err(|e| unclear(&e))?.map_err(|e| unclear(&format!("{e:#}")))?;
            let mut value = HeaderValue::from_str(secret.expose_secret().trim())
                .map_err(|_| unclear(&"is no header's value"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }

    async fn http(
        &self,
        what: &str,
        purpose: Purpose,
        http: &Http,
        values: &Values<'_>,
    ) -> Result<Answer, Obstacle> {
        let method = Method::from_bytes(http.method.as_bytes())
            .map_err(|e| Obstacle::Refuse(format!("{what}: method {}: {e}", http.method)))?;
        let mut request = self
            .client
            .request(method, self.url(what, http, values)?)
            .headers(self.headers(what, http, values).await?);
        if let Some(body) = &http.body {
            request = request.json(&body.fill(values)?);
        }
        let response = request.send().await.map_err(|e| failure(what, purpose, e))?;
        let code = i64::from(response.status().as_u16());
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|e| failure(what, purpose, e))?);
            if body.len() > ANSWER_MAX_BYTES {
                return Err(Obstacle::Unclear(format!(
                    "{what}: the answer is longer than {ANSWER_MAX_BYTES} bytes"
                )));
            }
        }
        Ok(answer(code, &body, &body))
    }
}

fn failure(what: &str, purpose: Purpose, error: reqwest::Error) -> Obstacle {
    let (down, wrong, error) = (error.is_connect(), error.is_builder(), error.without_url());
    let mut text = format!("{what}: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match (down, wrong) {
        // Where no connection was made, nothing was done either.
        (true, _) => Obstacle::Busy(text),
        // It could not even be sent.
        (false, true) => Obstacle::Unclear(text),
        (false, false) => purpose.unanswered(text),
    }
}

fn answer(code: i64, body: &[u8], said: &[u8]) -> Answer {
    Answer {
        code,
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        said: String::from_utf8_lossy(&said[..said.len().min(SAID_BYTES)]).trim().to_owned(),
    }
}

/// Run a command: no shell, no input, nothing of this process's environment but the search path.
async fn run(what: &str, command: &[Template], values: &Values<'_>) -> Result<Answer, Obstacle> {
    let arguments =
        command.iter().map(|part| part.fill(values, Writing::Argument)).collect::<Result<Vec<_>, _>>()?;
    let unclear = |why: String| Obstacle::Unclear(format!("{what}: {why}"));
    let [program, arguments @ ..] = arguments.as_slice() else {
        return Err(Obstacle::Refuse(format!("{what}: an empty command")));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| unclear(format!("starting {program}: {e}")))?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(unclear("no pipes".into()));
    };
    let (stdout, stderr) = tokio::try_join!(bounded(out), bounded(err))
        .map_err(|e| unclear(format!("reading from {program}: {e}")))?;
    let status = child.wait().await.map_err(|e| unclear(format!("waiting for {program}: {e}")))?;
    let code = status.code().ok_or_else(|| unclear(format!("{program} was ended by a signal")))?;
    Ok(answer(i64::from(code), &stdout, if stderr.is_empty() { &stdout } else { &stderr }))
}

/// Everything that comes, if it is not too much. Says so at once: the program may be waiting to write more.
async fn bounded(pipe: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    pipe.take(ANSWER_MAX_BYTES as u64 + 1).read_to_end(&mut all).await?;
    if all.len() > ANSWER_MAX_BYTES {
        return Err(std::io::Error::other(format!("it says more than {ANSWER_MAX_BYTES} bytes")));
    }
    Ok(all)
}
