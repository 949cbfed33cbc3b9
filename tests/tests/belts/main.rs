//! Each safety belt, tripped in a running system: job table, coordinator, bus and consumers as `sexton serve` has
//! them. Every test here was seen to fail with its belt taken out, but for that of a frozen batch in `alarms`; in `drills`
//! those of records that are in the way of one, of what is not named any more, and of what none can be held with; and in
//! `surveys` those of a pause, of what is in use, of another coordinator, and of what a record pins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod alarms;
mod budgets;
mod canaries;
mod drift;
mod drills;
mod gate;
mod healthy;
mod hours;
mod in_use;
mod messages;
mod steps;
mod stops;
mod surveys;
mod system;
