//! Budgets, as both footings keep them: what is read for them, and what is shown of a batch.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sexton_model::audit::Hash;
use sexton_model::belts::budget::{
    self, Budgets, CannotApprove, CannotResume, Crowd, Exceeded, Group, Waiting,
};
use sexton_model::belts::ceiling::Ceilings;
use sexton_model::belts::census::Population;
use sexton_model::belts::{InForce, Policy};
use sexton_model::deletion::Deletion;
use sexton_model::job::{JobKind, Stage};
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, JobId, Timestamp};

pub use sexton_model::belts::budget::Member;

use crate::rules::LedgerEvent;
use crate::{Intent, LedgerError, known};

/// A batch that may not begin, or that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// Its number.
    pub batch: i64,
    /// What its members have in common.
    pub group: Group,
    /// Since when.
    pub frozen_at: Timestamp,
    /// Why it may not begin.
    pub exceeded: Exceeded,
    /// Members that still wait.
    pub waiting: u64,
}

/// A batch and all that wait in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// The batch.
    pub row: BatchRow,
    /// Who waits, ascending.
    pub members: Vec<Member>,
}

impl BatchView {
    /// What whoever approves it approves.
    pub fn digest(&self) -> String {
        budget::digest_of_batch(self.row.group.stage, &self.members)
    }

    /// May it be approved?
    ///
    /// # Errors
    /// As [`budget::may_approve`].
    pub(crate) fn check(&self, approval: &Approval) -> Result<(), CannotApprove> {
        let BatchRow { batch, group, .. } = &self.row;
        budget::may_approve((*batch, group.stage), &self.members, &approval.by, &approval.digest)
    }
}

/// Somebody approves a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub batch: i64,
    /// Of the set that was looked at.
    pub digest: String,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
}

/// What became of what is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Members of batches that fit by now: look at them again.
    pub again: Vec<JobId>,
    /// Batches that were frozen just now.
    pub frozen: Vec<BatchRow>,
}

/// What is lifted, or asked about, of what stops so many.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lifting<'a> {
    /// This pause.
    Pause(i64),
    /// Ceilings as they are, and as they are to be.
    Ceilings(&'a Ceilings, &'a Ceilings),
}

impl Lifting<'_> {
    /// How a blocker that is it is stored: its tag, and the number of its pause, or 0, which no pause has.
    pub(crate) fn stored(self) -> (&'static str, i64) {
        match self {
            Self::Pause(pause) => ("pause", pause),
            Self::Ceilings(..) => ("ceiling", 0),
        }
    }

    /// Whether what it has stopped of this group goes on.
    fn frees(self, group: &Group) -> bool {
        match self {
            Self::Pause(_) => true,
            Self::Ceilings(now, then) => now.frees(then, &group.scope, group.stage),
        }
    }
}

/// What a pause, or a ceiling, stops of one scope, kind and stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Which.
    pub group: Group,
    /// How many have not begun.
    pub held: u64,
    /// How many stand between two steps.
    pub midway: u64,
    /// How many of those that have not begun would be counted first: all, or of a stage that is not counted the
    /// backlog.
    pub counted: u64,
    /// Why those would not begin after it either.
    pub exceeded: Option<Exceeded>,
    /// Set if those that would begin, or go on, at once are too many for that: who they are.
    pub crowd: Option<Crowd>,
}

impl Stopped {
    /// How many would begin, or go on, at once, since nothing counts them first: what stands midway, too, and it
    /// may be many.
    pub fn at_once(&self) -> u64 {
        self.held.saturating_sub(self.counted).saturating_add(self.midway)
    }

    /// All that goes on, of what is stopped: of each group how many have not begun, how many stand midway, and how many of
    /// the first have been due so long that they are a backlog. Who the members of its crowds are is not known yet
    /// (see [`Self::join`]).
    pub(crate) fn all(
        lifting: Lifting<'_>,
        counts: Vec<(Group, u64, u64, u64)>,
        counted: (&Budgets, &Population),
        used: &BTreeMap<Group, u64>,
    ) -> Vec<Self> {
        let freed = counts.into_iter().filter(|(group, ..)| lifting.frees(group));
        let mut all: Vec<Self> = freed.map(|counts| Self::of(counts, counted, used)).collect();
        let held = all.iter().map(|stopped| (stopped.group.clone(), stopped.at_once()));
        let mut crowds: BTreeMap<Group, Exceeded> = budget::at_once(counted, held).into_iter().collect();
        for stopped in &mut all {
            let why = crowds.remove(&stopped.group);
            stopped.crowd = why.map(|why| Crowd { group: stopped.group.clone(), why, members: Vec::new() });
        }
        all
    }

    /// The stages of which there is a crowd.
    pub(crate) fn crowded(all: &[Self]) -> BTreeSet<Stage> {
        Self::crowds(all).into_iter().map(|crowd| crowd.group.stage).collect()
    }

    /// These are stopped; those of a crowd are its members.
    pub(crate) fn join(all: &mut [Self], stopped: Vec<(Group, Member)>) {
        let crowds = all.iter_mut().filter_map(|stopped| stopped.crowd.as_mut());
        let mut crowds: BTreeMap<Group, &mut Crowd> =
            crowds.map(|crowd| (crowd.group.clone(), crowd)).collect();
        for (group, member) in stopped {
            if let Some(crowd) = crowds.get_mut(&group) {
                crowd.members.push(member);
            }
        }
    }

    /// The crowds of which somebody has to approve that they begin at once.
    pub fn crowds(all: &[Self]) -> Vec<&Crowd> {
        all.iter().filter_map(|stopped| stopped.crowd.as_ref()).collect()
    }

    /// What whoever approves that approves; none if nobody has to.
    pub fn digest(all: &[Self]) -> Option<String> {
        let crowds = Self::crowds(all);
        (!crowds.is_empty()).then(|| budget::digest_of_crowds(crowds))
    }

    /// Whether `by`, who approves the crowds of this digest, may let all of these go on.
    ///
    /// # Errors
    /// As [`budget::may_resume`].
    pub fn may_resume(all: &[Self], by: &Actor, approved: Option<&str>) -> Result<(), CannotResume> {
        budget::may_resume(&Self::crowds(all), by, approved)
    }

    fn of(
        (group, held, midway, late): (Group, u64, u64, u64),
        (budgets, population): (&Budgets, &Population),
        used: &BTreeMap<Group, u64>,
    ) -> Self {
        let counted = budgets.counted(group.stage, held, late);
        let members = usize::try_from(counted).unwrap_or(usize::MAX);
        let exceeded = budget::exceeded((budgets, population), &group, members, used);
        Self { group, held, midway, counted, exceeded: exceeded.filter(|_| counted > 0), crowd: None }
    }
}

/// What is stored of a batch besides its group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) exceeded: Exceeded,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Ended>,
}

/// How a batch ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub(crate) enum Ended {
    /// Somebody approved it.
    Approved { at: Timestamp, by: Actor, reason: String },
    /// The budget has room for it.
    Fits { at: Timestamp },
    /// Nobody waits any more.
    Left { at: Timestamp },
}

impl Ended {
    pub(crate) fn of(approval: &Approval, at: Timestamp) -> Self {
        Self::Approved { at, by: approval.by.clone(), reason: approval.reason.clone() }
    }
}

/// A job that is due and not admitted, with the part of a day where an admission of it that is over is still counted.
#[derive(Debug, Clone)]
pub(crate) struct DueJob {
    pub(crate) job: JobId,
    pub(crate) group: Group,
    pub(crate) charged: Option<Timestamp>,
}

/// All that a decision about budgets is made on, read under their lock.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) due: Vec<DueJob>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) used: BTreeMap<Group, u64>,
    pub(crate) population: Population,
    /// What of the same [`Self::pieces`] is still held, although nothing that holds many at once holds it any more.
    pub(crate) behind: Vec<DueJob>,
}

impl Read {
    /// The groups of which what is due may be the first piece of a crowd, so that somebody has to look what stands behind it:
    /// not those that are too many as they are. So how often somebody has to look follows from how many may begin, and not from
    /// how many come.
    pub(crate) fn pieces(&self, budgets: &Budgets, from: Timestamp) -> BTreeSet<Group> {
        let counted = |group: &&Group| budgets.bind(group.stage) || budgets.counts_backlog(group.stage);
        let due: BTreeSet<&Group> = self.due.iter().map(|due| &due.group).filter(counted).collect();
        if due.is_empty() {
            return BTreeSet::new();
        }
        let frozen = self.clone().decide(budgets, from).frozen;
        let alone = frozen.iter().filter(|(.., why)| why.alone()).map(|(group, ..)| group);
        let alone: BTreeSet<&Group> = alone.collect();
        due.difference(&alone).copied().cloned().collect()
    }

    /// What of these rows (a job that is held, and the number of the pause that held it or 0) stands behind the pieces.
    pub(crate) fn put_behind(
        &mut self,
        held: Vec<(DueJob, i64)>,
        in_force: (&InForce, &Policy),
        at: (Timestamp, Day),
    ) {
        let due = self.due.iter().map(|due| (due.job, &due.group));
        let rows = held.iter().map(|(held, pause)| (held.job, &held.group, *pause));
        let behind = budget::stand_behind(due, rows, in_force, at);
        self.behind =
            held.into_iter().map(|(held, _)| held).filter(|held| behind.contains(&held.job)).collect();
    }

    /// Decide. What of an admission that is over is still counted is taken back first: nobody is charged twice.
    pub(crate) fn decide(self, budgets: &Budgets, from: Timestamp) -> budget::Admission {
        let Self { due, waiting, mut used, population, behind } = self;
        let mut by_group = |jobs: Vec<DueJob>| {
            let mut groups: BTreeMap<Group, Vec<JobId>> = BTreeMap::new();
            for DueJob { job, group, charged } in jobs {
                if charged.is_some_and(|bucket| bucket >= from)
                    && let Some(used) = used.get_mut(&group)
                {
                    *used = used.saturating_sub(1);
                }
                groups.entry(group).or_default().push(job);
            }
            groups
        };
        let (due, behind) = (by_group(due), by_group(behind));
        budget::admit_piece((budgets, &population), due, waiting, used, behind)
    }
}

/// The jobs of a batch of intents whose admission has to be known for it; `deletions` are those that it is about. If there are
/// frozen batches that wait (`frozen`), it is of each that may begin: of a stage that is not counted, too, it may be one of them.
pub(crate) fn asked(
    intents: &[Intent],
    deletions: &HashMap<DeletionId, (Deletion, Hash)>,
    (policy, frozen): (&Policy, bool),
    (now, day): (Timestamp, Day),
) -> Vec<i64> {
    let jobs = intents.iter().filter_map(|intent| intent.event.begins());
    let backlog = |job: JobId, stage: Stage| {
        let job = deletions.get(&job.deletion()).and_then(|(deletion, _)| deletion.job(job));
        job.is_some_and(|job| policy.counts_backlog((stage, job), now, day))
    };
    let counts = |job: JobId, stage: Stage| frozen || policy.counts(stage, day) || backlog(job, stage);
    jobs.filter(|job| stage(*job).is_some_and(|stage| counts(*job, stage))).map(|job| job.0).collect()
}

/// The stage of a job; none of a restore.
pub(crate) fn stage(job: JobId) -> Option<Stage> {
    match JobKind::from_slot(job.slot()) {
        Some(JobKind::Stage(stage)) => Some(stage),
        Some(JobKind::Restore) | None => None,
    }
}

/// The stage of a stored slot.
pub(crate) fn stage_of_slot(slot: i16) -> Option<Stage> {
    usize::try_from(slot).ok().and_then(|slot| Stage::ALL.get(slot).copied())
}

/// Members that are named in the event of a batch that was frozen; its digest is of all.
const NAMED: usize = 1000;

/// The event of a batch that was frozen.
pub(crate) fn frozen(row: &BatchRow, jobs: &[JobId], at: Timestamp) -> LedgerEvent {
    let members: Vec<DeletionId> = jobs.iter().take(NAMED).map(|job| job.deletion()).collect();
    let body = json!({
        "batch": row.batch, "group": row.group, "exceeded": row.exceeded, "count": jobs.len(), "members": members,
    });
    LedgerEvent { at, what: "frozen".into(), by: "coordinator".into(), body }
}

/// The event of a batch that ended.
pub(crate) fn ended(batch: i64, ended: &Ended, digest: Option<&str>) -> Result<LedgerEvent, LedgerError> {
    let (at, what, by) = match ended {
        Ended::Approved { at, by, .. } => (*at, "approved", by.to_string()),
        Ended::Fits { at } => (*at, "fits", "coordinator".to_owned()),
        Ended::Left { at } => (*at, "left", "coordinator".to_owned()),
    };
    let mut body = json!({ "batch": batch, "ended": known::value(ended)? });
    if let Some(digest) = digest {
        body["digest"] = digest.into();
    }
    Ok(LedgerEvent { at, what: what.to_owned(), by, body })
}

/// The body of the event that something was lifted, or set, with the digest of who was approved to begin at once by that.
pub(crate) fn lifted(what: &impl Serialize, stopped: &[Stopped]) -> Result<Value, LedgerError> {
    let mut body = known::value(what)?;
    if let Some(digest) = Stopped::digest(stopped) {
        body["digest"] = digest.into();
    }
    Ok(body)
}
