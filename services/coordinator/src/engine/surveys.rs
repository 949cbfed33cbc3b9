//! Surveys: what subsystems hold of a resource that has no record. Sent when somebody asks, and again until they are
//! answered or their time is over; what comes back is kept in the job table.
//!
//! Which are open stands in the table, so any coordinator hears what another one has asked, and goes on with it. What
//! is remembered here is only how many this one has begun, so that no single one floods the consumers.
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sexton_ledger::{Begun, LedgerError, NotDone};
use sexton_model::Timestamp;
use sexton_model::plan::Performer;
use sexton_model::survey::{AGAIN_US, CannotSurvey, Look, NewSurvey, OPEN_HERE_MAX, Survey};

use super::asides::{Asked, Numbered, order};
use super::{Engine, Heard};
use crate::outbox::filled;

/// How often it is looked whether one is to be sent again.
pub(crate) const TEND_EVERY: Duration = Duration::from_secs(1);
/// How long an order of one stays in a queue: by then it is sent again.
const IN_QUEUE: Duration = Duration::from_micros(AGAIN_US.unsigned_abs());

/// Those that this coordinator has begun and whose time is not over, unless it has heard their last answer: by their
/// number, none while it is not known yet.
#[derive(Debug, Default)]
pub(super) struct BegunHere(Mutex<Vec<(Option<i64>, Timestamp)>>);

impl BegunHere {
    /// Count one more that has time until then, unless there are too many at `now`.
    fn count(&self, now: Timestamp, answer_by: Timestamp) -> Result<(), CannotSurvey> {
        let mut all = self.all();
        all.retain(|(_, until)| now < *until);
        if all.len() >= OPEN_HERE_MAX {
            return Err(CannotSurvey::TooMany { open: all.len(), most: OPEN_HERE_MAX });
        }
        all.push((None, answer_by));
        Ok(())
    }

    /// What was counted is this one; or was not begun after all.
    fn is(&self, answer_by: Timestamp, id: Option<i64>) {
        let mut all = self.all();
        let Some(at) = all.iter().position(|counted| *counted == (None, answer_by)) else { return };
        match id {
            Some(_) => all[at].0 = id,
            None => drop(all.remove(at)),
        }
    }

    /// All of it is answered.
    fn over(&self, id: i64) {
        self.all().retain(|(counted, _)| *counted != Some(id));
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Option<i64>, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Begin a survey, or find the one that is open about the same.
    ///
    /// # Errors
    /// If the ledger did not do it. That it may not be begun is the inner result.
    pub async fn begin_survey(&self, new: NewSurvey) -> Result<Result<Begun, NotDone>, LedgerError> {
        let now = self.ledger.facts().await?.now;
        let answer_by = now.plus_ms(new.within_ms);
        if let Err(why) = self.surveys.count(now, answer_by) {
            return Ok(Err(why.into()));
        }
        let begun = self.ledger.begin_survey(new).await?;
        let Ok(Begun::Now(survey)) = &begun else {
            self.surveys.is(answer_by, None);
            return Ok(begun);
        };
        self.surveys.is(answer_by, Some(survey.id));
        self.send_surveys(std::slice::from_ref(survey.as_ref())).await?;
        Ok(begun)
    }

    /// Send again what nobody has answered for some seconds.
    ///
    /// # Errors
    /// If the ledger did not do it; the next tick tries again.
    pub async fn tend_surveys(&self) -> Result<(), LedgerError> {
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.send_surveys(&self.ledger.surveys_to_send().await?).await
    }

    async fn send_surveys(&self, surveys: &[Survey]) -> Result<(), LedgerError> {
        // Their fences are known outside of the job table before their orders are, as those of all orders.
        if surveys.is_empty() || !self.noted() {
            return Ok(());
        }
        let now = self.ledger.facts().await?.now;
        let mut messages = Vec::new();
        for survey in surveys {
            for look in survey.looks.iter().filter(|look| look.is_open()) {
                let Some(asked) = asked(survey, look) else { continue };
                let numbered = Numbered {
                    instance: &look.instance,
                    step: look.step,
                    fence: look.fence,
                    revision: survey.revision,
                    issued_at: now,
                    deadline: survey.answer_by,
                };
                messages.extend(self.aside(order(asked, &numbered), IN_QUEUE, |_, own, _| Some(own)));
            }
        }
        self.send(messages).await;
        Ok(())
    }

    /// Answers have come that may be to surveys. What is none is left alone.
    pub(super) async fn hear_surveys(&self, heard: &[Heard]) -> Result<(), LedgerError> {
        if heard.is_empty() {
            return Ok(());
        }
        let asked = self.ledger.survey_orders().await?;
        let theirs = |heard: &&Heard| asked.iter().any(|orders| orders.contains(&heard.fence.number));
        for Heard { from, fence, came } in heard.iter().filter(theirs) {
            if let Some(survey) = self.ledger.hear_survey(from, *fence, came).await? {
                let resource = &survey.about.resource.id;
                tracing::debug!(survey = survey.id, %resource, %from, "a survey is answered");
                if !survey.looks.iter().any(Look::is_open) {
                    self.surveys.over(survey.id);
                }
            }
        }
        Ok(())
    }
}

/// What a look asks: what the record's own inspection would.
fn asked(survey: &Survey, look: &Look) -> Option<Asked> {
    let step = survey.step(look)?;
    let Performer::Subsystem { subsystem, action } = &step.performer else { return None };
    let resource = &survey.about.resource;
    Some(Asked {
        resource: resource.id.clone(),
        identity: resource.identity.clone(),
        attributes: resource.attributes.get(subsystem.as_str()).cloned().unwrap_or_default(),
        action: action.clone(),
        // Nobody is told anything by a look.
        params: filled(&step.params, &survey.about.due, String::new),
        longest_call_ms: step.longest_call_ms,
        pinned: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_coordinator_has_begun_so_many_until_they_are_answered_or_their_time_is_over() {
        let (begun, at) = (BegunHere::default(), |ms: u64| Timestamp(0).plus_ms(ms));
        for ms in 0..OPEN_HERE_MAX as u64 {
            assert_eq!(begun.count(at(ms), at(ms + 1_000)), Ok(()));
        }
        let full = CannotSurvey::TooMany { open: OPEN_HERE_MAX, most: OPEN_HERE_MAX };
        assert_eq!(begun.count(at(999), at(1_999)), Err(full.clone()));
        assert_eq!(begun.count(at(1_000), at(2_000)), Ok(()), "the first one's time is over");
        assert_eq!(begun.count(at(1_000), at(2_000)), Err(full.clone()));
        begun.is(at(2_000), None);
        assert_eq!(begun.count(at(1_000), at(2_000)), Ok(()), "that one was not begun");
        begun.is(at(2_000), Some(7));
        begun.over(8);
        assert_eq!(begun.count(at(1_000), at(2_000)), Err(full), "another one was answered");
        begun.over(7);
        assert_eq!(begun.count(at(1_000), at(2_000)), Ok(()));
    }
}
