//! `sexton demo`: one machine is retired through all five stages, another is cancelled after its soft stage and
//! comes back exactly as it was, orders for a third come to the wrong cluster, a fourth is refused, a fifth is paused, and
//! three more are too many at once, while the consumers are killed and started again. In one process, in a folder, with a
//! day that lasts a second. Nothing of it is staged: the same handlers as in production, and every expectation is checked
//! against the sandbox itself.
mod belts;
mod chaos;
mod cluster;
mod crowd;
pub(crate) mod platform;
mod screen;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use sexton_coordinator::{Plans, Witness, policy};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{DeletionView, Ledger, Limits, NewDeletion, Options};
use sexton_model::deletion::{Due, RecordStatus, Zone};
use sexton_model::job::{JobState, Stage};
use sexton_model::time::{Day, add_days};
use sexton_model::{Actor, DeletionId, ResourceId};
use tokio_util::sync::CancellationToken;

use crate::arguments::Format;
use crate::output::{say, write};
use crate::serve;
use crate::serve::embedded::{Embedded, Kept};
use belts::{Belts, PAUSED, STRANGER};
use cluster::Cluster;
use crowd::Crowd;
use platform::{APART, Platform};
use screen::{Report, Screen, Trail};

/// How long a day of the demo lasts, in milliseconds.
const DAY_MS: u64 = 1_000;
/// Everything must be over by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the records are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The machine that is retired.
const RETIRED: &str = "web01";
/// The machine that is cancelled.
const CANCELLED: &str = "web02";

/// Run it. Exit code 0 only if every expectation held. As JSON, only what came of it is answered: what happens on the way
/// is told on standard error.
///
/// # Errors
/// If it could not be run at all.
pub async fn demo(folder: Option<&Path>, format: Format) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let kept;
    let temporary;
    let folder = match folder {
        Some(folder) => {
            std::fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
            kept = folder.to_owned();
            kept.as_path()
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let platform = Platform::create(&folder.join("platform"))?;
    let shutdown = CancellationToken::new();
    let played = play(folder, &platform, format, shutdown.clone()).await;
    shutdown.cancel();
    platform.stop_everything().await;
    let (checks, trails) = played?;
    let failed = checks.0.iter().filter(|expectation| !expectation.held).count();
    let report = Report { trails, expectations: checks.0, failed, took_s: began.elapsed().as_secs_f64() };
    write(format, &report, screen::report)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Make a sandbox platform of `count` running machines and print it as an inventory to import: JSON lines, or one array
/// of them where JSON is asked for.
///
/// # Errors
/// If the folder exists or the file system refuses.
pub fn sandbox(folder: &Path, count: u16, format: Format) -> anyhow::Result<()> {
    anyhow::ensure!(
        !folder.join("hypervisor/main/vms").exists(),
        "{}: is a sandbox already",
        folder.display()
    );
    let resources = Platform::of_many(folder, count)?.resources()?;
    match format {
        Format::Json => write(format, &resources, |_| String::new())?,
        Format::Table => {
            for resource in &resources {
                say(&serde_json::to_string(resource)?)?;
            }
        }
    }
    let folder = folder.display();
    eprintln!("{count} machines run, each a process; sexton sandbox {folder} --stop ends them");
    Ok(())
}

/// End the processes of all machines of a sandbox. Says nothing, unless JSON is asked for.
///
/// # Errors
/// If there is no sandbox, or one of them does not end.
pub async fn stop(folder: &Path, format: Format) -> anyhow::Result<()> {
    anyhow::ensure!(
        folder.join("hypervisor/main/vms").exists(),
        "{}: expected the folder of a sandbox",
        folder.display()
    );
    sexton_hypervisor::sandbox::stop_all(folder, &"hypervisor.main".parse()?).await?;
    match format {
        Format::Json => {
            let answer = serde_json::json!({ "folder": folder, "stopped": true });
            write(format, &answer, |_| String::new())
        }
        Format::Table => Ok(()),
    }
}

/// What a machine of the sandbox is, as all of its subsystems show it.
///
/// # Errors
/// If the sandbox cannot be read.
pub fn describe(folder: &Path, name: &str) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(&platform::describe_one(folder, name)?)?).map(|_| ())
}

/// The whole play; returns what was expected, and the audit trails of the two machines.
async fn play(
    folder: &Path,
    platform: &Platform,
    format: Format,
    shutdown: CancellationToken,
) -> anyhow::Result<(Checks, Vec<Trail>)> {
    let day = Day::Rehearsal { length_ms: DAY_MS };
    let plans = Plans::of(&platform::catalogue(), &[("plan.toml", include_str!("demo/plan.toml"))], true)?;
    let policy = policy::claiming(crowd::policy()?, &plans);
    let options = Options { day, limits: Limits::default(), policy };
    let sqlite = folder.join("sexton.db");
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&sqlite, options).await?);
    let witness = Arc::new(Witness::open(&serve::beside(&sqlite), ledger.as_ref(), false).await?);
    let by: Actor = "demo".parse()?;
    let (machines, root) = (platform.names().count(), platform.root().display());
    screen::line(format, &format!("A sandbox platform of {machines} machines in {root}"));
    let resources = cluster::registered(belts::registered(platform.resources()?)?)?;
    let resources = crowd::registered(resources)?;
    for result in ledger.register(resources, &by, true).await? {
        result?;
    }
    let before = platform.describe()?;

    let embedded = Embedded::start(
        (ledger.clone(), witness),
        Kept::default(),
        &platform.instances(),
        Vec::new(),
        Duration::from_secs(1),
        shutdown.clone(),
    );
    let chaos = chaos::start(embedded, platform, shutdown)?;
    let engine = chaos.engine();
    let names: Vec<&str> =
        [RETIRED, CANCELLED, STRANGER, PAUSED, APART].into_iter().chain(crowd::CROWD).collect();
    let plan = plans.of_kind(&"vm".parse()?).context("the demo has no plan")?;
    let ids = announce(ledger.as_ref(), &names, plan, &by, day).await?;
    let (retired, cancelled) = (ids[0], ids[1]);
    let mut belts = Belts::begin(ledger.as_ref(), &by, (ids[2], ids[3])).await?;
    let mut cluster = Cluster::begin((ledger.as_ref(), platform), &by, ids[4]).await?;
    let mut crowd = Crowd::new(ids[5..].to_vec());
    let mut screen = Screen::new(&names.iter().copied().zip(ids.iter().copied()).collect::<Vec<_>>(), format);
    let mut soft: Option<Value> = None;
    let began = Instant::now();
    loop {
        let (first, second) =
            (view(ledger.as_ref(), retired).await?, view(ledger.as_ref(), cancelled).await?);
        screen.update(&first, chaos.kills());
        screen.update(&second, chaos.kills());
        let soft_done = second.deletion.stage_job(Stage::Soft).is_some_and(|j| j.state == JobState::Done);
        if soft.is_none() && soft_done {
            soft = Some(platform.describe_one(CANCELLED)?);
            belts::cancel(&engine, cancelled, &by, "the customer paid after all").await?;
            screen.say(&format!("{CANCELLED} is off and silenced; cancelled now"));
        }
        let stopped = belts.go_on((ledger.as_ref(), &engine), &by, (&mut screen, chaos.kills())).await?;
        let righted =
            cluster.go_on((ledger.as_ref(), &engine), platform, &by, (&mut screen, chaos.kills())).await?;
        let parted = crowd.go_on((ledger.as_ref(), &engine), &by, (&mut screen, chaos.kills())).await?;
        if stopped && righted && parted && !first.deletion.status.live() && !second.deletion.status.live() {
            break;
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "not over after {} s:\n{first:#?}", PATIENCE.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    screen.end();
    let kills = chaos.stop().await;

    let (first, second) = (view(ledger.as_ref(), retired).await?, view(ledger.as_ref(), cancelled).await?);
    let mut checks = Checks::default();
    checks.expect(kills > 0, &format!("consumers were killed and started again on the way ({kills} times)"));
    checks.expect(
        first.deletion.status == RecordStatus::Recycled,
        &format!("{RETIRED} went through all five stages"),
    );
    let left = platform.traces(RETIRED)?;
    checks.expect(left.is_empty(), &format!("nothing of {RETIRED} is left in any subsystem {left:?}"));
    checks.expect(
        second.deletion.status == RecordStatus::Cancelled,
        &format!("{CANCELLED} was cancelled after soft"),
    );
    let changed = soft.as_ref().is_some_and(|soft| before.get(CANCELLED) != Some(soft));
    checks.expect(changed, &format!("{CANCELLED} was really off in between"));
    let back = platform.describe_one(CANCELLED)?;
    let announced = |shown: &Value| shown["notifier"]["told"].as_array().is_some_and(|told| !told.is_empty());
    let taken_back = soft.as_ref().is_some_and(announced) && !announced(&back);
    checks.expect(taken_back, &format!("its owner was told that {CANCELLED} goes, and then that it stays"));
    checks.expect(before.get(CANCELLED) == Some(&back), &format!("{CANCELLED} is back exactly as it was"));
    let others = platform.names().filter(|n| ![RETIRED, CANCELLED, APART].contains(n));
    let mut untouched = true;
    for name in others {
        untouched &= before.get(name) == Some(&platform.describe_one(name)?);
    }
    checks.expect(untouched, "the other machines are untouched");
    for (name, id) in [(RETIRED, retired), (CANCELLED, cancelled)] {
        let chain = ledger.verify_chain(id).await?;
        checks.expect(chain.is_ok(), &format!("the audit chain of {name} verifies"));
    }
    belts.check(ledger.as_ref(), &mut checks).await?;
    cluster.check((ledger.as_ref(), platform), before.get(APART), &mut checks).await?;
    crowd.check(ledger.as_ref(), &mut checks).await?;
    let free = ledger.resource(&format!("vm/{RETIRED}").parse()?).await?;
    let free =
        free.is_some_and(|r| r.live.is_none() && r.presence == sexton_model::resource::Presence::Recycled);
    checks.expect(free, &format!("the name {RETIRED} is free again"));
    Ok((checks, vec![Trail::of(RETIRED, &first), Trail::of(CANCELLED, &second)]))
}

/// What was expected, and whether it held.
#[derive(Default)]
struct Checks(Vec<Expectation>);

/// One of them.
#[derive(Debug, Serialize)]
pub struct Expectation {
    /// Whether it did.
    pub held: bool,
    /// What was expected.
    pub what: String,
}

impl Checks {
    fn expect(&mut self, held: bool, what: &str) {
        self.0.push(Expectation { held, what: what.to_owned() });
    }
}

/// State of all these machines at once that they are to go: due one after the other they would be no crowd.
async fn announce(
    ledger: &dyn Ledger,
    names: &[&str],
    plan: &Arc<sexton_model::plan::Plan>,
    by: &Actor,
    day: Day,
) -> anyhow::Result<Vec<DeletionId>> {
    let zone = Zone("UTC".parse()?);
    let now = ledger.facts().await?.now;
    let due = Due { date: now.utc().date_naive(), zone, moment: Some(add_days(now, 2, zone.0, day)) };
    let mut new = Vec::new();
    for name in names {
        let resource: ResourceId = format!("vm/{name}").parse()?;
        let (by, reason, plan) = (by.clone(), "contract ended".to_owned(), plan.clone());
        new.push(NewDeletion { resource, due, gone_by: None, by, reason, plan });
    }
    let mut ids = Vec::new();
    for made in ledger.create(new).await? {
        ids.push(made?);
    }
    Ok(ids)
}

async fn view(ledger: &dyn Ledger, id: DeletionId) -> anyhow::Result<DeletionView> {
    ledger.deletion(id).await?.with_context(|| format!("{id} has vanished"))
}
