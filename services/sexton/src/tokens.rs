//! Tokens: issued, listed, revoked; who one is, and who was refused.
use std::process::ExitCode;

use sexton_api::{AccessEvent, AccessEvents, AccessQuery, Client, Issued, Page, TokenQuery, TokenRequest};
use sexton_model::access::{CountedRefusals, DAY_S, Refusal, Token};

use crate::arguments::{Format, TokenCommand};
use crate::output::{moment, short, table, write};

/// Longest text in a cell.
const CELL: usize = 100;

/// An hour, in seconds.
const HOUR_S: u64 = 3600;

/// Carry out `sexton token …`.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn command(client: &Client, format: Format, command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::New { name, role, scope, everywhere, days, hours } => {
            let good_for_s = Some(hours.map_or(days * DAY_S, |hours| hours * HOUR_S));
            let body = TokenRequest { name, role, scopes: scope, everywhere, good_for_s };
            write(format, &client.issue_token(&body).await?, issued)
        }
        TokenCommand::List => {
            let mut all = Page { items: Vec::new(), next: None };
            let mut query = TokenQuery::default();
            loop {
                let page = client.tokens(&query).await?;
                query.after = page.items.last().map(|token| token.name.clone());
                all.items.extend(page.items);
                if page.next.is_none() {
                    break;
                }
            }
            write(format, &all, |all| list(&all.items))
        }
        TokenCommand::Revoke { name } => {
            let token = client.revoke_token(&name).await?;
            write(format, &token, |token| {
                let since = moment(token.revoked.as_ref().map(|revoked| revoked.at));
                format!("the token {name} is good for nothing since {since}")
            })
        }
    }
}

fn issued(issued: &Issued) -> String {
    let Issued { token, secret } = issued;
    format!(
        "{secret}\n\nThis is the token of {}, {} in {}, until {} UTC. It is shown this once: keep it in a file that only \
         its bearer reads,\nwhich --token-file or SEXTON_TOKEN_FILE names.",
        token.name,
        token.role,
        token.extent,
        moment(Some(token.expires_at)),
    )
}

fn list(tokens: &[Token]) -> String {
    if tokens.is_empty() {
        return "there is no token".to_owned();
    }
    let rows = tokens.iter().map(|token| {
        let ended = token.revoked.as_ref().map(|by| format!("{} by {}", moment(Some(by.at)), by.by));
        [
            token.name.to_string(),
            token.role.to_string(),
            token.extent.to_string(),
            moment(Some(token.expires_at)),
            token.created_by.to_string(),
            ended.unwrap_or_default(),
        ]
    });
    table(["token", "role", "scopes", "expires (UTC)", "issued by", "revoked (UTC)"], rows)
}

/// Carry out `sexton whoami`.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn whoami(client: &Client, format: Format) -> anyhow::Result<()> {
    let info = client.whoami().await?;
    write(format, &info, |info| {
        let who = info.name.as_ref().map_or("trusted, as whoever --actor names", |name| name.as_str());
        format!("{who}: {} in {}", info.role, info.extent)
    })
}

/// Carry out `sexton audit --access`: the latest thousand events.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn log(client: &Client, format: Format) -> anyhow::Result<ExitCode> {
    let found = client.access_events(&AccessQuery::default()).await?;
    write(format, &found, events)?;
    Ok(ExitCode::SUCCESS)
}

fn events(found: &AccessEvents) -> String {
    if found.events.is_empty() {
        return "no token was ever issued, and nobody was refused".to_owned();
    }
    let rows = found.events.iter().map(|event| {
        [event.seq.to_string(), moment(Some(event.at)), event.by.clone(), event.what.clone(), told(event)]
    });
    table(["event", "at (UTC)", "by", "what", ""], rows)
}

fn told(event: &AccessEvent) -> String {
    if let Ok(token) = serde_json::from_value::<Token>(event.body.clone()) {
        return format!("{}: {} in {}", token.name, token.role, short(&token.extent.to_string(), CELL));
    }
    match serde_json::from_value::<Refusal>(event.body.clone()) {
        Ok(Refusal { request, why, status, more, counted }) => {
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more within a minute{})", which(counted)),
            };
            format!("{status} {}: {}{more}", short(&request, CELL), short(&why, CELL))
        }
        Err(_) => event.body.to_string(),
    }
}

/// Most requests that are named of those that were only counted: what changes something before what only looks.
const NAMED_MAX: usize = 20;

/// What was refused so often, if it was not the same each time.
fn which(mut counted: Vec<CountedRefusals>) -> String {
    if counted.len() < 2 {
        return String::new();
    }
    counted.sort_by_key(|one| one.request.starts_with("GET "));
    let more = counted.len().saturating_sub(NAMED_MAX);
    let one = |one: &CountedRefusals| format!("{} of {} ({})", one.count, one.request, one.status);
    let named: Vec<String> = counted.iter().take(NAMED_MAX).map(one).collect();
    let rest = if more > 0 { format!(", and {more} other requests: -o json has all") } else { String::new() };
    format!("; in all {}{rest}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_counted_is_named_what_changes_something_first() {
        let of = |request: &str, count| CountedRefusals { request: request.to_owned(), status: 403, count };
        assert_eq!(which(vec![of("GET /v1/tokens", 3)]), "", "it is what the event names");
        assert_eq!(
            which(vec![of("GET /v1/tokens", 3), of("POST /v1/tokens", 1)]),
            "; in all 1 of POST /v1/tokens (403), 3 of GET /v1/tokens (403)"
        );
        let many: Vec<CountedRefusals> = (0..25).map(|number| of(&format!("GET /v1/{number}"), 1)).collect();
        assert!(which(many).ends_with(", and 5 other requests: -o json has all"));
    }
}
