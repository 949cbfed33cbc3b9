//! The HTTP API. Thin: parse, ask the ledger or the engine, say it.
mod access;
mod alarms;
mod archived;
mod batches;
mod canaries;
mod cancellations;
mod censuses;
mod claims;
mod drills;
mod findings;
mod holds;
mod in_force;
mod once;
mod overrides;
mod problem;
mod receipts;
mod records;
mod rehearsal;
mod resources;
mod review;
mod surveys;
mod tokens;
mod views;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use secrecy::SecretString;
use sexton_api::{HealthInfo, REGISTER_MAX_BYTES};
use sexton_model::Actor;
use sexton_service::trace::SpanRef;
use sexton_service::wind_down;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::engine::Engine;
use crate::plans::Plans;
use access::{Asker, Guard};
use once::Once;
use problem::Refused;

/// Largest request body, in bytes.
const BODY_MAX_BYTES: usize = 8 << 20;
/// Longest wait at a stop until what was counted of refusals is written down, and what changes something is over whose caller has
/// hung up.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
/// Longest time a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the API needs.
pub struct Api {
    /// The engine whose decisions it asks for.
    pub engine: Arc<Engine>,
    /// Plans by kind.
    pub plans: Arc<Plans>,
    /// If set, every caller has to show it, or a token of the job table. Without one, listen on loopback only.
    pub token: Option<SecretString>,
}

type Shared = State<Arc<Api>>;

/// Answer until told to stop, and for a little longer what was asked by then: whoever sends half a request keeps nobody from
/// ending. What was counted of refusals is written down last. No change goes on when this has ended, or is dropped.
///
/// # Errors
/// If nothing can be accepted any more.
pub async fn serve(listener: TcpListener, api: Arc<Api>, stop: CancellationToken) -> std::io::Result<()> {
    if let Some(warning) = in_the_clear(listener.local_addr()?) {
        tracing::warn!("{warning}");
    }
    let guard = Guard::new(api.clone());
    let _all_ends_with_it = guard.ending();
    let routes = guarded(api, guard.clone());
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let served = wind_down(&stop, async { serving.await }).await;
    let written = tokio::time::timeout(WRITTEN_WITHIN, guard.finish());
    if written.await.is_err() {
        tracing::warn!(
            "somebody does not answer: what they were asked for by whoever has hung up ends where it stands; if it is the job \
             table, what was counted of refusals is not written down"
        );
    }
    served.transpose()?;
    Ok(())
}

/// What is wrong with an address that others reach: whoever reads along has each token that is shown there.
fn in_the_clear(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "the API listens on {address} and has no TLS: whoever reads along on the way there has the token_file's token and \
             everybody's. Let it listen on a loopback address, with token_file, behind something that speaks TLS, such as a \
             reverse proxy on this machine; or see to it that nobody reads along"
        )
    })
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    guarded(api.clone(), Guard::new(api))
}

fn guarded(api: Arc<Api>, guard: Guard) -> Router {
    let day = api.engine.ledger.day();
    Router::new()
        .route("/v1/resources", post(resources::register).layer(DefaultBodyLimit::max(REGISTER_MAX_BYTES)))
        .route("/v1/resources", get(resources::list))
        .route("/v1/resources/{kind}/{name}", get(resources::show))
        .route("/v1/resources/{kind}/{name}/priority", put(cancellations::prioritize))
        .route("/v1/cancellations", post(cancellations::cancel))
        .route("/v1/resources/{kind}/{name}/holds", post(holds::place).delete(holds::release_of))
        .route("/v1/resources/{kind}/{name}/holds/{hold}", delete(holds::release))
        .route("/v1/names/{kind}/{name}", get(resources::name))
        .route("/v1/deletions", get(records::list).post(records::create))
        .route("/v1/preview", post(records::preview))
        .route("/v1/surveys", post(surveys::begin))
        .route("/v1/surveys/{survey}", get(surveys::show))
        .route("/v1/deletions/{id}", get(records::show))
        .route("/v1/deletions/{kind}/{name}", get(records::show_of))
        .route("/v1/deletions/{id}/receipt", get(receipts::show))
        .route("/v1/deletions/{id}/cancel", post(records::cancel))
        .route("/v1/deletions/{id}/holds", post(records::hold))
        .route("/v1/deletions/{id}/holds/{hold}", delete(records::release))
        .route("/v1/deletions/{id}/park", post(records::park))
        .route("/v1/deletions/{id}/retry", post(records::retry))
        .route("/v1/deletions/{id}/waive", post(records::waive))
        .route("/v1/deletions/{id}/acknowledge", post(records::acknowledge))
        .route("/v1/deletions/{id}/bounced", post(records::bounced))
        .route("/v1/deletions/{id}/rescue", post(records::rescue))
        .route("/v1/archived", get(archived::list))
        .route("/v1/archived/{id}", get(archived::show))
        .route("/v1/archived/{kind}/{name}", get(archived::show_of))
        .route("/v1/alarms", get(alarms::list))
        .route("/v1/alarms/{id}/acknowledge", post(alarms::acknowledge))
        .route("/v1/digest", get(alarms::digest))
        .route("/v1/pauses", get(in_force::pauses).post(in_force::pause))
        .route("/v1/pauses/{pause}", delete(in_force::resume))
        .route("/v1/pauses/{pause}/stopped", get(in_force::stopped))
        .route("/v1/ceilings", get(in_force::ceilings).post(in_force::set_ceiling))
        .route("/v1/ceilings/stopped", get(in_force::stopped_below))
        .route("/v1/censuses", post(censuses::take).layer(DefaultBodyLimit::max(REGISTER_MAX_BYTES)))
        .route("/v1/censuses", get(censuses::list))
        .route("/v1/censuses/taken", post(censuses::take_itself))
        .route("/v1/censuses/latest", get(censuses::latest))
        .route("/v1/findings", get(findings::list))
        .route("/v1/overrides", get(overrides::list).post(overrides::give))
        .route("/v1/overrides/{id}", delete(overrides::take_back))
        .route("/v1/canaries", get(canaries::list).post(canaries::run))
        .route("/v1/drills", get(drills::list).post(drills::run))
        .route("/v1/batches", get(batches::list))
        .route("/v1/batches/{batch}", get(batches::show))
        .route("/v1/batches/{batch}/approve", post(batches::approve))
        .route("/v1/review", get(review::show))
        .route("/v1/review/accept", post(review::accept))
        .route("/v1/audit", get(review::audit))
        .route("/v1/audit/chains/{id}", get(review::chain))
        .route("/v1/audit/hashes", post(review::hashes))
        .route("/v1/audit/access", get(tokens::events))
        .route("/v1/tokens", get(tokens::list).post(tokens::issue))
        .route("/v1/tokens/{token}", delete(tokens::revoke))
        .route("/v1/whoami", get(tokens::whoami))
        .route("/v1/health", get(health))
        .route_layer(middleware::from_fn_with_state(api.clone(), once::once))
        .route_layer(middleware::from_fn_with_state(guard, access::guard))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "there is nothing at this address") })
        .with_state(api)
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, TIMEOUT))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::new())
        .layer(middleware::map_response(problem::as_problem))
        .layer(middleware::map_response_with_state(day, rehearsal::said))
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

/// Who asks, as the audit trail names them: the token's name, or what a trusted caller says in the header `sexton-actor`.
struct By(Actor);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        if let Some(Asker::Known(bearer)) = parts.extensions.get() {
            return Ok(Self(bearer.name.clone()));
        }
        let given = parts.headers.get("sexton-actor").and_then(|v| v.to_str().ok()).unwrap_or_default();
        given.parse().map(By).map_err(|e: sexton_model::InvalidId| {
            Refused::field("sexton-actor", format!("header sexton-actor: {e}"))
        })
    }
}

/// The caller's span, if the header `traceparent` names one and it is traced.
struct Caller(Option<SpanRef>);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let given = parts.headers.get("traceparent").and_then(|v| v.to_str().ok());
        Ok(Self(given.and_then(SpanRef::parse)))
    }
}

async fn ready(State(api): Shared) -> Result<&'static str, Refused> {
    api.engine.ledger.facts().await?;
    Ok("ready\n")
}

async fn health(State(api): Shared, asker: Asker) -> Result<Json<HealthInfo>, Refused> {
    let facts = api.engine.ledger.facts().await?;
    let health = api.engine.ledger.health().await?;
    let instances = api.engine.ledger.instances().await?;
    let ceilings = api.engine.ledger.ceilings().await?;
    let unserved = api.plans.unserved(api.engine.known());
    let batches = batches::waiting(&api, &asker).await?;
    let broken_glass = overrides::broken_glass(&api, &asker).await?;
    let said = (&ceilings, batches, broken_glass);
    let healthy = api.engine.ledger.healthy().await?;
    let mut info = views::health(&facts, health, said, &healthy, unserved, &api.engine, &instances);
    info.alarms = alarms::summary(&api, &asker).await?;
    info.canaries_off = canaries::off(&api);
    info.canaries = canaries::alarming(&api, &asker).await?;
    info.censuses_lack = censuses::missed(&api, &asker).await?;
    info.review = info.review.map(|open| review::told(open, &asker));
    info.pauses.retain(|pause| in_force::matters(&asker, pause.covers.scope.as_ref()));
    info.ceilings.retain(|ceiling| in_force::matters(&asker, ceiling.scope.as_ref()));
    Ok(Json(info))
}
