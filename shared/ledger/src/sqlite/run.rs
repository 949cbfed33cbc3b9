//! Deciding batches in the writer's transaction: load, decide, write, read what the orders need.
use std::collections::HashMap;

use super::connection::Db;

use super::counts::Counts;
use super::decided::{Batch, Left, Outcome, Results, needs_manifest};
use super::memory::{Memory, Staged, Standing, manifest_key, pauses, pulses, standing};
use super::write::{read_manifests, read_targets, write};
use crate::batch::Loaded;
use crate::{Dispatch, Intent, LedgerError, fit};

/// What a batch is decided with besides the table.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) day: sexton_model::time::Day,
    pub(super) limits: crate::Limits,
}

/// Decide a batch on what the ones before it left, and write what was decided.
pub(super) fn run(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    setting: &Setting,
    batch: &[Intent],
) -> Result<Results, LedgerError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let batch = load(db, memory, staged, setting, batch)?;
    let (left, outcome) = batch.decide(&setting.limits)?;
    put_back(memory, staged, left, outcome.counts);
    finish(db, outcome)
}

fn load<'a>(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    setting: &Setting,
    intents: &'a [Intent],
) -> Result<Batch<'a>, LedgerError> {
    let first = memory.fences(intents.len());
    let Standing { epoch, revision, review } = match memory.standing {
        Some(standing) => standing,
        None => *memory.standing.insert(standing(db)?),
    };
    let deletions = memory.deletions(db, staged, intents.iter().map(|intent| intent.deletion))?;
    let pauses = match memory.pauses.take() {
        Some(pauses) => pauses,
        None => pauses(db)?,
    };
    let pulses = match memory.pulses.take() {
        Some(pulses) => pulses,
        None => pulses(db, staged.now, setting.limits.down_after_us())?,
    };
    let mut loaded = Loaded {
        now: staged.now,
        day: setting.day,
        epoch,
        first_fence: first,
        deletions,
        pauses,
        review: review.then_some(epoch),
        out: std::mem::take(&mut staged.out),
        pulses,
        pinned: HashMap::new(),
    };
    let joins = fit::joins(&loaded, intents);
    if !joins.is_empty() {
        let wanted: Vec<_> = joins.iter().map(|(id, instance)| (*id, instance.to_string())).collect();
        let mut pinned = read_targets(db, &wanted)?;
        loaded
            .pinned
            .extend(joins.into_iter().zip(wanted).filter_map(|(key, at)| Some((key, pinned.remove(&at)?))));
    }
    Ok(Batch { loaded, intents, revision })
}

fn put_back(memory: &mut Memory, staged: &mut Staged, left: Left, counts: (Counts, Counts)) {
    staged.grown.grow(counts);
    memory.pauses = Some(left.pauses);
    memory.pulses = Some(left.pulses);
    staged.out = left.out;
    staged.deletions.extend(left.deletions);
}

/// Write an outcome, and give its orders their targets and manifests as they are after it.
fn finish(db: &Db, outcome: Outcome) -> Result<Results, LedgerError> {
    let Outcome { writes, found, begun, changed, counts: _, mut results } = outcome;
    write(db, writes, &found, &begun, &changed)?;
    let orders = || results.iter().flatten().filter_map(|decided| decided.dispatch.as_ref());
    let wanted: Vec<_> = orders().map(|d| (d.spec.job.deletion(), d.spec.instance.to_string())).collect();
    let targets = if wanted.is_empty() { HashMap::new() } else { read_targets(db, &wanted)? };
    let wanted: Vec<_> =
        orders().filter(|d| needs_manifest(&d.spec, &d.plan)).map(|d| manifest_key(&d.spec)).collect();
    let manifests = if wanted.is_empty() { HashMap::new() } else { read_manifests(db, &wanted)? };
    for order in results.iter_mut().flatten().filter_map(|decided| decided.dispatch.as_mut()) {
        fill(order, &targets, &manifests);
    }
    Ok(results)
}

fn fill(
    order: &mut Dispatch,
    targets: &HashMap<(sexton_model::DeletionId, String), serde_json::Value>,
    manifests: &HashMap<(sexton_model::JobId, u16), serde_json::Value>,
) {
    if !targets.is_empty() {
        let key = (order.spec.job.deletion(), order.spec.instance.to_string());
        order.targets = targets.get(&key).cloned();
    }
    if needs_manifest(&order.spec, &order.plan) {
        order.manifest = manifests.get(&manifest_key(&order.spec)).cloned();
    }
}
