//! Holds on resources. What is remembered of a deletion of a resource is forgotten when they change.
use std::collections::HashMap;

use serde_json::json;
use sexton_model::audit;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::deletion::Hold;
use sexton_model::{Actor, DeletionId, ResourceId};

use super::connection::{Bind, Db, Row, change_one, list, rows, store};
use super::inventory::{self, Standing};
use super::memory::{Memory, Staged};
use super::{codes, pausing};
use crate::rules::{self, LedgerEvent};
use crate::{LedgerError, NotDone, known};

const DOING: &str = "keeping holds of resources";

/// The holds of these resources.
pub(super) fn of_resources(db: &Db, resources: &[String]) -> Result<HashMap<String, Vec<Hold>>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(rules::text(&resources)?);
    let sql = "SELECT h.resource, h.body FROM json_each(?) AS n CROSS JOIN resource_holds AS h \
               ON h.resource = n.value ORDER BY h.resource, h.id";
    let mut holds: HashMap<String, Vec<Hold>> = HashMap::new();
    for row in rows(db, DOING, sql, bind)? {
        let resource: String = row.try_get(0).map_err(store(DOING))?;
        let hold = codes::body("resource_holds", &resource, row.try_get(1).map_err(store(DOING))?)?;
        holds.entry(resource).or_default().push(hold);
    }
    Ok(holds)
}

fn there(db: &Db, resource: &ResourceId) -> Result<Option<Standing>, LedgerError> {
    Ok(inventory::standing(db, std::iter::once(resource))?.into_values().next())
}

/// Hold a resource. The writer does one transaction after the other, so nothing that dispatches overlaps it.
pub(super) fn place(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    new: &NewHold,
) -> Result<Result<Hold, NotDone>, LedgerError> {
    let Some(standing) = there(db, &new.resource)? else {
        return Ok(Err(NotDone::NotRegistered(new.resource.clone())));
    };
    let hold = match new.place(standing.seq, standing.holds.len(), staged.now) {
        Ok(hold) => hold,
        Err(why) => return Ok(Err(why.into())),
    };
    let mut bind = Bind::default();
    bind.add(new.resource.to_string()).add(hold.id).add(rules::text(&hold)?);
    let sql = "INSERT INTO resource_holds (resource, id, body) VALUES (?, ?, ?)";
    change_one(db, (DOING, "resource_holds"), sql, bind)?;
    link(db, &standing, &pausing::event(staged, "hold_placed", &new.by, &hold)?)?;
    forget(memory, staged, &standing);
    Ok(Ok(hold))
}

/// Holds that were released, and the resource's live record.
pub(super) type Released = Result<(Vec<Hold>, Option<DeletionId>), NotDone>;

/// Who asked for these deletions.
fn requesters(db: &Db, deletions: &[DeletionId]) -> Result<HashMap<DeletionId, Actor>, LedgerError> {
    if deletions.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT r.deletion_id, r.body ->> 'requested_by' FROM json_each(?) AS n \
               CROSS JOIN records AS r ON r.deletion_id = n.value";
    let mut bind = Bind::default();
    bind.add(list(deletions.iter().map(|deletion| deletion.0)));
    let one = |row: &Row| {
        let id = DeletionId(row.try_get(0).map_err(store(DOING))?);
        let by: &str = row.try_get(1).map_err(store(DOING))?;
        Ok((id, by.parse().map_err(|_| codes::corrupt("records", id, "not an actor"))?))
    };
    rows(db, DOING, sql, bind)?.iter().map(one).collect()
}

/// Release holds of a resource.
pub(super) fn release(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (resource, which, by): (&ResourceId, &Which, &Actor),
) -> Result<Released, LedgerError> {
    let Some(mut standing) = there(db, resource)? else { return Ok(Ok((Vec::new(), None))) };
    let mut released = std::mem::take(&mut standing.holds);
    released.retain(|hold| which.covers(hold));
    if released.is_empty() {
        return Ok(Ok((released, None)));
    }
    let requested_by = requesters(db, standing.live.as_slice())?.into_values().next();
    if let Err(why) = rules::releasing(&released, requested_by.as_ref(), by) {
        return Ok(Err(why));
    }
    for hold in &released {
        let mut bind = Bind::default();
        bind.add(resource.to_string()).add(hold.id);
        let sql = "DELETE FROM resource_holds WHERE resource = ? AND id = ?";
        change_one(db, (DOING, "resource_holds"), sql, bind)?;
    }
    let body = json!({ "holds": known::value(&released)? });
    link(db, &standing, &pausing::event(staged, "hold_released", by, &body)?)?;
    forget(memory, staged, &standing);
    Ok(Ok((released, standing.live)))
}

/// Its live record is read anew when it is next decided on.
fn forget(memory: &mut Memory, staged: &mut Staged, standing: &Standing) {
    if let Some(live) = standing.live {
        staged.deletions.remove(&live);
        memory.deletions.take(&live);
    }
}

/// One more event of a resource's chain.
fn link(db: &Db, standing: &Standing, event: &LedgerEvent) -> Result<(), LedgerError> {
    let (resource, seq, text) = (standing.resource.id.to_string(), standing.seq + 1, rules::text(event)?);
    let head = audit::link(&standing.head, seq, text.as_bytes());
    inventory::append(db, vec![(resource.clone(), seq, text, head)])?;
    let mut bind = Bind::default();
    bind.add(seq).add(head.to_vec()).add(resource);
    let sql = "UPDATE resources SET audit_seq = ?, audit_head = ? WHERE id = ?";
    change_one(db, (DOING, "resources"), sql, bind)
}
