//! What tests are made with. Development only: nothing that ships depends on it.
//!
//! [`consumer`] is the kit that every subsystem consumer passes: each step repeated, failed before and after
//! its effect, and given wrongly, late, twice or by an impostor. [`mod@bench`] asks a driver in real time, for what is
//! special about it. [`mod@fuzz`] has whatever reads what comes from outside read what nobody would send who meant well;
//! [`archived`] has a record as the archive holds it, [`mod@bus`] is one that does one thing otherwise than the bus
//! behind it, and [`job_table`] what others do to the job table of one machine.
pub mod archived;
pub mod bench;
pub mod bus;
pub mod clock;
pub mod consumer;
pub mod fuzz;
pub mod job_table;
pub mod order;
