//! What one process remembers of the database, so that a step need not read what the one before wrote.
//!
//! Records and plans never change. A deletion with its jobs, holds and waivers changes only together with the head of
//! its audit chain, because every decision appends to it in the same transaction, and the head is a hash over all of
//! them. So what was decided on under a head is right as long as the head, read under the lock, is the same; whoever
//! else writes to the database, a remembered deletion is then passed over. Only the resource's protection flag and
//! its holds are not covered by the chain: they are read anew every time.
//!
//! Invariant: whoever writes a deletion's rows moves its head on. [`compare`] looks whether that holds.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_model::DeletionId;
use sexton_model::audit::Hash;
use sexton_model::belts::InForce;
use sexton_model::belts::healthy::Outage;
use sexton_model::belts::redundancy::Going;
use sexton_model::deletion::Deletion;
use sqlx::postgres::PgConnection;

use super::archive;
use super::healthy::Change;
use super::load::{self, Head};
use super::records::Records;
use crate::LedgerError;
use crate::recent::Recent;

/// A deletion with the head of its chain.
pub(super) type Headed = (Deletion, Hash);

/// Deletions remembered per generation: several times what the credit of a dozen instances keeps under way, at a
/// kilobyte each.
const DELETIONS_HALF: usize = 16_384;

/// See the module.
pub(super) struct Memory {
    pub(super) records: Records,
    deletions: Mutex<Recent<DeletionId, Headed>>,
    /// What was in force under which head of the chain that all of it is written down in.
    in_force: Mutex<Option<(Vec<u8>, Arc<InForce>)>>,
    /// The outages as they were after a change of them, or later.
    outages: Mutex<Option<(Change, Arc<Vec<Outage>>)>>,
}

/// A poisoned memory is still right: entries are put in whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            records: Records::new(),
            deletions: Mutex::new(Recent::new(DELETIONS_HALF)),
            in_force: Mutex::new(None),
            outages: Mutex::new(None),
        }
    }

    /// Those deletions that are as they are remembered, taken out, and neither protected nor held as far as this tells. Who decides
    /// on them gives them back by [`Self::keep`] after the commit; what is lost in between is read again next time.
    pub(super) fn unchanged(&self, heads: &[Head]) -> HashMap<DeletionId, Headed> {
        let mut known = lock(&self.deletions);
        let mut found = HashMap::with_capacity(heads.len());
        for head in heads {
            let id = DeletionId(head.id);
            if let Some((mut deletion, hash)) = known.take(&id)
                && deletion.audit_seq == head.seq
                && hash == head.hash
            {
                deletion.protected = false;
                deletion.resource_holds.clear();
                found.insert(id, (deletion, hash));
            }
        }
        found
    }

    /// Where those deletions stand that are as they are remembered; nothing if that is over. They stay remembered.
    pub(super) fn going<'a>(
        &self,
        heads: impl Iterator<Item = &'a Head>,
    ) -> Vec<(DeletionId, Option<Going>)> {
        let known = lock(&self.deletions);
        let same = |head: &Head| {
            let (deletion, hash) = known.peek(&DeletionId(head.id))?;
            let same = deletion.audit_seq == head.seq && *hash == head.hash;
            same.then(|| (deletion.id, Going::of_record(deletion)))
        };
        heads.filter_map(same).collect()
    }

    /// What is in force, if it is remembered under this head. The head is read under the gate, and whatever stops
    /// something is written with the gate taken alone: what is remembered is never older than the head.
    pub(super) fn in_force(&self, head: &[u8]) -> Option<Arc<InForce>> {
        let known = lock(&self.in_force);
        known.as_ref().filter(|(of, _)| of == head).map(|(_, in_force)| in_force.clone())
    }

    /// Remember what is in force. Read after its head: a pause may have been lifted in between, which the next head tells.
    pub(super) fn keep_in_force(&self, head: Vec<u8>, in_force: InForce) -> Arc<InForce> {
        let in_force = Arc::new(in_force);
        *lock(&self.in_force) = Some((head, in_force.clone()));
        in_force
    }

    /// The outages, if they are remembered as they are after this change.
    pub(super) fn outages(&self, change: Change) -> Option<Arc<Vec<Outage>>> {
        let known = lock(&self.outages);
        known.as_ref().filter(|(of, _)| *of == change).map(|(_, outages)| outages.clone())
    }

    /// Remember the outages. Read after the number of their last change, they may be later ones, which the next number
    /// tells.
    pub(super) fn keep_outages(&self, change: Change, outages: Arc<Vec<Outage>>) -> Arc<Vec<Outage>> {
        *lock(&self.outages) = Some((change, outages.clone()));
        outages
    }

    /// Remember what was decided on and committed. What is over is forgotten: nobody asks for it often.
    pub(super) fn keep(&self, deletions: HashMap<DeletionId, Headed>) {
        let mut known = lock(&self.deletions);
        for (id, headed) in deletions {
            if headed.0.status.live() {
                known.put(id, headed);
            }
        }
    }

    /// Whether all that is remembered under the head that the database has is what the database has; else what differs
    /// first.
    pub(super) async fn compare(&self, db: &mut PgConnection) -> Result<Result<(), String>, LedgerError> {
        let remembered: Vec<(DeletionId, Headed)> =
            lock(&self.deletions).iter().map(|(id, headed)| (*id, headed.clone())).collect();
        for chunk in remembered.chunks(256) {
            let ids: Vec<i64> = chunk.iter().map(|(id, _)| id.0).collect();
            let statements = self.records.read(db, &ids).await?;
            let stored = load::deletions(db, &ids, &statements).await?;
            for (id, (deletion, hash)) in chunk {
                let Some((there, head)) = stored.get(id) else {
                    // Somebody else has ended and archived it: its head will never be read again.
                    if archive::stub(db, *id).await?.is_some() {
                        continue;
                    }
                    return Ok(Err(format!("{id} is remembered and not stored")));
                };
                let same = Deletion {
                    protected: deletion.protected,
                    resource_holds: deletion.resource_holds.clone(),
                    ..there.clone()
                };
                if head == hash && same != *deletion {
                    return Ok(Err(format!("{id}: remembered {deletion:?}, stored {there:?}")));
                }
            }
        }
        Ok(Ok(()))
    }
}
