//! Receipts: signed, and checked offline. No I/O.
//!
//! The signed text travels as a string, so that whoever lays out the JSON around it anew does not break the signature.
use sexton_model::receipt::{NoReceipt, Receipt, SignedReceipt};

use crate::auth::{AuthError, Direction, Seal};
use crate::sign::{BeaconSigner, BeaconVerifier};

/// A receipt that was taken apart.
#[derive(Debug)]
pub struct Opened {
    /// What it says.
    pub receipt: Receipt,
    /// Whether the coordinators signed it.
    pub signed: Result<(), AuthError>,
    /// Whether it says what a receipt has to say.
    pub sound: Result<(), NoReceipt>,
}

/// Sign a receipt. Its bytes are made here, once.
///
/// # Errors
/// If it cannot be written as JSON, which would be a defect.
pub fn sign(receipt: &Receipt, signer: &BeaconSigner) -> Result<SignedReceipt, serde_json::Error> {
    let body = serde_json::to_string(receipt)?;
    let Seal { key_id, mac: signature } = signer.sign(Direction::Receipt, body.as_bytes());
    Ok(SignedReceipt { body, key_id, signature })
}

/// Take a signed receipt apart, and check everything that can be checked without the job table.
///
/// # Errors
/// If it holds no receipt.
pub fn open(signed: &SignedReceipt, keys: &BeaconVerifier) -> Result<Opened, serde_json::Error> {
    let SignedReceipt { body, key_id, signature } = signed;
    let receipt: Receipt = serde_json::from_str(body)?;
    let signed = keys.verify(Direction::Receipt, body.as_bytes(), Some(key_id), Some(signature));
    let sound = receipt.check();
    Ok(Opened { receipt, signed, sound })
}
