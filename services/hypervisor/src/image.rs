//! What the actions about an image ask for, and what stands under its name. An image is a volume in its own right: machines
//! have it as a disk, or have disks that build on it.
//!
//! What makes it this one is the attribute `file` of its identity: what the host says makes a volume this one (for QEMU its
//! inode and when it was made, in the sandbox its UUID).
use serde::{Deserialize, Serialize};
use sexton_consumer::driver::{Found, Obstacle, Place, StepContext};
use sexton_model::step::Presence;
use tokio::time::Instant;

use crate::machine::{Host, Volume};

/// What an inspection of an image pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageTargets {
    /// Which place this is.
    pub(crate) place: String,
    /// The image's name.
    pub(crate) image: String,
    /// Its volume, if it is there.
    pub(crate) volumes: Vec<Volume>,
}

/// A step about an image, in this subsystem's words.
#[derive(Debug, Clone)]
pub(crate) struct ImageAsk {
    /// The image's name: that of its volume.
    pub(crate) name: String,
    /// What makes it this one.
    pub(crate) file: String,
    /// What was pinned, if anything was.
    pub(crate) pinned: Option<ImageTargets>,
    /// No call may be begun after this.
    pub(crate) ends: Instant,
}

impl ImageAsk {
    /// Parse a step.
    pub(crate) fn of(step: &StepContext) -> Result<Self, Obstacle> {
        let refuse = |why: String| Obstacle::Refuse(format!("{}: {why}", step.resource));
        let file = step.identity.get("file").ok_or_else(|| refuse("its identity has no \"file\"".into()))?;
        let name = step.resource.name.as_str().to_owned();
        let pinned = if step.targets.is_null() {
            None
        } else {
            let targets: ImageTargets = serde_json::from_value(step.targets.clone())
                .map_err(|e| refuse(format!("its pinned targets are not those of an image: {e}")))?;
            if targets.image != name {
                return Err(refuse(format!("pinned was image {}", targets.image)));
            }
            Some(targets)
        };
        let ends = Instant::now() + step.time_left();
        Ok(Self { name, file: file.to_owned(), pinned, ends })
    }

    /// Without pinned targets nothing is destroyed.
    pub(crate) fn is_pinned(&self) -> Result<(), Obstacle> {
        match self.pinned {
            Some(_) => Ok(()),
            None => Err(Obstacle::Refuse(format!("image {}: nothing is pinned; inspect first", self.name))),
        }
    }
}

/// What stands under the image's name.
pub(crate) enum Sight {
    /// This image.
    Ours(Volume),
    /// Nothing.
    Nothing(Place),
    /// Another image, or another place; why.
    Other(String),
}

/// Look at it, at the pinned place. A machine that is on may have it open.
pub(crate) async fn sight(host: &dyn Host, ask: &ImageAsk) -> Result<Sight, Obstacle> {
    let place = host.place().await?;
    if let Some(pinned) = ask.pinned.as_ref().filter(|pinned| pinned.place != place.0) {
        return Ok(Sight::Other(format!("pinned at {}, but this is {}", pinned.place, place.0)));
    }
    Ok(match host.volume(&ask.name, true).await? {
        Some(volume) if volume.file == ask.file => Sight::Ours(volume),
        Some(volume) => {
            Sight::Other(format!("image {} is {}, expected was {}", ask.name, volume.file, ask.file))
        }
        None => Sight::Nothing(place),
    })
}

/// Who uses it, for people; none if nobody does. Whoever is about to delete it asks this as whoever looks does.
pub(crate) async fn used(
    host: &dyn Host,
    volume: &Volume,
    ends: Instant,
) -> Result<Option<String>, Obstacle> {
    let user = host.volume_user(volume, None, ends).await?;
    Ok(user.map(|user| format!("image {} is in use: {user}", volume.path)))
}

/// The image, for the driver's `find`.
pub(crate) async fn find(host: &dyn Host, ask: &ImageAsk) -> Result<Found, Obstacle> {
    Ok(match sight(host, ask).await? {
        Sight::Ours(_) => Found::Same,
        Sight::Nothing(place) => Found::Absent(place),
        Sight::Other(why) => Found::Different(why),
    })
}

/// Whether it is there.
pub(crate) async fn presence(host: &dyn Host, ask: &ImageAsk) -> Result<(Presence, String), Obstacle> {
    match sight(host, ask).await? {
        Sight::Ours(volume) => Ok((Presence::Present, format!("image {} is {}", ask.name, volume.file))),
        Sight::Nothing(place) => {
            Ok((Presence::Absent, format!("{}: there is no image {}", place.0, ask.name)))
        }
        Sight::Other(why) => Err(Obstacle::Refuse(why)),
    }
}
