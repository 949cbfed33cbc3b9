//! What follows upon what in the records' trails: each order once and ended once, and nothing without an event.
use std::collections::BTreeMap;

use sexton_ledger::{AuditRow, DeletionView};
use sexton_model::audit::{AuditEvent, What};
use sexton_model::deletion::{Deletion, Hold, RecordStatus, Waiver};
use sexton_model::job::Job;
use sexton_model::{DeletionId, Fence, ResourceId};

use super::{Violation, violated};
use crate::trail::course::repeated;

/// What was seen of all trails.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    of: BTreeMap<DeletionId, Sequence>,
    /// The last order of each resource.
    ordered: BTreeMap<ResourceId, Fence>,
}

/// What was seen of one.
#[derive(Debug, Default)]
struct Sequence {
    /// The order that is out: it was neither answered nor did its lease run out.
    out: Option<Fence>,
    last: Option<AuditEvent>,
    /// How the record stood at the last look.
    stood: Option<Stood>,
}

/// What nothing but a decision may change of a record.
type Stood = (RecordStatus, Vec<Job>, Vec<Hold>, Vec<Waiver>);

fn stood(d: &Deletion) -> Stood {
    (d.status, d.jobs.clone(), d.holds.clone(), d.waivers.clone())
}

/// The order that an event ends.
fn ended(event: &AuditEvent) -> Option<Fence> {
    event.fence.filter(|_| matches!(event.what, What::Settled | What::LeaseOver))
}

impl Sequence {
    fn note(&mut self, event: &AuditEvent) {
        if ended(event).is_some() {
            self.out = None;
        }
        self.out = event.ordered.or(self.out);
        self.last = Some(event.clone());
    }
}

impl Sequences {
    /// The job table went back in time: nothing that was seen counts any more.
    pub(super) fn went_back(&mut self) {
        *self = Self::default();
    }

    /// Take note of a trail as it is, without judging it.
    pub(super) fn adopt(&mut self, view: &DeletionView) {
        let d = &view.deletion;
        let sequence = self.of.entry(d.id).or_default();
        sequence.stood = Some(stood(d));
        for row in &view.audit {
            sequence.note(&row.event);
        }
        if let Some(last) = view.audit.iter().filter_map(|row| row.event.ordered).max() {
            let ordered = self.ordered.entry(d.record.resource.id.clone()).or_default();
            *ordered = last.max(*ordered);
        }
    }

    /// The next event of a trail: that it may come after those before it.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub(super) fn next(
        &mut self,
        d: &Deletion,
        row: &AuditRow,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let event = &row.event;
        let sequence = self.of.entry(d.id).or_default();
        if sequence.last.as_ref().is_some_and(|last| repeated(last, event)) {
            violated("I12", format!("{}: the same decision twice", told()))?;
        }
        let (ended, out) = (ended(event), sequence.out);
        if ended.is_some() && ended != out {
            violated("I10", format!("{}: that order is not out, {out:?} is", told()))?;
        }
        if let (Some(out), Some(_), None) = (out, event.ordered, ended) {
            violated("I3", format!("{}: while {out} is out", told()))?;
        }
        if let Some(fence) = event.ordered {
            let before = self.ordered.insert(d.record.resource.id.clone(), fence);
            if let Some(before) = before.filter(|before| *before >= fence) {
                violated("I10", format!("{}: after {before} was ordered", told()))?;
            }
        }
        sequence.note(event);
        Ok(())
    }

    /// That nothing has changed since the last look if no event has come; `said` is whether one has.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub(super) fn stands(&mut self, d: &Deletion, said: bool) -> Result<(), Violation> {
        let sequence = self.of.entry(d.id).or_default();
        let before = sequence.stood.replace(stood(d));
        if !said && before.is_some() && before != sequence.stood {
            let now = &sequence.stood;
            violated("I12", format!("{}: {before:?} became {now:?}, and no event says so", d.id))?;
        }
        Ok(())
    }
}
