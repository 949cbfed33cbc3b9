//! How many steps a second the SQLite ledger claims and settles, alone: no broker, no consumers.
//!
//! `cargo run --release -p sexton-ledger --example sqlite_throughput -- [deletions] [batch] [callers] [directory]`
//!
//! Every deletion has a plan of twelve steps in its announce stage, none of which captures anything, so a step
//! is one order and one answer. So many callers have a batch under way at once, as a coordinator that drains
//! outcomes has. FULL synchronisation, like in earnest.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Steady};

use anyhow::Context as _;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Alive, Dispatch, Intent, Ledger as _, Limits, NewDeletion, Options};
use sexton_model::belts::Policy;
use sexton_model::catalogue::Catalogue;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, Zone};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId};

const STEPS: usize = 12;

fn plan() -> anyhow::Result<Plan> {
    let mut catalogue = Catalogue::default();
    let look = "subsystem = \"hypervisor\"\n[actions.look]\nnature = \"check\"\nearliest = \"announce\"\n\
                deadline_ms = 60000\nlongest_call_ms = 5000\nabout = \"look\"\n";
    catalogue.add("hypervisor.toml", look)?;
    let steps: Vec<_> =
        (0..STEPS).map(|n| format!("{{ do = \"hypervisor.look\", name = \"look-{n}\" }}")).collect();
    let mut text =
        "kind = \"vm\"\nversion = 1\ncriticality = \"irreplaceable\"\nrehearsal = true\n".to_owned();
    for (n, stage) in ["announce", "soft", "hard", "purge", "recycle"].into_iter().enumerate() {
        let steps = if n == 0 { steps.join(", ") } else { String::new() };
        text += &format!("[stages.{stage}]\noffset_days = {n}\nsteps = [{steps}]\n");
    }
    Plan::parse("vm.toml", &text, &catalogue, true).map_err(|e| anyhow::anyhow!("{e}"))
}

fn resource(n: usize) -> anyhow::Result<Resource> {
    Ok(serde_json::from_value(serde_json::json!({
        "id": format!("vm/web{n:06}"), "scope": "tenants/acme", "identity": {"uuid": format!("uuid-{n}")},
        "criticality": "reproducible",
        "attributes": {"dns": {"name": format!("web{n}.example.org")}, "contacts": ["ops@example.org"]},
    }))?)
}

fn settle(order: &Dispatch) -> Intent {
    Intent {
        deletion: order.spec.job.deletion(),
        event: Event::Outcome {
            job: order.spec.job,
            from: order.spec.instance.clone(),
            fence: order.spec.fence,
            outcome: Outcome::done(Presence::Present, "looked, and it is as wanted"),
        },
    }
}

fn claim(id: DeletionId) -> Intent {
    Intent { deletion: id, event: Event::Claim { job: JobId::of(id, 0) } }
}

async fn fill(ledger: &SqliteLedger, count: usize) -> anyhow::Result<VecDeque<DeletionId>> {
    let mut ids = VecDeque::with_capacity(count);
    let by = "bench".parse()?;
    let plan = Arc::new(plan()?);
    let zone: Zone = "Europe/Berlin".parse()?;
    for first in (0..count).step_by(512) {
        let range = first..(first + 512).min(count);
        let resources = range.clone().map(resource).collect::<anyhow::Result<Vec<_>>>()?;
        let now = ledger.facts().await?.now;
        let due = Due { date: now.utc().date_naive(), zone, moment: Some(now) };
        let new = resources.iter().map(|r| NewDeletion {
            resource: r.id.clone(),
            due,
            gone_by: None,
            by: "bench".parse().unwrap_or_else(|_| unreachable!("a constant")),
            reason: "measured".into(),
            plan: plan.clone(),
        });
        let new = new.collect();
        for result in ledger.register(resources, &by, true).await? {
            result?;
        }
        for result in ledger.create(new).await? {
            ids.push_back(result?);
        }
    }
    Ok(ids)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().map_or(Ok(20_000), |n| n.parse()).context("deletions")?;
    let batch: usize = args.next().map_or(Ok(512), |n| n.parse()).context("batch")?;
    let callers: usize = args.next().map_or(Ok(4), |n| n.parse()).context("callers")?;
    let directory = match args.next() {
        Some(at) => tempfile::tempdir_in(at)?,
        None => tempfile::tempdir()?,
    };
    let limits = Limits {
        credit: 65_536,
        down_after_ms: 3_600_000,
        outage_after_ms: Some(3_600_000),
        ..Limits::default()
    };
    let options = Options { day: Day::Rehearsal { length_ms: 1 }, limits, policy: Policy::default() };
    let ledger = Arc::new(SqliteLedger::open(directory.path().join("ledger.db"), options).await?);
    let instance = "hypervisor.main".parse()?;
    ledger.pulse(vec![Alive { instance, copy: "one".into(), hands: 65_536, answered: 0 }]).await?;
    let begun = Steady::now();
    let mut ids = fill(&ledger, count).await?;
    let took = begun.elapsed();
    println!("{count} registered and recorded in {took:.2?}: {:.0}/s", count as f64 / took.as_secs_f64());

    // Wait until all are due: a rehearsal's day is a millisecond.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = Steady::now();
    let mut orders: VecDeque<Dispatch> = VecDeque::new();
    let mut under_way = VecDeque::new();
    let (mut steps, mut done, mut batches, mut claimed) = (0, 0, 0, 0);
    loop {
        while under_way.len() < callers {
            // As many deletions at work as keep every caller busy.
            let room = ((callers + 1) * batch).saturating_sub(claimed - done);
            let claims = room.min(ids.len()).min(batch - orders.len().min(batch));
            let answers = orders.len().min(batch);
            if claims + answers == 0 || (claims + answers < batch && !under_way.is_empty()) {
                break;
            }
            let mut intents: Vec<Intent> = orders.drain(..answers).map(|order| settle(&order)).collect();
            intents.extend(ids.drain(..claims).map(claim));
            (steps, claimed) = (steps + answers, claimed + claims);
            let ledger = ledger.clone();
            under_way.push_back(tokio::spawn(async move { ledger.run(intents).await }));
        }
        let Some(first) = under_way.pop_front() else { break };
        batches += 1;
        for decided in first.await?? {
            match decided?.dispatch {
                Some(order) => orders.push_back(order),
                None => done += 1,
            }
        }
    }
    let took = begun.elapsed();
    println!(
        "{steps} steps of {done} deletions in {batches} batches of up to {batch}, in {took:.2?}: {:.0} steps/s",
        steps as f64 / took.as_secs_f64()
    );
    ledger.compare().await?.map_err(|difference| anyhow::anyhow!("{difference}"))?;
    Ok(())
}
