//! What would go on if a pause were lifted, or a ceiling raised; and who they are that would begin at once.
use std::collections::BTreeSet;

use sexton_model::Timestamp;
use sexton_model::belts::budget::Group;
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::job::Stage;

use super::admitting;
use super::connection::{Bind, Db, Row, list, rows};
use super::memory::ceilings;
use super::run::Setting;
use crate::budget::{Lifting, Member, Stopped};
use crate::{LedgerError, NotDone};

/// Only of what is held is the reason JSON. By the partial index.
pub(super) const HELD: &str = "SELECT r.kind, r.scope, j.id % 8, j.id, j.resource, r.body ->> 'requested_by' \
     FROM jobs AS j INDEXED BY jobs_held CROSS JOIN records AS r ON r.deletion_id = j.deletion_id \
     WHERE j.held AND json_extract(j.reason, '$.by') = ?1 AND coalesce(json_extract(j.reason, '$.pause'), 0) = ?2 \
       AND j.id % 8 IN (SELECT n.value FROM json_each(?3) AS n) ORDER BY j.id";

/// What would go on if this ceiling were set.
pub(super) fn below(
    db: &Db,
    setting: &Setting,
    now: Timestamp,
    new: &NewCeiling,
) -> Result<Result<Vec<Stopped>, NotDone>, LedgerError> {
    let before = ceilings(db)?;
    if let Err(why) = before.check(new) {
        return Ok(Err(why.into()));
    }
    let then = before.with(new, now);
    Ok(Ok(admitting::stopped(db, setting, now, Lifting::Ceilings(&before, &then))?))
}

/// All that it holds before these stages.
pub(super) fn held(
    db: &Db,
    lifting: Lifting<'_>,
    stages: &BTreeSet<Stage>,
) -> Result<Vec<(Group, Member)>, LedgerError> {
    let (by, pause) = lifting.stored();
    let mut bind = Bind::default();
    bind.add(by.to_owned()).add(pause).add(list(stages.iter().map(|stage| i64::from(stage.index()))));
    let one = |row: &Row| Ok((admitting::group(row, 0)?, admitting::member(row, 3)?));
    rows(db, "reading who is held", HELD, bind)?.iter().map(one).collect()
}
