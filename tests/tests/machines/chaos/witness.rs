//! Asks the subsystems themselves while everything breaks, at moments that nobody knows before: whether anything is gone of a
//! machine that is to be there by its records, or went before what needs it.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Size;
use super::ground::Ground;
use super::judge;
use super::notes::Notes;
use crate::glimpse::{Glimpse, Standing, wrong};
use crate::installation::Installation;
use crate::machine::Machine;

/// Time between two glimpses in milliseconds: in a short run, and in a long one.
const GAP_MS: [std::ops::Range<u64>; 2] = [200..1_500, 1_000..12_000];
const TICK: Duration = Duration::from_millis(100);

/// Look again and again, until all is over. `first` is what was there before anything was deleted.
pub fn watch(
    size: &Size,
    installation: &Installation,
    (ground, machines): (&Ground, &[Machine]),
    first: &Glimpse,
    notes: &Notes,
) {
    let mut random = StdRng::seed_from_u64(!size.seed);
    let mut next = Instant::now();
    while !notes.is_over() {
        std::thread::sleep(TICK);
        if Instant::now() < next {
            continue;
        }
        look(size, installation, (ground, machines), first, notes);
        let [short, long] = GAP_MS;
        let gap = random.random_range(if size.short { short } else { long });
        next = Instant::now() + Duration::from_millis(gap);
    }
}

/// The records are read before and after: while the job table does not answer nothing can be said.
fn look(
    size: &Size,
    installation: &Installation,
    (ground, machines): (&Ground, &[Machine]),
    first: &Glimpse,
    notes: &Notes,
) {
    let standings = || judge::standings(installation.folder(), size.day_ms);
    let Ok(earlier) = standings() else { return };
    let seen = ground.glimpse(installation, machines);
    let Ok(later) = standings() else { return };
    // Whoever puts the job table back has said before what may be lost.
    let lost = notes.lost();
    let known = |standings: BTreeMap<String, Standing>| {
        standings.into_iter().filter(|(machine, _)| !lost.contains(machine)).collect::<BTreeMap<_, _>>()
    };
    let mut first = first.clone();
    first.values_mut().for_each(|machines| machines.retain(|machine| !lost.contains(machine)));
    notes.count_glimpse(seen.keys().copied());
    notes.mistakes(wrong(&first, &seen, &known(earlier), &known(later)));
}
