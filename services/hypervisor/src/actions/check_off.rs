//! `check_off`: the machine is still defined here, nothing runs it, and nothing would start it.
use sexton_consumer::driver::{Done, Obstacle};

use super::{ours, told};
use crate::ask::Ask;
use crate::machine::{Flags, Host};

/// Refuses while any process runs the machine, whoever started it; and if it is not defined any more. It was when
/// it was stopped, and no step of the deletion has removed it since: somebody may have moved it to another host,
/// where it runs, and what follows would give its address away.
pub(crate) async fn check(host: &dyn Host, ask: &Ask) -> Result<Done, Obstacle> {
    let flags = ours(host, ask).await?.flags;
    if let Some(running) = host.running(&ask.name, ask.uuid).await? {
        return Err(Obstacle::Refuse(format!("{} was stopped, but {}", ask.name, told(running))));
    }
    if flags != Flags::default() {
        return Err(Obstacle::Refuse(format!(
            "{} was stopped, but would be started again: {flags}",
            ask.name
        )));
    }
    Ok(Done::saw(format!("{}: {} is defined and off", host.place().await?.0, ask.name)))
}
