//! Some seeds of the simulator, so that every change meets them; `scripts/simulate` plays more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::path::Path;

use sexton_model::deletion::RecordStatus;
use sexton_tests::simulation::script::Script;
use sexton_tests::simulation::{Played, play, template};

/// Seeds of one test; each takes a second or two.
const SEEDS: u64 = 12;
/// Seeds of one test about one sort of them.
const SORTED: usize = 6;

/// The invariants hold in these seeds, and they have shown something: records ended both ways.
fn hold(from: u64) {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    let mut ended: BTreeMap<RecordStatus, u64> = BTreeMap::new();
    for seed in from..from + SEEDS {
        let played = holds(seed, &template);
        for (status, many) in played.ended {
            *ended.entry(status).or_default() += many;
        }
    }
    let many = |status| ended.get(&status).copied().unwrap_or_default();
    assert!(many(RecordStatus::Recycled) >= SEEDS / 4, "hardly anything was deleted: {ended:?}");
    assert!(many(RecordStatus::Cancelled) >= SEEDS / 6, "hardly anything was cancelled: {ended:?}");
}

fn holds(seed: u64, template: &Path) -> Played {
    let played = play(&Script::of(seed), Some(template));
    if let Some(violation) = &played.violation {
        let history = played.history.join("\n");
        panic!("{history}\nVIOLATED {violation}\nagain: scripts/simulate --only --seed {seed}");
    }
    played
}

#[test]
fn the_invariants_hold_in_the_first_seeds() {
    hold(1);
}

#[test]
fn and_in_the_next_ones() {
    hold(1 + SEEDS);
}

/// The first seeds of this sort, behind those that are played in any case.
fn first(many: usize, sort: impl Fn(&Script) -> bool) -> impl Iterator<Item = u64> {
    (1 + 2 * SEEDS..).filter(move |seed| sort(&Script::of(*seed))).take(many)
}

#[test]
fn over_a_budget_nothing_begins_before_somebody_approves_it() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    let (mut frozen, mut approved) = (0, 0);
    for seed in first(SORTED, |script| script.allowed.is_some()) {
        let played = holds(seed, &template);
        frozen += played.frozen;
        approved += played.approved;
    }
    assert!(frozen > 0 && approved > 0, "{frozen} batches were frozen, {approved} approved");
}

#[test]
fn no_canary_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    let held: u64 = first(SORTED, |script| script.canaries).map(|seed| holds(seed, &template).canaries).sum();
    assert!(held > 0, "none was answered");
}

#[test]
fn a_seed_plays_the_same_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    let budgets = first(1, |script| script.allowed.is_some() && script.canaries);
    for seed in [3, 8].into_iter().chain(budgets) {
        let [one, other] = [0, 1].map(|_| play(&Script::of(seed), Some(&template)));
        for (line, again) in one.history.iter().zip(&other.history) {
            assert_eq!(line, again, "seed {seed}");
        }
        assert_eq!((one.steps, one.history.len()), (other.steps, other.history.len()), "seed {seed}");
    }
}
