//! Surveys, as both footings keep them.
//!
//! A trait of its own, since nothing of it decides about a deletion, and no row but its own is written. Orders of a
//! survey are numbered before it is looked whether the resource has a record: so whatever a record of it orders has a
//! higher number, and goes before them at every consumer. So has what canaries order of it: a survey is begun before
//! them, or not while they are open.
use std::ops::Range;

use async_trait::async_trait;
use sexton_model::canary::Came;
use sexton_model::resource::Presence;
use sexton_model::survey::{CannotSurvey, LOOKS_MAX, MINUTELY_MAX, NewSurvey, OPEN_MAX, Survey};
use sexton_model::{Fence, Instance};

use crate::bounds::within;
use crate::{LedgerError, NotDone, ResourceView};

/// One that is open.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// It was begun by this.
    Now(Box<Survey>),
    /// Somebody has begun it that asks for the very same.
    Before(Box<Survey>),
}

/// Asking what subsystems hold of a resource that has no record.
#[async_trait]
pub trait Surveys: Send + Sync {
    /// Begin a survey, or find the one that is open about the same.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more than [`LOOKS_MAX`] looks. Else the store did not do it. That it may
    /// not be begun is the inner result.
    async fn begin_survey(&self, new: NewSurvey) -> Result<Result<Begun, NotDone>, LedgerError>;

    /// An answer to one of its orders has come: the survey with it, if that changes anything.
    async fn hear_survey(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Survey>, LedgerError>;

    /// The numbers of the orders of those that are open: at most [`OPEN_MAX`] spans, so that whoever is told of many
    /// answers asks about none that is not one of them.
    async fn survey_orders(&self) -> Result<Vec<Range<i64>>, LedgerError>;

    /// Those whose orders are to be sent again now. Each is told to one caller, and to no other for some seconds.
    async fn surveys_to_send(&self) -> Result<Vec<Survey>, LedgerError>;

    /// One that is kept.
    async fn survey(&self, id: i64) -> Result<Option<Survey>, LedgerError>;

    /// Forget those that were kept long enough: how many.
    async fn forget_surveys(&self) -> Result<u64, LedgerError>;
}

/// That it does not ask for too much.
pub(crate) fn bounded(new: &NewSurvey) -> Result<(), LedgerError> {
    within("looks", new.looks.len(), LOOKS_MAX)
}

/// What is there when a survey is to be begun.
pub(crate) struct Standing {
    /// Whether the job table is under review.
    pub(crate) review: bool,
    /// The resource.
    pub(crate) resource: Option<ResourceView>,
    /// The open one about it.
    pub(crate) open: Option<Survey>,
    /// Whether canaries that are open look at it.
    pub(crate) canaries: bool,
    /// How many are open.
    pub(crate) open_in_all: i64,
    /// How many were begun within the last minute.
    pub(crate) begun_lately: i64,
}

/// The one that is open and asks for the same; none if a new one may be begun.
pub(crate) fn judge(new: &NewSurvey, standing: Standing) -> Result<Option<Survey>, NotDone> {
    let id = || new.about.resource.id.clone();
    if standing.review {
        return Err(CannotSurvey::Review.into());
    }
    let view = standing.resource.filter(|view| view.presence == Presence::Registered);
    let view = view.ok_or_else(|| NotDone::NotRegistered(id()))?;
    if let Some(deletion) = view.live {
        return Err(NotDone::AlreadyLive { resource: id(), deletion });
    }
    if view.resource != new.about.resource {
        // It was registered anew since it was read.
        return Err(CannotSurvey::Busy(id()).into());
    }
    match standing.open {
        Some(open) if open.about == new.about => return Ok(Some(open)),
        Some(_) => return Err(CannotSurvey::Busy(id()).into()),
        // Its orders would go before theirs, and what they prove would be unclear.
        None if standing.canaries => return Err(CannotSurvey::Busy(id()).into()),
        None => {}
    }
    let most = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
    if standing.open_in_all >= most(OPEN_MAX) {
        let open = usize::try_from(standing.open_in_all).unwrap_or(OPEN_MAX);
        return Err(CannotSurvey::TooMany { open, most: OPEN_MAX }.into());
    }
    if standing.begun_lately >= most(MINUTELY_MAX) {
        return Err(CannotSurvey::TooOften.into());
    }
    Ok(None)
}

/// A minute, in microseconds.
pub(crate) const MINUTE_US: i64 = 60_000_000;
