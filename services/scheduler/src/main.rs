//! A scheduler as a process: reads PostgreSQL as a role that can see what is due and nothing else.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sexton_bus::Bus;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_ledger::postgres::{PgDueReader, check_address};
use sexton_protocol::Keyring;
use sexton_scheduler::{Condition, Looks, Scheduler};
use sexton_service::{
    CommonArguments, Config, Failed, Health, Telemetry, config, patiently, run_whole, shutdown_on_signal,
    telemetry,
};

/// Publishes what is due. Decides nothing.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// A file with the address of the database, for the role that only reads what is due.
    postgres_url_file: PathBuf,
    /// How often to look.
    #[serde(default = "every_ms")]
    every_ms: u64,
}

/// Shortest and longest time between two looks, in milliseconds: each is a query, and coordinators look by themselves, too.
const EVERY_MIN_MS: u64 = 50;
const EVERY_MAX_MS: u64 = 60_000;

fn every_ms() -> u64 {
    1_000
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.common.config, config::SECTIONS)?;
    let telemetry: telemetry::Options = config.section("telemetry")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _telemetry = Telemetry::start("sexton-scheduler", &telemetry)?;
    run_whole(runtime, run(&config))
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let health = Health::start(config, "scheduler", shutdown.clone()).await?;
    let section: Section = config.section("scheduler")?;
    if !(EVERY_MIN_MS..=EVERY_MAX_MS).contains(&section.every_ms) {
        let why = format!("every_ms = {}: expected {EVERY_MIN_MS} to {EVERY_MAX_MS}", section.every_ms);
        return Err(config.mistake("scheduler", why).into());
    }
    // All of the configuration is read before anybody is waited for.
    let keys: config::Keys = config.section("keys")?;
    let (mac, text) = keys.secret(config, "mac/scheduler.toml")?;
    let keyring = Keyring::parse(&mac.display().to_string(), text.expose_secret())
        .map_err(|why| keys.mistake(config, why))?;
    let broker: config::Broker = config.section("broker")?;
    let (_, password) = keys.secret(config, "broker/scheduler")?;
    let broker_url = broker.url("scheduler", &password);
    let url = config.secret("scheduler", "postgres_url_file", &section.postgres_url_file)?;
    check_address(url.expose_secret()).map_err(|why| {
        let why = anyhow::Error::from(why);
        config.mistake("scheduler", format!("postgres_url_file: {why:#}"))
    })?;
    let due = patiently("opening what is due", &shutdown, || async {
        Ok(Arc::new(PgDueReader::open(url.expose_secret()).await?))
    });
    let Some(due) = due.await? else { return Ok(()) };
    let bus = patiently("reaching the broker", &shutdown, || async {
        let options =
            RabbitOptions { name: "scheduler".to_owned(), ..RabbitOptions::new(broker_url.expose_secret()) };
        let connected = Rabbit::connect(options).await;
        Ok(Arc::new(connected.map_err(|why| Failed::when(why.is_final(), why))?) as Arc<dyn Bus>)
    });
    let Some(bus) = bus.await? else { return Ok(()) };
    tracing::info!("looking for what is due");
    let every = Duration::from_millis(section.every_ms);
    let looks = Arc::<Looks>::default();
    if health.address().is_some() {
        health.watch(Arc::new(Condition::new(looks.clone(), bus.clone(), every)));
    }
    Scheduler { due, bus, keyring: Arc::new(keyring), every, looks }.run(shutdown).await;
    Ok(())
}
