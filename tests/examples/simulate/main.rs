//! Plays seeds of the simulator, several at once, and shows the shortest history of the first that fails.
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sexton_tests::simulation::script::{Kept, Script};
use sexton_tests::simulation::{Played, play, shrink, tally, template};

/// Play the simulator: coordinators and consumers as in production, and everything around them by a seed.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one, or with --only the only one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Play just the one seed, and show its whole history.
    #[arg(long)]
    only: bool,
    /// Of that seed only this, as it is printed with what was made shorter; then it is played as with --only.
    #[arg(long)]
    keep: Option<Kept>,
    /// Runs at once.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, NonZero::get))]
    at_once: usize,
    /// Show what fails as it is, without making it shorter first.
    #[arg(long)]
    no_shrink: bool,
    /// What fails is not made shorter for longer than this.
    #[arg(long, default_value_t = 15)]
    shrink_minutes: u32,
}

/// What was seen over all runs.
#[derive(Debug, Default)]
struct Sum {
    runs: AtomicU64,
    steps: AtomicU64,
    decisions: AtomicU64,
    changes: AtomicU64,
    virtual_ms: AtomicU64,
    frozen: AtomicU64,
    approved: AtomicU64,
    canaries: AtomicU64,
    happened: Mutex<BTreeMap<&'static str, u64>>,
}

impl Sum {
    fn add(&self, played: &Played) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.steps.fetch_add(played.steps, Ordering::Relaxed);
        self.decisions.fetch_add(played.decisions, Ordering::Relaxed);
        self.changes.fetch_add(played.changes, Ordering::Relaxed);
        self.virtual_ms.fetch_add(played.virtual_ms, Ordering::Relaxed);
        self.frozen.fetch_add(played.frozen, Ordering::Relaxed);
        self.approved.fetch_add(played.approved, Ordering::Relaxed);
        self.canaries.fetch_add(played.canaries, Ordering::Relaxed);
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, many) in &played.happened {
            *happened.entry(*what).or_default() += many;
        }
    }

    /// How often each thing happened, what never did as well.
    fn happened(&self) -> String {
        let happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        let many = |what: &str| happened.get(what).copied().unwrap_or_default();
        tally::all().map(|what| format!("{what} {}", many(what))).collect::<Vec<_>>().join(", ")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("no folder for an empty job table: {error}");
            return ExitCode::FAILURE;
        }
    };
    let template = template(folder.path());
    if arguments.only || arguments.keep.is_some() {
        let script = match &arguments.keep {
            Some(kept) => kept.script(arguments.seed),
            None => Script::of(arguments.seed),
        };
        println!("{script}");
        return tell(&play(&script, Some(&template)), &script);
    }
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(arguments.seed), AtomicBool::new(false));
    let (first, sum) = (Mutex::new(None::<u64>), Sum::default());
    let end = arguments.seed.saturating_add(arguments.seeds);
    let bar = bar(arguments.seeds);
    std::thread::scope(|scope| {
        for _ in 0..arguments.at_once.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let played = play(&Script::of(seed), Some(&template));
                    bar.inc(1);
                    sum.add(&played);
                    if played.violation.is_some() {
                        failed.store(true, Ordering::Relaxed);
                        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                        *first = Some(first.map_or(seed, |other| other.min(seed)));
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{} runs, {} steps, {} decisions and {} changes checked, {:.1} days of virtual time, {:.1} s",
        get(&sum.runs),
        get(&sum.steps),
        get(&sum.decisions),
        get(&sum.changes),
        get(&sum.virtual_ms) as f64 / 86_400_000.0,
        began.elapsed().as_secs_f64(),
    );
    println!(
        "{} batches frozen, {} approved, {} canaries refused",
        get(&sum.frozen),
        get(&sum.approved),
        get(&sum.canaries),
    );
    println!("{}", sum.happened());
    let Some(seed) = *first.lock().unwrap_or_else(PoisonError::into_inner) else {
        return ExitCode::SUCCESS;
    };
    println!("seed {seed} fails{}", if arguments.no_shrink { "" } else { "; making it shorter" });
    let script = Script::of(seed);
    let (script, played) = if arguments.no_shrink {
        (script.clone(), play(&script, Some(&template)))
    } else {
        shrink(&script, Some(&template), Duration::from_secs(60).saturating_mul(arguments.shrink_minutes))
    };
    println!("{script}");
    tell(&played, &script)
}

fn tell(played: &Played, script: &Script) -> ExitCode {
    for line in &played.history {
        println!("{line}");
    }
    match &played.violation {
        Some(violation) => {
            println!("VIOLATED {violation}");
            match script.again() {
                Some(how) => println!("again: scripts/simulate {how}"),
                None => println!("of seed {}, and no part of it", script.seed),
            }
            ExitCode::FAILURE
        }
        None => {
            println!("nothing is violated after {} steps", played.steps);
            ExitCode::SUCCESS
        }
    }
}

fn bar(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
