//! Tokens: issued, listed, revoked. And what is written down of them and of refusals.
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ring::rand::{SecureRandom, SystemRandom};
use sexton_api::{AccessEvent, AccessEvents, AccessQuery, Issued, Page, TokenQuery, TokenRequest, WhoAmI};
use sexton_ledger::{ACCESS_MAX, Note, Revocation};
use sexton_model::Actor;
use sexton_model::access::{
    CannotIssue, DAY_S, DAYS_DEFAULT, Extent, NewToken, Role, SECRET_BYTES, Token, token_hash, token_text,
};
use sexton_model::request_key::KeptAnswer;

use super::once::KeptInstead;
use super::problem::{Body, Refused};
use super::{Asker, By, Once, Shared};

/// Its secret is shown once: what is kept of the answer is that it was.
pub(super) async fn issue(
    By(by): By,
    once: Once,
    Body(body): Body<TokenRequest>,
) -> Result<(StatusCode, Extension<KeptInstead>, Json<Issued>), Refused> {
    if let Some(name) =
        once.noted(|note| if let Note::TokenIssued(name) = note { Some(name) } else { None })?
    {
        return Err(shown(&name));
    }
    let TokenRequest { name, role, scopes, everywhere, good_for_s } = body;
    // Whoever forgets the scopes must not have meant all of them.
    if scopes.is_empty() != everywhere {
        let detail = "scopes: expected at least one, or everywhere = true, and not both";
        return Err(Refused::field("scopes", detail));
    }
    let extent = if everywhere { Extent::Everywhere } else { Extent::Scopes(scopes.into_iter().collect()) };
    let mut random = [0; SECRET_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the system gives no random bytes"))?;
    let secret = token_text(&random);
    let new = NewToken { name, role, extent, good_for_s: good_for_s.unwrap_or(DAYS_DEFAULT * DAY_S), by };
    let token = once.ledger.issue_token(new, token_hash(&secret)).await?.map_err(refused)?;
    tracing::info!(name = %token.name, role = %token.role, by = %token.created_by, "a token is issued");
    let shown = shown(&token.name);
    let status = StatusCode::CONFLICT.as_u16();
    let instead = KeptInstead(KeptAnswer { status, body: shown.body() });
    Ok((StatusCode::CREATED, Extension(instead), Json(Issued { token, secret })))
}

/// What somebody is told who asks again for what is shown once.
fn shown(name: &Actor) -> Refused {
    let why = format!(
        "the token {name} was issued under this key, and its secret was in that answer alone: if it was lost, revoke \
         the token and issue another one, of another name"
    );
    Refused::key(StatusCode::CONFLICT, why)
}

fn refused(why: CannotIssue) -> Refused {
    let detail = why.to_string();
    match why {
        CannotIssue::Name(_) => Refused::field("name", detail),
        CannotIssue::Scopes(_) => Refused::field("scopes", detail),
        CannotIssue::Lifetime(_) => Refused::field("good_for_s", detail),
        CannotIssue::Taken(_) | CannotIssue::TooMany => Refused::new(StatusCode::CONFLICT, detail),
    }
}

pub(super) async fn list(
    State(api): Shared,
    Query(query): Query<TokenQuery>,
) -> Result<Json<Page<Token>>, Refused> {
    let items = api.engine.ledger.tokens(query.after.as_ref(), ACCESS_MAX).await?;
    let full = items.len() >= ACCESS_MAX as usize;
    let next = items.last().filter(|_| full).map(|token| token.name.to_string());
    Ok(Json(Page { items, next }))
}

pub(super) async fn revoke(
    By(by): By,
    once: Once,
    Path(token): Path<String>,
) -> Result<Json<Token>, Refused> {
    let name: Actor =
        token.parse().map_err(|e: sexton_model::InvalidId| Refused::field("token", format!("token: {e}")))?;
    if let Some(token) =
        once.noted(|note| if let Note::TokenRevoked(token) = note { Some(token) } else { None })?
    {
        return Ok(Json(*token));
    }
    match once.ledger.revoke_token(&name, &by).await? {
        Revocation::Done(token) => {
            tracing::info!(%name, %by, "a token is revoked");
            Ok(Json(token))
        }
        // What was wanted is so.
        Revocation::Before(token) => Ok(Json(token)),
        Revocation::Unknown => Err(Refused::absent(format_args!("token {name}"))),
    }
}

pub(super) async fn whoami(asker: Asker) -> Json<WhoAmI> {
    let extent = asker.extent().clone();
    Json(match asker {
        Asker::Trusted => WhoAmI { name: None, role: Role::Admin, extent },
        Asker::Known(bearer) => WhoAmI { name: Some(bearer.name.clone()), role: bearer.role, extent },
    })
}

pub(super) async fn events(
    State(api): Shared,
    Query(query): Query<AccessQuery>,
) -> Result<Json<AccessEvents>, Refused> {
    let ledger = &api.engine.ledger;
    let after = match query.after {
        Some(after) => after,
        None => ledger.last_access_event().await? - i64::from(ACCESS_MAX),
    };
    let found = ledger.access_events(after, ACCESS_MAX).await?;
    let next = found.last().filter(|_| found.len() >= ACCESS_MAX as usize).map(|(seq, _)| *seq);
    let events = found.into_iter().map(|(seq, event)| {
        let sexton_ledger::rules::LedgerEvent { at, what, by, body } = event;
        AccessEvent { seq, at, what, by, body }
    });
    Ok(Json(AccessEvents { events: events.collect(), next }))
}
