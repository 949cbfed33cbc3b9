//! Drills: begun once a week, cancelled once soft is done, and told.
//!
//! Nothing of it is remembered here: how far each is stands in the job table, so any coordinator goes on with what another
//! one has begun. What a coordinator that dies has begun without its record gets one from whoever looks next.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sexton_ledger::{Facts, Intent, LedgerError, NewDeletion, NotDone};
use sexton_model::Actor;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, Zone};
use sexton_model::drill::{self, Drill, Next, Verdict};
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::resource::Presence;
use sexton_model::{DeletionId, ResourceId};

use super::Engine;
use crate::canaries::Canaries;

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

    /// Begin one with each resource because somebody asks for it, unless the last one with it is not over: how many were
    /// begun. Nothing if none are held at all, or not now.
    ///
    /// # Errors
    /// If the ledger did not do it.
    pub async fn run_drills(&self, by: &Actor) -> Result<Option<usize>, LedgerError> {
        let may = |canaries: &&Canaries| canaries.off().is_none() && !canaries.drills().is_empty();
        let canaries = self.canaries().filter(may).filter(|_| !self.reviewing.load(Ordering::Relaxed));
        let Some(canaries) = canaries else { return Ok(None) };
        let (standing, facts) = (self.ledger.drills().await?, self.ledger.facts().await?);
        let over = |last: Option<&Drill>| last.is_none_or(|last| !last.is_open());
        self.begin_drills(canaries, &standing, (&facts, Some(by)), over).await.map(Some)
    }

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
            // What the last one switched off is brought back first, whatever was judged of it.
            if self.is_live(last.and_then(|last| last.deletion)).await? {
                continue;
            }
            let new = Drill::begin((resource.clone(), plan), last, by, (facts.now, facts.day));
            if self.ledger.keep_drill(last, &new).await? {
                tracing::info!(%resource, by = %new.by, "a drill begins");
                begun += 1;
                self.go_on_with_drill(canaries, &new, facts).await?;
            }
        }
        Ok(begun)
    }

    async fn is_live(&self, deletion: Option<DeletionId>) -> Result<bool, LedgerError> {
        let Some(id) = deletion else { return Ok(false) };
        Ok(self.ledger.deletion(id).await?.is_some_and(|view| view.deletion.status.live()))
    }

    async fn go_on_with_drill(
        &self,
        canaries: &Canaries,
        drill: &Drill,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        let Some(id) = drill.deletion else {
            return if drill.is_open() { self.give_record(canaries, drill, facts).await } else { Ok(()) };
        };
        // Then its record is over.
        if matches!(&drill.judged, Some(judged) if !judged.verdict.alarms()) {
            return Ok(());
        }
        let next = match self.ledger.deletion(id).await? {
            Some(view) => drill::next(drill, &view.deletion, facts.now),
            // It was archived meanwhile.
            None if drill.is_open() => Next::Judge(Verdict::unclear(format!("{id} is gone"))),
            None => Next::Wait,
        };
        match next {
            Next::Wait => Ok(()),
            Next::Judge(verdict) => self.judge_drill(drill, verdict, facts).await,
            Next::Cancel(reason) => self.cancel_drill(id, reason).await,
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

    /// Make the record of one that has none, or find the one that was made for it.
    async fn give_record(
        &self,
        canaries: &Canaries,
        drill: &Drill,
        facts: &Facts,
    ) -> Result<(), LedgerError> {
        let resource = &drill.resource;
        let live = self.ledger.resource(resource).await?.and_then(|view| view.live);
        if let Some(live) = live {
            let made = self.ledger.deletion(live).await?.map(|view| view.deletion.record.clone());
            return match made.filter(|made| made.requested_by == drill::actor()) {
                Some(own) if own.created_at >= drill.begun_at => self.has_record(drill, live).await.map(drop),
                // Nobody goes on with that one any more. If it cannot be brought back in time, a person has to look.
                Some(_) if facts.now < drill.finish_by => {
                    self.cancel_drill(live, "a drill that was left behind").await
                }
                Some(_) | None => {
                    let why = format!("{resource} has a deletion record, {live}: look at that one first");
                    self.judge_drill(drill, Verdict::unclear(why), facts).await
                }
            };
        }
        if canaries.off().is_some() || !canaries.drills().contains(resource) {
            let why = format!("no drills are held with {resource} any more");
            return self.judge_drill(drill, Verdict::unclear(why), facts).await;
        }
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

    /// A record that no drill knows of would go as far as soft, and nobody would cancel it.
    async fn leave_none_behind(&self, resource: &ResourceId, made: DeletionId) -> Result<(), LedgerError> {
        let known = |drill: &Drill| drill.resource == *resource && drill.deletion == Some(made);
        match self.ledger.drills().await?.iter().any(known) {
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
        let view = self.ledger.resource(resource).await?;
        let view = view.filter(|view| view.presence == Presence::Registered);
        let (Some(view), Some(plan)) = (view, canaries.plan(&resource.kind)) else {
            return Ok(Err(format!("{resource} is not registered, or there is no plan for it")));
        };
        if let Some(hold) = view.holds.first() {
            return Ok(Err(format!("{resource} is held: {}: {}", hold.origin, hold.reason)));
        }
        if let Some(missing) = plan.needs(&view.resource).find(|needed| !self.known().any(|of| of == needed))
        {
            return Ok(Err(format!("the plan of {resource} needs {missing}, of which there is no key here")));
        }
        let scope = &view.resource.scope;
        let ceiling = self.ledger.ceilings().await?.height(scope);
        if ceiling < Ceiling::needed_for(Stage::Soft) {
            return Ok(Err(format!("deletions of {scope} may go as far as {ceiling}: a drill needs soft")));
        }
        Ok(Ok(new(resource, plan, facts)))
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
