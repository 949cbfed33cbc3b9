//! Errors as RFC 9457 problems.
use axum::Json;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use sexton_api::{IDEMPOTENCY_KEY, Problem};
use sexton_ledger::{LedgerError, NotDone};
use sexton_model::belts::budget::{CannotApprove, CannotResume};
use sexton_model::belts::ceiling::CannotSet;
use sexton_model::belts::census::listing::NotTaken;
use sexton_model::belts::one_shot::CannotOverride;
use sexton_model::belts::resource_hold::CannotHold;
use sexton_model::decide::Refusal;
use sexton_model::deletion::CannotDelete;
use sexton_model::survey::CannotSurvey;

use super::{BODY_MAX_BYTES, REGISTER_MAX_BYTES};

/// Longest text of an error that becomes a problem's detail, in bytes.
const TEXT_MAX_BYTES: usize = 4096;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refused {
    problem: Box<Problem>,
    /// Whether it is so because of who asks, or of a belt: then it is written down.
    denied: bool,
    /// In how many seconds it may be asked again, if that is known.
    again_in_s: Option<u32>,
}

/// What an answer carries that refuses somebody: why.
#[derive(Debug, Clone)]
pub(super) struct Denial(pub(super) String);

impl Refused {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let problem = Box::new(Problem {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("error").to_owned(),
            detail: detail.into(),
            field: None,
        });
        Self { problem, denied: false, again_in_s: None }
    }

    /// Because of the key that it was sent under.
    pub(super) fn key(status: StatusCode, why: impl std::fmt::Display) -> Self {
        let mut refused = Self::new(status, format!("header {IDEMPOTENCY_KEY}: {why}"));
        refused.problem.field = Some(IDEMPOTENCY_KEY.to_owned());
        refused
    }

    /// In so many seconds it may be asked again.
    pub(super) fn again_in(self, seconds: u32) -> Self {
        Self { again_in_s: Some(seconds), ..self }
    }

    /// In other words: those for whoever may not know all of it.
    pub(super) fn in_words(mut self, detail: String) -> Self {
        self.problem.detail = detail;
        self
    }

    /// What is said, for whoever keeps it.
    pub(super) fn body(&self) -> String {
        serde_json::to_string(&self.problem).unwrap_or_default()
    }

    /// A field of the request is wrong.
    pub(super) fn field(field: &str, detail: impl Into<String>) -> Self {
        let mut refused = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        refused.problem.field = Some(field.to_owned());
        refused
    }

    /// Whoever asks may not.
    pub(super) fn denied(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, why.to_string()).noted()
    }

    /// Nobody is known by what was shown.
    pub(super) fn unknown(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, why.to_string()).noted()
    }

    /// To be written down.
    pub(super) fn noted(self) -> Self {
        Self { denied: true, ..self }
    }

    /// Whether it is answered with this status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.problem.status == status.as_u16()
    }

    /// There is no such thing.
    pub(super) fn absent(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { problem, denied, again_in_s } = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let denial = denied.then(|| Denial(problem.detail.clone()));
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = again_in_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(denial) = denial {
            response.extensions_mut().insert(denial);
        }
        response
    }
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        if matches!(error, LedgerError::Overtaken) {
            return Self::key(StatusCode::CONFLICT, error).again_in(1);
        }
        if let LedgerError::Pauses(why) = &error {
            let mut refused = Self::new(StatusCode::CONFLICT, why.to_string());
            refused.problem.field = Some("covers".to_owned());
            return refused;
        }
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, source, "a request could not be answered");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the job table did not answer, so whether this was done is not known: look, and try again if it was not",
        )
    }
}

impl From<NotDone> for Refused {
    fn from(why: NotDone) -> Self {
        let status = match &why {
            NotDone::NoSuchDeletion(_)
            | NotDone::NotRegistered(_)
            | NotDone::Approval(CannotApprove::NoSuchBatch(_)) => StatusCode::NOT_FOUND,
            NotDone::Approval(CannotApprove::Requested { .. })
            | NotDone::Resume(CannotResume::Requested { .. })
            | NotDone::Override(CannotOverride::Requested { .. })
            | NotDone::StaysInGroup { .. }
            | NotDone::Register(_)
            | NotDone::Refused(Refusal::Requested { .. }) => StatusCode::FORBIDDEN,
            NotDone::Survey(CannotSurvey::TooMany { .. } | CannotSurvey::TooOften)
            | NotDone::Taking(NotTaken::TooMany { .. }) => StatusCode::TOO_MANY_REQUESTS,
            NotDone::CannotDelete(_)
            | NotDone::NoClaim(_)
            | NotDone::Survey(CannotSurvey::Nothing(_))
            | NotDone::Ceiling(_)
            | NotDone::Census(_)
            | NotDone::Taking(
                NotTaken::NobodyLists(_) | NotTaken::NoInstance(_) | NotTaken::TooManyInstances { .. },
            )
            | NotDone::Hold(CannotHold::Reason)
            | NotDone::Override(CannotOverride::NotNeeded(_))
            | NotDone::Refused(Refusal::Missing(_) | Refusal::NoSuchHold(_)) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::CONFLICT,
        };
        let mut refused = Self::new(status, why.to_string());
        if matches!(why, NotDone::Refused(Refusal::OtherThings { .. })) {
            refused.problem.field = Some("mark".to_owned());
        }
        if by_a_belt(&why) { refused.noted() } else { refused }
    }
}

/// Whether a belt has refused it, or a rule about who decides what: that is written down. What is not there or over, was not
/// stated as it has to be, or may only be asked for later, is not.
pub(super) fn by_a_belt(why: &NotDone) -> bool {
    match why {
        NotDone::Refused(why) => decided_by_a_belt(why),
        NotDone::CannotDelete(why) => !matches!(why, CannotDelete::OtherKind { .. } | CannotDelete::Reason),
        NotDone::Approval(why) => !matches!(why, CannotApprove::NoSuchBatch(_)),
        NotDone::Resume(_) => true,
        NotDone::Override(why) => matches!(why, CannotOverride::Requested { .. }),
        NotDone::Survey(why) => matches!(why, CannotSurvey::Paused(_) | CannotSurvey::Review),
        NotDone::Taking(why) => !matches!(
            why,
            NotTaken::NobodyLists(_)
                | NotTaken::NoInstance(_)
                | NotTaken::TooManyInstances { .. }
                | NotTaken::Busy { .. }
                | NotTaken::TooMany { .. }
                | NotTaken::NoAnswer { .. }
                | NotTaken::Gone
                | NotTaken::Overtaken
        ),
        NotDone::Ceiling(why) => matches!(why, CannotSet::TooFar { .. }),
        NotDone::Census(_)
        | NotDone::AlreadyLive { .. }
        | NotDone::NameTaken { .. }
        | NotDone::OtherIdentity(_)
        | NotDone::StaysInScope { .. }
        | NotDone::StaysInGroup { .. }
        | NotDone::Register(_)
        | NotDone::Exclusive(_)
        | NotDone::Contested(_) => true,
        NotDone::NoSuchDeletion(_)
        | NotDone::Corrupt(..)
        | NotDone::NotRegistered(_)
        | NotDone::Hold(_)
        | NotDone::NoClaim(_)
        | NotDone::WithTheRest => false,
    }
}

/// The same of what the model has refused to decide.
fn decided_by_a_belt(why: &Refusal) -> bool {
    match why {
        Refusal::TooLate { .. }
        | Refusal::NoRescue(_)
        | Refusal::OrderMayRun(_)
        | Refusal::NameInUse(_)
        | Refusal::NotWaived
        | Refusal::Requested { .. }
        | Refusal::OtherThings { .. }
        | Refusal::StillTried(_)
        | Refusal::CameBack(_)
        | Refusal::UnderReview(_) => true,
        Refusal::NoSuchJob(_)
        | Refusal::Stale { .. }
        | Refusal::NeverGiven { .. }
        | Refusal::NotAsked { .. }
        | Refusal::NotInState { .. }
        | Refusal::NotYet(_)
        | Refusal::NoCredit(_)
        | Refusal::NotAdmitted(_)
        | Refusal::NotItsTurn(_)
        | Refusal::NotLive(_)
        | Refusal::NothingToPark
        | Refusal::NothingAppeared
        | Refusal::NothingToAcknowledge
        | Refusal::NothingBounced
        | Refusal::NotSentYet
        | Refusal::KnownToBeBack
        | Refusal::NothingParked
        | Refusal::NoSuchHold(_)
        | Refusal::TooManyHolds
        | Refusal::Missing(_) => false,
    }
}

/// A JSON body; an error names the field.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|e| {
            let status = e.status();
            let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
                format!(
                    "body: expected at most {BODY_MAX_BYTES} bytes, or {REGISTER_MAX_BYTES} to register resources"
                )
            } else {
                format!("body: {e}")
            };
            Refused::new(status, detail)
        })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            let detail = if field.is_empty() {
                format!("body: {}", error.inner())
            } else {
                format!("field {field}: {}", error.inner())
            };
            Refused::field(&field, detail)
        })?;
        json.end().map_err(|_| Refused::field("", "body: expected nothing after the JSON value"))?;
        Ok(Body(body))
    }
}

/// Every error is a problem, whoever found it: a path or a query that cannot be read, a method that does not exist
/// there, a request that took too long.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let problem = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    if problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, TEXT_MAX_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match text.trim() {
        "" => status.canonical_reason().unwrap_or("error"),
        text => text,
    };
    let mut problem = Refused::new(status, detail).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

#[cfg(test)]
mod tests;
