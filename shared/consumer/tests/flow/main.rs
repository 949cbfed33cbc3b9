//! From order to ack on the in-process bus: what is lost on the way is done again, and nothing twice too many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod answers;
mod archive;
mod forgetful;
mod not_accepted;
mod noted;
mod reread;
mod signs_of_life;
mod site;
mod swelling;
mod under_way;
