//! Rounds, and what is printed of them.
use std::future::Future;
use std::time::Instant;

use anyhow::Context;
use sexton_coordinator::Plans;
use sexton_ledger::Ledger;

use crate::belts::Belts;
use crate::beside::{Beside, Span};
use crate::figures::{Use, Whose};
use crate::machines;
use crate::noop::STEPS;

/// What one round came to.
struct Figures {
    seconds: f64,
    /// CPU seconds used from the beginning of the round until all is over that it began, and memory then, of each who.
    used: Vec<Use>,
}

/// Several rounds of the same.
pub struct Rounds {
    machines: usize,
    rounds: usize,
    who: Vec<(String, Whose)>,
    done: Vec<Figures>,
}

impl Rounds {
    /// `rounds` rounds of `machines` each; `who`: whose use is measured.
    pub fn new(machines: usize, rounds: usize, who: &[(String, Whose)]) -> Self {
        Self { machines, rounds, who: who.to_vec(), done: Vec::new() }
    }

    /// The number of the next round.
    pub fn next(&self) -> Option<usize> {
        (self.done.len() < self.rounds).then_some(self.done.len() + 1)
    }

    /// Machines retired in all rounds so far.
    pub fn retired(&self) -> usize {
        self.machines * self.done.len()
    }

    /// One round: make machines, wait until they are due, and measure until all are retired. What is to happen
    /// `beside` that begins when they are due. With `belts` the machines are registered already, and what those have begun
    /// is waited for before CPU time is read.
    ///
    /// # Errors
    /// If they do not get done, or belts did nothing.
    pub async fn run(
        &mut self,
        ledger: &dyn Ledger,
        plans: &Plans,
        (round, belts): (usize, Option<Belts>),
        beside: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        eprintln!("round {round} of {}: making {} records", self.rounds, self.machines);
        let plan = plans.of_kind(&"vm".parse()?).context("no plan for machines")?;
        let due_at = machines::make(ledger, plan, (round, self.machines), belts.is_some()).await?;
        machines::until(ledger, due_at).await?;
        let before = self.used()?;
        let began = Instant::now();
        let retired = async {
            machines::retired(ledger, self.machines).await?;
            let seconds = began.elapsed().as_secs_f64();
            anyhow::Ok((seconds, ledger.facts().await?.now))
        };
        let ((seconds, until), ()) = tokio::try_join!(retired, beside)?;
        let span = Span { from: due_at, until };
        let beside = match belts {
            Some(belts) => Beside::settle(belts, ledger, span).await?,
            None => None,
        };
        let mut used = self.used()?;
        for (used, before) in used.iter_mut().zip(before) {
            used.cpu -= before.cpu;
        }
        self.done.push(Figures { seconds, used });
        match beside {
            Some(beside) => beside.print(ledger, self.machines).await,
            None => Ok(()),
        }
    }

    fn used(&self) -> anyhow::Result<Vec<Use>> {
        self.who.iter().map(|(name, whose)| whose.used().with_context(|| name.clone())).collect()
    }

    /// All rounds.
    pub fn report(self) -> Report {
        Report(self)
    }
}

/// Rounds that are over.
pub struct Report(Rounds);

impl Report {
    /// Print each round and their median, beside ceilings: a name and how many a second.
    pub fn print(&self, ceilings: &[(String, f64)]) {
        let Self(rounds) = self;
        let steps = (rounds.machines * STEPS) as f64;
        let mut speeds: Vec<f64> = rounds.done.iter().map(|round| steps / round.seconds).collect();
        for (number, (round, speed)) in (1..).zip(rounds.done.iter().zip(&speeds)) {
            let cpu: f64 = round.used.iter().map(|used| used.cpu).sum();
            let memory: f64 = round.used.iter().map(|used| used.memory).sum();
            println!(
                "  round {number}: {speed:8.0} steps/s   {:.4} CPU s per 1,000 steps   {memory:.0} MiB   \
                 ({} machines in {:.2} s)",
                cpu / steps * 1000.0,
                rounds.machines,
                round.seconds
            );
        }
        speeds.sort_by(f64::total_cmp);
        let median = speeds[speeds.len() / 2];
        println!("  median:  {median:8.0} steps/s");
        if rounds.who.len() > 1 {
            self.shares(steps);
        }
        for (name, ceiling) in ceilings {
            println!("  {:.2} steps per {name} ({ceiling:.0}/s)", median / ceiling);
        }
    }

    /// Of the last round, who used what.
    fn shares(&self, steps: f64) {
        let Some(last) = self.0.done.last() else { return };
        for ((name, _), used) in self.0.who.iter().zip(&last.used) {
            println!(
                "    {name:12} {:.4} CPU s per 1,000 steps   {:.0} MiB",
                used.cpu / steps * 1000.0,
                used.memory
            );
        }
    }
}
