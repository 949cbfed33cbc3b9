//! What a cancel would take back now, and until when; said wherever a deletion is shown.
//!
//! Contract: says what [`crate::decide::decide`] would answer to a cancel at that moment, and decides nothing itself.
use std::fmt;

use crate::catalogue::Nature;
use crate::deletion::{Deletion, RecordStatus};
use crate::job::Stage;
use crate::outlook::{Foresight, estimates};
use crate::time::{Day, Timestamp};

/// What can still be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Whether a cancel would be taken.
    pub possible: bool,
    /// The steps that it would take back, by their names in the plan, in that order; none if nothing was changed yet.
    pub steps: Vec<String>,
    /// Until when a cancel, or, after the end of cancel, a rescue by hand is certain to be possible; none if it is not.
    pub until: Option<Timestamp>,
    /// It in a sentence.
    pub words: String,
}

impl Undo {
    fn no(words: &str) -> Self {
        Self { possible: false, steps: Vec::new(), until: None, words: words.to_owned() }
    }

    /// What it restores and until when, in one sentence.
    pub fn offer(&self) -> String {
        match self.until {
            Some(until) => format!("{}; at least until {until}", self.words),
            None => self.words.clone(),
        }
    }
}

/// What can still be saved by hand of what cannot be cancelled any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Salvage {
    /// All of its data, and a rescue is taken: purge has not begun.
    Data {
        /// When purge begins at the earliest; none once that has passed, and only what holds purge keeps the data.
        until: Option<Timestamp>,
    },
    /// What purge, which has begun, did not destroy yet, or could not.
    Rest {
        /// Its steps that destroy something and are not done, by their names in the plan, in that order.
        steps: Vec<String>,
        /// Whether the first of them may have begun.
        begun: bool,
        /// The steps that were waived as "may remain".
        may_remain: Vec<String>,
    },
}

impl Salvage {
    /// How long the data is there, without the date: that moves with the clock while hard is not over.
    fn there(until: Option<Timestamp>) -> &'static str {
        match until {
            Some(_) => "there until purge begins",
            None => {
                "still there, but purge, whose date has passed, may begin any moment, once nothing holds it any more"
            }
        }
    }
}

impl fmt::Display for Salvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { until } => {
                write!(f, "The data is {}", Self::there(*until))?;
                if let Some(until) = until {
                    write!(f, ", {until} at the earliest")?;
                }
                f.write_str(": hold it or pause the purge, save it by hand, then `rescue`")
            }
            Self::Rest { steps, begun, may_remain } => {
                let mut said = Vec::new();
                let mut steps = steps.clone();
                if *begun && let Some(first) = steps.first_mut() {
                    first.push_str(" (may have begun)");
                }
                if !steps.is_empty() {
                    let steps = steps.join(", ");
                    said.push(format!(
                        "Not done yet: {steps}. Hold it, and save by hand what these would destroy"
                    ));
                }
                if !may_remain.is_empty() {
                    said.push(format!("Something may remain of {}", may_remain.join(", ")));
                }
                if said.is_empty() {
                    said.push(
                        "There is nothing more that it would destroy; what the plan does not delete, such as a \
                         backup, may be left"
                            .to_owned(),
                    );
                }
                f.write_str(&said.join(". "))
            }
        }
    }
}

/// What can still be saved by hand at `now`, once hard has begun.
pub fn salvage(d: &Deletion, day: Day, now: Timestamp) -> Salvage {
    let Some(purge) = d.stage_job(Stage::Purge).filter(|_| d.claimed(Stage::Purge)) else {
        let until = data_until(d, day, now);
        // What is past is promised to nobody.
        let until = until.filter(|until| *until > now);
        return Salvage::Data { until };
    };
    let destroys = |nature: Nature| nature == Nature::Destructive;
    let steps = d.left(purge).filter(|(step, _)| destroys(step.nature));
    Salvage::Rest {
        steps: steps.map(|(step, _)| step.name.clone()).collect(),
        begun: purge.touched && d.step_at(purge).is_some_and(|(_, _, step)| destroys(step.nature)),
        may_remain: d.may_remain().into_iter().map(str::to_owned).collect(),
    }
}

/// Until when its data is certain to be there, and a rescue by hand possible: by its dates alone, as all that is promised. It
/// may be past; see [`salvage`].
pub fn data_until(d: &Deletion, day: Day, now: Timestamp) -> Option<Timestamp> {
    estimates(d, &Foresight::of_dates(day, now)).get(&Stage::Purge).map(|estimate| estimate.at)
}

/// Of what can be cancelled still, and only because something holds hard.
const PASSED: &str = "hard, whose date has passed, may begin any moment, once nothing holds it any more";

/// What a cancel would take back at `now`.
pub fn undo(d: &Deletion, day: Day, now: Timestamp) -> Undo {
    match d.status {
        RecordStatus::Restoring => Undo::no("it is being restored"),
        RecordStatus::Cancelled => Undo::no("it was cancelled and restored"),
        RecordStatus::Rescued => Undo::no("it was saved by hand"),
        RecordStatus::Recycled => Undo::no("nothing any more: the deletion is complete"),
        RecordStatus::Live if d.stage_job(Stage::Purge).is_some_and(|job| job.state.name().over()) => {
            Undo::no("nothing any more: purge is over, and the name is kept until recycle")
        }
        RecordStatus::Live if d.claimed(Stage::Hard) || d.claimed(Stage::Purge) => {
            let still = salvage(d, day, now);
            match still {
                Salvage::Data { until } => {
                    let there = Salvage::there(until);
                    let words = format!(
                        "it cannot be cancelled any more; its data is {there}: pause the purge, save it by hand, then \
                         `sexton rescue`"
                    );
                    Undo { until, ..Undo::no(&words) }
                }
                Salvage::Rest { .. } => {
                    Undo::no(&format!("nothing any more: purge has begun, which destroys the data. {still}"))
                }
            }
        }
        RecordStatus::Live => {
            let steps: Vec<String> = d
                .undo_list()
                .iter()
                .filter_map(|u| d.plan.stage(u.stage).steps.get(usize::from(u.index)))
                .map(|step| step.name.clone())
                .collect();
            let words = if steps.is_empty() {
                "everything: nothing was changed yet; `sexton cancel` ends it".to_owned()
            } else {
                format!("everything: `sexton cancel` takes back {}", steps.join(", "))
            };
            // What is promised holds also if the hours change, or somebody lets it pass them. What is past is promised to nobody.
            let due = estimates(d, &Foresight::of_dates(day, now));
            let until = due.get(&Stage::Hard).map(|estimate| estimate.at).filter(|until| *until > now);
            let words = match until {
                Some(_) => words,
                None => format!("{words}; {PASSED}"),
            };
            Undo { possible: true, steps, until, words }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::test_deletion;
    use crate::job::{Blocker, JobKind, JobState};

    #[test]
    fn what_can_be_undone_is_said_as_it_is() {
        let (mut d, day, ..) = test_deletion();
        let mut all = vec![undo(&d, day, Timestamp(0))];
        for stage in Stage::ALL {
            for done in [false, true] {
                let job = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(stage)).unwrap();
                (job.state, job.ended_at) = match done {
                    false => (JobState::Ready { since: Timestamp(1), blocked: None }, None),
                    true => (JobState::Done, Some(Timestamp(2))),
                };
                all.push(undo(&d, day, Timestamp(2)));
            }
        }
        d.status = RecordStatus::Recycled;
        all.push(undo(&d, day, Timestamp(3)));
        all.dedup_by(|a, b| a.words == b.words);
        let begins = [
            "everything: ",
            "it cannot be cancelled any more; its data is there until purge begins",
            "nothing any more: purge has begun, which destroys the data",
            "nothing any more: purge is over, and the name is kept until recycle",
            "nothing any more: the deletion is complete",
        ];
        assert_eq!(all.len(), begins.len(), "{all:#?}");
        assert!(all.iter().zip(begins).all(|(said, begin)| said.words.starts_with(begin)), "{all:#?}");
        assert!(all[0].until.is_some() && all[1].until > all[0].until, "{all:#?}");
        assert!(all[2..].iter().all(|said| said.until.is_none()), "{all:#?}");
    }

    /// Whatever holds it: what has passed is no promise, and the data is there all the same.
    #[test]
    fn a_date_that_has_passed_is_promised_to_nobody() {
        let (mut d, day, ..) = test_deletion();
        let due_at = d.date_of(Stage::Purge, day);
        let mut set = |stage: Stage, state: JobState| {
            let job = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(stage)).unwrap();
            job.ended_at = (state == JobState::Done).then_some(Timestamp(2));
            job.state = state;
            d.clone()
        };
        for stage in [Stage::Announce, Stage::Soft, Stage::Hard] {
            set(stage, JobState::Done);
        }
        let by = Blocker::Protected;
        for state in [JobState::Scheduled { due_at: Some(due_at) }, JobState::Held { due_at, by }] {
            let d = set(Stage::Purge, state);
            let before = Timestamp(due_at.0 - 1);
            let (said, still) = (undo(&d, day, before), salvage(&d, day, before));
            assert_eq!((said.until, &still), (Some(due_at), &Salvage::Data { until: Some(due_at) }));
            assert!(said.words.contains("its data is there until purge begins: "), "{}", said.words);
            assert!(still.to_string().contains(&format!("until purge begins, {due_at} at the earliest: ")));
            for now in [due_at, due_at.plus_ms(7 * 86_400_000)] {
                let (said, still) = (undo(&d, day, now), salvage(&d, day, now));
                assert_eq!((said.until, &still), (None, &Salvage::Data { until: None }), "{now}");
                for said in [said.offer(), still.to_string()] {
                    let told = "still there, but purge, whose date has passed, may begin any moment, once nothing holds it";
                    assert!(said.contains(told) && said.contains("save it by hand, then "), "{said}");
                    assert!(!said.contains(&due_at.to_string()) && !said.contains("at least"), "{said}");
                }
            }
        }
    }

    /// The same of hard, while it can be cancelled.
    #[test]
    fn a_date_of_hard_that_has_passed_is_promised_to_nobody() {
        let (mut d, day, ..) = test_deletion();
        let due_at = d.date_of(Stage::Hard, day);
        let held = JobState::Held { due_at, by: Blocker::Protected };
        for (stage, state) in
            [(Stage::Announce, JobState::Done), (Stage::Soft, JobState::Done), (Stage::Hard, held)]
        {
            let job = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(stage)).unwrap();
            job.ended_at = (state == JobState::Done).then_some(Timestamp(2));
            job.state = state;
        }
        let before = undo(&d, day, Timestamp(due_at.0 - 1));
        assert_eq!((before.possible, before.until), (true, Some(due_at)));
        assert!(before.offer().ends_with(&format!("; at least until {due_at}")), "{}", before.offer());
        for now in [due_at, due_at.plus_ms(7 * 86_400_000)] {
            let said = undo(&d, day, now);
            assert_eq!((said.possible, said.until), (true, None), "{now}");
            assert_eq!(said.offer(), format!("{}; {PASSED}", before.words));
        }
    }

    #[test]
    fn it_names_what_would_be_taken_back_the_last_step_first() {
        let (mut d, day, now, _) = test_deletion();
        for (stage, cursor) in [(Stage::Announce, 2), (Stage::Soft, 1)] {
            let job = d.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(stage)).unwrap();
            job.cursor = cursor;
        }
        let said = undo(&d, day, now);
        assert_eq!(said.steps, ["hypervisor.stop", "hypervisor.tell"]);
        assert!(said.words.ends_with("takes back hypervisor.stop, hypervisor.tell"), "{}", said.words);
        let until = d.date_of(Stage::Hard, day);
        assert_eq!(said.until, Some(until));
        assert_eq!(data_until(&d, day, now), Some(d.date_of(Stage::Purge, day)));
        assert_eq!(said.offer(), format!("{}; at least until {until}", said.words));
        d.status = RecordStatus::Rescued;
        assert_eq!(undo(&d, day, now).offer(), "it was saved by hand", "no date where nothing is offered");
    }
}
