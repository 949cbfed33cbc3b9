//! `delete_image`: the pinned image, with its snapshots, unless anybody uses it, and seen to be gone.
use sexton_consumer::driver::{Done, Found, Obstacle};
use sexton_model::step::Presence;

use crate::image::{self, ImageAsk, Sight};
use crate::machine::{Host, MayChange};

/// The pinned image, for the driver's `find`.
pub(crate) async fn find(host: &dyn Host, ask: &ImageAsk) -> Result<Found, Obstacle> {
    ask.is_pinned()?;
    image::find(host, ask).await
}

/// Delete it. Who uses it is asked right before: nobody else would ask.
pub(crate) async fn perform(host: &dyn Host, ask: &ImageAsk, may: MayChange<'_>) -> Result<Done, Obstacle> {
    ask.is_pinned()?;
    let _lock = host.lock(&ask.name).await?;
    let volume = match image::sight(host, ask).await? {
        Sight::Ours(volume) => volume,
        Sight::Nothing(place) => {
            return Ok(Done::saw(format!("{}: there was no image {}", place.0, ask.name)));
        }
        Sight::Other(why) => return Err(Obstacle::Refuse(why)),
    };
    if let Some(why) = image::used(host, &volume, ask.ends).await? {
        return Err(Obstacle::Refuse(why));
    }
    host.delete_volume(&volume, may).await?;
    Ok(Done::saw(format!("deleted image {}, with {} snapshots", ask.name, volume.snapshots.len())))
}

/// Whether it is left.
pub(crate) async fn presence(host: &dyn Host, ask: &ImageAsk) -> Result<(Presence, String), Obstacle> {
    ask.is_pinned()?;
    image::presence(host, ask).await
}
