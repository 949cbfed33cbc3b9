//! The audit trail: every decision is exactly one event, chained by hash per record.
use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Fence;
use crate::job::{JobKind, StateName};
use crate::step::{Mode, Presence};
use crate::time::Timestamp;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The record was made.
    Created,
    /// A job was claimed: it took the lock.
    Claimed,
    /// A belt said "not now".
    Held,
    /// What held it is gone.
    Unheld,
    /// A step was answered and the job went on.
    Settled,
    /// A job that was in line or backing off got its next order.
    Dispatched,
    /// The order's consumer began, or its time was extended.
    Extended,
    /// The lease ran out.
    LeaseOver,
    /// Cancelled by somebody.
    Cancelled,
    /// A hold was placed.
    HoldPlaced,
    /// A hold was released.
    HoldReleased,
    /// A job was parked by a person, or because the instance it was in line at is gone.
    Parked,
    /// A person had a parked job tried again.
    Retried,
    /// A person let a step pass.
    Waived,
    /// A person told everybody otherwise, since the notice could not be delivered for days.
    Acknowledged,
    /// A notice that was sent came back.
    Bounced,
    /// A person saved the resource by hand.
    Rescued,
}

/// One event. Serialised once; those bytes are stored, hashed and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEvent {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What was decided.
    pub what: What,
    /// Who decided: a person, or `coordinator`.
    pub by: String,
    /// Which job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobKind>,
    /// The step that was answered or ordered: its name in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// In which mode it was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The fence of the order that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// What the subsystem showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// The job's state afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
    /// The fence of the order this decision gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Fence>,
    /// Steps of the coordinator itself that this decision carried out, by their names in the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<String>,
    /// Targets were read again: what has appeared since they were pinned. It is not touched, unless it joined them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// Of a record that was made: why its plan tells nobody in time to say no, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
    /// Reason or evidence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A link of the chain: SHA-256 over everything before it.
pub type Hash = [u8; 32];

/// The hash before the first event.
pub const GENESIS: Hash = [0; 32];

/// A hash in hexadecimal.
pub fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash as 64 hexadecimal digits, for serde.
pub mod hex_form {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use super::{GENESIS, Hash, hex};

    /// Write it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex(hash))
    }

    /// Read it.
    ///
    /// # Errors
    /// Those of the deserializer, and if it is no hash in lower-case digits, as [`hex`] writes them.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom("expected a hash of 64 hexadecimal digits"))
    }

    fn parse(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut hash = GENESIS;
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(hash)
    }
}

/// The hash of event number `seq` with these bytes, after `previous`.
pub fn link(previous: &Hash, seq: i64, body: &[u8]) -> Hash {
    let mut sha = Context::new(&SHA256);
    sha.update(previous);
    sha.update(&seq.to_be_bytes());
    sha.update(body);
    let mut hash = GENESIS;
    hash.copy_from_slice(sha.finish().as_ref());
    hash
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A number is missing or out of order.
    #[error("audit event {expected} is missing, found {found}")]
    Gap {
        /// Expected next.
        expected: i64,
        /// Found instead.
        found: i64,
    },
    /// An event was changed.
    #[error("audit event {seq} does not match its hash")]
    Changed {
        /// Its number.
        seq: i64,
    },
    /// The chain ends before its head.
    #[error("the chain ends at event {found}, its head says {expected}")]
    Cut {
        /// The head's number.
        expected: i64,
        /// The last event's.
        found: i64,
    },
}

/// Checks a chain event by event, ascending: nobody needs to hold more than one of them.
#[derive(Debug, Clone, Copy)]
pub struct Checker {
    last: i64,
    previous: Hash,
}

impl Default for Checker {
    fn default() -> Self {
        Self { last: 0, previous: GENESIS }
    }
}

impl Checker {
    /// The next event.
    ///
    /// # Errors
    /// If it does not follow from those before it.
    pub fn see(&mut self, seq: i64, body: &[u8], hash: Hash) -> Result<(), Broken> {
        if seq != self.last + 1 {
            return Err(Broken::Gap { expected: self.last + 1, found: seq });
        }
        if link(&self.previous, seq, body) != hash {
            return Err(Broken::Changed { seq });
        }
        *self = Self { last: seq, previous: hash };
        Ok(())
    }

    /// That was the last one: compare with the head on the chain's record.
    ///
    /// # Errors
    /// If the head is another.
    pub fn end(self, head: (i64, Hash)) -> Result<(), Broken> {
        if (self.last, self.previous) == head {
            return Ok(());
        }
        Err(Broken::Cut { expected: head.0, found: self.last })
    }
}

/// Check a whole chain, ascending (number, body, hash), against the head on its record.
///
/// # Errors
/// The first place where it does not hold.
pub fn verify<'a>(
    events: impl IntoIterator<Item = (i64, &'a [u8], Hash)>,
    head: (i64, Hash),
) -> Result<(), Broken> {
    let mut checker = Checker::default();
    for (seq, body, hash) in events {
        checker.see(seq, body, hash)?;
    }
    checker.end(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_shows_every_kind_of_tampering() {
        let one = link(&GENESIS, 1, b"a");
        let two = link(&one, 2, b"b");
        assert_eq!(verify([(1, &b"a"[..], one), (2, &b"b"[..], two)], (2, two)), Ok(()));
        assert_eq!(
            verify([(1, &b"x"[..], one), (2, &b"b"[..], two)], (2, two)),
            Err(Broken::Changed { seq: 1 })
        );
        assert_eq!(verify([(2, &b"b"[..], two)], (2, two)), Err(Broken::Gap { expected: 1, found: 2 }));
        assert_eq!(verify([(1, &b"a"[..], one)], (2, two)), Err(Broken::Cut { expected: 2, found: 1 }));
    }
}
