//! How many jobs there are in each state, kept with every write.
use std::collections::BTreeMap;

use rusqlite::params;
use sexton_model::deletion::Deletion;
use sexton_model::job::StateName;

use super::codes;
use super::connection::{Bind, Db, each, rows, store};
use crate::LedgerError;
use crate::row::code;

/// Jobs by the position of their state in [`StateName::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts([i64; StateName::ALL.len()]);

impl Counts {
    /// Those of these deletions.
    pub(super) fn of<'a>(deletions: impl Iterator<Item = &'a Deletion>) -> Self {
        let mut counts = Self::default();
        for job in deletions.flat_map(|deletion| &deletion.jobs) {
            counts.0[job.state.name() as usize] += 1;
        }
        counts
    }

    /// What has changed from `before` to `after` joins what is to be written.
    pub(super) fn grow(&mut self, (before, after): (Self, Self)) {
        for (count, (before, after)) in self.0.iter_mut().zip(before.0.into_iter().zip(after.0)) {
            *count += after - before;
        }
    }

    /// Write by how much the numbers have grown.
    pub(super) fn write(self, db: &Db) -> Result<(), LedgerError> {
        let changed: Vec<_> = StateName::ALL
            .into_iter()
            .map(|name| (code(name), self.0[name as usize]))
            .filter(|(_, more)| *more != 0)
            .collect();
        let wanted = changed.len();
        let done = each(db, "counting jobs", UPDATE, changed, |statement, (state, more)| {
            statement.execute(params![more, state])
        })?;
        codes::all_there("job_counts", done, wanted)
    }
}

const UPDATE: &str = "UPDATE job_counts SET jobs = jobs + ? WHERE state = ?";

/// As they are kept.
pub(super) fn kept(db: &Db) -> Result<BTreeMap<StateName, u64>, LedgerError> {
    read(db, "SELECT state, jobs FROM job_counts WHERE jobs > 0")
}

/// As they are: reads the whole table.
pub(super) fn counted(db: &Db) -> Result<BTreeMap<StateName, u64>, LedgerError> {
    read(db, "SELECT state, count(*) FROM jobs GROUP BY state")
}

fn read(db: &Db, sql: &'static str) -> Result<BTreeMap<StateName, u64>, LedgerError> {
    let doing = "counting jobs";
    let mut counts = BTreeMap::new();
    for row in rows(db, doing, sql, Bind::default())? {
        let state: i64 = row.try_get(0).map_err(store(doing))?;
        let count: i64 = row.try_get(1).map_err(store(doing))?;
        let name = usize::try_from(state).ok().and_then(|n| StateName::ALL.get(n).copied());
        let name = name.ok_or_else(|| codes::corrupt("jobs", "state", format!("{state} is no state")))?;
        counts.insert(name, u64::try_from(count).unwrap_or(0));
    }
    Ok(counts)
}
