//! Requests are idempotent by key: what becomes of one that is sent again.
//!
//! Contract: whoever loses the answer to a request sends it again under the same key, and it is done once. A key is one
//! actor's. It is **held** while an attempt works under it; the attempt's change is noted at the key in its own
//! transaction, and is not committed unless that very attempt is the key's last one. So an attempt that was taken for dead and is not cannot change anything beside the one that follows it. What
//! was **answered** is answered again, the same, for [`KEPT_US`]; then the key is forgotten.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Held: first
//!     Held --> Held: again, once HELD_US are over (the attempt before it can commit nothing any more)
//!     Held --> Answered: an answer that is remembered
//!     Answered --> Answered: the same request, answered the same
//!     Answered --> [*]: KEPT_US after it was first sent
//!     Held --> [*]: KEPT_US after it was first sent, if nobody holds it
//! ```
use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::{Hash, hex};
use crate::id::Actor;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Longest key, in characters: an address and a number, or two UUIDs and some words.
pub const KEY_MAX: usize = 128;

/// How long a key is kept, in microseconds of protocol time: seven real days, also in a rehearsal. Who sends again is a
/// program that has lost an answer, or a person on the next working day, and both go by the clock on the wall.
pub const KEPT_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// How long an attempt holds its key, in microseconds: longer than any request is answered (30 seconds), so that who is
/// still at work is not overtaken by whoever asks again.
pub const HELD_US: i64 = 35 * 1_000_000;

/// Most keys that are kept of one actor: five a minute, all week. Kept answers fill the job table.
pub const KEYS_MAX: i64 = 50_000;

/// Most keys that are forgotten in one transaction: it stays short.
pub const SWEPT_MAX: u32 = 1000;

/// Longest answer that is kept, in bytes: one line for each of ten thousand resources, and some refusals. One that is
/// longer is made again from what was noted of the change.
pub const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// What names a request among all of its actor's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct RequestKey(String);

/// Not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {KEY_MAX} visible ASCII characters, without a space")]
pub struct InvalidKey;

impl RequestKey {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the `number`th request (from 1) of those that are sent under one key, always the same: the first has
    /// the key itself, and so may be asked for by it.
    #[must_use]
    pub fn nth(&self, number: u32) -> Self {
        if number <= 1 {
            return self.clone();
        }
        let mut context = Context::new(&SHA256);
        context.update(&number.to_be_bytes());
        context.update(self.0.as_bytes());
        let mut hash: Hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hex(&hash))
    }

    /// The key that these random bits make.
    pub fn of_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

impl FromStr for RequestKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or(InvalidKey)
    }
}

impl TryFrom<String> for RequestKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<RequestKey> for String {
    fn from(key: RequestKey) -> Self {
        key.0
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked for: the same bytes are the same request. Each part with its length, so that none runs into another.
pub fn request_hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash: Hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A request under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// Who asks.
    pub actor: Actor,
    /// Under which of its keys.
    pub key: RequestKey,
    /// For what.
    pub request: Hash,
}

/// One attempt at a request: what its change has to carry to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who asks.
    pub actor: Actor,
    /// Under which key.
    pub key: RequestKey,
    /// The how manyth it is: a later one is always greater.
    pub number: i64,
    /// When the request was first sent, by the store's clock. Whatever was made after that is not what it was about.
    pub first_sent: Timestamp,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its HTTP status.
    pub status: u16,
    /// Its body, JSON.
    pub body: String,
}

/// What the job table holds of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What was asked for.
    pub request: Hash,
    /// The last attempt's number.
    pub attempt: i64,
    /// When it was first sent.
    pub first_sent: Timestamp,
    /// Until when the last attempt holds it.
    pub held_until: Timestamp,
    /// The answer, if there is one.
    pub answer: Option<KeptAnswer>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has asked for it under this key, or that is long ago: it is attempt 1, or follows one that is forgotten.
    First {
        /// The attempt's number.
        attempt: i64,
    },
    /// It was asked for, and not answered, and whoever was at work is so no more.
    Again {
        /// The attempt's number.
        attempt: i64,
    },
    /// It is answered as before.
    Answered(KeptAnswer),
    /// Somebody is still at work on it.
    Busy,
    /// The key is another request's.
    Other,
}

impl Verdict {
    /// Whether it is the same request that was sent before, and nothing begins by it: it is answered as then, or from what an
    /// attempt has `noted`, or somebody is at work on it.
    pub fn begins_nothing(&self, noted: bool) -> bool {
        match self {
            Self::Answered(_) | Self::Busy => true,
            Self::Again { .. } => noted,
            Self::First { .. } | Self::Other => false,
        }
    }
}

/// What becomes of `request`, at `now`, of whose key the job table holds that.
pub fn judge(standing: Option<Standing>, request: &Hash, now: Timestamp) -> Verdict {
    let Some(standing) = standing else { return Verdict::First { attempt: 1 } };
    let attempt = standing.attempt.saturating_add(1);
    let held = standing.answer.is_none() && standing.held_until > now;
    if !held && now.0.saturating_sub(standing.first_sent.0) >= KEPT_US {
        return Verdict::First { attempt };
    }
    if standing.request != *request {
        return Verdict::Other;
    }
    match standing.answer {
        Some(answer) => Verdict::Answered(answer),
        None if held => Verdict::Busy,
        None => Verdict::Again { attempt },
    }
}

/// Whether an answer of this status is given again. Success is, and so is every refusal of what was asked for: whoever
/// was told that nothing is done must not find it done by a copy of the request that was on its way for long. Not what is
/// said of whoever asks (401, 403) or of the moment (408, 425, 429): the same request may fare better. And no error: what
/// came of that is not known.
pub fn is_remembered(status: u16) -> bool {
    match status {
        401 | 403 | 408 | 425 | 429 => false,
        status => (200..300).contains(&status) || (400..500).contains(&status),
    }
}
