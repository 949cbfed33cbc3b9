//! Reading the job table for alarms and digests. Decides nothing.
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use sexton_ledger::{ALARMS_PAGE, AlarmFilter, BatchRow, Ledger, LedgerError, WatchedRecord};
use sexton_model::access::Extent;
use sexton_model::alarm::hold::BatchFact;
use sexton_model::alarm::{Alarm, Facts, Holding, Moment, Rules, Standing, TOGETHER, excused, of_deletion};
use sexton_model::belts::census::daily::{self, Missed};
use sexton_model::belts::census::{self, foreign, misplaced};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::digest::{AHEAD_DAYS, Coming, Daily, Digest, LINES_MAX, Material, compose};
use sexton_model::{DeletionId, undo};

use super::answered;

/// All alarms that hold in the job table, and those that are open in it, the newest first. Goes through what is watched by the page,
/// however much that is.
///
/// # Errors
/// If it cannot be read: then nothing is known, and nothing is to be ended.
pub async fn alarms(ledger: &dyn Ledger, rules: Rules) -> Result<(Vec<Alarm>, Vec<Standing>), LedgerError> {
    let at = moment(ledger, rules).await?;
    let (policy, latest) = (ledger.policy(), answered(ledger.latest_censuses()).await?);
    let one_shots = answered(ledger.broken_glass()).await?;
    let facts = Facts {
        batches: batches(ledger).await?,
        pauses: answered(ledger.pauses()).await?,
        undone: broken_glass(ledger, &one_shots, &at.of_the_hour()).await?,
        one_shots,
        review: answered(ledger.review()).await?,
        canaries: answered(ledger.canaries()).await?,
        drills: answered(ledger.drills()).await?,
        lapses: census::lapses(&latest, &policy.census.take, at.day, at.now),
    };
    // Two that look at once may not see each other's: then one that is kept is raised anew.
    let open = open(ledger).await?;
    let mut holding = Holding::beside(open.iter().map(|standing| &standing.alarm));
    facts.alarms(at.now, &mut holding);
    watched(ledger, |record| {
        for alarm in of_deletion(&record.deletion, record.parked_at, &at) {
            holding.add(alarm);
        }
        if let Some(alarm) = excused(&record.deletion, &at) {
            holding.keep(alarm);
        }
    })
    .await?;
    Ok((holding.finish(), open))
}

/// The digest of a day as it would be now, for whoever sees so much. `lacks`: what is not configured; to which is added whether
/// nothing is protected, and which censuses do not come.
///
/// # Errors
/// If the job table cannot be read.
pub async fn digest(
    ledger: &dyn Ledger,
    (day, daily): (NaiveDate, Daily),
    rules: Rules,
    lacks: &[String],
    extent: &Extent,
) -> Result<Digest, LedgerError> {
    let at = moment(ledger, rules).await?;
    let held = answered(ledger.held(extent.limits())).await?;
    let censuses = answered(ledger.censuses()).await?;
    let unprotected = ledger.policy().lacks(at.day).map(str::to_owned);
    let mut material = Material {
        ahead: answered(ledger.ahead(AHEAD_DAYS, extent.limits())).await?,
        weeks: weeks(ledger, day).await?,
        held: held.longest,
        held_by: held.by,
        pauses: answered(ledger.pauses()).await?,
        foreign: foreign::of_last_day(&censuses, at.now),
        misplaced: misplaced::of_last_day(&censuses, at.now),
        batches: batches(ledger).await?,
        alarms: open(ledger).await?,
        lacks: lacks.iter().cloned().chain(unprotected).collect(),
        missed: missed(ledger, &at).await?,
        ..Material::default()
    };
    material.keep(extent);
    for still in material.held.iter_mut().take(LINES_MAX) {
        still.undo = undone(ledger, still.deletion, &at).await?;
    }
    watched(ledger, |record| {
        if extent.contains(&record.deletion.record.resource.scope) {
            material.watched.see(&record.deletion, record.parked_at, &at);
        }
    })
    .await?;
    Ok(compose(material, (day, daily.zone), &at))
}

/// Which censuses are configured to be taken, and do not come.
async fn missed(ledger: &dyn Ledger, at: &Moment) -> Result<Vec<Missed>, LedgerError> {
    let (policy, latest) = (ledger.policy(), answered(ledger.latest_censuses()).await?);
    Ok(daily::missed(&policy.census.take, &latest, at.day, at.now))
}

/// What can still be undone of those for which somebody broke the glass: said once of each deletion, and of no more than are named in
/// alarms.
async fn broken_glass(
    ledger: &dyn Ledger,
    one_shots: &[OneShot],
    at: &Moment,
) -> Result<BTreeMap<DeletionId, String>, LedgerError> {
    let mut said = BTreeMap::new();
    let hold = one_shots.iter().filter(|one| one.until > at.now);
    let named: BTreeSet<DeletionId> = hold.take(TOGETHER).map(|one| one.deletion).collect();
    for deletion in named {
        let offer = undone(ledger, deletion, at).await?;
        if !offer.is_empty() {
            said.insert(deletion, offer);
        }
    }
    Ok(said)
}

/// What can still be undone of one, and until when; nothing if it is over by now, or cannot be read.
async fn undone(ledger: &dyn Ledger, id: DeletionId, at: &Moment) -> Result<String, LedgerError> {
    match answered(ledger.deletion(id)).await {
        Ok(view) => {
            Ok(view.map(|view| undo::undo(&view.deletion, at.day, at.now).offer()).unwrap_or_default())
        }
        // It fails alone.
        Err(LedgerError::Corrupt { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

async fn moment(ledger: &dyn Ledger, rules: Rules) -> Result<Moment, LedgerError> {
    let facts = answered(ledger.facts()).await?;
    Ok(Moment { now: facts.now, day: facts.day, rules })
}

async fn watched(ledger: &dyn Ledger, mut see: impl FnMut(&WatchedRecord)) -> Result<(), LedgerError> {
    let mut from = None;
    loop {
        let page = answered(ledger.watched(from)).await?;
        page.records.iter().for_each(&mut see);
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

async fn batches(ledger: &dyn Ledger) -> Result<Vec<BatchFact>, LedgerError> {
    let fact = |row: BatchRow| {
        let BatchRow { batch, group, frozen_at, exceeded, waiting } = row;
        BatchFact { batch, group, frozen_at, exceeded, waiting }
    };
    Ok(answered(ledger.batches()).await?.into_iter().map(fact).collect())
}

/// All of them, the newest first, by the page: which are the worst is seen once all are there.
async fn open(ledger: &dyn Ledger) -> Result<Vec<Standing>, LedgerError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let filter = AlarmFilter { ended: false, before, limit: ALARMS_PAGE };
        let page = answered(ledger.alarms(filter)).await?;
        all.extend(page.items.into_iter().map(|view| view.standing));
        before = all.last().map(|one: &Standing| one.id).filter(|_| page.next.is_some());
        if before.is_none() {
            return Ok(all);
        }
    }
}

/// What the digests of the last weeks said was coming, as far as they are there.
async fn weeks(ledger: &dyn Ledger, day: NaiveDate) -> Result<Vec<Vec<Coming>>, LedgerError> {
    let mut weeks = Vec::new();
    for day in Daily::weeks_before(day) {
        let Some(body) = answered(ledger.digest(day)).await? else { continue };
        match serde_json::from_str::<Digest>(&body) {
            Ok(digest) => weeks.push(digest.coming.items),
            // Of a version that wrote it otherwise: one week less to compare with.
            Err(error) => tracing::warn!(%day, %error, "an earlier digest cannot be read"),
        }
    }
    Ok(weeks)
}
