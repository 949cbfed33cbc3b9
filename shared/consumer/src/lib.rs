//! The SDK for subsystem consumers.
//!
//! A consumer crate is drivers plus a table of actions; this crate does everything else: it takes orders from
//! its instance's queue, checks key, deadline, fence, beacon and identity, captures, performs, verifies,
//! reports progress, classifies errors, publishes the outcome and only then acks.
//!
//! Contract with a driver, in [`driver`]: read, compare, act, read again; never guess.
pub mod driver;
pub mod permit;
pub mod sandbox;

pub use driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
pub use permit::Permit;
