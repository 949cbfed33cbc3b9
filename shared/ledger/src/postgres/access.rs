//! Tokens, and the chain of tokens and refusals. Its row is the lock of both: what is counted cannot grow meanwhile.
use async_trait::async_trait;
use sexton_model::Actor;
use sexton_model::access::{CannotIssue, NewToken, Refusal, Token};
use sexton_model::audit::Hash;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::chain::{Appended, Head};
use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find, review};
use crate::LedgerError;
use crate::access::{ACCESS_MAX, Access, Revocation, event};
use crate::chains::ACCESS;
use crate::keys::Note;
use crate::rules::{LedgerEvent, text};

const LOCK: &str = "SELECT seq, head FROM access FOR UPDATE";
const ADVANCE: &str = "UPDATE access SET seq = $1, head = $2";
const TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM tokens WHERE name = $1)";
const GOOD: &str = "SELECT count(*) FROM tokens WHERE NOT revoked AND expires_at > $1";
const INSERT: &str = "INSERT INTO tokens (name, hash, expires_at, body) VALUES ($1, $2, $3, $4)";
const ONE: &str = "SELECT body FROM tokens WHERE name = $1";
const REVOKE: &str = "UPDATE tokens SET revoked = true, body = $2 WHERE name = $1 AND NOT revoked";
const BY_HASH: &str = "SELECT body FROM tokens WHERE hash = $1";
const LIST: &str = "SELECT body FROM tokens WHERE name > $1 ORDER BY name LIMIT $2";
const EVENTS: &str = "SELECT seq, body FROM ledger_audit WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const LAST: &str = "SELECT seq FROM access";

#[async_trait]
impl Access for PgLedger {
    async fn issue_token(
        &self,
        new: NewToken,
        hash: Hash,
    ) -> Result<Result<Token, CannotIssue>, LedgerError> {
        let part = || doing("issuing a token");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let head = lock(&mut tx).await?;
        let now = find::clock(&mut tx).await?;
        let taken: bool =
            sqlx::query_scalar(TAKEN).bind(new.name.as_str()).fetch_one(&mut *tx).await.map_err(part())?;
        let good: i64 = sqlx::query_scalar(GOOD).bind(now.0).fetch_one(&mut *tx).await.map_err(part())?;
        let issued = match taken {
            true => Err(CannotIssue::Taken(new.name)),
            false => new.issue(now, usize::try_from(good).unwrap_or(usize::MAX)),
        };
        let token = match issued {
            Ok(token) => token,
            Err(why) => {
                tx.rollback().await.map_err(part())?;
                return Ok(Err(why));
            }
        };
        sqlx::query(INSERT)
            .bind(token.name.as_str())
            .bind(hash)
            .bind(token.expires_at.0)
            .bind(text(&token)?)
            .execute(&mut *tx)
            .await
            .map_err(part())?;
        let end =
            append(&mut tx, head, &event("token_issued", token.created_by.as_str(), now, &token)?).await?;
        let decided = review::decide(&mut tx, self, Some(end)).await?;
        self.note(&mut tx, || Some(Note::TokenIssued(token.name.clone()))).await?;
        tx.commit().await.map_err(part())?;
        self.known.note_decision(decided);
        Ok(Ok(token))
    }

    async fn revoke_token(&self, name: &Actor, by: &Actor) -> Result<Revocation, LedgerError> {
        let part = || doing("revoking a token");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let head = lock(&mut tx).await?;
        let found: Option<String> =
            sqlx::query_scalar(ONE).bind(name.as_str()).fetch_optional(&mut *tx).await.map_err(part())?;
        let Some(token) = found.map(|body| parse(name.as_str(), &body)).transpose()? else {
            return Ok(Revocation::Unknown);
        };
        if token.revoked.is_some() {
            return Ok(Revocation::Before(token));
        }
        let now = find::clock(&mut tx).await?;
        let token = token.revoked(now, by.clone());
        let done = sqlx::query(REVOKE).bind(name.as_str()).bind(text(&token)?).execute(&mut *tx).await;
        all_there("tokens", done.map_err(part())?.rows_affected(), 1)?;
        let end = append(&mut tx, head, &event("token_revoked", by.as_str(), now, &token)?).await?;
        let decided = review::decide(&mut tx, self, Some(end)).await?;
        self.note(&mut tx, || Some(Note::TokenRevoked(Box::new(token.clone())))).await?;
        tx.commit().await.map_err(part())?;
        self.known.note_decision(decided);
        Ok(Revocation::Done(token))
    }

    async fn token(&self, hash: &Hash) -> Result<Option<Token>, LedgerError> {
        let part = || doing("looking for a token");
        let found: Option<String> =
            sqlx::query_scalar(BY_HASH).bind(hash).fetch_optional(&self.pool).await.map_err(part())?;
        found.map(|body| parse("?", &body)).transpose()
    }

    async fn token_of(&self, name: &Actor) -> Result<Option<Token>, LedgerError> {
        let part = || doing("looking for a token");
        let found: Option<String> =
            sqlx::query_scalar(ONE).bind(name.as_str()).fetch_optional(&self.pool).await.map_err(part())?;
        found.map(|body| parse(name.as_str(), &body)).transpose()
    }

    async fn tokens(&self, after: Option<&Actor>, limit: u32) -> Result<Vec<Token>, LedgerError> {
        let bodies: Vec<String> = sqlx::query_scalar(LIST)
            .bind(after.map_or("", Actor::as_str))
            .bind(i64::from(limit.clamp(1, ACCESS_MAX)))
            .fetch_all(&self.pool)
            .await
            .map_err(doing("listing tokens"))?;
        bodies.iter().map(|body| parse("?", body)).collect()
    }

    async fn write_refusal(&self, by: &str, refusal: Refusal) -> Result<(), LedgerError> {
        let part = || doing("writing down a refusal");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let head = lock(&mut tx).await?;
        let now = find::clock(&mut tx).await?;
        append(&mut tx, head, &event("refused", by, now, &refusal)?).await?;
        tx.commit().await.map_err(part())
    }

    async fn access_events(&self, after: i64, limit: u32) -> Result<Vec<(i64, LedgerEvent)>, LedgerError> {
        let part = || doing("reading the chain of tokens and refusals");
        let rows = sqlx::query(EVENTS)
            .bind(ACCESS)
            .bind(after)
            .bind(i64::from(limit.clamp(1, ACCESS_MAX)))
            .fetch_all(&self.pool)
            .await
            .map_err(part())?;
        rows.iter()
            .map(|row| {
                let (seq, body): (i64, &str) =
                    (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?);
                let event = serde_json::from_str(body);
                Ok((seq, event.map_err(|e| corrupt("ledger_audit", seq, e.to_string()))?))
            })
            .collect()
    }

    async fn last_access_event(&self) -> Result<i64, LedgerError> {
        let part = doing("reading the chain of tokens and refusals");
        sqlx::query_scalar(LAST).fetch_one(&self.pool).await.map_err(part)
    }
}

fn parse(name: &str, body: &str) -> Result<Token, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("tokens", name, e.to_string()))
}

/// The chain's end, which nobody else moves before this transaction is over.
async fn lock(db: &mut PgConnection) -> Result<Head, LedgerError> {
    let part = || doing("locking the chain of tokens and refusals");
    let row = sqlx::query(LOCK).fetch_one(db).await.map_err(part())?;
    Ok(Head { seq: row.try_get(0).map_err(part())?, hash: row.try_get(1).map_err(part())? })
}

/// One more event; the chain, and its new end.
async fn append(
    db: &mut PgConnection,
    head: Head,
    event: &LedgerEvent,
) -> Result<(String, Head), LedgerError> {
    let mut events = Appended::default();
    let head = events.add(ACCESS.to_owned(), head, event)?;
    events.write(db).await?;
    let done = sqlx::query(ADVANCE).bind(head.seq).bind(head.hash).execute(db).await;
    all_there("access", done.map_err(doing("writing the chain of tokens and refusals"))?.rows_affected(), 1)?;
    Ok((ACCESS.to_owned(), head))
}
