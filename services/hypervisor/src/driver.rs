//! From the SDK's calls to the actions.
use async_trait::async_trait;
use serde_json::Value;
use sexton_consumer::driver::{
    CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, StepContext,
};
use sexton_consumer::permit::Permit;
use sexton_model::step::Presence;
use tokio::time::Duration;

use crate::actions::{
    Action, census, check_off, check_unused, delete_image, delete_volumes, find_domain, inspect,
    inspect_image, stop, undefine,
};
use crate::ask::Ask;
use crate::image::{self, ImageAsk};
use crate::machine::{Host, MayChange, Patience};

/// How long a guest may take to obey ACPI, unless the plan says otherwise (`acpi_wait_ms`).
pub(crate) const POLITE: Duration = Duration::from_secs(30);
/// Of the time of a stop, this much is kept for force: QMP's `quit` and the kill.
pub(crate) const KEPT_FOR_FORCE: Duration = Duration::from_secs(10);

/// The driver for a host.
#[derive(Debug)]
pub struct Hypervisor<H> {
    host: H,
}

impl<H: Host> Hypervisor<H> {
    /// The driver for this host.
    pub fn new(host: H) -> Self {
        Self { host }
    }
}

pub(crate) fn patience(ask: &Ask) -> Patience {
    let now = tokio::time::Instant::now();
    let left = ask.ends.saturating_duration_since(now);
    let kept = KEPT_FOR_FORCE.min(left / 2);
    Patience { polite: ask.polite.unwrap_or(POLITE).min(left - kept), ends: ask.ends }
}

fn not(step: &StepContext, what: &str) -> Obstacle {
    Obstacle::Refuse(format!("{}: hypervisor.{} {what}", step.resource, step.action))
}

#[async_trait]
impl<H: Host> Driver for Hypervisor<H> {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        match Action::of(&step.action)? {
            Action::InspectImage | Action::CheckUnused | Action::DeleteImage => {
                inspect_image::inspect(&self.host, &ImageAsk::of(step)?).await
            }
            Action::Inspect | Action::Stop | Action::CheckOff | Action::Undefine | Action::DeleteVolumes => {
                inspect::inspect(&self.host, &Ask::of(step)?).await
            }
        }
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match Action::of(&step.action)? {
            Action::Inspect | Action::Stop | Action::CheckOff | Action::Undefine => {
                find_domain(&self.host, &Ask::of(step)?).await
            }
            Action::DeleteVolumes => delete_volumes::find(&self.host, &Ask::of(step)?).await,
            Action::InspectImage | Action::CheckUnused => image::find(&self.host, &ImageAsk::of(step)?).await,
            Action::DeleteImage => delete_image::find(&self.host, &ImageAsk::of(step)?).await,
        }
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        match Action::of(&step.action)? {
            Action::Stop => stop::capture(&self.host, &Ask::of(step)?).await,
            Action::Inspect
            | Action::CheckOff
            | Action::Undefine
            | Action::DeleteVolumes
            | Action::InspectImage
            | Action::CheckUnused
            | Action::DeleteImage => Err(step.no_undo()),
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let may: MayChange<'_> = &|| permit.again();
        match Action::of(&step.action)? {
            Action::Stop => {
                let ask = Ask::of(step)?;
                stop::perform(&self.host, &ask, manifest, may, patience(&ask)).await
            }
            Action::Undefine => undefine::perform(&self.host, &Ask::of(step)?, may).await,
            Action::DeleteVolumes => delete_volumes::perform(&self.host, &Ask::of(step)?, may).await,
            Action::DeleteImage => delete_image::perform(&self.host, &ImageAsk::of(step)?, may).await,
            Action::Inspect | Action::CheckOff | Action::InspectImage | Action::CheckUnused => {
                Err(not(step, "only looks; it cannot be performed"))
            }
        }
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        match Action::of(&step.action)? {
            Action::Stop => stop::undo(&self.host, &Ask::of(step)?, manifest, &|| permit.again()).await,
            Action::Inspect
            | Action::CheckOff
            | Action::Undefine
            | Action::DeleteVolumes
            | Action::InspectImage
            | Action::CheckUnused
            | Action::DeleteImage => Err(step.no_undo()),
        }
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        match Action::of(&step.action)? {
            Action::Stop | Action::CheckOff => stop::presence(&self.host, &Ask::of(step)?).await,
            Action::Undefine | Action::Inspect => undefine::presence(&self.host, &Ask::of(step)?).await,
            Action::DeleteVolumes => delete_volumes::presence(&self.host, &Ask::of(step)?).await,
            Action::InspectImage | Action::CheckUnused => {
                image::presence(&self.host, &ImageAsk::of(step)?).await
            }
            Action::DeleteImage => delete_image::presence(&self.host, &ImageAsk::of(step)?).await,
        }
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        match Action::of(&step.action)? {
            Action::Stop => stop::restored(&self.host, &Ask::of(step)?, manifest).await,
            Action::Inspect
            | Action::CheckOff
            | Action::Undefine
            | Action::DeleteVolumes
            | Action::InspectImage
            | Action::CheckUnused
            | Action::DeleteImage => Err(step.no_undo()),
        }
    }

    async fn census(&self, page: &CensusContext) -> Result<Listed, Obstacle> {
        if page.kind.as_str() != census::KIND {
            return Err(page.no_census());
        }
        census::page(&self.host, page.after.as_ref(), page.most).await
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        match Action::of(&step.action)? {
            Action::CheckOff => check_off::check(&self.host, &Ask::of(step)?).await,
            Action::CheckUnused => check_unused::check(&self.host, &ImageAsk::of(step)?).await,
            Action::Inspect
            | Action::Stop
            | Action::Undefine
            | Action::DeleteVolumes
            | Action::InspectImage
            | Action::DeleteImage => Err(step.no_check()),
        }
    }
}
