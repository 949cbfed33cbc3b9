//! When a stage may begin (I1): from its date on, and after the grace since the stage before it; what was lost of that counts
//! for none.
use sexton_ledger::{AuditRow, DeletionView};
use sexton_model::Timestamp;
use sexton_model::job::{JobKind, Stage, StateName};

use super::lost::Lost;
use super::{DAY_MS, Violation, violated};

/// That it is not earlier.
pub(super) fn early(
    view: &DeletionView,
    stage: Stage,
    (at, lost): (Timestamp, &Lost),
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let Some(due) = due_since(view, stage) else {
        return violated("I1", format!("{}: the stage before it has not ended", told()));
    };
    if at < due {
        violated("I1", format!("{}: {stage} is due at {due}", told()))?;
    }
    let from = before(stage).and_then(|before| ended_at(view, before)).unwrap_or(due);
    let lost_us = match stage {
        Stage::Soft | Stage::Hard | Stage::Purge => lost.within_us(from, at),
        Stage::Announce | Stage::Recycle => 0,
    };
    if at.0 < due.0.saturating_add(lost_us) {
        violated(
            "I1",
            format!("{}: {stage} is due at {due}, and {lost_us} us of its grace were lost", told()),
        )?;
    }
    Ok(())
}

/// Since when a stage has been due; none before the one before it has ended.
pub(super) fn due_since(view: &DeletionView, stage: Stage) -> Option<Timestamp> {
    let offset = |stage: Stage| view.deletion.plan.stage(stage).offset_days;
    let record = &view.deletion.record;
    let date = record.due.moment.map_or(Timestamp::MAX, |moment| later(moment, offset(stage)));
    match before(stage) {
        None => Some(date.max(record.created_at)),
        Some(before) => {
            let ended = ended_at(view, before)?;
            Some(date.max(later(ended, offset(stage) - offset(before))))
        }
    }
}

fn before(stage: Stage) -> Option<Stage> {
    Stage::ALL.into_iter().filter(|other| *other < stage).max()
}

fn later(moment: Timestamp, days: i32) -> Timestamp {
    let day_us = i64::try_from(DAY_MS).unwrap_or(i64::MAX).saturating_mul(1000);
    Timestamp(moment.0.saturating_add(i64::from(days).saturating_mul(day_us)))
}

fn ended_at(view: &DeletionView, stage: Stage) -> Option<Timestamp> {
    let done = |row: &&AuditRow| {
        row.event.job == Some(JobKind::Stage(stage)) && row.event.state == Some(StateName::Done)
    };
    view.audit.iter().find(done).map(|row| row.event.at)
}
