//! Receipts in the database.
use async_trait::async_trait;
use sexton_model::DeletionId;
use sexton_model::receipt::SignedReceipt;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::doing;
use super::{PgLedger, SNAPSHOT};
use crate::LedgerError;
use crate::bounds::within;
use crate::receipts::{LOOK, NewReceipt, RECEIPTS_MAX, Receipts, ReceiptsDue, page, purged};

const DUE: &str = "SELECT looked.id FROM (SELECT id FROM deletions WHERE id > $1 ORDER BY id LIMIT $2) looked \
     WHERE NOT EXISTS (SELECT 1 FROM receipts r WHERE r.deletion_id = looked.id) \
     AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = looked.id * 8 + $3 AND j.state = $4) ORDER BY looked.id LIMIT $5";
const LOOKED: &str = "SELECT id FROM deletions WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2 - 1";
/// A record that is being archived is gone for good when its row is: then nothing is left to be proved here.
const KEEP: &str = "INSERT INTO receipts (deletion_id, seq, head, body, key_id, signature) \
     SELECT v.* FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[]) \
     AS v (id, seq, head, body, key_id, signature) JOIN deletions d ON d.id = v.id ORDER BY v.id \
     ON CONFLICT (deletion_id) DO NOTHING";
const READ: &str = "SELECT body, key_id, signature FROM receipts WHERE deletion_id = $1";

/// Records whose purge is over and that have none.
async fn due(ledger: &PgLedger, after: DeletionId) -> Result<ReceiptsDue, LedgerError> {
    let part = || doing("looking for records without a receipt");
    let (slot, done) = purged();
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let found: Vec<i64> = sqlx::query_scalar(DUE)
        .bind(after.0)
        .bind(LOOK)
        .bind(slot)
        .bind(done)
        .bind(i64::try_from(RECEIPTS_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await
        .map_err(part())?;
    let looked = sqlx::query_scalar(LOOKED).bind(after.0).bind(LOOK).fetch_optional(&mut *tx).await;
    let looked = looked.map_err(part())?;
    tx.commit().await.map_err(part())?;
    Ok(page(found.into_iter().map(DeletionId).collect(), looked))
}

/// Keep those that are missing.
async fn keep(ledger: &PgLedger, new: &[NewReceipt]) -> Result<u64, LedgerError> {
    fn all<T>(new: &[NewReceipt], column: impl Fn(&NewReceipt) -> T) -> Vec<T> {
        new.iter().map(column).collect()
    }
    let done = sqlx::query(KEEP)
        .bind(all(new, |one| one.deletion.0))
        .bind(all(new, |one| one.rests_on.seq))
        .bind(all(new, |one| one.rests_on.hash))
        .bind(all(new, |one| one.signed.body.clone()))
        .bind(all(new, |one| one.signed.key_id.clone()))
        .bind(all(new, |one| one.signed.signature.clone()))
        .execute(&ledger.pool)
        .await
        .map_err(doing("keeping receipts"))?;
    Ok(done.rows_affected())
}

/// One of them.
pub(super) async fn read(
    db: &mut PgConnection,
    id: DeletionId,
) -> Result<Option<SignedReceipt>, LedgerError> {
    let part = || doing("reading a receipt");
    let Some(row) = sqlx::query(READ).bind(id.0).fetch_optional(db).await.map_err(part())? else {
        return Ok(None);
    };
    Ok(Some(SignedReceipt {
        body: row.try_get(0).map_err(part())?,
        key_id: row.try_get(1).map_err(part())?,
        signature: row.try_get(2).map_err(part())?,
    }))
}

#[async_trait]
impl Receipts for PgLedger {
    async fn receipts_due(&self, after: DeletionId) -> Result<ReceiptsDue, LedgerError> {
        due(self, after).await
    }

    async fn keep_receipts(&self, new: Vec<NewReceipt>) -> Result<u64, LedgerError> {
        within("receipts", new.len(), RECEIPTS_MAX)?;
        keep(self, &new).await
    }

    async fn receipt(&self, id: DeletionId) -> Result<Option<SignedReceipt>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading a receipt"))?;
        read(&mut db, id).await
    }
}
