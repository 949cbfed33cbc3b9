//! `undefine`: the definition of a machine that is off is removed, and seen to be gone.
use sexton_consumer::driver::{Done, Obstacle};
use sexton_model::step::Presence;

use super::{Sight, sight, told};
use crate::ask::Ask;
use crate::machine::{Host, MayChange};

/// Remove the definition. Refuses while it runs, and if it lists a volume that was never pinned: without the
/// definition nobody would know whose that is.
pub(crate) async fn perform(host: &dyn Host, ask: &Ask, may: MayChange<'_>) -> Result<Done, Obstacle> {
    let _lock = host.lock(&ask.name).await?;
    if let Some(running) = host.running(&ask.name, ask.uuid).await? {
        return Err(Obstacle::Refuse(format!("{} {}: it is not undefined", ask.name, told(running))));
    }
    let domain = match sight(host, ask).await? {
        Sight::Ours(domain) => domain,
        Sight::Nothing(place) => {
            return Ok(Done::saw(format!("{}: {} was not defined", place.0, ask.name)));
        }
        Sight::Other(why) => return Err(Obstacle::Refuse(why)),
    };
    let pinned = ask.targets()?;
    let unknown: Vec<&str> = domain
        .volumes
        .iter()
        .filter(|path| !pinned.volumes.iter().any(|volume| volume.path == **path))
        .map(String::as_str)
        .collect();
    for path in unknown {
        // One that was missing at announce already is no loss.
        if host.volume(path, false).await?.is_some() {
            return Err(Obstacle::Refuse(format!("{} has a volume that is not pinned: {path}", ask.name)));
        }
    }
    host.undefine(&ask.name, ask.uuid, may).await?;
    Ok(Done::saw(format!("{} {} undefined", ask.name, ask.uuid)))
}

/// Whether anything of it can still run.
pub(crate) async fn presence(host: &dyn Host, ask: &Ask) -> Result<(Presence, String), Obstacle> {
    if let Some(running) = host.running(&ask.name, ask.uuid).await? {
        return Ok((Presence::Present, format!("{} {}", ask.name, told(running))));
    }
    match sight(host, ask).await? {
        Sight::Ours(_) => Ok((Presence::Present, format!("{} is defined", ask.name))),
        Sight::Nothing(place) => {
            Ok((Presence::Absent, format!("{}: {} is not defined and does not run", place.0, ask.name)))
        }
        Sight::Other(why) => Err(Obstacle::Refuse(why)),
    }
}
