//! When a record may rightly stay parked at the end of a run (I13). In fair weather, with a person who tries again, there is
//! no reason but these; whatever else a record parks for has to be over by then.
use std::collections::BTreeSet;

use sexton_model::deletion::{Deletion, WaiverClaim};
use sexton_model::{DeletionId, ResourceId};

use crate::simulation::platform::{State, Things, Truth};

/// What makes it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warrant {
    /// There is another machine in the place of the one that the record is about: I2.
    Replaced,
    /// Somebody started it by hand, and what runs is not taken apart.
    Started,
    /// The job table was put back: what was done about it since the copy, it does not know, and finds things gone that should
    /// be there.
    WentBack,
    /// A person said that something may remain: its name stays taken until it is seen to be gone, I6.
    MayRemain,
    /// A subsystem did nothing, said that it did, and showed the past when it was asked: that a machine runs which should be
    /// off shows only at the check before it is taken apart.
    Deceived,
    /// The machine was recycled before the record was made, and nobody made another one: that it is not there was not asked
    /// for by this record, and proves nothing.
    NothingThere,
    /// The job table's clock jumped while an order was out, and its consumer had not heard of that: two orders may have been
    /// carried out at once. No fence stops that on a platform that holds none.
    Raced,
}

/// What happened that makes it right.
#[derive(Debug, Clone, Default)]
pub struct Warrants {
    replaced: BTreeSet<ResourceId>,
    started: BTreeSet<ResourceId>,
    raced: BTreeSet<ResourceId>,
    /// These records were made when there was no machine.
    of_nothing: BTreeSet<DeletionId>,
    /// About these something was decided, or done, since the job table was copied aside.
    touched: BTreeSet<ResourceId>,
    /// And then the copy was put in its place.
    went_back: BTreeSet<ResourceId>,
}

impl Warrants {
    /// There is another machine in its place; the platform knows of it, if that is set.
    pub fn replaced(&mut self, vm: &ResourceId, registered: bool) {
        self.touched(vm);
        if registered {
            self.replaced.remove(vm);
        } else {
            self.replaced.insert(vm.clone());
        }
    }

    /// It was recycled, and is another one by now: what happened to the one before says nothing about it. Whether that is all there
    /// is to say: not if the job table does not know everything about it.
    pub fn made_anew(&mut self, vm: &ResourceId) -> bool {
        self.started.remove(vm);
        self.raced.remove(vm);
        !self.went_back.contains(vm)
    }

    /// A record was made, when the machine was so.
    pub fn made(&mut self, id: DeletionId, as_it_was: &Things) {
        // After the job table was put back a number may be another record's.
        self.of_nothing.remove(&id);
        if as_it_was.iter().any(|((_, what), thing)| *what == "definition" && thing.state == State::Gone) {
            self.of_nothing.insert(id);
        }
    }

    /// Somebody started it.
    pub fn started(&mut self, vm: &ResourceId) {
        self.started.insert(vm.clone());
    }

    /// Two orders may have been carried out at once.
    pub fn raced(&mut self, vm: &ResourceId) {
        self.raced.insert(vm.clone());
    }

    /// Something was decided about it, or done to it: a copy of the job table of before knows nothing of that.
    pub fn touched(&mut self, vm: &ResourceId) {
        self.touched.insert(vm.clone());
    }

    /// The job table was copied aside.
    pub fn copied(&mut self) {
        self.touched.clear();
    }

    /// The copy was put back. Of which machines it does not know everything, this time or from one before.
    pub fn went_back(&mut self) -> impl Iterator<Item = &ResourceId> {
        // They stay: the same copy may be put back once more.
        self.went_back.extend(self.touched.iter().cloned());
        self.went_back.iter()
    }

    /// An order of before the copy was put back is carried out after that.
    pub fn outlived(&mut self, vm: &ResourceId) {
        self.went_back.insert(vm.clone());
    }

    /// What makes it right that this record stays parked, if anything does.
    pub fn parking(&self, d: &Deletion, truth: &Truth) -> Option<Warrant> {
        let vm = &d.record.resource.id;
        let may_remain = d.waivers.iter().any(|waiver| waiver.claim == WaiverClaim::MayRemain);
        let all = [
            (self.replaced.contains(vm), Warrant::Replaced),
            (self.started.contains(vm), Warrant::Started),
            (self.went_back.contains(vm), Warrant::WentBack),
            (may_remain, Warrant::MayRemain),
            (self.of_nothing.contains(&d.id), Warrant::NothingThere),
            (truth.deceived.contains(vm), Warrant::Deceived),
            (self.raced.contains(vm), Warrant::Raced),
        ];
        all.into_iter().find_map(|(holds, warrant)| holds.then_some(warrant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_to_one_machine_says_nothing_about_the_next() {
        let [one, other]: [ResourceId; 2] = ["vm/web01", "vm/web02"].map(|vm| vm.parse().unwrap());
        let mut warrants = Warrants::default();
        for vm in [&one, &other] {
            warrants.started(vm);
            warrants.raced(vm);
        }
        warrants.outlived(&other);
        assert!(warrants.made_anew(&one), "everything is asked of it");
        assert!(!warrants.made_anew(&other), "the job table does not know everything about it");
        assert!(warrants.started.is_empty() && warrants.raced.is_empty());
        assert!(warrants.went_back.contains(&other));
    }
}
