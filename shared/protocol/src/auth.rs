//! Message authentication: HMAC-SHA256 over a direction label and the body, under a key per subsystem instance.
//!
//! A consumer can forge for nobody but itself, an intruder on the broker for none, and a body of one direction
//! is worth nothing in another. Keys rotate: of the keys of a holder the last that may sign signs, and any of
//! them verifies. To rotate, list the new key with `sign = false` everywhere, then let it sign, then remove
//! the old one.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use secrecy::SecretBox;
use serde::{Deserialize, Serialize};
use sexton_model::{Instance, id::InvalidId};

/// Shortest accepted secret, in bytes: as long as the digest.
pub const SECRET_MIN_BYTES: usize = 32;
/// Longest accepted secret, in bytes: a block of SHA-256, beyond which nothing is gained.
pub const SECRET_MAX_BYTES: usize = 64;
/// Longest key id, in bytes: it travels with every message.
pub const KEY_ID_MAX_BYTES: usize = 64;

/// What sort of message a proof covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Coordinator to one instance: orders.
    Order,
    /// One instance to the coordinators: outcomes and progress.
    Outcome,
    /// Scheduler to the coordinators.
    StageDue,
    /// One instance to the coordinators: it lives.
    Pulse,
    /// Coordinators to every consumer: beacons and extensions. Signed, not sealed.
    Beacon,
    /// Anybody to people: what was not accepted.
    Rejected,
    /// Coordinators to whoever listens. Signed, not sealed.
    Event,
    /// Coordinators to whoever checks the audit trail. Signed, and no message: it is kept.
    Checkpoint,
    /// Coordinators to whoever reads a file of the archive. Signed, and no message: it is kept.
    Archive,
    /// Coordinators to whoever reads what stays of an archived record. Signed, and no message: it is kept.
    Stub,
    /// Coordinators to whoever wants to know that a purge is complete. Signed, and no message: it is kept.
    Receipt,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Order,
        Self::Outcome,
        Self::StageDue,
        Self::Pulse,
        Self::Beacon,
        Self::Rejected,
        Self::Event,
        Self::Checkpoint,
        Self::Archive,
        Self::Stub,
        Self::Receipt,
    ];

    /// The label that is authenticated before the body.
    pub fn label(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Outcome => "outcome",
            Self::StageDue => "stage-due",
            Self::Pulse => "pulse",
            Self::Beacon => "beacon",
            Self::Rejected => "rejected",
            Self::Event => "event",
            Self::Checkpoint => "checkpoint",
            Self::Archive => "archive",
            Self::Stub => "stub",
            Self::Receipt => "receipt",
        }
    }
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// A subsystem instance's, shared with the coordinators only.
    Instance(Instance),
    /// The scheduler's.
    Scheduler,
}

impl FromStr for Holder {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "scheduler" { Ok(Self::Scheduler) } else { text.parse().map(Self::Instance) }
    }
}

impl TryFrom<String> for Holder {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> String {
        holder.to_string()
    }
}

impl From<Instance> for Holder {
    fn from(instance: Instance) -> Self {
        Self::Instance(instance)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => instance.fmt(f),
            Self::Scheduler => f.write_str("scheduler"),
        }
    }
}

/// Why a body is not authentic, or cannot be proved to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No key id came with the body.
    #[error("no key id came with the message")]
    MissingKey,
    /// No proof came with the body.
    #[error("no proof came with the message")]
    MissingProof,
    /// The key id is not one of those that may vouch here.
    #[error("key {key_id:?} is not one that may vouch here")]
    UnknownKey {
        /// The id, cut to 64 characters.
        key_id: String,
    },
    /// The proof is not base64 of the right length.
    #[error("the proof is not base64 of {expected} bytes")]
    Malformed {
        /// How many bytes it should have.
        expected: usize,
    },
    /// The proof is of another body, another direction or another key.
    #[error("the proof does not fit the message: altered, of another direction, or made with another key")]
    Mismatch,
    /// There is no key to sign with.
    #[error("{holder} has no key that signs: add one to the key file")]
    NothingSigns {
        /// Whose key is missing.
        holder: String,
    },
}

/// A proof and the key it was made with; they travel in the message's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Which key.
    pub key_id: String,
    /// The proof, in base64.
    pub mac: String,
}

/// One secret.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) signs: bool,
    pub(crate) secret: SecretBox<Vec<u8>>,
    /// Made of the secret once: half of the work for a short body.
    prepared: hmac::Key,
}

impl Key {
    pub(crate) fn new(id: String, signs: bool, secret: Vec<u8>) -> Self {
        let prepared = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Self { id, signs, secret: SecretBox::new(Box::new(secret)), prepared }
    }
}

/// The MAC keys a process knows. Never shows a secret.
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<Holder, Vec<Key>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|(h, keys)| (h, keys.iter().map(|k| &k.id).collect::<Vec<_>>()));
        f.debug_map().entries(ids).finish()
    }
}

impl Keyring {
    pub(crate) fn insert(&mut self, holder: Holder, key: Key) {
        self.keys.entry(holder).or_default().push(key);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Holder, &Key)> {
        self.keys.iter().flat_map(|(holder, keys)| keys.iter().map(move |key| (holder, key)))
    }

    pub(crate) fn keys_of(&self, holder: &Holder) -> &[Key] {
        self.keys.get(holder).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn keys_of_mut(&mut self, holder: &Holder) -> Option<&mut Vec<Key>> {
        self.keys.get_mut(holder)
    }

    /// Whose keys these are, ascending.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.keys.keys()
    }

    /// Prove that `holder`'s key vouches for `body` in `direction`, with the newest key that signs.
    ///
    /// # Errors
    /// [`AuthError::NothingSigns`].
    pub fn sign(&self, holder: &Holder, direction: Direction, body: &[u8]) -> Result<Seal, AuthError> {
        let key = self
            .keys
            .get(holder)
            .and_then(|keys| keys.iter().rev().find(|key| key.signs))
            .ok_or_else(|| AuthError::NothingSigns { holder: holder.to_string() })?;
        let mac = hmac::sign(&key.prepared, &labelled(direction, body));
        Ok(Seal { key_id: key.id.clone(), mac: STANDARD.encode(mac) })
    }

    /// Check that a key of `holder` vouches for `body` in `direction`. Constant in time.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify(
        &self,
        holder: &Holder,
        direction: Direction,
        body: &[u8],
        key_id: Option<&str>,
        mac: Option<&str>,
    ) -> Result<(), AuthError> {
        let key_id = key_id.ok_or(AuthError::MissingKey)?;
        let key = self
            .keys
            .get(holder)
            .and_then(|keys| keys.iter().find(|key| key.id == key_id))
            .ok_or_else(|| unknown(key_id))?;
        check(key, direction, body, mac)
    }

    /// Check that *some* holder's key vouches for `body` in `direction`, and say whose. What the body says
    /// about its sender must then be compared with it.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify_any(
        &self,
        direction: Direction,
        body: &[u8],
        key_id: Option<&str>,
        mac: Option<&str>,
    ) -> Result<&Holder, AuthError> {
        let key_id = key_id.ok_or(AuthError::MissingKey)?;
        let (holder, key) = self.find(key_id).ok_or_else(|| unknown(key_id))?;
        check(key, direction, body, mac)?;
        Ok(holder)
    }

    pub(crate) fn find(&self, key_id: &str) -> Option<(&Holder, &Key)> {
        self.keys
            .iter()
            .find_map(|(holder, keys)| keys.iter().find(|key| key.id == key_id).map(|key| (holder, key)))
    }
}

fn check(key: &Key, direction: Direction, body: &[u8], mac: Option<&str>) -> Result<(), AuthError> {
    let mac = mac.ok_or(AuthError::MissingProof)?;
    let mac = decode_exactly::<32>(mac)?;
    hmac::verify(&key.prepared, &labelled(direction, body), &mac).map_err(|_| AuthError::Mismatch)
}

pub(crate) fn unknown(key_id: &str) -> AuthError {
    AuthError::UnknownKey { key_id: key_id.chars().take(KEY_ID_MAX_BYTES).collect() }
}

pub(crate) fn decode_exactly<const N: usize>(text: &str) -> Result<[u8; N], AuthError> {
    let malformed = || AuthError::Malformed { expected: N };
    if text.len() > N * 2 {
        return Err(malformed());
    }
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)
}

/// What is authenticated. Copying a body costs a hundredth of hashing it.
fn labelled(direction: Direction, body: &[u8]) -> Vec<u8> {
    [direction.label().as_bytes(), &[0], body].concat()
}
