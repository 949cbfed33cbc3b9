//! Requests that change something are done to their end, and once if they are sent under a key.
//!
//! Contract: behind the guard and before the handlers. What changes something is worked on whether or not its caller still waits,
//! as soon as all of it is there, and what it is refused is noted ([`Noting`]) before anybody is told. A request with the header
//! `Idempotency-Key` holds that key meanwhile; its answer is kept, once what it refuses is noted, and given again to whoever sends
//! the same request under the same key. What makes it one change at whatever moment a process dies is the job table's: handlers
//! make their change by the handle of [`Once`], whose transaction notes at the key what it did; if that is noted already,
//! they change nothing and answer from it. What handlers do without a note ([`super::cancellations`], [`super::drills`]) may
//! be repeated.
//!
//! What is about something that is not there comes this far only if it was sent before ([`sent_before`]): it may be gone by that
//! very request. Nothing begins by it then.
//!
//! What changes nothing takes no key: the header is not looked at.
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sexton_api::IDEMPOTENCY_KEY;
use sexton_ledger::{Held, Ledger, LedgerError, Note};
use sexton_model::Timestamp;
use sexton_model::request_key::{
    ANSWER_MAX_BYTES, Attempt, KEYS_MAX, KeptAnswer, Keyed, RequestKey, is_remembered, request_hash,
};
use tokio::sync::OwnedSemaphorePermit;

use super::access::{Asker, Noting, changes};
use super::problem::{Refused, as_problem};
use super::{Api, By, REGISTER_MAX_BYTES, Shared};

/// Says of an answer that it was given before.
const REPLAYED: &str = "idempotent-replayed";

/// When somebody may ask again whose request is still worked on, in seconds.
const SOON_S: u32 = 1;

/// What the change of a request is made by.
#[derive(Clone)]
pub(super) struct Once {
    /// The job table: for the one change.
    pub(super) ledger: Arc<dyn Ledger>,
    attempt: Option<Attempt>,
    note: Option<Note>,
}

impl Once {
    /// What an attempt before this one has changed, if it has: then nothing is to be changed any more, nor refused.
    ///
    /// # Errors
    /// If another change is noted than this request can make.
    pub(super) fn noted<T>(&self, of: impl FnOnce(Note) -> Option<T>) -> Result<Option<T>, Refused> {
        let Some(note) = self.note.clone() else { return Ok(None) };
        let wrong = || {
            let why = "a defect: something else is noted at this key";
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        };
        of(note).ok_or_else(wrong).map(Some)
    }

    /// When this request was first sent, if it has a key: what was made since is not what it is about.
    pub(super) fn first_sent(&self) -> Option<Timestamp> {
        self.attempt.as_ref().map(|attempt| attempt.first_sent)
    }
}

impl FromRequestParts<Arc<Api>> for Once {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        let held = parts.extensions.get::<Self>().cloned();
        Ok(held.unwrap_or_else(|| Self { ledger: api.engine.ledger.clone(), attempt: None, note: None }))
    }
}

/// What is kept instead of an answer that nobody may read again.
#[derive(Debug, Clone)]
pub(super) struct KeptInstead(pub(super) KeptAnswer);

/// Do it to its end, once if it has a key, or answer as before.
pub(super) async fn once(State(api): Shared, mut request: Request, next: Next) -> Response {
    let given = match key(request.headers()) {
        Ok(given) => given,
        Err(refused) => return refused.into_response(),
    };
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if !changes(request.method(), path) {
        return next.run(request).await;
    }
    let Some(noting) = request.extensions_mut().remove::<Noting>() else {
        let why = "a defect: nobody writes down what is refused";
        return Refused::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
    };
    let done = match given {
        Some(key) => keyed(&api, (key, noting), request, next).await,
        None => keyless(api, noting, request, next).await,
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

/// The key that a request was sent under.
fn key(headers: &HeaderMap) -> Result<Option<RequestKey>, Refused> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(wrong("given more than once"));
    }
    let text = first.to_str().unwrap_or_default();
    text.parse().map(Some).map_err(wrong)
}

fn wrong(why: impl std::fmt::Display) -> Refused {
    Refused::field(IDEMPOTENCY_KEY, format!("header {IDEMPOTENCY_KEY}: {why}"))
}

/// Says of a request that nothing may begin by it: what it is about is not there, so nobody has looked whether it may.
#[derive(Debug, Clone, Copy)]
struct BeginsNothing;

/// The same request, to be let through although what it is about is not there: if it was sent before under its key, and so is
/// answered as then, or from what it has changed, or told that it is worked on. Its sender is known to it.
///
/// # Errors
/// If the job table cannot be read.
pub(super) async fn sent_before(api: &Arc<Api>, request: Request) -> Result<Option<Request>, LedgerError> {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let changes = changes(request.method(), path);
    // Whoever sends what is none learns no more by it than that nothing is there.
    let Some(key) = key(request.headers()).ok().flatten().filter(|_| changes) else { return Ok(None) };
    let Ok((keyed, (mut parts, body))) = asked(api, key, request).await else { return Ok(None) };
    if !api.engine.ledger.sent_before(&keyed).await? {
        return Ok(None);
    }
    parts.extensions.insert(BeginsNothing);
    Ok(Some(Request::from_parts(parts, Body::from(body))))
}

/// What is asked for under a key, and by whom.
async fn asked(
    api: &Arc<Api>,
    key: RequestKey,
    request: Request,
) -> Result<(Keyed, (Parts, Bytes)), Refused> {
    let (mut parts, body) = request.into_parts();
    let By(actor) = By::from_request_parts(&mut parts, api).await?;
    // Somebody of the same name whom the configured token speaks for may be somebody else.
    let who: &[u8] = match parts.extensions.get() {
        Some(Asker::Known(_)) => b"token",
        Some(Asker::Trusted) | None => b"trusted",
    };
    let body = whole(body).await?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let request = request_hash(&[who, parts.method.as_str().as_bytes(), target.as_bytes(), &body]);
    Ok((Keyed { actor, key, request }, (parts, body)))
}

/// All of a body.
async fn whole(body: Body) -> Result<Bytes, Refused> {
    to_bytes(body, REGISTER_MAX_BYTES).await.map_err(|e| {
        let detail = format!("body: expected at most {REGISTER_MAX_BYTES} bytes: {e}");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })
}

/// What has no key is done as often as it is sent. Its body is read first: whoever sends half of one hangs up on nothing that has
/// begun.
async fn keyless(api: Arc<Api>, noting: Noting, request: Request, next: Next) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let body = whole(body).await?;
    let room = noting.room().await;
    Ok(work(api, None, (noting, room), (parts, body), next).await)
}

async fn keyed(
    api: &Arc<Api>,
    (key, noting): (RequestKey, Noting),
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    let (keyed, (mut parts, body)) = asked(api, key, request).await?;
    let begins_nothing = parts.extensions.remove::<BeginsNothing>().is_some();
    // Before the key is held: nobody holds it and waits.
    let room = noting.room().await;
    match api.engine.ledger.hold_key(keyed).await? {
        Held::By(attempt, None) if begins_nothing => {
            // What was there under the key is over or forgotten since it was looked for.
            api.engine.ledger.let_go(&attempt).await?;
            let why = "nothing came of the same request under this key";
            Err(Refused::key(StatusCode::CONFLICT, why).again_in(SOON_S))
        }
        Held::By(attempt, note) => {
            let held = Some((attempt, note));
            Ok(work(api.clone(), held, (noting, room), (parts, body), next).await)
        }
        Held::Answered(answer) => Ok(again(answer)),
        Held::Busy => {
            let why = "the same request is worked on under this key";
            Err(Refused::key(StatusCode::CONFLICT, why).again_in(SOON_S))
        }
        Held::Other => Err(wrong("another request was sent under this key: give each its own")),
        Held::TooMany => {
            let why = format!("as many as {KEYS_MAX} requests were sent under keys within seven days");
            Err(Refused::key(StatusCode::TOO_MANY_REQUESTS, why))
        }
    }
}

/// A task of its own: what was begun is ended, what is refused is noted, and the answer kept if there is a key, also if the caller
/// has hung up.
async fn work(
    api: Arc<Api>,
    held: Option<(Attempt, Option<Note>)>,
    (noting, room): (Noting, Option<OwnedSemaphorePermit>),
    (mut parts, body): (Parts, Bytes),
    next: Next,
) -> Response {
    let attempt = held.map(|(attempt, note)| {
        let ledger = api.engine.ledger.under(attempt.clone());
        parts.extensions.insert(Once { ledger, attempt: Some(attempt.clone()), note });
        attempt
    });
    let request = Request::from_parts(parts, Body::from(body));
    let tasks = noting.clone();
    let working = tasks.spawn(async move {
        let mut answer = as_problem(next.run(request).await).await;
        // Nobody is told of what would be forgotten if this process died and the job table went back.
        api.engine.noted();
        // First: whoever is given again what is kept is not refused once more.
        let noted = noting.note(&mut answer).await;
        let answer = match attempt {
            Some(attempt) => kept(&api, &attempt, (answer, noted)).await,
            None => answer,
        };
        drop(room);
        answer
    });
    match working.await {
        Ok(Some(answer)) => answer,
        // Whoever is told so tries again, as after a connection that is lost.
        Ok(None) => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "this coordinator was told to stop, so whether this was done is not known: look, and try again if it was not",
        )
        .into_response(),
        Err(_) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect: see the log").into_response(),
    }
}

/// The answer, once it is kept. That it could not be kept changes nothing: what was done is noted at the key. It is not kept if
/// what it refuses is noted nowhere: then the next attempt is refused anew.
async fn kept(api: &Api, attempt: &Attempt, (answer, noted): (Response, bool)) -> Response {
    let status = answer.status().as_u16();
    let instead: Option<KeptInstead> = answer.extensions().get().cloned();
    let (parts, body) = answer.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect: an answer without an end")
            .into_response();
    };
    let ledger = &api.engine.ledger;
    let text = std::str::from_utf8(&body).ok().filter(|text| text.len() <= ANSWER_MAX_BYTES);
    let keep = text.filter(|_| noted && is_remembered(status)).map(|text| match instead {
        Some(KeptInstead(answer)) => answer,
        None => KeptAnswer { status, body: text.to_owned() },
    });
    let done = match keep {
        Some(keep) => ledger.keep_answer(attempt, keep).await.map(drop),
        None => ledger.let_go(attempt).await,
    };
    if let Err(error) = done {
        tracing::warn!(%error, key = %attempt.key, "the answer to a request is not kept");
    }
    Response::from_parts(parts, Body::from(body))
}

/// The answer of before.
fn again(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = (status, [(header::CONTENT_TYPE, kind)], answer.body).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
