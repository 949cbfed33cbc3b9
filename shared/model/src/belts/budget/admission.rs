//! What is due of a group begins, or becomes a batch; and which batches are a crowd together.
use std::collections::{BTreeMap, BTreeSet};

use super::{Budgets, Exceeded, Group, charge, count, exceeded};
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

/// Admit what is due, or freeze it: each group as a whole, batches that wait first and the oldest first. Nobody overtakes
/// a batch of the same group. Of a group of which more wait than may begin nothing begins before somebody has approved
/// so many of its batches that the rest may.
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
        match exceeded((budgets, population), &batch.group, batch.members, &used) {
            _ if crowds.contains(&batch.group) => {}
            Some(why) => drop(turn.entry(batch.group).or_insert(why)),
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
        match exceeded((budgets, population), &group, together, &used).or(first) {
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
