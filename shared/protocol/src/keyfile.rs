//! Key files: TOML text in, keys out; and new keys as text.
//!
//! ```toml
//! [[keys]]                      # MAC keys: one file per process, with the keys it needs and no others
//! id = "dns-2026-11"
//! holder = "dns.main"           # or "scheduler"
//! secret = "…"                  # base64 of 32 to 64 bytes
//! sign = true                   # false while a new key is being handed out
//! ```
//! A signer's file has one `[[keys]]` with `id` and `secret`; a verifier's any number with `id` and `public`.
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::auth::{
    Holder, KEY_ID_MAX_BYTES, Key, Keyring, SECRET_MAX_BYTES, SECRET_MIN_BYTES, decode_exactly,
};
use crate::sign::{BeaconSigner, BeaconVerifier};

/// Why a key file cannot be used. Never quotes a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not TOML of this form.
    #[error("{file}: {reason}")]
    Form {
        /// The file's name.
        file: String,
        /// What the parser said, without the text it stumbled over.
        reason: String,
    },
    /// One key is wrong.
    #[error("{file}: key {id:?}: {reason}")]
    Key {
        /// The file's name.
        file: String,
        /// The key's id.
        id: String,
        /// What is wrong and what was expected.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<K> {
    keys: Vec<K>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MacEntry {
    id: String,
    #[serde(alias = "instance")]
    holder: String,
    secret: SecretString,
    #[serde(default = "yes")]
    sign: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerEntry {
    id: String,
    secret: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifierEntry {
    id: String,
    public: String,
}

fn yes() -> bool {
    true
}

fn parse<K: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<Vec<K>, KeyFileError> {
    let parsed: File<K> = toml::from_str(text).map_err(|e| {
        // The error's own rendering quotes the line, and the line may hold a secret. Bytes are counted, since it may point
        // into the middle of a character.
        let line = e.span().map(|s| text.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!("line {line}: "));
        KeyFileError::Form { file: file.to_owned(), reason: format!("{place}{}", e.message()) }
    })?;
    Ok(parsed.keys)
}

struct Faulty<'a> {
    file: &'a str,
    id: &'a str,
}

impl Faulty<'_> {
    fn because(&self, reason: &'static str) -> KeyFileError {
        // Who has swapped id and secret must not find the secret in a log.
        let secret = STANDARD.decode(self.id).is_ok_and(|bytes| bytes.len() >= SECRET_MIN_BYTES);
        let id = if secret {
            "(not shown: it looks like a secret)".to_owned()
        } else {
            self.id.chars().take(KEY_ID_MAX_BYTES).collect()
        };
        KeyFileError::Key { file: self.file.to_owned(), id, reason }
    }

    fn check_id(&self) -> Result<(), KeyFileError> {
        let printable = self.id.bytes().all(|b| b.is_ascii_graphic());
        if self.id.is_empty() || self.id.len() > KEY_ID_MAX_BYTES || !printable {
            return Err(self.because("id: expected 1 to 64 printable characters without spaces"));
        }
        Ok(())
    }
}

impl Keyring {
    /// Parse a file of MAC keys.
    ///
    /// # Errors
    /// Naming the file and the key; a secret is never quoted.
    pub fn parse(file: &str, text: &str) -> Result<Self, KeyFileError> {
        let mut ring = Self::default();
        for entry in parse::<MacEntry>(file, text)? {
            let faulty = Faulty { file, id: &entry.id };
            faulty.check_id()?;
            if ring.find(&entry.id).is_some() {
                return Err(faulty.because("id: it is there twice, and an id must name one key"));
            }
            let secret = STANDARD
                .decode(entry.secret.expose_secret())
                .map_err(|_| faulty.because("secret: expected base64"))?;
            if secret.len() < SECRET_MIN_BYTES || secret.len() > SECRET_MAX_BYTES {
                return Err(faulty.because("secret: expected base64 of 32 to 64 bytes"));
            }
            // Its own error would quote it, and it may be the secret, if the two were swapped.
            let holder = entry
                .holder
                .parse()
                .map_err(|_| faulty.because("holder: expected scheduler, or an instance such as dns.main"))?;
            ring.insert(holder, Key::new(entry.id, entry.sign, secret));
        }
        Ok(ring)
    }

    /// A ring with one new key for each of `holders`: for tests, the demo, and everything in one process.
    pub fn generate(holders: impl IntoIterator<Item = Holder>, rng: &mut impl rand::CryptoRng) -> Self {
        let mut ring = Self::default();
        for holder in holders {
            ring.add_missing(&holder, rng);
        }
        ring
    }

    /// The ring as a key file. Holds secrets: write it where only its reader can read it.
    pub fn to_file(&self) -> SecretString {
        let mut text = String::new();
        for (holder, key) in self.entries() {
            let secret = STANDARD.encode(key.secret.expose_secret());
            text.push_str(&format!("[[keys]]\nid = {:?}\nholder = \"{holder}\"\n", key.id));
            text.push_str(&format!("secret = \"{secret}\"\nsign = {}\n\n", key.signs));
        }
        text.into()
    }

    /// The same ring with nothing in it but the keys of `holder`: what its process is given.
    pub fn only(&self, holder: &Holder) -> Self {
        let mut ring = Self::default();
        for (whose, key) in self.entries().filter(|(whose, _)| *whose == holder) {
            let secret = key.secret.expose_secret().clone();
            ring.insert(whose.clone(), Key::new(key.id.clone(), key.signs, secret));
        }
        ring
    }
}

impl BeaconSigner {
    /// Parse a file with one signing key.
    ///
    /// # Errors
    /// Naming the file and the key; the secret is never quoted.
    pub fn parse(file: &str, text: &str) -> Result<Self, KeyFileError> {
        let entries = parse::<SignerEntry>(file, text)?;
        let [entry] = entries.as_slice() else {
            let reason = format!("expected one [[keys]], found {}", entries.len());
            return Err(KeyFileError::Form { file: file.to_owned(), reason });
        };
        let faulty = Faulty { file, id: &entry.id };
        faulty.check_id()?;
        let seed = decode_exactly::<32>(entry.secret.expose_secret())
            .map_err(|_| faulty.because("secret: expected base64 of 32 bytes"))?;
        Ok(Self { key_id: entry.id.clone(), key: SigningKey::from_bytes(&seed) })
    }

    /// A new key.
    pub fn generate(key_id: impl Into<String>, rng: &mut impl rand::CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self { key_id: key_id.into(), key: SigningKey::from_bytes(&seed) }
    }

    /// The key as a signer's file. Holds a secret: write it where only its reader can read it.
    pub fn to_file(&self) -> SecretString {
        let secret = STANDARD.encode(self.key.to_bytes());
        format!("[[keys]]\nid = {:?}\nsecret = \"{secret}\"\n", self.key_id).into()
    }
}

impl BeaconVerifier {
    /// Parse a file of public keys.
    ///
    /// # Errors
    /// Naming the file and the key.
    pub fn parse(file: &str, text: &str) -> Result<Self, KeyFileError> {
        let mut keys = BTreeMap::new();
        for entry in parse::<VerifierEntry>(file, text)? {
            let faulty = Faulty { file, id: &entry.id };
            faulty.check_id()?;
            let reason = "public: expected base64 of an Ed25519 public key, 32 bytes";
            let public = decode_exactly::<32>(&entry.public).map_err(|_| faulty.because(reason))?;
            let public = VerifyingKey::from_bytes(&public).map_err(|_| faulty.because(reason))?;
            if public.is_weak() {
                return Err(faulty.because("public: a weak key, under which anything verifies"));
            }
            if keys.insert(entry.id.clone(), public).is_some() {
                return Err(faulty.because("id: it is there twice, and an id must name one key"));
            }
        }
        Ok(Self { keys })
    }

    /// The keys as a verifier's file.
    pub fn to_file(&self) -> String {
        self.keys.iter().fold(String::new(), |text, (id, key)| {
            let public = STANDARD.encode(key.as_bytes());
            format!("{text}[[keys]]\nid = {id:?}\npublic = \"{public}\"\n\n")
        })
    }
}
