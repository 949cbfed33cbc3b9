//! `delete_volumes`: exactly the pinned volumes, with their snapshots, and seen to be gone.
use sexton_consumer::driver::{Done, Found, Obstacle};
use sexton_model::step::Presence;
use tokio::time::Instant;

use crate::ask::Ask;
use crate::machine::{Host, MayChange, Volume};

/// Those of the pinned volumes that are there and the same; and why, if one is another.
pub(crate) async fn compare(
    host: &dyn Host,
    pinned: &[Volume],
) -> Result<(Vec<Volume>, Option<String>), Obstacle> {
    let mut left = Vec::new();
    for wanted in pinned {
        match host.volume(&wanted.path, true).await? {
            Some(seen) if seen.file == wanted.file => left.push(seen),
            Some(seen) => {
                let why = format!("volume {} is {}, pinned was {}", wanted.path, seen.file, wanted.file);
                return Ok((left, Some(why)));
            }
            None => {}
        }
    }
    Ok((left, None))
}

/// Where nothing is pinned nothing is deleted in any place.
async fn wrong_place(host: &dyn Host, ask: &Ask) -> Result<Option<String>, Obstacle> {
    ask.targets()?;
    super::elsewhere(host, ask).await
}

/// The pinned volumes, for the driver's `find`.
pub(crate) async fn find(host: &dyn Host, ask: &Ask) -> Result<Found, Obstacle> {
    if let Some(why) = wrong_place(host, ask).await? {
        return Ok(Found::Different(why));
    }
    match compare(host, &ask.targets()?.volumes).await? {
        (_, Some(why)) => Ok(Found::Different(why)),
        (left, None) if left.is_empty() => Ok(Found::Absent(host.place().await?)),
        (_, None) => Ok(Found::Same),
    }
}

/// Delete them. All are looked at before the first is touched: a volume that is in use, or another one, keeps
/// the rest as well.
pub(crate) async fn perform(host: &dyn Host, ask: &Ask, may: MayChange<'_>) -> Result<Done, Obstacle> {
    let _lock = host.lock(&ask.name).await?;
    if let Some(why) = wrong_place(host, ask).await? {
        return Err(Obstacle::Refuse(why));
    }
    if let Some(running) = host.running(&ask.name, ask.uuid).await? {
        return Err(Obstacle::Refuse(format!("{} {}", ask.name, super::told(running))));
    }
    let pinned = &ask.targets()?.volumes;
    let left = match compare(host, pinned).await? {
        (left, None) => left,
        (_, Some(why)) => return Err(Obstacle::Refuse(why)),
    };
    for volume in &left {
        refuse_used(host, volume, ask.ends).await?;
    }
    let total = left.len() as u64;
    for (done, volume) in left.iter().enumerate() {
        if Instant::now() >= ask.ends {
            return Err(Obstacle::Unclear(format!("out of time after {done} of {total} volumes")));
        }
        // Again, right before the call: the earlier ones took their time.
        refuse_used(host, volume, ask.ends).await?;
        host.delete_volume(volume, may).await?;
        if let Some(progress) = &ask.progress {
            progress.report(done as u64 + 1, total);
        }
    }
    let snapshots: usize = left.iter().map(|volume| volume.snapshots.len()).sum();
    Ok(Done::saw(format!("deleted {total} of {} pinned volumes, with {snapshots} snapshots", pinned.len())))
}

async fn refuse_used(host: &dyn Host, volume: &Volume, ends: Instant) -> Result<(), Obstacle> {
    match host.volume_user(volume, None, ends).await? {
        Some(user) => Err(Obstacle::Refuse(format!("volume {} is in use: {user}", volume.path))),
        None => Ok(()),
    }
}

/// Whether any of them is left.
pub(crate) async fn presence(host: &dyn Host, ask: &Ask) -> Result<(Presence, String), Obstacle> {
    if let Some(why) = wrong_place(host, ask).await? {
        return Err(Obstacle::Refuse(why));
    }
    let place = host.place().await?.0;
    match compare(host, &ask.targets()?.volumes).await? {
        (_, Some(why)) => Err(Obstacle::Refuse(why)),
        (left, None) if left.is_empty() => {
            let count = ask.targets()?.volumes.len();
            Ok((Presence::Absent, format!("{place}: none of {count} pinned volumes is left")))
        }
        (left, None) => {
            let left: Vec<&str> = left.iter().map(|volume| volume.path.as_str()).collect();
            Ok((Presence::Present, format!("{place}: left are {}", left.join(", "))))
        }
    }
}
