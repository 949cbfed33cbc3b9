//! What a seed stands for: how many machines there are, which belts are set how, how bad the weather is, and what people and
//! accidents do when.
//!
//! A script is plain data, so that one that fails can be made shorter and still be played.
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sexton_model::{Actor, ResourceId};

use super::allowed::{Allowed, SCOPES};
use super::weather::Weather;

/// Kinds of machines, each with a plan of its own.
pub const KINDS: [&str; 2] = ["vm", "machine"];
/// Versions that there are of each plan.
pub const PLANS: usize = 3;

/// People who ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Person {
    /// Asks for deletions.
    Ops,
    /// Asks for deletions, too.
    Dev,
    /// Asks for none, and approves what others have asked for.
    Auditor,
}

impl Person {
    /// As Sexton knows them.
    pub fn actor(self) -> Actor {
        let name = match self {
            Self::Ops => "ops",
            Self::Dev => "dev",
            Self::Auditor => "auditor",
        };
        name.parse().unwrap()
    }
}

/// What happens besides what Sexton does by itself. Machines, coordinators and consumers are meant by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A person states that a machine is to go, in so many milliseconds.
    Delete(usize, u64),
    /// This one states it of all machines at once.
    DeleteAll(Person, u64),
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
    /// A person looks at the oldest batch that waits.
    LookAtBatch,
    /// This one approves the batch that was looked at last, as it was then. Whoever carries that out dies right after the
    /// commit if that is set.
    Approve(Person, bool),
    /// Records are made by another version of the plans from now on.
    ChangePlans(usize),
    /// Somebody makes another machine in the place of this one, without asking anybody.
    Recreate(usize),
    /// Somebody starts a machine by hand.
    Start(usize),
    /// Somebody else begins to use a machine's definition, so that it cannot be removed; or leaves it.
    Lock(usize, bool),
    /// Somebody with a consumer's key answers a canary that must not be believed.
    AnswerCanary,
    /// A coordinator dies (SIGKILL), and is started again after so many milliseconds.
    KillCoordinator(usize, u64),
    /// A consumer dies (SIGKILL), and is started again after so many milliseconds.
    KillConsumer(usize, u64),
    /// A consumer is stopped where it stands, and goes on after so many milliseconds; its machine slept if that is set.
    Freeze(usize, u64, bool),
    /// The wall clock of a consumer is set to be so many milliseconds ahead of the truth.
    SetClock(usize, i64),
    /// The same of the job table's clock; of everybody's, if that is set.
    SetTime(i64, bool),
    /// The job table's clock gains so many millionths from now on.
    Drift(i64),
    /// No beacon reaches any consumer for so many milliseconds.
    Deaf(u64),
    /// All queues are emptied.
    Purge,
    /// Everything is down for so many milliseconds.
    Down(u64),
    /// The process that writes the job table is started anew; coordinators follow after so many milliseconds.
    Reopen(u64),
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
    /// As soon as this machine's record waits for a person.
    Parked(usize),
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
    /// Of so many kinds, in turn.
    pub kinds: usize,
    /// In so many scopes, in turn.
    pub scopes: usize,
    /// How many of them may begin a stage within a span, if that is limited.
    pub allowed: Option<Allowed>,
    /// At the end, people leave a batch that needs them alone for so many looks.
    pub patience: u32,
    /// Whether consumers and the job table are asked what they must refuse.
    pub canaries: bool,
    /// How bad everything around is.
    pub weather: Weather,
    /// What happens.
    pub items: Vec<Item>,
}

/// Steps within which things happen; what was begun by then ends in fair weather.
pub const STORM_STEPS: u64 = 6_000;
/// Processes of consumers.
const CONSUMERS: usize = 10;

/// What makes a script easier to understand, one at a time.
pub const SIMPLER: [fn(&mut Script); 5] = [
    |script| script.canaries = false,
    |script| script.allowed = None,
    |script| script.kinds = 1,
    |script| script.scopes = 1,
    |script| script.weather = Weather { stop: script.weather.stop, ..Weather::FAIR },
];

impl Script {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5EED);
        let allowed = (rng.random_range(0..3) == 0).then(|| Allowed::draw(&mut rng));
        let machines = match (rng.random_range(0..12), &allowed) {
            (0, _) => rng.random_range(5..=8),
            (_, Some(_)) => rng.random_range(2..=5),
            (_, None) => rng.random_range(1..=4),
        };
        let mut script = Self {
            seed,
            machines,
            kinds: if rng.random_range(0..4) == 0 { KINDS.len() } else { 1 },
            scopes: if allowed.is_some() { rng.random_range(1..=SCOPES.len()) } else { 1 },
            allowed,
            patience: rng.random_range(0..3),
            canaries: rng.random_range(0..3) == 0,
            weather: weather(&mut rng),
            items: Vec::new(),
        };
        let many = rng.random_range(6..=28);
        script.items = (0..many)
            .map(|_| {
                let when = match rng.random_range(0..3) {
                    0 => When::Step(rng.random_range(0..STORM_STEPS)),
                    _ => When::Decisions(rng.random_range(1..120)),
                };
                Item { when, what: happening(&mut rng, &script) }
            })
            .collect();
        // Something is to go in any case, early.
        let first = match script.allowed {
            None => Happening::Delete(0, 0),
            Some(_) => Happening::DeleteAll(requester(&mut rng), 0),
        };
        script.items.push(Item { when: When::Step(rng.random_range(0..200)), what: first });
        if script.allowed.is_some() {
            let looked = rng.random_range(300..STORM_STEPS / 2);
            let approved = looked + rng.random_range(1..1_500);
            script.items.push(Item { when: When::Step(looked), what: Happening::LookAtBatch });
            let approves = Happening::Approve(Person::Auditor, rng.random_range(0..3) == 0);
            script.items.push(Item { when: When::Step(approved), what: approves });
        }
        if rng.random_range(0..5) == 0 {
            let first = rng.random_range(1..60);
            let second = first + rng.random_range(1..40);
            script.items.push(Item { when: When::Decisions(first), what: Happening::Backup });
            script.items.push(Item { when: When::Decisions(second), what: Happening::RestoreBackup });
        }
        script.items = with_sleepers(script.items, &mut rng);
        script.items.extend(with_a_lock(&mut rng));
        script
    }

    /// The machine of that number.
    pub fn machine(&self, number: usize) -> ResourceId {
        format!("{}/web{number:02}", KINDS[number % self.kinds]).parse().unwrap()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = ResourceId> {
        (0..self.machines).map(move |number| self.machine(number))
    }

    /// The scope that a machine is in.
    pub fn scope_of(&self, vm: &ResourceId) -> &'static str {
        let number = self.all().position(|other| other == *vm).unwrap_or_default();
        SCOPES[number % self.scopes]
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

/// In some runs somebody else uses the first machine, and when it cannot be undefined a person says that it may remain, or has
/// them leave it and it tried again.
fn with_a_lock(rng: &mut StdRng) -> Vec<Item> {
    if rng.random_range(0..4) != 0 {
        return Vec::new();
    }
    let when = When::Decisions(rng.random_range(1..20));
    let parked = |what: Happening| Item { when: When::Parked(0), what };
    let mut items = vec![Item { when, what: Happening::Lock(0, true) }];
    if rng.random_range(0..3) == 0 {
        items.extend([parked(Happening::Lock(0, false)), parked(Happening::Retry(0))]);
    } else {
        items.push(parked(Happening::Waive(0, false)));
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

fn happening(rng: &mut StdRng, script: &Script) -> Happening {
    if script.allowed.is_some() && rng.random_range(0..4) == 0 {
        return about_many(rng);
    }
    if rng.random_range(0..10) == 0 {
        return about_everything(rng, script.canaries);
    }
    let machine = rng.random_range(0..script.machines);
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
        81..88 => Happening::KillConsumer(rng.random_range(0..CONSUMERS), for_ms),
        88..94 => Happening::Freeze(rng.random_range(0..CONSUMERS), for_ms, rng.random_range(0..2) == 0),
        94..96 => Happening::SetClock(rng.random_range(0..CONSUMERS), rng.random_range(-12_000..12_000)),
        96..98 => Happening::Purge,
        _ => Happening::Down(for_ms),
    }
}

/// What people do where many are to go.
fn about_many(rng: &mut StdRng) -> Happening {
    match rng.random_range(0..8) {
        0..3 => Happening::LookAtBatch,
        3..7 => {
            let by = match rng.random_range(0..5) {
                0 => requester(rng),
                _ => Person::Auditor,
            };
            Happening::Approve(by, rng.random_range(0..3) == 0)
        }
        _ => Happening::DeleteAll(requester(rng), rng.random_range(0..20_000)),
    }
}

fn requester(rng: &mut StdRng) -> Person {
    if rng.random_range(0..2) == 0 { Person::Ops } else { Person::Dev }
}

/// What concerns no machine of its own.
fn about_everything(rng: &mut StdRng, canaries: bool) -> Happening {
    match rng.random_range(0..10) {
        0..4 => Happening::ChangePlans(rng.random_range(0..PLANS)),
        4..7 => {
            let ahead_ms = match rng.random_range(0..4) {
                0 => 0,
                1 => rng.random_range(-60_000..0),
                2 => rng.random_range(500..6_000),
                _ => rng.random_range(6_000..90_000),
            };
            Happening::SetTime(ahead_ms, rng.random_range(0..2) == 0)
        }
        7 => Happening::Drift(rng.random_range(-10_000..10_000)),
        8 if canaries => Happening::AnswerCanary,
        _ => Happening::Reopen(rng.random_range(0..20_000)),
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, machines, kinds, scopes, allowed, canaries, weather, .. } = self;
        writeln!(f, "seed {seed}, {machines} machines of {kinds} kinds in {scopes} scopes, {weather:?}")?;
        if let Some(allowed) = allowed {
            writeln!(f, "  {allowed:?}, approved after {} looks", self.patience)?;
        }
        if *canaries {
            writeln!(f, "  with canaries")?;
        }
        for item in &self.items {
            writeln!(f, "  {:?}: {:?}", item.when, item.what)?;
        }
        Ok(())
    }
}
