//! Which canaries of a run are sent when. A consumer works on several orders at once, and one that has begun the later of two
//! about a resource does not look at the earlier one: so those about one resource go to an instance one after the other.
use serde_json::Value;

use super::{Canary, Probe, Verdict};
use crate::time::Timestamp;

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
