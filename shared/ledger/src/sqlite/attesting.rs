//! Signed checkpoints: what has grown since the last one, keeping one, reading them, and what they are compared with.
use sexton_model::DeletionId;
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_model::audit::Hash;

use super::codes;
use super::connection::{Bind, Db, Row, change_one, each, execute, row, rows, store};
use crate::chains::{ACCESS, From, PAUSES};
use crate::grown::{FIND, Growing, LOOK};
use crate::{Grown, LedgerError};

const LOOKING: &str = "looking for chains that have grown";
const KEEPING: &str = "keeping a signed checkpoint";

const PAUSES_GROWN: &str = "SELECT 'pauses', pause_seq, pause_head, \
     coalesce((SELECT seq FROM attested WHERE chain = 'pauses'), 0) FROM ledger";
const ACCESS_GROWN: &str = "SELECT 'access', seq, head, \
     coalesce((SELECT a.seq FROM attested a WHERE a.chain = 'access'), 0) FROM access";
// Resources by number: so they lie, and so does what was signed of them. `?1` is the last one that was looked at.
const RESOURCES_GROWN: &str = "SELECT id, audit_seq, audit_head, signed FROM (SELECT number, id, audit_seq, audit_head, \
     coalesce((SELECT a.seq FROM attested_resources AS a WHERE a.number = r.number), 0) AS signed \
     FROM resources AS r WHERE number > coalesce((SELECT number FROM resources WHERE id = ?1), 0) \
     ORDER BY number LIMIT ?2) WHERE audit_seq <> signed ORDER BY number LIMIT ?3";
const RESOURCES_LOOKED: &str = "SELECT id FROM resources \
     WHERE number > coalesce((SELECT number FROM resources WHERE id = ?1), 0) ORDER BY number LIMIT 1 OFFSET ?2 - 1";
const DELETIONS_GROWN: &str = "SELECT 'd-' || id, audit_seq, audit_head, signed FROM (SELECT id, audit_seq, \
     audit_head, coalesce((SELECT a.seq FROM attested_deletions AS a WHERE a.id = d.id), 0) AS signed \
     FROM deletions AS d WHERE id > ?1 ORDER BY id LIMIT ?2) WHERE audit_seq <> signed ORDER BY id LIMIT ?3";
const DELETIONS_LOOKED: &str =
    "SELECT 'd-' || id FROM deletions WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2 - 1";
// One statement a head rather than a look and a change: there are a thousand in a checkpoint, and whoever writes anything
// waits for them.
const MOVE_RESOURCE: &str = "INSERT INTO attested_resources (number, seq) \
     SELECT number, ?2 FROM resources WHERE id = ?1 \
     ON CONFLICT (number) DO UPDATE SET seq = excluded.seq WHERE attested_resources.seq < excluded.seq";
const MOVE_DELETION: &str = "INSERT INTO attested_deletions (id, seq) VALUES (?, ?) \
     ON CONFLICT (id) DO UPDATE SET seq = excluded.seq WHERE attested_deletions.seq < excluded.seq";
const MOVE_OTHER: &str = "INSERT INTO attested (chain, seq) VALUES (?, ?) \
     ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq WHERE attested.seq < excluded.seq";

/// A page of chains that have grown. The caller reads in one transaction.
pub(super) fn grown(db: &Db, after: Option<&str>) -> Result<Grown, LedgerError> {
    let from = From::parse(after);
    let mut growing = Growing::new();
    let mut bind = Bind::default();
    let (sql, looked) = match &from {
        From::Ledger { pauses, access, after } => {
            for sql in pauses.then_some(PAUSES_GROWN).into_iter().chain(access.then_some(ACCESS_GROWN)) {
                for row in rows(db, LOOKING, sql, Bind::default())? {
                    let (head, signed) = head(&row)?;
                    growing.see_pauses(head, signed);
                }
            }
            bind.add(after.clone()).add(LOOK);
            (RESOURCES_GROWN, rows(db, LOOKING, RESOURCES_LOOKED, bind)?)
        }
        From::Deletions(after) => {
            bind.add(*after).add(LOOK);
            (DELETIONS_GROWN, rows(db, LOOKING, DELETIONS_LOOKED, bind)?)
        }
    };
    let mut bind = Bind::default();
    match &from {
        From::Ledger { after, .. } => bind.add(after.clone()),
        From::Deletions(after) => bind.add(*after),
    };
    bind.add(LOOK).add(i64::try_from(FIND).unwrap_or(i64::MAX));
    for row in rows(db, LOOKING, sql, bind)? {
        let (head, signed) = head(&row)?;
        growing.see(head, signed);
    }
    let looked = looked.first().map(|row| row.try_get(0).map_err(store(LOOKING))).transpose()?;
    Ok(growing.end(&from, looked))
}

fn head(row: &Row) -> Result<((String, i64, Hash), i64), LedgerError> {
    let part = || store(LOOKING);
    let chain: String = row.try_get(0).map_err(part())?;
    let hash = codes::hash("heads", &chain, row.try_get(2).map_err(part())?)?;
    Ok(((chain, row.try_get(1).map_err(part())?, hash), row.try_get(3).map_err(part())?))
}

/// Keep a signed checkpoint, unless it is not the next one. Other commands share the transaction, so what is not done
/// leaves nothing in it.
pub(super) fn attest(
    db: &Db,
    number: i64,
    signed: &SignedCheckpoint,
    heads: &[Head],
) -> Result<bool, LedgerError> {
    let sql = "SELECT coalesce(max(number), 0) FROM signed_checkpoints";
    let last: i64 = row(db, KEEPING, sql, Bind::default())?.try_get(0).map_err(store(KEEPING))?;
    if number != last + 1 {
        return Ok(false);
    }
    execute(db, KEEPING, "SAVEPOINT attesting", Bind::default())?;
    if !move_on(db, heads)? {
        execute(db, KEEPING, "ROLLBACK TO attesting", Bind::default())?;
        execute(db, KEEPING, "RELEASE attesting", Bind::default())?;
        return Ok(false);
    }
    execute(db, KEEPING, "RELEASE attesting", Bind::default())?;
    let mut bind = Bind::default();
    bind.add(number).add(signed.body.clone()).add(signed.key_id.clone()).add(signed.signature.clone());
    let sql = "INSERT INTO signed_checkpoints (number, body, key_id, signature) VALUES (?, ?, ?, ?)";
    change_one(db, (KEEPING, "signed_checkpoints"), sql, bind)?;
    Ok(true)
}

/// Note how far each chain is signed. Whether each of these is there, and further than it was; if not, the others are noted.
fn move_on(db: &Db, heads: &[Head]) -> Result<bool, LedgerError> {
    let (mut resources, mut deletions, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for Head { chain, seq, .. } in heads {
        match chain.parse::<DeletionId>() {
            Ok(id) => deletions.push((id.0, *seq)),
            Err(_) if [PAUSES, ACCESS].contains(&chain.as_str()) => others.push((chain, *seq)),
            Err(_) => resources.push((chain, *seq)),
        }
    }
    let moved = each(db, KEEPING, MOVE_RESOURCE, resources, |statement, one| statement.execute(one))?
        + each(db, KEEPING, MOVE_DELETION, deletions, |statement, one| statement.execute(one))?
        + each(db, KEEPING, MOVE_OTHER, others, |statement, one| statement.execute(one))?;
    Ok(moved == heads.len() as u64)
}

/// Signed checkpoints behind this number.
pub(super) fn after(db: &Db, number: i64, limit: u32) -> Result<Vec<SignedCheckpoint>, LedgerError> {
    let doing = "reading signed checkpoints";
    let mut bind = Bind::default();
    bind.add(number).add(i64::from(limit.clamp(1, 64)));
    let sql =
        "SELECT body, key_id, signature FROM signed_checkpoints WHERE number > ? ORDER BY number LIMIT ?";
    let signed = |row: &Row| {
        Ok(SignedCheckpoint {
            body: row.try_get(0).map_err(store(doing))?,
            key_id: row.try_get(1).map_err(store(doing))?,
            signature: row.try_get(2).map_err(store(doing))?,
        })
    };
    rows(db, doing, sql, bind)?.iter().map(signed).collect()
}

/// The hashes that are stored for these events.
pub(super) fn hashes(db: &Db, events: &[(String, i64)]) -> Result<Vec<Option<Hash>>, LedgerError> {
    let doing = "reading hashes of the audit trail";
    let mut hashes = Vec::with_capacity(events.len());
    for (chain, seq) in events {
        let mut bind = Bind::default();
        let sql = match chain.parse::<DeletionId>() {
            Ok(id) => {
                bind.add(id.0).add(*seq);
                "SELECT hash FROM audit WHERE deletion_id = ?1 AND seq = ?2 \
                 UNION ALL SELECT head FROM stubs WHERE deletion_id = ?1 AND events = ?2"
            }
            Err(_) => {
                bind.add(chain.clone()).add(*seq);
                "SELECT hash FROM ledger_audit WHERE chain = ? AND seq = ?"
            }
        };
        let found = rows(db, doing, sql, bind)?;
        let hash =
            found.first().map(|row| codes::hash("audit", chain, row.try_get(0).map_err(store(doing))?));
        hashes.push(hash.transpose()?);
    }
    Ok(hashes)
}
