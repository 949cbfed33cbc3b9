//! Holds on resources, rather than on the records they have.
use anyhow::Context as _;
use sexton_api::{Client, HoldRequest, Released};
use sexton_model::deletion::Hold;
use sexton_model::{Actor, ResourceId};

use crate::arguments::Format;
use crate::output::{counted, moment, write};

/// The resource that is named, by itself or by a record of it.
async fn resource_of(client: &Client, what: &str) -> anyhow::Result<ResourceId> {
    match what.parse() {
        Ok(resource) => Ok(resource),
        Err(_) => Ok(client.deletion(what).await?.resource.id),
    }
}

/// Hold it.
pub async fn hold(client: &Client, format: Format, what: &str, body: HoldRequest) -> anyhow::Result<()> {
    let resource = resource_of(client, what).await?;
    let hold = client.hold_resource(&resource, &body).await?;
    write(format, &hold, |hold| {
        let id = hold.id;
        format!(
            "{resource} is held by {}: no deletion of it goes on. sexton release {resource} {id} --resource",
            hold.origin
        )
    })
}

/// Release one hold of it, the only one, or all of an origin.
pub async fn release(
    client: &Client,
    format: Format,
    what: &str,
    (hold, origin): (Option<i64>, Option<Actor>),
) -> anyhow::Result<()> {
    let resource = resource_of(client, what).await?;
    let released = match (hold, origin) {
        (Some(hold), _) => client.release_resource(&resource, hold).await?,
        (None, Some(origin)) => client.release_origin(&resource, &origin).await?,
        (None, None) => {
            let holds = client.resource(&resource).await.context("looking which holds it has")?.holds;
            match holds.as_slice() {
                [only] => client.release_resource(&resource, only.id).await?,
                [] => anyhow::bail!(
                    "{resource} is not held; a hold of its record is released without --resource"
                ),
                many => {
                    let named: Vec<_> =
                        many.iter().map(|h| format!("{} ({}: {})", h.id, h.origin, h.reason)).collect();
                    anyhow::bail!("{resource} has several holds, name one: {}", named.join(", "));
                }
            }
        }
    };
    write(format, &released, |Released { released }| {
        format!("{} on {resource} released", counted(released.len(), "hold"))
    })
}

/// Holds on the resource of a record, a line each.
pub fn lines(holds: &[Hold]) -> String {
    let line = |hold: &Hold| {
        let since = moment(Some(hold.since));
        format!(
            "hold {:<6} on the resource: {}: {} (since {since}); sexton release … {} --resource\n",
            hold.id, hold.origin, hold.reason, hold.id
        )
    };
    holds.iter().map(line).collect()
}
