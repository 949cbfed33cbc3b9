//! `check_off`: nothing runs the machine, and nothing would start it.
use sexton_consumer::driver::{Done, Obstacle};

use super::{Sight, sight, told};
use crate::ask::Ask;
use crate::machine::{Flags, Host};

/// Refuses while any process runs the machine, whoever started it.
pub(crate) async fn check(host: &dyn Host, ask: &Ask) -> Result<Done, Obstacle> {
    let (flags, seen) = match sight(host, ask).await? {
        Sight::Ours(domain) => (domain.flags, "defined"),
        Sight::Nothing(_) => (Flags::default(), "not defined"),
        Sight::Other(why) => return Err(Obstacle::Refuse(why)),
    };
    if let Some(running) = host.running(&ask.name, ask.uuid).await? {
        return Err(Obstacle::Refuse(format!("{} was stopped, but {}", ask.name, told(running))));
    }
    if flags != Flags::default() {
        return Err(Obstacle::Refuse(format!(
            "{} was stopped, but would be started again: {flags}",
            ask.name
        )));
    }
    Ok(Done::saw(format!("{}: {} is {seen} and off", host.place().await?.0, ask.name)))
}
