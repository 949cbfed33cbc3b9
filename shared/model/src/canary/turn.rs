//! Which canaries a run has room for, and which of them are sent when. A consumer works on several orders at once, and one
//! that has begun the later of two about a resource does not look at the earlier one: so those about one resource go to an
//! instance one after the other.
use serde_json::Value;

use super::{CANARIES_MAX, Canary, Probe, Verdict};
use crate::time::Timestamp;

/// What of this, one list for each resource, has room in a run beside so many others. What is asked about a resource is asked
/// whole or not at all; of one that has no room the first is kept, and is unclear: so it is told each day, and not only in a log.
/// Beside more than there is room for nothing is kept.
pub fn fitting(beside: usize, about: Vec<Vec<(Probe, Option<Verdict>)>>) -> Vec<(Probe, Option<Verdict>)> {
    let mut left = CANARIES_MAX.saturating_sub(beside);
    let mut behind = about.iter().filter(|of_one| !of_one.is_empty()).count();
    let mut fitting = Vec::new();
    for mut of_one in about.into_iter().filter(|of_one| !of_one.is_empty()) {
        behind -= 1;
        // Each behind this one has room to be told of.
        if of_one.len() + behind > left {
            of_one.truncate(left.min(1));
            for (_, verdict) in &mut of_one {
                let why = format!("it is not asked: a run has room for {CANARIES_MAX}, name fewer resources");
                *verdict = Some(Verdict::Unclear { why });
            }
        }
        left -= of_one.len();
        fitting.append(&mut of_one);
    }
    fitting
}

/// Those of a run that are to be sent now. What is wrong waits for what comes of the right one, and is not asked at all unless
/// that one was found: then it would prove nothing.
pub fn to_send(run: &[Canary]) -> Vec<Canary> {
    let asked = |canary: &Canary| canary.is_open() && in_vain(canary, run).is_none();
    let first = |canary: &Canary| !run.iter().any(|before| follows(canary, before) && asked(before));
    run.iter().filter(|canary| asked(canary) && first(canary)).cloned().collect()
}

/// What it means that nothing has come of one by `now`, in this epoch; nothing while it may. What is not asked because it would
/// prove nothing is not waited for.
pub fn unheard(canary: &Canary, run: &[Canary], epoch: u32, now: Timestamp) -> Option<Verdict> {
    match in_vain(canary, run).filter(|_| canary.is_open()) {
        Some(before) => {
            let why = format!("it is not asked: the {} does not hold", before.probe.word());
            Some(Verdict::Unclear { why })
        }
        None => canary.nobody_answered(epoch, now),
    }
}

/// Why it would prove nothing: what it needs does not hold.
fn in_vain<'a>(canary: &Canary, run: &'a [Canary]) -> Option<&'a Canary> {
    run.iter().find(|before| needs(canary, before) && !before.is_open() && !before.holds())
}

/// Whether one is sent only once something has come of the other one, which asks the same instance about the same.
pub fn follows(canary: &Canary, before: &Canary) -> bool {
    canary.is_open() && before.id < canary.id && of_the_same(canary, before)
}

/// What the order of a wrong place says is pinned, if that is known by now: what the right one of its run has seen.
pub fn pinned_elsewhere<'a>(canary: &Canary, run: &'a [Canary]) -> Option<&'a Value> {
    run.iter().find(|before| needs(canary, before))?.elsewhere.as_ref()
}

/// Whether one proves something only if the other one holds.
fn needs(canary: &Canary, before: &Canary) -> bool {
    let pair = matches!(
        (&canary.probe, &before.probe),
        (Probe::WrongIdentity { .. }, Probe::RightIdentity { .. })
            | (Probe::WrongPlace { .. }, Probe::RightPlace { .. })
    );
    pair && of_the_same(canary, before)
}

fn of_the_same(canary: &Canary, before: &Canary) -> bool {
    canary.probe.resource().is_some()
        && canary.run == before.run
        && canary.probe.instance() == before.probe.instance()
        && canary.probe.resource() == before.probe.resource()
}
