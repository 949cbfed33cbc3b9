//! How a record ends: of what was cancelled everything is as it was when the record was made (I4), and what is recycled is gone (I7).
//! Both are asked when a record ends, for whatever comes after that may change it again, and once more when the run does.
use std::collections::BTreeSet;

use sexton_ledger::DeletionView;
use sexton_model::ResourceId;
use sexton_model::deletion::{Deletion, RecordStatus};

use super::{Checker, Violation, orders, violated};
use crate::simulation::platform::{DEEDS, Does, State, Thing, Truth};

impl Checker {
    /// Whether this record has ended by a cancel, and had not when this was asked last.
    pub(super) fn ends_by_a_cancel(&mut self, d: &Deletion) -> bool {
        d.status == RecordStatus::Cancelled && self.taken_back.insert(d.id)
    }

    /// What was cancelled was looked at, and is as it was, as far as anybody can promise how it is; whether it is so is asked only of
    /// the `last` record of its machine.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub(super) fn as_it_was(&self, view: &DeletionView, truth: &Truth, last: bool) -> Result<(), Violation> {
        let d = &view.deletion;
        let vm = &d.record.resource.id;
        if self.disturbed.contains(vm) || self.forgiven.contains(&d.id) {
            return Ok(());
        }
        orders::verified(view)?;
        let Some(before) = self.snapshots.get(&d.id) else { return Ok(()) };
        if truth.misshown.iter().any(|(of, _)| of == vm) {
            // It was not taken back, and each look after that was shown the past.
            return Ok(());
        }
        for (key, was) in before.iter().filter(|_| last) {
            let is = truth.things.get(key);
            if is != Some(was) {
                violated("I4", format!("{} is cancelled, {key:?} was {was:?} and is {is:?}", d.id))?;
            }
        }
        Ok(())
    }

    /// The run is over: what is there must be what the records say.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn ended(&self, view: &DeletionView, truth: &Truth) -> Result<(), Violation> {
        let d = &view.deletion;
        let vm = &d.record.resource.id;
        match d.status {
            RecordStatus::Recycled => {
                outlived(d, (truth, &self.disturbed), &|| format!("{} is recycled", d.id))
            }
            RecordStatus::Cancelled => {
                // A later record of the same machine may have changed it again.
                let last = self.trails.keys().filter(|id| self.about(**id) == Some(vm)).max() == Some(&d.id);
                self.as_it_was(view, truth, last)
            }
            RecordStatus::Live | RecordStatus::Restoring | RecordStatus::Rescued => Ok(()),
        }
    }
}

/// A record outlives everything that it describes. Whatever people have waived: its name stays taken until somebody says that
/// all of it is gone, and they say so only if it is.
pub(super) fn outlived(
    d: &Deletion,
    (truth, disturbed): (&Truth, &BTreeSet<ResourceId>),
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    match left(d, truth) {
        Some(left) if !disturbed.contains(&d.record.resource.id) => {
            violated("I7", format!("{}: there is {left:?}", told()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Something that a deletion removes, and that is still there.
pub fn left(d: &Deletion, truth: &Truth) -> Option<(&'static str, Thing)> {
    let ours = |owner: &str| d.record.resource.identity.get("uuid") == Some(owner);
    let mut all = truth.of(&d.record.resource.id).into_iter().map(|((_, thing), is)| (thing, is));
    all.find(|(thing, is)| ours(&is.owner) && is.state != State::Gone && removed_by_a_plan(thing))
}

fn removed_by_a_plan(thing: &str) -> bool {
    DEEDS.iter().any(|deed| deed.does == Does::Removes && deed.things.contains(&thing))
}
