//! The coordinator: the only writer of the job table.
//!
//! Contract: it checks the belts, claims what may run, publishes orders, and moves jobs on when outcomes
//! arrive. Every decision is `sexton_model::decide`'s, taken inside [`sexton_ledger::Ledger::run`]; this crate
//! carries messages to it and effects away from it. Commit first, publish after: whatever is lost in between
//! is repaired by the lease. Any number of coordinators may run.
//!
//! Where to look: what a message means in [`intake`], what an effect becomes in [`outbox`], the handlers in
//! [`engine`], what is kept of the job table outside of it in [`witness`], what is signed of its audit trail in
//! [`attester`], how records that are over leave the job table in [`archiver`], what keeps it from working in
//! [`hindrance`], whom it asks every day what must be refused in [`canaries`], how it takes a census in [`taken`], when it does so without being asked in [`engine`], what that shows and nobody has registered in [`findings`], when it may begin what cannot be cancelled in [`hours`], and how much with it in [`policy`], their traces in [`follow`], the loops that call them in [`service`], the HTTP API in [`api`], what a person is called for, and by which routes, in [`alarms`].
pub mod alarms;
pub mod api;
pub mod archiver;
pub mod attester;
pub mod canaries;
pub mod engine;
pub mod findings;
pub mod follow;
pub mod hindrance;
pub mod hours;
pub mod intake;
pub mod notary;
pub mod outbox;
pub mod plans;
pub mod policy;
pub mod service;
pub mod settings;
pub mod taken;
pub mod watch;
pub mod witness;

pub use alarms::Alarmer;
pub use archiver::Archiver;
pub use attester::Attester;
pub use canaries::Canaries;
pub use engine::{Engine, Options};
pub use hindrance::Hindrance;
pub use plans::Plans;
pub use service::{Ended, run};
pub use witness::{Now, Witness};
