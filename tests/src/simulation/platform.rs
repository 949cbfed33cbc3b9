//! The simulated platform: what is really there, and the drivers through which consumers see and change it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::driver::StepContext;
use sexton_consumer::{CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, Permit, Place};
use sexton_model::step::Presence;
use sexton_model::{Fence, ResourceId, Subsystem};

use super::gates::Gates;
use super::hands::Hands;
use super::time::{StoreClock, Time};
use super::weather::{Dice, Trouble};

mod backups;
mod deeds;
mod listing;
pub mod pool;
mod truth;

use deeds::SHOWN;
use pool::GIVEN_ANEW;

pub use deeds::{DEEDS, Deed, Does, State, Thing, deed_of};
pub use truth::{Act, Call, Machines, Things, Truth};

/// What every instance calls its place.
const PLACE: &str = "simulated";

/// A driver of the simulated platform: one copy of one consumer.
pub struct SimulatedDriver {
    /// Which subsystem.
    pub subsystem: Subsystem,
    /// Which process.
    pub process: usize,
    /// What is really there.
    pub truth: Arc<Mutex<Truth>>,
    /// Where it waits.
    pub gates: Arc<Gates>,
    /// Chance.
    pub dice: Arc<Dice>,
    /// The true clock.
    pub time: Arc<Time>,
    /// The job table's.
    pub store: Arc<StoreClock>,
    /// What it has in hand.
    pub hands: Arc<Hands>,
    /// Whose a thing was that was found last to be somebody else's, by order. What is removed is removed by what was found, as by
    /// a subsystem's own id: whoever is told that it is another's, and goes on all the same, removes another's.
    pub others: Mutex<BTreeMap<(Fence, &'static str), String>>,
    /// Orders to release an address of a machine that had none any more when it was looked for last.
    pub absent: Mutex<BTreeSet<Fence>>,
    /// Orders that it said were carried out, and nobody has looked since whether they were.
    pub lies: Mutex<BTreeSet<Fence>>,
    /// The newest order about each machine that it was asked for.
    pub newest: Mutex<BTreeMap<ResourceId, Fence>>,
}

/// Whoever was told that something was done looked, and saw that it was not.
pub const LIE_SEEN: &str = "lie seen";
/// They looked, and were shown the past as well, which looked as if it was.
pub const LIE_BELIEVED: &str = "lie believed";

impl SimulatedDriver {
    fn others(&self) -> MutexGuard<'_, BTreeMap<(Fence, &'static str), String>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lies(&self) -> MutexGuard<'_, BTreeSet<Fence>> {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<ResourceId, Fence>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for this, whatever it says to it.
    fn asked(&self, step: &StepContext) {
        let mut newest = self.newest();
        let newest = newest.entry(step.resource.clone()).or_insert(step.fence);
        *newest = step.fence.max(*newest);
    }

    /// It goes on to change what is still to be changed.
    fn calls(&self, step: &StepContext, deed: &'static Deed) {
        let newest = self.newest().get(&step.resource).copied().unwrap_or(step.fence);
        self.truth().calls.push(Call {
            at: self.time.now(),
            by_store: self.store.shown(),
            process: self.process,
            vm: step.resource.clone(),
            deed,
            fence: step.fence,
            newest,
        });
    }

    /// Whether it says that it did what it will not do.
    fn lies_about(&self, step: &StepContext) -> bool {
        let lies = self.happens(Trouble::Lie, "\"done\"", step);
        if lies {
            self.lies().insert(step.fence);
        }
        lies
    }

    /// Somebody has looked whether this order was carried out.
    fn looked(&self, step: &StepContext, (is, seems): (bool, bool)) {
        if self.lies().remove(&step.fence) && !is {
            self.dice.count(if seems { LIE_BELIEVED } else { LIE_SEEN });
        }
    }

    /// Who does what to what, in words.
    fn doing(&self, at: &str, step: Option<&StepContext>) -> String {
        let (process, subsystem) = (self.process, self.subsystem.as_str());
        match step {
            Some(StepContext { action, resource, fence, .. }) => {
                let action = action.as_str();
                format!("process {process}, {at} for {subsystem}.{action} of {resource} under {fence}")
            }
            None => format!("process {process}, {at} of {subsystem}"),
        }
    }

    /// Whether this happens to whoever does that.
    fn happens(&self, trouble: Trouble, at: &str, step: &StepContext) -> bool {
        self.dice.happens_to(trouble, || self.doing(at, Some(step)))
    }

    /// A call goes out, and may hang, or fail before anything was done.
    async fn call(&self, at: &'static str, step: Option<&StepContext>) -> Result<(), Obstacle> {
        self.gates.moved();
        let hang = self.dice.happens(Trouble::Hang);
        if hang || self.dice.happens(Trouble::Stop) {
            let hang_ms = if hang { 1_000 + self.dice.below(120_000) as u64 } else { 0 };
            if hang {
                self.dice.tell(Trouble::Hang, &format!("{}, for {hang_ms} ms", self.doing(at, step)));
            }
            self.gates.wait(self.process, at, self.time.now().plus_ms(hang_ms)).await;
        }
        if self.dice.happens_to(Trouble::FailBefore, || self.doing(at, step)) {
            return Err(match self.dice.below(3) {
                0 => Obstacle::Busy("locked by somebody else".to_owned()),
                _ => Obstacle::Unclear("no answer".to_owned()),
            });
        }
        Ok(())
    }

    fn deed(&self, step: &StepContext) -> Result<&'static Deed, Obstacle> {
        let action = step.action.as_str();
        let subsystem = self.subsystem.as_str();
        let found = DEEDS.iter().find(|deed| deed.subsystem == subsystem && deed.action == action);
        found.ok_or_else(|| Obstacle::Refuse(format!("{subsystem} cannot {action}")))
    }

    /// The thing by which it is told whether the machine is there and the right one.
    fn judge(step: &StepContext, thing: &Thing) -> Found {
        match thing.state {
            State::Gone => Found::Absent(Place("simulated".to_owned())),
            State::On | State::Off if Some(thing.owner.as_str()) == step.identity.get("uuid") => Found::Same,
            State::On | State::Off => Found::Different(format!("it is {}'s", thing.owner)),
        }
    }

    fn own(step: &StepContext) -> String {
        step.identity.get("uuid").unwrap_or_default().to_owned()
    }

    /// Change it, if it is still the one.
    fn act(
        &self,
        step: &StepContext,
        (deed, undo): (&'static Deed, bool),
        (thing, to): (&'static str, State),
    ) {
        let mut truth = self.truth();
        let was = truth.thing(&step.resource, thing);
        // What is made is made anew each time.
        if was.state == to && deed.does != Does::Makes {
            return;
        }
        let owner = Self::own(step);
        if thing == "address" {
            truth.pool.release(&was.owner);
            self.dice.count(GIVEN_ANEW);
        }
        truth.acts.push(Act {
            at: self.time.now(),
            by_store: self.store.shown(),
            process: self.process,
            vm: step.resource.clone(),
            thing,
            was,
            now: to,
            deed,
            undo,
            fence: step.fence,
        });
        truth.change(&step.resource, thing, Thing { owner, state: to });
        if thing == "power" {
            truth.wrote(&step.resource);
        }
        if deed.does == Does::Makes {
            truth.archive(&step.resource);
        }
    }

    fn answer(&self, step: &StepContext, evidence: &str) -> Result<Done, Obstacle> {
        if self.happens(Trouble::FailAfter, evidence, step) {
            return Err(Obstacle::Unclear("the answer was lost".to_owned()));
        }
        Ok(Done::saw(evidence))
    }
}

fn captured(manifest: &Value) -> Result<State, Obstacle> {
    match manifest.get("was").and_then(Value::as_str) {
        Some("on") => Ok(State::On),
        Some("off") => Ok(State::Off),
        other => Err(Obstacle::Refuse(format!("the manifest says {other:?}"))),
    }
}

#[async_trait]
impl Driver for SimulatedDriver {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        self.asked(step);
        self.call("inspect", Some(step)).await?;
        let things =
            SHOWN.iter().find(|(of, _)| *of == self.subsystem.as_str()).map_or(&[][..], |(_, all)| all);
        let stale = self.happens(Trouble::Stale, "inspect", step);
        let truth = self.truth();
        let of = |thing: &&'static str| truth.shown(&step.resource, thing, stale);
        let found = things.first().map_or(Found::Same, |thing| Self::judge(step, &of(thing)));
        let there = things.iter().filter(|thing| Self::judge(step, &of(thing)) == Found::Same);
        let target = |thing: &str| match thing {
            "address" => json!({ "of": Self::own(step), "at": truth.pool.of(&Self::own(step)) }),
            _ => json!({ "of": Self::own(step) }),
        };
        let things = there.map(|&thing| (thing.to_owned(), target(thing)));
        let targets = things.chain([("place".to_owned(), json!(PLACE))]).collect();
        let found = match step.targets.get("place") {
            Some(pinned) if *pinned != PLACE => {
                Found::Different(format!("pinned in {pinned}, but this is {PLACE}"))
            }
            Some(_) | None => found,
        };
        Ok(Inspection {
            found,
            targets: Value::Object(targets),
            protected: None,
            evidence: "seen".to_owned(),
        })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        self.asked(step);
        self.call("find", Some(step)).await?;
        let deed = self.deed(step)?;
        let stale = self.happens(Trouble::Stale, "find", step);
        let truth = self.truth();
        let found = |thing: &&'static str| {
            let shown = truth.shown(&step.resource, thing, stale);
            let (found, key) = (Self::judge(step, &shown), (step.fence, *thing));
            match &found {
                Found::Different(_) => self.others().insert(key, shown.owner),
                Found::Same | Found::Absent(_) => self.others().remove(&key),
            };
            found
        };
        let seen = match deed.does {
            // What is made need not be there; the machine must.
            Does::Makes => found(&"schedule"),
            Does::Turns(_) | Does::Removes => {
                let all: Vec<Found> = deed.things.iter().map(found).collect();
                let other = all.iter().find(|found| matches!(found, Found::Different(_)));
                let same = all.iter().find(|found| **found == Found::Same);
                other.or(same).or(all.first()).cloned().unwrap_or(Found::Same)
            }
        };
        if deed.action == "release" {
            self.looked_for_address(step, &seen);
        }
        Ok(seen)
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        self.asked(step);
        self.call("capture", Some(step)).await?;
        let deed = self.deed(step)?;
        let thing = self.truth().thing(&step.resource, deed.things[0]);
        match thing.state {
            State::On => Ok(json!({ "was": "on" })),
            State::Off => Ok(json!({ "was": "off" })),
            State::Gone => Err(Obstacle::Refuse(format!("{} is gone", deed.things[0]))),
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let all_the_same = self.goes_on_all_the_same(step);
        self.asked(step);
        let in_hand = self.hands.take(step.fence, &self.dice);
        in_hand.at(self.call("perform", Some(step))).await?;
        let deed = self.deed(step)?;
        if self.lies_about(step) {
            return Ok(Done::saw("204"));
        }
        let power = self.truth().thing(&step.resource, "power");
        if deed.action == "undefine" && power.state == State::On && power.owner == Self::own(step) {
            return Err(Obstacle::Refuse("it runs".to_owned()));
        }
        if deed.action == "undefine" && self.truth().locked.contains(&step.resource) {
            return Err(Obstacle::Refuse("somebody else uses it".to_owned()));
        }
        for (place, thing) in deed.things.iter().enumerate() {
            if place > 0 {
                in_hand.at(self.call("perform on", Some(step))).await?;
            }
            in_hand.may(permit.again())?;
            self.calls(step, deed);
            if all_the_same {
                self.release_what_was_pinned(step);
            }
            let now = self.truth().thing(&step.resource, thing);
            let ours = now.owner == Self::own(step);
            let found = self.others().get(&(step.fence, *thing)).cloned();
            let meant = found.map_or(ours, |owner| owner == now.owner);
            match deed.does {
                Does::Removes if now.state == State::Gone || !meant => {}
                Does::Removes => self.act(step, (deed, false), (thing, State::Gone)),
                Does::Makes => self.act(step, (deed, false), (thing, State::On)),
                Does::Turns(to) => {
                    let was = captured(manifest.unwrap_or(&Value::Null))?;
                    if !ours || now.state == State::Gone || (now.state != was && now.state != to) {
                        return Err(Obstacle::Refuse(format!("{thing} was changed by others: {now:?}")));
                    }
                    self.act(step, (deed, false), (thing, to));
                }
            }
        }
        let done = self.answer(step, "done")?;
        let created =
            (deed.does == Does::Makes).then(|| json!({ "last archive": { "of": Self::own(step) } }));
        Ok(Done { created, ..done })
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        self.asked(step);
        let in_hand = self.hands.take(step.fence, &self.dice);
        in_hand.at(self.call("undo", Some(step))).await?;
        let deed = self.deed(step)?;
        let was = captured(manifest)?;
        if self.lies_about(step) {
            return Ok(Done::saw("204"));
        }
        in_hand.may(permit.again())?;
        self.calls(step, deed);
        for thing in deed.things {
            let now = self.truth().thing(&step.resource, thing);
            if now.owner != Self::own(step) || now.state == State::Gone {
                return Err(Obstacle::Refuse(format!("{thing} was changed by others: {now:?}")));
            }
            self.act(step, (deed, true), (thing, was));
        }
        self.answer(step, "taken back")
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.asked(step);
        self.call("presence", Some(step)).await?;
        let deed = self.deed(step)?;
        if self.happens(Trouble::Unknown, "presence", step) {
            return Ok((Presence::Unknown, "it cannot be told".to_owned()));
        }
        let stale = self.happens(Trouble::Stale, "presence", step);
        let mut truth = self.truth();
        let ours = |thing: &Thing| thing.owner == Self::own(step) && thing.state != State::Gone;
        let looks = |stale: bool| {
            // Gone is only what is its own.
            let of = |thing: &&'static str| truth.shown_own(step, thing, stale);
            match deed.does {
                Does::Removes => deed.things.iter().any(|thing| ours(&of(thing))),
                Does::Makes => {
                    let there = deed.things.iter().all(|thing| ours(&of(thing)));
                    there && truth.archived(&step.resource, stale)
                }
                Does::Turns(to) => deed.things.iter().all(|thing| ours(&of(thing)) && of(thing).state == to),
            }
        };
        let (there, is) = (looks(stale), looks(false));
        let done = |there: bool| there == (deed.does != Does::Removes);
        if done(there) && !done(is) {
            truth.deceived.insert(step.resource.clone());
        }
        self.looked(step, (done(is), done(there)));
        Ok((if there { Presence::Present } else { Presence::Absent }, "looked".to_owned()))
    }

    async fn census(&self, page: &CensusContext) -> Result<Listed, Obstacle> {
        self.list(page).await
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        self.asked(step);
        self.call("restored", Some(step)).await?;
        let deed = self.deed(step)?;
        let was = captured(manifest)?;
        if self.happens(Trouble::Unknown, "restored", step) {
            return Err(Obstacle::Unclear("it cannot be told".to_owned()));
        }
        let stale = self.happens(Trouble::Stale, "restored", step);
        let mut truth = self.truth();
        let differs = |stale: bool| {
            let shown = |thing: &&'static str| (*thing, truth.shown_own(step, thing, stale));
            let differs = |(_, is): &(&str, Thing)| is.state != was || is.owner != Self::own(step);
            deed.things.iter().map(shown).find(differs)
        };
        let (seen, is) = (differs(stale), differs(false));
        self.looked(step, (is.is_none(), seen.is_none()));
        let what = (step.resource.clone(), deed.action);
        if is.is_some() && seen.is_none() {
            truth.misshown.insert(what);
        } else {
            truth.misshown.remove(&what);
        }
        match seen {
            Some((thing, shown)) => Err(Obstacle::Unclear(format!("{thing} is not as it was: {shown:?}"))),
            None => Ok("as it was".to_owned()),
        }
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        self.asked(step);
        self.call("check", Some(step)).await?;
        if self.happens(Trouble::Unknown, "check", step) {
            return Err(Obstacle::Unclear("it cannot be told".to_owned()));
        }
        let stale = self.happens(Trouble::Stale, "check", step);
        let mut truth = self.truth();
        let runs = |power: &Thing| power.state == State::On && power.owner == Self::own(step);
        let power = truth.shown_own(step, "power", stale);
        if !runs(&power) && runs(&truth.thing(&step.resource, "power")) {
            truth.deceived.insert(step.resource.clone());
        }
        match power.state {
            State::On if runs(&power) => Err(Obstacle::Refuse("it runs again".to_owned())),
            State::On | State::Off | State::Gone => Ok(Done::saw("it is off")),
        }
    }
}
