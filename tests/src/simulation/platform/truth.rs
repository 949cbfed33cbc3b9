//! What is really there, what was changed, and who went on to change something.
use std::collections::{BTreeMap, BTreeSet};

use sexton_consumer::driver::StepContext;
use sexton_model::resource::Resource;
use sexton_model::{Fence, ResourceId, Timestamp};

use super::backups::Volumes;
use super::deeds::{BEGINNING, Deed, State, Thing};
use super::pool::Pool;

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
    pub(super) before: Things,
    /// What is in them, and in backups.
    pub(super) volumes: Volumes,
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
    pub(super) fn shown(&self, vm: &ResourceId, thing: &'static str, stale: bool) -> Thing {
        let before = self.before.get(&(vm.clone(), thing)).filter(|_| stale);
        before.cloned().unwrap_or_else(|| self.thing(vm, thing))
    }

    /// The same for whoever asks for what is a step's own: before its last change it may have been another machine's.
    pub(super) fn shown_own(&self, step: &StepContext, thing: &'static str, stale: bool) -> Thing {
        let past = self.shown(&step.resource, thing, stale);
        let own = step.identity.get("uuid") == Some(&past.owner);
        if own { past } else { self.thing(&step.resource, thing) }
    }

    pub(super) fn change(&mut self, vm: &ResourceId, thing: &'static str, to: Thing) {
        let was = self.thing(vm, thing);
        self.before.insert((vm.clone(), thing), was);
        self.things.insert((vm.clone(), thing), to);
    }
}
