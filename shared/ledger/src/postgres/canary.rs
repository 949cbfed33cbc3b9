//! Canaries. What is written is written with the gate taken alone, as a pause is: a verdict may pause everything. That is once
//! for each verdict, so up to a thousand times in a run, each a few statements long; and a run is once a day.
//!
//! Bodies are looked into by the index of fences, so they hold nothing that PostgreSQL has no text for
//! (`sexton_model::canary` sees to it).
use std::sync::Arc;

use async_trait::async_trait;
use sexton_model::belts::PauseSelector;
use sexton_model::canary::{Came, Canary, Judged, Probe, RUNS_KEPT, actor, unheard};
use sexton_model::checkpoint::Mark;
use sexton_model::plan::Plan;
use sexton_model::{Fence, ResourceId};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Row as _, Transaction};

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find, pause, rehearsal, review, survey};
use crate::LedgerError;
use crate::canary::{self, Canaries, NewRun, Numbers};
use crate::rules::text;

const LAST: &str = "SELECT body FROM canaries WHERE run = (SELECT max(run) FROM canaries) ORDER BY id";
const ONE: &str = "SELECT body FROM canaries WHERE id = $1";
/// As its index has it. Numbers are of one sequence, but one that has gone back gives some of them again.
const OF_FENCE: &str = "SELECT body FROM canaries WHERE (body::json -> 'fence' ->> 'number')::bigint = $1";
const NUMBERS: &str = "SELECT nextval('fence'), epoch FROM ledger";
const INSERT: &str = "INSERT INTO canaries (id, run, body) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])";
const FORGET: &str = "DELETE FROM canaries WHERE run <= (SELECT max(run) FROM canaries) - $1";
const JUDGE: &str = "UPDATE canaries SET body = $2 WHERE id = $1";

#[async_trait]
impl Canaries for PgLedger {
    async fn begin_canaries(&self, new: NewRun) -> Result<Option<Vec<Canary>>, LedgerError> {
        new.bounded()?;
        let part = || doing("beginning a run of canaries");
        let mut tx = self.pool.begin().await.map_err(part())?;
        pause::lock(&mut tx).await?;
        let last = last_run(&mut tx).await?;
        let now = find::clock(&mut tx).await?;
        if new.probes.is_empty() || !new.begins(&last, now, self.options.day) {
            return Ok(None);
        }
        // A survey that does not see these has lower numbers.
        survey::lock(&mut tx).await?;
        let row = sqlx::query(NUMBERS).fetch_one(&mut *tx).await.map_err(part())?;
        let numbers =
            Numbers { now, first_fence: row.try_get(0).map_err(part())?, epoch: review::epoch(&row, 1)? };
        let canaries = new.number(&last, &numbers);
        let bodies = canaries.iter().map(text).collect::<Result<Vec<String>, _>>()?;
        let done = sqlx::query(INSERT)
            .bind(canaries.iter().map(|canary| canary.id).collect::<Vec<_>>())
            .bind(canaries.iter().map(|canary| canary.run).collect::<Vec<_>>())
            .bind(bodies)
            .execute(&mut *tx)
            .await
            .map_err(part())?;
        all_there("canaries", done.rows_affected(), canaries.len())?;
        sqlx::query(FORGET).bind(RUNS_KEPT).execute(&mut *tx).await.map_err(part())?;
        let by = new.asked_by.unwrap_or_else(actor);
        pause::append(&mut tx, &canary::begun(&canaries, &by, now)).await?;
        tx.commit().await.map_err(part())?;
        let fence = canaries.last().map_or(0, |canary| canary.fence.number);
        self.known.note(Mark { epoch: numbers.epoch, fence, ..Mark::default() }, None);
        Ok(Some(canaries))
    }

    async fn hear_canary(&self, id: i64, came: &Came) -> Result<Option<Canary>, LedgerError> {
        let part = || doing("hearing the answer to a canary");
        let mut tx = self.pool.begin().await.map_err(part())?;
        pause::lock(&mut tx).await?;
        let Some(heard) = hear(&mut tx, id, came).await? else { return Ok(None) };
        commit(self, tx, heard).await.map(Some)
    }

    async fn try_canary(&self, id: i64, plan: &Arc<Plan>) -> Result<Option<Canary>, LedgerError> {
        rehearsal::try_one(self, id, plan).await
    }

    async fn miss_canaries(&self) -> Result<Vec<Canary>, LedgerError> {
        let part = || doing("looking which canaries nobody answers");
        let mut tx = self.pool.begin().await.map_err(part())?;
        pause::lock(&mut tx).await?;
        let at = find::clock(&mut tx).await?;
        let epoch = review::standing(&mut tx).await?.mark.epoch;
        let mut missed = Vec::new();
        let run = last_run(&mut tx).await?;
        for canary in &run {
            let Some(verdict) = unheard(canary, &run, epoch, at) else { continue };
            let judged = Canary { judged: Some(Judged { verdict, at, pause: None }), ..canary.clone() };
            judge(&mut tx, &judged).await?;
            missed.push(judged);
        }
        tx.commit().await.map_err(part())?;
        Ok(missed)
    }

    async fn canary_of(&self, fence: Fence) -> Result<Option<Canary>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading canaries"))?;
        let bodies: Vec<String> = sqlx::query_scalar(OF_FENCE)
            .bind(fence.number)
            .fetch_all(&mut *db)
            .await
            .map_err(doing("reading canaries"))?;
        let found: Vec<Canary> = bodies.iter().map(|body| parse(body)).collect::<Result<_, _>>()?;
        Ok(found.into_iter().find(|canary| canary.fence == fence))
    }

    async fn canaries(&self) -> Result<Vec<Canary>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading canaries"))?;
        last_run(&mut db).await
    }
}

/// Whether one that is open looks at this resource.
pub(super) async fn look_at(db: &mut PgConnection, id: &ResourceId) -> Result<bool, LedgerError> {
    Ok(canary::look_at(&last_run(db).await?, id))
}

/// What is asked by one that is open.
pub(super) async fn open(db: &mut PgConnection, id: i64) -> Result<Option<Probe>, LedgerError> {
    Ok(one(db, id).await?.filter(Canary::is_open).map(|canary| canary.probe))
}

async fn one(db: &mut PgConnection, id: i64) -> Result<Option<Canary>, LedgerError> {
    let found: Option<String> =
        sqlx::query_scalar(ONE).bind(id).fetch_optional(db).await.map_err(doing("reading a canary"))?;
    found.as_deref().map(parse).transpose()
}

/// What an answer changes about one, written down with the pause that it leads to. Whoever calls it has the
/// [`pause::lock`].
pub(super) async fn hear(db: &mut PgConnection, id: i64, came: &Came) -> Result<Option<Canary>, LedgerError> {
    let Some(mut canary) = one(db, id).await? else { return Ok(None) };
    let Some(verdict) = canary.hear(came) else { return Ok(None) };
    let at = find::clock(db).await?;
    let mut paused = None;
    if let Some(reason) = canary.pauses(&verdict, &pause::pauses(db).await?) {
        paused = Some(pause::locked(db, PauseSelector::default(), &actor(), &reason).await?.pause.id);
    }
    canary.keep(came);
    canary.judged = Some(Judged { verdict, at, pause: paused });
    judge(db, &canary).await?;
    for newer in canary::judged_with(&canary, last_run(db).await?) {
        judge(db, &newer).await?;
    }
    Ok(Some(canary))
}

/// Commit what was heard. That it has paused everything is a decision as any pause is, to be missed if the job table goes back.
pub(super) async fn commit(
    ledger: &PgLedger,
    mut tx: Transaction<'_, Postgres>,
    canary: Canary,
) -> Result<Canary, LedgerError> {
    let decided = match canary.judged.as_ref().and_then(|judged| judged.pause) {
        Some(_) => review::decide(&mut tx, ledger, None).await?,
        None => None,
    };
    tx.commit().await.map_err(doing("writing what came of a canary"))?;
    ledger.known.note_decision(decided);
    Ok(canary)
}

/// Write a verdict down.
async fn judge(db: &mut PgConnection, canary: &Canary) -> Result<(), LedgerError> {
    let done = sqlx::query(JUDGE).bind(canary.id).bind(text(canary)?).execute(&mut *db).await;
    all_there("canaries", done.map_err(doing("writing what came of a canary"))?.rows_affected(), 1)?;
    let at = canary.judged.as_ref().map_or(canary.begun_at, |judged| judged.at);
    pause::append(db, &canary::judged(canary, at)?).await
}

async fn last_run(db: &mut PgConnection) -> Result<Vec<Canary>, LedgerError> {
    let bodies: Vec<String> =
        sqlx::query_scalar(LAST).fetch_all(db).await.map_err(doing("reading canaries"))?;
    bodies.iter().map(|body| parse(body)).collect()
}

fn parse(body: &str) -> Result<Canary, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("canaries", "?", e.to_string()))
}
