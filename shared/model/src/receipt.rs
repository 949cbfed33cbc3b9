//! The receipt: what was seen of each subsystem when a record's purge was over, with evidence and time.
//!
//! Contract: drawn up from the deletion, its targets and its audit trail alone, once purge is done, and then never
//! anew: another version might write the same in another way. It is drawn up only if every step of every stage up to
//! purge was answered as it has to be: a destructive one *seen* to be absent, and none `unknown` (I9). A step that a
//! person let pass is named with who stated what on which evidence, and whatever is not gone stands in
//! [`Receipt::remains`], with its date where the evidence says "present until DATE". Signatures are `sexton-protocol`'s.
//!
//! What a subsystem showed stands in the audit trail only, so a receipt names the event it has each of them from, and
//! the chain's head that purge ended with ([`Receipt::rests_on`]).
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attest::Head;
use crate::audit::{AuditEvent, Hash, What};
use crate::catalogue::Nature;
use crate::deletion::{Deletion, Waiver, WaiverClaim};
use crate::id::{ActionName, DeletionId, Fence, Instance};
use crate::job::{JobKind, JobState, Stage, StateName};
use crate::plan::{Performer, Step};
use crate::resource::Resource;
use crate::step::{Mode, Presence};
use crate::time::{Day, Timestamp};

/// How a receipt is written. Whoever changes that counts on. That of a rehearsal has one field more, which older versions
/// refuse; all others are written as ever.
pub const FORMAT: u32 = 1;
/// Largest signed receipt, in bytes: the targets of a few dozen instances, each as large as it may be.
pub const RECEIPT_MAX_BYTES: u64 = 64 << 20;
/// What evidence says of something that nobody can delete before that date, which follows it as YYYY-MM-DD.
pub const PRESENT_UNTIL: &str = "present until ";

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// See [`FORMAT`].
    pub format: u32,
    /// The ledger's name: numbers of deletions are its own.
    pub ledger: String,
    /// Set if that ledger is a rehearsal, whose graces are as short as its days: how long one is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_day_ms: Option<u64>,
    /// Which record.
    pub deletion: DeletionId,
    /// What was deleted, as it was when the record was made.
    pub resource: Resource,
    /// Who asked for it.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// When that was, by the store's clock.
    pub created_at: Timestamp,
    /// When purge was over, by the store's clock.
    pub purged_at: Timestamp,
    /// Nothing remains, as far as it was seen or stated: [`Self::remains`] is empty.
    pub complete: bool,
    /// What is not gone, or may not be.
    pub remains: Vec<Remains>,
    /// Every step of announce, soft, hard and purge, in order.
    pub steps: Vec<StepProof>,
    /// The exact objects that the record covered, by instance.
    pub targets: BTreeMap<Instance, Value>,
    /// The record's chain up to the event that ended purge.
    pub rests_on: Head,
}

/// Something that is not gone, or may not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remains {
    /// The step that was to remove it.
    pub step: String,
    /// Where it is; none for what the coordinator does itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// Until when it cannot be removed, if the evidence says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
    /// What is known of it.
    pub evidence: String,
}

/// What is known of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepProof {
    /// Its stage.
    pub stage: Stage,
    /// Its name in the plan.
    pub step: String,
    /// Who was asked; none for what the coordinator does itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// For what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionName>,
    /// What that does to the world.
    pub nature: Nature,
    /// How it is known.
    pub proof: Proof,
}

/// How something is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// The subsystem showed it.
    Seen {
        /// Whether it was there.
        presence: Presence,
        /// What was seen.
        evidence: String,
        /// When the answer was taken, by the store's clock.
        at: Timestamp,
        /// The order that was answered.
        fence: Fence,
        /// The audit event that says so.
        event: i64,
    },
    /// The coordinator did it itself, in a decision of its own.
    Decided {
        /// When.
        at: Timestamp,
        /// The audit event that says so.
        event: i64,
    },
    /// A person let it pass.
    Waived {
        /// What was stated: absent, or may remain.
        claim: WaiverClaim,
        /// Who stated it.
        by: String,
        /// On what evidence.
        evidence: String,
        /// When.
        at: Timestamp,
        /// What the subsystem had shown last, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<Presence>,
    },
}

/// A receipt with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// The bytes that were signed: a [`Receipt`] as JSON.
    pub body: String,
    /// With which key.
    pub key_id: String,
    /// Ed25519, in base64.
    pub signature: String,
}

/// Why there is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReceipt {
    /// Purge is not over.
    #[error("purge is not over")]
    NotPurged,
    /// The audit trail does not say when purge ended.
    #[error("the audit trail does not say that purge ended")]
    NoEnd,
    /// Nothing says that the step was done.
    #[error("step {0}: the audit trail holds no answer that it was done with")]
    NoAnswer(String),
    /// Something that has to be gone was not seen to be.
    #[error("step {step}: {presence:?} was seen, and only what was seen to be absent is gone")]
    NotSeenAbsent {
        /// The step.
        step: String,
        /// What was seen instead.
        presence: Presence,
    },
    /// Neither presence nor absence was seen.
    #[error("step {0}: unknown is no proof")]
    Unknown(String),
    /// It is written in another way.
    #[error("format {0}: expected {FORMAT}")]
    Format(u32),
    /// Its parts do not say the same.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Draw up the receipt of a record whose purge is over. `day`: what a day is in that ledger; `trail`: the record's whole
/// audit trail, ascending.
///
/// # Errors
/// Why there is none.
pub fn draw_up(
    ledger: &str,
    day: Day,
    deletion: &Deletion,
    targets: BTreeMap<Instance, Value>,
    trail: &[(i64, AuditEvent, Hash)],
) -> Result<Receipt, NoReceipt> {
    let purge = deletion.stage_job(Stage::Purge).filter(|job| job.state == JobState::Done);
    let purged_at = purge.and_then(|job| job.ended_at).ok_or(NoReceipt::NotPurged)?;
    let ended = |event: &AuditEvent| {
        event.job == Some(JobKind::Stage(Stage::Purge)) && event.state == Some(StateName::Done)
    };
    let (seq, _, hash) = trail.iter().rfind(|(_, event, _)| ended(event)).ok_or(NoReceipt::NoEnd)?;
    let trail =
        Trail(trail.iter().take_while(|(at, ..)| at <= seq).map(|(seq, event, _)| (*seq, event)).collect());
    let mut steps = Vec::new();
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Recycle) {
        for (index, step) in (0u16..).zip(&deletion.plan.stage(stage).steps) {
            let passed = |w: &&Waiver| w.passes() && w.slot == stage.index() && w.step == index;
            let proof = match deletion.waivers.iter().find(passed) {
                Some(waiver) => trail.waived(stage, step, waiver),
                None => trail.done(stage, step)?,
            };
            let action = match &step.performer {
                Performer::Subsystem { action, .. } => Some(action.clone()),
                Performer::Coordinator(_) => None,
            };
            let instance = deletion.instance_for(step);
            steps.push(StepProof {
                stage,
                step: step.name.clone(),
                instance,
                action,
                nature: step.nature,
                proof,
            });
        }
    }
    let record = &deletion.record;
    let remains = remains(&steps);
    let receipt = Receipt {
        format: FORMAT,
        ledger: ledger.to_owned(),
        rehearsal_day_ms: day.rehearsal_ms(),
        deletion: deletion.id,
        resource: record.resource.clone(),
        requested_by: record.requested_by.to_string(),
        reason: record.reason.clone(),
        created_at: record.created_at,
        purged_at,
        complete: remains.is_empty(),
        remains,
        steps,
        targets,
        rests_on: Head { chain: deletion.id.to_string(), seq: *seq, hash: *hash },
    };
    receipt.check()?;
    Ok(receipt)
}

impl Receipt {
    /// That it says what a receipt has to say, whoever wrote it: what was to be destroyed was seen to be absent or let
    /// pass by a person, nothing counts that is unknown, and what remains is told.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), NoReceipt> {
        if self.format != FORMAT {
            return Err(NoReceipt::Format(self.format));
        }
        for step in &self.steps {
            let Proof::Seen { presence, .. } = step.proof else { continue };
            if presence == Presence::Unknown {
                return Err(NoReceipt::Unknown(step.step.clone()));
            }
            if step.nature == Nature::Destructive && step.instance.is_some() && presence != Presence::Absent {
                return Err(NoReceipt::NotSeenAbsent { step: step.step.clone(), presence });
            }
        }
        if self.remains != remains(&self.steps) || self.complete != self.remains.is_empty() {
            return Err(NoReceipt::Contradiction("its steps and what it says of what remains do not agree"));
        }
        if self.rests_on.chain != self.deletion.to_string() {
            return Err(NoReceipt::Contradiction("it rests on the chain of another record"));
        }
        Ok(())
    }

    /// What it says, in a sentence.
    pub fn sentence(&self) -> String {
        let waived = self.steps.iter().filter(|step| matches!(step.proof, Proof::Waived { .. })).count();
        let stated = match waived {
            0 => String::new(),
            1 => " (1 step on a person's statement)".to_owned(),
            n => format!(" ({n} steps on a person's statement)"),
        };
        if self.complete {
            return format!("all of it is gone{stated}");
        }
        let left: Vec<String> = self.remains.iter().map(Remains::sentence).collect();
        format!("NOT all of it is gone{stated}: {}", left.join("; "))
    }
}

impl Remains {
    /// It in words: the step, where, and until when.
    pub fn sentence(&self) -> String {
        let at = self.instance.as_ref().map(|instance| format!(" at {instance}")).unwrap_or_default();
        let until = match self.until {
            Some(date) => format!("is {PRESENT_UNTIL}{date}"),
            None => "may remain".to_owned(),
        };
        format!("what {} removes{at} {until}", self.step)
    }
}

fn remains(steps: &[StepProof]) -> Vec<Remains> {
    let one = |step: &StepProof| {
        let (stays, evidence) = match &step.proof {
            Proof::Seen { evidence, .. } => (false, evidence),
            Proof::Waived { claim, evidence, .. } => (*claim == WaiverClaim::MayRemain, evidence),
            Proof::Decided { .. } => return None,
        };
        let until = present_until(evidence);
        let (name, instance) = (step.step.clone(), step.instance.clone());
        (stays || until.is_some()).then(|| Remains {
            step: name,
            instance,
            until,
            evidence: evidence.clone(),
        })
    };
    steps.iter().filter(|step| step.nature == Nature::Destructive).filter_map(one).collect()
}

/// The latest date that evidence names as that until which something is present.
pub(crate) fn present_until(evidence: &str) -> Option<NaiveDate> {
    let dates = evidence.split(PRESENT_UNTIL).skip(1);
    dates.filter_map(|rest| rest.get(..10)?.parse().ok()).max()
}

/// The events up to the end of purge.
struct Trail<'a>(Vec<(i64, &'a AuditEvent)>);

impl Trail<'_> {
    /// The last answer of a step's own: what was captured before it proves nothing.
    fn last(&self, stage: Stage, step: &Step) -> Option<(i64, &AuditEvent)> {
        let of_it = |event: &AuditEvent| {
            event.what == What::Settled
                && event.job == Some(JobKind::Stage(stage))
                && event.step.as_ref() == Some(&step.name)
                && event.mode.is_some_and(|mode| mode != Mode::Capture)
        };
        self.0.iter().rfind(|(_, event)| of_it(event)).copied()
    }

    fn done(&self, stage: Stage, step: &Step) -> Result<Proof, NoReceipt> {
        let missing = || NoReceipt::NoAnswer(step.name.clone());
        if let Performer::Coordinator(_) = step.performer {
            let own = |event: &AuditEvent| {
                event.job == Some(JobKind::Stage(stage)) && event.own.contains(&step.name)
            };
            let (seq, event) = self.0.iter().rfind(|(_, event)| own(event)).ok_or_else(missing)?;
            return Ok(Proof::Decided { at: event.at, event: *seq });
        }
        let (seq, event) = self.last(stage, step).ok_or_else(missing)?;
        let (Some(presence), Some(fence)) = (event.presence, event.fence) else { return Err(missing()) };
        Ok(Proof::Seen { presence, evidence: event.detail.clone(), at: event.at, fence, event: seq })
    }

    fn waived(&self, stage: Stage, step: &Step, waiver: &Waiver) -> Proof {
        Proof::Waived {
            claim: waiver.claim,
            by: waiver.by.to_string(),
            evidence: waiver.evidence.clone(),
            at: waiver.at,
            shown: self.last(stage, step).and_then(|(_, event)| event.presence),
        }
    }
}

#[cfg(test)]
mod tests;
