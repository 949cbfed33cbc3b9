//! Deciding batches in the writer's transaction: load, decide, write, read what the orders need.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use sexton_model::belts::healthy::Healthy;

use super::connection::Db;
use super::counts::Counts;
use super::decided::{Batch, Left, Outcome, Results, needs_manifest};
use super::decider::{Decider, decide};
use super::memory::{Memory, Staged, Standing, in_force, manifest_key, pulses, standing};
use super::write::{read_manifests, read_targets, write};
use super::{admitting, groups, healthy};
use crate::batch::Loaded;
use crate::policy::CurrentPolicy;
use crate::{Dispatch, Intent, LedgerError, budget, fit};

/// What a batch is decided with besides the table.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) day: sexton_model::time::Day,
    pub(super) limits: crate::Limits,
    pub(super) policy: CurrentPolicy,
}

/// Intents that are decided, and then written, at once: enough for a hand-over to another thread not to matter, and few
/// enough for a batch to have several, of which one is decided while another is written.
const PIECE: usize = 128;

/// A piece of a batch: of which one, and which of its intents.
pub(super) type Piece<'a> = (usize, &'a Arc<Vec<Intent>>, Range<usize>);

fn pieces<'a>(batches: &[&'a Arc<Vec<Intent>>]) -> impl Iterator<Item = Piece<'a>> {
    batches.iter().enumerate().flat_map(|(number, &batch)| {
        (0..batch.len()).step_by(PIECE).map(move |from| (number, batch, from..batch.len().min(from + PIECE)))
    })
}

/// Decide batches piece by piece, each on what the one before left. While one is written, the next is decided:
/// what it is decided on stands in memory, and what it has to read from the table was not touched by the one
/// that is being written, or it would stand in memory.
pub(super) fn run(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, decider): (&Setting, &Decider),
    batches: &[&Arc<Vec<Intent>>],
) -> Result<Vec<Results>, LedgerError> {
    let mut answers: Vec<Results> = batches.iter().map(|batch| Vec::with_capacity(batch.len())).collect();
    let mut pieces = pieces(batches);
    let Some(first) = pieces.next() else { return Ok(answers) };
    let mut of = first.0;
    let (left, mut outcome) = decide(load(db, memory, staged, setting, first)?, setting)?;
    put_back(memory, staged, left, outcome.counts);
    for piece in pieces {
        let next_of = piece.0;
        decider.begin(load(db, memory, staged, setting, piece)?)?;
        let written = finish(db, outcome);
        // Taken also if the writing failed: the next batch must not be answered with this one.
        let (left, decided) = decider.end()?;
        answers[of].extend(written?);
        of = next_of;
        put_back(memory, staged, left, decided.counts);
        outcome = decided;
    }
    answers[of].extend(finish(db, outcome)?);
    Ok(answers)
}

pub(super) fn load(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    setting: &Setting,
    (_, batch, piece): Piece<'_>,
) -> Result<Batch, LedgerError> {
    let intents = &batch[piece.clone()];
    let first = memory.fences(intents.len());
    let Standing { epoch, revision, review } = match memory.standing {
        Some(standing) => standing,
        None => *memory.standing.insert(standing(db)?),
    };
    let deletions = memory.deletions(db, staged, intents.iter().map(|intent| intent.deletion))?;
    let in_force = match &memory.in_force {
        Some(in_force) => in_force.clone(),
        None => memory.in_force.insert(Arc::new(in_force(db)?)).clone(),
    };
    let pulses = match memory.pulses.take() {
        Some(pulses) => pulses,
        None => pulses(db, staged.now, setting.limits.down_after_us())?,
    };
    let policy = setting.policy.get();
    let frozen = admitting::any_waits(db)?;
    let asked = budget::asked(intents, &deletions, (&policy, frozen), (staged.now, setting.day));
    let groups = groups::of_deletions(db, &crate::groups::asked(intents), memory, (staged, &deletions))?;
    let healthy = match crate::healthy::asked(intents) {
        true => healthy::known(db, memory, setting)?,
        false => Healthy::default(),
    };
    let mut loaded = Loaded {
        now: staged.now,
        day: setting.day,
        epoch,
        first_fence: first,
        deletions,
        in_force,
        review: review.then_some(epoch),
        standing: admitting::standing(db, &asked, staged.now)?,
        healthy,
        groups,
        out: std::mem::take(&mut staged.out),
        pulses,
        pinned: HashMap::new(),
    };
    // None of them stands in a piece that is still being written: it is joined by the answer to an order, and that was
    // published after its commit.
    let joins = fit::joins(&loaded, intents);
    if !joins.is_empty() {
        let wanted: Vec<_> = joins.iter().map(|(id, instance)| (*id, instance.to_string())).collect();
        let mut pinned = read_targets(db, &wanted)?;
        loaded
            .pinned
            .extend(joins.into_iter().zip(wanted).filter_map(|(key, at)| Some((key, pinned.remove(&at)?))));
    }
    Ok(Batch { loaded, intents: batch.clone(), piece, revision })
}

fn put_back(memory: &mut Memory, staged: &mut Staged, left: Left, counts: (Counts, Counts)) {
    staged.grown.grow(counts);
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
