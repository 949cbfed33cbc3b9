//! The many-machine footing: PostgreSQL, RabbitMQ, and coordinator, scheduler and consumer as processes of their own,
//! each the program that runs in production; only the consumer's driver does nothing.
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sexton_api::Client;
use sexton_coordinator::Plans;
use sexton_coordinator::settings::ApiSection;
use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::belts::Policy;
use sexton_service::{Config, config};

use crate::belts::{self, Belts};
use crate::figures::Whose;
use crate::report::{Report, Rounds};
use crate::{machines, noop};

/// How long the services may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `scripts/bench` has set up.
#[derive(Debug, clap::Args)]
pub struct Setup {
    /// The job table's address.
    #[arg(long)]
    postgres: String,
    /// The configuration that all services read.
    #[arg(long)]
    config: PathBuf,
    /// The folder of the services' programs.
    #[arg(long)]
    programs: PathBuf,
    /// A server whose use is shown, as NAME=FILE with its process number.
    #[arg(long = "server", value_parser = server)]
    servers: Vec<(String, PathBuf)>,
}

fn server(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}

/// A service that is stopped when this is dropped.
struct Service {
    name: &'static str,
    child: Child,
}

impl Service {
    fn start(name: &'static str, program: &Path, arguments: &[&str], config: &Path) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .arg("--config")
            .arg(config)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name, child })
    }

    fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}", self.name),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nothing of it is needed any more, and its servers go next.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("{} could not be stopped: {error}", self.name);
        }
    }
}

/// Retire `machines` in each of `rounds`; with these belts, which the configuration says, too.
pub async fn run(
    setup: &Setup,
    belts: Option<Belts>,
    (machines, rounds): (usize, usize),
) -> anyhow::Result<Report> {
    let configured = Config::load(&setup.config, config::SECTIONS)?;
    // Records are made, and censuses taken, here: by the same rules as the coordinator's.
    let policy = match belts {
        Some(_) => belts::policy_of(&configured)?,
        None => Policy::default(),
    };
    let options = sexton_ledger::Options { day: machines::DAY, limits: Limits::default(), policy };
    PgLedger::migrate(&setup.postgres, machines::DAY).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(PgLedger::open(&setup.postgres, options).await?);
    let plans = Plans::of(&[("noop.toml", &noop::catalogue())], &[("vm.toml", &noop::plan())], true)?;
    let program = |name: &str| setup.programs.join(name);
    let config = &setup.config;
    let mut services = [
        Service::start("coordinator", &program("sexton-coordinator"), &[], config)?,
        Service::start("scheduler", &program("sexton-scheduler"), &[], config)?,
        Service::start("consumer", &program("examples/noop"), &["--instance", noop::INSTANCE], config)?,
    ];
    heard_of(ledger.as_ref(), &mut services).await?;
    if let Some(belts) = belts {
        belts.arrange(ledger.as_ref(), machines, rounds).await?;
    }
    let mut who: Vec<(String, Whose)> =
        services.iter().map(|s| (s.name.to_owned(), Whose::Pid(s.child.id()))).collect();
    who.extend(setup.servers.iter().map(|(name, file)| (name.clone(), Whose::File(file.clone()))));
    let mut rounds = Rounds::new(machines, rounds, &who);
    while let Some(round) = rounds.next() {
        let beside = ask_canaries(belts, &configured);
        rounds.run(ledger.as_ref(), &plans, (round, belts), beside).await?;
        services.iter_mut().try_for_each(Service::alive)?;
    }
    machines::check(ledger.as_ref(), rounds.retired()).await?;
    Ok(rounds.report())
}

/// Have the coordinator begin a run of canaries, if they are among the belts.
async fn ask_canaries(belts: Option<Belts>, configured: &Config) -> anyhow::Result<()> {
    if belts == Some(Belts::All) {
        let api: ApiSection = configured.section("api")?;
        let client = Client::new(&format!("http://{}", api.listen), None, belts::by()?)?;
        let info = client.run_canaries().await?;
        ensure!(info.off.is_none(), "no canaries are sent");
    }
    Ok(())
}

/// Wait until the consumer has pulsed and the coordinator has taken note.
async fn heard_of(ledger: &dyn Ledger, services: &mut [Service]) -> anyhow::Result<()> {
    let began = Instant::now();
    while ledger.health().await?.instances.is_empty() {
        ensure!(began.elapsed() < PATIENCE, "the consumer was not heard of in {PATIENCE:?}");
        services.iter_mut().try_for_each(Service::alive)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
