//! The drill: once a week something that is there for nothing else is switched off as for a deletion, and brought back, so
//! that what a cancel promises was seen lately.
//!
//! It is a record like any other, by [`actor`], with the announcement, the notice period and the soft stage of its plan;
//! then it is cancelled, and the restore takes back what was done and compares it with what was captured, as it does
//! everything. Nothing of it is shortened: a drill of another deletion would show nothing of this one. It never goes beyond
//! soft, whatever its date and whoever says so ([`crate::job::Blocker::Drill`]).
//!
//! Contract: this only decides: when one begins ([`due`], [`asked`], [`may_follow`]), whether its record can be made
//! ([`fit`]), and what is to be done about it ([`next`]). Whoever carries drills out does that, and writes it down.
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarm::hold::{parked, standstill};
use crate::belts::ceiling::{Ceiling, Ceilings};
use crate::deletion::{Deletion, Hold, RecordStatus};
use crate::id::{Actor, DeletionId, Instance, ResourceId};
use crate::job::{JobKind, JobState, Stage};
use crate::plan::Plan;
use crate::resource::{Presence, Resource};
use crate::time::{Day, Timestamp, add_days};

#[cfg(test)]
mod tests;

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

/// What is to be done about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, for now or for ever.
    Wait,
    /// Make its record.
    Make,
    /// Write down that this is its record.
    Take(DeletionId),
    /// Cancel this record, for this reason.
    Cancel(DeletionId, &'static str),
    /// Write this down.
    Judge(Verdict),
}

/// Whose record is live on the resource of one that has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Free,
    /// Its own: whoever made it did not get to write that down.
    Own(DeletionId),
    /// That of an earlier one, with which nobody goes on any more.
    LeftBehind(DeletionId),
    /// Somebody else's.
    Foreign(DeletionId),
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

    /// Whether nothing is left to be done about it: it holds, so that its record is over, or it has ended without one.
    pub fn is_over(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| !judged.verdict.alarms() || self.deletion.is_none())
    }

    /// Whether it has begun since a request was first sent, at that moment: then it is what was asked for, whoever has
    /// begun it. A request without a key was never sent before.
    pub fn began_since(&self, first_sent: Option<Timestamp>) -> bool {
        first_sent.is_some_and(|sent| self.begun_at >= sent)
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

/// Whether one with a resource begins because somebody asks for it, who first did so then, as far as that is known: once
/// the last one is over, and not if that is what was asked for.
pub fn asked(last: Option<&Drill>, first_sent: Option<Timestamp>) -> bool {
    last.is_none_or(|last| !last.is_open() && !last.began_since(first_sent))
}

/// Whether one may begin behind another one, of which this is the record: what that one has switched off is brought back
/// first, whatever was judged of it.
pub fn may_follow(record: Option<&Deletion>) -> bool {
    record.is_none_or(|d| !d.status.live())
}

/// Whether the drill with `resource` that stands goes on with the record `made`. Any other would go as far as soft, and
/// nobody would cancel it.
pub fn knows(standing: &[Drill], resource: &ResourceId, made: DeletionId) -> bool {
    standing.iter().any(|drill| drill.resource == *resource && drill.deletion == Some(made))
}

/// The plan by which the record of a drill with `id` is made. `there`: what is registered, and the holds on it; `known`:
/// whether there is a key of an instance.
///
/// # Errors
/// Why nothing would come of it, in words.
pub fn fit<'a>(
    id: &ResourceId,
    there: Option<(&Resource, Presence, &[Hold])>,
    plan: Option<&'a Arc<Plan>>,
    known: impl Fn(&Instance) -> bool,
    ceilings: &Ceilings,
) -> Result<&'a Arc<Plan>, String> {
    let there = there.filter(|(_, presence, _)| *presence == Presence::Registered);
    let (Some((resource, _, holds)), Some(plan)) = (there, plan) else {
        return Err(format!("{id} is not registered, or there is no plan for it"));
    };
    if let Some(hold) = holds.first() {
        return Err(format!("{id} is held: {}: {}", hold.origin, hold.reason));
    }
    if let Some(missing) = plan.needs(resource).find(|needed| !known(needed)) {
        return Err(format!("the plan of {id} needs {missing}, of which there is no key here"));
    }
    let (scope, ceiling) = (&resource.scope, ceilings.height(&resource.scope));
    if ceiling < Ceiling::needed_for(Stage::Soft) {
        return Err(format!("deletions of {scope} may go as far as {ceiling}: a drill needs soft"));
    }
    Ok(plan)
}

/// What is to be done about a drill. `record`: its own, or, as long as it has none, the one that is live on its resource;
/// `held`: whether drills are held with its resource now.
pub fn next(drill: &Drill, record: Option<&Deletion>, held: bool, now: Timestamp) -> Next {
    match (drill.deletion, record) {
        (None, live) if drill.is_open() => without_record(drill, found(drill, live), held, now),
        (Some(_), Some(own)) => with_record(drill, own, now),
        // It was archived meanwhile.
        (Some(id), None) if drill.is_open() => Next::Judge(Verdict::unclear(format!("{id} is gone"))),
        (None, _) | (Some(_), None) => Next::Wait,
    }
}

/// Whose record that is which is live on the resource of a drill that has none yet.
pub fn found(drill: &Drill, live: Option<&Deletion>) -> Found {
    match live {
        None => Found::Free,
        Some(d) if !is_drill(d) => Found::Foreign(d.id),
        Some(d) if d.record.created_at >= drill.begun_at => Found::Own(d.id),
        Some(d) => Found::LeftBehind(d.id),
    }
}

fn without_record(drill: &Drill, found: Found, held: bool, now: Timestamp) -> Next {
    let resource = &drill.resource;
    match found {
        Found::Own(id) => Next::Take(id),
        // If it cannot be brought back in time, a person has to look.
        Found::LeftBehind(id) if now < drill.finish_by => Next::Cancel(id, "a drill that was left behind"),
        Found::LeftBehind(id) | Found::Foreign(id) => {
            let why = format!("{resource} has a deletion record, {id}: look at that one first");
            Next::Judge(Verdict::unclear(why))
        }
        Found::Free if held => Next::Make,
        Found::Free => Next::Judge(Verdict::unclear(format!("no drills are held with {resource} any more"))),
    }
}

/// About one whose record is `d`. What has failed is told at once, and cancelled all the same.
fn with_record(drill: &Drill, d: &Deletion, now: Timestamp) -> Next {
    let judge = |verdict: Verdict| if drill.is_open() { Next::Judge(verdict) } else { Next::Wait };
    let beyond = [Stage::Hard, Stage::Purge, Stage::Recycle].into_iter().any(|stage| d.claimed(stage));
    if beyond {
        return judge(Verdict::failed("it went beyond soft, which nothing of a drill ever may"));
    }
    let switched_off = d.stage_job(Stage::Soft).is_some_and(|job| job.state == JobState::Done);
    match d.status {
        RecordStatus::Live if switched_off => Next::Cancel(d.id, "the drill: soft is done"),
        RecordStatus::Live => match (late(drill, d, now), drill.is_open()) {
            (Some(verdict), true) => Next::Judge(verdict),
            (Some(_), false) | (None, false) => Next::Cancel(d.id, "the drill has failed"),
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
