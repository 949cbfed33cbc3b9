//! Who asks, and whether they may: found out before any handler sees the request.
//!
//! Contract: whoever shows a token of the job table is that token's name, whatever else the request says, and does what
//! `sexton_model::access::may` lets it. What a request is about is known from its path ([`need`]), and is looked up here;
//! only what stands in a body is left to its handler, and what is listed is limited by it. What is of another scope answers
//! as if it were not there. What is gone by the very request that is sent again under its key is answered as then. A path that
//! [`need`] does not know is refused to every such token. While the job table is under review, a token may have been revoked in
//! what that has lost: then its bearer looks and stops, and nothing else.
//!
//! Whoever shows the configured token, or reaches a loopback address where none is configured, is trusted: it acts for
//! others, in the name that the header `sexton-actor` says. That is no name of a token: what somebody has done who has or had one
//! was done by whoever showed it. Nor is it that of what decides by itself: what that has done nobody has asked for.
mod need;
mod refusals;
mod tasks;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use sexton_ledger::LedgerError;
use sexton_model::access::{
    Bearer, Extent, PREFIX, Permission, Reach, decides_by_itself, may, may_unreviewed, token_hash,
};
use sexton_model::{Actor, ResourceId, Scope};
use tokio_util::sync::DropGuard;

use super::once::sent_before;
use super::overrides::scope_of_override;
use super::problem::Refused;
use super::receipts::is_a_kind;
use super::records::parse;
use super::resources::id_of;
use super::{Api, same};
use need::{Subject, need};
pub(super) use refusals::Noting;
use refusals::{Asked, NOBODY, Refusals, TRUSTED};

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    /// An admin of every scope, who acts for whoever is named in the header `sexton-actor`.
    Trusted,
    /// Whoever shows a token of the job table.
    Known(Arc<Bearer>),
}

impl Asker {
    /// Whether it may.
    ///
    /// # Errors
    /// A refusal that names what it takes, and is written down.
    pub(super) fn may(&self, what: Permission, reach: Reach<'_>) -> Result<(), Refused> {
        match self {
            Self::Trusted => Ok(()),
            Self::Known(bearer) => may(bearer, what, reach).map_err(Refused::denied),
        }
    }

    /// Which scopes it sees.
    pub(super) fn extent(&self) -> &Extent {
        match self {
            Self::Trusted => &Extent::Everywhere,
            Self::Known(bearer) => &bearer.extent,
        }
    }

    /// That it sees this resource.
    ///
    /// # Errors
    /// If the resource is of another scope or is not there, without saying which.
    pub(super) async fn sees(&self, api: &Api, resource: &ResourceId) -> Result<(), Refused> {
        let extent = self.extent();
        if extent.is_everywhere() {
            return Ok(());
        }
        let view = api.engine.ledger.resource(resource).await?;
        hidden(extent, view.map(|view| view.resource.scope).as_ref(), resource)
    }
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let asker = parts.extensions.get::<Self>().cloned();
        asker.ok_or_else(|| {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect: nobody looked who asks")
        })
    }
}

/// What the guard needs.
#[derive(Clone)]
pub(super) struct Guard {
    api: Arc<Api>,
    refusals: Arc<Refusals>,
}

impl Guard {
    pub(super) fn new(api: Arc<Api>) -> Self {
        let refusals = Arc::new(Refusals::new(api.engine.ledger.clone()));
        Self { api, refusals }
    }

    /// Nobody asks any more: what is only counted yet is written down, and what is worked on though its caller has hung up is
    /// over.
    pub(super) async fn finish(&self) {
        self.refusals.finish().await;
    }

    /// What goes on beside the connections ends when this is dropped.
    pub(super) fn ending(&self) -> DropGuard {
        self.refusals.ending()
    }

    fn noting(&self, by: String, asked: Asked) -> Noting {
        Noting::new(self.refusals.clone(), by, asked)
    }
}

/// Let a request through, or refuse it and write that down. What a handler refuses of what only looks is written down here, too;
/// of what changes something it is by whoever works on it ([`super::once`]).
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    let (mut parts, body) = request.into_parts();
    let (noting, mut answer) = match identify(&guard.api, &parts.headers).await {
        Err((by, refused)) => (guard.noting(by, asked), refused.into_response()),
        Ok(asker) => {
            let permitted = permitted(&guard.api, &asker, &mut parts).await;
            let by = match &asker {
                Asker::Known(bearer) => bearer.name.to_string(),
                // Not the name that was said: who has it did not ask.
                Asker::Trusted if permitted.is_err() => TRUSTED.to_owned(),
                Asker::Trusted => acting_for(&parts.headers),
            };
            let noting = guard.noting(by, asked);
            parts.extensions.insert(asker);
            parts.extensions.insert(noting.clone());
            let request = Request::from_parts(parts, body);
            let answer = match permitted {
                Ok(()) => next.run(request).await,
                Err(Not::Ever(refused)) => refused.into_response(),
                Err(Not::Anymore(refused)) => match sent_before(&guard.api, request).await {
                    Ok(Some(request)) => next.run(request).await,
                    Ok(None) => refused.into_response(),
                    Err(error) => Refused::from(error).into_response(),
                },
            };
            (noting, answer)
        }
    };
    noting.note(&mut answer).await;
    answer
}

/// In whose name somebody trusted asks; nobody's, if it names none. An ordinary name is not [`NOBODY`].
fn acting_for(headers: &HeaderMap) -> String {
    named_by(headers).map_or_else(|| NOBODY.to_owned(), |actor| actor.to_string())
}

/// The name that somebody trusted says, if it is one.
fn named_by(headers: &HeaderMap) -> Option<Actor> {
    headers.get("sexton-actor").and_then(|name| name.to_str().ok()?.parse().ok())
}

/// That whoever is trusted changes nothing in the name of somebody who has or had a token, or of what decides by itself: the audit
/// trail has the name alone, and under that name what was done by whoever showed it, or without being asked.
async fn is_no_tokens_name(api: &Api, parts: &Parts) -> Result<(), Refused> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if !changes(&parts.method, path) {
        return Ok(());
    }
    // What is no name is refused by who needs one.
    let Some(actor) = named_by(&parts.headers) else { return Ok(()) };
    if decides_by_itself(&actor) {
        return Err(Refused::denied(format_args!(
            "{actor} is the name of what decides by itself, and nobody acts as {actor}: name somebody else in the header \
             sexton-actor (sexton: --actor)"
        )));
    }
    match api.engine.ledger.token_of(&actor).await? {
        Some(_) => Err(Refused::denied(format_args!(
            "{actor} is the name of a token, and only who shows it acts as {actor}: show it, or name somebody else in the \
             header sexton-actor (sexton: --actor)"
        ))),
        None => Ok(()),
    }
}

/// Who asks; or whose token it is that is good for nothing, and the answer to that.
async fn identify(api: &Api, headers: &HeaderMap) -> Result<Asker, (String, Refused)> {
    let unknown = |refused: Refused| (NOBODY.to_owned(), refused);
    let given = headers.get(header::AUTHORIZATION).map(|v| v.to_str().ok());
    let Some(given) = given else {
        if api.token.is_some() {
            let why = "expected the header Authorization: Bearer TOKEN";
            return Err(unknown(Refused::unknown(why)));
        }
        // Whoever reaches a loopback address may speak; a browser does so for any page whose name leads to it.
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !names_this_machine(host) {
            let why = "without a token this API answers under a loopback address or localhost only: see the header Host";
            return Err(unknown(Refused::new(StatusCode::MISDIRECTED_REQUEST, why).noted()));
        }
        return Ok(Asker::Trusted);
    };
    let text = given.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
    if api.token.as_ref().is_some_and(|token| same(text.as_bytes(), token.expose_secret().as_bytes())) {
        return Ok(Asker::Trusted);
    }
    let ledger = &api.engine.ledger;
    // Found by its hash, so how long it takes says nothing about the secrets that are there.
    let token = match text.starts_with(PREFIX) {
        true => ledger.token(&token_hash(text)).await.map_err(|e| unknown(e.into()))?,
        false => None,
    };
    let Some(token) = token else {
        let why = "expected the header Authorization: Bearer TOKEN; nobody knows the token that was sent";
        return Err(unknown(Refused::unknown(why)));
    };
    let name = token.name.to_string();
    let now = ledger.facts().await.map_err(|e| unknown(e.into()))?.now;
    let bearer = token.bearer(now).map_err(|why| (name.clone(), Refused::unknown(why)))?;
    if let Some(said) = headers.get("sexton-actor")
        && said.as_bytes() != name.as_bytes()
    {
        let why = format!("the token is that of {name}, so the header sexton-actor may name nobody else");
        return Err((name, Refused::denied(why)));
    }
    Ok(Asker::Known(Arc::new(bearer)))
}

fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a request changes something.
pub(super) fn changes(method: &Method, path: &str) -> bool {
    let looks = matches!(need(method, path), Some((Permission::See | Permission::SeeAll, _)));
    !looks && *method != Method::GET && *method != Method::HEAD
}

/// Why it may not ask so.
enum Not {
    /// Whatever it has done before.
    Ever(Refused),
    /// What it is about is not there. It may have been, and have gone by this very request: then that is answered as before.
    Anymore(Refused),
}

impl From<Refused> for Not {
    fn from(refused: Refused) -> Self {
        Self::Ever(refused)
    }
}

impl From<LedgerError> for Not {
    fn from(error: LedgerError) -> Self {
        Self::Ever(error.into())
    }
}

/// Whether it may ask so, as far as the path says.
async fn permitted(api: &Api, asker: &Asker, parts: &mut Parts) -> Result<(), Not> {
    let Asker::Known(bearer) = asker else { return Ok(is_no_tokens_name(api, parts).await?) };
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let Some((what, of)) = need(&parts.method, path) else {
        return Err(Refused::denied("no token may do this").into());
    };
    let named = Named::read(parts).await;
    let (what, gone) = own(api, bearer, what, &named).await?;
    if let Err(denied) = may_unreviewed(bearer, what)
        && api.engine.ledger.review().await?.is_some()
    {
        // What no token may at any time says so.
        asker.may(what, Reach::Filtered)?;
        return Err(Refused::denied(denied).into());
    }
    if of == Subject::Everything {
        return Ok(asker.may(what, Reach::Everything)?);
    }
    if let Err(refused) = asker.may(what, Reach::Filtered) {
        // Of another scope it is told nothing, not even what is gone there.
        let gone = gone && !matches!(inside(api, asker, (what, of), &named).await, Err(Not::Ever(_)));
        return Err(if gone { Not::Anymore(refused) } else { Not::Ever(refused) });
    }
    inside(api, asker, (what, of), &named).await
}

/// Whether what the path names is inside of what it is limited to.
async fn inside(
    api: &Api,
    asker: &Asker,
    (what, of): (Permission, Subject),
    named: &Named,
) -> Result<(), Not> {
    let extent = asker.extent();
    if extent.is_everywhere() {
        return Ok(());
    }
    match of {
        Subject::Everything | Subject::Handled => Ok(()),
        // Of what is called so the latest record is shown.
        Subject::Receipt if is_a_kind(api, named.get("id")) => {
            latest_of(api, extent, (named.get("id"), "receipt")).await
        }
        Subject::Deletion | Subject::Receipt => {
            let Ok(id) = parse(api, named.get("id")) else { return Ok(()) };
            let view = api.engine.ledger.deletion(id).await?;
            there(extent, view.map(|view| view.deletion.record.resource.scope.clone()).as_ref(), &id)
        }
        Subject::DeletionOf => latest_of(api, extent, (named.get("kind"), named.get("name"))).await,
        Subject::Resource => match id_of(named.get("kind"), named.get("name")) {
            // What was registered is not forgotten.
            Ok(resource) => Ok(asker.sees(api, &resource).await?),
            Err(_) => Ok(()),
        },
        Subject::Pause => {
            let Ok(id) = named.get("pause").parse::<i64>() else { return Ok(()) };
            let pauses = api.engine.ledger.pauses().await?;
            let pause = pauses.into_iter().find(|pause| pause.id == id);
            match pause.map(|pause| pause.covers.scope) {
                // It matters here, and so it is shown; whoever is limited does not lift it.
                Some(None) => Ok(asker.may(what, Reach::Everything)?),
                Some(Some(scope)) if extent.meets(&scope) => Ok(asker.may(what, Reach::Scope(&scope))?),
                Some(Some(scope)) => there(extent, Some(&scope), &format!("pause {id}")),
                None => there(extent, None, &format!("pause {id}")),
            }
        }
        Subject::Alarm => {
            let Ok(id) = named.get("id").parse::<i64>() else { return Ok(()) };
            let view = api.engine.ledger.alarm(id).await?;
            let what = format!("alarm {id}");
            match view.map(|view| view.standing.alarm.scope) {
                // It is of no scope, and shown to nobody who is limited to some.
                Some(None) => Err(Refused::absent(format_args!("{what} within {extent}")).noted().into()),
                Some(Some(scope)) => there(extent, Some(&scope), &what),
                None => there(extent, None, &what),
            }
        }
        Subject::Survey => {
            let Ok(id) = named.get("survey").parse::<i64>() else { return Ok(()) };
            let survey = api.engine.ledger.survey(id).await?;
            let scope = survey.map(|survey| survey.about.resource.scope);
            there(extent, scope.as_ref(), &format!("survey {id}"))
        }
        Subject::Override => {
            let Ok(id) = named.get("id").parse::<i64>() else { return Ok(()) };
            let scope = scope_of_override(api, id).await?;
            there(extent, scope.as_ref(), &format!("override {id}"))
        }
        Subject::Batch => {
            let Ok(id) = named.get("batch").parse::<i64>() else { return Ok(()) };
            let view = api.engine.ledger.batch(id).await?;
            there(extent, view.map(|view| view.row.group.scope).as_ref(), &format!("batch {id} that waits"))
        }
    }
}

/// Whether the latest record of what is called so is inside.
async fn latest_of(api: &Api, extent: &Extent, (kind, name): (&str, &str)) -> Result<(), Not> {
    let Ok(resource) = id_of(kind, name) else { return Ok(()) };
    let record = api.engine.ledger.deletion_of(&resource).await?;
    let view = match record {
        Some(id) => api.engine.ledger.deletion(id).await?,
        None => None,
    };
    let scope = view.map(|view| view.deletion.record.resource.scope.clone());
    there(extent, scope.as_ref(), &format!("deletion record of {resource}"))
}

/// [`hidden`], where it may have been there.
fn there(extent: &Extent, scope: Option<&Scope>, what: &impl std::fmt::Display) -> Result<(), Not> {
    hidden(extent, scope, what).map_err(|refused| match scope {
        Some(_) => Not::Ever(refused),
        None => Not::Anymore(refused),
    })
}

/// The same answer for what is of another scope and for what is not there. Only the first is a refusal to be written down.
pub(super) fn hidden(
    extent: &Extent,
    scope: Option<&Scope>,
    what: &impl std::fmt::Display,
) -> Result<(), Refused> {
    let absent = Refused::absent(format_args!("{what} within {extent}"));
    match scope {
        Some(scope) if extent.contains(scope) => Ok(()),
        Some(_) => Err(absent.noted()),
        None => Err(absent),
    }
}

/// What it is to somebody whose role is too low for what others have asked for, if it is its own; and whether nobody knows any
/// more whose it is, since it is gone.
async fn own(
    api: &Api,
    bearer: &Bearer,
    what: Permission,
    named: &Named,
) -> Result<(Permission, bool), Refused> {
    let less = match what {
        Permission::Cancel => Permission::CancelOwn,
        Permission::Release => Permission::ReleaseOwn,
        _ => return Ok((what, false)),
    };
    if bearer.role >= what.needs() {
        return Ok((what, false));
    }
    let Ok(id) = parse(api, named.get("id")) else { return Ok((what, false)) };
    let Some(view) = api.engine.ledger.deletion(id).await? else { return Ok((what, true)) };
    let whose: Option<&Actor> = match what {
        Permission::Release => {
            let hold = named.get("hold").parse::<i64>().ok();
            view.deletion.holds.iter().find(|h| Some(h.id) == hold).map(|h| &h.origin)
        }
        _ => Some(&view.deletion.record.requested_by),
    };
    Ok(if whose == Some(&bearer.name) { (less, false) } else { (what, whose.is_none()) })
}

/// What the path names.
struct Named(Vec<(String, String)>);

impl Named {
    async fn read(parts: &mut Parts) -> Self {
        // What cannot be read names nothing, and its handler says so.
        let params = RawPathParams::from_request_parts(parts, &()).await;
        let named = params.map(|params| params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        Self(named.unwrap_or_default())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_this_machine() {
        for host in ["127.0.0.1:8080", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8080"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "",
            "x",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1:8080",
            "[::2]:1",
            "127.0.0.1.evil.example",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
