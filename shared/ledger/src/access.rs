//! Tokens, and the chain that they and all refusals are written down in.
//!
//! A trait of its own, since nothing of it decides about a deletion. What is read here is read from the store each time:
//! a token that was revoked is good for nothing from the moment at which that call returns, in every process.
use async_trait::async_trait;
use serde::Serialize;
use sexton_model::access::{CannotIssue, NewToken, Refusal, Token};
use sexton_model::audit::Hash;
use sexton_model::{Actor, Timestamp};

use crate::rules::LedgerEvent;
use crate::{LedgerError, known};

/// Most tokens, or events of their chain, that one call reads.
pub const ACCESS_MAX: u32 = 1000;

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// It is good for nothing from now on.
    Done(Token),
    /// Somebody did so before; nothing is written.
    Before(Token),
    /// There is no token of that name.
    Unknown,
}

/// Who may ask for something.
#[async_trait]
pub trait Access: Send + Sync {
    /// Issue a token whose secret has this hash. Exactly one event says so.
    ///
    /// # Errors
    /// If the store did not do it. That it may not be issued so is the inner result.
    async fn issue_token(&self, new: NewToken, hash: Hash)
    -> Result<Result<Token, CannotIssue>, LedgerError>;

    /// Take a token back. Exactly one event says so.
    async fn revoke_token(&self, name: &Actor, by: &Actor) -> Result<Revocation, LedgerError>;

    /// The token whose secret has this hash, good or not.
    async fn token(&self, hash: &Hash) -> Result<Option<Token>, LedgerError>;

    /// The token of this name, good or not.
    async fn token_of(&self, name: &Actor) -> Result<Option<Token>, LedgerError>;

    /// Tokens behind this name, ascending: at most `limit` (1 to [`ACCESS_MAX`]).
    async fn tokens(&self, after: Option<&Actor>, limit: u32) -> Result<Vec<Token>, LedgerError>;

    /// Write down that somebody was refused: exactly one event.
    async fn write_refusal(&self, by: &str, refusal: Refusal) -> Result<(), LedgerError>;

    /// Events of tokens and refusals behind this number, ascending: at most `limit` (1 to [`ACCESS_MAX`]).
    async fn access_events(&self, after: i64, limit: u32) -> Result<Vec<(i64, LedgerEvent)>, LedgerError>;

    /// The number of the last of those events.
    async fn last_access_event(&self) -> Result<i64, LedgerError>;
}

/// An event of the chain.
pub(crate) fn event(
    what: &str,
    by: &str,
    at: Timestamp,
    body: &impl Serialize,
) -> Result<LedgerEvent, LedgerError> {
    Ok(LedgerEvent { at, what: what.to_owned(), by: by.to_owned(), body: known::value(body)? })
}
