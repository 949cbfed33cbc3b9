//! One admitted step: what the driver is asked, in which order, and what its answers mean.
use serde_json::{Map, Value};
use sexton_model::belts::census::listing::{self, Page, PageAsked};
use sexton_model::catalogue::Nature;
use sexton_model::step::{Mode, Outcome, Presence, TARGETS_MAX_BYTES, too_large};
use sexton_model::targets;
use sexton_protocol::Order;

use crate::driver::{CensusContext, Done, Driver, Found, Listed, Obstacle, Place, StepContext};

/// An admitted order with what it takes to carry it out.
pub(crate) struct Step<'a> {
    pub(crate) order: &'a Order,
    pub(crate) context: StepContext,
    pub(crate) driver: &'a dyn Driver,
}

/// Either way an outcome: `?` ends the step with the one that stops it.
type Ended = Result<Outcome, Outcome>;

impl Step<'_> {
    pub(crate) async fn carry_out(&self) -> Outcome {
        let ended = match (self.order.mode, self.order.nature) {
            (Mode::Inspect, _) if self.order.action.as_str() == listing::ACTION => self.census().await,
            (Mode::Inspect, _) => self.inspect().await,
            (Mode::Reread, _) => self.reread().await,
            (Mode::Capture, _) => self.capture().await,
            (Mode::Perform, Nature::Check) => self.check().await,
            (Mode::Perform, _) => self.perform().await,
            (Mode::Undo, _) => self.undo().await,
            (Mode::Verify, _) => self.verify().await,
        };
        ended.unwrap_or_else(|stopped| stopped)
    }

    async fn inspect(&self) -> Ended {
        let seen = self.driver.inspect(&self.context).await.map_err(meaning)?;
        self.same(seen.found)?;
        if let Some(why) = seen.protected {
            return Err(Outcome::refused(format!("protected: {why}")));
        }
        done(Presence::Present, seen.evidence, Some(seen.targets))
    }

    /// A page of a census. What cannot be one is refused here already: whoever asked would not believe it.
    async fn census(&self) -> Ended {
        let asked = PageAsked::of(&self.context.params)
            .map_err(|why| Outcome::refused(format!("no page of a census is asked for: {why}")))?;
        let PageAsked { kind, after, most } = asked;
        if kind != self.order.resource.kind {
            return Err(Outcome::refused(format!(
                "a page of {kind} is asked for by an order about {}",
                self.order.resource
            )));
        }
        let context = CensusContext { kind, after, most, right: self.context.right.clone() };
        let Listed { entries, more, total, credential, place } =
            self.driver.census(&context).await.map_err(meaning)?;
        let evidence = format!("{} of {total} in {}", entries.len(), place.0);
        let page = Page { after: context.after, entries, more, total, credential, place: place.0 };
        let fault = page.fault(&context.kind);
        let fault =
            fault.or_else(|| (page.entries.len() > most).then(|| format!("more than {most} on a page")));
        if let Some(fault) = fault {
            return Err(Outcome::refused(format!("it cannot be listed: {fault}")));
        }
        let page = serde_json::to_value(page)
            .map_err(|e| Outcome::refused(format!("it cannot be listed: it cannot be written: {e}")))?;
        done(Presence::Present, evidence, Some(page))
    }

    /// Look again, and tell what has appeared since the targets were pinned. What is not there at all has nothing new:
    /// from hard on it may be gone, and what nothing was pinned of may be missing before.
    async fn reread(&self) -> Ended {
        let seen = self.driver.inspect(&self.context).await.map_err(meaning)?;
        let pinned = &self.context.targets;
        let presence = match seen.found {
            Found::Absent(_) if !self.context.reversible_stage || pinned.is_null() => Presence::Absent,
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => {
                self.same(found)?;
                Presence::Present
            }
        };
        if let Some(why) = seen.protected {
            return Err(Outcome::refused(format!("protected: {why}")));
        }
        let new = match presence {
            Presence::Present => targets::appeared(pinned, &seen.targets),
            Presence::Absent | Presence::Unknown => None,
        };
        let new = new.unwrap_or_else(|| Value::Object(Map::new()));
        // All of it has to travel with an order if it joins. What was pinned is bounded by itself, and may have grown.
        let bytes = serde_json::to_vec(&targets::join(pinned.clone(), new.clone()))
            .map_or(usize::MAX, |text| text.len());
        if bytes > TARGETS_MAX_BYTES {
            return Err(Outcome::refused(format!(
                "with what has appeared the targets take {bytes} bytes, more than the {TARGETS_MAX_BYTES} that travel \
                 with an order"
            )));
        }
        done(presence, seen.evidence, Some(new))
    }

    async fn capture(&self) -> Ended {
        self.same(self.find().await?)?;
        let manifest = self.driver.capture(&self.context).await.map_err(meaning)?;
        done(Presence::Present, "captured".to_owned(), Some(manifest))
    }

    async fn check(&self) -> Ended {
        let Done { evidence, created } = self.driver.check(&self.context).await.map_err(meaning)?;
        done(Presence::Present, evidence, created)
    }

    async fn perform(&self) -> Ended {
        let destructive = self.order.nature == Nature::Destructive;
        match self.find().await? {
            Found::Absent(place) if destructive && !self.context.reversible_stage => {
                return self.already(place).await;
            }
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => self.same(found)?,
        }
        let permit = self.context.right.permit().map_err(meaning)?;
        let manifest = self.order.manifest.as_ref();
        let did = self.driver.perform(&self.context, manifest, permit).await.map_err(meaning)?;
        let (presence, seen) = self.driver.presence(&self.context).await.map_err(meaning)?;
        let evidence = joined(&did.evidence, &seen);
        match (destructive, presence) {
            (true, Presence::Absent) | (false, Presence::Present) => done(presence, evidence, did.created),
            (true, Presence::Present | Presence::Unknown) => {
                Err(Outcome::failed(format!("performed, but it was not seen to be gone: {evidence}")))
            }
            (false, Presence::Absent | Presence::Unknown) => {
                Err(Outcome::failed(format!("performed, but its effect was not seen: {evidence}")))
            }
        }
    }

    /// The target is gone already. That counts only if everything the action removes is seen to be gone.
    async fn already(&self, Place(place): Place) -> Ended {
        let (presence, seen) = self.driver.presence(&self.context).await.map_err(meaning)?;
        match presence {
            Presence::Absent => done(presence, joined(&format!("already absent in {place}"), &seen), None),
            Presence::Present | Presence::Unknown => {
                Err(Outcome::failed(format!("not found in {place}, yet not seen to be gone: {seen}")))
            }
        }
    }

    async fn undo(&self) -> Ended {
        self.same(self.find().await?)?;
        let manifest = self.manifest()?;
        let permit = self.context.right.permit().map_err(meaning)?;
        let did = self.driver.undo(&self.context, manifest, permit).await.map_err(meaning)?;
        let seen = self.driver.restored(&self.context, manifest).await.map_err(meaning)?;
        done(Presence::Present, joined(&did.evidence, &seen), did.created)
    }

    /// Of whom, and in which place, is compared by [`Driver::restored`] itself.
    async fn verify(&self) -> Ended {
        let seen = self.driver.restored(&self.context, self.manifest()?).await.map_err(meaning)?;
        done(Presence::Present, seen, None)
    }

    async fn find(&self) -> Result<Found, Outcome> {
        self.driver.find(&self.context).await.map_err(meaning)
    }

    fn manifest(&self) -> Result<&Value, Outcome> {
        self.order.manifest.as_ref().ok_or_else(|| Outcome::refused("there is no manifest"))
    }

    /// Nothing but the pinned identity will do.
    fn same(&self, found: Found) -> Result<(), Outcome> {
        let resource = &self.context.resource;
        match found {
            Found::Same => Ok(()),
            Found::Absent(Place(place)) => {
                Err(Outcome::refused(format!("{resource} is unexpectedly absent in {place}")))
            }
            Found::Different(why) => Err(Outcome::refused(format!("{resource} is not the one: {why}"))),
        }
    }
}

fn meaning(obstacle: Obstacle) -> Outcome {
    match obstacle {
        Obstacle::Unclear(reason) => Outcome::failed(reason),
        Obstacle::Busy(reason) => Outcome::spared(reason),
        Obstacle::Refuse(reason) => Outcome::refused(reason),
    }
}

fn joined(did: &str, seen: &str) -> String {
    match (did, seen) {
        ("", only) | (only, "") => only.to_owned(),
        (did, seen) => format!("{did}; {seen}"),
    }
}

fn done(presence: Presence, evidence: String, finding: Option<Value>) -> Ended {
    // Null says that there is nothing: for created objects as good as none.
    if let Some(reason) = finding.as_ref().and_then(too_large) {
        return Err(Outcome::refused(reason));
    }
    Ok(Outcome::Done { presence, evidence, finding })
}
