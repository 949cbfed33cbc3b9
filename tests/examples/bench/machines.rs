//! The machines that are retired: made, waited for, and looked at afterwards.
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sexton_ledger::{DeletionFilter, Ledger, NewDeletion};
use sexton_model::audit::What;
use sexton_model::belts::budget::{Budgets, Written};
use sexton_model::deletion::{Due, RecordStatus};
use sexton_model::job::StateName;
use sexton_model::plan::Plan;
use sexton_model::rebuilt::Rebuilt;
use sexton_model::resource::{Criticality, Identity, Resource};
use sexton_model::step::Presence;
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, ResourceId, Timestamp};

use crate::noop::STEPS;

/// A policy day, in milliseconds: once the first stage is due, no stage waits for its date.
pub const DAY: Day = Day::Rehearsal { length_ms: 1 };
/// Records made in one call.
const AT_ONCE: usize = 1000;
/// Records that are made in a second, at least: the machines are due when all of them are there.
const MADE_PER_SECOND: usize = 3_000;
/// How often it is asked whether any machine is left: each look takes time from what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the progress is shown: on PostgreSQL counting reads every job.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// No machine was finished for this long: something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chains that are verified.
const SAMPLE: usize = 100;

/// Budgets that count everything and stop nothing: a rehearsal has none unless it is told.
pub fn budgets() -> anyhow::Result<Budgets> {
    let most = 1_000_000_000;
    let written: Written = serde_json::from_value(serde_json::json!({ "a_day": most, "everywhere": most }))?;
    Ok(written.budgets()?)
}

/// The machine of this number in a round.
pub fn name(round: usize, n: usize) -> anyhow::Result<ResourceId> {
    Ok(format!("vm/r{round}-{n:06}").parse()?)
}

/// Make `count` machines with a record each, all due at the same moment: the returned one, by the ledger's clock.
/// `registered`: the machines are there, and only the records are to be made.
pub async fn make(
    ledger: &dyn Ledger,
    plan: &Arc<Plan>,
    (round, count): (usize, usize),
    registered: bool,
) -> anyhow::Result<Timestamp> {
    let by: Actor = "bench".parse()?;
    let began = ledger.facts().await?.now;
    let due_at = began.plus_ms(1_000 + (count * 1_000 / MADE_PER_SECOND) as u64);
    let due = Due { date: due_at.utc().date_naive(), zone: "UTC".parse()?, moment: Some(due_at) };
    let names: Vec<ResourceId> = (0..count).map(|n| name(round, n)).collect::<Result<_, _>>()?;
    for names in names.chunks(AT_ONCE) {
        if !registered {
            let resources = names.iter().map(|id| resource(id, began)).collect::<Result<_, _>>()?;
            for result in ledger.register(resources, &by, true).await? {
                result?;
            }
        }
        let record = |resource: &ResourceId| NewDeletion {
            resource: resource.clone(),
            due,
            gone_by: None,
            by: by.clone(),
            reason: "bench".to_owned(),
            plan: plan.clone(),
        };
        for result in ledger.create(names.iter().map(record).collect()).await? {
            result?;
        }
    }
    let now = ledger.facts().await?.now;
    ensure!(now < due_at, "the records took {} ms to make, longer than expected", now.ms_since(began));
    Ok(due_at)
}

/// A machine as it is registered.
pub fn resource(id: &ResourceId, now: Timestamp) -> anyhow::Result<Resource> {
    let rebuilt = Rebuilt { on: now.utc().date_naive(), evidence: "made for this".to_owned() };
    Ok(Resource {
        id: id.clone(),
        scope: "bench".parse()?,
        identity: Identity::try_from(BTreeMap::from([("uuid".to_owned(), id.to_string())]))?,
        criticality: Criticality::Reproducible,
        rebuilt: Some(rebuilt),
        priority: 100,
        groups: Vec::new(),
        exclusive: None,
        instances: BTreeMap::new(),
        protected: false,
        attributes: BTreeMap::new(),
    })
}

/// Sleep until `moment`, by the ledger's clock.
pub async fn until(ledger: &dyn Ledger, moment: Timestamp) -> anyhow::Result<()> {
    let left = moment.ms_since(ledger.facts().await?.now);
    tokio::time::sleep(Duration::from_millis(left)).await;
    Ok(())
}

/// Wait until no record is live any more.
pub async fn retired(ledger: &dyn Ledger, all: usize) -> anyhow::Result<()> {
    let live = DeletionFilter { status: Some(RecordStatus::Live), limit: 1, ..DeletionFilter::default() };
    let (mut shown, mut done, mut progress) = (Instant::now(), 0, Instant::now());
    while !ledger.deletions(&live).await?.items.is_empty() {
        if shown.elapsed() >= SHOW_EVERY {
            shown = Instant::now();
            let jobs = ledger.health().await?.jobs.get(&StateName::Done).copied().unwrap_or(0);
            if jobs > done {
                (done, progress) = (jobs, Instant::now());
            }
            show(&format!("{done} of {} stages done", all * 5));
            if progress.elapsed() > PATIENCE {
                bail!("nothing was done for {PATIENCE:?}: {:?}", ledger.health().await?);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    show("");
    Ok(())
}

fn show(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

/// Look whether all was done: every machine recycled, and of a sample every step answered and seen to be absent,
/// and the chain whole.
///
/// # Errors
/// What is not as it should be.
pub async fn check(ledger: &dyn Ledger, expected: usize) -> anyhow::Result<()> {
    let mut filter = DeletionFilter { limit: 1000, ..DeletionFilter::default() };
    let mut ids: Vec<DeletionId> = Vec::with_capacity(expected);
    loop {
        let page = ledger.deletions(&filter).await?;
        for row in page.items {
            ensure!(row.status == RecordStatus::Recycled, "{} is {}", row.resource, row.status.word());
            ids.push(row.id);
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
    }
    ensure!(ids.len() == expected, "{} machines were retired, expected {expected}", ids.len());
    for id in ids.iter().step_by(expected.div_ceil(SAMPLE).max(1)) {
        ledger.verify_chain(*id).await?.with_context(|| format!("the audit chain of {id}"))?;
        let trail = ledger.deletion(*id).await?.with_context(|| format!("{id} is missing"))?.audit;
        let settled = trail
            .iter()
            .filter(|row| row.event.what == What::Settled && row.event.presence == Some(Presence::Absent));
        let settled = settled.count();
        ensure!(settled == STEPS, "{id}: {settled} steps were seen to be absent, expected {STEPS}");
    }
    Ok(())
}
