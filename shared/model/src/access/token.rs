//! Tokens.
//!
//! A token is 256 random bits, so a plain hash of it is as good as any: there is nothing that could be guessed and tried,
//! as with a password. The hash is all that is stored.
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bearer, Extent, Role, SCOPES_MAX};
use crate::audit::Hash;
use crate::id::Actor;
use crate::time::Timestamp;

/// What a token begins with, so that one that leaked is found by whoever looks for such.
pub const PREFIX: &str = "sxt_";
/// Random bytes of a token.
pub const SECRET_BYTES: usize = 32;
/// A day, in seconds: real time, in rehearsals, too.
pub const DAY_S: u64 = 86_400;
/// How long a token is good if nobody says, in days.
pub const DAYS_DEFAULT: u64 = 90;
/// How long it may be good, in days: a year and a day, so that one that is exchanged once a year never runs out.
pub const DAYS_MAX: u64 = 366;
/// Most tokens that are good at the same time.
pub const TOKENS_MAX: usize = 1024;
/// Names that decide by themselves in the audit trail.
const RESERVED: [&str; 5] = ["coordinator", "sexton", "scheduler", "canary", "drill"];

/// Whether this is the name of what decides by itself, in which nobody acts.
pub fn decides_by_itself(name: &Actor) -> bool {
    RESERVED.contains(&name.as_str())
}

/// The text of a token made of these random bytes.
pub fn token_text(secret: &[u8; SECRET_BYTES]) -> String {
    format!("{PREFIX}{}", crate::audit::hex(secret))
}

/// What is stored of a token, and what it is found by.
pub fn token_hash(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// Somebody took a token back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Whose. A name is given once, and never again: the audit trail names its bearer by it.
    pub name: Actor,
    /// What its bearer is there for.
    pub role: Role,
    /// Where.
    pub extent: Extent,
    /// Since when.
    pub created_at: Timestamp,
    /// Who issued it.
    pub created_by: Actor,
    /// Until when it is good: real time, in rehearsals, too.
    pub expires_at: Timestamp,
    /// Whether it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// Why a token is good for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGood {
    /// Somebody took it back.
    #[error("the token {name} was revoked at {at}")]
    Revoked {
        /// Whose.
        name: Actor,
        /// When.
        at: Timestamp,
    },
    /// Its time is over.
    #[error("the token {name} has expired at {at}")]
    Expired {
        /// Whose.
        name: Actor,
        /// When.
        at: Timestamp,
    },
}

impl Token {
    /// Who shows it at `now`.
    ///
    /// # Errors
    /// If it was revoked or has expired.
    pub fn bearer(&self, now: Timestamp) -> Result<Bearer, NotGood> {
        let Self { name, role, extent, expires_at, revoked, .. } = self.clone();
        match revoked {
            Some(Revoked { at, .. }) => Err(NotGood::Revoked { name, at }),
            None if expires_at <= now => Err(NotGood::Expired { name, at: expires_at }),
            None => Ok(Bearer { name, role, extent }),
        }
    }

    /// The same one, taken back.
    #[must_use]
    pub fn revoked(self, at: Timestamp, by: Actor) -> Self {
        Self { revoked: Some(Revoked { at, by }), ..self }
    }
}

/// A token that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose.
    pub name: Actor,
    /// What for.
    pub role: Role,
    /// Where.
    pub extent: Extent,
    /// How long it is to be good, in seconds.
    pub good_for_s: u64,
    /// Who issues it.
    pub by: Actor,
}

/// Why a token cannot be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotIssue {
    /// It stands in addresses and tables.
    #[error(
        "name: expected letters, digits and any of . _ - @, and none of {reserved}; found {0}",
        reserved = RESERVED.join(", ")
    )]
    Name(Actor),
    /// The name was given before.
    #[error("name: {0} was given to a token before; names are not given again")]
    Taken(Actor),
    /// No scope, or too many.
    #[error("scopes: expected 1 to {SCOPES_MAX}, found {0}; one that is limited to none says everywhere")]
    Scopes(usize),
    /// Good for too long, or not at all.
    #[error("good_for_s: expected 1 to {max} seconds, which are {DAYS_MAX} days; found {0}", max = DAYS_MAX * DAY_S)]
    Lifetime(u64),
    /// There are too many.
    #[error("{TOKENS_MAX} tokens are good at the moment, and there may not be more: revoke some")]
    TooMany,
}

impl NewToken {
    /// Whether it may be issued, whoever else has one.
    ///
    /// # Errors
    /// If it is not what a token can be.
    pub fn check(&self) -> Result<(), CannotIssue> {
        let name = self.name.as_str();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if !name.chars().all(fits) || name.starts_with('.') || decides_by_itself(&self.name) {
            return Err(CannotIssue::Name(self.name.clone()));
        }
        if let Extent::Scopes(scopes) = &self.extent
            && !(1..=SCOPES_MAX).contains(&scopes.len())
        {
            return Err(CannotIssue::Scopes(scopes.len()));
        }
        if !(1..=DAYS_MAX * DAY_S).contains(&self.good_for_s) {
            return Err(CannotIssue::Lifetime(self.good_for_s));
        }
        Ok(())
    }

    /// The token that is issued at `now`, while `good` others are.
    ///
    /// # Errors
    /// As [`Self::check`], and if there are too many.
    pub fn issue(self, now: Timestamp, good: usize) -> Result<Token, CannotIssue> {
        self.check()?;
        if good >= TOKENS_MAX {
            return Err(CannotIssue::TooMany);
        }
        let Self { name, role, extent, good_for_s, by } = self;
        let expires_at = now.plus_ms(good_for_s.saturating_mul(1000));
        Ok(Token { name, role, extent, created_at: now, created_by: by, expires_at, revoked: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::limited;

    fn new(name: &str, extent: Extent, days: u64) -> NewToken {
        let good_for_s = days * DAY_S;
        NewToken {
            name: name.parse().unwrap(),
            role: Role::Viewer,
            extent,
            good_for_s,
            by: "root".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let day = 86_400_000_000;
        let token = new("ci", Extent::Everywhere, 2).issue(Timestamp(7), 0).unwrap();
        assert_eq!(token.expires_at, Timestamp(7 + 2 * day));
        assert!(token.bearer(Timestamp(6 + 2 * day)).is_ok());
        let expired = NotGood::Expired { name: token.name.clone(), at: token.expires_at };
        assert_eq!(token.bearer(Timestamp(7 + 2 * day)), Err(expired));
        let revoked = token.revoked(Timestamp(8), "root".parse().unwrap());
        assert!(matches!(revoked.bearer(Timestamp(9)), Err(NotGood::Revoked { at: Timestamp(8), .. })));
    }

    /// What decides by itself is no token's name, and whoever asks for one is told all of these.
    #[test]
    fn the_names_that_are_nobodys_are_said() {
        for nobodys in
            ["coordinator", "sexton", "scheduler", Actor::canary().as_str(), Actor::drill().as_str()]
        {
            let why = new(nobodys, Extent::Everywhere, 1).issue(Timestamp(0), 0).unwrap_err().to_string();
            assert!(why.contains("none of coordinator, sexton, scheduler, canary, drill; found"), "{why}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_issued() {
        let many: Vec<String> = (0..=SCOPES_MAX).map(|n| format!("s{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (new, part) in [
            (new("a/b", Extent::Everywhere, 1), "name"),
            (new("..", Extent::Everywhere, 1), "name"),
            (new("coordinator", Extent::Everywhere, 1), "name"),
            (new("ci", limited(&[]), 1), "scopes"),
            (new("ci", limited(&many), 1), "scopes"),
            (new("ci", Extent::Everywhere, 0), "good_for_s"),
            (new("ci", Extent::Everywhere, DAYS_MAX + 1), "good_for_s"),
        ] {
            let why = new.issue(Timestamp(0), 0).unwrap_err();
            assert!(why.to_string().starts_with(part), "{why}");
        }
        let why = new("ci", Extent::Everywhere, 1).issue(Timestamp(0), TOKENS_MAX).unwrap_err();
        assert_eq!(why, CannotIssue::TooMany);
    }

    #[test]
    fn a_token_is_found_by_its_hash() {
        let text = token_text(&[0xab; SECRET_BYTES]);
        assert_eq!(text, format!("sxt_{}", "ab".repeat(32)));
        assert_eq!(token_hash(&text), token_hash(&text));
        assert_ne!(token_hash(&text), token_hash(&text[..67]));
    }
}
