//! Everything in one thread, by one seed: the simulator.
//!
//! Coordinators and consumers run as they do in production (`Engine`'s handlers, `Consumer::run`, `Scheduler::tick`), on
//! the embedded job table, whose commits are real. What is simulated is everything around them: the time, the bus between
//! them, the platform that they delete from, the people and the accidents.
//!
//! Exactly one thing goes on at a time, and after each everything is compared with what is really there
//! ([`check`]). A handler stops wherever it could be stopped: before a read, before a transaction, between its
//! commit and whatever follows, between two messages, and around every call of a subsystem ([`gates`]).
//!
//! Where to look: [`script`] is what a seed stands for, [`world`] who goes on next, `life` what people and accidents do and
//! how a run ends, [`platform`] what is really there, [`allowed`] how budgets are set, [`hands`] what a process has in hand that
//! is stopped, [`weather`] the dice, [`tally`] what has to have happened.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a run that cannot go on ends with its history; nothing depends on it"
)]
pub mod allowed;
pub mod bus;
pub mod check;
pub mod gates;
pub mod hands;
mod life;
pub mod platform;
pub mod script;
pub mod tally;
pub mod time;
pub mod weather;
pub mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use sexton_model::deletion::RecordStatus;

use script::{SIMPLER, Script};
use weather::Trouble;
use world::World;

pub use check::Violation;

/// What a run was.
#[derive(Debug, Clone, Default)]
pub struct Played {
    /// The invariant that did not hold, if one did not.
    pub violation: Option<Violation>,
    /// What happened, in words.
    pub history: Vec<String>,
    /// Steps of the world.
    pub steps: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Decisions that were checked.
    pub decisions: u64,
    /// Changes of the platform that were checked.
    pub changes: u64,
    /// Batches that were frozen.
    pub frozen: u64,
    /// Approvals of batches that were given.
    pub approved: u64,
    /// Canaries that were refused, or held, as they must be.
    pub canaries: u64,
    /// How many records stand how at the end.
    pub ended: BTreeMap<RecordStatus, u64>,
    /// How often what happened: see [`tally`].
    pub happened: BTreeMap<&'static str, u64>,
}

/// What a run that panics violates.
pub const PANIC: &str = "panic";
/// What a run violates in which somebody waits for what never comes: not a message, which nothing promises, but a lock, or each other.
pub const HUNG: &str = "hung";

/// Play a script. `template` is an empty job table, made once for many runs. A panic is a violation, too.
///
/// # Panics
/// If the machine gives it no threads.
pub fn play(script: &Script, template: Option<&Path>) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut world = match caught(World::begin(script, template)).await {
            Ok(world) => world,
            Err(violation) => return Played { violation: Some(violation), ..Played::default() },
        };
        let violation = caught(world.play()).await.unwrap_or_else(Err).err();
        world.say_what_chance_did();
        let hung = violation.as_ref().is_some_and(|violation| violation.invariant == HUNG);
        let played = Played {
            violation,
            steps: world.step,
            virtual_ms: world.time.since_begin_ms(),
            decisions: world.checker.events,
            changes: world.checker.changes,
            frozen: world.checker.frozen,
            approved: world.checker.approved,
            canaries: world.checker.canaries.held(),
            ended: std::mem::take(&mut world.ended),
            happened: world.happened(),
            history: std::mem::take(&mut world.history),
        };
        if hung {
            // The job table would end its threads first, and wait for one of them for ever.
            std::mem::forget(world);
        }
        played
    })
}

/// Do this; if it panics that is what is wrong, and what was seen until then can still be told.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Violation> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or_else(|panic| Poll::Ready(Err(panicked(&*panic))), |polled| polled.map(Ok))
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Violation {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Violation { invariant: PANIC, what: text.unwrap_or("without a word").to_owned() }
}

/// The shortest script that still fails in the same way: things that happen are left out one after the other, as long
/// as the same invariant is violated; and then whatever else makes it harder to understand: machines, what goes wrong by
/// chance, all of it and one by one, and what some runs have. What made something necessary may be gone then, so all of it is
/// tried again until nothing can be left out any more, or `patience` has passed: what fails at the end of a long run takes
/// as long to fail each time.
pub fn shrink(script: &Script, template: Option<&Path>, patience: Duration) -> (Script, Played) {
    let until = Instant::now() + patience;
    let played = play(script, template);
    let Some(invariant) = played.violation.as_ref().map(|violation| violation.invariant) else {
        return (script.clone(), played);
    };
    if invariant == HUNG {
        // Each time it is told only after a minute.
        return (script.clone(), played);
    }
    let mut least = Least { script: script.clone(), played, invariant, template, until };
    while least.leaves_something_out() {}
    (least.script, least.played)
}

/// The least that is known to fail, and how it did.
struct Least<'a> {
    script: Script,
    played: Played,
    invariant: &'static str,
    template: Option<&'a Path>,
    /// Nothing else is tried after it.
    until: Instant,
}

impl Least<'_> {
    /// Leave out whatever can be left out, each thing tried once. Whether anything was.
    fn leaves_something_out(&mut self) -> bool {
        let before = self.script.clone();
        let mut size = self.script.items.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.script.items.len() {
                let until = (from + size).min(self.script.items.len());
                if !self.still_fails(|shorter| drop(shorter.items.drain(from..until))) {
                    from += size;
                }
            }
            size /= 2;
        }
        for simpler in SIMPLER {
            self.still_fails(simpler);
        }
        while self.still_fails(|fewer| fewer.machines = fewer.machines.saturating_sub(1).max(1)) {}
        for trouble in Trouble::ALL {
            self.still_fails(|fairer| fairer.weather = fairer.weather.with(trouble, 0));
        }
        self.script != before
    }

    /// Whether another script fails in the same way, which it becomes then. Not if it is the same one.
    fn still_fails(&mut self, change: impl FnOnce(&mut Script)) -> bool {
        let mut script = self.script.clone();
        change(&mut script);
        if script == self.script || Instant::now() >= self.until {
            return false;
        }
        let played = play(&script, self.template);
        let same = played.violation.as_ref().is_some_and(|violation| violation.invariant == self.invariant);
        if same {
            (self.script, self.played) = (script, played);
        }
        same
    }
}

/// Make an empty job table in `folder`, for runs to begin with: that takes longer than many of them.
///
/// # Panics
/// As [`play`].
pub fn template(folder: &Path) -> std::path::PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let none = Script { machines: 0, kinds: 1, scopes: 1, allowed: None, canaries: false, ..Script::of(0) };
    let file = folder.join("empty.db");
    runtime.block_on(async {
        let mut world = World::begin(&none, None).await;
        let now = world.time.now();
        world.close_ledger(now).await;
        std::fs::copy(world.file(), &file).unwrap();
    });
    file
}
