//! Checking chains by the page. The caller reads in one transaction, so a chain that grows meanwhile is not taken
//! for a broken one.
use sexton_model::DeletionId;

use super::connection::{Bind, Db, Row, WrongColumn, rows, store};
use super::codes;
use crate::chains::{End, From, Link, PAUSES, verify};
use crate::{LedgerError, Verified, rules};

const DOING: &str = "checking the audit trail";

/// Check up to `limit` chains.
pub(super) fn chains(
    db: &Db,
    after: Option<&str>,
    limit: u32,
) -> Result<Verified, LedgerError> {
    let limit = limit.clamp(1, 1000);
    let from = From::parse(after);
    let mut ends = Vec::new();
    let (found, links) = match &from {
        From::Ledger { pauses, after } => {
            if *pauses {
                let sql = "SELECT 'pauses', pause_seq, pause_head FROM ledger";
                for row in rows(db, DOING, sql, Bind::default())? {
                    ends.push(end(&row, PAUSES.to_owned())?);
                }
            }
            let mut bind = Bind::default();
            bind.add(after.clone()).add(i64::from(limit));
            let sql = "SELECT id, audit_seq, audit_head FROM resources WHERE id > ? ORDER BY id LIMIT ?";
            let found = rows(db, DOING, sql, bind)?;
            for row in &found {
                ends.push(end(row, row.try_get(0).map_err(store(DOING))?)?);
            }
            let names: Vec<&str> = ends.iter().map(|end| end.chain.as_str()).collect();
            let sql = "SELECT a.chain, a.seq, a.body, a.hash FROM json_each(?) AS n \
                       CROSS JOIN ledger_audit AS a ON a.chain = n.value ORDER BY a.chain, a.seq";
            (found.len(), links(db, sql, &names, |row| row.try_get(0))?)
        }
        From::Deletions(after) => {
            let mut bind = Bind::default();
            bind.add(*after).add(i64::from(limit));
            let sql = "SELECT id, audit_seq, audit_head FROM deletions WHERE id > ? ORDER BY id LIMIT ?";
            let mut ids: Vec<i64> = Vec::new();
            for row in rows(db, DOING, sql, bind)? {
                let id = row.try_get(0).map_err(store(DOING))?;
                ids.push(id);
                ends.push(end(&row, DeletionId(id).to_string())?);
            }
            let sql = "SELECT a.deletion_id, a.seq, a.body, a.hash FROM json_each(?) AS n \
                       CROSS JOIN audit AS a ON a.deletion_id = n.value ORDER BY a.deletion_id, a.seq";
            let name = |row: &Row| row.try_get(0).map(|id| DeletionId(id).to_string());
            (ids.len(), links(db, sql, &ids, name)?)
        }
    };
    Ok(verify(&from, ends, links, found >= limit as usize))
}

fn end(row: &Row, chain: String) -> Result<End, LedgerError> {
    let hash: &[u8] = row.try_get(2).map_err(store(DOING))?;
    let hash = codes::hash("heads", &chain, hash)?;
    Ok(End { chain, seq: row.try_get(1).map_err(store(DOING))?, hash })
}

fn links(
    db: &Db,
    sql: &'static str,
    of: &impl serde::Serialize,
    name: impl Fn(&Row) -> Result<String, WrongColumn>,
) -> Result<Vec<Link>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(rules::text(of)?);
    let mut found = Vec::new();
    for row in rows(db, DOING, sql, bind)? {
        let chain = name(&row).map_err(store(DOING))?;
        let hash: &[u8] = row.try_get(3).map_err(store(DOING))?;
        let hash = codes::hash("audit", &chain, hash)?;
        let seq = row.try_get(1).map_err(store(DOING))?;
        found.push((chain, seq, row.try_get(2).map_err(store(DOING))?, hash));
    }
    Ok(found)
}
