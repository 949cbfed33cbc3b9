//! Alarms in the file.
use async_trait::async_trait;
use chrono::NaiveDate;
use sexton_model::alarm::{Acknowledged, KEPT_MS, Phase, Telling};
use sexton_model::digest::{Ahead, KEPT_DAYS};
use sexton_model::{Actor, Scope, Timestamp};

use super::connection::{Bind, Db, Row as Stored, change_one, execute, row, rows, store};
use super::pausing::link;
use super::writer::{Answer, Work};
use super::{SqliteLedger, mixed_up, watched};
use crate::alarms::{self, Row};
use crate::rules::text;
use crate::{
    ALARMS_PAGE, AlarmFilter, AlarmSeen, AlarmView, Alarms, Found, HeldJobs, LedgerError, Noted, Page,
    WatchedFrom, WatchedPage,
};

const OPEN: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE ended_at IS NULL ORDER BY id";
const ONE: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms WHERE id = ?";
const LIST: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE id < ?1 AND (?2 OR ended_at IS NULL) ORDER BY id DESC LIMIT ?3";
const TO_TELL: &str = "SELECT id, owner, raised_at, seen_at, ended_at, body, seen_by FROM alarms \
     WHERE id > ?1 AND (ended_at IS NULL OR ended_at >= ?2) ORDER BY id LIMIT ?3";
/// A clock that was set back must not keep everybody from looking.
const BEGIN: &str = "UPDATE alarm_rounds SET begun_at = ?1, noted_at = min(noted_at, ?1) \
     WHERE begun_at + ?2 <= ?1 OR begun_at - ?2 > ?1";
const RAISE: &str =
    "INSERT INTO alarms (id, key, owner, raised_at, seen_at, body) VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
/// The last one stays, so that numbers are not given again.
const FORGET: &str = "DELETE FROM alarms WHERE ended_at IS NOT NULL AND id < (SELECT max(id) FROM alarms) \
     AND (ended_at < ?1 OR id < (SELECT max(id) FROM alarms) - ?2)";
const FORGET_TOLD: &str = "DELETE FROM tellings WHERE what IN (SELECT 'alarm/' || id FROM alarms \
     WHERE ended_at IS NOT NULL AND id < (SELECT max(id) FROM alarms) \
     AND (ended_at < ?1 OR id < (SELECT max(id) FROM alarms) - ?2))";
const TELLINGS: &str = "SELECT t.route, t.tries, t.failures, t.tried_at, t.lease_until, t.phase, t.told_at, t.error \
     FROM tellings AS t WHERE t.what = ? ORDER BY t.route";
const CLAIM: &str = "INSERT INTO tellings (what, route, tries, failures, tried_at, lease_until) \
     VALUES (?1, ?2, ?3 + 1, 0, ?4, ?4 + ?5) \
     ON CONFLICT (what, route) DO UPDATE SET tries = excluded.tries, tried_at = excluded.tried_at, \
     lease_until = excluded.lease_until \
     WHERE tellings.tries = ?3 AND (tellings.lease_until IS NULL OR tellings.lease_until <= ?4)";
const TOLD: &str = "UPDATE tellings SET lease_until = NULL, failures = 0, error = NULL, phase = ?4, told_at = ?5 \
     WHERE what = ?1 AND route = ?2 AND tries = ?3";
const FAILED: &str = "UPDATE tellings SET lease_until = NULL, failures = min(failures + 1, 1000), error = ?4 \
     WHERE what = ?1 AND route = ?2 AND tries = ?3";

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Begin(u64),
    Note(Found),
    Acknowledge(i64, Actor, String),
    Claim { what: String, route: String, seen: i64, lease_ms: u64 },
    Told { what: String, route: String, tries: i64, told: Result<Phase, String> },
    Digest(NaiveDate, String),
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Done {
    Begun(Option<Timestamp>),
    Noted(Noted),
    Acknowledged(AlarmSeen),
    /// Whether it was done.
    So(bool),
}

/// Do it, at `now`.
pub(super) fn carry_out(db: &Db, now: Timestamp, ask: &Ask) -> Result<Done, LedgerError> {
    Ok(match ask {
        Ask::Begin(every_ms) => Done::Begun(begin(db, now, *every_ms)?),
        Ask::Note(found) => Done::Noted(note(db, now, found)?),
        Ask::Acknowledge(id, by, reason) => Done::Acknowledged(acknowledge(db, now, (*id, by, reason))?),
        Ask::Claim { what, route, seen, lease_ms } => {
            let mut bind = Bind::default();
            bind.add(what.clone()).add(route.clone()).add(*seen).add(now.0).add(micros(*lease_ms));
            Done::So(execute(db, "claiming to tell something", CLAIM, bind)? == 1)
        }
        Ask::Told { what, route, tries, told } => {
            let mut bind = Bind::default();
            bind.add(what.clone()).add(route.clone()).add(*tries);
            let sql = match told {
                Ok(phase) => {
                    bind.add(alarms::phase_text(*phase).to_owned()).add(now.0);
                    TOLD
                }
                Err(error) => {
                    bind.add(alarms::error_text(error));
                    FAILED
                }
            };
            Done::So(execute(db, "noting what was told", sql, bind)? == 1)
        }
        Ask::Digest(day, body) => Done::So(keep(db, now, *day, body)?),
    })
}

fn micros(ms: u64) -> i64 {
    i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX / 4)
}

fn begin(db: &Db, now: Timestamp, every_ms: u64) -> Result<Option<Timestamp>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(now.0).add(micros(every_ms));
    let begun = execute(db, "beginning to look for alarms", BEGIN, bind)? == 1;
    Ok(begun.then_some(now))
}

fn note(db: &Db, now: Timestamp, found: &Found) -> Result<Noted, LedgerError> {
    let doing = "noting alarms";
    if found.owner.is_empty() {
        let noted: i64 = row(db, doing, "SELECT noted_at FROM alarm_rounds", Bind::default())?
            .try_get(0)
            .map_err(store(doing))?;
        if found.since.0 < noted {
            return Ok(Noted::default());
        }
        let mut bind = Bind::default();
        bind.add(found.since.0);
        change_one(db, (doing, "alarm_rounds"), "UPDATE alarm_rounds SET noted_at = ?", bind)?;
    }
    let open: Vec<Row> =
        rows(db, doing, OPEN, Bind::default())?.iter().map(read).collect::<Result<_, _>>()?;
    let change = alarms::change(&open, found, now);
    let last: i64 = row(db, doing, "SELECT coalesce(max(id), 0) FROM alarms", Bind::default())?
        .try_get(0)
        .map_err(store(doing))?;
    for id in &change.end {
        let mut bind = Bind::default();
        bind.add(now.0).add(*id);
        let sql = "UPDATE alarms SET ended_at = ? WHERE id = ? AND ended_at IS NULL";
        change_one(db, (doing, "alarms"), sql, bind)?;
    }
    for (id, alarm) in &change.again {
        let mut bind = Bind::default();
        bind.add(text(alarm)?).add(now.0).add(*id);
        change_one(db, (doing, "alarms"), "UPDATE alarms SET body = ?, seen_at = ? WHERE id = ?", bind)?;
    }
    let mut noted = Noted::default();
    for (id, alarm) in (last + 1..).zip(change.raise) {
        let mut bind = Bind::default();
        bind.add(id).add(alarm.key()).add(found.owner.clone()).add(now.0).add(text(&alarm)?);
        change_one(db, (doing, "alarms"), RAISE, bind)?;
        noted.raised.push(alarms::raised(id, alarm, now));
    }
    noted.ended = alarms::ended(open, &change.end, now);
    for sql in [FORGET_TOLD, FORGET] {
        let mut bind = Bind::default();
        bind.add(now.0.saturating_sub(micros(KEPT_MS))).add(alarms::ENDED_KEPT);
        execute(db, doing, sql, bind)?;
    }
    Ok(noted)
}

fn acknowledge(
    db: &Db,
    now: Timestamp,
    (id, by, reason): (i64, &Actor, &str),
) -> Result<AlarmSeen, LedgerError> {
    let doing = "acknowledging an alarm";
    let mut bind = Bind::default();
    bind.add(id);
    let found = rows(db, doing, ONE, bind)?;
    let Some(row) = found.first().map(read).transpose()? else { return Ok(AlarmSeen::Unknown) };
    let mut standing = row.standing;
    if standing.ended_at.is_some() {
        return Ok(AlarmSeen::Ended);
    }
    let seen = Acknowledged { by: by.clone(), at: now, reason: reason.to_owned() };
    let mut bind = Bind::default();
    bind.add(text(&seen)?).add(id);
    change_one(db, (doing, "alarms"), "UPDATE alarms SET seen_by = ? WHERE id = ?", bind)?;
    link(db, &alarms::acknowledged(&standing, &seen))?;
    standing.acknowledged = Some(seen);
    Ok(AlarmSeen::Done(Box::new(standing)))
}

fn keep(db: &Db, now: Timestamp, day: NaiveDate, body: &str) -> Result<bool, LedgerError> {
    let doing = "keeping a digest";
    let mut bind = Bind::default();
    bind.add(day.to_string()).add(now.0).add(body.to_owned());
    let sql = "INSERT INTO digests (day, made_at, body) VALUES (?, ?, ?) ON CONFLICT (day) DO NOTHING";
    let kept = execute(db, doing, sql, bind)? == 1;
    if let Some(oldest) = day.checked_sub_days(chrono::Days::new(KEPT_DAYS)) {
        let mut bind = Bind::default();
        bind.add(oldest.to_string());
        execute(db, doing, "DELETE FROM digests WHERE day < ?", bind)?;
        let mut bind = Bind::default();
        bind.add(alarms::telling_of_digest(oldest));
        execute(db, doing, "DELETE FROM tellings WHERE what >= 'digest/' AND what < ?", bind)?;
    }
    Ok(kept)
}

fn read(row: &Stored) -> Result<Row, LedgerError> {
    let doing = "reading an alarm";
    let columns = (
        row.try_get(0).map_err(store(doing))?,
        row.try_get(1).map_err(store(doing))?,
        row.try_get(2).map_err(store(doing))?,
        row.try_get(3).map_err(store(doing))?,
        row.try_get(4).map_err(store(doing))?,
    );
    Row::read(columns, row.try_get(5).map_err(store(doing))?, row.try_get(6).map_err(store(doing))?)
}

fn views(db: &Db, rows: &[Stored]) -> Result<Vec<AlarmView>, LedgerError> {
    let view = |row: &Stored| {
        let standing = read(row)?.standing;
        let told = tellings(db, &alarms::telling_of_alarm(standing.id))?;
        Ok(AlarmView { standing, told })
    };
    rows.iter().map(view).collect()
}

fn tellings(db: &Db, what: &str) -> Result<Vec<(String, Telling)>, LedgerError> {
    let doing = "reading what was told";
    let mut bind = Bind::default();
    bind.add(what.to_owned());
    let one = |row: &Stored| {
        let phase: Option<&str> = row.try_get(5).map_err(store(doing))?;
        let telling = Telling {
            tries: row.try_get(1).map_err(store(doing))?,
            failures: row.try_get(2).map_err(store(doing))?,
            tried_at: Some(Timestamp(row.try_get(3).map_err(store(doing))?)),
            lease_until: row.try_get::<Option<i64>>(4).map_err(store(doing))?.map(Timestamp),
            told: alarms::told(what, phase, row.try_get(6).map_err(store(doing))?)?,
            error: row.try_get(7).map_err(store(doing))?,
        };
        Ok((row.try_get(0).map_err(store(doing))?, telling))
    };
    rows(db, doing, TELLINGS, bind)?.iter().map(one).collect()
}

impl SqliteLedger {
    async fn whether(&self, ask: Ask) -> Result<bool, LedgerError> {
        match self.ask(Work::Alarms(ask)).await? {
            Answer::Alarms(Done::So(so)) => Ok(so),
            other => Err(mixed_up(&other)),
        }
    }
}

#[async_trait]
impl Alarms for SqliteLedger {
    async fn watched(&self, from: Option<WatchedFrom>) -> Result<WatchedPage, LedgerError> {
        self.reads.read(move |db| watched::watched(db, from)).await
    }

    async fn ahead(&self, days: u8, scopes: Option<Vec<Scope>>) -> Result<Vec<Ahead>, LedgerError> {
        let (now, day) = (self.clock.now(), self.setting.day);
        self.reads.read(move |db| watched::ahead(db, now, (day, days), scopes.as_deref())).await
    }

    async fn held(&self, scopes: Option<Vec<Scope>>) -> Result<HeldJobs, LedgerError> {
        self.reads.read(move |db| watched::held(db, scopes.as_deref())).await
    }

    async fn begin_alarm_round(&self, every_ms: u64) -> Result<Option<Timestamp>, LedgerError> {
        match self.ask(Work::Alarms(Ask::Begin(every_ms))).await? {
            Answer::Alarms(Done::Begun(at)) => Ok(at),
            other => Err(mixed_up(&other)),
        }
    }

    async fn note_alarms(&self, found: Found) -> Result<Noted, LedgerError> {
        match self.ask(Work::Alarms(Ask::Note(found))).await? {
            Answer::Alarms(Done::Noted(noted)) => Ok(noted),
            other => Err(mixed_up(&other)),
        }
    }

    async fn alarms(&self, filter: AlarmFilter) -> Result<Page<AlarmView>, LedgerError> {
        let limit = filter.limit.clamp(1, ALARMS_PAGE);
        let mut bind = Bind::default();
        bind.add(filter.before.unwrap_or(i64::MAX)).add(filter.ended).add(i64::from(limit) + 1);
        let read = move |db: &Db| views(db, &rows(db, "listing alarms", LIST, bind)?);
        Ok(alarms::alarm_page(self.reads.read(read).await?, limit))
    }

    async fn alarm(&self, id: i64) -> Result<Option<AlarmView>, LedgerError> {
        let mut bind = Bind::default();
        bind.add(id);
        let read = move |db: &Db| views(db, &rows(db, "reading an alarm", ONE, bind)?);
        Ok(self.reads.read(read).await?.into_iter().next())
    }

    async fn alarms_to_tell(&self, after: i64) -> Result<Vec<AlarmView>, LedgerError> {
        let mut bind = Bind::default();
        bind.add(after).add(self.clock.now().0.saturating_sub(micros(alarms::ENDED_TOLD_MS)));
        bind.add(i64::from(ALARMS_PAGE));
        let doing = "looking which alarms are to be told";
        self.reads.read(move |db| views(db, &rows(db, doing, TO_TELL, bind)?)).await
    }

    async fn acknowledge_alarm(&self, id: i64, by: &Actor, reason: &str) -> Result<AlarmSeen, LedgerError> {
        match self.ask(Work::Alarms(Ask::Acknowledge(id, by.clone(), reason.to_owned()))).await? {
            Answer::Alarms(Done::Acknowledged(seen)) => Ok(seen),
            other => Err(mixed_up(&other)),
        }
    }

    async fn tellings(&self, what: &str) -> Result<Vec<(String, Telling)>, LedgerError> {
        let what = what.to_owned();
        self.reads.read(move |db| tellings(db, &what)).await
    }

    async fn claim_telling(
        &self,
        what: &str,
        route: &str,
        seen: i64,
        lease_ms: u64,
    ) -> Result<bool, LedgerError> {
        let (what, route) = (what.to_owned(), route.to_owned());
        self.whether(Ask::Claim { what, route, seen, lease_ms }).await
    }

    async fn note_telling(
        &self,
        what: &str,
        route: &str,
        tries: i64,
        told: Result<Phase, String>,
    ) -> Result<bool, LedgerError> {
        let (what, route) = (what.to_owned(), route.to_owned());
        self.whether(Ask::Told { what, route, tries, told }).await
    }

    async fn keep_digest(&self, day: NaiveDate, body: &str) -> Result<bool, LedgerError> {
        self.whether(Ask::Digest(day, body.to_owned())).await
    }

    async fn digest(&self, day: NaiveDate) -> Result<Option<String>, LedgerError> {
        let doing = "reading a digest";
        let mut bind = Bind::default();
        bind.add(day.to_string());
        let read = move |db: &Db| {
            let found = rows(db, doing, "SELECT body FROM digests WHERE day = ?", bind)?;
            found.first().map(|row| row.try_get(0).map_err(store(doing))).transpose()
        };
        self.reads.read(read).await
    }
}
