//! What lies ahead of a record: when its stages are due, and what was asked for that cannot be met.
use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::belts::window::{Windows, bound};
use crate::belts::{self, InForce, Pause};
use crate::deletion::{Deletion, RecordStatus};
use crate::job::{JobState, Stage};
use crate::time::{Day, Timestamp, add_days};

/// By what one foretells.
#[derive(Debug, Clone, Copy)]
pub struct Foresight<'a> {
    /// What a day is.
    pub day: Day,
    /// The hours in which stages past the end of cancel begin, as they are now; none if they begin whenever they are due. A
    /// rehearsal has none, whatever stands here.
    pub hours: Option<&'a Windows>,
    /// When one looks.
    pub now: Timestamp,
}

impl<'a> Foresight<'a> {
    /// When stages are due, whatever the hours.
    pub fn of_dates(day: Day, now: Timestamp) -> Self {
        Self { day, hours: None, now }
    }

    /// When what is due at `due` may begin, if the hours keep it from beginning then.
    fn opening(&self, due: Timestamp) -> Option<Timestamp> {
        let hours: &'a Windows = self.hours.filter(|_| !self.day.is_rehearsal())?;
        let due = due.max(self.now);
        (!hours.open(due)).then(|| hours.next_opening(due))
    }
}

/// When a stage is due, and may begin, as far as one can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The moment; never later than it will be in the end, as long as the hours stay as they are.
    pub at: Timestamp,
    /// Whether it can still move: what comes before it is not over, or it waits for hours, which may be changed.
    pub can_move: bool,
}

/// When each stage is due as far as one can say: from its job, or counted on from its predecessor's estimate; and if it is
/// not to begin then, when the hours let it. A stage that is due and not over yet ends now at the earliest.
pub fn estimates(d: &Deletion, by: &Foresight<'_>) -> BTreeMap<Stage, Estimate> {
    let Foresight { day, now, .. } = *by;
    let mut estimates = BTreeMap::new();
    let mut before: Option<Timestamp> = None;
    for stage in Stage::ALL {
        let known = d.stage_job(stage).and_then(|job| match &job.state {
            JobState::Scheduled { due_at } => *due_at,
            JobState::Held { due_at, .. } => Some(*due_at),
            _ => None,
        });
        let ended = d.stage_job(stage).and_then(|job| job.ended_at);
        let estimate = match (known, before) {
            (Some(at), _) => Estimate { at, can_move: false },
            (None, Some(before)) => Estimate { at: d.due_after(stage, before, day), can_move: true },
            (None, None) => Estimate { at: d.date_of(stage, day), can_move: true },
        };
        let waits = d.stage_job(stage).is_some_and(|job| bound(stage, job));
        let estimate = match by.opening(estimate.at).filter(|_| waits) {
            Some(at) => Estimate { at, can_move: true },
            None => estimate,
        };
        estimates.insert(stage, estimate);
        before = Some(ended.unwrap_or(estimate.at.max(now)));
    }
    estimates
}

/// What people have said that stops a stage which has not begun and is not held yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stops {
    /// Pauses of any of its steps, in their words.
    pub pauses: Vec<String>,
    /// Set if the ceiling stops it: when it would have begun if nothing had been held for that. It may be past.
    pub would_have: Option<Timestamp>,
}

impl Stops {
    /// The ceiling's part, of `stage`, in a sentence.
    pub fn would(&self, stage: Stage, now: Timestamp) -> Option<String> {
        let at = self.would_have?;
        let word = if at <= now { "would have begun" } else { "would begin" };
        Some(format!("{word} {stage} at {at}, under a higher ceiling"))
    }
}

/// What stops the stages that have not begun, before each is due: for whoever looks at a record. Stages that nothing stops
/// are left out; what is held says why itself, and here only when a ceiling would have let it begin.
pub fn stops(d: &Deletion, in_force: &InForce, by: &Foresight<'_>) -> BTreeMap<Stage, Stops> {
    if d.status != RecordStatus::Live {
        return BTreeMap::new();
    }
    // As if each stage had ended when it was due.
    let planned = estimates(d, &Foresight { now: Timestamp(i64::MIN), ..*by });
    let paused: Vec<(String, Vec<Stage>)> = in_force
        .pauses
        .iter()
        .map(|pause| {
            let Pause { id, by, reason, .. } = pause;
            (format!("pause {id} covers it: {by}: {reason}"), pause.stages_of(d))
        })
        .collect();
    let mut all = BTreeMap::new();
    for stage in Stage::ALL {
        let Some(job) = d.stage_job(stage) else { continue };
        let scheduled = matches!(job.state, JobState::Scheduled { .. });
        if !scheduled && !matches!(job.state, JobState::Held { .. }) {
            continue;
        }
        let covers = |(_, stages): &&(String, Vec<Stage>)| scheduled && stages.contains(&stage);
        let above = belts::above_ceiling(d, (stage, job), in_force, by.now).is_some();
        let stops = Stops {
            pauses: paused.iter().filter(covers).map(|(said, _)| said.clone()).collect(),
            would_have: planned.get(&stage).map(|estimate| estimate.at).filter(|_| above),
        };
        if stops != Stops::default() {
            all.insert(stage, stops);
        }
    }
    all
}

/// Something that was asked for and cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    /// The date on which it is to be switched off.
    #[error(
        "{date} cannot be met: it is announced now, and the plan has soft {notice_days} days after that: {soft} at the \
         earliest"
    )]
    Date {
        /// What was asked for.
        date: NaiveDate,
        /// Days between announce and soft.
        notice_days: i32,
        /// What can be had.
        soft: Timestamp,
    },
    /// The date by which it must be gone.
    #[error("gone by {gone_by} cannot be met: its data is destroyed at {purge} at the earliest")]
    GoneBy {
        /// What was asked for.
        gone_by: NaiveDate,
        /// What can be had.
        purge: Timestamp,
    },
}

/// What was asked for with the record `d` and cannot be met, as far as one can say.
pub fn late(d: &Deletion, by: &Foresight<'_>) -> Vec<Late> {
    let (estimates, day) = (estimates(d, by), by.day);
    let due = |stage: Stage| estimates.get(&stage).map(|estimate| estimate.at);
    let offset = |stage: Stage| d.plan.stage(stage).offset_days;
    let record = &d.record;
    let end = |days: i32| end_of_day(d, days, day);
    let mut late = Vec::new();
    if let Some(soft) = due(Stage::Soft)
        && soft >= end(offset(Stage::Soft))
    {
        let notice_days = offset(Stage::Soft).saturating_sub(offset(Stage::Announce));
        late.push(Late::Date { date: record.due.date, notice_days, soft });
    }
    if let (Some(gone_by), Some(purge)) = (record.gone_by, due(Stage::Purge))
        && purge >= end_of(d, gone_by, day)
    {
        late.push(Late::GoneBy { gone_by, purge });
    }
    late
}

/// The end of the policy day `days` after the record's date.
fn end_of_day(d: &Deletion, days: i32, day: Day) -> Timestamp {
    let days = days.saturating_sub(d.plan.stage(Stage::Soft).offset_days).saturating_add(1);
    add_days(d.date_of(Stage::Soft, day), days, d.record.due.zone.0, day)
}

/// The end of `date` in the record's zone; in a rehearsal, of the day that is as far from its due date.
pub fn end_of(d: &Deletion, date: NaiveDate, day: Day) -> Timestamp {
    end_of_day(d, countable((date - d.record.due.date).num_days()), day)
}

/// As many days as every zone's calendar can count on from the date of any record, at most.
fn countable(days: i64) -> i32 {
    const MOST: i64 = 1_000_000;
    i32::try_from(days.min(MOST)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::belts::PauseSelector;
    use crate::belts::ceiling::Ceiling;
    use crate::decide::test_plan;
    use crate::deletion::{Due, Record};
    use crate::id::DeletionId;
    use crate::job::Blocker;
    use crate::time::start_of;

    /// Announce 5 days before soft, purge 8 days after it.
    fn record(made_on: &str, gone_by: Option<&str>) -> Deletion {
        let resource = json!({
            "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "1" }, "criticality": "irreplaceable",
        });
        let zone: crate::deletion::Zone = "Europe/Berlin".parse().unwrap();
        let record = Record {
            resource: serde_json::from_value(resource).unwrap(),
            due: Due { date: "2026-12-10".parse().unwrap(), zone, moment: None },
            gone_by: gone_by.map(|date| date.parse().unwrap()),
            requested_by: "platform".parse().unwrap(),
            reason: "no longer needed".into(),
            created_at: start(made_on),
        };
        Deletion::draw_up(DeletionId(1), record, Arc::new(test_plan()), Day::Calendar).unwrap()
    }

    fn start(date: &str) -> Timestamp {
        start_of(date.parse().unwrap(), chrono_tz::Europe::Berlin)
    }

    #[test]
    fn each_stage_counts_on_from_the_one_before() {
        let d = record("2026-12-01", None);
        let dates = |now: &str| {
            estimates(&d, &Foresight::of_dates(Day::Calendar, start(now))).into_values().collect::<Vec<_>>()
        };
        let on = |date: &str, can_move| Estimate { at: start(date), can_move };
        let planned = [
            on("2026-12-05", false),
            on("2026-12-10", true),
            on("2026-12-13", true),
            on("2026-12-18", true),
            on("2027-01-17", true),
        ];
        assert_eq!(dates("2026-12-01"), planned);
        let late = dates("2026-12-07");
        assert_eq!(late[0], planned[0], "it was due, whenever one looks");
        assert_eq!(late[1], on("2026-12-12", true), "an announcement that is late shortens no notice");
    }

    /// Of an afternoon's hour each Wednesday.
    fn wednesdays(zone: &str) -> Windows {
        let text = format!(r#"{{ "zone": "{zone}", "days": ["wed"], "from": "14:00", "to": "15:00" }}"#);
        let written: crate::belts::window::Written = serde_json::from_str(&text).unwrap();
        written.windows().unwrap().unwrap()
    }

    #[test]
    fn what_begins_in_working_hours_only_is_foretold_for_them() {
        let d = record("2026-12-01", Some("2026-12-18"));
        let hours = wednesdays("Europe/Berlin");
        let now = start("2026-12-01");
        let by = Foresight { day: Day::Calendar, hours: Some(&hours), now };
        // A date begins five minutes after midnight.
        let at_two = |date: &str| start(date).plus_ms((14 * 60 - 5) * 60_000);
        let found: Vec<Estimate> = estimates(&d, &by).into_values().collect();
        let on = |at, can_move| Estimate { at, can_move };
        assert_eq!(found[..2], [on(start("2026-12-05"), false), on(start("2026-12-10"), true)], "not bound");
        assert_eq!(found[2], on(at_two("2026-12-16"), true), "the 13th is a Sunday");
        // Five days after the hour at which hard begins, and so a Wednesday later again.
        assert_eq!(found[3], on(at_two("2026-12-23"), true));
        let Some(Late::GoneBy { purge, .. }) = late(&d, &by).pop() else {
            panic!("it is met without hours only")
        };
        assert_eq!(purge, at_two("2026-12-23"));
        assert_eq!(late(&d, &Foresight::of_dates(Day::Calendar, now)), []);
        // In a rehearsal there are no hours.
        let rehearsal = Day::Rehearsal { length_ms: 1000 };
        let (with, without) = (Foresight { day: rehearsal, ..by }, Foresight::of_dates(rehearsal, now));
        assert_eq!(estimates(&d, &with), estimates(&d, &without));
    }

    #[test]
    fn what_is_due_and_waits_for_hours_says_when_it_may_begin() {
        let mut d = record("2026-12-01", None);
        let due_at = start("2026-12-13");
        let hours = wednesdays("UTC");
        let at = |d: &Deletion, now| {
            let by = Foresight { day: Day::Calendar, hours: Some(&hours), now };
            estimates(d, &by).get(&Stage::Hard).copied().unwrap()
        };
        let set = |d: &mut Deletion, state| {
            d.jobs
                .iter_mut()
                .find(|job| job.kind == crate::job::JobKind::Stage(Stage::Hard))
                .unwrap()
                .state = state;
        };
        set(&mut d, JobState::Scheduled { due_at: Some(due_at) });
        let opens = hours.next_opening(due_at);
        assert_eq!(at(&d, due_at), Estimate { at: opens, can_move: true });
        assert_eq!(at(&d, opens), Estimate { at: due_at, can_move: false }, "it is open, and was due before");
        let closed = opens.plus_ms(3 * 3_600_000);
        assert_eq!(at(&d, closed), Estimate { at: hours.next_opening(closed), can_move: true });
        // What has begun goes on.
        set(&mut d, JobState::Parked { reason: "look".into() });
        let dates = Foresight::of_dates(Day::Calendar, closed);
        assert_eq!(at(&d, closed), estimates(&d, &dates)[&Stage::Hard]);
    }

    /// A record's own copy of a plan is not linted again: whatever it counts, it is counted.
    #[test]
    fn a_plan_that_counts_beyond_the_calendar_says_never() {
        let mut d = record("2026-12-01", Some("2026-12-18"));
        let mut plan = test_plan();
        let offsets = [i32::MIN, 0, i32::MAX - 1, i32::MAX, i32::MAX];
        for (stage, offset) in plan.stages.iter_mut().zip(offsets) {
            stage.offset_days = offset;
        }
        d.plan = Arc::new(plan);
        let by = Foresight::of_dates(Day::Calendar, start("2026-12-01"));
        let purge = estimates(&d, &by)[&Stage::Purge].at;
        assert_eq!(purge, Timestamp::MAX);
        assert!(late(&d, &by).iter().any(|late| matches!(late, Late::GoneBy { .. })));
    }

    #[test]
    fn what_cannot_be_met_is_said() {
        let said = |made_on: &str, gone_by| {
            late(&record(made_on, gone_by), &Foresight::of_dates(Day::Calendar, start(made_on)))
        };
        assert_eq!(said("2026-12-01", None), []);
        assert_eq!(said("2026-12-05", None), [], "announced on the last day");
        let soft = start("2026-12-11");
        let date = Late::Date { date: "2026-12-10".parse().unwrap(), notice_days: 5, soft };
        assert_eq!(said("2026-12-06", None), [date]);

        assert_eq!(said("2026-12-01", Some("2026-12-18")), [], "purged on that very day");
        let gone_by = Late::GoneBy { gone_by: "2026-12-17".parse().unwrap(), purge: start("2026-12-18") };
        assert_eq!(said("2026-12-01", Some("2026-12-17")), std::slice::from_ref(&gone_by));
        assert!(gone_by.to_string().contains("gone by 2026-12-17 cannot be met"), "{gone_by}");
    }

    #[test]
    fn before_a_stage_is_due_it_says_what_would_stop_it_and_when_it_would_have_begun() {
        let mut d = record("2026-12-01", None);
        let in_force = |ceiling, pauses| InForce {
            pauses,
            ceilings: crate::decide::test_ceiling(ceiling),
            one_shots: Vec::new(),
        };
        let now = start("2026-12-14");
        let by = Foresight::of_dates(Day::Calendar, now);
        assert_eq!(stops(&d, &in_force(Ceiling::Purge, Vec::new()), &by), BTreeMap::new());

        // Only observed: each stage says when it would have begun, though the first one never did.
        let observed = in_force(Ceiling::Observe, Vec::new());
        let would = |d: &Deletion| -> Vec<String> {
            stops(d, &observed, &by).iter().filter_map(|(stage, stops)| stops.would(*stage, now)).collect()
        };
        let dates = ["2026-12-05", "2026-12-10", "2026-12-13", "2026-12-18", "2027-01-17"];
        let said: Vec<String> = Stage::ALL
            .into_iter()
            .zip(dates)
            .map(|(stage, date)| {
                let word = if stage <= Stage::Hard { "would have begun" } else { "would begin" };
                format!("{word} {stage} at {}, under a higher ceiling", start(date))
            })
            .collect();
        assert_eq!(would(&d), said);
        let held = Blocker::Ceiling { stage: Stage::Announce, of: "x".into(), ceiling: Ceiling::Observe };
        d.jobs[0].state = JobState::Held { due_at: start("2026-12-05"), by: held };
        assert_eq!(would(&d), said, "its place is kept");

        let covers = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
        let pause =
            Pause { id: 7, covers, by: "ops".parse().unwrap(), reason: "look".into(), since: Timestamp(0) };
        let paused = stops(&d, &in_force(Ceiling::Purge, vec![pause]), &by);
        assert_eq!(paused.keys().collect::<Vec<_>>(), [&Stage::Soft]);
        assert_eq!(paused[&Stage::Soft].pauses, ["pause 7 covers it: ops: look"]);
        d.status = RecordStatus::Restoring;
        assert_eq!(stops(&d, &observed, &by), BTreeMap::new(), "no restore is stopped");
    }
}
