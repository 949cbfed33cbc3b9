//! Censuses that are taken without anybody asking, as `[census] take` says. Which are due is `sexton_model::belts::census::daily`'s
//! to say.
//!
//! Nothing of it is remembered here: what came last, and what is being listed, stands in the job table, so any coordinator takes
//! the next one. One that dies while it takes one leaves a listing, and a minute after the time of that is over somebody takes it
//! anew.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sexton_ledger::{Counted, Ledger, LedgerError, NotDone};
use sexton_model::Actor;
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::daily::{self, Attempt, Seen, Take};
use sexton_model::belts::census::{Census, NotBelieved};

use super::Engine;
use crate::plans::Plans;
use crate::taken::{Taking, Wanted};

/// How often it is looked whether one is due: as soon as in a rehearsal one may be.
pub(crate) const TEND_EVERY: Duration = Duration::from_secs(5);

impl Engine {
    /// Take censuses without being asked, too, as the policy says: these plans' catalogue says who lists what.
    pub fn with_censuses(self, plans: Option<Arc<Plans>>) -> Self {
        Self { lists: plans, ..self }
    }

    /// Take those that are due, one after the other.
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
        for (take, seen) in daily::to_take(&policy.census.take, &latest, &kept, facts.day, facts.now) {
            // What cannot be done about one keeps none of the others from being taken.
            if let Err(error) = self.take_what_is_due(plans, &take, seen).await {
                let (kind, scope) = (take.kind.clone(), take.scope.clone());
                tracing::warn!(%kind, %scope, %error, "a census that is due is taken later");
                // Written down, if that can be done: what was tried and does not come calls somebody.
                let why = "the job table did not do what it takes: see the coordinator's log".to_owned();
                self.ledger.note_not_taken(Attempt { kind, scope, seen, why }).await.ok();
                done = Err(error);
            }
        }
        done
    }

    async fn take_what_is_due(&self, plans: &Plans, take: &Take, seen: Seen) -> Result<(), LedgerError> {
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
            Err(why) => return self.not_taken(take, seen, &why).await,
        };
        let done = self.judge_what_came(&mut taking, take, seen).await;
        // Only now: as long as it is kept, no other coordinator begins one.
        taking.end(self).await;
        done
    }

    async fn judge_what_came(&self, taking: &mut Taking, take: &Take, seen: Seen) -> Result<(), LedgerError> {
        match taking.wait(self).await? {
            Ok(census) => {
                let by = Actor::coordinator();
                if let Ok(counted) = self.judge_census(&*self.ledger, census, &by).await? {
                    let (number, kind, scope) = (counted.taken.census, &take.kind, &take.scope);
                    tracing::info!(census = number, %kind, %scope, "it was time for a census: it is believed");
                }
                Ok(())
            }
            Err(why) => self.not_taken(take, seen, &why).await,
        }
    }

    /// There is none. Unless that passes by itself, it is written down, and left alone for a while.
    async fn not_taken(&self, take: &Take, seen: Seen, why: &NotDone) -> Result<(), LedgerError> {
        let (kind, scope) = (take.kind.clone(), take.scope.clone());
        if matches!(why, NotDone::Taking(why) if daily::passes(why)) {
            tracing::debug!(%kind, %scope, %why, "it is time for a census, and not now");
            return Ok(());
        }
        let kept = match why {
            NotDone::Taking(why) => why.kept(),
            other => other.to_string(),
        };
        let attempt = Attempt { kind, scope, seen, why: kept };
        if self.ledger.note_not_taken(attempt).await? {
            let (kind, scope) = (&take.kind, &take.scope);
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
        let counted = match ledger.take_census(census, by).await? {
            Ok(counted) => counted,
            Err(why) => {
                tracing::warn!(%kind, %scope, %by, %why, "a census is not believed");
                // It may have paused its scope all the same.
                if matches!(why, NotDone::Census(NotBelieved::Fewer { .. })) {
                    self.noted();
                    self.tell_of_pause().await;
                }
                return Ok(Err(why));
            }
        };
        let taken = &counted.taken;
        if taken.missing > 0 || taken.unknown > 0 {
            let (missing, unknown, newly) = (taken.missing, taken.unknown, taken.newly_missing);
            tracing::warn!(census = taken.census, %kind, %scope, missing, newly, unknown, "the inventory and a census differ");
        }
        self.noted();
        if counted.paused.is_some() {
            self.tell_of_pause().await;
        }
        Ok(Ok(counted))
    }

    /// Have every consumer hear of it at once.
    async fn tell_of_pause(&self) {
        if let Err(error) = self.beacon().await {
            tracing::warn!(%error, "the pause is in force, its beacon follows");
        }
    }
}
