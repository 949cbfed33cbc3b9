//! Heartbeats, and the outages between them. Whoever writes either holds the lock on the ledger's row.
use std::sync::Arc;

use sexton_model::Timestamp;
use sexton_model::belts::healthy::{Healthy, Outage};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{all_there, doing};
use super::{PgLedger, find, review};
use crate::LedgerError;

const LOCKED: &str = "SELECT epoch, beat_at, outages_change FROM ledger FOR UPDATE";
const KNOWN: &str = "SELECT epoch, beat_at, outages_change FROM ledger";
const OUTAGES: &str = "SELECT began, ended FROM outages ORDER BY began";
const BEAT: &str = "UPDATE ledger SET beat_at = $1, outages_change = $2";
const FORGET: &str = "DELETE FROM outages";
const KEEP: &str = "INSERT INTO outages (began, ended) SELECT * FROM unnest($1::bigint[], $2::bigint[])";

/// Which outages are meant: a number of changes, in an epoch. Another line of time has numbers of its own.
pub(super) type Change = (u32, i64);

/// A heartbeat, at the store's clock.
pub(super) async fn beat(db: &mut PgConnection, ledger: &PgLedger) -> Result<(), LedgerError> {
    let part = || doing("noting a heartbeat");
    let (mut healthy, (_, mut change)) = standing(db, ledger, LOCKED).await?;
    // After the lock: no heartbeat that was noted before is later.
    let now = find::clock(db).await?;
    if healthy.beat(now) {
        change += 1;
        sqlx::query(FORGET).execute(&mut *db).await.map_err(part())?;
        let (began, ended): (Vec<i64>, Vec<i64>) =
            healthy.outages.iter().map(|outage| (outage.began.0, outage.ended.0)).unzip();
        sqlx::query(KEEP).bind(began).bind(ended).execute(&mut *db).await.map_err(part())?;
        if let Some(outage) = healthy.last() {
            tracing::warn!(began = %outage.began, ended = %outage.ended, "nobody could have cancelled: it is no part of a grace");
        }
    }
    let done = sqlx::query(BEAT).bind(now.0).bind(change).execute(db).await.map_err(part())?;
    all_there("ledger", done.rows_affected(), 1)
}

/// When people could have cancelled.
pub(super) async fn known(db: &mut PgConnection, ledger: &PgLedger) -> Result<Healthy, LedgerError> {
    standing(db, ledger, KNOWN).await.map(|(healthy, _)| healthy)
}

async fn standing(
    db: &mut PgConnection,
    ledger: &PgLedger,
    sql: &'static str,
) -> Result<(Healthy, Change), LedgerError> {
    let part = || doing("reading heartbeats");
    let row = sqlx::query(sql).fetch_one(&mut *db).await.map_err(part())?;
    let change = (review::epoch(&row, 0)?, row.try_get(2).map_err(part())?);
    let beat = Timestamp(row.try_get(1).map_err(part())?);
    Ok((of(db, ledger, beat, change).await?, change))
}

/// With this heartbeat, and the outages as they are after that change, or later.
pub(super) async fn of(
    db: &mut PgConnection,
    ledger: &PgLedger,
    beat: Timestamp,
    change: Change,
) -> Result<Healthy, LedgerError> {
    let outages = match ledger.memory.outages(change) {
        Some(outages) => outages,
        None => ledger.memory.keep_outages(change, read(db).await?),
    };
    let options = &ledger.options;
    Ok(Healthy { beat, tolerance_ms: options.limits.silent_ms(options.day), outages })
}

async fn read(db: &mut PgConnection) -> Result<Arc<Vec<Outage>>, LedgerError> {
    let part = || doing("reading outages");
    let rows = sqlx::query(OUTAGES).fetch_all(db).await.map_err(part())?;
    let outage = |row: &sqlx::postgres::PgRow| {
        let (began, ended) = (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?);
        Ok(Outage { began: Timestamp(began), ended: Timestamp(ended) })
    };
    rows.iter().map(outage).collect::<Result<_, LedgerError>>().map(Arc::new)
}
