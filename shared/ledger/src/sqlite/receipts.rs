//! Receipts in the file.
use async_trait::async_trait;
use sexton_model::DeletionId;
use sexton_model::receipt::SignedReceipt;

use super::connection::{Bind, Db, execute, rows, store};
use super::writer::{Answer, Work};
use super::{SqliteLedger, mixed_up};
use crate::LedgerError;
use crate::bounds::within;
use crate::receipts::{LOOK, NewReceipt, RECEIPTS_MAX, Receipts, ReceiptsDue, page, purged};

const DUE: &str = "SELECT looked.id FROM (SELECT id FROM deletions WHERE id > ?1 ORDER BY id LIMIT ?2) AS looked \
     WHERE NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.deletion_id = looked.id) \
     AND EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = looked.id * 8 + ?3 AND j.state = ?4) ORDER BY looked.id LIMIT ?5";
const LOOKED: &str = "SELECT id FROM deletions WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2 - 1";
const KEEP: &str = "INSERT INTO receipts (deletion_id, seq, head, body, key_id, signature) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM deletions WHERE id = ?1) \
     AND NOT EXISTS (SELECT 1 FROM receipts WHERE deletion_id = ?1)";
const READ: &str = "SELECT body, key_id, signature FROM receipts WHERE deletion_id = ?";

/// Records whose purge is over and that have none. The caller reads in one transaction.
fn due(db: &Db, after: DeletionId) -> Result<ReceiptsDue, LedgerError> {
    let doing = "looking for records without a receipt";
    let mut bind = Bind::default();
    let ((slot, done), most) = (purged(), i64::try_from(RECEIPTS_MAX).unwrap_or(i64::MAX));
    bind.add(after.0).add(LOOK).add(slot).add(i64::from(done)).add(most);
    let mut found = Vec::new();
    for row in rows(db, doing, DUE, bind)? {
        found.push(DeletionId(row.try_get(0).map_err(store(doing))?));
    }
    let mut bind = Bind::default();
    bind.add(after.0).add(LOOK);
    let looked = rows(db, doing, LOOKED, bind)?;
    let looked = looked.first().map(|row| row.try_get(0).map_err(store(doing))).transpose()?;
    Ok(page(found, looked))
}

/// Keep those that are missing.
pub(super) fn keep(db: &Db, new: &[NewReceipt]) -> Result<u64, LedgerError> {
    let mut kept = 0;
    for NewReceipt { deletion, rests_on, signed } in new {
        let mut bind = Bind::default();
        bind.add(deletion.0)
            .add(rests_on.seq)
            .add(rests_on.hash.to_vec())
            .add(signed.body.clone())
            .add(signed.key_id.clone())
            .add(signed.signature.clone());
        kept += execute(db, "keeping a receipt", KEEP, bind)?;
    }
    Ok(kept)
}

/// One of them.
pub(super) fn read(db: &Db, id: DeletionId) -> Result<Option<SignedReceipt>, LedgerError> {
    let doing = "reading a receipt";
    let mut bind = Bind::default();
    bind.add(id.0);
    let found = rows(db, doing, READ, bind)?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(SignedReceipt {
        body: row.try_get(0).map_err(store(doing))?,
        key_id: row.try_get(1).map_err(store(doing))?,
        signature: row.try_get(2).map_err(store(doing))?,
    }))
}

#[async_trait]
impl Receipts for SqliteLedger {
    async fn receipts_due(&self, after: DeletionId) -> Result<ReceiptsDue, LedgerError> {
        self.reads.read(move |db| due(db, after)).await
    }

    async fn keep_receipts(&self, new: Vec<NewReceipt>) -> Result<u64, LedgerError> {
        within("receipts", new.len(), RECEIPTS_MAX)?;
        match self.ask(Work::Receipts(new)).await? {
            Answer::Receipts(kept) => Ok(kept),
            other => Err(mixed_up(&other)),
        }
    }

    async fn receipt(&self, id: DeletionId) -> Result<Option<SignedReceipt>, LedgerError> {
        self.reads.read(move |db| read(db, id)).await
    }
}
