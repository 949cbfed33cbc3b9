//! What a seed stands for: how many machines there are, how bad the weather is, and what people and accidents do when.
//!
//! A script is plain data, so that one that fails can be made shorter and still be played.
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::weather::Weather;

/// What happens besides what Sexton does by itself. Machines, coordinators and consumers are meant by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A person states that a machine is to go, in so many milliseconds.
    Delete(usize, u64),
    /// A person cancels.
    Cancel(usize),
    /// A person has a reason not to go on.
    Hold(usize),
    /// That is gone.
    Release(usize),
    /// The platform says that the machine must never be deleted; or that it may be.
    Protect(usize, bool),
    /// Everything is paused.
    Pause,
    /// All pauses are lifted.
    Resume,
    /// A person has a parked job tried again.
    Retry(usize),
    /// A person lets the step of a parked job pass: what it is about is gone, or may remain.
    Waive(usize, bool),
    /// Somebody makes another machine in the place of this one, without asking anybody.
    Recreate(usize),
    /// Somebody starts a machine by hand.
    Start(usize),
    /// A coordinator dies (SIGKILL), and is started again after so many milliseconds.
    KillCoordinator(usize, u64),
    /// A consumer dies (SIGKILL), and is started again after so many milliseconds.
    KillConsumer(usize, u64),
    /// A consumer is stopped where it stands, and goes on after so many milliseconds; its machine slept if that is set.
    Freeze(usize, u64, bool),
    /// The wall clock of a consumer is set to be so many milliseconds ahead of the truth.
    SetClock(usize, i64),
    /// No beacon reaches any consumer for so many milliseconds.
    Deaf(u64),
    /// All queues are emptied.
    Purge,
    /// Everything is down for so many milliseconds.
    Down(u64),
    /// The job table is copied aside.
    Backup,
    /// The copy is put in its place.
    RestoreBackup,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this step of the run.
    Step(u64),
    /// Right after so many decisions: where much is decided, much happens.
    Decisions(u64),
}

/// What happens when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// When.
    pub when: When,
    /// What.
    pub what: Happening,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// For everything that is left to chance.
    pub seed: u64,
    /// Machines.
    pub machines: usize,
    /// How bad everything around is.
    pub weather: Weather,
    /// What happens.
    pub items: Vec<Item>,
}

/// Steps within which things happen; what was begun by then ends in fair weather.
pub const STORM_STEPS: u64 = 6_000;
/// Processes of consumers.
const CONSUMERS: usize = 10;

impl Script {
    /// Whether nobody does anything by which a record could rightly stay parked: then all of them have to end.
    pub fn is_plain(&self) -> bool {
        !self.items.iter().any(|item| {
            matches!(
                item.what,
                Happening::Recreate(_)
                    | Happening::Start(_)
                    | Happening::Waive(..)
                    | Happening::Protect(_, true)
                    | Happening::RestoreBackup
            )
        })
    }

    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5EED);
        let machines = rng.random_range(1..=4);
        let weather = weather(&mut rng);
        let many = rng.random_range(6..=28);
        let mut items: Vec<Item> = (0..many)
            .map(|_| {
                let when = match rng.random_range(0..3) {
                    0 => When::Step(rng.random_range(0..STORM_STEPS)),
                    _ => When::Decisions(rng.random_range(1..120)),
                };
                Item { when, what: happening(&mut rng, machines) }
            })
            .collect();
        // Something is to go in any case, early.
        items.push(Item { when: When::Step(rng.random_range(0..200)), what: Happening::Delete(0, 0) });
        if rng.random_range(0..5) == 0 {
            let first = rng.random_range(1..60);
            let second = first + rng.random_range(1..40);
            items.push(Item { when: When::Decisions(first), what: Happening::Backup });
            items.push(Item { when: When::Decisions(second), what: Happening::RestoreBackup });
        }
        let items = with_sleepers(items, &mut rng);
        Self { seed, machines, weather, items }
    }
}

/// In some runs the machines of all consumers are suspended, with whatever these have in hand, right before the job table goes
/// back in time, or is paused. In some of these no beacon reaches them for a while after they have woken up, and in some the
/// deadlines of what they had in hand have passed.
fn with_sleepers(mut items: Vec<Item>, rng: &mut StdRng) -> Vec<Item> {
    let sleep = |when: When, for_ms: u64| {
        (0..CONSUMERS).map(move |number| Item { when, what: Happening::Freeze(number, for_ms, true) })
    };
    let goes_back = items.iter().position(|item| item.what == Happening::RestoreBackup);
    if let Some(place) = goes_back.filter(|_| rng.random_range(0..2) == 0) {
        let (when, for_ms) = (items[place].when, rng.random_range(10_000..40_000));
        items.splice(place..place, sleep(when, for_ms));
    }
    if rng.random_range(0..3) == 0 {
        let when = When::Decisions(rng.random_range(1..120));
        let for_ms = match rng.random_range(0..3) {
            0 => rng.random_range(65_000..110_000),
            _ => rng.random_range(25_000..40_000),
        };
        items.extend(sleep(when, for_ms));
        if rng.random_range(0..2) == 0 {
            items.push(Item { when, what: Happening::Deaf(for_ms + 30_000) });
        }
        items.push(Item { when, what: Happening::Pause });
        items.push(Item { when: When::Step(rng.random_range(1_000..STORM_STEPS)), what: Happening::Resume });
    }
    items
}

/// Fair in some runs; else everything goes wrong now and then, and up to four things often: what needs two of them at once
/// would else hardly ever come.
fn weather(rng: &mut StdRng) -> Weather {
    let fair = rng.random_range(0..4) == 0;
    let often: Vec<u32> = (0..rng.random_range(0..=4)).map(|_| rng.random_range(0..10)).collect();
    let mut number = 0;
    let mut chance = |seldom: u32, most: u32| {
        let most = if often.contains(&number) { most } else { seldom };
        number += 1;
        if fair { 0 } else { rng.random_range(0..=most) }
    };
    Weather {
        lose: chance(10, 100),
        repeat: chance(20, 300),
        delay: chance(20, 300),
        unconfirmed: chance(10, 60),
        fail_before: chance(20, 150),
        fail_after: chance(20, 200),
        lie: chance(20, 400),
        stale: chance(20, 200),
        unknown: chance(20, 400),
        hang: chance(5, 40),
        stop: rng.random_range(150..450),
    }
}

fn happening(rng: &mut StdRng, machines: usize) -> Happening {
    let machine = rng.random_range(0..machines);
    let while_ms = if rng.random_range(0..4) == 0 { 200_000 } else { 8_000 };
    let for_ms = rng.random_range(0..while_ms);
    match rng.random_range(0..100) {
        0..26 => Happening::Delete(machine, rng.random_range(0..20_000)),
        26..38 => Happening::Cancel(machine),
        38..43 => Happening::Hold(machine),
        43..49 => Happening::Release(machine),
        49..51 => Happening::Protect(machine, true),
        51..54 => Happening::Protect(machine, false),
        54..58 => Happening::Pause,
        58..64 => Happening::Resume,
        64..69 => Happening::Retry(machine),
        69..71 => Happening::Waive(machine, rng.random_range(0..2) == 0),
        71..73 => Happening::Recreate(machine),
        73..75 => Happening::Start(machine),
        75..81 => Happening::KillCoordinator(rng.random_range(0..2), for_ms),
        81..88 => Happening::KillConsumer(rng.random_range(0..10), for_ms),
        88..94 => Happening::Freeze(rng.random_range(0..10), for_ms, rng.random_range(0..2) == 0),
        94..96 => Happening::SetClock(rng.random_range(0..10), rng.random_range(-12_000..12_000)),
        96..98 => Happening::Purge,
        _ => Happening::Down(for_ms),
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} machines, {:?}", self.seed, self.machines, self.weather)?;
        for item in &self.items {
            writeln!(f, "  {:?}: {:?}", item.when, item.what)?;
        }
        Ok(())
    }
}
