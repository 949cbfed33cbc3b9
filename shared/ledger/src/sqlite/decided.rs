//! A batch between being loaded and being written: decided, without the database, so that one piece of it can be
//! decided on one thread while the one before it is written on another.
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use sexton_model::decide::OrderSpec;
use sexton_model::deletion::{Deletion, RecordStatus};
use sexton_model::job::{JobKind, StateName};
use sexton_model::plan::Plan;
use sexton_model::step::Mode;
use sexton_model::{DeletionId, Instance, JobId, Timestamp};

use super::counts::Counts;
use super::load::Headed;
use super::memory::OutCounts;
use super::run::Setting;
use crate::batch::{Loaded, Settled, Writes, decide_all};
use crate::{Decided, Dispatch, Intent, LedgerError, NotDone, Pulsed};

/// What became of each intent.
pub(super) type Results = Vec<Result<Decided, NotDone>>;

/// A batch with all that it is decided on.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) loaded: Loaded,
    pub(super) intents: Arc<Vec<Intent>>,
    /// Which of them.
    pub(super) piece: Range<usize>,
    pub(super) revision: i64,
}

/// What the next batch is decided on.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) deletions: HashMap<DeletionId, Headed>,
    pub(super) out: OutCounts,
    pub(super) pulses: HashMap<Instance, Pulsed>,
}

/// What is to be written, and what is answered once it is.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) writes: Writes,
    pub(super) found: Found,
    /// Resources of the restores that were begun.
    pub(super) begun: HashMap<JobId, String>,
    /// Records whose status has changed.
    pub(super) changed: HashSet<DeletionId>,
    pub(super) counts: (Counts, Counts),
    /// Orders without targets and manifests: those are read after the writing.
    pub(super) results: Results,
}

/// What the batch found: it decides how a row is written.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// When it was decided.
    pub(super) now: Timestamp,
    /// Jobs that had an order out and were not being cancelled.
    pub(super) running: HashSet<JobId>,
    restores: HashSet<JobId>,
    statuses: Vec<(DeletionId, RecordStatus)>,
}

impl Found {
    fn note(&mut self, deletion: &Deletion) {
        self.statuses.push((deletion.id, deletion.status));
        for job in &deletion.jobs {
            if job.kind == JobKind::Restore {
                self.restores.insert(job.id);
            }
            if job.state.name() == StateName::Running {
                self.running.insert(job.id);
            }
        }
    }
}

impl Batch {
    /// Decide it. Pure, apart from the time it takes.
    ///
    /// # Errors
    /// If an event cannot be written down, which would be a defect.
    pub(super) fn decide(self, setting: &Setting) -> Result<(Left, Outcome), LedgerError> {
        let Self { mut loaded, intents, piece, revision } = self;
        let mut found = Found { now: loaded.now, ..Found::default() };
        for (deletion, _) in loaded.deletions.values() {
            found.note(deletion);
        }
        let before = Counts::of(loaded.deletions.values().map(|(deletion, _)| deletion));
        let (settled, writes) =
            decide_all(&mut loaded, &intents[piece], &setting.limits, &setting.policy.get())?;
        let after = Counts::of(loaded.deletions.values().map(|(deletion, _)| deletion));
        let changed = found
            .statuses
            .iter()
            .filter(|(id, status)| loaded.deletions.get(id).is_some_and(|(d, _)| d.status != *status))
            .map(|(id, _)| *id)
            .collect();
        let begun = writes
            .jobs
            .keys()
            .filter(|id| id.slot() == JobKind::RESTORE_SLOT && !found.restores.contains(id))
            .filter_map(|id| {
                let (deletion, _) = loaded.deletions.get(&id.deletion())?;
                Some((*id, deletion.record.resource.id.to_string()))
            })
            .collect();
        let results = settled.into_iter().map(|one| one.and_then(|s| result(&loaded, revision, s))).collect();
        let outcome = Outcome { writes, found, begun, changed, counts: (before, after), results };
        let Loaded { deletions, out, pulses, .. } = loaded;
        Ok((Left { deletions, out, pulses }, outcome))
    }
}

fn result(loaded: &Loaded, revision: i64, settled: Settled) -> Result<Decided, NotDone> {
    let Settled { deletion: id, order, effects, status, audit_seq, again_at } = settled;
    let (deletion, _) = loaded.deletions.get(&id).ok_or(NotDone::NoSuchDeletion(id))?;
    let dispatch = order.map(|spec| Dispatch {
        record: deletion.record.clone(),
        plan: deletion.plan.clone(),
        targets: None,
        manifest: None,
        revision,
        day: loaded.day,
        spec,
    });
    let resource = deletion.record.resource.id.clone();
    let leaves_groups = crate::groups::ends(&deletion.record, status);
    Ok(Decided {
        deletion: id,
        resource,
        dispatch,
        effects,
        status,
        audit_seq,
        at: loaded.now,
        again_at,
        leaves_groups,
    })
}

/// Whether an order carries a manifest: a perform of what is reversible, its undo, and the look at that.
pub(super) fn needs_manifest(order: &OrderSpec, plan: &Plan) -> bool {
    match order.mode {
        Mode::Undo | Mode::Verify => true,
        Mode::Perform => plan
            .stage(order.stage)
            .steps
            .get(usize::from(order.step))
            .is_some_and(|step| step.nature.captures()),
        Mode::Inspect | Mode::Reread | Mode::Capture => false,
    }
}
