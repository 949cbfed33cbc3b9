//! Censuses: believed or refused.
use std::collections::BTreeMap;

use async_trait::async_trait;
use sexton_model::belts::PauseSelector;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::{AsRegistered, Census, Latest, Population, Refusal, Taken};
use sexton_model::time::Day;
use sexton_model::{Actor, Kind, ResourceId, Scope, Timestamp};

use super::connection::{Bind, Db, Row, change_one, execute, row, rows, store};
use super::memory::{Memory, Staged, pauses};
use super::pausing::{self, link};
use super::run::Setting;
use super::{SqliteLedger, codes, strangers};
use crate::census::{self, Beside, CensusFilter, Censuses, Counted, Decided, NOTHING_GONE, PAGE_MAX};
use crate::rules::text;
use crate::{LedgerError, NotDone, Page};

const DOING: &str = "taking a census";
const LISTING: &str = "listing censuses";

/// Believe a census, or say what it lacks.
pub(super) fn take(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, census, by): (&Setting, &Census, &Actor),
) -> Result<Result<Counted, NotDone>, LedgerError> {
    let now = staged.now;
    let last: i64 = row(db, DOING, "SELECT coalesce(max(id), 0) FROM censuses", Bind::default())?
        .try_get(0)
        .map_err(store(DOING))?;
    let day_before = census::day_before(now, setting.day);
    let beside = Beside {
        policy: &setting.policy.get(),
        day: setting.day,
        now,
        last: last_of(db, census)?,
        of_day: of_day(db, census, day_before)?,
        of_kind: of_kind(db, &census.kind, day_before)?,
        refused: refused_since(db, &census.kind, day_before)?,
        registered: registered(db, &census.kind, &census.scope)?,
        population: population(db, setting, now)?,
        pauses: pauses(db)?,
    };
    let Decided { judged, pauses: to_pause, missing } = beside.decide(last + 1, census);
    match &judged {
        Ok(taken) => {
            keep(db, taken, (by, setting.day))?;
            strangers::keep(db, taken, census.strangers(&beside.registered))?;
        }
        Err(why) => {
            let of = (&census.kind, &census.scope);
            let before = latest_of(db, of)?;
            let refusal = census::refusal((census, by), (why, missing), now).after(before.as_ref());
            if why.stands() {
                note_refused(db, of, &refusal)?;
            }
            link(db, &census::refused(of, &refusal))?;
        }
    }
    let paused = place(db, memory, staged, to_pause.scope)?;
    let paused_everywhere = place(db, memory, staged, to_pause.everywhere)?;
    Ok(judged.map(|taken| Counted { taken, paused, paused_everywhere }).map_err(NotDone::from))
}

/// One of the pauses that a census leads to.
fn place(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    to_pause: Option<(PauseSelector, String)>,
) -> Result<Option<i64>, LedgerError> {
    let Some((covers, reason)) = to_pause else { return Ok(None) };
    let by = census::coordinator()?;
    Ok(Some(pausing::pause(db, memory, staged, (&covers, &by, &reason))?.pause.id))
}

/// The same of one that was made of this listing, which is put away. Nothing if somebody else has done that.
pub(super) fn take_listed(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, listing, census, by): (&Setting, i64, &Census, &Actor),
) -> Result<Option<Result<Counted, NotDone>>, LedgerError> {
    match execute(db, DOING, "DELETE FROM listings WHERE id = ?", Bind::of([listing]))? {
        0 => Ok(None),
        _ => take(db, memory, staged, (setting, census, by)).map(Some),
    }
}

/// One that is believed.
fn keep(db: &Db, taken: &Taken, (by, day): (&Actor, Day)) -> Result<(), LedgerError> {
    let now = taken.accepted_at;
    let mut bind = Bind::default();
    bind.add(taken.census).add(taken.kind.to_string()).add(taken.scope.to_string());
    bind.add(now.0).add(text(taken)?);
    let sql = "INSERT INTO censuses (id, kind, scope, accepted_at, body) VALUES (?, ?, ?, ?, ?)";
    change_one(db, (DOING, "censuses"), sql, bind)?;
    let mut bind = Bind::default();
    bind.add(census::kept_from(now, day).0);
    let sql = "DELETE FROM censuses WHERE accepted_at < ?1 AND EXISTS (SELECT 1 FROM censuses AS n \
         WHERE n.kind = censuses.kind AND n.scope = censuses.scope AND n.id > censuses.id AND n.accepted_at < ?1)";
    execute(db, DOING, sql, bind)?;
    note_believed(db, taken)?;
    link(db, &census::event(taken, by)?)
}

fn note_believed(db: &Db, taken: &Taken) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(taken.kind.to_string()).add(taken.scope.to_string()).add(taken.accepted_at.0);
    let sql = "INSERT INTO latest_censuses (kind, scope, believed_at) VALUES (?, ?, ?) \
         ON CONFLICT (kind, scope) DO UPDATE SET believed_at = excluded.believed_at";
    change_one(db, (DOING, "latest_censuses"), sql, bind)
}

/// Of places where none was ever believed only the newest are kept: anything may be handed in.
fn note_refused(db: &Db, (kind, scope): (&Kind, &Scope), refusal: &Refusal) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(scope.to_string()).add(refusal.at.0).add(text(refusal)?);
    let sql = "INSERT INTO latest_censuses (kind, scope, refused_at, refused) VALUES (?, ?, ?, ?) \
         ON CONFLICT (kind, scope) DO UPDATE SET refused_at = excluded.refused_at, refused = excluded.refused";
    change_one(db, (DOING, "latest_censuses"), sql, bind)?;
    let mut bind = Bind::default();
    bind.add(census::NEVER_BELIEVED_MAX);
    let sql = "DELETE FROM latest_censuses WHERE believed_at IS NULL AND (kind, scope) NOT IN \
         (SELECT kind, scope FROM latest_censuses WHERE believed_at IS NULL ORDER BY refused_at DESC LIMIT ?)";
    execute(db, DOING, sql, bind).map(drop)
}

/// That one was due and was not taken, unless something has come since it was found to be due. Whether it is noted.
pub(super) fn not_taken(db: &Db, now: Timestamp, attempt: &Attempt) -> Result<bool, LedgerError> {
    let of = (&attempt.kind, &attempt.scope);
    let latest = latest_of(db, of)?;
    if Seen::of(latest.as_ref()) != attempt.seen {
        return Ok(false);
    }
    let refusal = attempt.refusal(latest.as_ref(), now);
    note_refused(db, of, &refusal)?;
    link(db, &census::refused(of, &attempt.noted(now)))?;
    Ok(true)
}

/// What came last of each kind and scope.
pub(super) fn latest(db: &Db) -> Result<Vec<Latest>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(census::LATEST_MAX);
    let sql = "SELECT kind, scope, believed_at, refused FROM latest_censuses ORDER BY kind, scope LIMIT ?";
    rows(db, DOING, sql, bind)?.iter().map(one).collect()
}

/// What came last of this kind and scope.
pub(super) fn latest_of(db: &Db, (kind, scope): (&Kind, &Scope)) -> Result<Option<Latest>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(scope.to_string());
    let sql = "SELECT kind, scope, believed_at, refused FROM latest_censuses WHERE kind = ? AND scope = ?";
    rows(db, DOING, sql, bind)?.first().map(one).transpose()
}

fn one(row: &Row) -> Result<Latest, LedgerError> {
    let kind: &str = row.try_get(0).map_err(store(DOING))?;
    let scope: &str = row.try_get(1).map_err(store(DOING))?;
    let believed_at: Option<i64> = row.try_get(2).map_err(store(DOING))?;
    let refused: Option<&str> = row.try_get(3).map_err(store(DOING))?;
    Ok(Latest {
        kind: kind.parse().map_err(|_| codes::corrupt("latest_censuses", kind, "not a kind"))?,
        scope: scope.parse().map_err(|_| codes::corrupt("latest_censuses", scope, "not a scope"))?,
        believed_at: believed_at.map(Timestamp),
        refused: refused.map(|body| codes::body("latest_censuses", scope, body)).transpose()?,
    })
}

fn last_of(db: &Db, census: &Census) -> Result<Option<Taken>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(census.kind.to_string()).add(census.scope.to_string());
    let sql = "SELECT id, body FROM censuses WHERE kind = ? AND scope = ? ORDER BY id DESC LIMIT 1";
    rows(db, DOING, sql, bind)?.first().map(taken).transpose()
}

/// Those that were believed since then, ascending.
fn of_day(db: &Db, census: &Census, from: Timestamp) -> Result<Vec<Taken>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(census.kind.to_string()).add(census.scope.to_string()).add(from.0).add(census::OF_DAY_MAX);
    let sql = "SELECT id, body FROM censuses WHERE kind = ? AND scope = ? AND accepted_at > ? ORDER BY id DESC LIMIT ?";
    let mut found = rows(db, DOING, sql, bind)?.iter().map(taken).collect::<Result<Vec<_>, _>>()?;
    found.reverse();
    Ok(found)
}

/// The same of all scopes, of those that found something gone. They are sought by their numbers, which ascend as their moments do:
/// of a kind there may be very many that are older.
fn of_kind(db: &Db, kind: &Kind, from: Timestamp) -> Result<Vec<Taken>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(from.0).add(NOTHING_GONE.to_owned()).add(census::OF_DAY_MAX);
    let sql = "SELECT id, body FROM censuses \
         WHERE id > coalesce((SELECT id FROM censuses WHERE accepted_at <= ?2 ORDER BY id DESC LIMIT 1), 0) \
           AND +kind = ?1 AND accepted_at > ?2 AND instr(body, ?3) = 0 ORDER BY id DESC LIMIT ?4";
    let mut found = rows(db, DOING, sql, bind)?.iter().map(taken).collect::<Result<Vec<_>, _>>()?;
    found.reverse();
    Ok(found)
}

/// What came last of a kind where one was refused since then.
fn refused_since(db: &Db, kind: &Kind, from: Timestamp) -> Result<Vec<Latest>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(from.0).add(census::LATEST_MAX);
    let sql = "SELECT kind, scope, believed_at, refused FROM latest_censuses \
         WHERE kind = ? AND refused_at > ? ORDER BY scope LIMIT ?";
    rows(db, DOING, sql, bind)?.iter().map(one).collect()
}

pub(super) fn taken(row: &Row) -> Result<Taken, LedgerError> {
    let id: i64 = row.try_get(0).map_err(store(DOING))?;
    codes::body("censuses", id, row.try_get(1).map_err(store(DOING))?)
}

/// With each its scope, and whether the hard job of its live record has begun: it is neither scheduled nor held, nor was it
/// cancelled before.
fn registered(
    db: &Db,
    kind: &Kind,
    scope: &Scope,
) -> Result<BTreeMap<ResourceId, AsRegistered>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(scope.to_string());
    let sql = "SELECT r.id, EXISTS (SELECT 1 FROM deletions AS d CROSS JOIN jobs AS j ON j.id = d.id * 8 + 2 \
           WHERE d.resource = r.id AND d.live AND j.state NOT IN (0, 1, 8)), r.scope \
         FROM resources AS r WHERE r.kind = ?1 AND r.presence = 0 \
           AND (r.scope = ?2 OR substr(r.scope, 1, length(?2) + 1) = ?2 || '/')";
    let one = |row: &Row| {
        let id: &str = row.try_get(0).map_err(store(DOING))?;
        let id = id.parse().map_err(|_| codes::corrupt("resources", id, "not a resource"))?;
        let scope: &str = row.try_get(2).map_err(store(DOING))?;
        let scope = scope.parse().map_err(|_| codes::corrupt("resources", scope, "not a scope"))?;
        Ok((id, AsRegistered { scope, going: row.try_get(1).map_err(store(DOING))? }))
    };
    rows(db, DOING, sql, bind)?.iter().map(one).collect()
}

/// All of them that are kept.
pub(super) fn all(db: &Db) -> Result<Vec<Taken>, LedgerError> {
    let sql = "SELECT id, body FROM censuses ORDER BY id";
    rows(db, DOING, sql, Bind::default())?.iter().map(taken).collect()
}

#[async_trait]
impl Censuses for SqliteLedger {
    async fn believed(&self, filter: &CensusFilter) -> Result<Page<Taken>, LedgerError> {
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let mut bind = Bind::default();
        bind.add(filter.before.unwrap_or(i64::MAX))
            .add(filter.scopes.as_ref().map(text).transpose()?)
            .add(i64::from(limit) + 1);
        let sql = "SELECT c.id, c.body FROM censuses AS c WHERE c.id < ?1 \
               AND (?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(?2) AS n WHERE c.scope = n.value \
                 OR substr(c.scope, 1, length(n.value) + 1) = n.value || '/')) \
             ORDER BY c.id DESC LIMIT ?3";
        let read = move |db: &Db| {
            rows(db, LISTING, sql, bind)?.iter().map(taken).collect::<Result<Vec<Taken>, LedgerError>>()
        };
        Ok(census::page(self.reads.read(read).await?, limit))
    }

    async fn censuses(&self) -> Result<Vec<Taken>, LedgerError> {
        self.reads.read(all).await
    }

    async fn latest_censuses(&self) -> Result<Vec<Latest>, LedgerError> {
        self.reads.read(latest).await
    }
}

/// How many there are; nothing is read if no budget asks for it.
pub(super) fn population(db: &Db, setting: &Setting, now: Timestamp) -> Result<Population, LedgerError> {
    let policy = setting.policy.get();
    let budgets = policy.budgets(setting.day);
    if !budgets.by_percent() {
        return Ok(Population::default());
    }
    Ok(Population::frozen(all(db)?, budgets.counted_from(now, setting.day)))
}
