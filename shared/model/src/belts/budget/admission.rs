//! What is due of a group begins, or becomes a batch; and which batches are a crowd together.
use std::collections::{BTreeMap, BTreeSet};

use super::{Budgets, Counted, Exceeded, Group, charge, count, counted_in, exceeded, shared};
use crate::belts::census::Population;
use crate::id::JobId;

/// A batch that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub batch: i64,
    /// What its members have in common.
    pub group: Group,
    /// How many of them still wait.
    pub members: usize,
    /// That something else holds all of its group ([`is_stopped`](super::is_stopped)): then nothing is kept for it.
    pub stopped: bool,
}

/// What is to become of what is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// These may begin, and are charged.
    pub admitted: BTreeMap<Group, Vec<JobId>>,
    /// These may not: each becomes a batch.
    pub frozen: Vec<(Group, Vec<JobId>, Exceeded)>,
    /// Batches that fit by now; their members are admitted and charged.
    pub fitting: Vec<Waiting>,
    /// Batches of which nobody waits any more.
    pub left: Vec<i64>,
}

/// The groups of which somebody has to approve a batch before any of it begins: more of them wait, in all of their batches
/// together, than may begin. Of each batch: its group, how many of it still wait, and why it was frozen.
pub fn crowds<'a>(batches: impl IntoIterator<Item = (&'a Group, u64, &'a Exceeded)>) -> BTreeSet<Group> {
    let mut together: BTreeMap<&Group, (u64, u64)> = BTreeMap::new();
    for (group, members, why) in batches.into_iter().filter(|(_, members, _)| *members > 0) {
        let (count, most) = together.entry(group).or_insert((0, u64::MAX));
        *count = count.saturating_add(members);
        *most = why.limit.most.min(*most);
    }
    let crowd = |(_, (count, most)): &(&Group, (u64, u64))| count > most;
    together.into_iter().filter(crowd).map(|(group, _)| group.clone()).collect()
}

/// Numbers that several groups share, and of which all that becomes free is for batches that wait for nothing else: while such
/// a batch does not fit, each one that begins keeps it waiting. Each with a group of such a batch, whose kind and stage it is
/// of, and how many wait so.
#[derive(Default)]
struct Kept(Vec<(Counted, Group, u64)>);

impl Kept {
    /// Keep these for a batch.
    fn keep(&mut self, numbers: Vec<Counted>, batch: &Waiting) {
        for number in numbers {
            let same = |kept: &&mut (Counted, Group, u64)| kept.0 == number && kept.1.is_like(&batch.group);
            match self.0.iter_mut().find(same) {
                Some((.., members)) => *members = members.saturating_add(count(batch.members)),
                None => self.0.push((number, batch.group.clone(), count(batch.members))),
            }
        }
    }

    /// Why so many of a group do not begin, if something is kept of a number that binds them.
    fn stops(
        &self,
        (budgets, population): (&Budgets, &Population),
        group: &Group,
        members: usize,
        used: &BTreeMap<Group, u64>,
    ) -> Option<Exceeded> {
        if self.0.is_empty() {
            return None;
        }
        budgets.limits(&group.scope, &group.kind, population).into_iter().find_map(|limit| {
            let kept = self.0.iter().find(|(number, of, _)| *number == limit.counted && of.is_like(group));
            let (.., before) = kept?;
            let used = counted_in(&limit, group, used);
            Some(Exceeded { members: count(members), used, before: *before, limit })
        })
    }
}

/// Admit what is due, or freeze it: each group as a whole, batches that wait first and the oldest first. Nobody overtakes
/// a batch of the same group, nor one of another group that waits for nothing but a number that both share: a few at a time
/// would take whatever becomes free of it, and the batch would wait for ever. Of a group of which more wait than may begin
/// nothing begins before somebody has approved so many of its batches that the rest may.
pub fn admit(
    counted: (&Budgets, &Population),
    due: BTreeMap<Group, Vec<JobId>>,
    waiting: Vec<Waiting>,
    used: BTreeMap<Group, u64>,
) -> Admission {
    admit_piece(counted, due, waiting, used, BTreeMap::new())
}

/// The same where what is due may be the first piece of a crowd: these stand `behind` it, and are about to be looked at, too.
/// Whether the piece may begin is judged of all of it. If it may not, all of it is one batch; if it may, those behind it are
/// admitted once they are due.
pub fn admit_piece(
    (budgets, population): (&Budgets, &Population),
    due: BTreeMap<Group, Vec<JobId>>,
    mut waiting: Vec<Waiting>,
    mut used: BTreeMap<Group, u64>,
    mut behind: BTreeMap<Group, Vec<JobId>>,
) -> Admission {
    let mut admission = Admission::default();
    let mut turn: BTreeMap<Group, Exceeded> = BTreeMap::new();
    let mut kept = Kept::default();
    let mut waits: BTreeMap<Group, usize> = BTreeMap::new();
    waiting.sort_unstable_by_key(|batch| batch.batch);
    for batch in &waiting {
        let waits = waits.entry(batch.group.clone()).or_default();
        *waits = waits.saturating_add(batch.members);
    }
    let crowd = |(group, members): (&Group, &usize)| {
        let why = exceeded((budgets, population), group, *members, &used)?;
        why.alone().then(|| group.clone())
    };
    let crowds: BTreeSet<Group> = waits.iter().filter_map(crowd).collect();
    for batch in waiting {
        if batch.members == 0 {
            admission.left.push(batch.batch);
            continue;
        }
        let why = exceeded((budgets, population), &batch.group, batch.members, &used);
        match why.or_else(|| kept.stops((budgets, population), &batch.group, batch.members, &used)) {
            _ if crowds.contains(&batch.group) => {}
            Some(_) if turn.contains_key(&batch.group) => {}
            // It is the oldest of its group; those behind it wait for it.
            Some(why) => {
                if !batch.stopped {
                    let numbers = shared((budgets, population), &batch.group, batch.members, &used);
                    kept.keep(numbers, &batch);
                }
                turn.insert(batch.group, why);
            }
            None if turn.contains_key(&batch.group) => {}
            None => {
                charge(&mut used, &batch.group, batch.members);
                waits.entry(batch.group.clone()).and_modify(|waits| *waits -= batch.members);
                admission.fitting.push(batch);
            }
        }
    }
    for (group, mut jobs) in due.into_iter().filter(|(_, jobs)| !jobs.is_empty()) {
        let begin = jobs.len();
        jobs.extend(behind.remove(&group).unwrap_or_default());
        // They join what waits already: behind it, and as many as all of it together.
        let together = jobs.len().saturating_add(waits.get(&group).copied().unwrap_or_default());
        let first = turn.get(&group).map(|first| Exceeded { members: count(together), ..first.clone() });
        let why = exceeded((budgets, population), &group, together, &used).or(first);
        match why.or_else(|| kept.stops((budgets, population), &group, together, &used)) {
            Some(why) => admission.frozen.push((group, jobs, why)),
            None => {
                jobs.truncate(begin);
                charge(&mut used, &group, jobs.len());
                admission.admitted.insert(group, jobs);
            }
        }
    }
    admission
}
