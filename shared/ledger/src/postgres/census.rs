//! Censuses: believed or refused with the gate taken alone, for they may pause.
use std::collections::BTreeMap;

use sexton_model::belts::census::{Census, Population, Taken};
use sexton_model::{Actor, Kind, ResourceId, Scope, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{corrupt, doing};
use super::{PgLedger, find, pause};
use crate::census::{self, Beside, Counted};
use crate::keys::Note;
use crate::rules::text;
use crate::{LedgerError, NotDone};

const ALL: &str = "SELECT body FROM censuses ORDER BY id";
const LAST_OF: &str = "SELECT body FROM censuses WHERE kind = $1 AND scope = $2 ORDER BY id DESC LIMIT 1";
const OF_DAY: &str = "SELECT body FROM censuses WHERE kind = $1 AND scope = $2 AND accepted_at > $3 \
     ORDER BY id DESC LIMIT $4";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM censuses";
const REGISTERED: &str = "SELECT r.id, EXISTS (SELECT 1 FROM deletions d WHERE d.resource = r.id AND d.live) \
     FROM resources r WHERE r.kind = $1 AND r.presence = 0 AND (r.scope = $2 OR starts_with(r.scope, $2 || '/'))";
const INSERT: &str = "INSERT INTO censuses (id, kind, scope, accepted_at, body) VALUES ($1, $2, $3, $4, $5)";
const FORGET: &str = "DELETE FROM censuses c WHERE accepted_at < $1 AND EXISTS (SELECT 1 FROM censuses n \
     WHERE n.kind = c.kind AND n.scope = c.scope AND n.id > c.id AND n.accepted_at < $1)";

/// Believe a census, or say what it lacks.
pub(super) async fn take(
    ledger: &PgLedger,
    census: &Census,
    by: &Actor,
) -> Result<Result<Counted, NotDone>, LedgerError> {
    let part = || doing("taking a census");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let now = find::clock(&mut tx).await?;
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *tx).await.map_err(part())?;
    let beside = Beside {
        policy: &ledger.policy.get(),
        day: ledger.options.day,
        now,
        last: last_of(&mut tx, census).await?,
        of_day: of_day(&mut tx, census, census::day_before(now, ledger.options.day)).await?,
        registered: registered(&mut tx, &census.kind, &census.scope).await?,
        population: population(&mut tx, ledger, now).await?,
    };
    let decided = match beside.decide(last + 1, census) {
        Ok(decided) => decided,
        Err(why) => {
            pause::append(&mut tx, &census::refused(census, &why, by, now)).await?;
            tx.commit().await.map_err(part())?;
            return Ok(Err(why.into()));
        }
    };
    let taken = decided.taken;
    sqlx::query(INSERT)
        .bind(taken.census)
        .bind(taken.kind.to_string())
        .bind(taken.scope.to_string())
        .bind(now.0)
        .bind(text(&taken)?)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    let kept = now.0.saturating_sub(census::KEPT_DAYS.saturating_mul(86_400_000_000));
    sqlx::query(FORGET).bind(kept).execute(&mut *tx).await.map_err(part())?;
    pause::append(&mut tx, &census::event(&taken, by)?).await?;
    let mut paused = None;
    if let Some((covers, reason)) = decided.pause {
        let done = pause::locked(&mut tx, covers, &census::coordinator()?, &reason).await?;
        paused = Some((done.0.pause.id, done.1));
    }
    let counted = Counted { taken, paused: paused.as_ref().map(|(id, _)| *id) };
    ledger.note(&mut tx, || Some(Note::CensusTaken(counted.clone()))).await?;
    tx.commit().await.map_err(part())?;
    if let Some((_, mark)) = paused {
        ledger.known.note(mark, None);
    }
    Ok(Ok(counted))
}

async fn last_of(db: &mut PgConnection, census: &Census) -> Result<Option<Taken>, LedgerError> {
    let found: Option<String> = sqlx::query_scalar(LAST_OF)
        .bind(census.kind.to_string())
        .bind(census.scope.to_string())
        .fetch_optional(db)
        .await
        .map_err(doing("reading the last census"))?;
    found.as_deref().map(parse).transpose()
}

/// Those that were believed since then, ascending.
async fn of_day(db: &mut PgConnection, census: &Census, from: Timestamp) -> Result<Vec<Taken>, LedgerError> {
    let bodies: Vec<String> = sqlx::query_scalar(OF_DAY)
        .bind(census.kind.to_string())
        .bind(census.scope.to_string())
        .bind(from.0)
        .bind(census::OF_DAY_MAX)
        .fetch_all(db)
        .await
        .map_err(doing("reading the last day's censuses"))?;
    bodies.iter().rev().map(|body| parse(body)).collect()
}

fn parse(body: &str) -> Result<Taken, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("censuses", "?", e.to_string()))
}

async fn registered(
    db: &mut PgConnection,
    kind: &Kind,
    scope: &Scope,
) -> Result<BTreeMap<ResourceId, bool>, LedgerError> {
    let part = || doing("reading what is registered");
    let query = sqlx::query(REGISTERED).bind(kind.to_string()).bind(scope.to_string());
    let rows = query.fetch_all(db).await.map_err(part())?;
    let one = |row: &PgRow| {
        let id: &str = row.try_get(0).map_err(part())?;
        let id = id.parse().map_err(|_| corrupt("resources", id, "not a resource"))?;
        Ok((id, row.try_get(1).map_err(part())?))
    };
    rows.iter().map(one).collect()
}

/// All of them that are kept.
pub(super) async fn all(db: &mut PgConnection) -> Result<Vec<Taken>, LedgerError> {
    let bodies: Vec<String> =
        sqlx::query_scalar(ALL).fetch_all(db).await.map_err(doing("reading censuses"))?;
    bodies.iter().map(|body| parse(body)).collect()
}

/// How many there are; nothing is read if no budget asks for it.
pub(super) async fn population(
    db: &mut PgConnection,
    ledger: &PgLedger,
    now: Timestamp,
) -> Result<Population, LedgerError> {
    let policy = ledger.policy.get();
    let budgets = policy.budgets(ledger.options.day);
    if !budgets.by_percent() {
        return Ok(Population::default());
    }
    Ok(Population::frozen(all(db).await?, budgets.counted_from(now, ledger.options.day)))
}
