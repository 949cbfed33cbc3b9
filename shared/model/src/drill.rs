//! The drill: once a week something that is there for nothing else is switched off as for a deletion, and brought back, so
//! that what a cancel promises was seen lately.
//!
//! It is a record like any other, by [`actor`], with the announcement, the notice period and the soft stage of its plan;
//! then it is cancelled, and the restore takes back what was done and compares it with what was captured, as it does
//! everything. Nothing of it is shortened: a drill of another deletion would show nothing of this one. It never goes beyond
//! soft, whatever its date and whoever says so ([`crate::job::Blocker::Drill`]).
//!
//! Contract: this only decides ([`next`]). Whoever carries drills out writes down what it says.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarm::hold::{parked, standstill};
use crate::deletion::{Deletion, RecordStatus};
use crate::id::{Actor, DeletionId, ResourceId};
use crate::job::{JobKind, JobState, Stage};
use crate::plan::Plan;
use crate::time::{Day, Timestamp, add_days};

/// Policy days between the begins of two drills of one resource.
pub const EVERY_DAYS: i32 = 7;
/// Shortest time between them, and for one of them, in milliseconds: in a rehearsal a week may be over at once.
pub const LEAST_MS: u64 = 15 * 60_000;
/// Policy days beyond its notice period that one may take: a weekend.
const LATE_DAYS: i32 = 2;
/// Most resources that drills are held with.
pub const RESOURCES_MAX: usize = 16;
/// Longest text that is kept of what came of one, in characters.
const TEXT_MAX: usize = 300;

/// The last drill with a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// With what.
    pub resource: ResourceId,
    /// Who asked for it; `drill` if it was time.
    pub by: Actor,
    /// When it began.
    pub begun_at: Timestamp,
    /// Until when everything has to be as it was.
    pub finish_by: Timestamp,
    /// Its record, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionId>,
    /// What came of it; nothing yet while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// What came of the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Judged>,
}

/// What came of one, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// What it shows.
    pub verdict: Verdict,
    /// When that was decided.
    pub at: Timestamp,
}

/// What a drill has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// It was switched off, and is as it was.
    Holds {
        /// What was taken back.
        how: String,
    },
    /// It was not switched off, or not brought back, or not in time.
    Failed {
        /// Why.
        why: String,
    },
    /// It shows neither: it could not begin, or somebody has ended it.
    Unclear {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// Its word, as it is shown.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Holds { .. } => "holds",
            Self::Failed { .. } => "FAILED",
            Self::Unclear { .. } => "unclear",
        }
    }

    /// What was said.
    pub fn text(&self) -> &str {
        match self {
            Self::Holds { how } => how,
            Self::Failed { why } | Self::Unclear { why } => why,
        }
    }

    /// Whether a person has to look.
    pub fn alarms(&self) -> bool {
        match self {
            Self::Holds { .. } => false,
            Self::Failed { .. } | Self::Unclear { .. } => true,
        }
    }

    /// It failed.
    pub fn failed(why: impl AsRef<str>) -> Self {
        Self::Failed { why: cut(why.as_ref()) }
    }

    /// It shows nothing.
    pub fn unclear(why: impl AsRef<str>) -> Self {
        Self::Unclear { why: cut(why.as_ref()) }
    }
}

/// What is to be done about one that has a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, for now or for ever.
    Wait,
    /// Cancel its record, for this reason.
    Cancel(&'static str),
    /// Write this down.
    Judge(Verdict),
}

impl Drill {
    /// One that begins at `now`, behind the last one with the resource.
    pub fn begin(
        (resource, plan): (ResourceId, &Plan),
        last: Option<&Self>,
        by: Option<&Actor>,
        (now, day): (Timestamp, Day),
    ) -> Self {
        let notice =
            plan.stage(Stage::Soft).offset_days.saturating_sub(plan.stage(Stage::Announce).offset_days);
        let end = add_days(now, notice.saturating_add(LATE_DAYS), chrono_tz::UTC, day);
        Self {
            resource,
            by: by.cloned().unwrap_or_else(actor),
            begun_at: now,
            finish_by: end.max(now.plus_ms(LEAST_MS)),
            deletion: None,
            judged: None,
            before: last.and_then(|last| last.standing().cloned()),
        }
    }

    /// Whether nothing has come of it yet.
    pub fn is_open(&self) -> bool {
        self.judged.is_none()
    }

    /// What is known by now: what came of it, or else of the one before it.
    pub fn standing(&self) -> Option<&Judged> {
        self.judged.as_ref().or(self.before.as_ref())
    }

    /// The same, judged.
    pub fn judged(self, verdict: Verdict, at: Timestamp) -> Self {
        Self { judged: Some(Judged { verdict, at }), ..self }
    }
}

/// Who asks for the records of drills, and cancels them.
pub fn actor() -> Actor {
    Actor::drill()
}

/// Whether a record is that of a drill: it never goes beyond soft.
pub fn is_drill(deletion: &Deletion) -> bool {
    deletion.record.requested_by == actor()
}

/// Whether one with a resource is due at `now`: a policy week after the last one began, and once that one is over. What was
/// missed is not made up for.
pub fn due(last: Option<&Drill>, now: Timestamp, day: Day) -> bool {
    last.is_none_or(|last| {
        let next = add_days(last.begun_at, EVERY_DAYS, chrono_tz::UTC, day);
        !last.is_open() && now >= next.max(last.begun_at.plus_ms(LEAST_MS))
    })
}

/// What is to be done about a drill, whose record is `d`. What has failed is told at once, and cancelled all the same.
pub fn next(drill: &Drill, d: &Deletion, now: Timestamp) -> Next {
    let judge = |verdict: Verdict| if drill.is_open() { Next::Judge(verdict) } else { Next::Wait };
    let beyond = [Stage::Hard, Stage::Purge, Stage::Recycle].into_iter().any(|stage| d.claimed(stage));
    if beyond {
        return judge(Verdict::failed("it went beyond soft, which nothing of a drill ever may"));
    }
    let switched_off = d.stage_job(Stage::Soft).is_some_and(|job| job.state == JobState::Done);
    match d.status {
        RecordStatus::Live if switched_off => Next::Cancel("the drill: soft is done"),
        RecordStatus::Live => match (late(drill, d, now), drill.is_open()) {
            (Some(verdict), true) => Next::Judge(verdict),
            (Some(_), false) | (None, false) => Next::Cancel("the drill has failed"),
            (None, true) => Next::Wait,
        },
        RecordStatus::Restoring => late(drill, d, now).map_or(Next::Wait, judge),
        RecordStatus::Cancelled if switched_off => judge(restored(d)),
        RecordStatus::Cancelled => judge(Verdict::unclear("it was cancelled before soft was done")),
        RecordStatus::Recycled | RecordStatus::Rescued => {
            judge(Verdict::failed(format!("its record is {}", d.status.word())))
        }
    }
}

/// Why it is not where it should be: it is parked, or its time is over.
fn late(drill: &Drill, d: &Deletion, now: Timestamp) -> Option<Verdict> {
    if let Some((job, reason)) = parked(d) {
        return Some(Verdict::failed(format!("{} is parked: {reason}", job.kind)));
    }
    (now >= drill.finish_by)
        .then(|| Verdict::failed(format!("not over by {}: {}", drill.finish_by, standstill(d))))
}

/// What a restore that is over has shown: each undo was compared with what was captured, unless somebody let it pass.
fn restored(d: &Deletion) -> Verdict {
    let passed = d.waivers.iter().any(|waiver| waiver.passes() && waiver.slot == JobKind::RESTORE_SLOT);
    let undone = d.undo_list().len();
    if passed {
        return Verdict::unclear("somebody let a step of its restore pass");
    }
    if undone == 0 {
        return Verdict::unclear("nothing that its plan does in soft has to be taken back");
    }
    Verdict::Holds { how: format!("{undone} steps were taken back, each as it was captured") }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
