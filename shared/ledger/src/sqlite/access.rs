//! Tokens, and the chain of tokens and refusals.
use async_trait::async_trait;
use sexton_model::access::{CannotIssue, NewToken, Refusal, Token};
use sexton_model::audit::{self, Hash};
use sexton_model::{Actor, Timestamp};

use super::codes;
use super::connection::{Bind, Db, Row, change_one, row, rows, store};
use super::inventory::append;
use super::writer::{Answer, Work};
use super::{SqliteLedger, mixed_up};
use crate::LedgerError;
use crate::access::{ACCESS_MAX, Access, Revocation, event};
use crate::chains::ACCESS;
use crate::rules::{self, LedgerEvent};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Issue(NewToken, Hash),
    Revoke(Actor, Actor),
    Refused(String, Refusal),
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Issue(Result<Token, CannotIssue>),
    Revoke(Revocation),
    Refused,
}

/// Do it, at `now`.
pub(super) fn carry_out(db: &Db, now: Timestamp, ask: &Ask) -> Result<Done, LedgerError> {
    Ok(match ask {
        Ask::Issue(new, hash) => Done::Issue(issue(db, now, new.clone(), hash)?),
        Ask::Revoke(name, by) => Done::Revoke(revoke(db, now, name, by)?),
        Ask::Refused(by, refusal) => {
            link(db, &event("refused", by, now, refusal)?)?;
            Done::Refused
        }
    })
}

fn issue(
    db: &Db,
    now: Timestamp,
    new: NewToken,
    hash: &Hash,
) -> Result<Result<Token, CannotIssue>, LedgerError> {
    let doing = "issuing a token";
    if one(db, &new.name)?.is_some() {
        return Ok(Err(CannotIssue::Taken(new.name)));
    }
    let mut bind = Bind::default();
    bind.add(now.0);
    let sql = "SELECT count(*) FROM tokens WHERE NOT revoked AND expires_at > ?";
    let good: u32 = row(db, doing, sql, bind)?.try_get(0).map_err(store(doing))?;
    let token = match new.issue(now, good as usize) {
        Ok(token) => token,
        Err(why) => return Ok(Err(why)),
    };
    let mut bind = Bind::default();
    bind.add(token.name.to_string()).add(hash.to_vec()).add(token.expires_at.0).add(rules::text(&token)?);
    let sql = "INSERT INTO tokens (name, hash, expires_at, body) VALUES (?, ?, ?, ?)";
    change_one(db, (doing, "tokens"), sql, bind)?;
    link(db, &event("token_issued", token.created_by.as_str(), now, &token)?)?;
    Ok(Ok(token))
}

fn revoke(db: &Db, now: Timestamp, name: &Actor, by: &Actor) -> Result<Revocation, LedgerError> {
    let Some(token) = one(db, name)? else { return Ok(Revocation::Unknown) };
    if token.revoked.is_some() {
        return Ok(Revocation::Before(token));
    }
    let token = token.revoked(now, by.clone());
    let mut bind = Bind::default();
    bind.add(rules::text(&token)?).add(name.to_string());
    let sql = "UPDATE tokens SET revoked = 1, body = ? WHERE name = ? AND NOT revoked";
    change_one(db, ("revoking a token", "tokens"), sql, bind)?;
    link(db, &event("token_revoked", by.as_str(), now, &token)?)?;
    Ok(Revocation::Done(token))
}

fn one(db: &Db, name: &Actor) -> Result<Option<Token>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(name.to_string());
    first(&rows(db, "looking for a token", "SELECT body FROM tokens WHERE name = ?", bind)?)
}

fn first(rows: &[Row]) -> Result<Option<Token>, LedgerError> {
    rows.first().map(token).transpose()
}

fn token(row: &Row) -> Result<Token, LedgerError> {
    codes::body("tokens", "?", row.try_get(0).map_err(store("reading a token"))?)
}

/// One more event of the chain.
fn link(db: &Db, event: &LedgerEvent) -> Result<(), LedgerError> {
    let doing = "writing the chain of tokens and refusals";
    let row = row(db, doing, "SELECT seq, head FROM access", Bind::default())?;
    let seq: i64 = row.try_get(0).map_err(store(doing))?;
    let head = codes::hash("access", ACCESS, row.try_get(1).map_err(store(doing))?)?;
    let text = rules::text(event)?;
    let head = audit::link(&head, seq + 1, text.as_bytes());
    append(db, vec![(ACCESS.to_owned(), seq + 1, text, head)])?;
    let mut bind = Bind::default();
    bind.add(seq + 1).add(head.to_vec());
    change_one(db, (doing, "access"), "UPDATE access SET seq = ?, head = ?", bind)
}

#[async_trait]
impl Access for SqliteLedger {
    async fn issue_token(
        &self,
        new: NewToken,
        hash: Hash,
    ) -> Result<Result<Token, CannotIssue>, LedgerError> {
        match self.ask(Work::Access(Ask::Issue(new, hash))).await? {
            Answer::Access(Done::Issue(issued)) => Ok(issued),
            other => Err(mixed_up(&other)),
        }
    }

    async fn revoke_token(&self, name: &Actor, by: &Actor) -> Result<Revocation, LedgerError> {
        match self.ask(Work::Access(Ask::Revoke(name.clone(), by.clone()))).await? {
            Answer::Access(Done::Revoke(revocation)) => Ok(revocation),
            other => Err(mixed_up(&other)),
        }
    }

    async fn token(&self, hash: &Hash) -> Result<Option<Token>, LedgerError> {
        let hash = hash.to_vec();
        let read = move |db: &Db| {
            let mut bind = Bind::default();
            bind.add(hash);
            first(&rows(db, "looking for a token", "SELECT body FROM tokens WHERE hash = ?", bind)?)
        };
        self.reads.read(read).await
    }

    async fn token_of(&self, name: &Actor) -> Result<Option<Token>, LedgerError> {
        let name = name.clone();
        self.reads.read(move |db| one(db, &name)).await
    }

    async fn tokens(&self, after: Option<&Actor>, limit: u32) -> Result<Vec<Token>, LedgerError> {
        let mut bind = Bind::default();
        bind.add(after.map_or_else(String::new, ToString::to_string));
        bind.add(i64::from(limit.clamp(1, ACCESS_MAX)));
        let sql = "SELECT body FROM tokens WHERE name > ? ORDER BY name LIMIT ?";
        self.reads.read(move |db| rows(db, "listing tokens", sql, bind)?.iter().map(token).collect()).await
    }

    async fn write_refusal(&self, by: &str, refusal: Refusal) -> Result<(), LedgerError> {
        match self.ask(Work::Access(Ask::Refused(by.to_owned(), refusal))).await? {
            Answer::Access(Done::Refused) => Ok(()),
            other => Err(mixed_up(&other)),
        }
    }

    async fn access_events(&self, after: i64, limit: u32) -> Result<Vec<(i64, LedgerEvent)>, LedgerError> {
        let doing = "reading the chain of tokens and refusals";
        let mut bind = Bind::default();
        bind.add(ACCESS.to_owned()).add(after).add(i64::from(limit.clamp(1, ACCESS_MAX)));
        let sql = "SELECT seq, body FROM ledger_audit WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?";
        let read = move |db: &Db| {
            let found = rows(db, doing, sql, bind)?;
            let event = |row: &Row| {
                let seq: i64 = row.try_get(0).map_err(store(doing))?;
                Ok((seq, codes::body("ledger_audit", seq, row.try_get(1).map_err(store(doing))?)?))
            };
            found.iter().map(event).collect()
        };
        self.reads.read(read).await
    }

    async fn last_access_event(&self) -> Result<i64, LedgerError> {
        let doing = "reading the chain of tokens and refusals";
        let read = move |db: &Db| {
            row(db, doing, "SELECT seq FROM access", Bind::default())?.try_get(0).map_err(store(doing))
        };
        self.reads.read(read).await
    }
}
