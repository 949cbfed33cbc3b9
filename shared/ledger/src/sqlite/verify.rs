//! Checking chains by the page. The caller reads in one transaction, so a chain that grows meanwhile is not taken
//! for a broken one.
use sexton_model::DeletionId;

use super::codes;
use super::connection::{Bind, Db, Row, read, rows, store};
use crate::chains::{ACCESS, Checked, End, From, PAUSES};
use crate::{LedgerError, Verified};

const DOING: &str = "checking the audit trail";

/// Check up to `limit` chains.
pub(super) fn chains(db: &Db, after: Option<&str>, limit: u32) -> Result<Verified, LedgerError> {
    let limit = limit.clamp(1, 1000);
    let from = From::parse(after);
    let mut ends = Vec::new();
    let (found, sql) = match &from {
        From::Ledger { pauses, access, after } => {
            if *pauses {
                let sql = "SELECT 'pauses', pause_seq, pause_head FROM ledger";
                for row in rows(db, DOING, sql, Bind::default())? {
                    ends.push(end(&row, PAUSES.to_owned())?);
                }
            }
            if *access {
                // Left out as long as nothing was ever written down in it.
                let sql = "SELECT 'access', seq, head FROM access \
                     WHERE seq > 0 OR EXISTS (SELECT 1 FROM ledger_audit WHERE chain = 'access')";
                for row in rows(db, DOING, sql, Bind::default())? {
                    ends.push(end(&row, ACCESS.to_owned())?);
                }
            }
            let mut bind = Bind::default();
            bind.add(after.clone()).add(i64::from(limit));
            let sql = "SELECT id, audit_seq, audit_head FROM resources WHERE id > ? ORDER BY id LIMIT ?";
            let found = rows(db, DOING, sql, bind)?;
            for row in &found {
                ends.push(end(row, row.try_get(0).map_err(store(DOING))?)?);
            }
            (found.len(), "SELECT seq, body, hash FROM ledger_audit WHERE chain = ? ORDER BY seq")
        }
        From::Deletions(after) => {
            let mut bind = Bind::default();
            bind.add(*after).add(i64::from(limit));
            let sql = "SELECT id, audit_seq, audit_head FROM deletions WHERE id > ? ORDER BY id LIMIT ?";
            let found = rows(db, DOING, sql, bind)?;
            for row in &found {
                let id = row.try_get(0).map_err(store(DOING))?;
                ends.push(end(row, DeletionId(id).to_string())?);
            }
            (found.len(), "SELECT seq, body, hash FROM audit WHERE deletion_id = ? ORDER BY seq")
        }
    };
    let mut checked = Checked::new(&from, ends, found >= limit as usize);
    for end in checked.ends() {
        see(db, sql, &from, &end, &mut checked)?;
        checked.end(end);
    }
    Ok(checked.verified())
}

/// A statement for each chain: they are read in the order of an index then, and nothing has to be sorted.
fn see(db: &Db, sql: &'static str, from: &From, end: &End, checked: &mut Checked) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    match from {
        From::Ledger { .. } => bind.add(end.chain.clone()),
        From::Deletions(_) => {
            let id: DeletionId = end.chain.parse().map_err(|e| codes::corrupt("deletions", &end.chain, e))?;
            bind.add(id.0)
        }
    };
    read(db, DOING, sql, bind, |row| {
        let hash = codes::hash("audit", &end.chain, row.try_get(2).map_err(store(DOING))?)?;
        let seq = row.try_get(0).map_err(store(DOING))?;
        checked.see(seq, row.try_get(1).map_err(store(DOING))?, hash);
        Ok(())
    })
}

fn end(row: &Row, chain: String) -> Result<End, LedgerError> {
    let hash: &[u8] = row.try_get(2).map_err(store(DOING))?;
    let hash = codes::hash("heads", &chain, hash)?;
    Ok(End { chain, seq: row.try_get(1).map_err(store(DOING))?, hash })
}
