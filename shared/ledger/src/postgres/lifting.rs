//! What would go on if a pause were lifted, or a ceiling raised; and who they are that would begin at once.
use std::collections::BTreeSet;

use sexton_model::Timestamp;
use sexton_model::belts::budget::{Budgets, Group};
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::job::Stage;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::doing;
use super::{PgLedger, SNAPSHOT, admit, find, pause};
use crate::budget::{Lifting, Member, Stopped};
use crate::{LedgerError, NotDone};

/// What has not begun, without the backlog that is counted first (`$5` are the stages of which it is), and what stands midway.
/// By both partial indexes, as where they are counted.
const MEMBERS: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT id, resource, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT d.kind, d.scope, (s.id % 8)::smallint, s.id, s.resource, r.body::json ->> 'requested_by' \
     FROM (SELECT id, resource, reason, due_at, true AS held FROM jobs WHERE held \
       UNION ALL SELECT id, resource, reason, NULL, false FROM blocked) s \
     JOIN deletions d ON d.id = s.id / 8 JOIN records r ON r.deletion_id = d.id \
     WHERE s.reason::json ->> 'by' = $1 AND coalesce((s.reason::json ->> 'pause')::bigint, 0) = $2 \
       AND s.id % 8 = ANY($3) AND NOT (s.held AND s.due_at <= $4 AND s.id % 8 = ANY($5)) ORDER BY s.id";

/// What a pause stops, at one moment.
pub(super) async fn by_pause(ledger: &PgLedger, pause: i64) -> Result<Vec<Stopped>, LedgerError> {
    let begun = ledger.pool.begin_with(SNAPSHOT).await;
    let mut tx = begun.map_err(doing("looking what a pause stops"))?;
    admit::stopped(&mut tx, ledger, Lifting::Pause(pause)).await
}

/// What would go on if this ceiling were set, at one moment.
pub(super) async fn below(
    ledger: &PgLedger,
    new: &NewCeiling,
) -> Result<Result<Vec<Stopped>, NotDone>, LedgerError> {
    let begun = ledger.pool.begin_with(SNAPSHOT).await;
    let mut tx = begun.map_err(doing("looking what a ceiling stops"))?;
    let now = pause::ceilings(&mut tx).await?;
    if let Err(why) = now.check(new) {
        return Ok(Err(why.into()));
    }
    let then = now.with(new, find::clock(&mut tx).await?);
    // Whoever lowers one waits for no look at what is held.
    if !now.raised(&then, new.scope.as_ref()) {
        return Ok(Ok(Vec::new()));
    }
    Ok(Ok(admit::stopped(&mut tx, ledger, Lifting::Ceilings(&now, &then)).await?))
}

/// All that it has stopped of these stages, and that would begin, or go on, at once. `until`: what has been due since then is a
/// backlog, and counted first.
pub(super) async fn members(
    db: &mut PgConnection,
    lifting: Lifting<'_>,
    stages: &BTreeSet<Stage>,
    (budgets, until): (&Budgets, Timestamp),
) -> Result<Vec<(Group, Member)>, LedgerError> {
    let slot = |stage: &Stage| i64::from(stage.index());
    let slots: Vec<i64> = stages.iter().map(slot).collect();
    let late: Vec<i64> = stages.iter().filter(|stage| budgets.counts_backlog(**stage)).map(slot).collect();
    let (by, pause) = lifting.stored();
    let rows =
        sqlx::query(MEMBERS).bind(by).bind(pause).bind(slots).bind(until.0).bind(late).fetch_all(db).await;
    let one = |row: &PgRow| Ok((admit::group(row, 0)?, admit::member(row, 3)?));
    rows.map_err(doing("reading who is stopped"))?.iter().map(one).collect()
}
