//! The alarms' side of the job table: finding what may be one, keeping those that hold, and who tells them.
//!
//! What follows from what is found is decided by `sexton_model::alarm`; here it is written so that any number of
//! coordinators raise an alarm once, and tell it once by each route. *At least* once: whoever has it to tell has a lease,
//! and if it dies, somebody else tells it when that is over.
use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::json;
use sexton_model::alarm::telling::Open;
use sexton_model::alarm::{Acknowledged, Alarm, Change, Phase, Standing, Telling, compare};
use sexton_model::deletion::Deletion;
use sexton_model::digest::{Ahead, HeldBy, Still};
use sexton_model::job::StateName;
use sexton_model::{Actor, DeletionId, Scope, Timestamp};

use crate::row::code;
use crate::rules::LedgerEvent;
use crate::{LedgerError, Page};

/// Live records that one call looks at.
pub const WATCHED_MAX: usize = 256;
/// Restores that are looked at in one round, those of the longest cancel: after an outage there are as many as were cancelled, and whoever
/// is called is told of them together.
pub(crate) const RESTORES_WATCHED: i64 = 1000;
/// Held jobs that one call reads: the longest ones.
pub const HELD_READ: usize = 1000;
/// Most groups that jobs ahead, or held ones, are counted in.
pub(crate) const GROUPS_MAX: i64 = 20_000;
/// Most alarms of one page.
pub const ALARMS_PAGE: u32 = 1000;
/// Ended alarms are looked at for so long, in milliseconds, lest their end was not told: a week.
pub(crate) const ENDED_TOLD_MS: u64 = 7 * 24 * 3_600_000;
/// Ended alarms that are kept, at most.
pub(crate) const ENDED_KEPT: i64 = 50_000;
/// Longest error of a route that is kept, in characters.
const ERROR_MAX: usize = 300;

/// A live record that has a date by which it must be gone, is of a credential, is parked, comes back, or of which not everybody could be
/// told.
#[derive(Debug, Clone)]
pub struct WatchedRecord {
    /// All of it.
    pub deletion: Deletion,
    /// Since when its job is parked, if it is.
    pub parked_at: Option<Timestamp>,
}

/// Some of them.
#[derive(Debug, Clone, Default)]
pub struct WatchedPage {
    /// Ascending.
    pub records: Vec<WatchedRecord>,
    /// Give this for the next ones; none if these were the last.
    pub next: Option<WatchedFrom>,
}

/// Where one goes on to look at what may alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFrom {
    /// Behind this one.
    pub after: DeletionId,
    /// What comes back, behind it. Looked for with the first page alone: whoever looks for those of the longest cancel has to go
    /// through all that comes back, and after an outage that is as much as was cancelled.
    pub restoring: Vec<DeletionId>,
}

/// Jobs that are held: before a stage, or between two steps by a belt that stopped them there.
#[derive(Debug, Clone, Default)]
pub struct HeldJobs {
    /// The longest of them, at most [`HELD_READ`]; those of other scopes than were asked for take nobody's place.
    pub longest: Vec<Still>,
    /// All of them, by scope and belt.
    pub by: Vec<HeldBy>,
}

/// What somebody finds to hold.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The process that says it of itself; empty: what is seen in the job table.
    pub owner: String,
    /// Since when it has looked: what [`Alarms::begin_alarm_round`] said; for itself, now.
    pub since: Timestamp,
    /// What holds.
    pub hold: Vec<Alarm>,
    /// Alarms, by their numbers, that hold no more, also if a process that is gone has said them.
    pub over: BTreeSet<i64>,
}

/// What has changed because of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// Alarms that were raised.
    pub raised: Vec<Standing>,
    /// Alarms that ended.
    pub ended: Vec<Standing>,
}

/// An alarm, and what was told of it by which route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmView {
    /// The alarm.
    pub standing: Standing,
    /// What was told, by route.
    pub told: Vec<(String, Telling)>,
}

/// Which alarms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlarmFilter {
    /// Those that have ended, too.
    pub ended: bool,
    /// Before this number.
    pub before: Option<i64>,
    /// At most so many, 1 to [`ALARMS_PAGE`].
    pub limit: u32,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmSeen {
    /// It is told no more for a while.
    Done(Box<Standing>),
    /// It has ended already; nothing is written.
    Ended,
    /// There is none of that number.
    Unknown,
}

/// See the module.
#[async_trait]
pub trait Alarms: Send + Sync + 'static {
    /// Live records that may alarm, ascending: at most [`WATCHED_MAX`], the first ones, or those from where a page said. Of those that
    /// come back, the thousand that were cancelled first, as the first page found them.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn watched(&self, from: Option<WatchedFrom>) -> Result<WatchedPage, LedgerError>;

    /// Jobs of stages that are due within so many policy days, or under way, counted by scope, stage, plan and day: of these scopes
    /// and those below them, or of all. Looks at every job that is not over: for a digest. At most twenty thousand counts, the
    /// first ones by scope; those of other scopes take nobody's place.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn ahead(&self, days: u8, scopes: Option<Vec<Scope>>) -> Result<Vec<Ahead>, LedgerError>;

    /// Jobs that are held, also between two steps: of these scopes and those below them, or of all.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn held(&self, scopes: Option<Vec<Scope>>) -> Result<HeldJobs, LedgerError>;

    /// Begin to look for alarms, unless somebody has begun within `every_ms`: the moment, by the store's clock.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn begin_alarm_round(&self, every_ms: u64) -> Result<Option<Timestamp>, LedgerError>;

    /// Note what holds: raise what is new, end what does not hold any more. Nothing happens if somebody else has looked
    /// later, and noted that.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn note_alarms(&self, found: Found) -> Result<Noted, LedgerError>;

    /// Alarms, newest first, with what was told of them.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn alarms(&self, filter: AlarmFilter) -> Result<Page<AlarmView>, LedgerError>;

    /// One alarm.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn alarm(&self, id: i64) -> Result<Option<AlarmView>, LedgerError>;

    /// Alarms of which something may have to be told, behind this number, ascending: those that are open, and those that
    /// ended within a week. At most [`ALARMS_PAGE`].
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn alarms_to_tell(&self, after: i64) -> Result<Vec<AlarmView>, LedgerError>;

    /// Somebody has seen an alarm: one event of the ledger's own chain.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn acknowledge_alarm(&self, id: i64, by: &Actor, reason: &str) -> Result<AlarmSeen, LedgerError>;

    /// What was told of something.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn tellings(&self, what: &str) -> Result<Vec<(String, Telling)>, LedgerError>;

    /// Take it upon oneself to tell something by a route, if nobody has done so since `seen`: the number of tries there
    /// was then. Whoever gets `true` has `lease_ms` to say what became of it.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn claim_telling(
        &self,
        what: &str,
        route: &str,
        seen: i64,
        lease_ms: u64,
    ) -> Result<bool, LedgerError>;

    /// Say what became of it: what was told, or why that failed. `tries` is one more than was seen. `false` if somebody
    /// else has it meanwhile.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn note_telling(
        &self,
        what: &str,
        route: &str,
        tries: i64,
        told: Result<Phase, String>,
    ) -> Result<bool, LedgerError>;

    /// Keep the digest of a day, unless there is one; those that are older than some weeks are forgotten. `false` if there
    /// was one.
    ///
    /// # Errors
    /// If the store did not do it.
    async fn keep_digest(&self, day: chrono::NaiveDate, body: &str) -> Result<bool, LedgerError>;

    /// The digest of a day, as it was kept.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn digest(&self, day: chrono::NaiveDate) -> Result<Option<String>, LedgerError>;
}

/// What a telling of an alarm is kept under.
pub fn telling_of_alarm(id: i64) -> String {
    format!("alarm/{id}")
}

/// What a telling of a digest is kept under.
pub fn telling_of_digest(day: chrono::NaiveDate) -> String {
    format!("digest/{day}")
}

/// A row of the table of alarms.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) standing: Standing,
    pub(crate) owner: String,
    pub(crate) seen_at: Timestamp,
}

impl Row {
    pub(crate) fn read(
        (id, owner, raised_at, seen_at, ended_at): (i64, String, i64, i64, Option<i64>),
        body: &str,
        seen_by: Option<&str>,
    ) -> Result<Self, LedgerError> {
        let corrupt = |e: serde_json::Error| LedgerError::Corrupt {
            table: "alarms",
            key: id.to_string(),
            reason: e.to_string(),
        };
        let alarm: Alarm = serde_json::from_str(body).map_err(corrupt)?;
        let acknowledged: Option<Acknowledged> =
            seen_by.map(serde_json::from_str).transpose().map_err(corrupt)?;
        let (raised_at, ended_at) = (Timestamp(raised_at), ended_at.map(Timestamp));
        let standing = Standing { id, alarm, raised_at, ended_at, acknowledged };
        Ok(Self { standing, owner, seen_at: Timestamp(seen_at) })
    }
}

/// What is to be written of what was found, beside those that are open.
pub(crate) fn change(open: &[Row], found: &Found, now: Timestamp) -> Change {
    let open: Vec<Open> = open
        .iter()
        .map(|row| Open {
            id: row.standing.id,
            alarm: row.standing.alarm.clone(),
            owner: row.owner.clone(),
            seen_at: row.seen_at,
            over: found.over.contains(&row.standing.id),
        })
        .collect();
    compare(&open, found.hold.clone(), &found.owner, now)
}

/// An alarm that was just raised.
pub(crate) fn raised(id: i64, alarm: Alarm, now: Timestamp) -> Standing {
    Standing { id, alarm, raised_at: now, ended_at: None, acknowledged: None }
}

/// The open ones of these numbers, ended now.
pub(crate) fn ended(open: Vec<Row>, ids: &[i64], now: Timestamp) -> Vec<Standing> {
    let ended = |row: Row| Standing { ended_at: Some(now), ..row.standing };
    open.into_iter().filter(|row| ids.contains(&row.standing.id)).map(ended).collect()
}

/// The event of an acknowledgement.
pub(crate) fn acknowledged(standing: &Standing, seen: &Acknowledged) -> LedgerEvent {
    let body = json!({ "alarm": standing.id, "key": standing.alarm.key(), "reason": seen.reason });
    LedgerEvent { at: seen.at, what: "alarm_acknowledged".into(), by: seen.by.to_string(), body }
}

/// The text of a phase, as it is stored.
pub(crate) fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Raised => "raised",
        Phase::Again => "again",
        Phase::Ended => "ended",
    }
}

/// What was told, from what is stored.
pub(crate) fn told(
    what: &str,
    phase: Option<&str>,
    at: Option<i64>,
) -> Result<Option<(Phase, Timestamp)>, LedgerError> {
    let (Some(phase), Some(at)) = (phase, at) else { return Ok(None) };
    let known = [Phase::Raised, Phase::Again, Phase::Ended];
    let phase = known.into_iter().find(|known| phase_text(*known) == phase);
    let phase = phase.ok_or_else(|| LedgerError::Corrupt {
        table: "tellings",
        key: what.to_owned(),
        reason: "no phase".to_owned(),
    })?;
    Ok(Some((phase, Timestamp(at))))
}

/// An error as it is kept.
pub(crate) fn error_text(error: &str) -> String {
    error.chars().take(ERROR_MAX).collect()
}

/// The code of a parked job.
pub(crate) fn parked() -> i16 {
    code(StateName::Parked)
}

/// The code of a job that was cancelled while its order is out.
pub(crate) fn cancelling() -> i16 {
    code(StateName::Cancelling)
}

/// What stands in an event after which a job is parked, and in no other.
pub(crate) const PARKED_EVENT: &str = "\"state\":\"parked\"";

/// The ones that are looked at next: of those that were found behind `from`, and what comes back, each once.
pub(crate) fn merged(found: Vec<i64>, from: &WatchedFrom) -> Vec<i64> {
    let behind = from.restoring.iter().filter(|id| **id > from.after).map(|id| id.0);
    let all: BTreeSet<i64> = found.into_iter().chain(behind).collect();
    all.into_iter().take(WATCHED_MAX).collect()
}

/// The page that these make, of what was found from there on.
pub(crate) fn page(records: Vec<WatchedRecord>, ids: &[i64], mut from: WatchedFrom) -> WatchedPage {
    let Some(last) = ids.last().filter(|_| ids.len() >= WATCHED_MAX) else {
        return WatchedPage { records, next: None };
    };
    from.after = DeletionId(*last);
    from.restoring.retain(|id| *id > DeletionId(*last));
    WatchedPage { records, next: Some(from) }
}

/// A page of alarms, newest first, of which one more than asked for was read.
pub(crate) fn alarm_page(mut items: Vec<AlarmView>, limit: u32) -> Page<AlarmView> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|view| view.standing.id.to_string());
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_once_however_many_pages_there_are() {
        // Every second one has a date, or is parked; every third one comes back.
        let last = i64::try_from(WATCHED_MAX).unwrap() * 3;
        let of = |step: i64| (1..=last).filter(move |id| id % step == 0);
        let expected: Vec<i64> = (1..=last).filter(|id| id % 2 == 0 || id % 3 == 0).collect();
        let mut from = WatchedFrom { after: DeletionId(0), restoring: of(3).map(DeletionId).collect() };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let found = of(2).filter(|id| *id > from.after.0).take(WATCHED_MAX).collect();
            let ids = merged(found, &from);
            assert!(ids.len() <= WATCHED_MAX, "{}", ids.len());
            let page = page(Vec::new(), &ids, from);
            (seen, pages) = ([seen, ids].concat(), pages + 1);
            match page.next {
                Some(next) => from = next,
                None => break,
            }
            assert!(from.restoring.iter().all(|id| *id > from.after), "{from:?}");
        }
        assert_eq!((seen, pages), (expected, 3));
    }
}
