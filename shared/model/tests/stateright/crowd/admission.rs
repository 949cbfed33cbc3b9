//! What the job table keeps of admissions, as both footings do, and what is decided on it.
use std::collections::BTreeMap;

use sexton_model::belts::budget::{Budgets, Frozen, Standing, Waiting, admit};
use sexton_model::belts::census::Population;
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::redundancy::Groups;
use sexton_model::credit::Draw;
use sexton_model::decide::{Capacity, Context, Decision, Event, Lane, Refusal, decide};
use sexton_model::deletion::Deletion;
use sexton_model::job::{JobState, Stage};
use sexton_model::{Fence, Instance, JobId, Timestamp};

use super::fixed::{A_DAY, BUDGETS, DAY, GROUP, POLICY, base, index_of};
use super::{Batch, Crowd, Member, Place};
use crate::world::{IN_FORCE, hold};

/// That one may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admission {
    /// The part of a day where it is counted; none if a person has approved it.
    pub bucket: Option<Timestamp>,
    /// Until when it is good.
    pub good_until: Timestamp,
}

impl Admission {
    /// Whether it is good now.
    pub fn is_good(&self) -> bool {
        self.good_until > Timestamp(0)
    }
}

impl Crowd {
    /// What is decided on.
    pub(super) fn deletion(&self, index: usize) -> Deletion {
        let (member, base) = (&self.members[index], base(index));
        let mut jobs = base.jobs.clone();
        jobs[usize::from(Stage::Hard.index())] = member.hard.0.clone();
        let holds = if member.held { vec![hold(1)] } else { Vec::new() };
        Deletion { jobs, audit_seq: i64::from(member.held), holds, ..base.clone() }
    }

    pub(super) fn decide(&self, deletion: &Deletion, event: &Event) -> Result<Decision, Refusal> {
        let capacity = |_: &Instance, _: Lane, _: Draw| Capacity::Free;
        let answered = |_: &Instance| None;
        let standing = |job: JobId| self.standing(index_of(job));
        let context = Context {
            now: Timestamp(0),
            day: DAY,
            in_force: &IN_FORCE,
            policy: &POLICY,
            review: None,
            fence: Fence { epoch: 1, number: 1 },
            capacity: &capacity,
            standing: &standing,
            groups: &Groups::default(),
            healthy: &Healthy::always(),
            answered: &answered,
        };
        decide(deletion, event, &context)
    }

    fn standing(&self, index: usize) -> Standing {
        let member = &self.members[index];
        let waits = |id: i64| self.batches.iter().find(|batch| batch.id == id);
        if let Some(batch) = member.batch.and_then(waits) {
            return Standing::Frozen(Frozen { batch: batch.id, exceeded: batch.why.clone() });
        }
        if member.admission.is_some_and(|admission| admission.is_good()) {
            return Standing::Admitted;
        }
        Standing::Unknown
    }

    /// Who waits in a batch.
    pub(super) fn waiting(&self, batch: i64) -> Vec<usize> {
        let waits = |(index, member): (usize, &Member)| {
            (member.batch == Some(batch) && member.place == Place::Waits).then_some(index)
        };
        self.members.iter().enumerate().filter_map(waits).collect()
    }

    /// How many wait in all batches.
    fn frozen(&self) -> usize {
        self.batches.iter().map(|batch| self.waiting(batch.id).len()).sum()
    }

    /// Whether waiting does not help a batch: more wait, in all of them, than may begin.
    pub fn needs_approval(&self, batch: &Batch) -> bool {
        !self.waiting(batch.id).is_empty() && self.frozen() > A_DAY
    }

    /// Admit or freeze what is due, if `due`; and let go what fits by now. None if that would be one batch too many.
    pub(super) fn admit(&mut self, due: bool) -> Option<()> {
        let now = Timestamp(0);
        let from = BUDGETS.counted_from(now, DAY);
        let asks: Vec<usize> = (0..self.members.len()).filter(|index| due && self.asks(*index)).collect();
        // Nobody is charged twice: what of an admission that is over still counts is taken back first.
        for index in &asks {
            let old = self.members[*index].admission.take().and_then(|admission| admission.bucket);
            if let Some(count) = old.and_then(|bucket| self.counts.get_mut(&bucket)) {
                *count = count.saturating_sub(1);
            }
        }
        let used: u64 = self.counts.range(from..).map(|(_, count)| *count).sum();
        let of_batch = |batch: &Batch| Waiting {
            batch: batch.id,
            group: GROUP.clone(),
            members: self.waiting(batch.id).len(),
            stopped: false,
        };
        let jobs: Vec<JobId> = asks.iter().map(|index| self.members[*index].hard.0.id).collect();
        let budgets: &Budgets = &BUDGETS;
        let admission = admit(
            (budgets, &Population::default()),
            BTreeMap::from([(GROUP.clone(), jobs)]),
            self.batches.iter().map(of_batch).collect(),
            BTreeMap::from([(GROUP.clone(), used)]),
        );
        if !admission.admitted.is_empty() && !admission.frozen.is_empty() {
            self.broken = Some("I11: what is due of a group was torn apart");
        }
        let (before, fitting) =
            (self.frozen(), admission.fitting.iter().map(|batch| batch.members).sum::<usize>());
        let newcomers: usize = admission.admitted.values().map(Vec::len).sum();
        let too_many = |begin: usize, waits: usize| begin > 0 && waits > A_DAY;
        if too_many(fitting, before) || too_many(newcomers, newcomers + before - fitting) {
            self.broken = Some("I11: of a crowd something was admitted that nobody has approved");
        }
        self.left.batches = self.left.batches.checked_sub(admission.frozen.len())?;
        for jobs in admission.admitted.values() {
            self.charge(jobs.iter().copied().map(index_of));
        }
        for batch in admission.fitting {
            self.charge(self.waiting(batch.batch).into_iter());
            self.end(batch.batch);
        }
        for batch in admission.left {
            self.end(batch);
        }
        for (_, jobs, why) in admission.frozen {
            self.last += 1;
            self.batches.push(Batch { id: self.last, why });
            for index in jobs.into_iter().map(index_of) {
                self.members[index].batch = Some(self.last);
            }
        }
        Some(())
    }

    /// Whether one is due, and nobody has looked whether it may begin.
    fn asks(&self, index: usize) -> bool {
        let member = &self.members[index];
        let scheduled = matches!(member.hard.0.state, JobState::Scheduled { .. });
        member.place == Place::Waits && scheduled && self.standing(index) == Standing::Unknown
    }

    fn charge(&mut self, members: impl Iterator<Item = usize>) {
        let (bucket, good_until) =
            (Budgets::bucket(Timestamp(0), DAY), Budgets::good_until(Timestamp(0), DAY));
        for index in members {
            self.members[index].admission = Some(Admission { bucket: Some(bucket), good_until });
            *self.counts.entry(bucket).or_default() += 1;
        }
    }

    /// A batch no longer waits.
    pub(super) fn end(&mut self, batch: i64) {
        self.batches.retain(|other| other.id != batch);
        for member in self.members.iter_mut().filter(|member| member.batch == Some(batch)) {
            member.batch = None;
        }
    }
}
