//! Signatures, for what everyone may read but only the coordinators may say: beacons, extensions, events, and
//! what is kept of the audit trail: its signed checkpoints, and the archive.
//!
//! Ed25519 over the direction label, a zero byte and the body. Keys rotate as MAC keys do.
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sexton_model::attest::{Attestation, SignedCheckpoint};

use crate::auth::{AuthError, Direction, Seal, decode_exactly, unknown};

/// Signs what the coordinators broadcast. Never shows its key.
pub struct BeaconSigner {
    pub(crate) key_id: String,
    pub(crate) key: SigningKey,
}

impl fmt::Debug for BeaconSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeaconSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl BeaconSigner {
    /// The key's id.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Sign `body` for `direction`.
    pub fn sign(&self, direction: Direction, body: &[u8]) -> Seal {
        let signature = self.key.sign(&labelled(direction, body));
        Seal { key_id: self.key_id.clone(), mac: STANDARD.encode(signature.to_bytes()) }
    }

    /// Sign a checkpoint of the audit trail. Its bytes are made here, once.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn sign_checkpoint(&self, attestation: &Attestation) -> Result<SignedCheckpoint, serde_json::Error> {
        let body = serde_json::to_string(attestation)?;
        let Seal { key_id, mac: signature } = self.sign(Direction::Checkpoint, body.as_bytes());
        Ok(SignedCheckpoint { body, key_id, signature })
    }

    /// What verifies this signer's signatures, and only those.
    pub fn verifier(&self) -> BeaconVerifier {
        BeaconVerifier { keys: BTreeMap::from([(self.key_id.clone(), self.key.verifying_key())]) }
    }
}

/// Verifies what the coordinators broadcast.
#[derive(Debug, Clone, Default)]
pub struct BeaconVerifier {
    pub(crate) keys: BTreeMap<String, VerifyingKey>,
}

impl BeaconVerifier {
    /// Ids of the keys that are accepted, ascending.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The same, and the keys of `others`. Where both list a key under one id, this one's counts.
    pub fn and(mut self, others: Self) -> Self {
        for (id, key) in others.keys {
            self.keys.entry(id).or_insert(key);
        }
        self
    }

    /// Check that one of the listed keys signed this checkpoint of the audit trail.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify_checkpoint(&self, signed: &SignedCheckpoint) -> Result<(), AuthError> {
        let SignedCheckpoint { body, key_id, signature } = signed;
        self.verify(Direction::Checkpoint, body.as_bytes(), Some(key_id), Some(signature))
    }

    /// Check that one of the listed keys signed `body` for `direction`.
    ///
    /// # Errors
    /// Why it is not authentic.
    pub fn verify(
        &self,
        direction: Direction,
        body: &[u8],
        key_id: Option<&str>,
        signature: Option<&str>,
    ) -> Result<(), AuthError> {
        let key_id = key_id.ok_or(AuthError::MissingKey)?;
        let key = self.keys.get(key_id).ok_or_else(|| unknown(key_id))?;
        let signature = decode_exactly::<64>(signature.ok_or(AuthError::MissingProof)?)?;
        key.verify_strict(&labelled(direction, body), &Signature::from_bytes(&signature))
            .map_err(|_| AuthError::Mismatch)
    }
}

fn labelled(direction: Direction, body: &[u8]) -> Vec<u8> {
    let label = direction.label().as_bytes();
    let mut whole = Vec::with_capacity(label.len() + 1 + body.len());
    whole.extend_from_slice(label);
    whole.push(0);
    whole.extend_from_slice(body);
    whole
}
