//! A coordinator as a process: on PostgreSQL and RabbitMQ.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use clap::Parser;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::{Bus, BusError, Topology};
use sexton_coordinator::alarms::AlarmsSection;
use sexton_coordinator::api::{Api, serve};
use sexton_coordinator::settings::{
    ApiSection, ArchiveSection, AuditSection, CreditSection, PlansSection, postgres_url,
};
use sexton_coordinator::watch::Condition;
use sexton_coordinator::{Alarmer, Canaries, Engine, Options, Witness, hours, policy};
use sexton_ledger::Ledger;
use sexton_ledger::postgres::{PgArchive, PgLedger};
use sexton_model::time::Day;
use sexton_model::{Instance, Timestamp};
use sexton_protocol::{BeaconSigner, BeaconVerifier, Holder, Keyring};
use sexton_service::{
    CommonArguments, Config, Failed, Health, Telemetry, config, patiently, run_whole, secret,
    shutdown_on_signal, telemetry,
};
use tokio_util::sync::CancellationToken;

/// The only writer of the job table: checks belts, claims, orders, and moves jobs on.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Where the API listens, instead of where the configuration says.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Make a new witness where one is missing: the job table is known to be the latest one, or this coordinator is
    /// new here.
    #[arg(long)]
    new_witness: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make or update the tables and roles, and end: for the owner of the tables. Doing it again does nothing.
    Migrate {
        /// A file with the address under which the owner connects, instead of the one of the configuration.
        #[arg(long)]
        url_file: Option<PathBuf>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerSection {
    /// A file with the address of the database: it holds a password.
    postgres_url_file: PathBuf,
    #[serde(default)]
    rehearsal_day_ms: Option<u64>,
    /// Whether the tables are migrated at the start: then the user has to own them, and the database cannot keep it
    /// from changing the audit trail.
    #[serde(default)]
    migrate_at_start: bool,
    /// Where the witness lies; `coordinator.witness` beside the configuration if not given.
    #[serde(default)]
    witness: Option<PathBuf>,
}

impl LedgerSection {
    fn day(&self) -> Day {
        self.rehearsal_day_ms.map_or(Day::Calendar, |length_ms| Day::Rehearsal { length_ms })
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.common.config, config::SECTIONS)?;
    let telemetry: telemetry::Options = config.section("telemetry")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _telemetry = Telemetry::start("sexton-coordinator", &telemetry)?;
    run_whole(runtime, async {
        match arguments.command {
            Some(Command::Migrate { url_file }) => migrate(&config, url_file).await,
            None => run(&config, arguments.listen, arguments.new_witness).await,
        }
    })
}

async fn migrate(config: &Config, url_file: Option<PathBuf>) -> anyhow::Result<()> {
    let ledger: LedgerSection = config.section("ledger")?;
    let url = match url_file {
        Some(file) => secret::read(&file)?,
        None => postgres_url(config, "ledger", &ledger.postgres_url_file)?,
    };
    let done = PgLedger::migrate(url.expose_secret(), ledger.day()).await?;
    if done.is_empty() {
        println!("nothing to do");
    }
    for line in done {
        println!("{line}");
    }
    Ok(())
}

async fn run(config: &Config, listen: Option<SocketAddr>, new_witness: bool) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let health = Health::start(config, "coordinator", shutdown.clone()).await?;
    let ledger: LedgerSection = config.section("ledger")?;
    let api: ApiSection = config.section("api")?;
    let plans: PlansSection = config.section("plans")?;
    let credit: CreditSection = config.section("credit")?;
    let audit: AuditSection = config.section("audit")?;
    let alarms: AlarmsSection = config.section("alarms")?;
    let archive = ArchiveSection::read(config)?;
    let day = ledger.day();
    let plans = Arc::new(plans.load(config, day.is_rehearsal())?);
    let canaries = Canaries::read(config, plans.clone())?;
    let listen = listen.unwrap_or(api.listen);
    let token = api.token(config, listen)?;

    let keys: config::Keys = config.section("keys")?;
    let (mac, text) = keys.secret(config, "mac/coordinator.toml")?;
    let keyring = Keyring::parse(&mac.display().to_string(), text.expose_secret())
        .map_err(|why| keys.mistake(config, why))?;
    let (beacon, text) = keys.secret(config, "beacon.secret.toml")?;
    let signer = BeaconSigner::parse(&beacon.display().to_string(), text.expose_secret())
        .map_err(|why| keys.mistake(config, why))?;
    let signer = Arc::new(signer);
    let broker: config::Broker = config.section("broker")?;
    let (_, password) = keys.secret(config, "broker/coordinator")?;
    let broker_url = broker.url("coordinator", &password);
    let older = older_signers(config, &keys)?;

    let url = postgres_url(config, "ledger", &ledger.postgres_url_file)?;
    let archive_url = archive.as_ref().map(|section| section.url(config)).transpose()?;
    let now = Timestamp::from(SystemTime::now());
    let policy = policy::claiming(policy::read(config, now)?, &plans);
    policy::censuses_can_be_taken(config, &policy, &plans)?;
    policy::tell(&policy, day, config, now);
    let calendar = hours::Calendar::of(config)?;
    let options = sexton_ledger::Options { day, limits: credit.limits(config)?, policy };
    let witness = ledger.witness.as_deref().unwrap_or(Path::new("coordinator.witness"));
    let (witness, migrate_at_start) = (config.path(witness), ledger.migrate_at_start);
    let telling = alarms.options(config, &witness)?;
    let alarmer = Alarmer::new(sexton_coordinator::alarms::Options { lacks: canaries.lacks(), ..telling });
    let attester = audit.attester(config, &witness, (signer.clone(), older.clone()))?;
    let ledger = patiently("opening the job table", &shutdown, || async {
        if migrate_at_start {
            PgLedger::migrate(url.expose_secret(), day).await?;
        }
        let opened = PgLedger::open(url.expose_secret(), options.clone()).await?;
        Ok(Arc::new(opened) as Arc<dyn Ledger>)
    });
    let Some(ledger) = ledger.await? else { return Ok(()) };
    let archiver = match archive.as_ref().zip(archive_url) {
        Some((section, url)) => {
            let store = patiently("opening the job table for the archive", &shutdown, || async {
                Ok(Arc::new(PgArchive::open(url.expose_secret(), day).await?))
            });
            let Some(store) = store.await? else { return Ok(()) };
            Some(section.archiver(config, store, (signer.clone(), older)))
        }
        None => None,
    };
    let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), new_witness).await?);
    let Some(bus) = reach_broker(&broker_url, &keyring, &shutdown).await? else { return Ok(()) };
    let engine = Engine::new(Options {
        ledger,
        bus: bus.clone(),
        keyring: Arc::new(keyring),
        signer,
        unpacked: credit.unpacked,
        witness,
    });
    let engine = engine.signing(Some(attester)).archiving(archiver).alarming(alarmer);
    let engine = engine.with_canaries(Some(canaries)).with_censuses(Some(plans.clone()));
    let engine = Arc::new(engine.with_calendar(calendar));
    plans.warn_of_the_unknown(engine.known());
    if health.address().is_some() {
        health.watch(Arc::new(Condition::new(engine.clone(), bus.clone())));
    }
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("[api]: listening on {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    let served = Api { engine: engine.clone(), plans, token };
    let serving = serve(listener, Arc::new(served), shutdown.clone());
    let running = sexton_coordinator::run(engine, bus, shutdown.clone());
    let (served, ran) = tokio::join!(serving, async {
        let ran = running.await;
        shutdown.cancel();
        ran
    });
    served?;
    Ok(ran?)
}

/// The public keys that are handed out with the keys, if they are: after an exchange, older ones among them.
fn older_signers(config: &Config, keys: &config::Keys) -> anyhow::Result<BeaconVerifier> {
    let file = config.path(&keys.folder.join("beacon.public.toml"));
    let text = match std::fs::read_to_string(&file) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(BeaconVerifier::default()),
        text => text.map_err(|why| keys.mistake(config, format!("reading {}: {why}", file.display())))?,
    };
    let known = BeaconVerifier::parse(&file.display().to_string(), &text);
    Ok(known.map_err(|why| keys.mistake(config, why))?)
}

/// The broker, as the coordinator's user, with a queue for every instance that has a key; `None` if told to stop meanwhile.
async fn reach_broker(
    url: &SecretString,
    keyring: &Keyring,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Arc<dyn Bus>>> {
    let instances: Vec<Instance> = keyring
        .holders()
        .filter_map(|holder| match holder {
            Holder::Instance(instance) => Some(instance.clone()),
            Holder::Scheduler => None,
        })
        .collect();
    patiently("reaching the broker", shutdown, || async {
        let options = RabbitOptions {
            declare: Some(Topology::for_instances(&instances)),
            name: "coordinator".to_owned(),
            ..RabbitOptions::new(url.expose_secret())
        };
        let connected = Rabbit::connect(options).await;
        let broker = connected.map_err(|why| Failed::when(why.is_final(), why))?;
        // One that is away is no error of the client; but without its queues a coordinator ends.
        match broker.healthy().await {
            Err(away @ BusError::Unreachable { .. }) => Err(away.into()),
            Ok(()) | Err(_) => Ok(Arc::new(broker) as Arc<dyn Bus>),
        }
    })
    .await
}
