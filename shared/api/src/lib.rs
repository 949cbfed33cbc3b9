//! The HTTP API: request and response types, and a typed client. The coordinator serves it, the operator's
//! program and platforms use it.
//!
//! Contract: every request is bounded and closed (an unknown field is an error that names it); every error is
//! a [`Problem`] (RFC 9457) that says what was wrong with which field and what was expected.
mod access;
mod again;
mod alarms;
mod answer;
mod batches;
mod canaries;
mod cancellations;
mod census;
mod client;
pub mod date;
mod drills;
mod holds;
mod surveys;
mod types;

pub use access::*;
pub use again::IDEMPOTENCY_KEY;
pub use alarms::*;
pub use batches::*;
pub use canaries::*;
pub use cancellations::*;
pub use census::*;
pub use client::{Client, ClientError};
pub use drills::*;
pub use holds::*;
pub use surveys::*;
pub use types::*;
