//! Canaries: what has to be refused, asked of every consumer and of the job table once in a policy day, and what an answer
//! to it proves.
//!
//! Contract: this only judges. Whoever sends canaries and hears their answers asks [`Canary::hear`] and [`unheard`], and writes down what they say in the same transaction that pauses.
//!
//! A refusal proves something only if the right thing is not refused, too: so each order with a wrong identity has one
//! with the right identity beside it ([`Probe::RightIdentity`]), and each with a wrong place one that asks which place it
//! is ([`Probe::RightPlace`]). They are sent one after the other ([`to_send`]).
//!
//! What the job table itself has to refuse is tried there, in a transaction that is always rolled back ([`rehearsal`]).
mod another;
pub mod rehearsal;
mod turn;

use std::collections::BTreeSet;
use std::fmt;

use chrono_tz::UTC;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::belts::{Pause, PauseSelector};
use crate::id::{Actor, DeletionId, Fence, Instance, JobId, Kind, ResourceId};
use crate::job::Stage;
use crate::step::Outcome;
use crate::time::{Day, Timestamp, add_days};

pub use self::another::{ELSEWHERE, ELSEWHERE_MAX_BYTES, another, elsewhere};
pub use self::turn::{fitting, follows, pinned_elsewhere, to_send, unheard};

/// The deletion that orders of canaries, and of surveys, name: the last one that can be written, which no ledger comes to.
pub const DELETION: DeletionId = DeletionId(i64::MAX / JobId::SLOTS - 1);
/// Most canaries of one run: as many as one block of fences numbers.
pub const CANARIES_MAX: usize = 1000;
/// Shortest time between two runs that nobody asks for, in milliseconds: a rehearsal's day may be over before anybody has
/// answered.
pub const EVERY_LEAST_MS: u64 = 60_000;
/// Runs that are kept to be read: a month of days.
pub const RUNS_KEPT: i64 = 31;
/// Longest text that is kept of an answer, in characters.
const TEXT_MAX: usize = 300;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// An order under a key that nobody has, by the name of the instance's own: must be rejected as not authentic.
    ForgedOrder {
        /// Who is asked.
        instance: Instance,
    },
    /// An authentic order to look at a resource that is another one: must be refused.
    WrongIdentity {
        /// Who is asked.
        instance: Instance,
        /// About what.
        resource: ResourceId,
    },
    /// The same as it is: must be done, or the refusal of the other one proves nothing.
    RightIdentity {
        /// Who is asked.
        instance: Instance,
        /// About what.
        resource: ResourceId,
    },
    /// An authentic order to look at a resource, with nothing pinned: must be done, and say in which place, or the refusal
    /// of another one proves nothing.
    RightPlace {
        /// Who is asked.
        instance: Instance,
        /// About what.
        resource: ResourceId,
        /// Under which of the keys of what it pins its place stands.
        under: BTreeSet<String>,
    },
    /// An authentic order to read again what was seen of a resource, as if it had been pinned in another place: must be
    /// refused, and because of that place.
    WrongPlace {
        /// Who is asked.
        instance: Instance,
        /// About what.
        resource: ResourceId,
    },
    /// A record for what is protected, and the claim of one whose resource has been protected since: the job table must
    /// refuse the one and hold the other.
    Protected {
        /// Of which kind.
        of: Kind,
    },
    /// More that is due than the budget in force lets begin: the job table must hold all of it.
    OverBudget {
        /// Of which kind.
        of: Kind,
        /// What would begin.
        stage: Stage,
    },
}

impl Probe {
    /// Its word, as it is shown.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ForgedOrder { .. } => "forged order",
            Self::WrongIdentity { .. } => "wrong identity",
            Self::RightIdentity { .. } => "right identity",
            Self::RightPlace { .. } => "right place",
            Self::WrongPlace { .. } => "wrong place",
            Self::Protected { .. } => "protected",
            Self::OverBudget { .. } => "over budget",
        }
    }

    /// Who is asked; none: it is tried in the job table itself.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::ForgedOrder { instance }
            | Self::WrongIdentity { instance, .. }
            | Self::RightIdentity { instance, .. }
            | Self::RightPlace { instance, .. }
            | Self::WrongPlace { instance, .. } => Some(instance),
            Self::Protected { .. } | Self::OverBudget { .. } => None,
        }
    }

    /// Of which kind, if it is tried in the job table.
    pub fn tried_of(&self) -> Option<&Kind> {
        match self {
            Self::ForgedOrder { .. }
            | Self::WrongIdentity { .. }
            | Self::RightIdentity { .. }
            | Self::RightPlace { .. }
            | Self::WrongPlace { .. } => None,
            Self::Protected { of } | Self::OverBudget { of, .. } => Some(of),
        }
    }

    /// Who is asked, in words.
    pub fn asked(&self) -> String {
        self.instance().map_or_else(|| "the job table".to_owned(), ToString::to_string)
    }

    /// About what, in words; nothing if it is about nothing that is there.
    pub fn about(&self) -> String {
        match self {
            Self::ForgedOrder { .. } => String::new(),
            Self::WrongIdentity { resource, .. }
            | Self::RightIdentity { resource, .. }
            | Self::RightPlace { resource, .. }
            | Self::WrongPlace { resource, .. } => resource.to_string(),
            Self::Protected { of } => format!("a {of}"),
            Self::OverBudget { of, stage } => format!("{stage} of a {of}"),
        }
    }

    /// About which resource.
    pub fn resource(&self) -> Option<&ResourceId> {
        match self {
            Self::ForgedOrder { .. } | Self::Protected { .. } | Self::OverBudget { .. } => None,
            Self::WrongIdentity { resource, .. }
            | Self::RightIdentity { resource, .. }
            | Self::RightPlace { resource, .. }
            | Self::WrongPlace { resource, .. } => Some(resource),
        }
    }

    /// What has to come, in words.
    pub fn must(&self) -> &'static str {
        match self {
            Self::ForgedOrder { .. } => "rejected as not authentic",
            Self::WrongIdentity { .. } | Self::WrongPlace { .. } | Self::Protected { .. } => "refused",
            Self::RightIdentity { .. } | Self::RightPlace { .. } => "done",
            Self::OverBudget { .. } => "held",
        }
    }

    /// What this answer to it proves; nothing if it is to be asked again.
    pub fn judge(&self, came: &Came) -> Option<Verdict> {
        let unclear = |why: &str| Some(Verdict::Unclear { why: cut(why) });
        match (self, came) {
            // Whatever is answered: it was believed.
            (Self::ForgedOrder { .. }, Came::Answered(outcome)) => {
                Some(Verdict::Accepted { how: format!("it was believed, and answered: {}", said(outcome)) })
            }
            (Self::ForgedOrder { .. }, Came::Dropped(why)) => Some(Verdict::Accepted {
                how: format!("it was believed, and dropped for another reason: {}", cut(why)),
            }),
            (Self::ForgedOrder { .. }, Came::NotBelieved(how)) => Some(Verdict::Holds { how: cut(how) }),
            (Self::WrongIdentity { .. }, Came::Answered(outcome)) => match outcome {
                Outcome::Refused { reason } => Some(Verdict::Holds { how: cut(reason) }),
                Outcome::Done { .. } => Some(Verdict::Accepted { how: said(outcome) }),
                Outcome::Retry { .. } => None,
            },
            (Self::RightIdentity { .. }, Came::Answered(outcome)) => match outcome {
                Outcome::Done { .. } => Some(Verdict::Holds { how: said(outcome) }),
                Outcome::Refused { reason } => unclear(&format!(
                    "it is refused as it is, so that a wrong identity is refused proves nothing: {reason}"
                )),
                Outcome::Retry { .. } => None,
            },
            (Self::RightPlace { under, .. }, Came::Answered(outcome)) => match outcome {
                Outcome::Done { finding, .. } => {
                    let seen = finding.as_ref().unwrap_or(&Value::Null);
                    match elsewhere(seen, under) {
                        Ok(_) => Some(Verdict::Holds { how: said(outcome) }),
                        Err(why) => unclear(&format!("it cannot be asked about another place: {why}")),
                    }
                }
                Outcome::Refused { reason } => unclear(&format!(
                    "it is refused where it is, so that another place is refused proves nothing: {reason}"
                )),
                Outcome::Retry { .. } => None,
            },
            (Self::WrongPlace { .. }, Came::Answered(outcome)) => match outcome {
                // Nothing but the pinned place is wrong, and nothing but the order knows what it is called.
                Outcome::Refused { reason } if reason.contains(ELSEWHERE) => {
                    Some(Verdict::Holds { how: cut(reason) })
                }
                Outcome::Refused { reason } => {
                    unclear(&format!("it is refused, and not because of the place that it names: {reason}"))
                }
                Outcome::Done { .. } => Some(Verdict::Accepted { how: said(outcome) }),
                Outcome::Retry { .. } => None,
            },
            (
                Self::WrongIdentity { .. }
                | Self::RightIdentity { .. }
                | Self::RightPlace { .. }
                | Self::WrongPlace { .. },
                Came::NotBelieved(why),
            ) => unclear(&format!("an authentic order was not believed: {why}")),
            (
                Self::WrongIdentity { .. }
                | Self::RightIdentity { .. }
                | Self::RightPlace { .. }
                | Self::WrongPlace { .. },
                Came::Dropped(why),
            ) => unclear(&format!("it was not looked at: {why}")),
            (
                Self::ForgedOrder { .. }
                | Self::WrongIdentity { .. }
                | Self::RightIdentity { .. }
                | Self::RightPlace { .. }
                | Self::WrongPlace { .. },
                Came::Rejected(why),
            ) => unclear(&format!("rejected, and it is not said at which check: {why}")),
            (Self::Protected { .. } | Self::OverBudget { .. }, Came::Rehearsed(rehearsed)) => {
                Some(match rehearsed {
                    Rehearsed::Stopped(how) => Verdict::Holds { how: cut(how) },
                    Rehearsed::Passed(how) => Verdict::Accepted { how: cut(how) },
                    Rehearsed::Failed(why) => Verdict::Unclear { why: cut(why) },
                })
            }
            // Nobody is sent the one, and the other is not rehearsed.
            (Self::Protected { .. } | Self::OverBudget { .. }, _) | (_, Came::Rehearsed(_)) => None,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.word(), self.asked())?;
        let about = self.about();
        if about.is_empty() { Ok(()) } else { write!(f, " about {about}") }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// An answer to the order.
    Answered(Outcome),
    /// It was rejected before it was read: it is not authentic.
    NotBelieved(String),
    /// It was rejected after it was found authentic.
    Dropped(String),
    /// It was rejected, and who did does not say at which check.
    Rejected(String),
    /// It was tried in the job table.
    Rehearsed(Rehearsed),
}

/// What came of something that was tried in the job table, and rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsed {
    /// It was stopped, and by what.
    Stopped(String),
    /// It went through.
    Passed(String),
    /// It could not be tried, and why.
    Failed(String),
}

/// What a canary has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// What had to come has come.
    Holds {
        /// What was said.
        how: String,
    },
    /// What must be refused was not: everything is paused.
    Accepted {
        /// What was said.
        how: String,
    },
    /// Nothing came in time.
    Unanswered,
    /// It proves neither.
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
            Self::Accepted { .. } => "ACCEPTED",
            Self::Unanswered => "unanswered",
            Self::Unclear { .. } => "unclear",
        }
    }

    /// What was said.
    pub fn text(&self) -> &str {
        match self {
            Self::Holds { how } | Self::Accepted { how } => how,
            Self::Unanswered => "nobody answered in time",
            Self::Unclear { why } => why,
        }
    }

    /// Whether a person has to look.
    pub fn alarms(&self) -> bool {
        match self {
            Self::Holds { .. } => false,
            Self::Accepted { .. } | Self::Unanswered | Self::Unclear { .. } => true,
        }
    }
}

/// One that was sent, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Its number.
    pub id: i64,
    /// Which run.
    pub run: i64,
    /// Who asked for the run; `canary` if it was time.
    pub by: Actor,
    /// What is asked.
    pub probe: Probe,
    /// What its order is numbered with: greater than any before it, so that it is told from all others. What is tried in
    /// the job table has a number, too, and no order.
    pub fence: Fence,
    /// Since when it is asked.
    pub begun_at: Timestamp,
    /// Until when it has to be answered; nothing is begun for it after this.
    pub answer_by: Timestamp,
    /// What came of it; nothing yet while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// What came of the one before it, of the same instance and sort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Judged>,
    /// Of a [`Probe::RightPlace`] that was done: what it saw, as if it had been pinned in another place. The order of the
    /// wrong place says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Value>,
}

/// What came of one, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// What it shows.
    pub verdict: Verdict,
    /// When that was decided.
    pub at: Timestamp,
    /// The pause that it led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<i64>,
}

impl Canary {
    /// Whether an answer is waited for.
    pub fn is_open(&self) -> bool {
        self.judged.is_none()
    }

    /// Whether what had to come has come.
    pub fn holds(&self) -> bool {
        matches!(&self.judged, Some(Judged { verdict: Verdict::Holds { .. }, .. }))
    }

    /// Keep what the order of the wrong place is to say, if this came of the right one.
    pub fn keep(&mut self, came: &Came) {
        let Probe::RightPlace { under, .. } = &self.probe else { return };
        if let Came::Answered(Outcome::Done { finding: Some(seen), .. }) = came {
            self.elsewhere = elsewhere(seen, under).ok();
        }
    }

    /// The same as it is told: without what only the next order says.
    pub fn told(self) -> Self {
        Self { elsewhere: None, ..self }
    }

    /// What is known by now: what came of it, or else of the one before it.
    pub fn standing(&self) -> Option<&Judged> {
        self.judged.as_ref().or(self.before.as_ref())
    }

    /// What an answer changes; nothing if it proves no more than what is known. What was accepted once stays so, and one
    /// that is accepted late is accepted all the same.
    pub fn hear(&self, came: &Came) -> Option<Verdict> {
        let verdict = self.probe.judge(came)?;
        let accepted = |verdict: &Verdict| matches!(verdict, Verdict::Accepted { .. });
        match &self.judged {
            None => Some(verdict),
            Some(judged) => (accepted(&verdict) && !accepted(&judged.verdict)).then_some(verdict),
        }
    }

    /// What one of a run before this one changes about it, which asked the same: an acceptance that comes late is not over
    /// because something newer was asked since.
    pub fn hear_of(&self, earlier: &Self) -> Option<Judged> {
        let Some(Judged { verdict: Verdict::Accepted { how }, at, pause }) = &earlier.judged else {
            return None;
        };
        let known =
            self.judged.as_ref().is_some_and(|judged| matches!(judged.verdict, Verdict::Accepted { .. }));
        if known || earlier.run >= self.run || earlier.probe != self.probe {
            return None;
        }
        let verdict = Verdict::Accepted { how: cut(&format!("in run {}: {how}", earlier.run)) };
        Some(Judged { verdict, at: *at, pause: *pause })
    }

    /// What it means that nothing has come by `now`, in this epoch; nothing while there is time.
    pub fn nobody_answered(&self, epoch: u32, now: Timestamp) -> Option<Verdict> {
        if !self.is_open() {
            return None;
        }
        if self.fence.epoch != epoch {
            let why =
                "the job table went back in time meanwhile: no order of before is carried out".to_owned();
            return Some(Verdict::Unclear { why });
        }
        (now >= self.answer_by).then_some(Verdict::Unanswered)
    }

    /// Why everything is to be paused, if it is: one was accepted, and no canary has paused everything yet.
    pub fn pauses(&self, verdict: &Verdict, in_force: &[Pause]) -> Option<String> {
        let Verdict::Accepted { how } = verdict else { return None };
        let paused =
            in_force.iter().any(|pause| pause.by == actor() && pause.covers == PauseSelector::default());
        (!paused).then(|| format!("{} (canary {}) was accepted: {how}", self.probe, self.id))
    }
}

/// Who sends canaries, and pauses because of them.
pub fn actor() -> Actor {
    Actor::canary()
}

/// Whether a run is due at `now`: a policy day after the last one began. A run that was missed is not made up for.
pub fn due(last_begun: Option<Timestamp>, now: Timestamp, day: Day) -> bool {
    last_begun.is_none_or(|last| now >= add_days(last, 1, UTC, day).max(last.plus_ms(EVERY_LEAST_MS)))
}

/// Whether the last run, begun then, is what somebody asks for who first did so at `first_sent`, whoever has begun it. A
/// request without a key was never sent before.
pub fn began_since(last_begun: Option<Timestamp>, first_sent: Option<Timestamp>) -> bool {
    last_begun.zip(first_sent).is_some_and(|(begun, sent)| begun >= sent)
}

fn said(outcome: &Outcome) -> String {
    cut(match outcome {
        Outcome::Done { evidence, .. } if evidence.is_empty() => "done",
        Outcome::Done { evidence, .. } => evidence,
        Outcome::Retry { reason, .. } | Outcome::Refused { reason } => reason,
    })
}

/// Whoever is asked may say anything, and a job table cannot keep every character: what no person reads is a space.
fn cut(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.chars().take(TEXT_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests;
