//! Canaries, as both footings keep them.
//!
//! A trait of its own, since nothing of it decides about a deletion. One run is open at a time, over all coordinators; a
//! verdict is written down once, with its event, and with the pause that it leads to.
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use sexton_model::canary::{self, CANARIES_MAX, Came, Canary, Judged, Probe, Verdict};
use sexton_model::plan::Plan;
use sexton_model::time::Day;
use sexton_model::{Actor, Fence, ResourceId, Timestamp};

use crate::bounds::within;
use crate::rules::LedgerEvent;
use crate::{LedgerError, known};

/// A run to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Who asks for it; none: it is begun only if it is due.
    pub asked_by: Option<Actor>,
    /// How long each may take to be answered, in milliseconds.
    pub within_ms: u64,
    /// What is asked, at most [`CANARIES_MAX`]; with a verdict if it cannot be asked.
    pub probes: Vec<(Probe, Option<Verdict>)>,
}

/// What must be refused, and whether it is.
#[async_trait]
pub trait Canaries: Send + Sync {
    /// Begin a run: those that are to be sent now and those that cannot be. None if it is not due, or if the last one is
    /// still open.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more than [`CANARIES_MAX`]. Else the store did not do it.
    async fn begin_canaries(&self, new: NewRun) -> Result<Option<Vec<Canary>>, LedgerError>;

    /// An answer to one has come, or it cannot be tried: what it is known to show now, if that changes it. If it was accepted,
    /// everything is paused when this returns, and if it is of a run before the last one, the same of the last one is known
    /// to be accepted, too ([`Canary::hear_of`]).
    async fn hear_canary(&self, id: i64, came: &Came) -> Result<Option<Canary>, LedgerError>;

    /// Try one that the job table itself has to refuse ([`Probe::Protected`], [`Probe::OverBudget`]), with this plan of its
    /// kind, and have it judged as [`Self::hear_canary`] does. None if it is not open any more: of all that try it at once
    /// one does, and the others wait for what comes of that. Nothing of what is tried is left: it is rolled back, whatever
    /// came of it. On PostgreSQL nothing is dispatched meanwhile.
    ///
    /// # Errors
    /// If the store could not try it, or somebody else was in the way for too long: then it is as open as before. What could
    /// not be tried for another reason is judged so ([`canary::Rehearsed::Failed`]).
    async fn try_canary(&self, id: i64, plan: &Arc<Plan>) -> Result<Option<Canary>, LedgerError>;

    /// Those of the last run that nobody has answered in time, or that are not asked because they would prove nothing, and
    /// that were not told before ([`canary::unheard`]).
    async fn miss_canaries(&self) -> Result<Vec<Canary>, LedgerError>;

    /// The one of this fence, of any run that is kept.
    async fn canary_of(&self, fence: Fence) -> Result<Option<Canary>, LedgerError>;

    /// The last run, ascending by number; each says what stands ([`Canary::standing`]). At most [`CANARIES_MAX`].
    async fn canaries(&self) -> Result<Vec<Canary>, LedgerError>;
}

/// What a new run is numbered with.
pub(crate) struct Numbers {
    pub(crate) now: Timestamp,
    pub(crate) epoch: u32,
    pub(crate) first_fence: i64,
}

impl NewRun {
    /// That it is not too large.
    pub(crate) fn bounded(&self) -> Result<(), LedgerError> {
        within("canaries", self.probes.len(), CANARIES_MAX)
    }

    /// Whether it is begun, behind this one.
    pub(crate) fn begins(&self, last: &[Canary], now: Timestamp, day: Day) -> bool {
        let due = || canary::due(last.first().map(|canary| canary.begun_at), now, day);
        !last.iter().any(Canary::is_open) && (self.asked_by.is_some() || due())
    }

    /// The canaries of it, behind this one.
    pub(crate) fn number(&self, last: &[Canary], numbers: &Numbers) -> Vec<Canary> {
        let now = numbers.now;
        let run = last.first().map_or(0, |canary| canary.run).saturating_add(1);
        let ids = last.last().map_or(0, |canary| canary.id).saturating_add(1)..;
        let before = |probe: &Probe| last.iter().find(|canary| canary.probe == *probe)?.standing().cloned();
        let one = |(((probe, verdict), id), number): ((&(Probe, Option<Verdict>), i64), i64)| Canary {
            id,
            run,
            by: self.asked_by.clone().unwrap_or_else(canary::actor),
            before: before(probe),
            probe: probe.clone(),
            fence: Fence { epoch: numbers.epoch, number },
            begun_at: now,
            answer_by: now.plus_ms(self.within_ms),
            judged: verdict.clone().map(|verdict| Judged { verdict, at: now, pause: None }),
            elsewhere: None,
        };
        self.probes.iter().zip(ids).zip(numbers.first_fence..).map(one).collect()
    }
}

/// Whether one of these is open and about this resource.
pub(crate) fn look_at(canaries: &[Canary], id: &ResourceId) -> bool {
    canaries.iter().any(|canary| canary.is_open() && canary.probe.resource() == Some(id))
}

/// What of the last run is judged with one that was judged just now.
pub(crate) fn judged_with(judged: &Canary, last: Vec<Canary>) -> Vec<Canary> {
    let with = |canary: Canary| {
        let heard = canary.hear_of(judged)?;
        Some(Canary { judged: Some(heard), ..canary })
    };
    last.into_iter().filter_map(with).collect()
}

/// The event of a run that was begun.
pub(crate) fn begun(canaries: &[Canary], by: &Actor, at: Timestamp) -> LedgerEvent {
    let body = json!({ "run": canaries.first().map(|canary| canary.run), "canaries": canaries.len() });
    LedgerEvent { at, what: "canaries_begun".into(), by: by.to_string(), body }
}

/// The event of a verdict.
pub(crate) fn judged(canary: &Canary, at: Timestamp) -> Result<LedgerEvent, LedgerError> {
    let body = known::value(&canary.clone().told())?;
    Ok(LedgerEvent { at, what: "canary".into(), by: canary::actor().to_string(), body })
}
