//! Budgets (I11), by rules written down once more:
//!
//! - In no span do more begin a stage that is counted than may, but for those that somebody approved.
//! - What is due together begins together or not at all: of a batch that waits nothing begins, of one that is too large
//!   nothing ever does unless it is approved, and nobody of the same group overtakes one.
//! - A batch never grows. It is approved once, as exactly the set that was looked at, by somebody who asked for none of it,
//!   and for so many days; such an approval is not refused.
use std::collections::{BTreeMap, BTreeSet};

use sexton_ledger::{BatchView, DeletionView};
use sexton_model::audit::What;
use sexton_model::belts::budget::Group;
use sexton_model::belts::census::Taken;
use sexton_model::job::{JobKind, Stage};
use sexton_model::{DeletionId, JobId, Kind, Timestamp};

use super::censuses::{Of, there, within};
use super::dates::due_since;
use super::{DAY_MS, Violation, violated};
use crate::simulation::allowed::Allowed;
use crate::simulation::script::Person;

/// Whoever begins was admitted less than so many milliseconds before.
const GOOD_MS: u64 = 5_000;
/// Admissions are counted by parts of a day of so many milliseconds.
const PART_MS: u64 = 5_000;
/// An approval is good for so many days.
const APPROVED_DAYS: u64 = 7;

/// What a person saw of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub batch: i64,
    /// What is to be approved.
    pub digest: String,
    /// Who waited in it.
    pub members: BTreeSet<JobId>,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waits,
    /// Somebody approved it.
    Approved,
    /// It had room, or nobody waited any more.
    Ended,
}

#[derive(Debug, Clone)]
struct Batch {
    group: Group,
    frozen_at: Timestamp,
    /// All that were ever in it.
    ever: BTreeSet<JobId>,
    /// Those that waited when it was looked at last.
    waiting: BTreeSet<JobId>,
    /// Those that have been due since then, and were stopped by nothing else.
    fresh: Vec<(JobId, Timestamp)>,
    standing: Standing,
}

#[derive(Debug, Clone)]
struct Began {
    at: Timestamp,
    group: Group,
}

/// All that was seen of them.
#[derive(Debug, Clone)]
pub struct Budgets {
    allowed: Allowed,
    requested: BTreeMap<DeletionId, Person>,
    /// What began without an approval.
    began: Vec<Began>,
    batches: BTreeMap<i64, Batch>,
    /// Until when.
    approved: BTreeMap<JobId, Timestamp>,
    /// Requests that have let a batch go.
    requests: BTreeSet<u64>,
    /// Those that were believed.
    censuses: Vec<Taken>,
}

/// Between which two moments an admission was made, by the job table's clock, if that has not gone back since.
type Between = Option<(Timestamp, Timestamp)>;

impl Budgets {
    /// Nothing has begun.
    pub fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            requested: BTreeMap::new(),
            began: Vec::new(),
            batches: BTreeMap::new(),
            approved: BTreeMap::new(),
            requests: BTreeSet::new(),
            censuses: Vec::new(),
        }
    }

    /// A census was believed.
    pub fn census(&mut self, taken: Taken) {
        self.censuses.push(taken);
    }

    /// The last census of this scope that was believed.
    pub fn last_census(&self, scope: &str) -> Option<&Taken> {
        self.censuses.iter().rev().find(|taken| taken.scope.as_str() == scope)
    }

    /// Whether it is known that this one was believed.
    pub fn knows_census(&self, number: i64) -> bool {
        self.censuses.iter().any(|taken| taken.census == number)
    }

    /// How many the last census of this scope has counted; none if there is none.
    pub fn counted_last(&self, scope: &str) -> usize {
        self.last_census(scope).map_or(0, |last| last.counts.values().sum::<u64>() as usize)
    }

    /// This one asked for it.
    pub fn created(&mut self, id: DeletionId, by: Person) {
        self.requested.insert(id, by);
    }

    /// Whether a batch was seen before.
    pub fn knows(&self, batch: i64) -> bool {
        self.batches.contains_key(&batch)
    }

    /// Whether a batch waited when it was looked at last.
    pub fn waits(&self, batch: i64) -> bool {
        self.batches.get(&batch).is_some_and(|batch| batch.standing == Standing::Waits)
    }

    /// A batch waits no more because of the request of that number.
    ///
    /// # Errors
    /// If it should still wait.
    pub fn let_go(
        &mut self,
        seen: &Seen,
        by: Person,
        (at, request): (Timestamp, u64),
    ) -> Result<(), Violation> {
        self.requests.insert(request);
        self.approval(seen, by, (at, Some(seen.members.len())))
    }

    /// Whether the request of that number has let a batch go, as far as the job table knows of it.
    pub fn has_let_go(&self, request: u64) -> bool {
        self.requests.contains(&request)
    }

    /// These batches wait, each with its members' records if it was not known; no others do. How many are new.
    ///
    /// # Errors
    /// If one has grown, or waits again.
    pub fn see(&mut self, waiting: &[(BatchView, Vec<DeletionView>)]) -> Result<u64, Violation> {
        let numbers: BTreeSet<i64> = waiting.iter().map(|(view, _)| view.row.batch).collect();
        for (number, batch) in &mut self.batches {
            if batch.standing == Standing::Waits && !numbers.contains(number) {
                batch.standing = Standing::Ended;
            }
        }
        let mut new = 0;
        for (view, records) in waiting {
            let number = view.row.batch;
            let members: BTreeSet<JobId> = view.members.iter().map(|member| member.job).collect();
            let Some(batch) = self.batches.get_mut(&number) else {
                let frozen_at = view.row.frozen_at;
                let stage = view.row.group.stage;
                let fresh = records.iter().filter_map(|record| fresh(record, stage, frozen_at)).collect();
                let batch = Batch {
                    group: view.row.group.clone(),
                    frozen_at,
                    ever: members.clone(),
                    waiting: members,
                    fresh,
                    standing: Standing::Waits,
                };
                self.batches.insert(number, batch);
                new += 1;
                continue;
            };
            if batch.standing != Standing::Waits {
                violated("I11", format!("batch {number} waits again, after it was over"))?;
            }
            if let Some(joined) = members.difference(&batch.waiting).next() {
                violated("I11", format!("{joined} has joined batch {number} after it was frozen"))?;
            }
            batch.waiting = members;
        }
        Ok(new)
    }

    /// A job was claimed.
    ///
    /// # Errors
    /// If it may not begin.
    pub fn claimed(
        &mut self,
        view: &DeletionView,
        (stage, at): (Stage, Timestamp),
        steady: bool,
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        if !self.allowed.stages.contains(&stage) {
            return Ok(());
        }
        let resource = &view.deletion.record.resource;
        let group = Group { scope: resource.scope.clone(), kind: resource.id.kind.clone(), stage };
        let job = JobId::of(view.deletion.id, stage.index());
        let approved = self.approved.remove(&job).is_some_and(|until| at < until);
        let mut frozen = self.batches.iter().filter(|(_, batch)| batch.ever.contains(&job));
        if let Some((number, _)) = frozen.clone().find(|(_, batch)| batch.standing == Standing::Waits) {
            violated("I11", format!("{}: it is one of batch {number}, which waits", told()))?;
        }
        if approved {
            return Ok(());
        }
        let last = frozen.next_back();
        if let Some((number, batch)) = last.filter(|(_, batch)| batch.standing == Standing::Ended) {
            let least = self.least(&group, steady.then_some((batch.frozen_at, at)));
            let members = batch.waiting.len();
            if members as u64 > least {
                let what = format!("{}: it is one of {members} of batch {number}, where {least} may", told());
                violated("I11", what)?;
            }
        }
        let alone = last.is_none();
        self.began.push(Began { at, group: group.clone() });
        let admitted = (Timestamp(at.0.saturating_sub_unsigned(GOOD_MS * 1000)), at);
        self.counted(&group, (at, steady.then_some(admitted)), told)?;
        if alone && steady {
            self.together(view, (&group, at), told)?;
            self.in_turn(&group, at, told)?;
        }
        Ok(())
    }

    /// Somebody approved what was seen, and was told that so many members go; or it was refused.
    ///
    /// # Errors
    /// If it should have been the other way round.
    pub fn approval(
        &mut self,
        seen: &Seen,
        by: Person,
        (at, went): (Timestamp, Option<usize>),
    ) -> Result<(), Violation> {
        let own = |job: &JobId| self.requested.get(&job.deletion()) == Some(&by);
        let asked = seen.members.iter().any(own);
        let batch = self.batches.get_mut(&seen.batch);
        let batch = batch.filter(|batch| batch.standing == Standing::Waits && batch.waiting == seen.members);
        let may = !asked && !seen.members.is_empty() && batch.is_some();
        let told = || format!("{by:?} approves batch {} of {}", seen.batch, seen.members.len());
        match (went, batch) {
            (Some(went), Some(batch)) if may => {
                if went != seen.members.len() {
                    violated("approval", format!("{}, and {went} go", told()))?;
                }
                batch.standing = Standing::Approved;
                let until = at.plus_ms(APPROVED_DAYS * DAY_MS);
                self.approved.extend(seen.members.iter().map(|job| (*job, until)));
                Ok(())
            }
            (Some(_), _) => violated("approval", format!("{}, and may not", told())),
            (None, _) if may => violated("approval", format!("{}, and is refused", told())),
            (None, _) => Ok(()),
        }
    }

    /// Batches that somebody has to approve, since more of their group wait than ever begin otherwise; or all that wait.
    pub fn waiting(&self, all: bool, now: Timestamp) -> Vec<i64> {
        let of_group = |group: &Group| {
            let same =
                self.batches.values().filter(|one| one.standing == Standing::Waits && one.group == *group);
            same.map(|one| one.waiting.len() as u64).sum::<u64>()
        };
        let waits = |batch: &Batch| {
            let too_many = of_group(&batch.group) > self.least(&batch.group, Some((now, now)));
            batch.standing == Standing::Waits && (all || too_many)
        };
        self.batches.iter().filter(|(_, batch)| waits(batch)).map(|(number, _)| *number).collect()
    }

    /// In no span that ends with or after this one do more begin than may, of all that the same numbers bind. What is in a
    /// narrower scope with a number of its own is bound by that one.
    fn counted(
        &self,
        group: &Group,
        (at, admitted): (Timestamp, Between),
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let span_ms = self.span_ms();
        for (among, most) in self.limits(group, admitted) {
            let counts = |one: &&Began| {
                one.group.kind == group.kind
                    && one.group.stage == group.stage
                    && self.numbers(&one.group).iter().any(|(other, _)| *other == among)
            };
            let ends = self.began.iter().filter(counts).map(|one| one.at);
            for end in ends.filter(|end| *end >= at && *end < at.plus_ms(span_ms)) {
                let in_span = |one: &&Began| one.at <= end && end < one.at.plus_ms(span_ms);
                let begun = self.began.iter().filter(counts).filter(in_span).count();
                if begun as u64 > most {
                    let what = format!("{}: {begun} begin where {most} may {among:?}", told());
                    return violated("I11", what);
                }
            }
        }
        Ok(())
    }

    /// What was due no later was looked at whenever this one could have been admitted, and would have been with it.
    fn together(
        &self,
        view: &DeletionView,
        (group, at): (&Group, Timestamp),
        told: &impl Fn() -> String,
    ) -> Result<(), Violation> {
        let Some((_, since)) = fresh(view, group.stage, at) else { return Ok(()) };
        for (number, batch) in self.batches.iter().filter(|(_, batch)| batch.group == *group) {
            let frozen_at = batch.frozen_at;
            if since > frozen_at || frozen_at > at || at >= frozen_at.plus_ms(GOOD_MS) {
                continue;
            }
            let earlier =
                batch.fresh.iter().find(|(_, due)| *due <= since && frozen_at < due.plus_ms(GOOD_MS));
            if let Some((other, _)) = earlier {
                let what = format!("{}: {other} was as due, and was frozen in batch {number}", told());
                return violated("I11", what);
            }
        }
        Ok(())
    }

    /// Nobody overtakes a batch, whether it waits for its turn or for an approval.
    fn in_turn(&self, group: &Group, at: Timestamp, told: &impl Fn() -> String) -> Result<(), Violation> {
        let overtaken = self.batches.iter().find(|(_, batch)| {
            batch.standing == Standing::Waits
                && batch.group == *group
                && !batch.waiting.is_empty()
                && batch.frozen_at.plus_ms(GOOD_MS) <= at
        });
        match overtaken {
            Some((number, _)) => {
                violated("I11", format!("{}: batch {number} of the same group waits", told()))
            }
            None => Ok(()),
        }
    }

    /// The least number of all that are to be kept by what was admitted then.
    fn least(&self, group: &Group, admitted: Between) -> u64 {
        self.limits(group, admitted).into_iter().map(|(_, most)| most).min().unwrap_or(u64::MAX)
    }

    /// What may not be exceeded: each number, and of it no more than its share of those that are there.
    fn limits(&self, group: &Group, admitted: Between) -> [(Among, u64); 2] {
        self.numbers(group).map(|(among, most)| {
            let share = self.share(&group.kind, &among, admitted);
            (among, most.min(share))
        })
    }

    /// The number of the narrowest scope around it that has one, else that of each; and that of all together.
    fn numbers(&self, group: &Group) -> [(Among, u64); 2] {
        let scope = group.scope.as_str();
        let around = self.allowed.scopes.iter().filter(|(outer, _)| within(scope, outer));
        let own = match around.max_by_key(|(outer, _)| outer.len()) {
            Some(&(outer, most)) => (Among::Within(outer), most),
            None => (Among::In(scope.to_owned()), self.allowed.each),
        };
        [own, (Among::All, self.allowed.everywhere)]
    }

    /// So many per cent of those that are there, a part of one counting as one; none as long as nobody has counted them, and as
    /// many as there are if that is not asked. What counts is a census of before the span.
    fn share(&self, kind: &Kind, among: &Among, admitted: Between) -> u64 {
        let Some(percent) = self.allowed.percent else { return u64::MAX };
        let before = |moment: Timestamp, ms: u64| Timestamp(moment.0.saturating_sub_unsigned(ms * 1000));
        let span_ms = self.span_ms() + PART_MS;
        // Whenever the clock has gone back, any of them may have counted.
        let counted_from = admitted.map_or((Timestamp(i64::MIN), Timestamp::MAX), |(least, most)| {
            (before(least, span_ms + PART_MS), before(most, span_ms))
        });
        let of = match among {
            Among::In(scope) => Of::In(scope),
            Among::Within(scope) => Of::Within(scope),
            Among::All => Of::All,
        };
        let there = there(&self.censuses, kind, of, counted_from);
        there.map_or(0, |there| (there * u64::from(percent)).div_ceil(100))
    }

    fn span_ms(&self) -> u64 {
        u64::from(self.allowed.days) * DAY_MS
    }
}

/// Whose beginnings are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Among {
    In(String),
    Within(&'static str),
    All,
}

/// Since when a job that was frozen, or began, at that moment had been due, if nothing but a batch has ever held it.
fn fresh(record: &DeletionView, stage: Stage, at: Timestamp) -> Option<(JobId, Timestamp)> {
    let held = record.audit.iter().any(|row| {
        let event = &row.event;
        let of_it = event.job == Some(JobKind::Stage(stage)) && event.at <= at;
        let by_a_batch = event.what == What::Held && event.detail.starts_with("batch ");
        of_it && matches!(event.what, What::Held | What::Unheld) && !by_a_batch
    });
    let since = due_since(record, stage).filter(|_| !held)?;
    Some((JobId::of(record.deletion.id, stage.index()), since))
}
