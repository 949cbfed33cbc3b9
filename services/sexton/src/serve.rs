//! Everything in one process: the same handlers, on SQLite and the bus of this process.
pub mod consumers;
pub mod embedded;
pub mod keys;
pub mod signing;
#[cfg(test)]
mod went_back;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde::Deserialize;
use sexton_consumer::{Metrics, program};
use sexton_coordinator::alarms::AlarmsSection;
use sexton_coordinator::api::{self, Api};
use sexton_coordinator::settings::{ApiSection, ArchiveSection, AuditSection, CreditSection, PlansSection};
use sexton_coordinator::{Alarmer, Canaries, Witness, hours, policy};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Options};
use sexton_model::time::Day;
use sexton_model::{Instance, Timestamp};
use sexton_service::{Config, Health, Telemetry, config, shutdown_on_signal, telemetry};
use tokio::net::TcpSocket;

use embedded::{Embedded, Kept};

/// The section `[ledger]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerSection {
    sqlite: PathBuf,
    /// Where the witness lies; beside the file if not given.
    #[serde(default)]
    witness: Option<PathBuf>,
    #[serde(default)]
    rehearsal_day_ms: Option<u64>,
}

/// Run until a signal comes. `new_witness`: the job table is known to be the latest one.
///
/// # Errors
/// If the configuration is wrong, or something cannot be opened.
pub async fn serve(file: &Path, new_witness: bool) -> anyhow::Result<()> {
    let config = Config::load(file, config::SECTIONS)?;
    let telemetry: telemetry::Options = config.section("telemetry")?;
    let _telemetry = Telemetry::start("sexton", &telemetry)?;
    let ledger: LedgerSection = config.section("ledger")?;
    let api: ApiSection = config.section("api")?;
    let plans: PlansSection = config.section("plans")?;
    let day = ledger.rehearsal_day_ms.map_or(Day::Calendar, |length_ms| Day::Rehearsal { length_ms });
    let credit: CreditSection = config.section("credit")?;
    let audit: AuditSection = config.section("audit")?;
    let alarms: AlarmsSection = config.section("alarms")?;
    let now = Timestamp::from(SystemTime::now());
    let policy = policy::read(&config, now)?;
    let calendar = hours::Calendar::of(&config)?;
    let archive = ArchiveSection::read(&config)?;
    archive.as_ref().map_or(Ok(()), ArchiveSection::no_url)?;
    let plans = Arc::new(plans.load(&config, day.is_rehearsal())?);
    let policy = policy::claiming(policy, &plans);
    policy::censuses_can_be_taken(&config, &policy, &plans)?;
    let canaries = Canaries::read(&config, plans.clone())?;
    let token = api.token(&config, api.listen)?;
    let instances = instances(&config)?;
    anyhow::ensure!(!instances.is_empty(), "{}: expected at least one [consumers.\"…\"]", file.display());

    // All of the configuration is read before anything is opened or started.
    let mut built = Vec::new();
    for instance in &instances {
        let (actions, driver) = consumers::build(instance, &config)?;
        let sandbox = program::sandbox(instance, &config)?;
        program::warn_of_no_place(instance, sandbox.as_ref());
        built.push((instance, actions, driver, sandbox, program::options(&config, instance)?));
    }

    let shutdown = shutdown_on_signal()?;
    // Before anything is made: where something else answers already, nothing is left behind. It listens only once it can
    // answer: whoever can connect is served.
    let listening = || format!("[api]: listening on {}", api.listen);
    let socket = reserve(api.listen).with_context(listening)?;
    let health = Health::start(&config, "sexton", shutdown.clone()).await?;
    policy::tell(&policy, day, &config, now);
    let options = Options { day, limits: credit.limits(&config)?, policy };
    let sqlite = config.path(&ledger.sqlite);
    let witness = ledger.witness.map_or_else(|| beside(&sqlite), |file| config.path(&file));
    let store = Arc::new(SqliteLedger::open(&sqlite, options).await?);
    let ledger: Arc<dyn Ledger> = store.clone();
    // With the job table's lock: two processes would each make a key.
    let (signer, known) = signing::keys(&sqlite)?;
    let telling = alarms.options(&config, &witness)?;
    let alarmer = Alarmer::new(sexton_coordinator::alarms::Options { lacks: canaries.lacks(), ..telling });
    let attester = audit.attester(&config, &witness, (signer.clone(), known.clone()))?;
    let archiver = archive.map(|section| section.archiver(&config, store, (signer, known)));
    let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), new_witness).await?);
    let embedded = Embedded::start(
        (ledger, witness),
        Kept {
            attester: Some(attester),
            archiver,
            alarmer,
            canaries: Some(canaries),
            lists: Some(plans.clone()),
            calendar,
        },
        &instances,
        credit.unpacked,
        Duration::from_secs(1),
        shutdown.clone(),
    );
    plans.warn_of_the_unknown(embedded.engine.known());
    for (instance, actions, driver, sandbox, options) in built {
        let metrics = Arc::<Metrics>::default();
        if health.address().is_some() {
            embedded.watch_consumer(&health, instance, sandbox, &metrics);
        }
        drop(embedded.spawn_consumer(instance, actions, driver, options, metrics));
    }
    if health.address().is_some() {
        embedded.watch(&health);
    }
    let listener = socket.listen(BACKLOG).with_context(listening)?;
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    let api = Api { engine: embedded.engine.clone(), plans, token };
    api::serve(listener, Arc::new(api), shutdown.clone()).await?;
    // What ends by a defect must not look like a stop that was wanted: whoever supervises it starts it again.
    embedded.stopped().await?;
    Ok(())
}

/// Connections that wait to be accepted: a burst of a platform's requests.
const BACKLOG: u32 = 1024;

/// A socket that has the address, and does not listen yet. Fails if anybody listens there.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart need not wait until the last connections have timed out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The witness of a job table for which none is configured.
pub fn beside(sqlite: &Path) -> PathBuf {
    let mut name = sqlite.as_os_str().to_owned();
    name.push(".witness");
    PathBuf::from(name)
}

fn instances(config: &Config) -> anyhow::Result<Vec<Instance>> {
    let names = config.parts("consumers");
    if let Some(idle) = config.parts("workers").iter().find(|name| !names.contains(name)) {
        let why = format!("there is no [consumers.{idle:?}] that it could be about");
        return Err(config.mistake(&format!("workers.{idle:?}"), why).into());
    }
    let parse = |name: String| {
        let wrong =
            |e: sexton_model::InvalidId| config.mistake(&format!("consumers.{name:?}"), e.to_string());
        Ok(name.parse().map_err(wrong)?)
    };
    names.into_iter().map(parse).collect()
}
