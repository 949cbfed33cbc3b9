//! A consumer as a process: its `main` names the service and how its driver is built, and nothing else.
//!
//! It reads of the configuration file: `[broker]`, `[keys]`, `[telemetry]`, `[health]`, its own `[consumers."INSTANCE"]`
//! (the driver's) and, if there is one, `[workers."INSTANCE"]` ([`crate::Options`]).
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use secrecy::ExposeSecret;
use sexton_bus::Bus;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_protocol::{BeaconVerifier, Keyring};
use sexton_service::{
    CommonArguments, Config, Failed, Health, Telemetry, config, patiently, run_whole, shutdown_on_signal,
    telemetry,
};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::condition::Condition;
use crate::consumer::Consumer;
use crate::driver::Driver;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::sandbox::Sandbox;

/// Builds what reaches an instance, of its part of the configuration.
pub type Build = fn(&Instance, &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)>;

#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Which instance this is, such as dns.main.
    #[arg(long)]
    instance: Instance,
}

/// The options of an instance's workers; the defaults if the configuration says nothing.
///
/// # Errors
/// Naming the key that is wrong.
pub fn options(config: &Config, instance: &Instance) -> anyhow::Result<Options> {
    let name = instance.to_string();
    if !config.parts("workers").contains(&name) {
        return Ok(Options::default());
    }
    let options: Options = config.part("workers", &name)?;
    match options.mistake() {
        Some(mistake) => Err(config.mistake(&format!("workers.\"{name}\""), mistake).into()),
        None => Ok(options),
    }
}

/// Run one consumer until it is told to stop.
///
/// # Errors
/// If its configuration is wrong, or the broker refuses it for good.
pub fn main(service: &'static str, build: Build) -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.common.config, config::SECTIONS)?;
    let telemetry: telemetry::Options = config.section("telemetry")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _telemetry = Telemetry::start(service, &telemetry)?;
    run_whole(runtime, run(&arguments.instance, &config, build))
}

/// What `build` makes of an instance's part of the configuration.
///
/// # Errors
/// Those of `build`: whatever they say, file and part are named.
pub fn built(
    instance: &Instance,
    config: &Config,
    build: Build,
) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    build(instance, config).map_err(|error| match error.downcast_ref::<sexton_service::ConfigError>() {
        Some(_) => error,
        None => config.mistake(&format!("consumers.\"{instance}\""), format!("{error:#}")).into(),
    })
}

/// Where a sandbox lies; other drivers have no such key.
#[derive(serde::Deserialize)]
struct Place {
    driver: String,
    #[serde(default)]
    root: PathBuf,
}

/// The sandbox that an instance works on, if its driver is one.
///
/// # Errors
/// If its part of the configuration is wrong.
pub fn sandbox(instance: &Instance, config: &Config) -> anyhow::Result<Option<Sandbox>> {
    let part: Place = config.part("consumers", &instance.to_string())?;
    Ok((part.driver == "sandbox").then(|| Sandbox::at(&config.path(&part.root), instance)))
}

/// Say in the log if the sandbox of an instance is no place yet: nothing can be done there until somebody makes it one.
pub fn warn_of_no_place(instance: &Instance, sandbox: Option<&Sandbox>) {
    if let Some(Err(why)) = sandbox.map(Sandbox::place) {
        tracing::warn!(%instance, %why, "nothing can be done there: `sexton sandbox` makes a platform to try it on");
    }
}

async fn run(instance: &Instance, config: &Config, build: Build) -> anyhow::Result<()> {
    let shutdown: CancellationToken = shutdown_on_signal()?;
    let health = Health::start(config, &instance.to_string(), shutdown.clone()).await?;
    let broker: config::Broker = config.section("broker")?;
    let keys: config::Keys = config.section("keys")?;
    let name = instance.to_string();
    let (mac, text) = keys.secret(config, &format!("mac/{name}.toml"))?;
    let keyring = Keyring::parse(&mac.display().to_string(), text.expose_secret())
        .map_err(|why| keys.mistake(config, why))?;
    let public = config.path(&keys.folder.join("beacon.public.toml"));
    let text = std::fs::read_to_string(&public)
        .map_err(|why| keys.mistake(config, format!("reading {}: {why}", public.display())))?;
    let verifier = BeaconVerifier::parse(&public.display().to_string(), &text)
        .map_err(|why| keys.mistake(config, why))?;
    let (_, password) = keys.secret(config, &format!("broker/{name}"))?;
    let url = broker.url(&name, &password);
    // Before anybody is waited for: a mistake is told at once.
    let options = options(config, instance)?;
    let (actions, driver) = built(instance, config, build)?;
    let sandbox = sandbox(instance, config)?;
    warn_of_no_place(instance, sandbox.as_ref());
    let bus = patiently("reaching the broker", &shutdown, || async {
        let login = RabbitOptions { name: name.clone(), ..RabbitOptions::new(url.expose_secret()) };
        let connected = Rabbit::connect(login).await;
        Ok(Arc::new(connected.map_err(|why| Failed::when(why.is_final(), why))?) as Arc<dyn Bus>)
    });
    let Some(bus) = bus.await? else { return Ok(()) };
    let metrics = Arc::<Metrics>::default();
    if health.address().is_some() {
        metrics.export(instance, &bus);
        health.watch(Arc::new(Condition {
            instance: instance.clone(),
            metrics: metrics.clone(),
            bus: bus.clone(),
            sandbox,
        }));
    }
    let consumer = Consumer {
        instance: instance.clone(),
        driver,
        actions,
        bus,
        keyring: Arc::new(keyring),
        verifier,
        clock: Arc::new(SystemClock::default()),
        metrics,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options,
    };
    consumer.run(shutdown).await?;
    Ok(())
}
