//! All records of one resource beside each other: at most one of them is live, so that its name is taken (I8), and of all
//! jobs of all of them at most one holds the lock (I3).
use std::collections::BTreeMap;

use sexton_ledger::DeletionView;
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, ResourceId};

use super::{Violation, violated};
use crate::trail::locks;

/// Whether a record that stands so keeps the name of its resource, and may change something.
pub(super) fn is_live(status: RecordStatus) -> bool {
    match status {
        RecordStatus::Live | RecordStatus::Restoring => true,
        RecordStatus::Cancelled | RecordStatus::Recycled | RecordStatus::Rescued => false,
    }
}

/// How they stand, as far as they were seen.
#[derive(Debug, Default)]
pub(super) struct Records {
    of: BTreeMap<ResourceId, BTreeMap<DeletionId, Stands>>,
}

#[derive(Debug, Clone, Copy)]
struct Stands {
    live: bool,
    /// Jobs that hold the lock.
    locks: usize,
}

impl Records {
    /// The job table went back in time: nothing that was seen counts any more.
    pub(super) fn went_back(&mut self) {
        *self = Self::default();
    }

    /// A record was made, and nobody has decided anything about it yet.
    pub(super) fn created(&mut self, vm: ResourceId, id: DeletionId) {
        self.of.entry(vm).or_default().insert(id, Stands { live: true, locks: 0 });
    }

    /// Whether there is one of this number.
    pub(super) fn know(&self, id: DeletionId) -> bool {
        self.of.values().any(|records| records.contains_key(&id))
    }

    /// A record stands so.
    pub(super) fn stands(&mut self, view: &DeletionView) {
        let d = &view.deletion;
        let stands = Stands { live: is_live(d.status), locks: locks(view) };
        self.of.entry(d.record.resource.id.clone()).or_default().insert(d.id, stands);
    }

    /// Nothing is in the way of anything else, once all that was decided was seen: what ends one record may begin another.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub(super) fn beside(&self) -> Result<(), Violation> {
        for (vm, records) in &self.of {
            let live: Vec<DeletionId> =
                records.iter().filter(|(_, one)| one.live).map(|(id, _)| *id).collect();
            if live.len() > 1 {
                violated("I8", format!("{vm} has the live records {live:?}"))?;
            }
            let locks: usize = records.values().map(|one| one.locks).sum();
            if locks > 1 {
                violated("I3", format!("{locks} jobs lock {vm}: {records:?}"))?;
            }
        }
        Ok(())
    }
}
