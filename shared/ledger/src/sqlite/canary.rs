//! Canaries.
use std::sync::Arc;

use async_trait::async_trait;
use sexton_model::belts::PauseSelector;
use sexton_model::canary::{Came, Canary, Judged, Probe, RUNS_KEPT, actor, unheard};
use sexton_model::plan::Plan;
use sexton_model::{Fence, ResourceId};

use super::codes;
use super::connection::{Bind, Db, Row, change_one, execute, row, rows, store};
use super::memory::{self, Memory, Staged};
use super::pausing::{self, link};
use super::run::Setting;
use super::writer::{Answer, Work};
use super::{SqliteLedger, mixed_up, reviewing};
use crate::LedgerError;
use crate::canary::{self, Canaries, NewRun, Numbers};
use crate::rules::text;

const DOING: &str = "keeping canaries";

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Begin(NewRun),
    Hear(i64, Came),
    Miss,
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Begin(Option<Vec<Canary>>),
    Hear(Option<Box<Canary>>),
    Miss(Vec<Canary>),
}

/// Do it.
pub(super) fn carry_out(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, ask): (&Setting, &Ask),
) -> Result<Done, LedgerError> {
    Ok(match ask {
        Ask::Begin(new) => Done::Begin(begin(db, memory, staged, (setting, new))?),
        Ask::Hear(id, came) => Done::Hear(hear(db, memory, staged, (*id, came))?.map(Box::new)),
        Ask::Miss => Done::Miss(miss(db, staged)?),
    })
}

fn begin(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (setting, new): (&Setting, &NewRun),
) -> Result<Option<Vec<Canary>>, LedgerError> {
    let last = last_run(db)?;
    let now = staged.now;
    if new.probes.is_empty() || !new.begins(&last, now, setting.day) {
        return Ok(None);
    }
    let numbers = Numbers { now, epoch: epoch(db)?, first_fence: memory.fences(new.probes.len()) };
    let canaries = new.number(&last, &numbers);
    for canary in &canaries {
        let mut bind = Bind::default();
        bind.add(canary.id).add(canary.run).add(text(canary)?);
        change_one(db, (DOING, "canaries"), "INSERT INTO canaries (id, run, body) VALUES (?, ?, ?)", bind)?;
    }
    let mut bind = Bind::default();
    bind.add(RUNS_KEPT);
    execute(db, DOING, "DELETE FROM canaries WHERE run <= (SELECT max(run) FROM canaries) - ?", bind)?;
    let by = new.asked_by.clone().unwrap_or_else(actor);
    link(db, &canary::begun(&canaries, &by, now))?;
    Ok(Some(canaries))
}

/// Whether one that is open looks at this resource.
pub(super) fn look_at(db: &Db, id: &ResourceId) -> Result<bool, LedgerError> {
    Ok(canary::look_at(&last_run(db)?, id))
}

/// What is asked by one that is open.
pub(super) fn open(db: &Db, id: i64) -> Result<Option<Probe>, LedgerError> {
    Ok(one(db, id)?.filter(Canary::is_open).map(|canary| canary.probe))
}

fn one(db: &Db, id: i64) -> Result<Option<Canary>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(id);
    rows(db, DOING, "SELECT id, body FROM canaries WHERE id = ?", bind)?.first().map(parse).transpose()
}

/// What an answer changes about one, written down with the pause that it leads to.
pub(super) fn hear(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (id, came): (i64, &Came),
) -> Result<Option<Canary>, LedgerError> {
    let Some(mut canary) = one(db, id)? else { return Ok(None) };
    let Some(verdict) = canary.hear(came) else { return Ok(None) };
    let mut pause = None;
    if let Some(reason) = canary.pauses(&verdict, &memory::pauses(db)?) {
        let everything = PauseSelector::default();
        pause = Some(pausing::pause(db, memory, staged, (&everything, &actor(), &reason))?.pause.id);
        // A decision as any pause is, to be missed if the file goes back.
        staged.raised = Some(reviewing::raise(db)?);
    }
    canary.keep(came);
    canary.judged = Some(Judged { verdict, at: staged.now, pause });
    judge(db, staged, &canary)?;
    for newer in canary::judged_with(&canary, last_run(db)?) {
        judge(db, staged, &newer)?;
    }
    Ok(Some(canary))
}

fn miss(db: &Db, staged: &Staged) -> Result<Vec<Canary>, LedgerError> {
    let epoch = epoch(db)?;
    let mut missed = Vec::new();
    let run = last_run(db)?;
    for canary in &run {
        let Some(verdict) = unheard(canary, &run, epoch, staged.now) else { continue };
        let judged =
            Canary { judged: Some(Judged { verdict, at: staged.now, pause: None }), ..canary.clone() };
        judge(db, staged, &judged)?;
        missed.push(judged);
    }
    Ok(missed)
}

/// Write a verdict down.
fn judge(db: &Db, staged: &Staged, canary: &Canary) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(text(canary)?).add(canary.id);
    change_one(db, (DOING, "canaries"), "UPDATE canaries SET body = ? WHERE id = ?", bind)?;
    link(db, &canary::judged(canary, staged.now)?)
}

/// The last run.
fn last_run(db: &Db) -> Result<Vec<Canary>, LedgerError> {
    let sql = "SELECT id, body FROM canaries WHERE run = (SELECT max(run) FROM canaries) ORDER BY id";
    rows(db, DOING, sql, Bind::default())?.iter().map(parse).collect()
}

/// As its index has it. A file that has gone back gives numbers again.
fn of_fence(db: &Db, fence: Fence) -> Result<Option<Canary>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(fence.number);
    let sql = "SELECT id, body FROM canaries WHERE body ->> '$.fence.number' = ?";
    let found: Vec<Canary> = rows(db, DOING, sql, bind)?.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(found.into_iter().find(|canary| canary.fence == fence))
}

fn parse(row: &Row) -> Result<Canary, LedgerError> {
    let id: i64 = row.try_get(0).map_err(store(DOING))?;
    codes::body("canaries", id, row.try_get(1).map_err(store(DOING))?)
}

fn epoch(db: &Db) -> Result<u32, LedgerError> {
    row(db, DOING, "SELECT epoch FROM ledger", Bind::default())?.try_get(0).map_err(store(DOING))
}

#[async_trait]
impl Canaries for SqliteLedger {
    async fn begin_canaries(&self, new: NewRun) -> Result<Option<Vec<Canary>>, LedgerError> {
        new.bounded()?;
        match self.ask(Work::Canary(Ask::Begin(new))).await? {
            Answer::Canary(Done::Begin(begun)) => Ok(begun),
            other => Err(mixed_up(&other)),
        }
    }

    async fn hear_canary(&self, id: i64, came: &Came) -> Result<Option<Canary>, LedgerError> {
        match self.ask(Work::Canary(Ask::Hear(id, came.clone()))).await? {
            Answer::Canary(Done::Hear(canary)) => Ok(canary.map(|canary| *canary)),
            other => Err(mixed_up(&other)),
        }
    }

    async fn try_canary(&self, id: i64, plan: &Arc<Plan>) -> Result<Option<Canary>, LedgerError> {
        match self.ask(Work::TryCanary(id, plan.clone())).await? {
            Answer::TryCanary(judged) => Ok(judged.map(|canary| *canary)),
            other => Err(mixed_up(&other)),
        }
    }

    async fn miss_canaries(&self) -> Result<Vec<Canary>, LedgerError> {
        match self.ask(Work::Canary(Ask::Miss)).await? {
            Answer::Canary(Done::Miss(missed)) => Ok(missed),
            other => Err(mixed_up(&other)),
        }
    }

    async fn canary_of(&self, fence: Fence) -> Result<Option<Canary>, LedgerError> {
        self.reads.read(move |db| of_fence(db, fence)).await
    }

    async fn canaries(&self) -> Result<Vec<Canary>, LedgerError> {
        self.reads.read(last_run).await
    }
}
