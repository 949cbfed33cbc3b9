//! What a step asks for, parsed once: everything the actions need of a [`StepContext`].
use sexton_consumer::driver::{Obstacle, Progress, StepContext};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::machine::{Targets, VOLUMES_MAX};

/// The step, in this subsystem's words.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The machine's name.
    pub(crate) name: String,
    /// What makes it this one.
    pub(crate) uuid: Uuid,
    /// What was pinned, if anything was.
    pub(crate) pinned: Option<Targets>,
    /// The end of cancel has not been reached.
    pub(crate) reversible: bool,
    /// No call may be begun after this.
    pub(crate) ends: Instant,
    /// How long the plan lets a guest take to obey ACPI; the driver's own setting otherwise.
    pub(crate) polite: Option<Duration>,
    /// Where a long step says that it goes on.
    pub(crate) progress: Option<Progress>,
}

impl Ask {
    /// Parse a step.
    pub(crate) fn of(step: &StepContext) -> Result<Self, Obstacle> {
        let refuse = |why: String| Obstacle::Refuse(format!("{}: {why}", step.resource));
        let uuid = step.identity.get("uuid").ok_or_else(|| refuse("its identity has no \"uuid\"".into()))?;
        let uuid = Uuid::parse_str(uuid).map_err(|e| refuse(format!("its identity's uuid {uuid:?}: {e}")))?;
        let name = step.resource.name.as_str().to_owned();
        let pinned = if step.targets.is_null() {
            None
        } else {
            let targets: Targets = serde_json::from_value(step.targets.clone())
                .map_err(|e| refuse(format!("its pinned targets are not this subsystem's: {e}")))?;
            if targets.domain != name || targets.uuid != uuid {
                return Err(refuse(format!("pinned was {} {}", targets.domain, targets.uuid)));
            }
            if targets.volumes.len() > VOLUMES_MAX {
                return Err(refuse(format!("more than {VOLUMES_MAX} volumes are pinned")));
            }
            Some(targets)
        };
        let polite = match step.params.get("acpi_wait_ms") {
            None => None,
            Some(value) => Some(Duration::from_millis(value.as_u64().ok_or_else(|| {
                refuse(format!("the plan's acpi_wait_ms is {value}, not a number of milliseconds"))
            })?)),
        };
        let ends = Instant::now() + step.time_left();
        let reversible = step.reversible_stage;
        Ok(Self { name, uuid, pinned, reversible, ends, polite, progress: Some(step.progress.clone()) })
    }

    /// Whether a volume of this name was pinned.
    pub(crate) fn is_pinned(&self, path: &str) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.volumes.iter().any(|volume| volume.path == path))
    }

    /// The pinned targets, without which nothing is destroyed.
    pub(crate) fn targets(&self) -> Result<&Targets, Obstacle> {
        self.pinned
            .as_ref()
            .ok_or_else(|| Obstacle::Refuse(format!("{}: nothing is pinned; inspect first", self.name)))
    }
}
