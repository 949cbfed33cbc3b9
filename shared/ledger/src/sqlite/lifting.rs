//! What would go on if a pause were lifted, or a ceiling raised; and who they are that would begin at once.
use std::collections::BTreeSet;

use sexton_model::Timestamp;
use sexton_model::belts::budget::{Budgets, Group};
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::job::Stage;

use super::admitting;
use super::connection::{Bind, Db, Row, list, rows};
use super::memory::ceilings;
use super::run::Setting;
use crate::budget::{Lifting, Member, Stopped};
use crate::{LedgerError, NotDone};

/// What has not begun, without the backlog that is counted first (`?5` are the stages of which it is), and what stands midway.
/// Only of these is the reason JSON. By the partial indexes.
pub(super) const MEMBERS: &str = "SELECT r.kind, r.scope, s.id % 8, s.id, s.resource, r.body ->> 'requested_by' FROM ( \
       SELECT id, resource, reason, due_at, 1 AS held FROM jobs INDEXED BY jobs_held WHERE held \
       UNION ALL \
       SELECT id, resource, reason, 0, 0 FROM jobs INDEXED BY the_lock WHERE locks AND state = 2 AND queued = 0) AS s \
     CROSS JOIN records AS r ON r.deletion_id = s.id / 8 \
     WHERE json_extract(s.reason, '$.by') = ?1 AND coalesce(json_extract(s.reason, '$.pause'), 0) = ?2 \
       AND s.id % 8 IN (SELECT n.value FROM json_each(?3) AS n) \
       AND NOT (s.held AND s.due_at <= ?4 AND s.id % 8 IN (SELECT n.value FROM json_each(?5) AS n)) ORDER BY s.id";

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
    // Whoever lowers one waits for no look at what is held.
    if !before.raised(&then, new.scope.as_ref()) {
        return Ok(Ok(Vec::new()));
    }
    Ok(Ok(admitting::stopped(db, setting, now, Lifting::Ceilings(&before, &then))?))
}

/// All that it has stopped of these stages, and that would begin, or go on, at once. `until`: what has been due since then is a
/// backlog, and counted first.
pub(super) fn members(
    db: &Db,
    lifting: Lifting<'_>,
    stages: &BTreeSet<Stage>,
    (budgets, until): (&Budgets, Timestamp),
) -> Result<Vec<(Group, Member)>, LedgerError> {
    let (by, pause) = lifting.stored();
    let mut bind = Bind::default();
    let slot = |stage: &Stage| i64::from(stage.index());
    let late = stages.iter().filter(|stage| budgets.counts_backlog(**stage));
    bind.add(by.to_owned())
        .add(pause)
        .add(list(stages.iter().map(slot)))
        .add(until.0)
        .add(list(late.map(slot)));
    let one = |row: &Row| Ok((admitting::group(row, 0)?, admitting::member(row, 3)?));
    rows(db, "reading who is stopped", MEMBERS, bind)?.iter().map(one).collect()
}
