//! What the actions decide, on any host. One file per action.
use sexton_consumer::driver::{Found, Obstacle};
use sexton_model::ActionName;

use crate::ask::Ask;
use crate::machine::{Domain, Host, Running};

pub(crate) mod census;
pub(crate) mod check_off;
pub(crate) mod check_unused;
pub(crate) mod delete_image;
pub(crate) mod delete_volumes;
pub(crate) mod inspect;
pub(crate) mod inspect_image;
pub(crate) mod stop;
pub(crate) mod undefine;

/// One of the actions in `deploy/subsystems/hypervisor.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look.
    Inspect,
    /// Switch off, reversibly.
    Stop,
    /// Go on only if it is off.
    CheckOff,
    /// Remove the definition.
    Undefine,
    /// Delete the pinned volumes.
    DeleteVolumes,
    /// Look at an image.
    InspectImage,
    /// Go on only if nobody uses the image.
    CheckUnused,
    /// Delete the image.
    DeleteImage,
}

impl Action {
    /// All of them, by name.
    pub(crate) const ALL: [(&str, Self); 8] = [
        ("inspect", Self::Inspect),
        ("stop", Self::Stop),
        ("check_off", Self::CheckOff),
        ("undefine", Self::Undefine),
        ("delete_volumes", Self::DeleteVolumes),
        ("inspect_image", Self::InspectImage),
        ("check_unused", Self::CheckUnused),
        ("delete_image", Self::DeleteImage),
    ];

    /// The action called `name`.
    pub(crate) fn of(name: &ActionName) -> Result<Self, Obstacle> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name.as_str())
            .map(|(_, action)| action)
            .ok_or_else(|| Obstacle::Refuse(format!("hypervisor has no action {name}")))
    }
}

/// What stands under the machine's name.
pub(crate) enum Sight {
    /// This machine.
    Ours(Domain),
    /// Nothing, and the machine is not defined under another name either.
    Nothing(sexton_consumer::driver::Place),
    /// Another machine, another place, or this machine under another name; why.
    Other(String),
}

/// Why this is not the place in which it was pinned; none if it is, or if nothing is pinned yet. Whoever looks asks this as
/// whoever deletes does: what it answers to one it answers to the other.
pub(crate) async fn elsewhere(host: &dyn Host, ask: &Ask) -> Result<Option<String>, Obstacle> {
    let place = host.place().await?.0;
    let other = ask.pinned.as_ref().filter(|pinned| pinned.place != place);
    Ok(other.map(|pinned| format!("pinned at {}, but this is {place}", pinned.place)))
}

/// Look at the definition, at the pinned place.
pub(crate) async fn sight(host: &dyn Host, ask: &Ask) -> Result<Sight, Obstacle> {
    if let Some(why) = elsewhere(host, ask).await? {
        return Ok(Sight::Other(why));
    }
    let place = host.place().await?;
    Ok(match host.domain(&ask.name).await? {
        Some(domain) if domain.uuid == ask.uuid => Sight::Ours(domain),
        Some(domain) => {
            Sight::Other(format!("{} has uuid {}, expected was {}", ask.name, domain.uuid, ask.uuid))
        }
        None => match host.defined_as(ask.uuid).await? {
            Some(name) => Sight::Other(format!("{} is called {name} now: it was renamed", ask.name)),
            None => Sight::Nothing(place),
        },
    })
}

/// The definition, or why nothing may be done to it.
pub(crate) async fn ours(host: &dyn Host, ask: &Ask) -> Result<Domain, Obstacle> {
    match sight(host, ask).await? {
        Sight::Ours(domain) => Ok(domain),
        Sight::Nothing(place) => Err(Obstacle::Refuse(format!(
            "{} is not defined at {}: removed by hand, or moved to another host",
            ask.name, place.0
        ))),
        Sight::Other(why) => Err(Obstacle::Refuse(why)),
    }
}

/// The definition, for the driver's `find`.
pub(crate) async fn find_domain(host: &dyn Host, ask: &Ask) -> Result<Found, Obstacle> {
    Ok(match sight(host, ask).await? {
        Sight::Ours(_) => Found::Same,
        Sight::Nothing(place) => Found::Absent(place),
        Sight::Other(why) => Found::Different(why),
    })
}

/// How a running process is told to people.
pub(crate) fn told(running: Running) -> String {
    match running {
        Running::Own(process) => format!("runs as {process}"),
        Running::Changed(process) => {
            format!("runs as {process}, with other settings than it is defined with")
        }
        Running::Foreign(process) => format!("runs as {process}, which was not started from its definition"),
    }
}
