//! Tables of every event in every state, the diagram against the function, and random sequences.
//!
//! All of them drive the deletion through [`kit::Bench`], which checks the invariants after every decision.
mod budget;
mod cancel;
mod claim;
mod diagram;
mod drift;
mod drill;
mod healthy;
mod hours;
mod kit;
mod lease;
mod notice;
mod one_shot;
mod person;
mod random;
mod redundancy;
mod review;
mod seen;
mod settle;
mod time;
mod watch;

pub(crate) use kit::{all_ceilings, before_anything, plan};
