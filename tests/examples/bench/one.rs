//! The embedded footing: SQLite and the bus of one process, with coordinator, scheduler and consumer as tasks, as
//! `sexton serve` runs them.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
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

use crate::belts::{self, Belts};
use crate::figures::Whose;
use crate::report::{Report, Rounds};
use crate::{machines, noop};

/// Retire `machines` in each of `rounds`, on a new file in `folder`; with these belts, if any are said.
pub async fn run(
    folder: Option<PathBuf>,
    no_budgets: bool,
    belts: Option<Belts>,
    (machines, rounds): (usize, usize),
) -> anyhow::Result<Report> {
    ensure!(!no_budgets || belts.is_none(), "--no-budgets: what --belts says counts instead");
    let folder = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("making a folder for the job table")?;
    let config = belts.map(|belts| belts.configure(folder.path())).transpose()?;
    let policy = match &config {
        Some(config) => belts::policy_of(config)?,
        None if no_budgets => Policy::default(),
        None => Policy { budgets: Some(machines::budgets()?), ..Policy::default() },
    };
    let options = sexton_ledger::Options { day: machines::DAY, limits: Limits::default(), policy };
    let ledger: Arc<dyn Ledger> =
        Arc::new(SqliteLedger::open(folder.path().join("bench.db"), options).await?);
    let plans = Plans::of(&[("noop.toml", &noop::catalogue())], &[("vm.toml", &noop::plan())], true)?;
    let plans = Arc::new(plans);
    let shutdown = CancellationToken::new();
    let file = folder.path().join("witness");
    let witness = Witness::open(&file, ledger.as_ref(), false).await?;
    let furnish = |engine: Engine, signer: Arc<BeaconSigner>| match &config {
        Some(config) => belts::furnish(engine, config, (plans.clone(), signer), &file),
        None => Ok(engine),
    };
    let (engine, mut tasks) = start(&ledger, witness, furnish, &shutdown)?;
    if let Some(belts) = belts {
        belts.arrange(ledger.as_ref(), machines, rounds).await?;
    }
    let who = [("everything in one process".to_owned(), Whose::Pid(std::process::id()))];
    let mut rounds = Rounds::new(machines, rounds, &who);
    while let Some(round) = rounds.next() {
        let beside = ask_canaries(belts, &engine);
        rounds.run(ledger.as_ref(), &plans, (round, belts), beside).await?;
    }
    machines::check(ledger.as_ref(), rounds.retired()).await?;
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rounds.report())
}

/// Begin a run of canaries, if they are among the belts.
async fn ask_canaries(belts: Option<Belts>, engine: &Engine) -> anyhow::Result<()> {
    if belts == Some(Belts::All) {
        let begun = engine.run_canaries(&belts::by()?, None).await?;
        ensure!(begun.is_some(), "no canaries are sent");
    }
    Ok(())
}

fn start(
    ledger: &Arc<dyn Ledger>,
    witness: Witness,
    furnish: impl FnOnce(Engine, Arc<BeaconSigner>) -> anyhow::Result<Engine>,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Arc<Engine>, JoinSet<anyhow::Result<()>>)> {
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
    let engine = Engine::new(sexton_coordinator::Options {
        ledger: ledger.clone(),
        bus: coordinator.clone(),
        keyring: keyring.clone(),
        signer: signer.clone(),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    });
    let engine = Arc::new(furnish(engine, signer)?);
    let every = Duration::from_secs(1);
    let bus = bus.as_user("scheduler");
    let scheduler = Scheduler { due: ledger.clone(), bus, keyring, every, looks: Arc::default() };
    let mut tasks = JoinSet::new();
    let (running, stop) = (engine.clone(), shutdown.clone());
    tasks.spawn(async move { Ok(sexton_coordinator::run(running, coordinator, stop).await?) });
    let stop = shutdown.clone();
    tasks.spawn(async move { Ok(consumer.run(stop).await?) });
    let stop = shutdown.clone();
    tasks.spawn(async move {
        scheduler.run(stop).await;
        Ok(())
    });
    Ok((engine, tasks))
}
