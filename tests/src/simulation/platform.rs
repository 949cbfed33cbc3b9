//! The simulated platform: what is really there, and the drivers through which consumers see and change it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::driver::StepContext;
use sexton_consumer::{CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, Permit, Place};
use sexton_model::resource::Resource;
use sexton_model::step::Presence;
use sexton_model::{Fence, ResourceId, Subsystem, Timestamp};

use super::gates::Gates;
use super::hands::Hands;
use super::time::{StoreClock, Time};
use super::weather::{Dice, Trouble};

mod backups;
mod deeds;
mod listing;
pub mod pool;

use backups::Volumes;
use deeds::{BEGINNING, SHOWN};
use pool::{GIVEN_ANEW, Pool};

pub use deeds::{DEEDS, Deed, Does, State, Thing, deed_of};

/// What every instance calls its place.
const PLACE: &str = "simulated";

/// Something was changed.
#[derive(Debug, Clone)]
pub struct Act {
    /// When, truly.
    pub at: Timestamp,
    /// When, by the job table's clock.
    pub by_store: Timestamp,
    /// By which process.
    pub process: usize,
    /// What of which machine.
    pub vm: ResourceId,
    /// Which thing.
    pub thing: &'static str,
    /// How it was, and whose.
    pub was: Thing,
    /// How it is.
    pub now: State,
    /// The action.
    pub deed: &'static Deed,
    /// Whether it was taken back.
    pub undo: bool,
    /// Under which order.
    pub fence: Fence,
}

/// A call goes out that means to change something, right after it was asked whether it may: whatever is left to change.
#[derive(Debug, Clone)]
pub struct Call {
    /// When, truly.
    pub at: Timestamp,
    /// When, by the job table's clock.
    pub by_store: Timestamp,
    /// By which process.
    pub process: usize,
    /// About which machine.
    pub vm: ResourceId,
    /// The action.
    pub deed: &'static Deed,
    /// Under which order.
    pub fence: Fence,
    /// The newest order about this machine that this process had been asked for by then.
    pub newest: Fence,
}

/// Machines that are there, and the UUID of each.
pub type Machines = BTreeMap<ResourceId, String>;

/// All things of all machines, by machine and name.
pub type Things = BTreeMap<(ResourceId, &'static str), Thing>;

/// What is really there.
#[derive(Debug, Default)]
pub struct Truth {
    /// All of it.
    pub things: Things,
    /// How each was before its last change.
    before: Things,
    /// What is in them, and in backups.
    volumes: Volumes,
    /// What consumers changed and nobody has looked at yet.
    pub acts: Vec<Act>,
    /// The calls in which they did, or would have.
    pub calls: Vec<Call>,
    /// Of these somebody was shown the past who looked whether a change had been made, and it looked as if it had.
    pub deceived: BTreeSet<ResourceId>,
    /// What was taken back of these is not as it was, and whoever looked last was shown the past, as which it looked so.
    pub misshown: BTreeSet<(ResourceId, &'static str)>,
    /// Of these somebody else uses the definition: it cannot be removed until they leave it.
    pub locked: BTreeSet<ResourceId>,
    /// Who holds which address.
    pub pool: Pool,
}

impl Truth {
    /// A machine appears, or another one in the place of what is left of it.
    pub fn appear(&mut self, vm: &ResourceId, uuid: &str) {
        let address = self.thing(vm, "address");
        let instead_of = (address.state != State::Gone).then_some(address.owner);
        self.pool.appear(uuid, instead_of.as_deref());
        for (thing, state) in BEGINNING {
            self.things.insert((vm.clone(), thing), Thing { owner: uuid.to_owned(), state });
        }
        self.things.remove(&(vm.clone(), "last archive"));
        self.is_new(vm);
    }

    /// Whoever was shown the past of a machine saw the one before this one.
    pub fn forget_deceptions(&mut self, vm: &ResourceId) {
        self.deceived.remove(vm);
        self.misshown.retain(|(of, _)| of != vm);
    }

    /// Somebody removes a machine's definition. Whether it was there.
    pub fn undefine(&mut self, of: &Resource) -> bool {
        let definition = self.thing(&of.id, "definition");
        let ours = of.identity.get("uuid") == Some(&definition.owner);
        let there = ours && definition.state != State::Gone;
        if there {
            self.change(&of.id, "definition", Thing { state: State::Gone, ..definition });
        }
        there
    }

    /// Those that are there.
    pub fn machines(&self) -> Machines {
        let there = |((_, thing), is): &(&(ResourceId, &str), &Thing)| {
            *thing == "definition" && is.state != State::Gone
        };
        self.things.iter().filter(there).map(|((vm, _), is)| (vm.clone(), is.owner.clone())).collect()
    }

    /// The things of one machine.
    pub fn of(&self, vm: &ResourceId) -> Things {
        self.things
            .iter()
            .filter(|((of, _), _)| of == vm)
            .map(|(key, thing)| (key.clone(), thing.clone()))
            .collect()
    }

    /// One thing; as good as gone if there never was one.
    pub fn thing(&self, vm: &ResourceId, thing: &'static str) -> Thing {
        let none = || Thing { owner: String::new(), state: State::Gone };
        self.things.get(&(vm.clone(), thing)).cloned().unwrap_or_else(none)
    }

    /// What somebody sees who may be shown the past.
    fn shown(&self, vm: &ResourceId, thing: &'static str, stale: bool) -> Thing {
        let before = self.before.get(&(vm.clone(), thing)).filter(|_| stale);
        before.cloned().unwrap_or_else(|| self.thing(vm, thing))
    }

    /// The same for whoever asks for what is a step's own: before its last change it may have been another machine's.
    fn shown_own(&self, step: &StepContext, thing: &'static str, stale: bool) -> Thing {
        let past = self.shown(&step.resource, thing, stale);
        let own = step.identity.get("uuid") == Some(&past.owner);
        if own { past } else { self.thing(&step.resource, thing) }
    }

    fn change(&mut self, vm: &ResourceId, thing: &'static str, to: Thing) {
        let was = self.thing(vm, thing);
        self.before.insert((vm.clone(), thing), was);
        self.things.insert((vm.clone(), thing), to);
    }
}

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
        let lies = self.dice.happens(Trouble::Lie);
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

    /// A call goes out, and may hang, or fail before anything was done.
    async fn call(&self, at: &'static str) -> Result<(), Obstacle> {
        self.gates.moved();
        let hang = self.dice.happens(Trouble::Hang);
        if hang || self.dice.happens(Trouble::Stop) {
            let hang_ms = if hang { 1_000 + self.dice.below(120_000) as u64 } else { 0 };
            self.gates.wait(self.process, at, self.time.now().plus_ms(hang_ms)).await;
        }
        if self.dice.happens(Trouble::FailBefore) {
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

    fn answer(&self, evidence: &str) -> Result<Done, Obstacle> {
        if self.dice.happens(Trouble::FailAfter) {
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
        self.call("inspect").await?;
        let things =
            SHOWN.iter().find(|(of, _)| *of == self.subsystem.as_str()).map_or(&[][..], |(_, all)| all);
        let stale = self.dice.happens(Trouble::Stale);
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
        self.call("find").await?;
        let deed = self.deed(step)?;
        let stale = self.dice.happens(Trouble::Stale);
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
        self.call("capture").await?;
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
        in_hand.at(self.call("perform")).await?;
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
                in_hand.at(self.call("perform on")).await?;
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
        let done = self.answer("done")?;
        let created =
            (deed.does == Does::Makes).then(|| json!({ "last archive": { "of": Self::own(step) } }));
        Ok(Done { created, ..done })
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        self.asked(step);
        let in_hand = self.hands.take(step.fence, &self.dice);
        in_hand.at(self.call("undo")).await?;
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
        self.answer("taken back")
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.asked(step);
        self.call("presence").await?;
        let deed = self.deed(step)?;
        if self.dice.happens(Trouble::Unknown) {
            return Ok((Presence::Unknown, "it cannot be told".to_owned()));
        }
        let stale = self.dice.happens(Trouble::Stale);
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
        self.call("restored").await?;
        let deed = self.deed(step)?;
        let was = captured(manifest)?;
        if self.dice.happens(Trouble::Unknown) {
            return Err(Obstacle::Unclear("it cannot be told".to_owned()));
        }
        let stale = self.dice.happens(Trouble::Stale);
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
        self.call("check").await?;
        if self.dice.happens(Trouble::Unknown) {
            return Err(Obstacle::Unclear("it cannot be told".to_owned()));
        }
        let stale = self.dice.happens(Trouble::Stale);
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
