//! A scheduler as a process: reads PostgreSQL as a role that can see what is due and nothing else.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sexton_bus::Bus;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_ledger::postgres::PgDueReader;
use sexton_protocol::Keyring;
use sexton_scheduler::{Condition, Looks, Scheduler};
use sexton_service::{
    CommonArguments, Config, Health, Telemetry, config, patiently, secret, shutdown_on_signal, telemetry,
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

fn every_ms() -> u64 {
    1_000
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.common.config, config::SECTIONS)?;
    let telemetry: telemetry::Options = config.section("telemetry")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _telemetry = Telemetry::start("sexton-scheduler", &telemetry)?;
    runtime.block_on(run(&config))
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let health = Health::start(config, "scheduler", shutdown.clone()).await?;
    let section: Section = config.section("scheduler")?;
    anyhow::ensure!(
        (50..=60_000).contains(&section.every_ms),
        "[scheduler]: every_ms = {}: expected 50 to 60000",
        section.every_ms
    );
    let keys: config::Keys = config.section("keys")?;
    let keys = config.path(&keys.folder);
    let mac = keys.join("mac/scheduler.toml");
    let keyring = Keyring::parse(&mac.display().to_string(), secret::read(&mac)?.expose_secret())?;
    let url = secret::read(&config.path(&section.postgres_url_file))?;
    let due = patiently("opening what is due", || async {
        Ok(Arc::new(PgDueReader::open(url.expose_secret()).await?))
    })
    .await?;
    let broker: config::Broker = config.section("broker")?;
    let url = broker.url("scheduler", &secret::read(&keys.join("broker/scheduler"))?);
    let bus: Arc<dyn Bus> = patiently("reaching the broker", || async {
        let options =
            RabbitOptions { name: "scheduler".to_owned(), ..RabbitOptions::new(url.expose_secret()) };
        Ok(Arc::new(Rabbit::connect(options).await?) as Arc<dyn Bus>)
    })
    .await?;
    tracing::info!("looking for what is due");
    let every = Duration::from_millis(section.every_ms);
    let looks = Arc::<Looks>::default();
    if health.address().is_some() {
        health.watch(Arc::new(Condition::new(looks.clone(), bus.clone(), every)));
    }
    Scheduler { due, bus, keyring: Arc::new(keyring), every, looks }.run(shutdown).await;
    Ok(())
}
