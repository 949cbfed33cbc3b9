//! A typed client of the API.
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sexton_model::access::Token;
use sexton_model::belts::Pause;
use sexton_model::belts::ceiling::ScopeCeiling;
use sexton_model::belts::census::{Latest, Taken};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::chain_copy::ChainCopy;
use sexton_model::deletion::Hold;
use sexton_model::digest::Digest;
use sexton_model::receipt::SignedReceipt;
use sexton_model::request_key::RequestKey;
use sexton_model::{Actor, DeletionId, ResourceId};

use crate::access::{AccessEvents, AccessQuery, Issued, TokenQuery, TokenRequest, WhoAmI};
use crate::again::{IDEMPOTENCY_KEY, Keys, Patience, Why};
use crate::alarms::{AlarmInfo, AlarmQuery};
use crate::answer::{ANSWER_MAX_BYTES, whole};
use crate::batches::{
    ApproveRequest, Approved, BatchDetails, BatchInfo, OverrideRequest, ResumeQuery, StoppedInfo,
};
use crate::canaries::CanariesInfo;
use crate::cancellations::{CancelScope, Cancellations, Prioritize};
use crate::census::{CensusInfo, CensusRequest};
use crate::drills::DrillsInfo;
use crate::holds::{HoldRequest, ReleaseQuery, Released};
use crate::surveys::{SurveyInfo, SurveyRequest};
use crate::types::{
    AcceptReview, ArchivedInfo, AuditInfo, AuditQuery, CeilingRequest, Created, Delete, DeletionInfo,
    DeletionLine, Hashes, HashesQuery, HealthInfo, ListQuery, NameInfo, Outcome, Page, PauseRequest,
    PauseResponse, PreviewInfo, PreviewRequest, Problem, Reason, Register, Registered, Rescue, ResourceInfo,
    ReviewInfo, Waive,
};

/// Longest wait for an answer: a registration of a thousand resources on a busy machine takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

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
        Ok(Self { url, token, actor: actor.into(), http, keys: Keys::default() })
    }

    /// The same, whose requests that change something have this key, the first one, and keys that follow from it, the
    /// others in turn: so that whoever sends the same ones again does nothing twice. Without one each has a random key.
    #[must_use]
    pub fn with_key(self, key: RequestKey) -> Self {
        Self { keys: Keys::of(key), ..self }
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
        let problem = serde_json::from_slice(&body)
            .unwrap_or_else(|_| problem_of(status, &String::from_utf8_lossy(&body)));
        Err(Failure { error: ClientError::Problem(problem), again })
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

    /// Register resources.
    ///
    /// # Errors
    /// As all calls: the coordinator's refusal, or that it did not answer.
    pub async fn register(&self, body: &Register) -> Result<Registered, ClientError> {
        self.post("registering resources", "/v1/resources", body).await
    }

    /// One page of resources.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resources(&self, query: &ListQuery) -> Result<Page<ResourceInfo>, ClientError> {
        self.send("listing resources", self.request(Method::GET, "/v1/resources").query(query)).await
    }

    /// One resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resource(&self, id: &ResourceId) -> Result<ResourceInfo, ClientError> {
        self.send("reading a resource", self.request(Method::GET, &format!("/v1/resources/{id}"))).await
    }

    /// Hold a resource, whether or not it has a record.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hold_resource(&self, id: &ResourceId, body: &HoldRequest) -> Result<Hold, ClientError> {
        self.post("holding a resource", &format!("/v1/resources/{id}/holds"), body).await
    }

    /// Release one hold of a resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release_resource(&self, id: &ResourceId, hold: i64) -> Result<Released, ClientError> {
        let path = format!("/v1/resources/{id}/holds/{hold}");
        self.change("releasing a resource", self.request(Method::DELETE, &path)).await
    }

    /// Release all holds of an origin.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release_origin(&self, id: &ResourceId, origin: &Actor) -> Result<Released, ClientError> {
        let query = ReleaseQuery { origin: origin.clone() };
        let request = self.request(Method::DELETE, &format!("/v1/resources/{id}/holds")).query(&query);
        self.change("releasing a resource", request).await
    }

    /// Whether a name is free.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn name(&self, id: &ResourceId) -> Result<NameInfo, ClientError> {
        self.send("reading a name", self.request(Method::GET, &format!("/v1/names/{id}"))).await
    }

    /// Make a record.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn delete(&self, body: &Delete) -> Result<Created, ClientError> {
        self.post("making a deletion record", "/v1/deletions", body).await
    }

    /// What a record would do. Nothing is made.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn preview(&self, body: &PreviewRequest) -> Result<PreviewInfo, ClientError> {
        self.ask("looking what a deletion would do", "/v1/preview", body).await
    }

    /// Have the subsystems of a resource looked at; if that is under way for the very same, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn begin_survey(&self, body: &SurveyRequest) -> Result<SurveyInfo, ClientError> {
        self.ask("having subsystems looked at", "/v1/surveys", body).await
    }

    /// What is known by a survey by now.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn survey(&self, survey: i64) -> Result<SurveyInfo, ClientError> {
        self.send("reading a survey", self.request(Method::GET, &format!("/v1/surveys/{survey}"))).await
    }

    /// One page of records, newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn deletions(&self, query: &ListQuery) -> Result<Page<DeletionLine>, ClientError> {
        self.send("listing deletions", self.request(Method::GET, "/v1/deletions").query(query)).await
    }

    /// One record. `what` is its id or its resource: then the live one, else the latest.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn deletion(&self, what: &str) -> Result<DeletionInfo, ClientError> {
        self.send("reading a deletion", self.request(Method::GET, &format!("/v1/deletions/{what}"))).await
    }

    /// One page of what stays of archived records, newest first. Of the query only kind, status, after and limit may be
    /// given.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn all_archived(&self, query: &ListQuery) -> Result<Page<ArchivedInfo>, ClientError> {
        self.send("listing the archive", self.request(Method::GET, "/v1/archived").query(query)).await
    }

    /// What stays of one archived record. `what` is its id or its resource: then the latest one.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn archived(&self, what: &str) -> Result<ArchivedInfo, ClientError> {
        let path = format!("/v1/archived/{what}");
        self.send("looking into the archive", self.request(Method::GET, &path)).await
    }

    /// The signed receipt of a record whose purge is over.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn receipt(&self, id: DeletionId) -> Result<SignedReceipt, ClientError> {
        let path = format!("/v1/deletions/{id}/receipt");
        self.send("reading a receipt", self.request(Method::GET, &path)).await
    }

    /// A record's audit chain, in the very bytes that were hashed.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn chain(&self, id: DeletionId) -> Result<ChainCopy, ClientError> {
        let request = self.request(Method::GET, &format!("/v1/audit/chains/{id}"));
        self.send("reading an audit chain", request).await
    }

    /// Cancel it: the resource comes back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn cancel(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("cancelling a deletion", &format!("/v1/deletions/{id}/cancel"), &body).await
    }

    /// Cancel one page of a scope's live records, or show what that would restore.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn cancel_scope(&self, body: &CancelScope) -> Result<Cancellations, ClientError> {
        let (doing, path) = ("cancelling a scope", "/v1/cancellations");
        if body.dry_run { self.ask(doing, path, body).await } else { self.post(doing, path, body).await }
    }

    /// Say when a resource is restored: lower goes first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn prioritize(
        &self,
        resource: &ResourceId,
        priority: i16,
    ) -> Result<ResourceInfo, ClientError> {
        let request = self.request(Method::PUT, &format!("/v1/resources/{resource}/priority"));
        self.change("changing a priority", request.json(&Prioritize { priority })).await
    }

    /// Place a hold.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hold(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("placing a hold", &format!("/v1/deletions/{id}/holds"), &body).await
    }

    /// Release a hold.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release(&self, id: DeletionId, hold: i64) -> Result<Outcome, ClientError> {
        let path = format!("/v1/deletions/{id}/holds/{hold}");
        self.change("releasing a hold", self.request(Method::DELETE, &path)).await
    }

    /// Park a job that is in line or backs off, so that a person decides about it.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn park(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("parking a job", &format!("/v1/deletions/{id}/park"), &body).await
    }

    /// Try a parked job again.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn retry(&self, id: DeletionId) -> Result<Outcome, ClientError> {
        let path = format!("/v1/deletions/{id}/retry");
        self.post("retrying a parked job", &path, &serde_json::json!({})).await
    }

    /// Let a parked step pass.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn waive(&self, id: DeletionId, body: &Waive) -> Result<Outcome, ClientError> {
        self.post("waiving a step", &format!("/v1/deletions/{id}/waive"), body).await
    }

    /// Everybody was told otherwise, after the notice could not be delivered for days.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn acknowledge(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("acknowledging a notice", &format!("/v1/deletions/{id}/acknowledge"), &body).await
    }

    /// A notice that was sent came back: it does not count as delivered.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn bounced(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("saying that a notice came back", &format!("/v1/deletions/{id}/bounced"), &body).await
    }

    /// End a record whose resource was saved by hand.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn rescue(&self, id: DeletionId, body: &Rescue) -> Result<Outcome, ClientError> {
        self.post("rescuing a resource", &format!("/v1/deletions/{id}/rescue"), body).await
    }

    /// Pauses in force.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn pauses(&self) -> Result<Vec<Pause>, ClientError> {
        self.send("listing pauses", self.request(Method::GET, "/v1/pauses")).await
    }

    /// Pause.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn pause(&self, body: &PauseRequest) -> Result<PauseResponse, ClientError> {
        self.post("pausing", "/v1/pauses", body).await
    }

    /// What would go on if a pause were lifted.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn stopped_by(&self, pause: i64) -> Result<Vec<StoppedInfo>, ClientError> {
        let path = format!("/v1/pauses/{pause}/stopped");
        self.send("looking what a pause stops", self.request(Method::GET, &path)).await
    }

    /// Lift a pause.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resume(&self, pause: i64, query: ResumeQuery) -> Result<serde_json::Value, ClientError> {
        let request = self.request(Method::DELETE, &format!("/v1/pauses/{pause}")).query(&query);
        self.change("lifting a pause", request).await
    }

    /// How far deletions may go.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn ceilings(&self) -> Result<Vec<ScopeCeiling>, ClientError> {
        self.send("listing ceilings", self.request(Method::GET, "/v1/ceilings")).await
    }

    /// Set a ceiling; all of them as they are then.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn set_ceiling(&self, body: &CeilingRequest) -> Result<Vec<ScopeCeiling>, ClientError> {
        self.post("setting a ceiling", "/v1/ceilings", body).await
    }

    /// Batches that exceed a budget.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn batches(&self) -> Result<Vec<BatchInfo>, ClientError> {
        self.send("listing batches", self.request(Method::GET, "/v1/batches")).await
    }

    /// One of them, with its members.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn batch(&self, batch: i64) -> Result<BatchDetails, ClientError> {
        self.send("reading a batch", self.request(Method::GET, &format!("/v1/batches/{batch}"))).await
    }

    /// Let a batch go.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn approve(&self, batch: i64, body: &ApproveRequest) -> Result<Approved, ClientError> {
        self.post("approving a batch", &format!("/v1/batches/{batch}/approve"), body).await
    }

    /// Overrides of the last week.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn overrides(&self) -> Result<Vec<OneShot>, ClientError> {
        self.send("listing overrides", self.request(Method::GET, "/v1/overrides")).await
    }

    /// Let one stage of one deletion pass one belt.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn override_belt(&self, body: &OverrideRequest) -> Result<OneShot, ClientError> {
        self.post("overriding a belt", "/v1/overrides", body).await
    }

    /// Take an override back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn take_back_override(&self, id: i64) -> Result<serde_json::Value, ClientError> {
        self.change("taking back an override", self.request(Method::DELETE, &format!("/v1/overrides/{id}")))
            .await
    }

    /// The last run of canaries.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn canaries(&self) -> Result<CanariesInfo, ClientError> {
        self.send("listing canaries", self.request(Method::GET, "/v1/canaries")).await
    }

    /// Have a run of canaries now; if the last one is still open, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn run_canaries(&self) -> Result<CanariesInfo, ClientError> {
        self.change("sending canaries", self.request(Method::POST, "/v1/canaries")).await
    }

    /// The last drill with each resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn drills(&self) -> Result<DrillsInfo, ClientError> {
        self.send("listing drills", self.request(Method::GET, "/v1/drills")).await
    }

    /// Have a drill with each resource now; of one that is not over, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn run_drills(&self) -> Result<DrillsInfo, ClientError> {
        self.change("beginning drills", self.request(Method::POST, "/v1/drills")).await
    }

    /// Hand in a census.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn census(&self, body: &CensusRequest) -> Result<CensusInfo, ClientError> {
        self.post("handing in a census", "/v1/censuses", body).await
    }

    /// Censuses that were believed, the newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn censuses(&self) -> Result<Vec<Taken>, ClientError> {
        self.send("listing censuses", self.request(Method::GET, "/v1/censuses")).await
    }

    /// What came last of each kind and scope, believed or refused.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn latest_censuses(&self) -> Result<Vec<Latest>, ClientError> {
        self.send("listing what came last of censuses", self.request(Method::GET, "/v1/censuses/latest"))
            .await
    }

    /// Whether the ledger has to be reviewed.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn review(&self) -> Result<ReviewInfo, ClientError> {
        self.send("reading the review", self.request(Method::GET, "/v1/review")).await
    }

    /// Accept the ledger as it is.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn accept_review(&self, body: &AcceptReview) -> Result<ReviewInfo, ClientError> {
        self.post("accepting the ledger", "/v1/review/accept", body).await
    }

    /// Check some chains of the audit trail.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditInfo, ClientError> {
        self.send("checking the audit trail", self.request(Method::GET, "/v1/audit").query(query)).await
    }

    /// What the job table holds for some events of the audit trail.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hashes(&self, body: &HashesQuery) -> Result<Hashes, ClientError> {
        self.ask("reading hashes of the audit trail", "/v1/audit/hashes", body).await
    }

    /// Issue a token.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn issue_token(&self, body: &TokenRequest) -> Result<Issued, ClientError> {
        self.post("issuing a token", "/v1/tokens", body).await
    }

    /// One page of tokens, by their names.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn tokens(&self, query: &TokenQuery) -> Result<Page<Token>, ClientError> {
        self.send("listing tokens", self.request(Method::GET, "/v1/tokens").query(query)).await
    }

    /// Take a token back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn revoke_token(&self, name: &Actor) -> Result<Token, ClientError> {
        self.change("revoking a token", self.request(Method::DELETE, &format!("/v1/tokens/{name}"))).await
    }

    /// Who one is.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.send("asking who one is", self.request(Method::GET, "/v1/whoami")).await
    }

    /// Tokens that were issued or revoked, and who was refused.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn access_events(&self, query: &AccessQuery) -> Result<AccessEvents, ClientError> {
        let request = self.request(Method::GET, "/v1/audit/access").query(query);
        self.send("reading who was refused", request).await
    }

    /// One page of alarms, newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn alarms(&self, query: &AlarmQuery) -> Result<Page<AlarmInfo>, ClientError> {
        self.send("listing alarms", self.request(Method::GET, "/v1/alarms").query(query)).await
    }

    /// Say that one has seen an alarm.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn acknowledge_alarm(&self, id: i64, reason: &str) -> Result<AlarmInfo, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("acknowledging an alarm", &format!("/v1/alarms/{id}/acknowledge"), &body).await
    }

    /// The digest as it would be now.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn digest(&self) -> Result<Digest, ClientError> {
        self.send("composing the digest", self.request(Method::GET, "/v1/digest")).await
    }

    /// How it is going.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn health(&self) -> Result<HealthInfo, ClientError> {
        self.send("reading the health", self.request(Method::GET, "/v1/health")).await
    }
}

fn problem_of(status: StatusCode, text: &str) -> Problem {
    Problem {
        status: status.as_u16(),
        title: status.canonical_reason().unwrap_or("error").to_owned(),
        detail: text.chars().take(500).collect(),
        field: None,
    }
}
