//! How many steps a second one process settles on PostgreSQL, and what that costs.
//!
//! `SEXTON_TEST_PG=postgres://… cargo run --release -p sexton-ledger --example pg_throughput [DELETIONS] [TASKS]`
//!
//! Makes a database of its own and leaves it behind. Every deletion has twelve steps in its first stage; each
//! task claims its share and answers every order at once, in batches of 256 through `run`.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Alive, Intent, Ledger, Limits, NewDeletion, Options};
use sexton_model::belts::Policy;
use sexton_model::catalogue::Catalogue;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, Zone};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, JobId, Timestamp};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const BATCH: usize = 256;
const SUBSYSTEMS: [&str; 4] = ["hypervisor", "dns", "ipam", "backup"];

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let deletions = numbers.next().transpose()?.unwrap_or(8192);
    let tasks = numbers.next().transpose()?.unwrap_or(3);
    let admin = std::env::var("SEXTON_TEST_PG").context("SEXTON_TEST_PG is not set")?;
    let mut db = PgConnection::connect(&admin).await?;
    let name = format!("sexton_bench_{}", std::process::id());
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).execute(&mut db).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"))).execute(&mut db).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut db).await?;
    let server = parent(backend)?;
    let options: sqlx::postgres::PgConnectOptions = admin.parse()?;
    let url = sqlx::ConnectOptions::to_url_lossy(&options.database(&name)).to_string();
    let limits = Limits {
        credit: u32::MAX,
        down_after_ms: u64::MAX / 4,
        outage_after_ms: Some(u64::MAX / 4),
        ..Limits::default()
    };
    let day = Day::Rehearsal { length_ms: 1 };
    PgLedger::migrate(&url, day).await?;
    let ledger = Arc::new(PgLedger::open(&url, Options { day, limits, policy: Policy::default() }).await?);
    let alive = |instance| Alive { instance, copy: "one".into(), hands: 65_536, answered: 0 };
    let instances =
        SUBSYSTEMS.iter().map(|s| format!("{s}.main").parse().map(alive)).collect::<Result<_, _>>()?;
    ledger.pulse(instances).await?;

    let made = Instant::now();
    let ids = make(&ledger, deletions).await?;
    println!("made {} records in {:.2} s", ids.len(), made.elapsed().as_secs_f64());

    let (own, others) = (cpu_of_self()?, cpu_of_server(server)?);
    let begun = Instant::now();
    let share = ids.len().div_ceil(tasks);
    let mut running = Vec::new();
    for ids in ids.chunks(share).map(<[DeletionId]>::to_vec) {
        let ledger = ledger.clone();
        running.push(tokio::spawn(async move { settle_all(&ledger, ids).await }));
    }
    let mut steps = 0;
    let mut batches = 0;
    for task in running {
        let (settled, ran) = task.await??;
        steps += settled;
        batches += ran;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (own, others) = (cpu_of_self()? - own, cpu_of_server(server)? - others);
    println!(
        "{steps} steps in {seconds:.2} s: {:.0} steps/s, {batches} batches; CPU {own:.2} s here, {others:.2} s in \
         the server: {:.1} us a step",
        steps as f64 / seconds,
        (own + others) / steps as f64 * 1e6
    );
    for id in ids.iter().step_by(ids.len() / 16 + 1) {
        ledger.verify_chain(*id).await?.context("a chain is broken")?;
    }
    Ok(())
}

async fn make(ledger: &PgLedger, count: usize) -> Result<Vec<DeletionId>> {
    let plan = Arc::new(plan()?);
    let by: Actor = "bench".parse()?;
    let now = ledger.facts().await?.now;
    let moment = Some(now);
    let mut ids = Vec::new();
    for chunk in (0..count).collect::<Vec<_>>().chunks(1024) {
        let resources = chunk.iter().map(|n| resource(*n, now)).collect::<Result<Vec<_>>>()?;
        let due = Due { date: chrono::NaiveDate::MIN, zone: Zone(chrono_tz()?), moment };
        let new = |r: &Resource| NewDeletion {
            resource: r.id.clone(),
            due,
            gone_by: None,
            by: by.clone(),
            reason: "bench".into(),
            plan: plan.clone(),
        };
        let wanted = resources.iter().map(new).collect();
        for registered in ledger.register(resources, &by, false).await? {
            registered?;
        }
        for made in ledger.create(wanted).await? {
            ids.push(made?);
        }
    }
    Ok(ids)
}

fn chrono_tz<T: std::str::FromStr>() -> Result<T> {
    "UTC".parse().ok().context("UTC is a zone")
}

fn resource(number: usize, now: Timestamp) -> Result<Resource> {
    Ok(serde_json::from_value(serde_json::json!({
        "id": format!("vm/v{number:06}"), "scope": "tenants/acme", "identity": {"uuid": format!("u{number}")},
        "criticality": "reproducible", "rebuilt": {"on": now.utc().date_naive(), "evidence": "made for this"},
        "attributes": {"hypervisor": {"host": "kvm01", "domain": format!("v{number:06}")}},
    }))?)
}

fn plan() -> Result<Plan> {
    let mut catalogue = Catalogue::default();
    for subsystem in SUBSYSTEMS {
        let text = format!(
            "subsystem = \"{subsystem}\"\n[actions.check]\nnature = \"check\"\nearliest = \"announce\"\n\
             deadline_ms = 60000\nlongest_call_ms = 1000\nabout = \"look\"\n"
        );
        catalogue.add(subsystem, &text).map_err(|e| anyhow::anyhow!("{e}"))?;
    }
    let step = |n: usize| format!("{{ do = \"{}.check\", name = \"step{n}\" }}", SUBSYSTEMS[n % 4]);
    let steps: Vec<String> = (0..12).map(step).collect();
    let mut text =
        String::from("kind = \"vm\"\nversion = 1\ncriticality = \"reproducible\"\nrehearsal = true\n");
    for (n, stage) in ["announce", "soft", "hard", "purge", "recycle"].iter().enumerate() {
        let steps = if n == 0 { steps.join(", ") } else { String::new() };
        text += &format!("[stages.{stage}]\noffset_days = {n}\nsteps = [{steps}]\n");
    }
    Ok(Plan::parse("vm.toml", &text, &catalogue, true)?)
}

/// Claim all, answer all; how many steps were settled in how many batches.
async fn settle_all(ledger: &PgLedger, ids: Vec<DeletionId>) -> Result<(u64, u64)> {
    let mut todo: VecDeque<Intent> = ids
        .into_iter()
        .map(|deletion| Intent { deletion, event: Event::Claim { job: JobId::of(deletion, 0) } })
        .collect();
    let (mut settled, mut batches) = (0, 0);
    while !todo.is_empty() {
        let batch: Vec<Intent> = todo.drain(..todo.len().min(BATCH)).collect();
        settled += batch.iter().filter(|i| matches!(i.event, Event::Outcome { .. })).count() as u64;
        batches += 1;
        for decided in ledger.run(batch).await? {
            if let Some(order) = decided?.dispatch {
                let spec = order.spec;
                todo.push_back(Intent {
                    deletion: spec.job.deletion(),
                    event: Event::Outcome {
                        job: spec.job,
                        from: spec.instance,
                        fence: spec.fence,
                        outcome: Outcome::done(Presence::Present, "seen on kvm01 as running, uuid as pinned"),
                    },
                });
            }
        }
    }
    Ok((settled, batches))
}

fn cpu_of_self() -> Result<f64> {
    cpu(&std::fs::read_to_string("/proc/self/stat")?)
}

/// Seconds of the server's living processes; what has ended is in its own children's times.
fn cpu_of_server(server: i32) -> Result<f64> {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        let Ok(stat) = std::fs::read_to_string(path) else { continue };
        if field(&stat, 4).is_ok_and(|parent| parent == f64::from(server)) {
            seconds += cpu(&stat)?;
        }
    }
    Ok(seconds)
}

fn parent(pid: i32) -> Result<i32> {
    Ok(field(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?, 4)? as i32)
}

/// User and system time in seconds; a tick is a hundredth.
fn cpu(stat: &str) -> Result<f64> {
    Ok((field(stat, 14)? + field(stat, 15)?) / 100.0)
}

/// A field of `/proc/PID/stat`, counted from 1; the name (field 2) may hold blanks.
fn field(stat: &str, number: usize) -> Result<f64> {
    let rest = stat.rsplit_once(") ").context("not a stat line")?.1;
    Ok(rest.split(' ').nth(number - 3).context("too short")?.parse()?)
}
