//! A typed client of the API: how requests are sent and answers are read. What can be asked is said in the files below.
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sexton_model::Actor;
use sexton_model::request_key::RequestKey;

use crate::again::{IDEMPOTENCY_KEY, Keys, Patience, Why};
use crate::answer::{ANSWER_MAX_BYTES, whole};
use crate::rehearsal::Rehearsal;
use crate::types::Problem;

mod access;
mod audit;
mod health;
mod in_force;
mod records;
mod resources;

/// Longest wait for an answer: a registration of a thousand resources on a busy machine takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much is shown of a refusal that is no coordinator's, in characters.
const FOREIGN_MAX_CHARS: usize = 500;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The coordinator refused it.
    #[error("{}", .0.detail)]
    Problem(Problem),
    /// The address is none.
    #[error("{url:?} is not the address of a coordinator: expected one such as http://127.0.0.1:8470")]
    Address {
        /// What was given.
        url: String,
    },
    /// Nobody is there.
    #[error("{doing}: nobody answers at {url}; is a coordinator running there?")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// Where.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// It was not reached, or broke off.
    #[error("{doing}: the coordinator at {url} did not answer properly")]
    Transport {
        /// What was being done.
        doing: String,
        /// Where.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// What came is no answer.
    #[error("{doing}: the coordinator at {url} did not answer properly: {reason}")]
    NoAnswer {
        /// What was being done.
        doing: String,
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Whether what was asked for was archived: then [`Client::archived`] says where it is.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == StatusCode::GONE.as_u16())
    }

    /// Whether nobody was there who could have answered: neither a coordinator nor, behind one, the job table. Somebody may
    /// be in a moment.
    pub fn is_away(&self) -> bool {
        let away = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        match self {
            Self::Unreachable { .. } | Self::Transport { .. } => true,
            Self::Problem(problem) => away.iter().any(|status| status.as_u16() == problem.status),
            Self::Address { .. } | Self::NoAnswer { .. } => false,
        }
    }
}

/// Why one attempt failed, and why another one may fare better.
struct Failure {
    error: ClientError,
    again: Option<Why>,
}

/// Speaks to one coordinator.
#[derive(Clone)]
pub struct Client {
    url: String,
    token: Option<SecretString>,
    /// None: whoever the token is of.
    actor: Option<Actor>,
    http: reqwest::Client,
    keys: Keys,
    rehearsal: Rehearsal,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.url).field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the coordinator at `url`, acting as `actor`, or as whoever the token is of.
    ///
    /// # Errors
    /// If the address is none, or no HTTP client can be made.
    pub fn new(
        url: &str,
        token: Option<SecretString>,
        actor: impl Into<Option<Actor>>,
    ) -> Result<Self, ClientError> {
        // Already installed is fine: every part of a program asks for it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !reqwest::Url::parse(url)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        {
            return Err(ClientError::Address { url: url.to_owned() });
        }
        let url = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|source| {
            ClientError::Transport { doing: "making a client".into(), url: url.clone(), source }
        })?;
        let (keys, rehearsal) = (Keys::default(), Rehearsal::default());
        Ok(Self { url, token, actor: actor.into(), http, keys, rehearsal })
    }

    /// The same, whose requests that change something have this key, the first one, and keys that follow from it, the
    /// others in turn: so that whoever sends the same ones again does nothing twice. Without one each has a random key.
    #[must_use]
    pub fn with_key(self, key: RequestKey) -> Self {
        Self { keys: Keys::of(key), ..self }
    }

    /// The same, which calls this once if it is a rehearsal: at the first answer that says so, whether or not it refuses
    /// something, with the length of its day in milliseconds.
    #[must_use]
    pub fn telling_rehearsal(self, tell: fn(u64)) -> Self {
        Self { rehearsal: self.rehearsal.told(tell), ..self }
    }

    /// How long a day lasts there, in milliseconds, if an answer has said that it is a rehearsal.
    pub fn rehearsal_day_ms(&self) -> Option<u64> {
        self.rehearsal.day_ms()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = match &self.actor {
            Some(actor) => request.header("sexton-actor", actor.as_str()),
            None => request,
        };
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Send what changes nothing.
    async fn send<T: DeserializeOwned>(
        &self,
        doing: &str,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let request = request.build().map_err(|source| self.failed(doing, source))?;
        self.attempt(doing, request, true).await.map_err(|failure| failure.error)
    }

    /// Send what changes something, under a key of its own: so that it may be sent again if the answer is lost, or if
    /// somebody was still at work on it.
    async fn change<T: DeserializeOwned>(
        &self,
        doing: &str,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let mut request = request.build().map_err(|source| self.failed(doing, source))?;
        if let Some(key) = self.keys.next() {
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        let mut patience = Patience::default();
        loop {
            let again = request.try_clone();
            let failure = match self.attempt(doing, request, patience.is_fresh()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.again.and_then(|why| patience.wait(why));
            let (Some(wait), Some(next)) = (wait, again) else { return Err(failure.error) };
            tokio::time::sleep(wait).await;
            request = next;
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        doing: &str,
        request: reqwest::Request,
        first: bool,
    ) -> Result<T, Failure> {
        let failed = |source: reqwest::Error| {
            // Nobody was there at all: that is said at once. Nobody is there any more: somebody may start it anew.
            let lost = !(source.is_timeout() || source.is_decode() || source.is_connect() && first);
            Failure { again: lost.then_some(Why::Lost), error: self.failed(doing, source) }
        };
        let response = self.http.execute(request).await.map_err(failed)?;
        let status = response.status();
        self.rehearsal.see(response.headers());
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let again = match (status, after) {
            (StatusCode::CONFLICT, Some(seconds)) => Some(Why::Busy(Duration::from_secs(seconds))),
            (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, _) => {
                Some(Why::Lost)
            }
            _ => None,
        };
        let no_answer = |reason: String| {
            let (doing, url) = (doing.to_owned(), self.url.clone());
            Failure { error: ClientError::NoAnswer { doing, url, reason }, again: None }
        };
        let body = whole(response, ANSWER_MAX_BYTES).await.map_err(failed)?;
        let body = body.ok_or_else(|| no_answer(format!("more than {ANSWER_MAX_BYTES} bytes")))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| no_answer(error.to_string()));
        }
        Err(Failure { error: ClientError::Problem(problem_of(status, &body)), again })
    }

    fn failed(&self, doing: &str, source: reqwest::Error) -> ClientError {
        let (doing, url) = (doing.to_owned(), self.url.clone());
        if source.is_connect() {
            return ClientError::Unreachable { doing, url, source };
        }
        ClientError::Transport { doing, url, source }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.change(doing, self.request(Method::POST, path).json(body)).await
    }

    /// The same, for what changes nothing.
    async fn ask<T: DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(doing, self.request(Method::POST, path).json(body)).await
    }
}

/// What a refusal says. One that is no coordinator's, a proxy's say, is shown as it is.
fn problem_of(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        status: status.as_u16(),
        title: status.canonical_reason().unwrap_or("error").to_owned(),
        detail: String::from_utf8_lossy(body).chars().take(FOREIGN_MAX_CHARS).collect(),
        field: None,
    })
}

#[cfg(test)]
mod tests {
    use sexton_model::belts::budget::Group;
    use sexton_model::job::Stage;
    use sexton_model::{DeletionId, Timestamp};
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;
    use crate::{BatchDetails, BatchInfo, BatchMember};

    #[test]
    fn fuzz_refusals() {
        let field = Some("on".to_owned());
        let (title, detail) = ("Conflict".to_owned(), "vm/web01: it is too early".to_owned());
        let good = serde_json::to_vec(&Problem { status: 409, title, detail, field }).unwrap();
        Fuzz::new("client-refusals", Form::Json).seed(good).run(|bytes| {
            let told = problem_of(StatusCode::CONFLICT, bytes);
            let read = serde_json::from_slice::<Problem>(bytes).map_err(|error| error.to_string());
            if read.is_err() {
                assert_eq!(told.status, 409);
                assert!(told.detail.chars().count() <= FOREIGN_MAX_CHARS, "{}", told.detail.len());
            }
            read.map(drop)
        });
    }

    #[test]
    fn fuzz_answers() {
        let (scope, kind) = ("tenants/acme".parse().unwrap(), "vm".parse().unwrap());
        let info = BatchInfo {
            batch: 3,
            group: Group { scope, kind, stage: Stage::Hard },
            since: Timestamp(1_000_000),
            waiting: 1,
            needs_approval: true,
            why: "6 would begin where 5 may".to_owned(),
            stopped_by: vec!["pause 1 of everything, by eva: look".to_owned()],
        };
        let member = BatchMember {
            deletion: DeletionId(7),
            resource: "vm/web01".parse().unwrap(),
            requested_by: "eva".parse().unwrap(),
            undo: "all of it".to_owned(),
            cancel_until: Some(Timestamp(2_000_000)),
            unannounced: Some("nobody owns it".to_owned()),
        };
        let good = BatchDetails { info, digest: "0".repeat(64), members: vec![member] };
        Fuzz::new("client-answers", Form::Json).seed(serde_json::to_vec(&good).unwrap()).run(|bytes| {
            let read: BatchDetails = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let again = serde_json::to_vec(&read).unwrap();
            assert_eq!(serde_json::from_slice::<BatchDetails>(&again).unwrap(), read);
            Ok(())
        });
    }
}
