//! Alarms in the database. The row of rounds is the lock of whoever raises or ends them; nobody who decides takes it.
use std::collections::HashMap;

use async_trait::async_trait;
use chrono::NaiveDate;
use sexton_model::alarm::{Acknowledged, Alarm, KEPT_MS, Phase, Telling};
use sexton_model::digest::{Ahead, KEPT_DAYS};
use sexton_model::{Actor, Scope, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{all_there, doing};
use super::{PgLedger, SNAPSHOT, find, pause, watched};
use crate::alarms::{self, Row};
use crate::keys::Note;
use crate::rules::text;
use crate::{
    ALARMS_PAGE, AlarmFilter, AlarmSeen, AlarmView, Alarms, Found, HeldJobs, LedgerError, Noted, Page,
    WatchedFrom, WatchedPage,
};

/// A clock that was set back must not keep everybody from looking.
const BEGIN: &str = "UPDATE alarm_rounds SET begun_at = c.now, noted_at = least(noted_at, c.now) \
     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) c \
     WHERE begun_at + $1 <= c.now OR begun_at - $1 > c.now RETURNING begun_at";
const LOCK: &str = "SELECT noted_at FROM alarm_rounds FOR UPDATE";
const NOTE: &str = "UPDATE alarm_rounds SET noted_at = $1";
const COLUMNS_OPEN: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE ended_at IS NULL ORDER BY id";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM alarms";
const RAISE: &str =
    "INSERT INTO alarms (id, key, owner, raised_at, seen_at, body) VALUES ($1, $2, $3, $4, $4, $5)";
const AGAIN: &str = "UPDATE alarms SET body = $2, seen_at = $3 WHERE id = $1";
const END: &str = "UPDATE alarms SET ended_at = $2 WHERE id = ANY($1) AND ended_at IS NULL";
/// The last one stays, so that numbers are not given again.
const FORGET: &str = "WITH old AS (DELETE FROM alarms WHERE ended_at IS NOT NULL AND id < (SELECT max(id) FROM alarms) \
     AND (ended_at < $1 OR id < (SELECT max(id) FROM alarms) - $2) RETURNING id) \
     DELETE FROM tellings t USING old WHERE t.what = 'alarm/' || old.id";
const ONE: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms WHERE id = $1";
const ONE_LOCKED: &str =
    "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms WHERE id = $1 FOR UPDATE";
const LIST: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE id < $1 AND ($2 OR ended_at IS NULL) ORDER BY id DESC LIMIT $3";
const TO_TELL: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE id > $1 AND (ended_at IS NULL OR ended_at >= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2) \
     ORDER BY id LIMIT $3";
const SEEN: &str = "UPDATE alarms SET seen_by = $2 WHERE id = $1";
const TELLINGS: &str = "SELECT what, route, tries, failures, tried_at, lease_until, phase, told_at, error FROM tellings \
     WHERE what = ANY($1) ORDER BY what, route";
const CLAIM: &str = "INSERT INTO tellings AS t (what, route, tries, failures, tried_at, lease_until) \
     SELECT $1, $2, $3 + 1, 0, c.now, c.now + $4 \
     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) c \
     ON CONFLICT (what, route) DO UPDATE SET tries = excluded.tries, tried_at = excluded.tried_at, \
     lease_until = excluded.lease_until \
     WHERE t.tries = $3 AND (t.lease_until IS NULL OR t.lease_until <= excluded.tried_at)";
const TOLD: &str = "UPDATE tellings SET lease_until = NULL, failures = 0, error = NULL, phase = $4, \
     told_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     WHERE what = $1 AND route = $2 AND tries = $3";
const FAILED: &str = "UPDATE tellings SET lease_until = NULL, failures = least(failures + 1, 1000), error = $4 \
     WHERE what = $1 AND route = $2 AND tries = $3";
const KEEP: &str = "INSERT INTO digests (day, made_at, body) \
     VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2) ON CONFLICT (day) DO NOTHING";
const FORGET_DIGESTS: &str = "DELETE FROM digests WHERE day < $1";
const FORGET_TELLINGS: &str = "DELETE FROM tellings WHERE what >= 'digest/' AND what < $1";
const DIGEST: &str = "SELECT body FROM digests WHERE day = $1";

#[async_trait]
impl Alarms for PgLedger {
    async fn watched(&self, from: Option<WatchedFrom>) -> Result<WatchedPage, LedgerError> {
        watched::watched(self, from).await
    }

    async fn ahead(&self, days: u8, scopes: Option<Vec<Scope>>) -> Result<Vec<Ahead>, LedgerError> {
        watched::ahead(self, days, scopes.as_deref()).await
    }

    async fn held(&self, scopes: Option<Vec<Scope>>) -> Result<HeldJobs, LedgerError> {
        watched::held(self, scopes.as_deref()).await
    }

    async fn begin_alarm_round(&self, every_ms: u64) -> Result<Option<Timestamp>, LedgerError> {
        let every_us = i64::try_from(every_ms.saturating_mul(1000)).unwrap_or(i64::MAX / 4);
        let begun: Option<i64> = sqlx::query_scalar(BEGIN)
            .bind(every_us)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("beginning to look for alarms"))?;
        Ok(begun.map(Timestamp))
    }

    async fn note_alarms(&self, found: Found) -> Result<Noted, LedgerError> {
        let part = || doing("noting alarms");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let noted_at: i64 = sqlx::query_scalar(LOCK).fetch_one(&mut *tx).await.map_err(part())?;
        if found.owner.is_empty() {
            if found.since.0 < noted_at {
                return Ok(Noted::default());
            }
            sqlx::query(NOTE).bind(found.since.0).execute(&mut *tx).await.map_err(part())?;
        }
        let now = find::clock(&mut tx).await?;
        let open = sqlx::query(COLUMNS_OPEN).fetch_all(&mut *tx).await.map_err(part())?;
        let open: Vec<Row> = open.iter().map(read).collect::<Result<_, _>>()?;
        let change = alarms::change(&open, &found, now);
        let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *tx).await.map_err(part())?;
        let mut noted = Noted::default();
        sqlx::query(END).bind(&change.end).bind(now.0).execute(&mut *tx).await.map_err(part())?;
        for (id, alarm) in &change.again {
            let done = sqlx::query(AGAIN).bind(id).bind(text(alarm)?).bind(now.0).execute(&mut *tx).await;
            all_there("alarms", done.map_err(part())?.rows_affected(), 1)?;
        }
        for (id, alarm) in (last + 1..).zip(change.raise) {
            raise(&mut tx, id, &alarm, (&found.owner, now)).await?;
            noted.raised.push(alarms::raised(id, alarm, now));
        }
        noted.ended = alarms::ended(open, &change.end, now);
        let kept = i64::try_from(KEPT_MS.saturating_mul(1000)).unwrap_or(i64::MAX);
        let forget = sqlx::query(FORGET).bind(now.0.saturating_sub(kept)).bind(alarms::ENDED_KEPT);
        forget.execute(&mut *tx).await.map_err(part())?;
        tx.commit().await.map_err(part())?;
        Ok(noted)
    }

    async fn alarms(&self, filter: AlarmFilter) -> Result<Page<AlarmView>, LedgerError> {
        let part = || doing("listing alarms");
        let limit = filter.limit.clamp(1, ALARMS_PAGE);
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(part())?;
        let rows = sqlx::query(LIST)
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(filter.ended)
            .bind(i64::from(limit) + 1)
            .fetch_all(&mut *tx)
            .await
            .map_err(part())?;
        let views = with_tellings(&mut tx, &rows).await?;
        tx.commit().await.map_err(part())?;
        Ok(alarms::alarm_page(views, limit))
    }

    async fn alarm(&self, id: i64) -> Result<Option<AlarmView>, LedgerError> {
        let part = || doing("reading an alarm");
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(part())?;
        let rows = sqlx::query(ONE).bind(id).fetch_all(&mut *tx).await.map_err(part())?;
        let views = with_tellings(&mut tx, &rows).await?;
        tx.commit().await.map_err(part())?;
        Ok(views.into_iter().next())
    }

    async fn alarms_to_tell(&self, after: i64) -> Result<Vec<AlarmView>, LedgerError> {
        let part = || doing("looking which alarms are to be told");
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(part())?;
        let ended_us = i64::try_from(alarms::ENDED_TOLD_MS.saturating_mul(1000)).unwrap_or(i64::MAX);
        let rows = sqlx::query(TO_TELL)
            .bind(after)
            .bind(ended_us)
            .bind(i64::from(ALARMS_PAGE))
            .fetch_all(&mut *tx)
            .await
            .map_err(part())?;
        let views = with_tellings(&mut tx, &rows).await?;
        tx.commit().await.map_err(part())?;
        Ok(views)
    }

    async fn acknowledge_alarm(&self, id: i64, by: &Actor, reason: &str) -> Result<AlarmSeen, LedgerError> {
        let part = || doing("acknowledging an alarm");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let row = sqlx::query(ONE_LOCKED).bind(id).fetch_optional(&mut *tx).await.map_err(part())?;
        let Some(row) = row.as_ref().map(read).transpose()? else { return Ok(AlarmSeen::Unknown) };
        let mut standing = row.standing;
        if standing.ended_at.is_some() {
            return Ok(AlarmSeen::Ended);
        }
        let at = find::clock(&mut tx).await?;
        let seen = Acknowledged { by: by.clone(), at, reason: reason.to_owned() };
        let done = sqlx::query(SEEN).bind(id).bind(text(&seen)?).execute(&mut *tx).await.map_err(part())?;
        all_there("alarms", done.rows_affected(), 1)?;
        pause::append_alone(&mut tx, &alarms::acknowledged(&standing, &seen)).await?;
        self.note(&mut tx, || Some(Note::AlarmSeen)).await?;
        tx.commit().await.map_err(part())?;
        standing.acknowledged = Some(seen);
        Ok(AlarmSeen::Done(Box::new(standing)))
    }

    async fn tellings(&self, what: &str) -> Result<Vec<(String, Telling)>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading what was told"))?;
        Ok(tellings(&mut db, &[what.to_owned()]).await?.remove(what).unwrap_or_default())
    }

    async fn claim_telling(
        &self,
        what: &str,
        route: &str,
        seen: i64,
        lease_ms: u64,
    ) -> Result<bool, LedgerError> {
        let lease_us = i64::try_from(lease_ms.saturating_mul(1000)).unwrap_or(i64::MAX / 4);
        let claim = sqlx::query(CLAIM).bind(what).bind(route).bind(seen).bind(lease_us);
        let done = claim.execute(&self.pool).await.map_err(doing("claiming to tell something"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn note_telling(
        &self,
        what: &str,
        route: &str,
        tries: i64,
        told: Result<Phase, String>,
    ) -> Result<bool, LedgerError> {
        let (sql, last) = match told {
            Ok(phase) => (TOLD, alarms::phase_text(phase).to_owned()),
            Err(error) => (FAILED, alarms::error_text(&error)),
        };
        let note = sqlx::query(sql).bind(what).bind(route).bind(tries).bind(last);
        let done = note.execute(&self.pool).await.map_err(doing("noting what was told"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn keep_digest(&self, day: NaiveDate, body: &str) -> Result<bool, LedgerError> {
        let part = || doing("keeping a digest");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let kept =
            sqlx::query(KEEP).bind(day.to_string()).bind(body).execute(&mut *tx).await.map_err(part())?;
        if let Some(oldest) = day.checked_sub_days(chrono::Days::new(KEPT_DAYS)) {
            let digests = sqlx::query(FORGET_DIGESTS).bind(oldest.to_string());
            digests.execute(&mut *tx).await.map_err(part())?;
            let tellings = sqlx::query(FORGET_TELLINGS).bind(alarms::telling_of_digest(oldest));
            tellings.execute(&mut *tx).await.map_err(part())?;
        }
        tx.commit().await.map_err(part())?;
        Ok(kept.rows_affected() == 1)
    }

    async fn digest(&self, day: NaiveDate) -> Result<Option<String>, LedgerError> {
        let query = sqlx::query_scalar(DIGEST).bind(day.to_string());
        query.fetch_optional(&self.pool).await.map_err(doing("reading a digest"))
    }
}

fn read(row: &PgRow) -> Result<Row, LedgerError> {
    let part = || doing("reading an alarm");
    let columns = (
        row.try_get(0).map_err(part())?,
        row.try_get(1).map_err(part())?,
        row.try_get(2).map_err(part())?,
        row.try_get(3).map_err(part())?,
        row.try_get(4).map_err(part())?,
    );
    Row::read(columns, row.try_get(5).map_err(part())?, row.try_get(6).map_err(part())?)
}

async fn raise(
    db: &mut PgConnection,
    id: i64,
    alarm: &Alarm,
    (owner, now): (&str, Timestamp),
) -> Result<(), LedgerError> {
    let raise = sqlx::query(RAISE).bind(id).bind(alarm.key()).bind(owner).bind(now.0).bind(text(alarm)?);
    raise.execute(db).await.map(drop).map_err(doing("raising an alarm"))
}

async fn with_tellings(db: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<AlarmView>, LedgerError> {
    let rows: Vec<Row> = rows.iter().map(read).collect::<Result<_, _>>()?;
    let whats: Vec<String> = rows.iter().map(|row| alarms::telling_of_alarm(row.standing.id)).collect();
    let mut told = tellings(db, &whats).await?;
    let view = |(row, what): (Row, String)| AlarmView {
        standing: row.standing,
        told: told.remove(&what).unwrap_or_default(),
    };
    Ok(rows.into_iter().zip(whats).map(view).collect())
}

async fn tellings(
    db: &mut PgConnection,
    whats: &[String],
) -> Result<HashMap<String, Vec<(String, Telling)>>, LedgerError> {
    let part = || doing("reading what was told");
    let mut found: HashMap<String, Vec<(String, Telling)>> = HashMap::new();
    for row in sqlx::query(TELLINGS).bind(whats).fetch_all(db).await.map_err(part())? {
        let what: String = row.try_get(0).map_err(part())?;
        let failures: i32 = row.try_get(3).map_err(part())?;
        let phase: Option<&str> = row.try_get(6).map_err(part())?;
        let telling = Telling {
            tries: row.try_get(2).map_err(part())?,
            failures: u16::try_from(failures).unwrap_or(u16::MAX),
            tried_at: Some(Timestamp(row.try_get(4).map_err(part())?)),
            lease_until: row.try_get::<Option<i64>, _>(5).map_err(part())?.map(Timestamp),
            told: alarms::told(&what, phase, row.try_get(7).map_err(part())?)?,
            error: row.try_get(8).map_err(part())?,
        };
        found.entry(what).or_default().push((row.try_get(1).map_err(part())?, telling));
    }
    Ok(found)
}
