//! Checking chains by the page. Heads and events are read in one snapshot, so a chain that grows meanwhile is not
//! taken for a broken one.
use sexton_model::DeletionId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::doing;
use super::{PgLedger, SNAPSHOT};
use crate::chains::{End, From, Link, PAUSES, verify};
use crate::{LedgerError, Verified};

const PAUSE_END: &str = "SELECT $1::text, pause_seq, pause_head FROM ledger";
const RESOURCES: &str = "SELECT id, audit_seq, audit_head FROM resources WHERE id > $1 ORDER BY id LIMIT $2";
const DELETIONS: &str = "SELECT id, audit_seq, audit_head FROM deletions WHERE id > $1 ORDER BY id LIMIT $2";
const OF_LEDGER: &str =
    "SELECT chain, seq, body, hash FROM ledger_audit WHERE chain = ANY($1) ORDER BY chain, seq";
const OF_DELETIONS: &str =
    "SELECT deletion_id, seq, body, hash FROM audit WHERE deletion_id = ANY($1) ORDER BY deletion_id, seq";

const DOING: &str = "checking the audit trail";

/// Check up to `limit` chains.
pub(super) async fn chains(
    ledger: &PgLedger,
    after: Option<&str>,
    limit: u32,
) -> Result<Verified, LedgerError> {
    let limit = limit.clamp(1, 1000);
    let from = From::parse(after);
    let mut tx = ledger.pool.begin_with(SNAPSHOT).await.map_err(doing(DOING))?;
    let (ends, links, found) = match &from {
        From::Ledger { pauses, after } => {
            let mut ends = Vec::new();
            if *pauses {
                let row =
                    sqlx::query(PAUSE_END).bind(PAUSES).fetch_one(&mut *tx).await.map_err(doing(DOING))?;
                ends.push(end(&row, row.try_get(0).map_err(doing(DOING))?)?);
            }
            let rows = sqlx::query(RESOURCES).bind(after).bind(i64::from(limit)).fetch_all(&mut *tx).await;
            let rows = rows.map_err(doing(DOING))?;
            for row in &rows {
                ends.push(end(row, row.try_get(0).map_err(doing(DOING))?)?);
            }
            let links = links_of_ledger(&mut tx, &ends).await?;
            (ends, links, rows.len())
        }
        From::Deletions(after) => {
            let rows = sqlx::query(DELETIONS).bind(after).bind(i64::from(limit)).fetch_all(&mut *tx).await;
            let rows = rows.map_err(doing(DOING))?;
            let mut ends = Vec::with_capacity(rows.len());
            let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
            for row in &rows {
                let id = row.try_get(0).map_err(doing(DOING))?;
                ids.push(id);
                ends.push(end(row, DeletionId(id).to_string())?);
            }
            (ends, links_of_deletions(&mut tx, ids).await?, rows.len())
        }
    };
    tx.commit().await.map_err(doing(DOING))?;
    Ok(verify(&from, ends, links, found >= limit as usize))
}

fn end(row: &PgRow, chain: String) -> Result<End, LedgerError> {
    let part = || doing(DOING);
    Ok(End { chain, seq: row.try_get(1).map_err(part())?, hash: row.try_get(2).map_err(part())? })
}

async fn links_of_ledger(db: &mut PgConnection, ends: &[End]) -> Result<Vec<Link>, LedgerError> {
    let chains: Vec<&str> = ends.iter().map(|end| end.chain.as_str()).collect();
    let rows = sqlx::query(OF_LEDGER).bind(chains).fetch_all(db).await.map_err(doing(DOING))?;
    rows.iter().map(|row| link(row, row.try_get(0).map_err(doing(DOING))?)).collect()
}

async fn links_of_deletions(db: &mut PgConnection, ids: Vec<i64>) -> Result<Vec<Link>, LedgerError> {
    let rows = sqlx::query(OF_DELETIONS).bind(ids).fetch_all(db).await.map_err(doing(DOING))?;
    rows.iter().map(|row| link(row, DeletionId(row.try_get(0).map_err(doing(DOING))?).to_string())).collect()
}

fn link(row: &PgRow, chain: String) -> Result<Link, LedgerError> {
    let part = || doing(DOING);
    Ok((
        chain,
        row.try_get(1).map_err(part())?,
        row.try_get(2).map_err(part())?,
        row.try_get(3).map_err(part())?,
    ))
}
