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

/// Only of what is held is the reason JSON. By the partial index.
const HELD: &str = "SELECT d.kind, d.scope, (j.id % 8)::smallint, j.id, j.resource, r.body::json ->> 'requested_by' \
     FROM jobs j JOIN deletions d ON d.id = j.deletion_id JOIN records r ON r.deletion_id = j.deletion_id \
     WHERE j.held AND j.id % 8 = ANY($3) \
       AND j.reason::json ->> 'by' = $1 AND coalesce((j.reason::json ->> 'pause')::bigint, 0) = $2 \
     ORDER BY j.id";

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

/// All that it holds before these stages.
pub(super) async fn held(
    db: &mut PgConnection,
    lifting: Lifting<'_>,
    stages: &BTreeSet<Stage>,
) -> Result<Vec<(Group, Member)>, LedgerError> {
    let slots: Vec<i64> = stages.iter().map(|stage| i64::from(stage.index())).collect();
    let (by, pause) = lifting.stored();
    let rows = sqlx::query(HELD).bind(by).bind(pause).bind(slots).fetch_all(db).await;
    let one = |row: &PgRow| Ok((admit::group(row, 0)?, admit::member(row, 3)?));
    rows.map_err(doing("reading who is held"))?.iter().map(one).collect()
}
