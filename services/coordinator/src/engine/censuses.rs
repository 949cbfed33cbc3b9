//! Censuses that are taken without anybody asking, as `[census] take` says. Which are due is `sexton_model::belts::census::daily`'s
//! to say.
//!
//! Nothing of it is remembered here: what came last, and what is being listed, stands in the job table. One look begins what is
//! due and asks for the first pages; whoever hears a page asks for the next one (`listings`); later looks, of any coordinator,
//! ask for what has not come, and have it judged once all has, by which it is put away. So nobody waits for a page, and whoever
//! dies between any two of these leaves what the next look of another one goes on with.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sexton_ledger::{Counted, Ledger, LedgerError, NotDone};
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::daily::{self, Attempt, Seen, Take};
use sexton_model::belts::census::listing::{Listing, NotTaken};
use sexton_model::belts::census::{Census, NotBelieved};
use sexton_model::{Actor, Kind, Scope, Timestamp};

use super::Engine;
use super::listings::AGAIN;
use crate::plans::Plans;
use crate::taken::{Taking, Wanted};

/// How often it is looked whether one is due, and what has come of those that were begun: each look asks again for the pages
/// that are missing.
pub(crate) const TEND_EVERY: Duration = AGAIN;

impl Engine {
    /// Take censuses without being asked, too, as the policy says: these plans' catalogue says who lists what.
    pub fn with_censuses(self, plans: Option<Arc<Plans>>) -> Self {
        Self { lists: plans, ..self }
    }

    /// Look what has come of those that were begun; if there is none, begin one that is due.
    ///
    /// # Errors
    /// If the ledger did not do it, the last one of several; the next tick tries again.
    pub async fn tend_censuses(&self) -> Result<(), LedgerError> {
        let policy = self.ledger.policy();
        let Some(plans) = self.lists.as_ref().filter(|_| !policy.census.take.is_empty()) else {
            return Ok(());
        };
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (latest, kept) = (self.ledger.latest_censuses().await?, self.ledger.listings().await?);
        let facts = self.ledger.facts().await?;
        let mut done = Ok(());
        let mut under_way = false;
        for (listing, seen) in kept.iter().filter_map(|listing| Some((listing, listing.seen?))) {
            under_way |= listing.may_be_judged(facts.now);
            if let Err(error) = self.look_at_census(plans, (listing, seen), facts.now).await {
                self.put_off((&listing.kind, &listing.scope), seen, &error).await;
                done = Err(error);
            }
        }
        // One after the other: each asks every instance that lists its kind.
        if under_way {
            return done;
        }
        for (take, seen) in daily::to_take(&policy.census.take, &latest, &kept, facts.day, facts.now) {
            // What cannot be done about one keeps none of the others from being taken.
            match self.begin_census(plans, &take, seen).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    self.put_off((&take.kind, &take.scope), seen, &error).await;
                    done = Err(error);
                }
            }
        }
        done
    }

    /// The job table did not do it. That is written down, if it can be: what was tried and does not come calls somebody.
    async fn put_off(&self, (kind, scope): (&Kind, &Scope), seen: Seen, error: &LedgerError) {
        tracing::warn!(%kind, %scope, %error, "a census that is due is taken later");
        let why = "the job table did not do what it takes: see the coordinator's log".to_owned();
        let (kind, scope) = (kind.clone(), scope.clone());
        self.ledger.note_not_taken(Attempt { kind, scope, seen, why }).await.ok();
    }

    /// Begin one, and ask for its first pages. Whether one is begun, by this coordinator or by whoever was faster: then no other
    /// is begun at this look.
    async fn begin_census(&self, plans: &Plans, take: &Take, seen: Seen) -> Result<bool, LedgerError> {
        let wanted = Wanted {
            by: Actor::coordinator(),
            kind: take.kind.clone(),
            scope: take.scope.clone(),
            within_ms: take.within_secs * 1000,
            meant: Meant::default(),
            seen: Some(seen),
        };
        let mut taking = match Taking::begin(self, plans, wanted).await? {
            Ok(taking) => taking,
            Err(why) => {
                self.not_taken((&take.kind, &take.scope), seen, &why).await?;
                return Ok(matches!(why, NotDone::Taking(NotTaken::Busy { .. } | NotTaken::Overtaken)));
            }
        };
        // Whatever comes of that is found by the next look.
        if let Err(error) = taking.look(self).await {
            tracing::debug!(kind = %take.kind, scope = %take.scope, %error, "its first pages are asked for later");
        }
        Ok(true)
    }

    /// Look what has come of one that was begun: ask for the rest, or have it judged.
    async fn look_at_census(
        &self,
        plans: &Plans,
        (listing, seen): (&Listing, Seen),
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        // Nobody has looked in time. It is due as it was.
        if !listing.may_be_judged(now) {
            return self.ledger.end_listing(listing.id).await;
        }
        let of = (&listing.kind, &listing.scope);
        let came = match Taking::kept(plans, listing.clone()) {
            Some(mut taking) => taking.look(self).await?,
            None => Some(Err(NotTaken::NobodyLists(listing.kind.clone()).into())),
        };
        match came {
            None => Ok(()),
            Some(Ok(census)) => self.judge_listed(listing.id, census).await,
            Some(Err(why)) => {
                // Unless another coordinator was faster: then something is known by now that was not when it was due.
                self.not_taken(of, seen, &why).await?;
                self.ledger.end_listing(listing.id).await
            }
        }
    }

    async fn judge_listed(&self, listing: i64, census: Census) -> Result<(), LedgerError> {
        let (kind, scope, by) = (census.kind.clone(), census.scope.clone(), Actor::coordinator());
        // None: another coordinator has had it judged.
        let Some(judged) = self.ledger.take_listed(listing, census, &by).await? else { return Ok(()) };
        self.tell_of_census((&kind, &scope, &by), &judged).await;
        if let Ok(Counted { taken, .. }) = &judged {
            tracing::info!(census = taken.census, %kind, %scope, "it was time for a census: it is believed");
        }
        Ok(())
    }

    /// There is none. Unless that passes by itself, it is written down, and left alone for a while.
    async fn not_taken(
        &self,
        (kind, scope): (&Kind, &Scope),
        seen: Seen,
        why: &NotDone,
    ) -> Result<(), LedgerError> {
        if matches!(why, NotDone::Taking(why) if daily::passes(why)) {
            tracing::debug!(%kind, %scope, %why, "it is time for a census, and not now");
            return Ok(());
        }
        let kept = match why {
            NotDone::Taking(why) => why.kept(),
            other => other.to_string(),
        };
        let attempt = Attempt { kind: kind.clone(), scope: scope.clone(), seen, why: kept };
        if self.ledger.note_not_taken(attempt).await? {
            tracing::warn!(%kind, %scope, %why, "it was time for a census: none is taken");
        }
        Ok(())
    }

    /// Have a census judged by this handle of the job table, and tell what came of it.
    ///
    /// # Errors
    /// If the ledger did not do it. That it is not believed is the inner result.
    pub(crate) async fn judge_census(
        &self,
        ledger: &dyn Ledger,
        census: Census,
        by: &Actor,
    ) -> Result<Result<Counted, NotDone>, LedgerError> {
        let (kind, scope) = (census.kind.clone(), census.scope.clone());
        let judged = ledger.take_census(census, by).await?;
        self.tell_of_census((&kind, &scope, by), &judged).await;
        Ok(judged)
    }

    /// What came of one that was judged.
    async fn tell_of_census(
        &self,
        (kind, scope, by): (&Kind, &Scope, &Actor),
        judged: &Result<Counted, NotDone>,
    ) {
        let counted = match judged {
            Ok(counted) => counted,
            Err(why) => {
                tracing::warn!(%kind, %scope, %by, %why, "a census is not believed");
                // It may have paused its scope all the same.
                if matches!(why, NotDone::Census(NotBelieved::Fewer { .. })) {
                    self.noted();
                    self.tell_of_pause().await;
                }
                return;
            }
        };
        let taken = &counted.taken;
        if taken.missing > 0 || taken.unknown > 0 {
            let (missing, unknown, newly) = (taken.missing, taken.unknown, taken.newly_missing);
            tracing::warn!(census = taken.census, %kind, %scope, missing, newly, unknown, "the inventory and a census differ");
        }
        let misplaced = taken.misplaced.values().copied().fold(0, u64::saturating_add);
        if misplaced > 0 {
            tracing::warn!(census = taken.census, %kind, %scope, misplaced, "some are registered in another scope than they are listed in");
        }
        self.noted();
        if counted.has_paused() {
            self.tell_of_pause().await;
        }
    }

    /// Have every consumer hear of it at once.
    async fn tell_of_pause(&self) {
        if let Err(error) = self.beacon().await {
            tracing::warn!(%error, "the pause is in force, its beacon follows");
        }
    }
}
