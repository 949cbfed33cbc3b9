//! What tests are made with. Development only: nothing that ships depends on it.
//!
//! [`consumer`] is the kit that every subsystem consumer passes: each step repeated, failed before and after
//! its effect, and given wrongly, late, twice or by an impostor.
pub mod clock;
pub mod consumer;
