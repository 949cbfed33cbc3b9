//! What a seed stands for: how many machines there are, which belts are set how, how bad the weather is, and what people and
//! accidents do when.
//!
//! A script is plain data, so that one that fails can be made shorter and still be played.
use std::fmt;

use sexton_model::{Actor, ResourceId};

use super::allowed::{Allowed, SCOPES};
use super::weather::{Trouble, Weather};

mod draw;
mod happening;
mod kept;

pub use happening::{Covers, Fate, Happening, Wish};
pub use kept::Kept;

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

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this step of the run.
    Step(u64),
    /// Right after so many decisions: where much is decided, much happens.
    Decisions(u64),
    /// As soon as this machine's record waits for a person.
    Parked(usize),
    /// As soon as this consumer is about to change something.
    InHand(usize),
    /// As soon as any of them is, after so many decisions; or, if that does not come, many decisions later.
    Changing(u64),
    /// As soon as it is time for the hard stage of this machine's record, and it was not begun yet.
    HardDue(usize),
    /// As soon as this machine is gone, and its name may be used again.
    Recycled(usize),
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
    /// Whether coordinators do what has no haste, too.
    pub tends: bool,
    /// How bad everything around is.
    pub weather: Weather,
    /// What happens.
    pub items: Vec<Item>,
}

/// Steps within which things happen; what was begun by then ends in fair weather.
pub const STORM_STEPS: u64 = 8_400;

/// What makes a script easier to understand, one at a time.
pub const SIMPLER: [fn(&mut Script); 7] = [
    |script| script.canaries = false,
    |script| script.tends = false,
    |script| script.allowed = None,
    |script| script.allowed.iter_mut().for_each(|allowed| allowed.percent = None),
    |script| script.kinds = 1,
    |script| script.scopes = 1,
    |script| script.weather = Weather::FAIR.with(Trouble::Stop, script.weather.chance(Trouble::Stop)),
];

impl Script {
    /// The machine of that number.
    pub fn machine(&self, number: usize) -> ResourceId {
        format!("{}/web{number:02}", KINDS[number % self.kinds]).parse().unwrap()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = ResourceId> {
        (0..self.machines).map(move |number| self.machine(number))
    }

    /// Whether budgets are by percent, so that somebody has to count.
    pub fn counts(&self) -> bool {
        self.allowed.as_ref().is_some_and(|allowed| allowed.percent.is_some())
    }

    /// Whether coordinators take censuses without being asked.
    pub fn takes_censuses(&self) -> bool {
        self.tends && self.counts()
    }

    /// If somebody counts: a machine of each scope that is always there. Whatever is cut off the end of a listing, these are.
    pub fn sentinels(&self) -> impl Iterator<Item = (ResourceId, &'static str)> + use<> {
        let many = if self.counts() { self.scopes } else { 0 };
        SCOPES.into_iter().take(many).enumerate().map(|(number, scope)| {
            let sentinel = format!("{}/zz{number:02}", KINDS[0]);
            (sentinel.parse().unwrap(), scope)
        })
    }

    /// The scope that a machine is in.
    pub fn scope_of(&self, vm: &ResourceId) -> &'static str {
        if let Some((_, scope)) = self.sentinels().find(|(sentinel, _)| sentinel == vm) {
            return scope;
        }
        let number = self.all().position(|other| other == *vm).unwrap_or_default();
        SCOPES[number % self.scopes]
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, machines, kinds, scopes, allowed, canaries, tends, weather, .. } = self;
        writeln!(f, "seed {seed}, {machines} machines of {kinds} kinds in {scopes} scopes, {weather:?}")?;
        if let Some(allowed) = allowed {
            writeln!(f, "  {allowed:?}, approved after {} looks", self.patience)?;
        }
        if *canaries {
            writeln!(f, "  with canaries")?;
        }
        if *tends {
            writeln!(f, "  with what has no haste")?;
        }
        for item in &self.items {
            writeln!(f, "  {:?}: {:?}", item.when, item.what)?;
        }
        Ok(())
    }
}
