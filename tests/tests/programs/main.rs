//! The separate processes as whoever starts them sees them: what they say of a wrong configuration. They are the programs
//! that `scripts/test` has built.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod configuration;
mod installed;
