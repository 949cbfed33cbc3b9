//! Files of the archive and the stubs that stand for them: made, signed, and checked offline. No I/O.
//!
//! A file is one JSON object: the document, and the coordinators' signature over its very bytes. A stub is signed for
//! itself, since it names the file's digest. Whoever has the public key can check both, without Sexton running.
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sexton_model::archive::{Document, Entry, NotArchivable, Stub};
use sexton_model::audit::{GENESIS, Hash};

use crate::auth::{AuthError, Direction};
use crate::sign::{BeaconSigner, BeaconVerifier};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    document: &'a RawValue,
    key_id: String,
    signature: String,
}

/// A file that was taken apart.
#[derive(Debug)]
pub struct Opened {
    /// What it is about.
    pub document: Document,
    /// The key that it says it was signed with.
    pub key_id: String,
    /// Whether the coordinators signed it.
    pub signed: Result<(), AuthError>,
    /// Whether it is the whole of a record that is over, and its chain holds.
    pub sound: Result<(), NotArchivable>,
}

/// SHA-256 of a whole file.
pub fn sha256(file: &[u8]) -> Hash {
    let mut hash = GENESIS;
    hash.copy_from_slice(digest(&SHA256, file).as_ref());
    hash
}

/// The file of a document. The same document under the same key is the same file, byte by byte.
///
/// # Errors
/// If it cannot be written as JSON, which would be a defect.
pub fn seal(document: &Document, signer: &BeaconSigner) -> Result<Vec<u8>, serde_json::Error> {
    let text = RawValue::from_string(serde_json::to_string(document)?)?;
    let seal = signer.sign(Direction::Archive, text.get().as_bytes());
    let mut file = serde_json::to_vec(&File { document: &text, key_id: seal.key_id, signature: seal.mac })?;
    file.push(b'\n');
    Ok(file)
}

/// Take a file apart, and check everything that can be checked without the job table.
///
/// # Errors
/// If it is no file of an archive.
pub fn open(file: &[u8], keys: &BeaconVerifier) -> Result<Opened, serde_json::Error> {
    let File { document: text, key_id, signature } = serde_json::from_slice(file)?;
    let signed = keys.verify(Direction::Archive, text.get().as_bytes(), Some(&key_id), Some(&signature));
    let document: Document = serde_json::from_str(text.get())?;
    let sound = document.check();
    Ok(Opened { document, key_id, signed, sound })
}

/// Sign what stays in the job table.
///
/// # Errors
/// If it cannot be written as JSON, which would be a defect.
pub fn sign_stub(entry: Entry, signer: &BeaconSigner) -> Result<Stub, serde_json::Error> {
    let seal = signer.sign(Direction::Stub, &serde_json::to_vec(&entry)?);
    Ok(Stub { entry, key_id: seal.key_id, signature: seal.mac })
}

/// Check that the coordinators signed a stub.
///
/// # Errors
/// Why it is not authentic.
pub fn verify_stub(stub: &Stub, keys: &BeaconVerifier) -> Result<(), AuthError> {
    // What cannot be written is nothing that was signed.
    let body = serde_json::to_vec(&stub.entry).map_err(|_| AuthError::Mismatch)?;
    keys.verify(Direction::Stub, &body, Some(&stub.key_id), Some(&stub.signature))
}
