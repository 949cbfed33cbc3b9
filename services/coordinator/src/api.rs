//! The HTTP API. Thin: parse, ask the ledger or the engine, say it.
mod archived;
mod batches;
mod in_force;
mod problem;
mod records;
mod resources;
mod review;
mod views;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use sexton_api::HealthInfo;
use sexton_model::Actor;
use sexton_service::trace::SpanRef;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::engine::Engine;
use crate::plans::Plans;
use problem::Refused;

/// Largest request body, in bytes.
const BODY_MAX_BYTES: usize = 8 << 20;
/// Largest body that registers resources, in bytes: ten thousand with generous attributes.
const REGISTER_MAX_BYTES: usize = 32 << 20;
/// Longest time a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the API needs.
pub struct Api {
    /// The engine whose decisions it asks for.
    pub engine: Arc<Engine>,
    /// Plans by kind.
    pub plans: Arc<Plans>,
    /// Demanded of every caller, if set. Without one, listen on loopback only.
    pub token: Option<SecretString>,
}

type Shared = State<Arc<Api>>;

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/resources", post(resources::register).layer(DefaultBodyLimit::max(REGISTER_MAX_BYTES)))
        .route("/v1/resources", get(resources::list))
        .route("/v1/resources/{kind}/{name}", get(resources::show))
        .route("/v1/names/{kind}/{name}", get(resources::name))
        .route("/v1/deletions", get(records::list).post(records::create))
        .route("/v1/preview", post(records::preview))
        .route("/v1/deletions/{id}", get(records::show))
        .route("/v1/deletions/{kind}/{name}", get(records::show_of))
        .route("/v1/deletions/{id}/cancel", post(records::cancel))
        .route("/v1/deletions/{id}/holds", post(records::hold))
        .route("/v1/deletions/{id}/holds/{hold}", delete(records::release))
        .route("/v1/deletions/{id}/park", post(records::park))
        .route("/v1/deletions/{id}/retry", post(records::retry))
        .route("/v1/deletions/{id}/waive", post(records::waive))
        .route("/v1/deletions/{id}/acknowledge", post(records::acknowledge))
        .route("/v1/deletions/{id}/rescue", post(records::rescue))
        .route("/v1/archived", get(archived::list))
        .route("/v1/archived/{id}", get(archived::show))
        .route("/v1/archived/{kind}/{name}", get(archived::show_of))
        .route("/v1/pauses", get(in_force::pauses).post(in_force::pause))
        .route("/v1/pauses/{pause}", delete(in_force::resume))
        .route("/v1/pauses/{pause}/stopped", get(in_force::stopped))
        .route("/v1/ceilings", get(in_force::ceilings).post(in_force::set_ceiling))
        .route("/v1/batches", get(batches::list))
        .route("/v1/batches/{batch}", get(batches::show))
        .route("/v1/batches/{batch}/approve", post(batches::approve))
        .route("/v1/review", get(review::show))
        .route("/v1/review/accept", post(review::accept))
        .route("/v1/audit", get(review::audit))
        .route("/v1/audit/hashes", post(review::hashes))
        .route("/v1/health", get(health))
        .route_layer(middleware::from_fn_with_state(api.clone(), authenticate))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "there is nothing at this address") })
        .with_state(api)
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, TIMEOUT))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::new())
        .layer(middleware::map_response(problem::as_problem))
}

async fn authenticate(State(api): Shared, request: Request, next: Next) -> Result<Response, Refused> {
    let Some(token) = &api.token else {
        // Whoever reaches a loopback address may speak; a browser does so for any page whose name leads to it.
        let host = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !names_this_machine(host) {
            let why = "without a token this API answers under a loopback address or localhost only: see the header Host";
            return Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, why));
        }
        return Ok(next.run(request).await);
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = given.and_then(|v| v.strip_prefix("Bearer "));
    if !given.is_some_and(|g| same(g.as_bytes(), token.expose_secret().as_bytes())) {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "expected the header Authorization: Bearer TOKEN",
        ));
    }
    Ok(next.run(request).await)
}

fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

/// Who asks: the header `sexton-actor`, which the audit trail names.
struct By(Actor);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
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

async fn health(State(api): Shared) -> Result<Json<HealthInfo>, Refused> {
    let facts = api.engine.ledger.facts().await?;
    let health = api.engine.ledger.health().await?;
    let instances = api.engine.ledger.instances().await?;
    let ceilings = api.engine.ledger.ceilings().await?;
    let unserved = api.plans.unserved(api.engine.known());
    let batches = batches::waiting(&api).await?;
    Ok(Json(views::health(&facts, health, (&ceilings, batches), unserved, &api.engine, &instances)))
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
