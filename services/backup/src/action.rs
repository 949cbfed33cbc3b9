//! The actions of this subsystem.
use sexton_consumer::driver::{Obstacle, StepContext};
use sexton_model::ActionName;

/// One of the actions in `deploy/subsystems/backup.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look.
    Inspect,
    /// One last backup.
    Final,
    /// No more scheduled ones.
    RemoveSchedule,
    /// Delete the pinned snapshots.
    DeleteArchives,
}

impl Action {
    /// All of them, by name.
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("inspect", Self::Inspect),
        ("final", Self::Final),
        ("remove_schedule", Self::RemoveSchedule),
        ("delete_archives", Self::DeleteArchives),
    ];

    /// The action called `name`.
    pub(crate) fn of(name: &ActionName) -> Result<Self, Obstacle> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name.as_str())
            .map(|(_, action)| action)
            .ok_or_else(|| Obstacle::Refuse(format!("backup has no action {name}")))
    }
}

/// An action that changes nothing was to be performed.
pub(crate) fn only_looks(step: &StepContext) -> Obstacle {
    Obstacle::Refuse(format!("{}: backup.{} only looks; it cannot be performed", step.resource, step.action))
}
