//! Budgets, the breaker: how many deletions may begin a stage within a day. What is more than that is a batch: all of it is
//! held, and a person who requested none of it approves exactly that set.
//!
//! Announcing is budgeted, too. Each later stage follows at the same distance, so as many as are announced within a day
//! are switched off, removed and destroyed within one: whoever marks five hundred needs the approval before the first
//! mail.
//!
//! *Admission precedes claiming*: under one lock, all that is due of a group is admitted or frozen together. The count
//! is of admissions, so two coordinators make one decision, and slow drips count.
//!
//! What waits of a group is one crowd, in however many batches it came: whether it may begin by itself is judged of all
//! of it. Otherwise whoever marks five hundred one by one, or looks at them in pieces, would need nobody's approval.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ring::digest::{Context as Digest, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::census::Population;
use super::within;
use crate::id::{JobId, Kind, ResourceId, Scope};
use crate::job::{Job, JobState, Stage};
use crate::time::{Day, Timestamp};

mod admission;
mod approval;
pub(crate) mod backlog;
mod behind;
mod foretold;
mod resume;
mod stopped;
mod written;

pub use admission::{Admission, Waiting, admit, admit_piece, crowds};
pub use approval::{CannotApprove, digest_of_batch, may_approve};
pub use behind::{is_stopped, stand_behind};
pub use foretold::{foretell, foretold_span};
pub use resume::{CannotResume, Crowd, Member, at_once, digest_of_crowds, may_resume};
pub use stopped::stopped_by;
pub use written::{Mistake, Written};

/// Most deletions of one kind that may begin a stage within a day in one scope, if nothing is configured.
pub const A_DAY: u64 = 5;
/// The same for all scopes together.
pub const EVERYWHERE: u64 = 50;
/// Most scopes with a number of their own: each is counted whenever something of it is due.
pub const SCOPES_MAX: usize = 4096;
/// Longest span that is counted over, in days.
pub const DAYS_MAX: u16 = 31;
/// An approval is good for so many policy days: whoever approves on a Friday means the next working hours, too.
pub const APPROVED_DAYS: i64 = 7;
/// Most jobs of one batch: what is due beyond that becomes the next one.
pub const BATCH_MAX: usize = 50_000;

/// A count is kept by so many parts of a day: it is exact to one of them, and never too low.
const GRAINS_A_DAY: i64 = 96;
/// No part is shorter, in microseconds: between admission and claim lies what a slow machine takes. Only a rehearsal's
/// are as short.
const GRAIN_LEAST_US: i64 = 5_000_000;

/// How many may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// In each scope that has no number of its own; none: nothing is limited.
    each: Option<u64>,
    /// In all scopes together.
    everywhere: u64,
    /// Over how many days, at least 1.
    days: u16,
    stages: BTreeSet<Stage>,
    /// In these scopes and those below them.
    scopes: BTreeMap<String, (Scope, u64)>,
    /// And of each number at most so many hundredths of a per cent of those that are there.
    share: Option<u32>,
}

impl Default for Budgets {
    fn default() -> Self {
        let stages = [Stage::Announce, Stage::Hard, Stage::Purge].into();
        let scopes = BTreeMap::new();
        Self { each: Some(A_DAY), everywhere: EVERYWHERE, days: 1, stages, scopes, share: None }
    }
}

/// What is admitted or held together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Their scope.
    pub scope: Scope,
    /// Their kind.
    pub kind: Kind,
    /// The stage that would begin.
    pub stage: Stage,
}

impl Group {
    /// Whether both are of one kind and stage: others have numbers of their own.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.stage == other.stage
    }
}

/// Whose admissions are added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// This scope alone.
    In(Scope),
    /// This scope and those below it.
    Within(Scope),
    /// Every scope.
    Everywhere,
}

impl Counted {
    /// Whether those of `scope` are among them.
    pub fn has(&self, scope: &Scope) -> bool {
        match self {
            Self::In(only) => only == scope,
            Self::Within(outer) => super::within(scope, outer),
            Self::Everywhere => true,
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(scope) => write!(f, "in {scope}"),
            Self::Within(scope) => write!(f, "within {scope}"),
            Self::Everywhere => f.write_str("in all scopes together"),
        }
    }
}

/// A number that may not be exceeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// Whose admissions count.
    pub counted: Counted,
    /// How many there may be.
    pub most: u64,
    /// Within how many days.
    pub days: u16,
    /// Whether it is by percent of those that are there, and nobody has counted them yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
}

/// Why a set may not begin now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exceeded {
    /// How many would begin, with those of the same group that waited before.
    pub members: u64,
    /// How many have begun that count.
    pub used: u64,
    /// How many wait before them for what becomes free of the same number, in older batches of other groups.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub before: u64,
    /// What they would exceed.
    pub limit: Limit,
}

impl Exceeded {
    /// Whether they alone are too many, whatever has begun, so that waiting does not help.
    pub fn alone(&self) -> bool {
        self.members > self.limit.most
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, used, before, limit: Limit { counted, most, days, uncounted } } = self;
        if *uncounted {
            return write!(
                f,
                "{members} would begin, and no complete census says how many there are {counted}"
            );
        }
        let span = if *days == 1 { "a day".to_owned() } else { format!("{days} days") };
        write!(f, "{members} would begin where {most} may in {span} {counted}")?;
        if *used > 0 {
            write!(f, ", and {used} have")?;
        }
        if *before > 0 { write!(f, ", and {before} wait before them") } else { Ok(()) }
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(each) = self.each else { return f.write_str("any number") };
        let span = if self.days == 1 { "a day".to_owned() } else { format!("{} days", self.days) };
        write!(f, "{each} in {span} in each scope")?;
        for (scope, most) in self.scopes.values() {
            write!(f, ", {most} within {scope}")?;
        }
        write!(f, ", {} in all together", self.everywhere)?;
        match self.share {
            Some(share) => write!(f, ", and at most {}.{:02} % of those there are", share / 100, share % 100),
            None => Ok(()),
        }
    }
}

impl Budgets {
    /// What the section says, as it was written down; for whoever reads the configuration.
    fn new(written: written::Numbers) -> Self {
        let written::Numbers { each, everywhere, days, stages, scopes, share } = written;
        Self { each, everywhere, days, stages, scopes, share }
    }

    /// Nothing is limited.
    pub fn none() -> Self {
        Self { each: None, stages: BTreeSet::new(), ..Self::default() }
    }

    /// With announce counted wherever hard or purge is. Both follow each announcement at the same distance, so this is the
    /// sum of what will begin them: too many are held before the first mail, and not when everybody has long been told.
    pub fn looking_ahead(mut self) -> Self {
        if [Stage::Hard, Stage::Purge].iter().any(|later| self.stages.contains(later)) {
            self.stages.insert(Stage::Announce);
        }
        self
    }

    /// Whether deletions that begin `stage` are counted.
    pub fn bind(&self, stage: Stage) -> bool {
        self.each.is_some() && self.stages.contains(&stage)
    }

    /// Whether numbers are also by percent of those that are there.
    pub fn by_percent(&self) -> bool {
        self.share.is_some()
    }

    /// Stages that are counted.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.stages.iter().copied().filter(|_| self.each.is_some())
    }

    /// What may not be exceeded in `scope`: the number of the narrowest scope around it that has one, else that of each
    /// scope; and always that of all together. Each is no more than its share of those that are there.
    pub fn limits(&self, scope: &Scope, kind: &Kind, population: &Population) -> Vec<Limit> {
        let days = self.days;
        let own = self.own(scope).map(|(scope, most)| (Counted::Within(scope.clone()), *most));
        let own = own.or_else(|| self.each.map(|most| (Counted::In(scope.clone()), most)));
        let all = self.each.map(|_| (Counted::Everywhere, self.everywhere));
        let limit = |(counted, most): (Counted, u64)| match self.share {
            None => Limit { counted, most, days, uncounted: false },
            Some(share) => match population.of(kind, &counted) {
                // A small scope may lose one all the same.
                Some(there) => {
                    let share = there.saturating_mul(u64::from(share)).div_ceil(10_000);
                    Limit { counted, most: most.min(share), days, uncounted: false }
                }
                None => Limit { counted, most: 0, days, uncounted: true },
            },
        };
        own.into_iter().chain(all).map(limit).collect()
    }

    /// As many as others may delete in `scope` within a day before that pauses it: what may begin hard in one. Where hard is
    /// not counted, or nothing is, that is what may by default: whoever lets any number go here has not said that others may
    /// delete as many.
    pub fn by_others(&self, scope: &Scope, kind: &Kind, population: &Population) -> u64 {
        let limits = self.limits_of_others(scope, kind, population);
        limits.iter().map(|limit| limit.most).min().unwrap_or(A_DAY)
    }

    /// As many as others may delete in all scopes together, that one among them, before that pauses the kind everywhere.
    pub fn by_others_everywhere(&self, scope: &Scope, kind: &Kind, population: &Population) -> u64 {
        let limits = self.limits_of_others(scope, kind, population);
        let all = limits.iter().find(|limit| limit.counted == Counted::Everywhere);
        all.map_or(EVERYWHERE, |limit| limit.most)
    }

    fn limits_of_others(&self, scope: &Scope, kind: &Kind, population: &Population) -> Vec<Limit> {
        let default = Self::default();
        let counting = if self.bind(Stage::Hard) { self } else { &default };
        counting.limits(scope, kind, population)
    }

    /// Whether a number binds all that it counts: not that of a scope below which another one has a number of its own, for by that
    /// alone its members begin, whoever waits for the wider one.
    fn binds_all(&self, counted: &Counted) -> bool {
        let Counted::Within(scope) = counted else { return true };
        !self.scopes.values().any(|(other, _)| other != scope && within(other, scope))
    }

    fn own(&self, scope: &Scope) -> Option<&(Scope, u64)> {
        scope.around().find_map(|at| self.scopes.get(at))
    }

    /// The part of a day that `now` is in, by its begin: admissions are counted there.
    pub fn bucket(now: Timestamp, day: Day) -> Timestamp {
        Timestamp(now.0 - now.0.rem_euclid(grain_us(day)))
    }

    /// Until when an admission at `now` is good. Whoever has not begun until then asks anew, so that what piled up while
    /// nothing could begin is no burst afterwards.
    pub fn good_until(now: Timestamp, day: Day) -> Timestamp {
        Timestamp(now.0.saturating_add(grain_us(day)))
    }

    /// Until when an approval at `now` is good.
    pub fn approved_until(now: Timestamp, day: Day) -> Timestamp {
        Timestamp(
            now.0.saturating_add(day_us(day).saturating_mul(APPROVED_DAYS)).max(Self::good_until(now, day).0),
        )
    }

    /// The first part of a day that counts at `now`: what began in the span was admitted so long before it at most.
    pub fn counted_from(&self, now: Timestamp, day: Day) -> Timestamp {
        let span = day_us(day).saturating_mul(i64::from(self.days)).saturating_add(grain_us(day));
        Self::bucket(Timestamp(now.0.saturating_sub(span)), day)
    }
}

fn day_us(day: Day) -> i64 {
    let ms = match day {
        Day::Calendar => 24 * 60 * 60 * 1000,
        Day::Rehearsal { length_ms } => length_ms,
    };
    i64::try_from(ms).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}

fn grain_us(day: Day) -> i64 {
    (day_us(day) / GRAINS_A_DAY).max(GRAIN_LEAST_US)
}

/// Where a job stands that wants to begin a stage that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It may begin.
    Admitted,
    /// It is one of a batch that may not begin.
    Frozen(Frozen),
}

/// The batch that a job is one of, as it was when it was frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frozen {
    /// Its number.
    pub batch: i64,
    /// Why it may not begin.
    pub exceeded: Exceeded,
}

/// Whether a job has to be admitted: only what has not begun.
pub(crate) fn bound(job: &Job) -> bool {
    matches!(job.state, JobState::Scheduled { .. } | JobState::Held { .. })
}

fn count(members: usize) -> u64 {
    u64::try_from(members).unwrap_or(u64::MAX)
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn charge(used: &mut BTreeMap<Group, u64>, group: &Group, members: usize) {
    let used = used.entry(group.clone()).or_default();
    *used = used.saturating_add(count(members));
}

/// The first number that so many would exceed; one that they exceed alone is named before all others. Of a stage
/// that is not counted they are a backlog: nobody else is asked about.
///
/// `used` is what began so far, by its group.
pub fn exceeded(
    (budgets, population): (&Budgets, &Population),
    group: &Group,
    members: usize,
    used: &BTreeMap<Group, u64>,
) -> Option<Exceeded> {
    if !budgets.bind(group.stage) && !budgets.counts_backlog(group.stage) {
        return None;
    }
    over((budgets, population), group, members, used)
}

/// The same, whether or not anything of the stage is counted.
fn over(
    (budgets, population): (&Budgets, &Population),
    group: &Group,
    members: usize,
    used: &BTreeMap<Group, u64>,
) -> Option<Exceeded> {
    let mut found: Option<Exceeded> = None;
    for limit in budgets.limits(&group.scope, &group.kind, population) {
        let used = counted_in(&limit, group, used);
        let why = Exceeded { members: count(members), used, before: 0, limit };
        let over = why.members.saturating_add(why.used) > why.limit.most;
        if over && found.as_ref().is_none_or(|found| why.alone() && !found.alone()) {
            found = Some(why);
        }
    }
    found
}

/// The numbers that so many wait for, if it only takes others to leave something of them: with what their own group has begun they
/// exceed none, and it binds whoever is counted in it. Empty if they wait for anything else.
fn shared(
    (budgets, population): (&Budgets, &Population),
    group: &Group,
    members: usize,
    used: &BTreeMap<Group, u64>,
) -> Vec<Counted> {
    let mut waited_for = Vec::new();
    for limit in budgets.limits(&group.scope, &group.kind, population) {
        let own = used.get(group).copied().unwrap_or_default();
        let members = count(members);
        if members.saturating_add(counted_in(&limit, group, used)) <= limit.most {
            continue;
        }
        if members.saturating_add(own) > limit.most || !budgets.binds_all(&limit.counted) {
            return Vec::new();
        }
        waited_for.push(limit.counted);
    }
    waited_for
}

/// How many of what began so far a number counts that binds `group`.
fn counted_in(limit: &Limit, group: &Group, used: &BTreeMap<Group, u64>) -> u64 {
    let counted = used.iter().filter(|(other, _)| other.is_like(group) && limit.counted.has(&other.scope));
    counted.map(|(_, used)| *used).fold(0, u64::saturating_add)
}

/// What a person approves: exactly this set, for exactly this stage. SHA-256.
pub fn digest<'a>(stage: Stage, members: impl IntoIterator<Item = (JobId, &'a ResourceId)>) -> String {
    let members: BTreeMap<JobId, &ResourceId> = members.into_iter().collect();
    let mut digest = Digest::new(&SHA256);
    digest.update(format!("sexton batch\n{stage}\n").as_bytes());
    for (job, resource) in members {
        digest.update(format!("{} {resource}\n", job.deletion()).as_bytes());
    }
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
