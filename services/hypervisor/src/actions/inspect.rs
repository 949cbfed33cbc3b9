//! `inspect`: what this host holds for a machine, defined or not; and who else uses its volumes, before anybody is told
//! that they go. `delete_volumes` asks that again, when there is no way back.
use serde_json::json;
use sexton_consumer::driver::{Found, Inspection, Obstacle};
use tokio::time::Instant;

use super::{Sight, delete_volumes, sight, told};
use crate::ask::Ask;
use crate::machine::{Domain, Host, Owner, Running, Targets, Volume};

/// Look, and pin.
pub(crate) async fn inspect(host: &dyn Host, ask: &Ask) -> Result<Inspection, Obstacle> {
    match sight(host, ask).await? {
        Sight::Ours(domain) => inspect_domain(host, ask, domain).await,
        Sight::Other(why) => Ok(Inspection {
            found: Found::Different(why.clone()),
            targets: serde_json::Value::Null,
            protected: None,
            evidence: why,
        }),
        Sight::Nothing(place) => {
            if let Some(running) = host.running(&ask.name, ask.uuid).await? {
                let why = format!("{} is not defined, but {}", ask.name, told(running));
                let found = Found::Different(why.clone());
                return Ok(Inspection {
                    found,
                    targets: serde_json::Value::Null,
                    protected: None,
                    evidence: why,
                });
            }
            inspect_rest(host, ask, place).await
        }
    }
}

async fn inspect_domain(host: &dyn Host, ask: &Ask, domain: Domain) -> Result<Inspection, Obstacle> {
    let place = host.place().await?;
    let running = host.running(&ask.name, ask.uuid).await?;
    let mut volumes = Vec::new();
    let mut missing = Vec::new();
    for path in &domain.volumes {
        match host.volume(path, running.is_some()).await? {
            Some(volume) => volumes.push(volume),
            // Past the end of cancel one that is gone already is what was wanted, if it is one that was pinned.
            None if !ask.reversible && ask.is_pinned(path) => {}
            None => missing.push(path.clone()),
        }
    }
    if !missing.is_empty() {
        // Not pinned, they would never be deleted; and they may be on a disk that is not mounted.
        return Err(Obstacle::Refuse(format!(
            "{} is defined with volumes that are not at {}: {}; bring them back, or take them out of its definition",
            ask.name,
            place.0,
            missing.join(", ")
        )));
    }
    let evidence = format!(
        "{}: {} is {} and {}; {} volumes",
        place.0,
        ask.name,
        domain.uuid,
        running.map_or_else(|| "off".to_owned(), told),
        volumes.len()
    );
    let protected = match running {
        Some(foreign @ Running::Foreign(_)) => Some(format!("it {}", told(foreign))),
        Some(_) | None => match domain.protected {
            Some(why) => Some(why),
            None => {
                let owner = Owner { name: &domain.name, process: running.map(Running::process) };
                used_by_others(host, owner, &volumes, ask.ends).await?
            }
        },
    };
    let targets = json!(Targets::of(place, domain.name, domain.uuid, volumes));
    Ok(Inspection { found: Found::Same, targets, protected, evidence })
}

/// The first of its volumes that somebody else uses, and who.
async fn used_by_others(
    host: &dyn Host,
    owner: Owner<'_>,
    volumes: &[Volume],
    ends: Instant,
) -> Result<Option<String>, Obstacle> {
    for volume in volumes {
        if let Some(user) = host.volume_user(volume, Some(owner), ends).await? {
            return Ok(Some(format!("volume {} is in use: {user}", volume.path)));
        }
    }
    Ok(None)
}

/// What is left of a machine that is no longer defined: those of its pinned volumes that are still there.
async fn inspect_rest(
    host: &dyn Host,
    ask: &Ask,
    place: sexton_consumer::driver::Place,
) -> Result<Inspection, Obstacle> {
    let (volumes, others) = match &ask.pinned {
        Some(pinned) => delete_volumes::compare(host, &pinned.volumes).await?,
        None => (Vec::new(), None),
    };
    let evidence = format!("{}: {} is not defined; {} volumes are left", place.0, ask.name, volumes.len());
    let found = match others {
        Some(why) => Found::Different(why),
        // Before the end of cancel a machine without its definition is missing, whatever is left of it.
        None if volumes.is_empty() || ask.reversible => Found::Absent(place.clone()),
        None => Found::Same,
    };
    let targets = json!(Targets::of(place, ask.name.clone(), ask.uuid, volumes));
    Ok(Inspection { found, targets, protected: None, evidence })
}
