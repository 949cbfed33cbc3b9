//! Deciding a batch in the writer's transaction: load, decide, write, read what the orders need.
use std::collections::HashSet;

use sexton_model::decide::OrderSpec;
use sexton_model::plan::Plan;
use sexton_model::step::Mode;
use sqlx::sqlite::SqliteConnection;

use super::counts::Counts;
use super::memory::{Memory, Staged, fences, manifest_key, pauses, pulses};
use super::write::{Before, read_manifests, read_targets, write};
use crate::batch::{Loaded, Settled, decide_all};
use crate::{Decided, Dispatch, Intent, LedgerError, NotDone};

/// What a batch is decided with besides the table.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) day: sexton_model::time::Day,
    pub(super) limits: crate::Limits,
}

type Results = Vec<Result<Decided, NotDone>>;

/// Decide `batch`.
pub(super) async fn run(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    setting: &Setting,
    batch: &[Intent],
) -> Result<Results, LedgerError> {
    let (first, revision) = fences(db, memory, batch.len()).await?;
    let deletions = memory.deletions(db, staged, batch.iter().map(|intent| intent.deletion)).await?;
    let mut before = Before::default();
    let statuses: Vec<_> = deletions.iter().map(|(id, (deletion, _))| (*id, deletion.status)).collect();
    for (deletion, _) in deletions.values() {
        before.note(deletion);
    }
    let counted = Counts::of(deletions.values().map(|(deletion, _)| deletion));
    let in_force = match memory.pauses.take() {
        Some(pauses) => pauses,
        None => pauses(db).await?,
    };
    let alive = match memory.pulses.take() {
        Some(pulses) => pulses,
        None => pulses(db).await?,
    };
    let mut loaded = Loaded {
        now: staged.now,
        day: setting.day,
        epoch: first.epoch,
        first_fence: first.number,
        deletions,
        pauses: in_force,
        out: std::mem::take(&mut staged.out),
        pulses: alive,
    };
    let (settled, writes) = decide_all(&mut loaded, batch, &setting.limits)?;
    let changed: HashSet<_> = statuses
        .into_iter()
        .filter(|(id, status)| loaded.deletions.get(id).is_some_and(|(d, _)| d.status != *status))
        .map(|(id, _)| id)
        .collect();
    write(db, writes, &before, &changed, &loaded.deletions).await?;
    Counts::of(loaded.deletions.values().map(|(deletion, _)| deletion)).write(db, counted).await?;
    let results = dispatches(db, &loaded, revision, settled).await?;
    memory.pauses = Some(loaded.pauses);
    memory.pulses = Some(loaded.pulses);
    staged.out = loaded.out;
    staged.deletions.extend(loaded.deletions);
    Ok(results)
}

/// Whether an order carries a manifest: a perform of what is reversible, its undo, and the look at that.
fn needs_manifest(order: &OrderSpec, plan: &Plan) -> bool {
    match order.mode {
        Mode::Undo | Mode::Verify => true,
        Mode::Perform => plan
            .stage(order.stage)
            .steps
            .get(usize::from(order.step))
            .is_some_and(|step| step.nature.captures()),
        Mode::Inspect | Mode::Capture => false,
    }
}

async fn dispatches(
    db: &mut SqliteConnection,
    loaded: &Loaded,
    revision: i64,
    settled: Vec<Result<Settled, NotDone>>,
) -> Result<Results, LedgerError> {
    let orders = || settled.iter().flatten().filter_map(|s| s.order.as_ref());
    let wanted: Vec<_> = orders().map(|o| (o.job.deletion(), o.instance.to_string())).collect();
    let targets = if wanted.is_empty() { Default::default() } else { read_targets(db, &wanted).await? };
    let wanted: Vec<_> = orders()
        .filter(|o| loaded.deletions.get(&o.job.deletion()).is_some_and(|(d, _)| needs_manifest(o, &d.plan)))
        .map(manifest_key)
        .collect();
    let manifests = if wanted.is_empty() { Default::default() } else { read_manifests(db, &wanted).await? };
    let mut results = Vec::with_capacity(settled.len());
    for one in settled {
        results.push(one.and_then(|settled| {
            let Settled { deletion: id, order, effects, status, audit_seq } = settled;
            let Some((deletion, _)) = loaded.deletions.get(&id) else {
                return Err(NotDone::NoSuchDeletion(id));
            };
            let dispatch = order.map(|spec| Dispatch {
                record: deletion.record.clone(),
                plan: deletion.plan.clone(),
                targets: targets.get(&(id, spec.instance.to_string())).cloned(),
                manifest: if needs_manifest(&spec, &deletion.plan) {
                    manifests.get(&manifest_key(&spec)).cloned()
                } else {
                    None
                },
                revision,
                spec,
            });
            let resource = deletion.record.resource.id.clone();
            Ok(Decided { deletion: id, resource, dispatch, effects, status, audit_seq, at: loaded.now })
        }));
    }
    Ok(results)
}
