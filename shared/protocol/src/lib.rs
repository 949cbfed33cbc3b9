//! What Sexton's processes say to each other: messages, their envelope, and the proof of who sent them.
//!
//! Contract: every body is a CloudEvents 1.0 JSON batch of 1 to 16 events ([`Pack`]), decoded strictly and
//! within bounds. Its proof travels in headers beside it, so that the body stays readable JSON: an HMAC-SHA256
//! under a key per subsystem instance ([`Keyring`]), or an Ed25519 signature where everyone may read but only
//! the coordinators may speak ([`BeaconSigner`]). Nothing here does I/O or reads a clock.
//!
//! Where to look: the messages in [`message`], which of them travel together in [`channel`], the envelope in
//! [`envelope`], MACs in [`auth`], signatures in [`sign`], what is signed to be kept in [`archive`] and [`receipt`], key files in
//! [`keyfile`], JSON Schema and AsyncAPI in [`schema`].
//!
//! On the way in, verify first and decode afterwards: nothing is parsed that nobody vouches for.
pub mod archive;
pub mod auth;
pub mod channel;
pub mod envelope;
pub mod keyfile;
pub mod message;
pub mod receipt;
pub mod rotate;
pub mod schema;
pub mod sign;

pub use auth::{AuthError, Direction, Holder, Keyring, Seal};
pub use channel::{Broadcast, Message, Report};
pub use envelope::{CONTENT_TYPE, DecodeError, EncodeError, Event, Pack, Packed, Packer};
pub use keyfile::KeyFileError;
pub use message::{Check, Extension, Happened, Order, OutcomeReport, Progress, Pulse, Rejected, StageDue};
pub use rotate::Rotation;
pub use sign::{BeaconSigner, BeaconVerifier};
