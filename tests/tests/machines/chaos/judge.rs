//! Judges what stands in the job table, by the rules that the simulator goes by, too.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{DeletionFilter, DeletionRow, DeletionView, Ledger};
use sexton_model::audit::{AuditEvent, What};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Job, JobKind, Stage, StateName};
use sexton_model::time::Day;
use sexton_model::{Fence, Timestamp};
use sexton_tests::trail::course::{self, Course, repeated};
use sexton_tests::trail::{Trail, in_words, locks};

use super::Size;
use super::notes::{Known, Notes};
use crate::glimpse::Standing;
use crate::installation::Installation;
use crate::kept::job_table;
use crate::machine::SCOPE;
use crate::waiting::wait_for;

/// As many records as the job table lists at once.
const PAGE: u32 = 1000;
/// Longest wait for the job table: it may be down just then.
const ANSWER: Duration = Duration::from_secs(60);
/// Time between two looks at the records that are live.
const EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    pub mistakes: Vec<String>,
    pub ended: BTreeMap<RecordStatus, usize>,
    /// What became of each machine: where its last record stands.
    pub outcomes: BTreeMap<String, RecordStatus>,
    pub events: usize,
    /// Orders that were given.
    pub orders: usize,
    /// Answers to orders with which a job went on.
    pub steps: usize,
    /// Holds that people have placed.
    pub holds: usize,
    /// Audit chains that were verified: of records and of everything else.
    pub chains: u64,
}

/// Which records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Live,
    All,
}

/// Look at what is live again and again, until all is over.
pub fn watch(size: &Size, installation: &Installation, notes: &Notes) {
    let mut looked = Instant::now();
    while !notes.is_over() {
        std::thread::sleep(TICK);
        if looked.elapsed() < EVERY {
            continue;
        }
        looked = Instant::now();
        // The database may be down: then it is looked at later.
        if let Ok(judged) = judge(size, installation, notes, Which::Live) {
            notes.mistakes(judged.mistakes);
            notes.count_look();
        }
    }
}

/// All records, when all is over.
pub fn last(size: &Size, installation: &Installation, notes: &Notes) -> Judged {
    let judged = wait_for(ANSWER, || judge(size, installation, notes, Which::All));
    notes.mistakes(judged.mistakes.clone());
    judged
}

/// Names of the resources whose records are live, or of which anything was decided since.
pub fn touched_since(dev: &Path, day_ms: u64, since: Timestamp) -> Result<BTreeSet<String>, String> {
    with_job_table(dev, day_ms, async |ledger: &PgLedger| {
        let mut touched = BTreeSet::new();
        for view in views(ledger, Which::All).await? {
            let later = view.audit.last().is_some_and(|row| row.event.at >= since);
            if later || view.deletion.status.live() {
                touched.insert(view.deletion.record.resource.id.name.to_string());
            }
        }
        Ok(touched)
    })
}

/// What may have become of each machine that has a record.
pub fn standings(dev: &Path, day_ms: u64) -> Result<BTreeMap<String, Standing>, String> {
    with_job_table(dev, day_ms, async |ledger: &PgLedger| {
        let mut standings: BTreeMap<String, Standing> = BTreeMap::new();
        for row in rows(ledger).await? {
            let standing = standings.entry(row.resource.name.to_string()).or_default();
            standing.records += 1;
            let begun = row.deletion.jobs.iter().filter_map(begun).max();
            if row.status == RecordStatus::Cancelled {
                standing.taken_back = standing.taken_back.max(begun);
            } else {
                standing.begun = standing.begun.max(begun);
            }
        }
        Ok(standings)
    })
}

/// The stage of a job that has begun, or may have. One that was cancelled may have if it was one that can be.
fn begun(job: &Job) -> Option<Stage> {
    let JobKind::Stage(stage) = job.kind else { return None };
    let moved = job.cursor > 0 || job.touched;
    match job.state.name() {
        StateName::Scheduled | StateName::Held => moved.then_some(stage),
        StateName::Cancelled => (moved || stage.reversible()).then_some(stage),
        StateName::Ready
        | StateName::Running
        | StateName::Waiting
        | StateName::Cancelling
        | StateName::Parked
        | StateName::Done
        | StateName::Rescued => Some(stage),
    }
}

fn judge(size: &Size, installation: &Installation, notes: &Notes, which: Which) -> Result<Judged, String> {
    let day = Day::Rehearsal { length_ms: size.day_ms };
    with_job_table(installation.folder(), size.day_ms, async |ledger: &PgLedger| {
        let mut judged = Judged::default();
        let mut locked: BTreeMap<String, usize> = BTreeMap::new();
        let views = views(ledger, which).await?;
        // Known by now is all that can stand in them.
        let known = notes.known();
        judged.mistakes.extend(out_of_sequence(&views));
        for view in views {
            let d = &view.deletion;
            judged.mistakes.extend(of_trail(&view, day, &known));
            let count = |counted: fn(&AuditEvent) -> bool| {
                view.audit.iter().filter(|row| counted(&row.event)).count()
            };
            judged.events += view.audit.len();
            judged.orders += count(|event| event.ordered.is_some());
            judged.steps += count(|event| event.what == What::Settled);
            judged.holds += count(|event| event.what == What::HoldPlaced);
            judged.outcomes.insert(d.record.resource.id.to_string(), d.status);
            *judged.ended.entry(d.status).or_default() += 1;
            *locked.entry(d.record.resource.id.to_string()).or_default() += locks(&view);
            match ledger.verify_chain(d.id).await.map_err(|e| format!("{e:?}"))? {
                Ok(()) => judged.chains += 1,
                Err(broken) => judged.mistakes.push(format!("I12: {}: {broken}", d.id)),
            }
        }
        let twice = locked.into_iter().filter(|(_, locks)| *locks > 1);
        judged.mistakes.extend(twice.map(|(resource, n)| format!("I3: {n} jobs lock {resource}")));
        if which == Which::All {
            other_chains(ledger, &mut judged).await?;
        }
        Ok(judged)
    })
}

fn of_trail(view: &DeletionView, day: Day, known: &Known) -> Vec<String> {
    let d = &view.deletion;
    let mut mistakes = Vec::new();
    let (mut trail, mut course) = (Trail::default(), Course::default());
    let mut before: Option<&AuditEvent> = None;
    for row in &view.audit {
        let told = || format!("{} #{}: {}", d.id, row.seq, in_words(&row.event));
        if before.is_some_and(|before| repeated(before, &row.event)) {
            mistakes.push(format!("I12: {}: the same decision twice", told()));
        }
        before = Some(&row.event);
        mistakes.extend(course.see(view, &row.event, &told).err().map(|violation| violation.to_string()));
        if let Err(violation) = trail.see(view, row, day) {
            mistakes.push(violation.to_string());
            // What follows may follow from that.
            trail.note(row);
        }
        let within = |spans: &[(Timestamp, Timestamp)]| {
            spans.iter().any(|(from, until)| *from <= row.event.at && row.event.at < *until)
        };
        if within(&known.reviews) && row.event.ordered.is_some() {
            mistakes.push(format!("I15: {}", told()));
        }
        let stage = goes_on(&row.event);
        if stage.is_some() && within(&known.pauses) {
            mistakes.push(format!("pause: {}", told()));
        }
        let counted = d.record.resource.scope.as_str() == SCOPE && row.event.what == What::Claimed;
        if counted && stage == Some(Stage::Soft) && !known.approved.contains(&d.id) {
            mistakes.push(format!("I11: nobody has approved it: {}", told()));
        }
    }
    if d.status == RecordStatus::Cancelled {
        mistakes.extend(course::verified(view).err().map(|violation| violation.to_string()));
    }
    mistakes
}

/// The stage that an event has begin or go on. What ends a cancelled stage gives the restore's first order.
fn goes_on(event: &AuditEvent) -> Option<Stage> {
    let goes_on = event.what == What::Claimed || event.ordered.is_some();
    match event.job {
        Some(JobKind::Stage(stage)) if goes_on && event.state != Some(StateName::Cancelled) => Some(stage),
        Some(JobKind::Stage(_) | JobKind::Restore) | None => None,
    }
}

/// Orders about one resource are numbered upwards from one of its records, which ascend, to the next.
fn out_of_sequence(views: &[DeletionView]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut last: BTreeMap<String, Fence> = BTreeMap::new();
    for view in views {
        let ordered = || view.audit.iter().filter_map(|row| row.event.ordered);
        let (Some(first), Some(highest)) = (ordered().min(), ordered().max()) else { continue };
        let d = &view.deletion;
        let before = last.insert(d.record.resource.id.to_string(), highest);
        if let Some(before) = before.filter(|before| *before >= first) {
            mistakes.push(format!("I10: {}: {first} was ordered after {before} of another record", d.id));
        }
    }
    mistakes
}

/// Those of resources, pauses and tokens, too.
async fn other_chains(ledger: &PgLedger, judged: &mut Judged) -> Result<(), String> {
    let mut after: Option<String> = None;
    loop {
        let page = ledger.verify_chains(after.as_deref(), PAGE).await.map_err(|e| format!("{e:?}"))?;
        judged.chains += page.checked;
        let broken = page.broken.iter().map(|(chain, why)| format!("I12: {chain}: {why}"));
        judged.mistakes.extend(broken);
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Every record, from all pages.
async fn rows(ledger: &PgLedger) -> Result<Vec<DeletionRow>, String> {
    let mut filter = DeletionFilter { limit: PAGE, ..DeletionFilter::default() };
    let mut rows = Vec::new();
    loop {
        let page = ledger.deletions(&filter).await.map_err(|e| format!("{e:?}"))?;
        rows.extend(page.items);
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(rows);
        }
    }
}

/// Ascending by their ids.
async fn views(ledger: &PgLedger, which: Which) -> Result<Vec<DeletionView>, String> {
    let mut views: Vec<DeletionView> = Vec::new();
    for row in rows(ledger).await?.iter().filter(|row| which == Which::All || row.status.live()) {
        views.extend(ledger.deletion(row.id).await.map_err(|e| format!("{e:?}"))?);
    }
    views.sort_by_key(|view| view.deletion.id);
    Ok(views)
}

/// Open the job table itself, for this once.
fn with_job_table<T>(
    dev: &Path,
    day_ms: u64,
    look: impl AsyncFnOnce(&PgLedger) -> Result<T, String>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let looked = async {
        let ledger = job_table(dev, day_ms).await?;
        let found = look(&ledger).await;
        ledger.close().await;
        found
    };
    runtime.block_on(async {
        let timely = tokio::time::timeout(ANSWER, looked).await;
        timely.map_err(|_| "the job table does not answer".to_owned())?
    })
}
