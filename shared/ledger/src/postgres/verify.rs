//! Checking chains by the page. Heads and events are read in one snapshot, so a chain that grows meanwhile is not
//! taken for a broken one.
use futures_util::TryStreamExt as _;
use sexton_model::DeletionId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{corrupt, doing};
use super::{PgLedger, SNAPSHOT};
use crate::chains::{ACCESS, Checked, End, From, PAUSES};
use crate::{LedgerError, Verified};

const PAUSE_END: &str = "SELECT $1::text, pause_seq, pause_head FROM ledger";
/// Left out as long as nothing was ever written down in it.
const ACCESS_END: &str = "SELECT $1::text, seq, head FROM access \
     WHERE seq > 0 OR EXISTS (SELECT 1 FROM ledger_audit WHERE chain = $1)";
const RESOURCES: &str = "SELECT id, audit_seq, audit_head FROM resources WHERE id > $1 ORDER BY id LIMIT $2";
const DELETIONS: &str = "SELECT id, audit_seq, audit_head FROM deletions WHERE id > $1 ORDER BY id LIMIT $2";
const OF_LEDGER: &str = "SELECT seq, body, hash FROM ledger_audit WHERE chain = $1 ORDER BY seq";
const OF_DELETION: &str = "SELECT seq, body, hash FROM audit WHERE deletion_id = $1 ORDER BY seq";

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
    let mut ends = Vec::new();
    let found = match &from {
        From::Ledger { pauses, access, after } => {
            if *pauses {
                let row =
                    sqlx::query(PAUSE_END).bind(PAUSES).fetch_one(&mut *tx).await.map_err(doing(DOING))?;
                ends.push(end(&row, row.try_get(0).map_err(doing(DOING))?)?);
            }
            if *access {
                let row = sqlx::query(ACCESS_END).bind(ACCESS).fetch_optional(&mut *tx).await;
                if let Some(row) = row.map_err(doing(DOING))? {
                    ends.push(end(&row, ACCESS.to_owned())?);
                }
            }
            let rows = sqlx::query(RESOURCES).bind(after).bind(i64::from(limit)).fetch_all(&mut *tx).await;
            let rows = rows.map_err(doing(DOING))?;
            for row in &rows {
                ends.push(end(row, row.try_get(0).map_err(doing(DOING))?)?);
            }
            rows.len()
        }
        From::Deletions(after) => {
            let rows = sqlx::query(DELETIONS).bind(after).bind(i64::from(limit)).fetch_all(&mut *tx).await;
            let rows = rows.map_err(doing(DOING))?;
            for row in &rows {
                let id = row.try_get(0).map_err(doing(DOING))?;
                ends.push(end(row, DeletionId(id).to_string())?);
            }
            rows.len()
        }
    };
    let mut checked = Checked::new(&from, ends, found >= limit as usize);
    for end in checked.ends() {
        read(&mut tx, &from, &end, &mut checked).await?;
        checked.end(end);
    }
    tx.commit().await.map_err(doing(DOING))?;
    Ok(checked.verified())
}

/// A statement for each chain: they are read in the order of an index then, and nothing has to be sorted.
async fn read(
    db: &mut PgConnection,
    from: &From,
    end: &End,
    checked: &mut Checked,
) -> Result<(), LedgerError> {
    let query = match from {
        From::Ledger { .. } => sqlx::query(OF_LEDGER).bind(&end.chain),
        From::Deletions(_) => {
            let id: DeletionId =
                end.chain.parse().map_err(|_| corrupt("deletions", &end.chain, "is no number"))?;
            sqlx::query(OF_DELETION).bind(id.0)
        }
    };
    let part = || doing(DOING);
    let mut events = query.fetch(db);
    while let Some(row) = events.try_next().await.map_err(part())? {
        let (seq, hash) = (row.try_get(0).map_err(part())?, row.try_get(2).map_err(part())?);
        checked.see(seq, row.try_get(1).map_err(part())?, hash);
    }
    Ok(())
}

fn end(row: &PgRow, chain: String) -> Result<End, LedgerError> {
    let part = || doing(DOING);
    Ok(End { chain, seq: row.try_get(1).map_err(part())?, hash: row.try_get(2).map_err(part())? })
}
