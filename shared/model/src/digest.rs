//! The daily digest for administrators: what is due in the next days, what stands out, what stands still and why, what is
//! overdue. Composed purely, of what the job table says at one moment.
//!
//! *What stands out* is told by one rule: that which is due in the next 7 days is compared with the average of what was due
//! in the 7 days after the digests of one, two, three and four weeks ago; it stands out if it is more than twice that, and
//! at least [`OUT_LEAST`] more. It is compared for each scope and stage, and for each stage in all scopes.
//!
//! Bounded: each list is cut, and says how many are left out.
use std::collections::BTreeMap;
use std::fmt;

use chrono::{Days, NaiveDate, NaiveTime};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarm::hold::{self, BatchFact, Moment};
use crate::alarm::{Acknowledged, AlarmKind, Severity, Standing, Subject};
use crate::belts::Pause;
use crate::belts::census::foreign::Foreign;
use crate::belts::census::misplaced::ListedElsewhere;
use crate::id::{DeletionId, Kind, ResourceId, Scope};
use crate::job::{JobKind, Stage};
use crate::time::Timestamp;

mod material;
mod text;

pub use material::{Material, Watched};

/// Policy days that are looked ahead.
pub const AHEAD_DAYS: u8 = 7;
/// Weeks that the coming one is compared with.
pub const WEEKS: u8 = 4;
/// How long digests are kept, in days: those of four weeks, and one more.
pub const KEPT_DAYS: u64 = 35;
/// What stands out is at least so many more than the average.
pub const OUT_LEAST: u64 = 5;
/// Most lines of what is due, by scope and stage: digests of later weeks are compared with them.
pub const COMING_MAX: usize = 2000;
/// Most lines of each other list.
pub const LINES_MAX: usize = 50;
/// Longest reason in a line, in characters.
const WHY_MAX: usize = 300;

/// Jobs of one scope and stage that are due on one of the next days, or under way, as the job table counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Their scope.
    pub scope: Scope,
    /// Their stage.
    pub stage: Stage,
    /// They have begun: only what follows is due.
    pub begun: bool,
    /// On which day they are due, from 0: today, and what is overdue.
    pub day: u8,
    /// When the stages of their plan are due, in days after each record's date.
    pub offsets: [i32; 5],
    /// How many.
    pub count: u64,
}

/// So many of one scope begin one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coming {
    /// Their scope.
    pub scope: Scope,
    /// The stage.
    pub stage: Stage,
    /// How many.
    pub count: u64,
}

/// What stands out against the last weeks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outstanding {
    /// Which scope; none: in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The stage.
    pub stage: Stage,
    /// How many are due in the next days.
    pub count: u64,
    /// How many were, on average, in a week of the last ones: in tenths.
    pub average_tenths: u64,
}

/// A job that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Still {
    /// Its record.
    pub deletion: DeletionId,
    /// What would be deleted.
    pub resource: ResourceId,
    /// Its scope.
    pub scope: Scope,
    /// Its stage, or the restore.
    pub job: JobKind,
    /// Since when, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why.
    pub why: String,
    /// What can still be undone, and until when; empty where it was not read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub undo: String,
}

/// Something that should be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overdue {
    /// Its record.
    pub deletion: DeletionId,
    /// What should be gone.
    pub resource: ResourceId,
    /// Its scope.
    pub scope: Scope,
    /// Since when.
    pub since: Timestamp,
    /// What it waits for.
    pub why: String,
    /// What can still be undone, and until when.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub undo: String,
}

/// A batch that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// Its number.
    pub batch: i64,
    /// Its members' scope.
    pub scope: Scope,
    /// Their kind.
    pub kind: Kind,
    /// The stage that they would begin.
    pub stage: Stage,
    /// How many wait.
    pub waiting: u64,
    /// Since when.
    pub since: Timestamp,
    /// Whether somebody has to approve it, or others of its scope, kind and stage.
    pub needs_approval: bool,
    /// Which budget it exceeds.
    pub why: String,
}

/// An alarm that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenAlarm {
    /// Its number.
    pub id: i64,
    /// What is the matter.
    pub kind: AlarmKind,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// Since when.
    pub since: Timestamp,
    /// Whether somebody has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// What is the matter, in a sentence.
    pub text: String,
}

/// The first of a list, and how many there are besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listed<T> {
    /// The first ones.
    pub items: Vec<T>,
    /// How many more there are.
    pub more: u64,
}

/// So many are held by one kind of belt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldBy {
    /// Their scope.
    pub scope: Scope,
    /// The belt: hold, pause, ceiling, window, budget, redundancy, protected.
    pub by: String,
    /// How many.
    pub count: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Digest {
    /// Of which day, in `zone`.
    #[schemars(with = "String")]
    pub day: NaiveDate,
    /// Whose calendar.
    pub zone: String,
    /// When it was composed.
    pub made_at: Timestamp,
    /// Set if this is a rehearsal: how long a day is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_day_ms: Option<u64>,
    /// What begins in the next 7 policy days, by scope and stage.
    pub coming: Listed<Coming>,
    /// The same of all scopes.
    pub coming_stages: BTreeMap<Stage, u64>,
    /// What stands out of it.
    pub stands_out: Listed<Outstanding>,
    /// With how many of the last four weeks it was compared.
    pub compared_weeks: u8,
    /// What was cancelled and should be back by now, the longest first.
    #[serde(default = "no_still")]
    pub not_back: Listed<Still>,
    /// Parked jobs, the longest first; but for those of what is not back.
    pub parked: Listed<Still>,
    /// Announcements of which not everybody could be told yet, the longest first; but for those that are parked.
    #[serde(default = "no_still")]
    pub untold: Listed<Still>,
    /// Held jobs, also those that a belt has stopped between two steps, the longest first.
    pub held: Listed<Still>,
    /// How many are held by which belt, of all scopes.
    pub held_by: BTreeMap<String, u64>,
    /// Credentials that should be gone.
    pub credentials: Listed<Overdue>,
    /// Resources that should be gone by a date that has passed.
    pub gone_by: Listed<Overdue>,
    /// Pauses in force, the longest first.
    #[serde(default = "no_pauses")]
    pub pauses: Listed<Pause>,
    /// What others have deleted, as censuses of the last day found, the newest first.
    #[serde(default = "no_foreign")]
    pub foreign: Listed<Foreign>,
    /// What these list in another scope than it is registered in, the newest first.
    #[serde(default = "no_misplaced")]
    pub misplaced: Listed<ListedElsewhere>,
    /// Batches that exceed a budget.
    pub batches: Listed<Waiting>,
    /// Alarms that are open, the worst first.
    pub alarms: Listed<OpenAlarm>,
    /// What nobody finds out because nothing is configured for it, for whoever sees everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// What earlier versions wrote nothing of.
fn no_pauses() -> Listed<Pause> {
    Listed { items: Vec::new(), more: 0 }
}

/// And nothing of these.
fn no_foreign() -> Listed<Foreign> {
    Listed { items: Vec::new(), more: 0 }
}

/// Nor of what is listed elsewhere.
fn no_misplaced() -> Listed<ListedElsewhere> {
    Listed { items: Vec::new(), more: 0 }
}

/// Nor of these.
fn no_still() -> Listed<Still> {
    Listed { items: Vec::new(), more: 0 }
}

fn short(why: &str) -> String {
    match why.char_indices().nth(WHY_MAX) {
        Some((at, _)) => format!("{}…", &why[..at]),
        None => why.to_owned(),
    }
}

fn first<T>(mut items: Vec<T>, most: usize) -> Listed<T> {
    let more = items.len().saturating_sub(most) as u64;
    items.truncate(most);
    Listed { items, more }
}

/// How many begin each stage within the next days: what is due then, and what follows from that within them, as far as
/// nothing stops it.
pub fn coming(ahead: &[Ahead]) -> BTreeMap<(Scope, Stage), u64> {
    let mut counts = BTreeMap::new();
    for Ahead { scope, stage, begun, day, offsets, count } in ahead {
        let own = offsets[usize::from(stage.index())];
        for later in Stage::ALL.into_iter().filter(|later| later > stage || (later == stage && !begun)) {
            let days = i64::from(*day) + i64::from(offsets[usize::from(later.index())]) - i64::from(own);
            if days < i64::from(AHEAD_DAYS) {
                *counts.entry((scope.clone(), later)).or_insert(0) += count;
            }
        }
    }
    counts
}

/// What stands out: see the module.
fn stands_out(now: &BTreeMap<(Scope, Stage), u64>, weeks: &[Vec<Coming>]) -> Vec<Outstanding> {
    let number = weeks.len() as u64;
    if number == 0 {
        return Vec::new();
    }
    type Counts = BTreeMap<(Option<Scope>, Stage), u64>;
    let mut sums = Counts::new();
    for Coming { scope, stage, count } in weeks.iter().flatten() {
        *sums.entry((Some(scope.clone()), *stage)).or_insert(0) += count;
        *sums.entry((None, *stage)).or_insert(0) += count;
    }
    let mut counts = Counts::new();
    for ((scope, stage), count) in now {
        *counts.entry((Some(scope.clone()), *stage)).or_insert(0) += count;
        *counts.entry((None, *stage)).or_insert(0) += count;
    }
    let out = |((scope, stage), count): ((Option<Scope>, Stage), u64)| {
        let sum = sums.get(&(scope.clone(), stage)).copied().unwrap_or(0);
        let more = count * number > sum * 2 && count * number >= sum + OUT_LEAST * number;
        more.then_some(Outstanding { scope, stage, count, average_tenths: sum * 10 / number })
    };
    let mut found: Vec<Outstanding> = counts.into_iter().filter_map(out).collect();
    found.sort_by_key(|one| (one.scope.is_some(), std::cmp::Reverse(one.count)));
    found
}

/// Compose it, of a day in a zone.
pub fn compose(material: Material, (day, zone): (NaiveDate, Tz), at: &Moment) -> Digest {
    let counts = coming(&material.ahead);
    let mut coming_stages: BTreeMap<Stage, u64> = BTreeMap::new();
    for ((_, stage), count) in &counts {
        *coming_stages.entry(*stage).or_insert(0) += count;
    }
    let stands_out = first(stands_out(&counts, &material.weeks), LINES_MAX);
    let lines = counts.into_iter().map(|((scope, stage), count)| Coming { scope, stage, count });
    let mut held_by: BTreeMap<String, u64> = BTreeMap::new();
    for HeldBy { by, count, .. } in material.held_by {
        *held_by.entry(by).or_insert(0) += count;
    }
    let held_count: u64 = held_by.values().sum();
    let mut held = first(material.held, LINES_MAX);
    held.more = held_count.saturating_sub(held.items.len() as u64);
    for still in &mut held.items {
        still.why = short(&still.why);
    }
    let mut pauses = material.pauses;
    pauses.sort_by_key(|pause| pause.since);
    let mut alarms = material.alarms;
    alarms.sort_by_key(|one| (std::cmp::Reverse(one.alarm.severity), one.raised_at));
    let alarm = |one: Standing| OpenAlarm {
        id: one.id,
        kind: one.alarm.kind,
        severity: one.alarm.severity,
        subject: one.alarm.subject,
        since: one.raised_at,
        acknowledged: one.acknowledged,
        text: short(&one.alarm.text),
    };
    let missed: Vec<String> = material.missed.iter().map(ToString::to_string).collect();
    let crowds = hold::crowds(&material.batches);
    let batch = |batch: BatchFact| Waiting {
        needs_approval: crowds.contains(&batch.group),
        batch: batch.batch,
        scope: batch.group.scope,
        kind: batch.group.kind,
        stage: batch.group.stage,
        waiting: batch.waiting,
        since: batch.frozen_at,
        why: batch.exceeded.to_string(),
    };
    Digest {
        day,
        zone: zone.name().to_owned(),
        made_at: at.now,
        rehearsal_day_ms: at.day.rehearsal_ms(),
        coming: first(lines.collect(), COMING_MAX),
        coming_stages,
        stands_out,
        compared_weeks: u8::try_from(material.weeks.len()).unwrap_or(u8::MAX),
        not_back: material.watched.not_back.finish(),
        parked: material.watched.parked.finish(),
        untold: material.watched.untold.finish(),
        held,
        held_by,
        credentials: material.watched.credentials.finish(),
        gone_by: material.watched.gone_by.finish(),
        pauses: first(pauses, LINES_MAX),
        foreign: first(material.foreign, LINES_MAX),
        misplaced: first(material.misplaced, LINES_MAX),
        batches: first(material.batches.into_iter().map(batch).collect(), LINES_MAX),
        alarms: first(alarms.into_iter().map(alarm).collect(), LINES_MAX),
        lacks: material.lacks.into_iter().chain(missed).collect(),
    }
}

/// When the digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// At this time of day.
    pub at: NaiveTime,
    /// In this zone.
    pub zone: Tz,
}

impl Daily {
    /// The day whose digest is due at `now`: today's, from that time on until midnight. What was missed is not made up for.
    pub fn due(&self, now: Timestamp) -> Option<NaiveDate> {
        let local = now.utc().with_timezone(&self.zone);
        (local.time() >= self.at).then(|| local.date_naive())
    }

    /// The days whose digests that of `day` is compared with.
    pub fn weeks_before(day: NaiveDate) -> Vec<NaiveDate> {
        (1..=u64::from(WEEKS)).filter_map(|week| day.checked_sub_days(Days::new(7 * week))).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}

#[cfg(test)]
mod tests;
