//! Surveys: what the subsystems hold of a resource, asked before there is a record. What comes back is what a record
//! would pin at announce, and so what each of its later steps would be about.
//!
//! Contract: this only judges. A survey is made of the steps that look at announce, each asked of its own instance, and
//! nothing that is asked changes anything. An answer counts once, from the instance that was asked, under the number
//! that it was asked with, and in time; whoever has not answered is not guessed.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::belts::Pause;
use crate::canary::Came;
use crate::catalogue::Nature;
use crate::decide::unbelievable;
use crate::deletion::{Deletion, Due};
use crate::id::{Actor, Fence, Instance, Kind, ResourceId};
use crate::job::{Job, Stage};
use crate::plan::{Plan, STEPS_MAX, Step};
use crate::resource::Resource;
use crate::step::{Mode, Outcome, too_large};
use crate::targets;
use crate::time::Timestamp;

/// How long a survey waits for answers unless it is said, and at the most, in seconds: as long as a person waits at a
/// screen.
pub const ANSWER_SECS: u64 = 20;
/// See [`ANSWER_SECS`].
pub const ANSWER_SECS_MAX: u64 = 120;
/// Most looks of one survey: as many as announce may have steps.
pub const LOOKS_MAX: usize = STEPS_MAX;
/// Most surveys that are open at once, over all coordinators: each asks every subsystem of a resource, beside what
/// records order, and nobody counts it as credit.
pub const OPEN_MAX: usize = 64;
/// Most that one coordinator has begun, whose time is not over, and whose last answer it has not heard: a quarter of all,
/// so one that is flooded leaves room for the others.
pub const OPEN_HERE_MAX: usize = 16;
/// Most that are begun within a minute, over all coordinators: one a second, which consumers do not notice.
pub const MINUTELY_MAX: usize = 60;
/// How long one is kept to be read, in microseconds: an hour. What it saw is old then.
pub const KEPT_US: i64 = 3_600_000_000;
/// Most that are kept: what they saw may be half a megabyte each.
pub const KEPT_MAX: i64 = 128;
/// After how long whoever has not answered is asked again, in microseconds: three seconds, so a message that was lost,
/// or a consumer that was busy, costs no survey.
pub const AGAIN_US: i64 = 3_000_000;

/// What is looked at, as it is registered and planned at that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The resource.
    pub resource: Resource,
    /// When it would be due; a plan's parameters may name it.
    pub due: Due,
    /// The plan that a record would get.
    pub plan: Plan,
}

/// One step that looks, asked of its instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Its index among the steps of announce.
    pub step: u16,
    /// Who is asked.
    pub instance: Instance,
    /// What the order is numbered with.
    pub fence: Fence,
    /// What is known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// What came of one look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// It is there, and the right one: this would be pinned.
    Seen {
        /// What was said of it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        evidence: String,
        /// What would be pinned of that instance.
        targets: Value,
    },
    /// It would be refused: another identity, in use, protected there. At announce that parks.
    Refused {
        /// Why.
        reason: String,
    },
    /// Not yet: it is asked again as long as there is time.
    NotNow {
        /// Why.
        reason: String,
    },
    /// Nobody was asked.
    NotAsked {
        /// Why.
        reason: String,
    },
}

impl Answer {
    /// Whether nothing more is waited for.
    fn is_last(&self) -> bool {
        match self {
            Self::Seen { .. } | Self::Refused { .. } | Self::NotAsked { .. } => true,
            Self::NotNow { .. } => false,
        }
    }

    /// What an answer to a look means: what settles an inspection of a record settles this.
    fn of(came: &Came) -> Self {
        let not_now = |reason: &str| Self::NotNow { reason: reason.to_owned() };
        match came {
            Came::Answered(Outcome::Done { presence, evidence, finding }) => {
                if let Some(reason) =
                    unbelievable(Mode::Inspect, Nature::Inspect, *presence, finding.as_ref())
                {
                    return Self::NotNow { reason };
                }
                let targets = finding.clone().unwrap_or_default();
                match too_large(&targets) {
                    Some(reason) => Self::Refused { reason },
                    None => Self::Seen { evidence: evidence.clone(), targets },
                }
            }
            Came::Answered(Outcome::Retry { reason, .. }) => not_now(reason),
            Came::Answered(Outcome::Refused { reason }) => Self::Refused { reason: reason.clone() },
            Came::NotBelieved(why) | Came::Dropped(why) | Came::Rejected(why) => {
                not_now(&format!("the order was rejected: {why}"))
            }
            // Nobody is asked so: that is how the job table is tried.
            Came::Rehearsed(_) => not_now("it is no answer to an order"),
        }
    }
}

/// A look that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLook {
    /// Its index among the steps of announce.
    pub step: u16,
    /// Who is to be asked.
    pub instance: Instance,
    /// Why it is not, if so.
    pub unasked: Option<String>,
}

/// A survey that is to be begun.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSurvey {
    /// Who asks for it.
    pub by: Actor,
    /// About what.
    pub about: About,
    /// How long answers may take, in milliseconds.
    pub within_ms: u64,
    /// What is asked, at most [`LOOKS_MAX`].
    pub looks: Vec<NewLook>,
}

/// What a new survey is numbered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The store's clock.
    pub now: Timestamp,
    /// The ledger's epoch.
    pub epoch: u32,
    /// Its pause revision.
    pub revision: i64,
    /// The number of the first order; the others follow it.
    pub first_fence: i64,
}

/// Why nobody is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotSurvey {
    /// The plan has no step that looks at announce.
    #[error("the plan for {0} has nothing looked at before something is done")]
    Nothing(Kind),
    /// All that would be asked is paused.
    #[error("nobody is asked: {0}")]
    Paused(String),
    /// The job table has gone back in time.
    #[error("the job table is under review: until that is accepted nobody is asked for anything")]
    Review,
    /// Somebody has it looked at otherwise.
    #[error("{0} is being looked at by another survey, or by canaries: wait until that is over")]
    Busy(ResourceId),
    /// Too many are open.
    #[error("{open} surveys are open, and no more than {most} at once: wait until some are over")]
    TooMany {
        /// So many.
        open: usize,
        /// Of so many.
        most: usize,
    },
    /// Too many were begun.
    #[error("{MINUTELY_MAX} surveys were begun within a minute: wait")]
    TooOften,
}

/// One that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Its number: that of its first order.
    pub id: i64,
    /// Who asked for it.
    pub by: Actor,
    /// About what.
    pub about: About,
    /// The pause revision when it was begun: a pause that comes after it stops what has not begun.
    pub revision: i64,
    /// Since when it is asked.
    pub begun_at: Timestamp,
    /// Until when it has to be answered; nothing is begun for it after this.
    pub answer_by: Timestamp,
    /// What is asked.
    pub looks: Vec<Look>,
}

/// What one step would be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "known", rename_all = "snake_case")]
pub enum Covered {
    /// Exactly this, which its instance holds.
    Exact {
        /// Each thing by its name.
        things: Vec<String>,
    },
    /// That is not known.
    NotLookedAt {
        /// Why.
        why: String,
    },
    /// Nothing is pinned for it: it goes by what is registered, or is the coordinator's own.
    Nothing,
}

/// The looks that a record drawn up as `d` would begin with.
///
/// # Errors
/// If there are none, or if every one of them is stopped by a pause.
pub fn looks(d: &Deletion, pauses: &[Pause]) -> Result<Vec<NewLook>, CannotSurvey> {
    let nothing = || CannotSurvey::Nothing(d.plan.kind.clone());
    let announce = d.stage_job(Stage::Announce).ok_or_else(nothing)?;
    let look = |(cursor, step): (u16, &Step)| {
        let at_it = Job { cursor, ..announce.clone() };
        let paused = pauses.iter().find(|pause| pause.covers.covers(d, &at_it));
        let unasked = paused.map(|pause| format!("pause {}: {}: {}", pause.id, pause.by, pause.reason));
        Some(NewLook { step: cursor, instance: d.instance_for(step)?, unasked })
    };
    let looks: Vec<NewLook> = inspections(&d.plan).filter_map(look).collect();
    let why = looks.first().ok_or_else(nothing)?.unasked.clone();
    match why.filter(|_| looks.iter().all(|look| look.unasked.is_some())) {
        Some(why) => Err(CannotSurvey::Paused(why)),
        None => Ok(looks),
    }
}

fn inspections(plan: &Plan) -> impl Iterator<Item = (u16, &Step)> {
    (0..).zip(&plan.stage(Stage::Announce).steps).filter(|(_, step)| step.nature == Nature::Inspect)
}

impl NewSurvey {
    /// The survey that it becomes.
    pub fn numbered(self, numbers: Numbers) -> Survey {
        let Numbers { now, epoch, revision, first_fence } = numbers;
        let look = |(new, number): (NewLook, i64)| Look {
            step: new.step,
            instance: new.instance,
            fence: Fence { epoch, number },
            answer: new.unasked.map(|reason| Answer::NotAsked { reason }),
        };
        Survey {
            id: first_fence,
            by: self.by,
            about: self.about,
            revision,
            begun_at: now,
            answer_by: now.plus_ms(self.within_ms),
            looks: self.looks.into_iter().zip(first_fence..).map(look).collect(),
        }
    }
}

impl Look {
    /// Whether an answer may still change it.
    pub fn is_open(&self) -> bool {
        !self.answer.as_ref().is_some_and(Answer::is_last)
    }
}

impl Survey {
    /// Whether something may still come at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        now < self.answer_by && self.looks.iter().any(Look::is_open)
    }

    /// The step of a look; none if the plan has no such step, which it has.
    pub fn step(&self, look: &Look) -> Option<&Step> {
        self.about.plan.stage(Stage::Announce).steps.get(usize::from(look.step))
    }

    /// What becomes of it with this answer; nothing if the answer changes nothing: of somebody else, to another order,
    /// again, or too late.
    pub fn hear(&self, (from, fence): (&Instance, Fence), came: &Came, now: Timestamp) -> Option<Self> {
        let asked = |look: &Look| look.fence == fence && look.instance == *from && look.is_open();
        let at = self.looks.iter().position(asked).filter(|_| now < self.answer_by)?;
        let answer = Some(Answer::of(came));
        let mut heard = self.clone();
        let look = heard.looks.get_mut(at).filter(|look| look.answer != answer)?;
        look.answer = answer;
        Some(heard)
    }

    /// How long answers may take, in whole seconds.
    fn within_secs(&self) -> u64 {
        self.answer_by.ms_since(self.begun_at).div_ceil(1000)
    }

    /// Why a look has shown nothing, or what it has.
    pub fn shown<'a>(&self, look: &'a Look, now: Timestamp) -> Result<&'a Value, String> {
        let over = now >= self.answer_by;
        let within = self.within_secs();
        Err(match &look.answer {
            Some(Answer::Seen { targets, .. }) => return Ok(targets),
            Some(Answer::Refused { reason }) => format!("refused: {reason}"),
            Some(Answer::NotAsked { reason }) => format!("not looked at: {reason}"),
            Some(Answer::NotNow { reason }) if over => format!("not looked at within {within} s: {reason}"),
            Some(Answer::NotNow { reason }) => format!("not yet: {reason}"),
            None if over => format!("not looked at: no answer within {within} s"),
            None => "no answer yet".to_owned(),
        })
    }

    /// What a record would have pinned of each instance once announce is over; or why that is not known. A look
    /// replaces what an earlier one of the same instance has pinned, as announce does it.
    pub fn targets(&self, now: Timestamp) -> BTreeMap<&Instance, Result<&Value, String>> {
        let mut pinned: BTreeMap<&Instance, Result<&Value, String>> = BTreeMap::new();
        for look in &self.looks {
            let shown = self.shown(look, now);
            match pinned.get(&look.instance) {
                Some(Err(_)) => {}
                Some(Ok(_)) | None => drop(pinned.insert(&look.instance, shown)),
            }
        }
        pinned
    }

    /// What each step of a record would be about, in order.
    pub fn covered(&self, now: Timestamp) -> Vec<(Stage, &Step, Option<Instance>, Covered)> {
        let targets = self.targets(now);
        let step = |stage: Stage| {
            let targets = &targets;
            self.about.plan.stage(stage).steps.iter().map(move |step| {
                let instance = step.instance_at(&self.about.resource);
                let covered = match instance.as_ref().and_then(|instance| targets.get(instance)) {
                    Some(Ok(pinned)) => Covered::Exact { things: targets::listed(pinned) },
                    Some(Err(why)) => Covered::NotLookedAt { why: why.clone() },
                    None => Covered::Nothing,
                };
                (stage, step, instance, covered)
            })
        };
        Stage::ALL.into_iter().flat_map(step).collect()
    }
}

#[cfg(test)]
mod tests;
