//! Listings: what instances are asked for a census, and what has come of it, as both footings keep it.
//!
//! A trait of its own, since nothing of it decides about a deletion, and no row but its own is written, but for that a census
//! which was due was not taken. All of it stands in the table, so whichever coordinator hears a page, the one that takes the
//! census finds it.
use std::collections::BTreeSet;

use async_trait::async_trait;
use sexton_model::belts::census::Census;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::listing::{
    INSTANCES_MAX, LEFT_US, Listing, NewListing, NotTaken, OPEN_MAX, Page,
};
use sexton_model::canary::Came;
use sexton_model::{Actor, Fence, Instance, Timestamp};

use crate::bounds::within;
use crate::{Counted, LedgerError, NotDone};

/// Asking instances for all that they hold of a kind.
#[async_trait]
pub trait Listings: Send + Sync {
    /// Begin a listing.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if more than [`INSTANCES_MAX`] are to be asked. Else the store did not do it. That it may not
    /// be begun is the inner result.
    async fn begin_listing(&self, new: NewListing) -> Result<Result<Listing, NotDone>, LedgerError>;

    /// An answer to one of its orders has come: the listing with it, if that changes anything.
    async fn hear_listing(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Listing>, LedgerError>;

    /// The numbers of the orders that are waited for, of those that are kept, so that whoever is told of many answers asks
    /// about none that is not one of them.
    async fn listing_orders(&self) -> Result<BTreeSet<i64>, LedgerError>;

    /// All that are kept: those that are open, and those that nobody has put away.
    async fn listings(&self) -> Result<Vec<Listing>, LedgerError>;

    /// That a census was due and was not taken, in the audit trail and as what came last of its kind and scope: unless
    /// something has come since it was found to be due, so that of several coordinators one notes it. Whether it is noted.
    async fn note_not_taken(&self, attempt: Attempt) -> Result<bool, LedgerError>;

    /// One that is kept.
    async fn listing(&self, id: i64) -> Result<Option<Listing>, LedgerError>;

    /// All pages of it that have come, those of one instance in the order in which they did.
    async fn listed(&self, id: i64) -> Result<Vec<(Instance, Page)>, LedgerError>;

    /// Judge a census as [`Ledger::take_census`](crate::Ledger::take_census) does, which was made of this listing, and put that
    /// away: both or neither, so that of several coordinators that have all pages one does it, and whoever dies before has done
    /// nothing. Nothing if it is not kept any more.
    ///
    /// # Errors
    /// If the store did not do it. What it lacks is the inner result.
    async fn take_listed(
        &self,
        id: i64,
        census: Census,
        by: &Actor,
    ) -> Result<Option<Result<Counted, NotDone>>, LedgerError>;

    /// Put it away, with its pages: whoever began it has what came. Others that nobody has put away go, too, a minute after
    /// their time is over.
    async fn end_listing(&self, id: i64) -> Result<(), LedgerError>;
}

/// That it does not ask for too much.
pub(crate) fn bounded(new: &NewListing) -> Result<(), LedgerError> {
    within("instances", new.instances.len(), INSTANCES_MAX)
}

/// The one that waits for the order of this fence.
pub(crate) fn waiting(kept: Vec<Listing>, fence: Fence) -> Option<Listing> {
    kept.into_iter().find(|listing| listing.open().any(|(asked, _)| asked.fence == fence))
}

/// The numbers of all orders that are waited for.
pub(crate) fn orders(kept: &[Listing]) -> BTreeSet<i64> {
    kept.iter().flat_map(Listing::open).map(|(asked, _)| asked.fence.number).collect()
}

/// A new one is judged beside those whose time ends after this moment: as of now those that are open, but all that are kept if
/// it is begun because it was due. What came of one whose time is over may be about to be judged.
pub(crate) fn judged_beside(new: &NewListing, now: Timestamp) -> Timestamp {
    if new.seen.is_some() { Timestamp(now.0.saturating_sub(LEFT_US)) } else { now }
}

/// Whether a new one may be begun. `open`: those that it is judged beside; `by_now`: what is known of its kind and scope,
/// where it was due.
pub(crate) fn judge(
    new: &NewListing,
    review: bool,
    open: &[Listing],
    by_now: Option<Seen>,
) -> Result<(), NotDone> {
    if review {
        return Err(NotTaken::Review.into());
    }
    if new.seen.is_some() && new.seen != by_now {
        return Err(NotTaken::Overtaken.into());
    }
    let same = |open: &&Listing| open.kind == new.kind && open.scope == new.scope;
    if let Some(same) = open.iter().find(same) {
        let (kind, scope) = (new.kind.clone(), new.scope.clone());
        return Err(NotTaken::Busy { kind, scope, until: same.answer_by }.into());
    }
    if open.len() >= OPEN_MAX {
        return Err(NotTaken::TooMany { open: open.len() }.into());
    }
    Ok(())
}
