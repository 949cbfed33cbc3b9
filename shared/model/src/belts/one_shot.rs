//! One-shot overrides: a person lets one stage of one deletion pass one belt. Nothing else is loosened, and nothing for
//! longer: a limit that is raised for one deletion stays raised for all.
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget;
use crate::access::is_own;
use crate::deletion::{Deletion, RecordStatus};
use crate::id::{Actor, DeletionId};
use crate::job::{Job, JobKind, Stage};
use crate::time::{Day, Timestamp};

/// A belt that a person may let one deletion pass. All others have a way of their own (a hold is released, a pause lifted,
/// protection taken off, a redundancy group that is none any more stated anew), or none: identity, fences, the beacon and verified absence are passed by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Passable {
    /// How far deletions of its scope may go.
    Ceiling,
    /// Working hours.
    Window,
    /// How many may begin within a day.
    Budget,
}

impl Passable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ceiling, Self::Window, Self::Budget];

    /// Its word, as it is written and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Window => "window",
            Self::Budget => "budget",
        }
    }
}

impl fmt::Display for Passable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no belt that can be passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected ceiling, window or budget; no other belt can be passed by an override")]
pub struct NotPassable;

impl FromStr for Passable {
    type Err = NotPassable;
    fn from_str(word: &str) -> Result<Self, NotPassable> {
        Self::ALL.into_iter().find(|belt| belt.word() == word).ok_or(NotPassable)
    }
}

/// Somebody lets one stage of one deletion pass one belt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneShot {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub deletion: DeletionId,
    /// Which stage.
    pub stage: Stage,
    /// Which belt.
    pub belt: Passable,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when the stage has to begin. What has begun goes on.
    pub until: Timestamp,
    /// Whether it was said by whoever asked for the deletion, with nobody else: for an emergency.
    pub break_glass: bool,
    /// Who took it back. By then its stage may have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// Somebody took an override back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakenBack {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// An override is good for so many policy days.
pub const GOOD_DAYS: i32 = 1;
/// Most overrides that are good at once: all of them are read whenever one has changed. Whoever needs more wants another
/// limit.
pub const ONE_SHOTS_MAX: usize = 64;
/// Most for which the glass was broken that are read at once. Those that are good are among them; whoever has broken it so often, and
/// taken that back, is told of by far fewer.
pub const BROKEN_GLASS_MAX: usize = 1000;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOneShot {
    /// Whose.
    pub deletion: DeletionId,
    /// Which stage.
    pub stage: Stage,
    /// Which belt.
    pub belt: Passable,
    /// Who asks.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Whether nobody else can be asked.
    pub break_glass: bool,
}

/// Why one is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotOverride {
    /// The record is over, or comes back.
    #[error("{0} is over, or being cancelled: there is nothing to let pass")]
    NotLive(DeletionId),
    /// The stage goes on by itself.
    #[error("stage: {stage} of {deletion} has begun or is over")]
    Begun {
        /// Whose.
        deletion: DeletionId,
        /// Which.
        stage: Stage,
    },
    /// Whoever wants a deletion does not let it pass.
    #[error(
        "{by} requested {deletion}: somebody else has to override the {belt}; if nobody can be asked, break the glass \
         (break_glass), which everybody sees"
    )]
    Requested {
        /// Who.
        by: Actor,
        /// What.
        deletion: DeletionId,
        /// Which belt.
        belt: Passable,
    },
    /// The glass is not broken by whoever need not.
    #[error("break_glass: somebody else than who requested {0} asks, so it is not needed")]
    NotNeeded(DeletionId),
    /// There would be too many.
    #[error("{ONE_SHOTS_MAX} overrides are good at present: expected fewer; change the limit instead")]
    TooMany,
}

impl NewOneShot {
    /// May it be given, beside `there`?
    ///
    /// # Errors
    /// Saying why not.
    pub fn check(&self, d: &Deletion, there: &[OneShot], now: Timestamp) -> Result<(), CannotOverride> {
        let Self { stage, belt, ref by, break_glass, .. } = *self;
        let begun = d.claimed(stage) || d.stage_job(stage).is_none_or(|job| job.state.name().over());
        if d.status != RecordStatus::Live {
            return Err(CannotOverride::NotLive(d.id));
        }
        if begun {
            return Err(CannotOverride::Begun { deletion: d.id, stage });
        }
        match (is_own(&d.record.requested_by, by), break_glass) {
            (true, false) => return Err(CannotOverride::Requested { by: by.clone(), deletion: d.id, belt }),
            (false, true) => return Err(CannotOverride::NotNeeded(d.id)),
            (true, true) | (false, false) => {}
        }
        let good = there.iter().filter(|one| one.until > now).count();
        if good >= ONE_SHOTS_MAX { Err(CannotOverride::TooMany) } else { Ok(()) }
    }

    /// The override as it is from `now` on.
    pub fn from(self, id: i64, now: Timestamp, d: &Deletion, day: Day) -> OneShot {
        let Self { deletion, stage, belt, by, reason, break_glass } = self;
        // A rehearsal's day may be over before anybody has looked.
        let until = crate::time::add_days(now, GOOD_DAYS, d.record.due.zone.0, day).max(now.plus_ms(60_000));
        let taken_back = None;
        OneShot { id, deletion, stage, belt, by, reason, since: now, until, break_glass, taken_back }
    }
}

impl fmt::Display for OneShot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.break_glass { "broke the glass of" } else { "overrode" };
        write!(f, "{} {how} the {} ({}): {}", self.by, self.belt, self.id, self.reason)
    }
}

/// The override that lets the stage of `job` pass `belt`, if there is one.
pub(crate) fn passing<'a>(
    all: &'a [OneShot],
    (deletion, job): (&Deletion, &Job),
    belt: Passable,
    now: Timestamp,
) -> Option<&'a OneShot> {
    all.iter().find(|one| {
        one.deletion == deletion.id
            && JobKind::Stage(one.stage) == job.kind
            && one.belt == belt
            && (now < one.until || !budget::bound(job))
    })
}
