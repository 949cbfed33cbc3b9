//! Drills: begun once a week, cancelled once soft is done, and told. What is to be done is `sexton_model::drill`'s to say.
//!
//! Nothing of it is remembered here: how far each is stands in the job table, so any coordinator goes on with what another
//! one has begun. What a coordinator that dies has begun without its record gets one from whoever looks next.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sexton_ledger::{Facts, Intent, LedgerError, NewDeletion, NotDone};
use sexton_model::decide::Event;
use sexton_model::deletion::{Deletion, Due, Zone};
use sexton_model::drill::{self, Drill, Next, Verdict};
use sexton_model::plan::Plan;
use sexton_model::{Actor, DeletionId, Instance, ResourceId, Timestamp};

use super::Engine;
use crate::canaries::Canaries;

#[cfg(test)]
mod tests;

impl Engine {
    /// Go on with the drills that are under way, and begin those that are due.
    ///
    /// # Errors
    /// If the ledger did not do it; the next tick tries again.
    pub async fn tend_drills(&self) -> Result<(), LedgerError> {
        let Some(canaries) = self.canaries().filter(|_| !self.reviewing.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let (standing, facts) = (self.ledger.drills().await?, self.ledger.facts().await?);
        // Also those that are configured no longer: what was switched off is brought back.
        for drill in &standing {
            self.go_on_with_drill(canaries, drill, &facts).await?;
        }
        let due = |last: Option<&Drill>| drill::due(last, facts.now, facts.day);
        self.begin_drills(canaries, &standing, (&facts, None), due).await.map(drop)
    }

    /// Begin one with each resource because somebody asks for it, unless the last one with it is not over, or has begun since
    /// that was first asked for, at `first_sent`: how many have begun since. Nothing if none are held at all, or not now.
    ///
    /// # Errors
    /// If the ledger did not do it.
    pub async fn run_drills(
        &self,
        by: &Actor,
        first_sent: Option<Timestamp>,
    ) -> Result<Option<usize>, LedgerError> {
        let may = |canaries: &&Canaries| canaries.off().is_none() && !canaries.drills().is_empty();
        let canaries = self.canaries().filter(may).filter(|_| !self.reviewing.load(Ordering::Relaxed));
        let Some(canaries) = canaries else { return Ok(None) };
        let (standing, facts) = (self.ledger.drills().await?, self.ledger.facts().await?);
        let held = |drill: &&Drill| canaries.drills().contains(&drill.resource);
        let before = standing.iter().filter(held).filter(|drill| drill.began_since(first_sent)).count();
        let asked = |last: Option<&Drill>| drill::asked(last, first_sent);
        let begun = self.begin_drills(canaries, &standing, (&facts, Some(by)), asked).await?;
        Ok(Some(before + begun))
    }

    /// How many have begun, this moment.
    async fn begin_drills(
        &self,
        canaries: &Canaries,
        standing: &[Drill],
        (facts, by): (&Facts, Option<&Actor>),
        may: impl Fn(Option<&Drill>) -> bool,
    ) -> Result<usize, LedgerError> {
        let mut begun = 0;
        for resource in canaries.drills().iter().filter(|_| canaries.off().is_none()) {
            let last = standing.iter().find(|drill| drill.resource == *resource);
            let Some(plan) = canaries.plan(&resource.kind).filter(|_| may(last)) else { continue };
            let record = self.record(last.and_then(|last| last.deletion)).await?;
            if !drill::may_follow(record.as_ref()) {
                continue;
            }
            let new = Drill::begin((resource.clone(), plan), last, by, (facts.now, facts.day));
            // If another coordinator was faster, that one's has begun.
            begun += 1;
            if self.ledger.keep_drill(last, &new).await? {
                tracing::info!(%resource, by = %new.by, "a drill begins");
                self.go_on_with_drill(canaries, &new, facts).await?;
            }
        }
        Ok(begun)
    }

    async fn record(&self, id: Option<DeletionId>) -> Result<Option<Deletion>, LedgerError> {
        let Some(id) = id else { return Ok(None) };
        Ok(self.ledger.deletion(id).await?.map(|view| view.deletion))
    }

    async fn go_on_with_drill(
        &self,
        canaries: &Canaries,
        drill: &Drill,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        if drill.is_over() {
            return Ok(());
        }
        let record = match drill.deletion {
            Some(id) => Some(id),
            None => self.ledger.resource(&drill.resource).await?.and_then(|view| view.live),
        };
        let record = self.record(record).await?;
        let held = canaries.off().is_none() && canaries.drills().contains(&drill.resource);
        match drill::next(drill, record.as_ref(), held, facts.now) {
            Next::Wait => Ok(()),
            Next::Make => self.make_record(canaries, drill, facts).await,
            Next::Take(id) => self.has_record(drill, id).await.map(drop),
            Next::Cancel(id, reason) => self.cancel_drill(id, reason).await,
            Next::Judge(verdict) => self.judge_drill(drill, verdict, facts).await,
        }
    }

    async fn cancel_drill(&self, deletion: DeletionId, reason: &str) -> Result<(), LedgerError> {
        let event = Event::Cancel { by: drill::actor(), reason: reason.to_owned() };
        if let Some(Err(why)) = self.run(vec![Intent { deletion, event }]).await?.pop() {
            tracing::debug!(%deletion, %why, "somebody else has decided about a drill meanwhile");
        }
        Ok(())
    }

    async fn judge_drill(&self, drill: &Drill, verdict: Verdict, facts: &Facts) -> Result<(), LedgerError> {
        let (resource, word, text) = (&drill.resource, verdict.word(), verdict.text().to_owned());
        let alarms = verdict.alarms();
        if self.ledger.keep_drill(Some(drill), &drill.clone().judged(verdict, facts.now)).await? {
            match alarms {
                true => {
                    tracing::error!(%resource, verdict = word, text, "a drill does not show that a cancel holds")
                }
                false => tracing::info!(%resource, verdict = word, text, "a drill is over"),
            }
        }
        Ok(())
    }

    /// Make the record of one that has none.
    async fn make_record(
        &self,
        canaries: &Canaries,
        drill: &Drill,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        let resource = &drill.resource;
        let new = match self.record_of_drill(canaries, resource, facts).await? {
            Ok(new) => new,
            Err(why) => return self.judge_drill(drill, Verdict::unclear(why), facts).await,
        };
        match self.ledger.create(vec![new]).await?.pop() {
            Some(Ok(made)) => {
                self.noted();
                match self.has_record(drill, made).await? {
                    true => Ok(()),
                    // Somebody else went on with it meanwhile: with this record, or with none.
                    false => self.leave_none_behind(resource, made).await,
                }
            }
            // Another coordinator was faster: the next tick finds it.
            Some(Err(NotDone::AlreadyLive { .. })) | None => Ok(()),
            Some(Err(why)) => self.judge_drill(drill, Verdict::unclear(why.to_string()), facts).await,
        }
    }

    async fn has_record(&self, drill: &Drill, deletion: DeletionId) -> Result<bool, LedgerError> {
        let with = Drill { deletion: Some(deletion), ..drill.clone() };
        self.ledger.keep_drill(Some(drill), &with).await
    }

    /// Cancel what was made for one that somebody else has gone on with meanwhile, unless that is with this very record.
    async fn leave_none_behind(&self, resource: &ResourceId, made: DeletionId) -> Result<(), LedgerError> {
        match drill::knows(&self.ledger.drills().await?, resource, made) {
            true => Ok(()),
            false => self.cancel_drill(made, "a drill that nobody knows of").await,
        }
    }

    /// What is asked of the job table; or why nothing would come of it, in words.
    async fn record_of_drill(
        &self,
        canaries: &Canaries,
        resource: &ResourceId,
        facts: &Facts,
    ) -> Result<Result<NewDeletion, String>, LedgerError> {
        let (view, ceilings) = (self.ledger.resource(resource).await?, self.ledger.ceilings().await?);
        let there = view.as_ref().map(|view| (&view.resource, view.presence, view.holds.as_slice()));
        let known = |instance: &Instance| self.known().any(|known| known == instance);
        let plan = drill::fit(resource, there, canaries.plan(&resource.kind), known, &ceilings);
        Ok(plan.map(|plan| new(resource, plan, facts)))
    }
}

/// Due today, so that it is announced at once, and soft follows a notice period later.
fn new(resource: &ResourceId, plan: &Arc<Plan>, facts: &Facts) -> NewDeletion {
    let (date, zone) = (facts.now.utc().date_naive(), Zone(chrono_tz::UTC));
    NewDeletion {
        resource: resource.clone(),
        due: Due { date, zone, moment: facts.day.is_rehearsal().then_some(facts.now) },
        gone_by: None,
        by: drill::actor(),
        reason: "a drill: it is switched off, and brought back".into(),
        plan: plan.clone(),
    }
}
