//! `inspect_image`: the image, and who uses it, before anybody is told that it goes. Read again before each later stage, which
//! has to have a step of this subsystem: that is what `check_unused` is for.
use serde_json::json;
use sexton_consumer::driver::{Found, Inspection, Obstacle};

use crate::image::{self, ImageAsk, ImageTargets, Sight};
use crate::machine::Host;

/// Look, and pin.
pub(crate) async fn inspect(host: &dyn Host, ask: &ImageAsk) -> Result<Inspection, Obstacle> {
    let (found, place, volumes) = match image::sight(host, ask).await? {
        Sight::Ours(volume) => (Found::Same, host.place().await?, vec![volume]),
        Sight::Nothing(place) => (Found::Absent(place.clone()), place, Vec::new()),
        Sight::Other(why) => {
            let targets = serde_json::Value::Null;
            return Ok(Inspection {
                found: Found::Different(why.clone()),
                targets,
                protected: None,
                evidence: why,
            });
        }
    };
    let (mut protected, mut evidence) = (None, format!("{}: there is no image {}", place.0, ask.name));
    if let Some(volume) = volumes.first() {
        protected = image::used(host, volume, ask.ends).await?;
        let (file, size, snapshots) = (&volume.file, volume.size, volume.snapshots.len());
        evidence =
            format!("{}: image {} is {file}, of {size} bytes, {snapshots} snapshots", place.0, ask.name);
    }
    let targets = json!(ImageTargets { place: place.0, image: ask.name.clone(), volumes });
    Ok(Inspection { found, targets, protected, evidence })
}
