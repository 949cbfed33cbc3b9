//! Each safety belt, tripped in a running system: job table, coordinator, bus and consumers as `sexton serve` has
//! them, and once more as many machines have them (`many::…`, with the feature `real-servers`). What takes each belt out,
//! and which test has to fail then, is written down in `tests/planted/belts.toml`; `scripts/planted belts` goes through
//! it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod access;
mod alarms;
mod budgets;
mod canaries;
mod censuses;
mod claims;
mod digest;
mod drift;
mod drills;
mod findings;
#[cfg(feature = "real-servers")]
mod foretold;
mod gate;
mod glass;
mod healthy;
mod hours;
mod images;
mod in_use;
mod memberships;
mod messages;
#[cfg(feature = "real-servers")]
mod migrated;
mod moves;
mod notice;
mod on_call;
mod places;
mod receipts;
mod refusals;
mod restores;
mod second_person;
mod seen;
mod stated;
mod steps;
mod stops;
mod surveys;
mod system;
mod undo;
mod versions;
mod witnessed;
