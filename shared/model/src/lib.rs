//! The pure heart of Sexton: words, plans, records, jobs, and the one function that moves them.
//!
//! Contract: nothing in this crate does I/O, reads a clock, draws randomness or is `async`. Time, ids and
//! fences come in as arguments, decisions go out as values ([`decide`]), so that the coordinator, the model
//! checker and the simulator all run the very same rules.
//!
//! Where to look: ids in [`id`], time and calendars in [`time`], what can be deleted in [`resource`], plans
//! and their linter in [`plan`] (what an action is allowed to do in [`catalogue`]), the deletion record and
//! its jobs in [`deletion`] and [`job`], the state machine in [`decide`], belts in [`belts`], the audit chain
//! in [`audit`], what is signed of it in [`attest`], a copy that is compared with that in [`chain_copy`], what is kept of a record that is over in [`archive`], a ledger
//! that went back in time in [`checkpoint`], back-off in [`retry`], what has appeared since targets were pinned in [`targets`],
//! what a resource has to state of itself in [`statement`], whether that can be rebuilt in [`rebuilt`],
//! dates as people write them in [`date`], when a record's stages are due in [`outlook`], what a
//! deletion would do in [`preview`], what proves that it is done in [`receipt`],
//! what a cancel would take back, and until when, in [`undo`], who may do what in [`access`], what becomes of a request
//! that is sent again in [`request_key`], what only one resource at a time may be registered for in [`exclusive`], what each has
//! to itself by what it states in [`claims`], what a
//! person has to know of now in [`alarm`], and each day in [`digest`], and what must be refused every day in [`canary`].
pub mod access;
pub mod alarm;
pub mod archive;
pub mod attest;
pub mod audit;
pub mod beacon;
pub mod belts;
pub mod canary;
pub mod catalogue;
pub mod chain_copy;
pub mod checkpoint;
pub mod claims;
pub mod credit;
pub mod date;
pub mod decide;
pub mod deletion;
pub mod digest;
pub mod drill;
pub mod exclusive;
pub mod id;
pub mod job;
pub mod outlook;
pub mod plan;
pub mod preview;
pub mod rebuilt;
pub mod receipt;
pub mod request_key;
pub mod resource;
pub mod retry;
pub mod statement;
pub mod step;
pub mod survey;
pub mod targets;
pub mod time;
pub mod undo;

pub use id::{
    ActionName, Actor, DeletionId, Fence, Instance, InvalidId, JobId, Kind, ResourceId, Scope, Subsystem,
};
pub use time::Timestamp;
