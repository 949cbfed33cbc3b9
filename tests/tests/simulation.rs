//! Some seeds of the simulator, so that every change meets them; `scripts/simulate` plays more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;

use sexton_tests::simulation::script::Script;
use sexton_tests::simulation::{play, template};

/// Seeds of one test; each takes a second or two.
const SEEDS: u64 = 12;

fn hold(from: u64) {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    for seed in from..from + SEEDS {
        holds(seed, &template);
    }
}

fn holds(seed: u64, template: &Path) {
    let played = play(&Script::of(seed), Some(template));
    if let Some(violation) = played.violation {
        let history = played.history.join("\n");
        panic!("{history}\nVIOLATED {violation}\nagain: scripts/simulate --only --seed {seed}");
    }
    assert!(played.decisions > 20 && played.changes > 0, "nothing was checked in seed {seed}");
}

#[test]
fn the_invariants_hold_in_the_first_seeds() {
    hold(1);
}

#[test]
fn and_in_the_next_ones() {
    hold(1 + SEEDS);
}

#[test]
fn a_seed_plays_the_same_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    for seed in [3, 8] {
        let [one, other] = [0, 1].map(|_| play(&Script::of(seed), Some(&template)));
        for (line, again) in one.history.iter().zip(&other.history) {
            assert_eq!(line, again, "seed {seed}");
        }
        assert_eq!((one.steps, one.history.len()), (other.steps, other.history.len()), "seed {seed}");
    }
}
