//! The SDK for subsystem consumers.
//!
//! A consumer crate is drivers plus a table of actions; this crate does everything else: it takes orders from
//! its instance's queue, checks key, deadline, fence, beacon and identity, captures, performs, verifies,
//! reports progress, classifies errors, publishes the outcome and only then acks.
//!
//! Contract with a driver, in [`driver`]: read, compare, act, read again; never guess.
//!
//! What one order may and does is [`performer`], free of the bus, so that a simulator can drive it; what the
//! coordinators last broadcast is [`hearing`]; time and randomness come through [`clock`]. Whatever waits for several things looks
//! at them in a fixed order (`biased`), so that a seed plays the same run again.
//!
//! A consumer's `main` makes a driver and a bus, and calls [`Consumer::run`]; the flow of a message is in
//! `intake`, of an answer in `courier`, of what the coordinators broadcast in `listener`.
mod attend;
pub mod clock;
pub mod condition;
pub mod conditional;
pub mod consumer;
mod courier;
pub mod driver;
pub mod fences;
pub mod hearing;
mod intake;
pub mod lifeline;
mod listener;
pub mod metrics;
pub mod options;
pub mod performer;
pub mod permit;
pub mod program;
pub mod sandbox;
mod settlement;
pub mod stated;
mod step;
mod traced;
mod under_way;

pub use clock::{Clock, SystemClock};
pub use condition::Condition;
pub use consumer::{Consumer, ConsumerError};
pub use driver::{CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, Place, StepContext};
pub use hearing::Hearing;
pub use lifeline::Lifeline;
pub use metrics::Metrics;
pub use options::Options;
pub use performer::{Performer, Verdict};
pub use permit::Permit;
pub use stated::Stated;
