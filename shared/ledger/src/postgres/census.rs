//! Censuses: believed or refused with the gate taken alone, for they may pause.
use std::collections::BTreeMap;

use async_trait::async_trait;
use sexton_model::belts::PauseSelector;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::{AsRegistered, Census, Latest, Population, Refusal, Taken};
use sexton_model::time::Day;
use sexton_model::{Actor, Kind, ResourceId, Scope, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Row as _, Transaction};

use super::error::{corrupt, doing};
use super::{PgLedger, find, listing, pause, review, strangers};
use crate::census::{self, Beside, CensusFilter, Censuses, Counted, Decided, NOTHING_GONE, PAGE_MAX};
use crate::keys::Note;
use crate::rules::text;
use crate::{LedgerError, NotDone, Page};

const ALL: &str = "SELECT body FROM censuses ORDER BY id";
const PAGE: &str = "SELECT c.body FROM censuses c WHERE c.id < $1 \
       AND ($2::text[] IS NULL OR EXISTS (SELECT 1 FROM unnest($2::text[]) AS n (scope) \
         WHERE c.scope = n.scope OR starts_with(c.scope, n.scope || '/'))) \
     ORDER BY c.id DESC LIMIT $3";
const LAST_OF: &str = "SELECT body FROM censuses WHERE kind = $1 AND scope = $2 ORDER BY id DESC LIMIT 1";
const OF_DAY: &str = "SELECT body FROM censuses WHERE kind = $1 AND scope = $2 AND accepted_at > $3 \
     ORDER BY id DESC LIMIT $4";
/// Sought by their numbers, which ascend as their moments do: of a kind there may be very many that are older.
const OF_KIND: &str = "SELECT body FROM censuses \
     WHERE id > coalesce((SELECT id FROM censuses WHERE accepted_at <= $2 ORDER BY id DESC LIMIT 1), 0) \
       AND kind = $1 AND accepted_at > $2 AND strpos(body, $3) = 0 ORDER BY id DESC LIMIT $4";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM censuses";
/// With each its scope, and whether the hard job of its live record has begun: it is neither scheduled nor held, nor was it
/// cancelled before.
const REGISTERED: &str = "SELECT r.id, EXISTS (SELECT 1 FROM deletions d JOIN jobs j ON j.id = d.id * 8 + 2 \
       WHERE d.resource = r.id AND d.live AND j.state NOT IN (0, 1, 8)), r.scope \
     FROM resources r WHERE r.kind = $1 AND r.presence = 0 AND (r.scope = $2 OR starts_with(r.scope, $2 || '/'))";
const INSERT: &str = "INSERT INTO censuses (id, kind, scope, accepted_at, body) VALUES ($1, $2, $3, $4, $5)";
const FORGET: &str = "DELETE FROM censuses c WHERE accepted_at < $1 AND EXISTS (SELECT 1 FROM censuses n \
     WHERE n.kind = c.kind AND n.scope = c.scope AND n.id > c.id AND n.accepted_at < $1)";

const BELIEVED: &str = "INSERT INTO latest_censuses (kind, scope, believed_at) VALUES ($1, $2, $3) \
     ON CONFLICT (kind, scope) DO UPDATE SET believed_at = excluded.believed_at";
const REFUSED: &str = "INSERT INTO latest_censuses (kind, scope, refused_at, refused) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (kind, scope) DO UPDATE SET refused_at = excluded.refused_at, refused = excluded.refused";
const FORGET_REFUSED: &str = "DELETE FROM latest_censuses WHERE believed_at IS NULL AND (kind, scope) NOT IN \
     (SELECT kind, scope FROM latest_censuses WHERE believed_at IS NULL ORDER BY refused_at DESC LIMIT $1)";
const LATEST_OF: &str =
    "SELECT kind, scope, believed_at, refused FROM latest_censuses WHERE kind = $1 AND scope = $2";
const REFUSED_SINCE: &str = "SELECT kind, scope, believed_at, refused FROM latest_censuses \
     WHERE kind = $1 AND refused_at > $2 ORDER BY scope LIMIT $3";
const LATEST: &str =
    "SELECT kind, scope, believed_at, refused FROM latest_censuses ORDER BY kind, scope LIMIT $1";

/// Believe a census, or say what it lacks.
pub(super) async fn take(
    ledger: &PgLedger,
    census: &Census,
    by: &Actor,
) -> Result<Result<Counted, NotDone>, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("taking a census"))?;
    pause::lock(&mut tx).await?;
    judge(ledger, tx, (census, by)).await
}

/// The same of one that was made of this listing, which is put away. Nothing if somebody else has done that.
pub(super) async fn take_listed(
    ledger: &PgLedger,
    listing: i64,
    (census, by): (&Census, &Actor),
) -> Result<Option<Result<Counted, NotDone>>, LedgerError> {
    let part = || doing("taking a census that was listed");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let done = sqlx::query(listing::END).bind(listing).execute(&mut *tx).await.map_err(part())?;
    match done.rows_affected() {
        0 => Ok(None),
        _ => judge(ledger, tx, (census, by)).await.map(Some),
    }
}

/// With the gate taken.
async fn judge(
    ledger: &PgLedger,
    mut tx: Transaction<'_, Postgres>,
    (census, by): (&Census, &Actor),
) -> Result<Result<Counted, NotDone>, LedgerError> {
    let part = || doing("taking a census");
    let now = find::clock(&mut tx).await?;
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *tx).await.map_err(part())?;
    let day_before = census::day_before(now, ledger.options.day);
    let beside = Beside {
        policy: &ledger.policy.get(),
        day: ledger.options.day,
        now,
        last: last_of(&mut tx, census).await?,
        of_day: of_day(&mut tx, census, day_before).await?,
        of_kind: of_kind(&mut tx, &census.kind, day_before).await?,
        refused: refused_since(&mut tx, &census.kind, day_before).await?,
        registered: registered(&mut tx, &census.kind, &census.scope).await?,
        population: population(&mut tx, ledger, now).await?,
        pauses: pause::pauses(&mut tx).await?,
    };
    let Decided { judged, pauses: to_pause, missing } = beside.decide(last + 1, census);
    match &judged {
        Ok(taken) => {
            keep(&mut tx, taken, (by, ledger.options.day)).await?;
            strangers::keep(&mut tx, taken, census.strangers(&beside.registered)).await?;
        }
        Err(why) => {
            let of = (&census.kind, &census.scope);
            let before = latest_of(&mut tx, of).await?;
            let refusal = census::refusal((census, by), (why, missing), now).after(before.as_ref());
            if why.stands() {
                note_refused(&mut tx, of, &refusal).await?;
            }
            pause::append(&mut tx, &census::refused(of, &refusal)).await?;
        }
    }
    let paused = place(&mut tx, to_pause.scope).await?;
    let paused_everywhere = place(&mut tx, to_pause.everywhere).await?;
    let done = judged.map(|taken| Counted { taken, paused, paused_everywhere });
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || done.as_ref().ok().cloned().map(Note::CensusTaken)).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(done.map_err(NotDone::from))
}

/// One of the pauses that a census leads to.
async fn place(
    db: &mut PgConnection,
    to_pause: Option<(PauseSelector, String)>,
) -> Result<Option<i64>, LedgerError> {
    let Some((covers, reason)) = to_pause else { return Ok(None) };
    Ok(Some(pause::locked(db, covers, &census::coordinator()?, &reason).await?.pause.id))
}

/// One that is believed.
async fn keep(db: &mut PgConnection, taken: &Taken, (by, day): (&Actor, Day)) -> Result<(), LedgerError> {
    let part = || doing("keeping a census");
    let now = taken.accepted_at;
    sqlx::query(INSERT)
        .bind(taken.census)
        .bind(taken.kind.to_string())
        .bind(taken.scope.to_string())
        .bind(now.0)
        .bind(text(taken)?)
        .execute(&mut *db)
        .await
        .map_err(part())?;
    let kept = census::kept_from(now, day);
    sqlx::query(FORGET).bind(kept.0).execute(&mut *db).await.map_err(part())?;
    sqlx::query(BELIEVED)
        .bind(taken.kind.to_string())
        .bind(taken.scope.to_string())
        .bind(now.0)
        .execute(&mut *db)
        .await
        .map_err(part())?;
    pause::append(db, &census::event(taken, by)?).await
}

/// Of places where none was ever believed only the newest are kept: anything may be handed in.
async fn note_refused(
    db: &mut PgConnection,
    (kind, scope): (&Kind, &Scope),
    refusal: &Refusal,
) -> Result<(), LedgerError> {
    let part = || doing("noting that a census was refused");
    sqlx::query(REFUSED)
        .bind(kind.to_string())
        .bind(scope.to_string())
        .bind(refusal.at.0)
        .bind(text(refusal)?)
        .execute(&mut *db)
        .await
        .map_err(part())?;
    sqlx::query(FORGET_REFUSED).bind(census::NEVER_BELIEVED_MAX).execute(db).await.map_err(part())?;
    Ok(())
}

/// That one was due and was not taken, unless something has come since it was found to be due. Whether it is noted.
pub(super) async fn not_taken(ledger: &PgLedger, attempt: &Attempt) -> Result<bool, LedgerError> {
    let part = || doing("noting that a census was not taken");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let now = find::clock(&mut tx).await?;
    let of = (&attempt.kind, &attempt.scope);
    let latest = latest_of(&mut tx, of).await?;
    if Seen::of(latest.as_ref()) != attempt.seen {
        return Ok(false);
    }
    let refusal = attempt.refusal(latest.as_ref(), now);
    note_refused(&mut tx, of, &refusal).await?;
    pause::append(&mut tx, &census::refused(of, &attempt.noted(now))).await?;
    tx.commit().await.map_err(part())?;
    Ok(true)
}

/// What came last of each kind and scope.
pub(super) async fn latest(db: &mut PgConnection) -> Result<Vec<Latest>, LedgerError> {
    let query = sqlx::query(LATEST).bind(census::LATEST_MAX);
    let rows = query.fetch_all(db).await.map_err(doing("reading what came last of censuses"))?;
    rows.iter().map(one).collect()
}

/// What came last of this kind and scope.
pub(super) async fn latest_of(
    db: &mut PgConnection,
    (kind, scope): (&Kind, &Scope),
) -> Result<Option<Latest>, LedgerError> {
    let query = sqlx::query(LATEST_OF).bind(kind.to_string()).bind(scope.to_string());
    let row = query.fetch_optional(db).await.map_err(doing("reading what came last of a census"))?;
    row.as_ref().map(one).transpose()
}

fn one(row: &PgRow) -> Result<Latest, LedgerError> {
    let part = || doing("reading what came last of censuses");
    let table = "latest_censuses";
    let kind: &str = row.try_get(0).map_err(part())?;
    let scope: &str = row.try_get(1).map_err(part())?;
    let refused: Option<&str> = row.try_get(3).map_err(part())?;
    let refused = refused.map(serde_json::from_str).transpose();
    Ok(Latest {
        kind: kind.parse().map_err(|_| corrupt(table, kind, "not a kind"))?,
        scope: scope.parse().map_err(|_| corrupt(table, scope, "not a scope"))?,
        believed_at: row.try_get::<Option<i64>, _>(2).map_err(part())?.map(Timestamp),
        refused: refused.map_err(|e| corrupt(table, scope, e.to_string()))?,
    })
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

/// The same of all scopes, of those that found something gone.
async fn of_kind(db: &mut PgConnection, kind: &Kind, from: Timestamp) -> Result<Vec<Taken>, LedgerError> {
    let bodies: Vec<String> = sqlx::query_scalar(OF_KIND)
        .bind(kind.to_string())
        .bind(from.0)
        .bind(NOTHING_GONE)
        .bind(census::OF_DAY_MAX)
        .fetch_all(db)
        .await
        .map_err(doing("reading what the last day's censuses have found gone"))?;
    bodies.iter().rev().map(|body| parse(body)).collect()
}

/// What came last of a kind where one was refused since then.
async fn refused_since(
    db: &mut PgConnection,
    kind: &Kind,
    from: Timestamp,
) -> Result<Vec<Latest>, LedgerError> {
    let query = sqlx::query(REFUSED_SINCE).bind(kind.to_string()).bind(from.0).bind(census::LATEST_MAX);
    let rows = query.fetch_all(db).await.map_err(doing("reading which censuses were refused"))?;
    rows.iter().map(one).collect()
}

pub(super) fn parse(body: &str) -> Result<Taken, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("censuses", "?", e.to_string()))
}

async fn registered(
    db: &mut PgConnection,
    kind: &Kind,
    scope: &Scope,
) -> Result<BTreeMap<ResourceId, AsRegistered>, LedgerError> {
    let part = || doing("reading what is registered");
    let query = sqlx::query(REGISTERED).bind(kind.to_string()).bind(scope.to_string());
    let rows = query.fetch_all(db).await.map_err(part())?;
    let one = |row: &PgRow| {
        let id: &str = row.try_get(0).map_err(part())?;
        let id = id.parse().map_err(|_| corrupt("resources", id, "not a resource"))?;
        let scope: &str = row.try_get(2).map_err(part())?;
        let scope = scope.parse().map_err(|_| corrupt("resources", scope, "not a scope"))?;
        Ok((id, AsRegistered { scope, going: row.try_get(1).map_err(part())? }))
    };
    rows.iter().map(one).collect()
}

/// All of them that are kept.
pub(super) async fn all(db: &mut PgConnection) -> Result<Vec<Taken>, LedgerError> {
    let bodies: Vec<String> =
        sqlx::query_scalar(ALL).fetch_all(db).await.map_err(doing("reading censuses"))?;
    bodies.iter().map(|body| parse(body)).collect()
}

#[async_trait]
impl Censuses for PgLedger {
    async fn believed(&self, filter: &CensusFilter) -> Result<Page<Taken>, LedgerError> {
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let bodies: Vec<String> = sqlx::query_scalar(PAGE)
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(filter.scopes.as_deref().map(texts))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("listing censuses"))?;
        let items = bodies.iter().map(|body| parse(body)).collect::<Result<Vec<Taken>, LedgerError>>()?;
        Ok(census::page(items, limit))
    }

    async fn censuses(&self) -> Result<Vec<Taken>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading censuses"))?;
        all(&mut db).await
    }

    async fn latest_censuses(&self) -> Result<Vec<Latest>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading what came last of censuses"))?;
        latest(&mut db).await
    }
}

/// As an array of the store.
pub(super) fn texts(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
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
