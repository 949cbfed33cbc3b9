//! What the writer remembers between transactions, so that a step need not read what the last one wrote.
//!
//! Invariant: whatever is remembered equals the table. One process writes the file (its lock is held), one
//! thread writes in it, and what a transaction changed is taken over only after its COMMIT returned; before
//! that it stands in [`Staged`], and if the transaction fails, what it had loaded is forgotten.
//! [`compare`] checks it.
use std::collections::HashMap;
use std::sync::Arc;

use sexton_model::belts::ceiling::{Ceilings, ScopeCeiling};
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::{InForce, Pause};
use sexton_model::decide::Lane;
use sexton_model::{DeletionId, Instance, JobId, Timestamp};

use super::connection::{Bind, Db, change_one, row, rows, store};
use super::load::{Bodies, Headed, load, moment};
use super::run::Setting;
use super::{codes, counts, healthy, one_shots};
use crate::recent::Recent;
use crate::{LedgerError, Pulsed};

/// Orders out by instance and lane.
pub(super) type OutCounts = HashMap<(Instance, Lane), u32>;

/// Deletions that are remembered, at least: more than have an order out at once with a dozen instances at
/// full credit. A few kilobytes each.
const DELETIONS: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) deletions: Recent<DeletionId, Headed>,
    pub(super) bodies: Bodies,
    pub(super) out: OutCounts,
    pub(super) last_fence: i64,
    /// What the table says of it.
    pub(super) written_fence: i64,
    /// The number that was raised last with a decision that is no record's; 0 before the first one.
    pub(super) raised: i64,
    /// As it was read last; none after it was written, or after a transaction failed.
    pub(super) standing: Option<Standing>,
    /// As they were read last; none after they were written, or after a transaction failed.
    pub(super) in_force: Option<Arc<InForce>>,
    /// The same of heartbeats and outages.
    pub(super) healthy: Option<Healthy>,
    /// The same of the pulses. A copy that has ended counts until any other pulses: seconds.
    pub(super) pulses: Option<HashMap<Instance, Pulsed>>,
}

/// What the transaction that is under way has read and changed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) now: Timestamp,
    pub(super) deletions: HashMap<DeletionId, Headed>,
    pub(super) out: OutCounts,
    /// Jobs by state, as far as that is not written yet.
    pub(super) grown: counts::Counts,
    /// The number, if it was raised.
    pub(super) raised: Option<i64>,
}

impl Staged {
    /// Write how many jobs there are in each state: once for a transaction, since a statement has its price.
    pub(super) fn write_counts(&mut self, db: &Db) -> Result<(), LedgerError> {
        std::mem::take(&mut self.grown).write(db)
    }
}

impl Memory {
    /// Read what a writer starts with.
    pub(super) fn read(db: &Db) -> Result<Self, LedgerError> {
        let doing = "reading the ledger";
        let sql = "SELECT last_fence FROM ledger";
        let row = row(db, doing, sql, Bind::default())?;
        Ok(Self {
            deletions: Recent::new(DELETIONS),
            bodies: Bodies::new(DELETIONS),
            out: count_out(db)?,
            last_fence: row.try_get(0).map_err(store(doing))?,
            written_fence: row.try_get(0).map_err(store(doing))?,
            raised: 0,
            standing: None,
            in_force: None,
            healthy: None,
            pulses: None,
        })
    }

    pub(super) fn stage(&self, now: Timestamp) -> Staged {
        let (out, grown) = (self.out.clone(), counts::Counts::default());
        Staged { now, deletions: HashMap::new(), out, grown, raised: None }
    }

    /// What a failed transaction has read may be what it has written. The deletions it asked for are gone with
    /// its [`Staged`]; the records are dropped here, for the numbers it gave to new ones are given again.
    pub(super) fn forget(&mut self) {
        self.bodies = Bodies::new(DELETIONS);
        self.in_force = None;
        self.healthy = None;
        self.pulses = None;
        self.standing = None;
    }

    /// The first of the next `count` fence numbers. Those of a transaction that fails are lost: they only have to grow.
    pub(super) fn fences(&mut self, count: usize) -> i64 {
        let first = self.last_fence + 1;
        self.last_fence += i64::try_from(count).unwrap_or(i64::MAX >> 1);
        first
    }

    /// Write down which fences are used, once for a transaction: committed with what they are given to, they tell
    /// this state of the file from every earlier one.
    pub(super) fn write_fences(&self, db: &Db) -> Result<(), LedgerError> {
        if self.last_fence == self.written_fence {
            return Ok(());
        }
        let mut bind = Bind::default();
        bind.add(self.last_fence);
        change_one(db, ("counting fences", "ledger"), "UPDATE ledger SET last_fence = ?", bind)
    }

    /// Take over what was committed. What is over is forgotten: nobody asks for it often.
    pub(super) fn take_over(&mut self, staged: Staged) {
        self.out = staged.out;
        self.written_fence = self.last_fence;
        self.raised = staged.raised.unwrap_or(self.raised);
        for (id, headed) in staged.deletions {
            if headed.0.status.live() {
                self.deletions.put(id, headed);
            }
        }
    }

    /// These deletions, from this transaction, from memory, or from the table. They are *moved* out: whoever
    /// asks for them puts them back into [`Staged`], or they are read again next time.
    pub(super) fn deletions(
        &mut self,
        db: &Db,
        staged: &mut Staged,
        ids: impl Iterator<Item = DeletionId>,
    ) -> Result<HashMap<DeletionId, Headed>, LedgerError> {
        let mut found = HashMap::with_capacity(ids.size_hint().0);
        let mut missing = Vec::new();
        for id in ids {
            if found.contains_key(&id) {
                continue;
            }
            match staged.deletions.remove(&id).or_else(|| self.deletions.take(&id)) {
                Some(headed) => {
                    found.insert(id, headed);
                }
                None => missing.push(id),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        found.extend(load(db, &missing, &mut self.bodies)?);
        Ok(found)
    }
}

/// Orders out, counted from the table. Whoever has an order out holds a lock, so the lock's index finds them.
pub(super) fn count_out(db: &Db) -> Result<OutCounts, LedgerError> {
    let doing = "counting orders out";
    let sql =
        "SELECT out_at, id % 8 = 5, count(*) FROM jobs WHERE locks AND out_at IS NOT NULL GROUP BY 1, 2";
    let mut out = OutCounts::new();
    for row in rows(db, doing, sql, Bind::default())? {
        let at: String = row.try_get(0).map_err(store(doing))?;
        let restore: bool = row.try_get(1).map_err(store(doing))?;
        let lane = if restore { Lane::Restores } else { Lane::Stages };
        let instance = at.parse().map_err(|e| codes::corrupt("jobs", &at, e))?;
        out.insert((instance, lane), row.try_get(2).map_err(store(doing))?);
    }
    Ok(out)
}

/// What is known of all instances, with the copies that lived `down_after_us` ago.
pub(super) fn pulses(
    db: &Db,
    now: Timestamp,
    down_after_us: i64,
) -> Result<HashMap<Instance, Pulsed>, LedgerError> {
    let doing = "reading pulses";
    let sql = "SELECT i.instance, i.pulsed_at, coalesce(sum(c.hands), 0), max(c.answered_at) FROM instances AS i \
               LEFT JOIN copies AS c ON c.instance = i.instance AND c.pulsed_at >= ? GROUP BY i.instance";
    let mut bind = Bind::default();
    bind.add(now.0.saturating_sub(down_after_us));
    let mut pulses = HashMap::new();
    for row in rows(db, doing, sql, bind)? {
        let name: &str = row.try_get(0).map_err(store(doing))?;
        let instance = name.parse().map_err(|e| codes::corrupt("instances", name, e))?;
        let hands: i64 = row.try_get(2).map_err(store(doing))?;
        let answered_at: Option<i64> = row.try_get(3).map_err(store(doing))?;
        let hands = u32::try_from(hands).unwrap_or(u32::MAX);
        let answered_at = answered_at.map(Timestamp);
        pulses.insert(instance, Pulsed { at: moment(&row, 1)?, hands, answered_at });
    }
    Ok(pulses)
}

/// Pauses in force, ascending.
pub(super) fn pauses(db: &Db) -> Result<Vec<Pause>, LedgerError> {
    let sql = "SELECT id, body FROM pauses ORDER BY id";
    let mut pauses = Vec::new();
    for row in rows(db, "reading pauses", sql, Bind::default())? {
        let id: i64 = row.try_get(0).map_err(store("reading pauses"))?;
        let text: &str = row.try_get(1).map_err(store("reading pauses"))?;
        pauses.push(codes::body("pauses", id, text)?);
    }
    Ok(pauses)
}

/// How far deletions may go.
pub(super) fn ceilings(db: &Db) -> Result<Ceilings, LedgerError> {
    let doing = "reading ceilings";
    let mut ceilings: Vec<ScopeCeiling> = Vec::new();
    for row in rows(db, doing, "SELECT scope, body FROM ceilings", Bind::default())? {
        let scope: &str = row.try_get(0).map_err(store(doing))?;
        let text: &str = row.try_get(1).map_err(store(doing))?;
        ceilings.push(codes::body("ceilings", scope, text)?);
    }
    Ok(ceilings.into_iter().collect())
}

/// Pauses and ceilings.
pub(super) fn in_force(db: &Db) -> Result<InForce, LedgerError> {
    Ok(InForce { pauses: pauses(db)?, ceilings: ceilings(db)?, one_shots: one_shots::good(db)? })
}

/// Whether memory and table are the same; else what differs first.
pub(super) fn compare(
    db: &Db,
    memory: &Memory,
    staged: &Staged,
    setting: &Setting,
) -> Result<Result<(), String>, LedgerError> {
    let healthy = healthy::read(db, setting)?;
    if memory.healthy.as_ref().is_some_and(|remembered| *remembered != healthy) {
        return Ok(Err(format!("heartbeats: remembered {:?}, in the table {healthy:?}", memory.healthy)));
    }
    let mut out = staged.out.clone();
    out.retain(|_, n| *n > 0);
    let table = count_out(db)?;
    if out != table {
        return Ok(Err(format!("orders out: remembered {out:?}, in the table {table:?}")));
    }
    let doing = "reading the ledger";
    let written: i64 =
        row(db, doing, "SELECT last_fence FROM ledger", Bind::default())?.try_get(0).map_err(store(doing))?;
    if written != memory.written_fence {
        return Ok(Err(format!("fences: remembered {}, in the table {written}", memory.written_fence)));
    }
    let (kept, counted) = (counts::kept(db)?, counts::counted(db)?);
    if kept != counted {
        return Ok(Err(format!("jobs by state: kept {kept:?}, in the table {counted:?}")));
    }
    let all: Vec<_> = memory.deletions.iter().chain(&staged.deletions).collect();
    let mut fresh = Bodies::new(all.len());
    for chunk in all.chunks(256) {
        let ids: Vec<DeletionId> = chunk.iter().map(|(id, _)| **id).collect();
        let table = load(db, &ids, &mut fresh)?;
        for (id, remembered) in chunk {
            if table.get(*id) != Some(*remembered) {
                return Ok(Err(format!(
                    "{id}: remembered {remembered:?}, in the table {:?}",
                    table.get(*id)
                )));
            }
        }
    }
    Ok(Ok(()))
}

/// What a batch takes from the ledger's own row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) epoch: u32,
    /// The pause revision.
    pub(super) revision: i64,
    /// Whether a person has to review the epoch first.
    pub(super) review: bool,
}

/// The ledger's own row.
pub(super) fn standing(db: &Db) -> Result<Standing, LedgerError> {
    let doing = "reading the ledger";
    let sql = "SELECT epoch, revision, review IS NOT NULL FROM ledger";
    let found = rows(db, doing, sql, Bind::default())?;
    let row = found.first().ok_or_else(|| codes::corrupt("ledger", 1, "is missing"))?;
    Ok(Standing {
        epoch: row.try_get(0).map_err(store(doing))?,
        revision: row.try_get(1).map_err(store(doing))?,
        review: row.try_get(2).map_err(store(doing))?,
    })
}

/// The stage's job of a step: what its manifest is stored under.
pub(super) fn manifest_key(order: &sexton_model::decide::OrderSpec) -> (JobId, u16) {
    (JobId::of(order.job.deletion(), order.stage.index()), order.step)
}
