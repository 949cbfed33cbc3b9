//! Signed checkpoints: what has grown since the last one, keeping one, reading them, and what they are compared with.
//!
//! Two coordinators may sign at the same moment. The number is a key: the second waits for the first one's commit, and
//! then finds that its own is not the next one any more.
use sexton_model::DeletionId;
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_model::audit::Hash;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::doing;
use super::{PgLedger, SNAPSHOT};
use crate::chains::From;
use crate::grown::{FIND, Growing, LOOK};
use crate::{Grown, LedgerError};

// A look-up for each chain, rather than a join: joined, all that was ever signed would be read for every page.
const PAUSES_GROWN: &str = "SELECT 'pauses', pause_seq, pause_head, \
     coalesce((SELECT seq FROM attested WHERE chain = 'pauses'), 0) FROM ledger";
const ACCESS_GROWN: &str = "SELECT 'access', seq, head, \
     coalesce((SELECT a.seq FROM attested a WHERE a.chain = 'access'), 0) FROM access";
const RESOURCES_GROWN: &str = "SELECT id, audit_seq, audit_head, signed FROM (SELECT id, audit_seq, audit_head, \
     coalesce((SELECT a.seq FROM attested a WHERE a.chain = r.id), 0) AS signed \
     FROM resources r WHERE id > $1 ORDER BY id LIMIT $2) looked WHERE audit_seq <> signed ORDER BY id LIMIT $3";
const RESOURCES_LOOKED: &str = "SELECT id FROM resources WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2 - 1";
const DELETIONS_GROWN: &str = "SELECT 'd-' || id, audit_seq, audit_head, signed FROM (SELECT id, audit_seq, \
     audit_head, coalesce((SELECT a.seq FROM attested a WHERE a.chain = 'd-' || d.id), 0) AS signed \
     FROM deletions d WHERE id > $1 ORDER BY id LIMIT $2) looked WHERE audit_seq <> signed ORDER BY id LIMIT $3";
const DELETIONS_LOOKED: &str =
    "SELECT 'd-' || id FROM deletions WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2 - 1";
const KEEP: &str = "INSERT INTO signed_checkpoints (number, body, key_id, signature) SELECT $1, $2, $3, $4 \
     WHERE $1 = 1 + (SELECT coalesce(max(number), 0) FROM signed_checkpoints) ON CONFLICT (number) DO NOTHING";
const ATTESTED: &str = "INSERT INTO attested (chain, seq) SELECT * FROM unnest($1::text[], $2::bigint[]) \
     ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq WHERE attested.seq < excluded.seq";
const AFTER: &str =
    "SELECT body, key_id, signature FROM signed_checkpoints WHERE number > $1 ORDER BY number LIMIT $2";
const HASHES: &str = "SELECT k.n, a.hash FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
     AS k (n, deletion, seq) JOIN (SELECT deletion_id, seq, hash FROM audit \
     UNION ALL SELECT deletion_id, events, head FROM stubs) a ON a.deletion_id = k.deletion AND a.seq = k.seq";
const LEDGER_HASHES: &str = "SELECT k.n, a.hash FROM unnest($1::bigint[], $2::text[], $3::bigint[]) \
     AS k (n, chain, seq) JOIN ledger_audit a ON a.chain = k.chain AND a.seq = k.seq";

const LOOKING: &str = "looking for chains that have grown";

/// A page of chains that have grown.
pub(super) async fn grown(ledger: &PgLedger, after: Option<&str>) -> Result<Grown, LedgerError> {
    let part = || doing(LOOKING);
    let from = From::parse(after);
    let find = i64::try_from(FIND).unwrap_or(i64::MAX);
    let mut growing = Growing::new();
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(part())?;
    let (rows, looked) = match &from {
        From::Ledger { pauses, access, after } => {
            for sql in pauses.then_some(PAUSES_GROWN).into_iter().chain(access.then_some(ACCESS_GROWN)) {
                let row = sqlx::query(sql).fetch_one(&mut *tx).await.map_err(part())?;
                let (head, signed) = head(&row)?;
                growing.see_pauses(head, signed);
            }
            let rows =
                sqlx::query(RESOURCES_GROWN).bind(after).bind(LOOK).bind(find).fetch_all(&mut *tx).await;
            let looked = sqlx::query_scalar(RESOURCES_LOOKED).bind(after).bind(LOOK);
            (rows, looked.fetch_optional(&mut *tx).await)
        }
        From::Deletions(after) => {
            let rows =
                sqlx::query(DELETIONS_GROWN).bind(after).bind(LOOK).bind(find).fetch_all(&mut *tx).await;
            let looked = sqlx::query_scalar(DELETIONS_LOOKED).bind(after).bind(LOOK);
            (rows, looked.fetch_optional(&mut *tx).await)
        }
    };
    for row in rows.map_err(part())? {
        let (head, signed) = head(&row)?;
        growing.see(head, signed);
    }
    tx.commit().await.map_err(part())?;
    Ok(growing.end(&from, looked.map_err(part())?))
}

fn head(row: &PgRow) -> Result<((String, i64, Hash), i64), LedgerError> {
    let part = || doing(LOOKING);
    let head =
        (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?, row.try_get(2).map_err(part())?);
    Ok((head, row.try_get(3).map_err(part())?))
}

/// Keep a signed checkpoint, unless it is not the next one.
pub(super) async fn attest(
    ledger: &PgLedger,
    number: i64,
    signed: &SignedCheckpoint,
    heads: &[Head],
) -> Result<bool, LedgerError> {
    let part = || doing("keeping a signed checkpoint");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    let kept = sqlx::query(KEEP)
        .bind(number)
        .bind(&signed.body)
        .bind(&signed.key_id)
        .bind(&signed.signature)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    if kept.rows_affected() != 1 {
        tx.rollback().await.map_err(part())?;
        return Ok(false);
    }
    let (chains, seqs): (Vec<&str>, Vec<i64>) = heads.iter().map(|h| (h.chain.as_str(), h.seq)).unzip();
    let moved = sqlx::query(ATTESTED).bind(chains).bind(seqs).execute(&mut *tx).await.map_err(part())?;
    if moved.rows_affected() != heads.len() as u64 {
        tx.rollback().await.map_err(part())?;
        return Ok(false);
    }
    tx.commit().await.map_err(part())?;
    Ok(true)
}

/// Signed checkpoints behind this number.
pub(super) async fn after(
    ledger: &PgLedger,
    number: i64,
    limit: u32,
) -> Result<Vec<SignedCheckpoint>, LedgerError> {
    let part = || doing("reading signed checkpoints");
    let limit = i64::from(limit.clamp(1, 64));
    let rows = sqlx::query(AFTER).bind(number).bind(limit).fetch_all(&ledger.pool).await.map_err(part())?;
    let signed = |row: &PgRow| {
        Ok(SignedCheckpoint {
            body: row.try_get(0).map_err(part())?,
            key_id: row.try_get(1).map_err(part())?,
            signature: row.try_get(2).map_err(part())?,
        })
    };
    rows.iter().map(signed).collect()
}

/// The hashes that are stored for these events.
pub(super) async fn hashes(
    ledger: &PgLedger,
    events: &[(String, i64)],
) -> Result<Vec<Option<Hash>>, LedgerError> {
    let part = || doing("reading hashes of the audit trail");
    let (mut deletions, mut others) = ((vec![], vec![], vec![]), (vec![], vec![], vec![]));
    for (place, (chain, seq)) in (0_i64..).zip(events) {
        match chain.parse::<DeletionId>() {
            Ok(id) => {
                deletions.0.push(place);
                deletions.1.push(id.0);
                deletions.2.push(*seq);
            }
            Err(_) => {
                others.0.push(place);
                others.1.push(chain.as_str());
                others.2.push(*seq);
            }
        }
    }
    let (n, ids, seqs) = deletions;
    let found = sqlx::query(HASHES).bind(n).bind(ids).bind(seqs).fetch_all(&ledger.pool).await;
    let mut rows = found.map_err(part())?;
    let (n, chains, seqs) = others;
    let found = sqlx::query(LEDGER_HASHES).bind(n).bind(chains).bind(seqs).fetch_all(&ledger.pool).await;
    rows.extend(found.map_err(part())?);
    let mut hashes = vec![None; events.len()];
    for row in rows {
        let place: i64 = row.try_get(0).map_err(part())?;
        if let Some(hash) = usize::try_from(place).ok().and_then(|place| hashes.get_mut(place)) {
            *hash = Some(row.try_get(1).map_err(part())?);
        }
    }
    Ok(hashes)
}
