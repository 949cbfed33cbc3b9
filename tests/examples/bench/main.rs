//! Retires many virtual machines of twelve no-op steps each, all due at once, with authentication, beacon, permits,
//! audit and durable settings, and prints steps per second, CPU seconds per 1,000 steps and memory. Ends with an error
//! unless every machine was recycled and the audit chains of a sample hold. Started by `scripts/bench`, which measures
//! the ceilings beside it.
mod belts;
mod beside;
mod figures;
mod machines;
mod many;
mod noop;
mod one;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// How fast Sexton is.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Machines retired in each round; each has twelve steps.
    #[arg(long, global = true, default_value_t = 4_000)]
    machines: usize,
    /// Rounds.
    #[arg(long, global = true, default_value_t = 3, value_parser = 1..)]
    rounds: i64,
    /// What the figures are held against, as NAME=NUMBER a second.
    #[arg(long = "ceiling", global = true, value_parser = ceiling)]
    ceilings: Vec<(String, f64)>,
    /// As few belts as settings leave, or all: what they cost is what all are slower. Without it budgets alone count.
    #[arg(long, global = true, value_enum, env = "SEXTON_BENCH_BELTS")]
    belts: Option<belts::Belts>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything in one process, on SQLite.
    One {
        /// Where the job table is made.
        #[arg(long)]
        folder: Option<PathBuf>,
        /// With no budgets: what they cost is what they make slower.
        #[arg(long)]
        no_budgets: bool,
    },
    /// A process for each service, on PostgreSQL and RabbitMQ.
    Many(many::Setup),
    /// Print what is on with either of --belts.
    Belts,
    /// Write the plan and the catalogue of the benchmark, and with --belts their sections of the configuration
    /// (belts.toml).
    Files {
        /// Where to.
        folder: PathBuf,
    },
}

fn ceiling(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("expected NAME=NUMBER")?;
    Ok((name.to_owned(), number.parse().map_err(|e| format!("{number}: {e}"))?))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Arguments { what, machines, rounds, ceilings, belts } = Arguments::parse();
    let rounds = usize::try_from(rounds)?;
    let report = match what {
        What::One { folder, no_budgets } => one::run(folder, no_budgets, belts, (machines, rounds)).await?,
        What::Many(setup) => many::run(&setup, belts, (machines, rounds)).await?,
        What::Belts => {
            belts::print_list();
            return Ok(());
        }
        What::Files { folder } => {
            noop::write(&folder)?;
            return belts.map_or(Ok(()), |belts| belts.write(&folder));
        }
    };
    report.print(&ceilings);
    Ok(())
}
