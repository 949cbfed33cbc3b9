//! What lies ahead of a record: when its stages are due, and what was asked for that cannot be met.
use std::collections::BTreeMap;

use sexton_api::Created;
use sexton_model::Timestamp;
use sexton_model::deletion::Deletion;
use sexton_model::job::{JobState, Stage};
use sexton_model::time::{Day, add_days};

/// When each stage is due as far as one can say at `now`, and whether that can still move: from its job, or counted on
/// from its predecessor's estimate. A stage that is due and not over yet ends now at the earliest.
pub(super) fn estimates(d: &Deletion, day: Day, now: Timestamp) -> BTreeMap<Stage, (Timestamp, bool)> {
    let mut estimates = BTreeMap::new();
    let mut before: Option<Timestamp> = None;
    for stage in Stage::ALL {
        let known = d.stage_job(stage).and_then(|job| match &job.state {
            JobState::Scheduled { due_at } => *due_at,
            JobState::Held { due_at, .. } => Some(*due_at),
            _ => None,
        });
        let ended = d.stage_job(stage).and_then(|job| job.ended_at);
        let due = match (known, before) {
            (Some(due), _) => (due, false),
            (None, Some(before)) => (d.due_after(stage, before, day), true),
            (None, None) => (d.date_of(stage, day), true),
        };
        estimates.insert(stage, due);
        before = Some(ended.unwrap_or(due.0.max(now)));
    }
    estimates
}

/// The answer to whoever made the record `d`.
pub(super) fn created(d: &Deletion, day: Day, now: Timestamp) -> Created {
    let estimates = estimates(d, day, now);
    let due = |stage: Stage| estimates.get(&stage).map(|(due, _)| *due);
    let mut late = Vec::new();
    let record = &d.record;
    // The end of the policy day `days` after the record's date.
    let end = |days: i32| {
        let offset = d.plan.stage(Stage::Soft).offset_days;
        let days = days.saturating_sub(offset).saturating_add(1);
        add_days(d.date_of(Stage::Soft, day), days, record.due.zone.0, day)
    };
    if let Some(soft) = due(Stage::Soft)
        && soft >= end(d.plan.stage(Stage::Soft).offset_days)
    {
        let notice = d.plan.stage(Stage::Soft).offset_days - d.plan.stage(Stage::Announce).offset_days;
        late.push(format!(
            "{} cannot be met: it is announced now, and the plan has soft {notice} days after that: {soft} at the \
             earliest",
            record.due.date
        ));
    }
    if let (Some(gone_by), Some(purge)) = (record.gone_by, due(Stage::Purge))
        && purge >= end(countable((gone_by - record.due.date).num_days()))
    {
        late.push(format!(
            "gone by {gone_by} cannot be met: its data is destroyed at {purge} at the earliest"
        ));
    }
    Created { deletion: d.id, soft_at: due(Stage::Soft), purge_at: due(Stage::Purge), late }
}

/// As many days as every zone's calendar can count on from the date of any record, at most.
fn countable(days: i64) -> i32 {
    const MOST: i64 = 1_000_000;
    i32::try_from(days.min(MOST)).unwrap_or_default()
}
