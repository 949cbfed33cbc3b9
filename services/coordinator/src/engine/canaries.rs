//! Canaries: sent once a day, and again until they are answered; what comes back is judged in the job table. What the job
//! table itself has to refuse is tried there as soon as a run begins.
//!
//! Nothing of it is remembered here: which are open stands in the table, so any coordinator goes on with what another one
//! has begun, and a message that is lost is sent again.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use sexton_bus::{Delivery, Outgoing};
use sexton_ledger::{LedgerError, NewRun, ResourceView};
use sexton_model::beacon::Beacon;
use sexton_model::canary::{self, Came, Canary, Probe, Rehearsed, Verdict, another};
use sexton_model::decide::Event;
use sexton_model::plan::Plan;
use sexton_model::resource::Identity;
use sexton_model::time::Day;
use sexton_model::{Actor, Fence, Instance, ResourceId, Timestamp};
use sexton_protocol::{Direction, Holder, Keyring, Packed, Seal};

use super::Engine;
use super::asides::{Asked, Numbered, order};
use crate::alarms::route::chain;
use crate::canaries::Canaries;
use crate::intake;

/// How often canaries are looked after, and those that are open sent again. So long each stays in a queue.
pub(crate) const TEND_EVERY: Duration = Duration::from_secs(10);
/// Longest call that a forged order would take, if somebody believed it, in milliseconds.
const FORGED_CALL_MS: u64 = 1_000;

/// What came of an order that may be a canary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who says it, proved by its key and its broker user.
    pub from: Instance,
    /// The order's number.
    pub fence: Fence,
    /// What came.
    pub came: Came,
}

impl Heard {
    /// What an event about the canaries' own deletion means; nothing for any other. A report that one was begun says no
    /// more than its answer will.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let Event::Outcome { from, fence, outcome, .. } = event else { return None };
        Some(Self { from: from.clone(), fence: *fence, came: Came::Answered(outcome.clone()) })
    }
}

impl Engine {
    /// Send canaries, too, if that is configured.
    pub fn with_canaries(self, canaries: Option<Canaries>) -> Self {
        for lack in canaries.iter().flat_map(Canaries::lacks) {
            tracing::warn!("{lack}");
        }
        Self { canaries, ..self }
    }

    /// What is configured of canaries.
    pub fn canaries(&self) -> Option<&Canaries> {
        self.canaries.as_ref()
    }

    /// Tell which nobody has answered or is asked, begin a run if it is time, and send again what is open.
    ///
    /// # Errors
    /// If the ledger did not do it; the next tick tries again.
    pub async fn tend_canaries(&self) -> Result<(), LedgerError> {
        let Some(canaries) = self.canaries.as_ref().filter(|canaries| canaries.off().is_none()) else {
            return Ok(());
        };
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (last, facts) = (self.ledger.canaries().await?, self.ledger.facts().await?);
        let unheard = |one: &Canary| canary::unheard(one, &last, facts.epoch, facts.now).is_some();
        if last.iter().any(unheard) {
            for missed in self.ledger.miss_canaries().await? {
                tell(&missed);
            }
        }
        let begun = last.first().map(|canary| canary.begun_at);
        if canary::due(begun, facts.now, facts.day) {
            self.begin_canaries(canaries, facts.day, None).await?;
        }
        let run = self.ledger.canaries().await?;
        self.send_canaries(canaries, &run, &canary::to_send(&run)).await
    }

    /// Begin a run because somebody asks for it, unless one has begun since that was first asked for, at `first_sent`: whether
    /// it has begun, or the last one is still open. Nothing if nobody is asked at all, or not now.
    ///
    /// # Errors
    /// If the ledger did not do it.
    pub async fn run_canaries(
        &self,
        by: &Actor,
        first_sent: Option<Timestamp>,
    ) -> Result<Option<bool>, LedgerError> {
        let Some(canaries) = self.canaries.as_ref().filter(|canaries| canaries.off().is_none()) else {
            return Ok(None);
        };
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let last = self.ledger.canaries().await?.first().map(|canary| canary.begun_at);
        if canary::began_since(last, first_sent) {
            return Ok(Some(true));
        }
        let day = self.ledger.facts().await?.day;
        let begun = self.begin_canaries(canaries, day, Some(by.clone())).await?;
        let run = self.ledger.canaries().await?;
        self.send_canaries(canaries, &run, &canary::to_send(&run)).await?;
        Ok(Some(begun))
    }

    async fn begin_canaries(
        &self,
        canaries: &Canaries,
        day: Day,
        by: Option<Actor>,
    ) -> Result<bool, LedgerError> {
        let mut views = Vec::new();
        for resource in canaries.resources() {
            views.push((resource.clone(), self.ledger.resource(resource).await?));
        }
        let tried = canaries.tried(&self.ledger.policy().budgets(day));
        let mut probes = canaries.probes(tried, self.known(), &views);
        // What is about resources fits: there are more instances than a run has room for.
        if probes.len() > canary::CANARIES_MAX {
            tracing::error!(wanted = probes.len(), most = canary::CANARIES_MAX, "not all canaries are sent");
            probes.truncate(canary::CANARIES_MAX);
        }
        let new = NewRun { asked_by: by, within_ms: canaries.within_ms(), probes };
        let begun = self.ledger.begin_canaries(new).await?;
        for unclear in begun.iter().flatten().filter(|canary| !canary.is_open()) {
            tell(unclear);
        }
        Ok(begun.is_some())
    }

    /// Send those of a run that are to be sent now.
    async fn send_canaries(
        &self,
        canaries: &Canaries,
        run: &[Canary],
        open: &[Canary],
    ) -> Result<(), LedgerError> {
        if open.is_empty() {
            return Ok(());
        }
        let beacon = self.ledger.beacon().await?;
        let mut views: BTreeMap<&ResourceId, Option<ResourceView>> = BTreeMap::new();
        let mut messages = Vec::new();
        let mut trying = true;
        for canary in open.iter().filter(|canary| canary.answer_by > beacon.read_at) {
            if let Some(of) = canary.probe.tried_of() {
                // One that is kept waiting keeps others waiting, too: the rest is for the next tick.
                trying = trying && self.try_canary(canary, canaries.plan(of)).await?;
                continue;
            }
            let view = match canary.probe.resource() {
                None => None,
                Some(id) => {
                    if !views.contains_key(id) {
                        views.insert(id, self.ledger.resource(id).await?);
                    }
                    views.get(id).and_then(Option::as_ref)
                }
            };
            // Without one the resource is gone, or not of that instance any more: nobody answers, and that is told.
            if let Some(asked) = asked((canary, run), canaries, view) {
                messages.extend(self.canary_message(canary, &beacon, asked));
            }
        }
        self.send(messages).await;
        Ok(())
    }

    /// Have it tried in the job table, and judged at once, unless another coordinator was faster: one of them tries it.
    /// Whether another one may be tried at once, too: one that did not come to its end stays open, and is tried again with
    /// the next tick until it has to be answered.
    async fn try_canary(&self, canary: &Canary, plan: Option<&Arc<Plan>>) -> Result<bool, LedgerError> {
        let tried = match plan {
            None => {
                let why = Rehearsed::Failed("there is no plan of that kind any more".into());
                self.ledger.hear_canary(canary.id, &Came::Rehearsed(why)).await
            }
            Some(plan) => self.ledger.try_canary(canary.id, plan).await,
        };
        match tried {
            Ok(Some(judged)) => self.heard(&judged).await,
            Ok(None) => tracing::debug!(canary = canary.id, "somebody else has tried it meanwhile"),
            // That is dealt with at the next checkpoint, and then it is asked again.
            Err(error @ LedgerError::WentBack(_)) => return Err(error),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(canary = canary.id, why, "a canary of the job table is tried again");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn canary_message(&self, canary: &Canary, beacon: &Beacon, asked: Asked) -> Option<Outgoing> {
        let instance = canary.probe.instance()?;
        let numbered = Numbered {
            instance,
            step: 0,
            fence: canary.fence,
            // That of now: an order of before a pause would not be carried out.
            revision: beacon.revision,
            issued_at: beacon.read_at,
            deadline: canary.answer_by,
        };
        self.aside(order(asked, &numbered), TEND_EVERY, |holder, own, packed| match canary.probe {
            Probe::ForgedOrder { .. } => forged(holder, own, packed),
            Probe::WrongIdentity { .. }
            | Probe::RightIdentity { .. }
            | Probe::RightPlace { .. }
            | Probe::WrongPlace { .. } => Some(own),
            Probe::Protected { .. } | Probe::OverBudget { .. } => None,
        })
    }

    /// Messages were rejected. Most of them are no canaries, and none of this concerns them.
    ///
    /// # Errors
    /// If the ledger did not do it; then they are to be delivered again.
    pub async fn on_rejections(&self, deliveries: &[Delivery]) -> Result<(), LedgerError> {
        let mut heard = Vec::new();
        for delivery in deliveries {
            match intake::rejections(&self.keyring, delivery) {
                Ok(said) => heard.extend(said),
                // What coordinators reject comes here, too, and concerns none of them.
                Err(_) if self.outbox.signed(Direction::Rejected, delivery) => {}
                Err(why) => {
                    self.counters.disbelieved.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%why, user = delivery.user_id.as_deref(), "a rejection is not believed");
                }
            }
        }
        self.hear_asides(heard).await
    }

    /// Answers to orders of canaries have come. What is no canary's is left alone.
    pub(super) async fn hear_canaries(&self, heard: Vec<Heard>) -> Result<(), LedgerError> {
        if heard.is_empty() {
            return Ok(());
        }
        let sent = self.ledger.canaries().await?;
        // One that cannot be looked up, or written down, hides no other: behind it may be one that was accepted.
        let (mut all, mut failed) = (Vec::new(), None);
        for Heard { from, fence, came } in heard {
            let of = match sent.iter().find(|canary| canary.fence == fence) {
                Some(canary) => Some(canary.clone()),
                // Of a run before that, as long as it is kept: an acceptance is one, however late.
                None => match self.ledger.canary_of(fence).await {
                    Ok(of) => of,
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                },
            };
            let of = of.filter(|canary| canary.probe.instance() == Some(&from));
            let Some(canary) = of.filter(|canary| canary.hear(&came).is_some()) else {
                tracing::debug!(%from, %fence, ?came, "changes nothing that is known of a canary");
                continue;
            };
            match self.ledger.hear_canary(canary.id, &came).await {
                Ok(Some(judged)) => {
                    self.heard(&judged).await;
                    all.push(judged);
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        let sent_on = match self.canaries.as_ref().filter(|canaries| canaries.off().is_none()) {
            Some(canaries) if !all.is_empty() => {
                let run = self.ledger.canaries().await?;
                let mut next = canary::to_send(&run);
                next.retain(|other| all.iter().any(|judged| canary::follows(other, judged)));
                self.send_canaries(canaries, &run, &next).await
            }
            Some(_) | None => Ok(()),
        };
        failed.map_or(sent_on, Err)
    }
}

impl Engine {
    /// One was judged just now.
    async fn heard(&self, canary: &Canary) {
        tell(canary);
        if canary.judged.as_ref().is_some_and(|judged| judged.pause.is_some()) {
            self.noted();
            // Consumers hear of the pause at once rather than with the next tick; the ledger holds it either way.
            if let Err(error) = self.beacon().await {
                tracing::warn!(%error, "the pause is in force, its beacon follows");
            }
        }
    }
}

fn asked(
    (canary, run): (&Canary, &[Canary]),
    canaries: &Canaries,
    view: Option<&ResourceView>,
) -> Option<Asked> {
    let instance = canary.probe.instance()?;
    let of = |identity: fn(&Identity) -> Option<Identity>| {
        let view = view?;
        let (step, action) = canaries.inspection(view, instance)?;
        let resource = &view.resource;
        Some(Asked {
            resource: resource.id.clone(),
            identity: identity(&resource.identity)?,
            attributes: resource.attributes.get(instance.subsystem.as_str()).cloned().unwrap_or_default(),
            action,
            params: step.params.clone(),
            longest_call_ms: step.longest_call_ms,
            pinned: None,
        })
    };
    match &canary.probe {
        // About nothing that is there: whoever believes it does no harm with it.
        Probe::ForgedOrder { .. } => Some(Asked {
            resource: "canary/forged".parse().ok()?,
            identity: Identity::try_from(BTreeMap::from([("canary".to_owned(), "forged".to_owned())]))
                .ok()?,
            attributes: Value::Null,
            action: "inspect".parse().ok()?,
            params: BTreeMap::new(),
            longest_call_ms: FORGED_CALL_MS,
            pinned: None,
        }),
        Probe::WrongIdentity { .. } => of(another),
        Probe::RightIdentity { .. } | Probe::RightPlace { .. } => of(|identity| Some(identity.clone())),
        // A consumer that takes it for its own place reads once more what is there, and says what is new of it.
        Probe::WrongPlace { .. } => {
            let pinned = canary::pinned_elsewhere(canary, run)?.clone();
            Some(Asked { pinned: Some(pinned), ..of(|identity| Some(identity.clone()))? })
        }
        Probe::Protected { .. } | Probe::OverBudget { .. } => None,
    }
}

/// A proof with a key that is drawn now and forgotten at once, by the name of the holder's own.
fn forged(holder: &Holder, own: Seal, packed: &Packed) -> Option<Seal> {
    let nobodys = Keyring::generate([holder.clone()], &mut rand::rng());
    let seal = nobodys.sign(holder, Direction::Order, &packed.body).ok()?;
    Some(Seal { key_id: own.key_id, ..seal })
}

fn tell(canary: &Canary) {
    let Some(judged) = &canary.judged else { return };
    let (id, probe, text) = (canary.id, &canary.probe, judged.verdict.text());
    match &judged.verdict {
        Verdict::Holds { .. } => {
            tracing::debug!(canary = id, %probe, text, "a canary is refused as it must be")
        }
        Verdict::Accepted { .. } => {
            tracing::error!(canary = id, %probe, text, pause = judged.pause, "A CANARY WAS ACCEPTED: everything is paused");
        }
        Verdict::Unanswered => tracing::error!(canary = id, %probe, "nobody answers a canary"),
        Verdict::Unclear { .. } => tracing::warn!(canary = id, %probe, text, "a canary proves nothing"),
    }
}
