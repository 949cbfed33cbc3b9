//! `check_unused`: the image is there, and nobody uses it. While it can still be cancelled, or rescued: behind the point of no
//! return whoever began to use it meanwhile is only seen by `delete_image`.
use sexton_consumer::driver::{Done, Obstacle};

use crate::image::{self, ImageAsk, Sight};
use crate::machine::Host;

/// Refuses while anybody uses it, and says who.
pub(crate) async fn check(host: &dyn Host, ask: &ImageAsk) -> Result<Done, Obstacle> {
    let volume = match image::sight(host, ask).await? {
        Sight::Ours(volume) => volume,
        Sight::Nothing(place) => {
            return Err(Obstacle::Refuse(format!("{}: there is no image {}", place.0, ask.name)));
        }
        Sight::Other(why) => return Err(Obstacle::Refuse(why)),
    };
    if let Some(why) = image::used(host, &volume, ask.ends).await? {
        return Err(Obstacle::Refuse(why));
    }
    Ok(Done::saw(format!("{}: nobody uses image {}", host.place().await?.0, ask.name)))
}
