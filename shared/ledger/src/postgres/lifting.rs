//! What would go on if a pause were lifted, or a ceiling raised; and who they are that would begin at once.
use std::collections::BTreeSet;

use sexton_model::belts::budget::Group;
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::job::Stage;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::doing;
use super::{PgLedger, SNAPSHOT, admit, find, pause};
use crate::budget::{Lifting, Member, Stopped};
use crate::{LedgerError, NotDone};

/// What has not begun, and what stands midway. By both partial indexes, as where they are counted.
const MEMBERS: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT id, resource, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT d.kind, d.scope, (s.id % 8)::smallint, s.id, s.resource, r.body::json ->> 'requested_by' \
     FROM (SELECT id, resource, reason FROM jobs WHERE held \
       UNION ALL SELECT id, resource, reason FROM blocked) s \
     JOIN deletions d ON d.id = s.id / 8 JOIN records r ON r.deletion_id = d.id \
     WHERE s.reason::json ->> 'by' = $1 AND coalesce((s.reason::json ->> 'pause')::bigint, 0) = $2 \
       AND s.id % 8 = ANY($3) ORDER BY s.id";

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
    Ok(Ok(admit::stopped(&mut tx, ledger, Lifting::Ceilings(&now, &then)).await?))
}

/// All that it has stopped of these stages.
pub(super) async fn members(
    db: &mut PgConnection,
    lifting: Lifting<'_>,
    stages: &BTreeSet<Stage>,
) -> Result<Vec<(Group, Member)>, LedgerError> {
    let slots: Vec<i64> = stages.iter().map(|stage| i64::from(stage.index())).collect();
    let (by, pause) = lifting.stored();
    let rows = sqlx::query(MEMBERS).bind(by).bind(pause).bind(slots).fetch_all(db).await;
    let one = |row: &PgRow| Ok((admit::group(row, 0)?, admit::member(row, 3)?));
    rows.map_err(doing("reading who is stopped"))?.iter().map(one).collect()
}
