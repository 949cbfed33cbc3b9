//! Retires many machines of twelve no-op steps each, all due at once, with authentication, beacon and audit on,
//! and prints steps per second. On SQLite and the bus of one process, or, with `--postgres URL --amqp URL`, on
//! PostgreSQL and RabbitMQ. Started by `scripts/bench`, which measures the ceilings beside it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use sexton_bus::local::Local;
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::{Bus, Topology};
use sexton_consumer::{
    Consumer, Done, Driver, Found, Inspection, Obstacle, Permit, Place, StepContext, SystemClock,
};
use sexton_coordinator::{Engine, Plans, Witness};
use sexton_ledger::postgres::PgLedger;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits, NewDeletion};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::deletion::Due;
use sexton_model::resource::{Criticality, Identity, Resource};
use sexton_model::step::Presence;
use sexton_model::time::Day;
use sexton_model::{Actor, Instance, ResourceId};
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use tokio_util::sync::CancellationToken;

/// Steps of one machine.
const STEPS: usize = 12;
/// A day, in milliseconds: everything is due at once.
const DAY_MS: u64 = 1;

/// What a step costs besides Sexton: nothing.
struct Nothing;

#[async_trait]
impl Driver for Nothing {
    async fn inspect(&self, _: &StepContext) -> Result<Inspection, Obstacle> {
        let targets = serde_json::Value::Null;
        Ok(Inspection { found: Found::Same, targets, protected: None, evidence: String::new() })
    }
    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        Ok(if step.reversible_stage { Found::Same } else { Found::Absent(Place("nowhere".into())) })
    }
    async fn capture(&self, _: &StepContext) -> Result<serde_json::Value, Obstacle> {
        Ok(serde_json::Value::Null)
    }
    async fn perform(
        &self,
        _: &StepContext,
        _: Option<&serde_json::Value>,
        _: Permit,
    ) -> Result<Done, Obstacle> {
        Ok(Done::default())
    }
    async fn undo(&self, _: &StepContext, _: &serde_json::Value, _: Permit) -> Result<Done, Obstacle> {
        Ok(Done::default())
    }
    async fn presence(&self, _: &StepContext) -> Result<(Presence, String), Obstacle> {
        Ok((Presence::Absent, "gone".into()))
    }
    async fn restored(&self, _: &StepContext, _: &serde_json::Value) -> Result<String, Obstacle> {
        Ok(String::new())
    }
    async fn check(&self, _: &StepContext) -> Result<Done, Obstacle> {
        Ok(Done::default())
    }
}

fn catalogue() -> String {
    let mut text = "subsystem = \"noop\"\n".to_owned();
    for n in 0..STEPS {
        text += &format!(
            "[actions.step{n}]\nnature = \"destructive\"\nearliest = \"hard\"\ndeadline_ms = 60000\n\
             longest_call_ms = 1000\nabout = \"nothing\"\n"
        );
    }
    text
}

fn plan() -> String {
    let mut text =
        "kind = \"vm\"\nversion = 1\ncriticality = \"reproducible\"\nrehearsal = true\n".to_owned();
    for (n, stage) in ["announce", "soft", "hard", "purge", "recycle"].into_iter().enumerate() {
        let steps: Vec<String> = match stage {
            "hard" => (0..STEPS / 2).map(|s| format!("{{ do = \"noop.step{s}\" }}")).collect(),
            "purge" => (STEPS / 2..STEPS).map(|s| format!("{{ do = \"noop.step{s}\" }}")).collect(),
            _ => Vec::new(),
        };
        text += &format!("[stages.{stage}]\noffset_days = {n}\nsteps = [{}]\n", steps.join(", "));
    }
    text
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    arguments.next().and_then(|_| arguments.next())
}

/// CPU seconds this process has used, user and system.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn resident_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? / 1024)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let machines: usize = argument("--machines").map_or(Ok(4_000), |n| n.parse())?;
    let day = Day::Rehearsal { length_ms: DAY_MS };
    let options = sexton_ledger::Options { day, limits: Limits::default() };
    let folder = tempfile::tempdir()?;
    let (catalogue, plan) = (catalogue(), plan());
    let plans = Plans::of(&[("noop.toml", &catalogue)], &[("plan.toml", &plan)], true)?;
    let instance: Instance = "noop.main".parse()?;
    let topology = Topology::for_instances(std::slice::from_ref(&instance));

    let ledger: Arc<dyn Ledger> = match argument("--postgres") {
        Some(url) => {
            PgLedger::migrate(&url, day).await?;
            Arc::new(PgLedger::open(&url, options).await?)
        }
        None => Arc::new(SqliteLedger::open(folder.path().join("bench.db"), options).await?),
    };
    let (bus, consumers): (Arc<dyn Bus>, Arc<dyn Bus>) = match argument("--amqp") {
        Some(url) => {
            let declare = Some(topology);
            let coordinator = Rabbit::connect(RabbitOptions { declare, ..RabbitOptions::new(&url) }).await?;
            let consumer_url = argument("--amqp-consumer").context("--amqp-consumer")?;
            (Arc::new(coordinator), Arc::new(Rabbit::connect(RabbitOptions::new(consumer_url)).await?))
        }
        None => {
            let local = Local::with_topology(topology);
            (Arc::new(local.clone()), local.as_user(&instance.to_string()))
        }
    };

    let mut rng = rand::rng();
    let keyring =
        Arc::new(Keyring::generate([Holder::Instance(instance.clone()), Holder::Scheduler], &mut rng));
    let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
    let verifier = signer.verifier();
    create(ledger.as_ref(), &plans, machines).await?;

    let shutdown = CancellationToken::new();
    let began = Instant::now();
    let cpu = cpu_seconds()?;
    let decided = ledger.facts().await?.decided;
    let witness = Witness::open(&folder.path().join("witness"), ledger.as_ref(), decided).await?;
    let engine = Arc::new(Engine::new(sexton_coordinator::Options {
        ledger: ledger.clone(),
        bus: bus.clone(),
        keyring: keyring.clone(),
        signer,
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    }));
    let consumer = Consumer {
        instance: instance.clone(),
        driver: Arc::new(Nothing),
        actions: SubsystemActions::parse("noop.toml", &catalogue)?,
        bus: consumers,
        keyring,
        verifier,
        clock: Arc::new(SystemClock::default()),
        metrics: Arc::default(),
        version: "bench".into(),
        options: sexton_consumer::Options { concurrency: 128, ..sexton_consumer::Options::default() },
    };
    let coordinating = tokio::spawn(sexton_coordinator::run(engine, bus, shutdown.clone()));
    let consuming = tokio::spawn(consumer.run(shutdown.clone()));
    loop {
        let health = ledger.health().await?;
        let done = health.jobs.get(&sexton_model::job::StateName::Done).copied().unwrap_or(0);
        if done >= machines as u64 * 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let steps = (machines * STEPS) as f64;
    let cpu = cpu_seconds()? - cpu;
    println!(
        "{:.0} steps/s; {machines} machines, {:.2} s; {:.3} CPU s per 1,000 steps in this process; {} MB",
        steps / seconds,
        seconds,
        cpu / steps * 1000.0,
        resident_mb()?
    );
    shutdown.cancel();
    coordinating.await??;
    consuming.await??;
    Ok(())
}

async fn create(ledger: &dyn Ledger, plans: &Plans, machines: usize) -> anyhow::Result<()> {
    let by: Actor = "bench".parse()?;
    let plan = plans.of_kind(&"vm".parse()?).context("no plan")?;
    let now = ledger.facts().await?.now;
    let names: Vec<ResourceId> =
        (0..machines).map(|n| format!("vm/m{n:06}").parse()).collect::<Result<_, _>>()?;
    for names in names.chunks(1000) {
        let mut resources = Vec::new();
        let mut records = Vec::new();
        for id in names {
            resources.push(Resource {
                id: id.clone(),
                scope: "bench".parse()?,
                identity: Identity::try_from(BTreeMap::from([("uuid".to_owned(), id.to_string())]))?,
                criticality: Criticality::Reproducible,
                priority: 100,
                groups: Vec::new(),
                instances: BTreeMap::new(),
                protected: false,
                attributes: BTreeMap::new(),
            });
            records.push(NewDeletion {
                resource: id.clone(),
                due: Due { date: now.utc().date_naive(), zone: "UTC".parse()?, moment: Some(now) },
                gone_by: None,
                by: by.clone(),
                reason: "bench".to_owned(),
                plan: plan.clone(),
            });
        }
        for result in ledger.register(resources, &by, true).await? {
            result?;
        }
        for result in ledger.create(records).await? {
            result?;
        }
    }
    Ok(())
}
