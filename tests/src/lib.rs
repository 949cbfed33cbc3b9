//! Tests of the whole: separate processes, real servers, and the simulator. Nothing but tests.
pub mod simulation;
pub mod trail;
