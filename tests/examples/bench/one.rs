//! The embedded footing: SQLite and the bus of one process, with coordinator, scheduler and consumer as tasks, as
//! `sexton serve` runs them.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sexton_bus::local::Local;
use sexton_bus::{Bus, Topology};
use sexton_consumer::{Consumer, Options, SystemClock};
use sexton_coordinator::{Engine, Plans, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::Instance;
use sexton_model::belts::Policy;
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_scheduler::Scheduler;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::figures::Whose;
use crate::report::{Report, Rounds};
use crate::{machines, noop};

/// Retire `machines` in each of `rounds`, on a new file in `folder`.
pub async fn run(
    folder: Option<PathBuf>,
    no_budgets: bool,
    machines: usize,
    rounds: usize,
) -> anyhow::Result<Report> {
    let folder = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("making a folder for the job table")?;
    let budgets = if no_budgets { None } else { Some(machines::budgets()?) };
    let policy = Policy { budgets, ..Policy::default() };
    let options = sexton_ledger::Options { day: machines::DAY, limits: Limits::default(), policy };
    let ledger: Arc<dyn Ledger> =
        Arc::new(SqliteLedger::open(folder.path().join("bench.db"), options).await?);
    let plans = Plans::of(&[("noop.toml", &noop::catalogue())], &[("vm.toml", &noop::plan())], true)?;
    let shutdown = CancellationToken::new();
    let witness = Witness::open(&folder.path().join("witness"), ledger.as_ref(), false).await?;
    let mut tasks = start(&ledger, witness, &shutdown)?;
    let who = [("everything in one process".to_owned(), Whose::Pid(std::process::id()))];
    let mut rounds = Rounds::new(machines, rounds, &who);
    while let Some(round) = rounds.next() {
        rounds.run(ledger.as_ref(), &plans, round).await?;
    }
    machines::check(ledger.as_ref(), rounds.retired()).await?;
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rounds.report())
}

fn start(
    ledger: &Arc<dyn Ledger>,
    witness: Witness,
    shutdown: &CancellationToken,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let instance: Instance = noop::INSTANCE.parse()?;
    let bus = Local::with_topology(Topology::for_instances(std::slice::from_ref(&instance)));
    let mut rng = rand::rng();
    let holders = [Holder::Instance(instance.clone()), Holder::Scheduler];
    let keyring = Arc::new(Keyring::generate(holders, &mut rng));
    let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
    let consumer = Consumer {
        driver: noop::driver(),
        actions: noop::actions()?,
        bus: bus.as_user(&instance.to_string()),
        keyring: Arc::new(keyring.only(&Holder::Instance(instance.clone()))),
        verifier: signer.verifier(),
        clock: Arc::new(SystemClock::default()),
        metrics: Arc::default(),
        version: "bench".into(),
        options: Options { concurrency: 128, ..Options::default() },
        instance,
    };
    let coordinator: Arc<dyn Bus> = Arc::new(bus.clone());
    let engine = Arc::new(Engine::new(sexton_coordinator::Options {
        ledger: ledger.clone(),
        bus: coordinator.clone(),
        keyring: keyring.clone(),
        signer,
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    }));
    let every = Duration::from_secs(1);
    let bus = bus.as_user("scheduler");
    let scheduler = Scheduler { due: ledger.clone(), bus, keyring, every, looks: Arc::default() };
    let mut tasks = JoinSet::new();
    let stop = shutdown.clone();
    tasks.spawn(async move { Ok(sexton_coordinator::run(engine, coordinator, stop).await?) });
    let stop = shutdown.clone();
    tasks.spawn(async move { Ok(consumer.run(stop).await?) });
    let stop = shutdown.clone();
    tasks.spawn(async move {
        scheduler.run(stop).await;
        Ok(())
    });
    Ok(tasks)
}
