//! The separate processes as whoever starts them sees them: what they say of a wrong configuration, and that they end when
//! they are told to while they wait for their servers. They are the programs that `scripts/test` has built.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod configuration;
mod installed;
mod stopped;
