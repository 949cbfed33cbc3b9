//! Listings: orders for the pages of a census, and the pages that come back.
//!
//! Nothing of it is remembered here: which page of whom is waited for stands in the table, so any coordinator hears what
//! another one has asked.
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use sexton_ledger::LedgerError;
use sexton_model::belts::census::listing::{ACTION, Asked, Listing, PageAsked};
use sexton_model::resource::Identity;
use sexton_model::{Fence, Instance, Timestamp};

use super::asides::{self, Numbered, order};
use super::{Engine, Heard};

/// After how long whoever has not listed a page is asked again, so a message that was lost costs no census. So long each stays
/// in a queue.
pub(crate) const AGAIN: Duration = Duration::from_secs(3);
/// Longest call to a subsystem, in milliseconds. Nothing is built on it: a page changes nothing.
const CALL_MS: u64 = 15_000;

impl Engine {
    /// Ask for these pages of a listing.
    pub(crate) async fn ask_for_pages(
        &self,
        listing: &Listing,
        pages: Vec<(&Asked, PageAsked)>,
        now: Timestamp,
    ) {
        // Their fences are known outside of the job table before their orders are, as those of all orders.
        if pages.is_empty() || self.reviewing.load(Ordering::Relaxed) || !self.noted() {
            return;
        }
        let mut messages = Vec::new();
        for (of, page) in pages {
            let Some(asked) = asked(&page) else { continue };
            let numbered = Numbered {
                instance: &of.instance,
                step: 0,
                fence: of.fence,
                revision: listing.revision,
                issued_at: now,
                deadline: listing.answer_by,
            };
            messages.extend(self.aside(order(asked, &numbered), AGAIN, |_, own, _| Some(own)));
        }
        self.send(messages).await;
    }

    /// Answers have come that may be pages of listings. What is none is left alone.
    pub(super) async fn hear_listings(&self, heard: &[Heard]) -> Result<(), LedgerError> {
        if heard.is_empty() {
            return Ok(());
        }
        let asked = self.ledger.listing_orders().await?;
        let theirs = |heard: &&Heard| asked.contains(&heard.fence.number);
        for Heard { from, fence, came } in heard.iter().filter(theirs) {
            if let Some(listing) = self.ledger.hear_listing(from, *fence, came).await? {
                tracing::debug!(listing = listing.id, kind = %listing.kind, %from, "an instance has answered for a census");
                self.ask_on(&listing, (from, *fence)).await;
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Ask for the page behind the one that has come of a census that was due: nobody waits for that one, and looks are seconds
    /// apart. What is lost of it the next look asks for again.
    async fn ask_on(&self, listing: &Listing, (from, heard): (&Instance, Fence)) {
        let pages: Vec<_> =
            listing.open().filter(|(of, _)| of.instance == *from && of.fence != heard).collect();
        if listing.seen.is_none() || pages.is_empty() {
            return;
        }
        match self.ledger.facts().await {
            Ok(facts) => self.ask_for_pages(listing, pages, facts.now).await,
            Err(error) => tracing::debug!(listing = listing.id, %error, "the next page is asked for later"),
        }
    }
}

/// What an order for a page asks. It is about no resource; what it names instead is never looked for.
fn asked(page: &PageAsked) -> Option<asides::Asked> {
    let identity = BTreeMap::from([(ACTION.to_owned(), page.kind.to_string())]);
    Some(asides::Asked {
        resource: format!("{}/{ACTION}", page.kind).parse().ok()?,
        identity: Identity::try_from(identity).ok()?,
        attributes: Value::Null,
        action: ACTION.parse().ok()?,
        params: page.params(),
        longest_call_ms: CALL_MS,
        pinned: None,
    })
}
