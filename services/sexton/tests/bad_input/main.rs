//! Bad input from the outside of the program: files, requests, arguments. Each error names what is wrong and what was
//! expected, and nothing is half applied.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod arguments;
mod configuration;
mod inventory;
mod pieces;
mod records;
mod requests;
mod served;
#[path = "../waiting/mod.rs"]
mod waiting;
