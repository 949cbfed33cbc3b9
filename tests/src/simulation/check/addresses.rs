//! An address has one holder (I6): what was given to another is used by nobody who had it before, and taken from nobody.
use crate::simulation::platform::{State, Truth};

use super::{Violation, violated};

/// All of them, as they are now.
///
/// # Errors
/// If one has two holders, or was taken from somebody who uses it.
pub fn held_once(truth: &Truth) -> Result<(), Violation> {
    if let Some((address, newcomer)) = truth.pool.robbed() {
        violated("I6", format!("address {address} is taken from {newcomer}, who uses it"))?;
    }
    let there =
        truth.things.iter().filter(|((_, thing), is)| *thing == "definition" && is.state != State::Gone);
    for ((vm, _), is) in there {
        if let Some(newcomer) = truth.pool.newcomer(&is.owner) {
            violated("I6", format!("the address of {vm} is {newcomer}'s, and {vm} is there"))?;
        }
    }
    Ok(())
}
