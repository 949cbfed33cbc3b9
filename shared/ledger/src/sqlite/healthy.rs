//! Heartbeats, and the outages between them.
use std::sync::Arc;

use rusqlite::params;
use sexton_model::Timestamp;
use sexton_model::belts::healthy::{Healthy, Outage};

use super::connection::{Bind, Db, change_one, each, execute, row, rows, store};
use super::load::moment;
use super::memory::{Memory, Staged};
use super::run::Setting;
use crate::LedgerError;

const DOING: &str = "reading heartbeats";

/// When people could have cancelled, as the table has it.
pub(super) fn read(db: &Db, setting: &Setting) -> Result<Healthy, LedgerError> {
    let beat = moment(&row(db, DOING, "SELECT beat_at FROM ledger", Bind::default())?, 0)?;
    let mut outages = Vec::new();
    for row in rows(db, DOING, "SELECT began, ended FROM outages ORDER BY began", Bind::default())? {
        let (began, ended) = (row.try_get(0).map_err(store(DOING))?, row.try_get(1).map_err(store(DOING))?);
        outages.push(Outage { began: Timestamp(began), ended: Timestamp(ended) });
    }
    Ok(Healthy { beat, tolerance_ms: setting.limits.silent_ms(setting.day), outages: Arc::new(outages) })
}

/// As it is remembered, or read.
pub(super) fn known(db: &Db, memory: &mut Memory, setting: &Setting) -> Result<Healthy, LedgerError> {
    match &memory.healthy {
        Some(healthy) => Ok(healthy.clone()),
        None => Ok(memory.healthy.insert(read(db, setting)?).clone()),
    }
}

/// A heartbeat, at the moment of the transaction.
pub(super) fn beat(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    setting: &Setting,
) -> Result<(), LedgerError> {
    let doing = "noting a heartbeat";
    let mut healthy = known(db, memory, setting)?;
    if healthy.beat(staged.now) {
        execute(db, doing, "DELETE FROM outages", Bind::default())?;
        let sql = "INSERT INTO outages (began, ended) VALUES (?, ?)";
        each(db, doing, sql, healthy.outages.iter(), |statement, outage| {
            statement.execute(params![outage.began.0, outage.ended.0])
        })?;
        if let Some(outage) = healthy.last() {
            tracing::warn!(began = %outage.began, ended = %outage.ended, "nobody could have cancelled: it is no part of a grace");
        }
    }
    let mut bind = Bind::default();
    bind.add(staged.now.0);
    change_one(db, (doing, "ledger"), "UPDATE ledger SET beat_at = ?", bind)?;
    // If this is not committed, it is forgotten with everything else.
    memory.healthy = Some(healthy);
    Ok(())
}
