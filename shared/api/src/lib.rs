//! The HTTP API: request and response types, and a typed client. The coordinator serves it, the operator's
//! program and platforms use it.
//!
//! Contract: every request is bounded and closed (an unknown field is an error that names it); every error is
//! a [`Problem`] (RFC 9457) that says what was wrong with which field and what was expected.
mod access;
mod again;
mod alarms;
mod answer;
mod audit;
mod batches;
mod canaries;
mod cancellations;
mod census;
mod client;
pub mod date;
mod drills;
mod findings;
mod health;
mod holds;
mod in_force;
mod records;
mod rehearsal;
mod resources;
mod surveys;
mod types;

pub use access::*;
pub use again::IDEMPOTENCY_KEY;
pub use alarms::*;
pub use audit::*;
pub use batches::*;
pub use canaries::*;
pub use cancellations::*;
pub use census::*;
pub use client::{Client, ClientError};
pub use drills::*;
pub use findings::*;
pub use health::*;
pub use holds::*;
pub use in_force::*;
pub use records::*;
pub use rehearsal::REHEARSAL;
pub use resources::*;
pub use surveys::*;
pub use types::*;
